//! Files that only their owner can read, written whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::error::{Result, io_failure};

/// Makes a folder, with its parents, that only its owner can enter.
pub(crate) fn create_private_folder(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(io_failure("create", path))
}

/// Writes a file that only its owner can read; whoever looks sees the old content or the new one, whole.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let draft = path.with_extension(format!("draft-{}", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    let placed = written.and_then(|()| fs::rename(&draft, path));
    if placed.is_err() {
        // The draft may not even exist; the error that matters is the first one.
        let _removed = fs::remove_file(&draft);
    }
    placed.map_err(io_failure("write", path))
}
