//! Small things that the agent's side and the shim both do with files and clocks.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Blame;
use crate::status::Status;

/// Returns the wall clock, milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a container that was stopped before it ever started comes to.
pub(crate) fn stopped_before_start() -> Status {
    Status::Failed {
        blame: Blame::Tenant,
        reason: "it was stopped before it started".to_owned(),
    }
}

/// Whether a write must survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    Yes,
    No,
}

/// Replaces `dir/name` with `value` in one step: a reader sees the old, the new, or nothing, never a half.
pub(crate) fn put_json<T: Serialize>(
    dir: &Path,
    name: &str,
    value: &T,
    durable: Durable,
) -> io::Result<()> {
    let temporary = dir.join(format!(".{name}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&temporary, dir.join(name))?;
    if durable == Durable::Yes {
        // Once, after the name: journalling file systems put a file's new name on disk with its contents. What
        // a power cut in between can leave is an empty file, which counts as none.
        file.sync_all()?;
    }
    Ok(())
}

/// Reads `dir/name`; `None` where it is not there or empty.
pub(crate) fn get_json<T: DeserializeOwned>(dir: &Path, name: &str) -> io::Result<Option<T>> {
    match std::fs::read(dir.join(name)) {
        Ok(bytes) if bytes.is_empty() => Ok(None),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes `path` and all in it; does nothing where it is gone. Links are not followed.
///
/// Without root, a folder that its owner locked is unlocked first.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !metadata.is_dir() {
        return fs::remove_file(path);
    }
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            unlock_tree(path)?;
            fs::remove_dir_all(path)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn unlock_tree(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            unlock_tree(&entry.path())?;
        }
    }
    Ok(())
}
