//! Copying an unpacked image for one container, where layers cannot be stacked.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use crate::shim::job::IdRange;

/// Copies all in the folder `from` to the new folder `to`, owners shifted into `range` where there is one.
///
/// `from` is the store's: checked when it was unpacked, and changed by nobody.
pub(super) fn copy_tree(from: &Path, to: &Path, range: Option<IdRange>) -> io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()), range)?;
        }
    } else if kind.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
    } else if kind.is_fifo() {
        let mode = rustix::fs::Mode::from_raw_mode(metadata.mode() & 0o777);
        rustix::fs::mknodat(rustix::fs::CWD, to, rustix::fs::FileType::Fifo, mode, 0)?;
    } else {
        fs::copy(from, to)?;
    }
    if let Some(range) = range {
        let shift = |id: u32| Some(range.base + id);
        lchown(to, shift(metadata.uid()), shift(metadata.gid()))?;
    }
    if !kind.is_symlink() {
        // After the owner: a change of owner takes away set-user-id bits.
        fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    Ok(())
}
