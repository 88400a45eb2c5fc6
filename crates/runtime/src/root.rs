//! A runtime's folder: `containers/<id>/`, and `tmp/` and `trash/` for what is being made and removed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{Error, Result, io as io_error};
use crate::files;
use crate::id::ContainerId;
use crate::image::Digest;
use crate::logs::{self, LogChunk, LogStream};
use crate::shim::job::LOGS;

/// A runtime's folder, which no other runtime uses while this one lives.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    _lock: fs::File,
}

impl Root {
    /// Makes what is missing of the folder at `path`, and keeps others out.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Closed to all others: what lies here are tenants' files and programs.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let path = path.canonicalize()?;
        let lock = lock(&path)?;
        for name in ["containers", "tmp", "trash"] {
            fs::create_dir_all(path.join(name))?;
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what a killed agent was in the middle of making or removing.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        for name in ["tmp", "trash"] {
            for entry in fs::read_dir(self.join(name))? {
                files::remove_tree(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Returns a short name that no other folder of the machine has.
    pub(crate) fn short_name(&self) -> String {
        let mut name = Digest::of(self.path.as_os_str().as_encoded_bytes()).hex();
        name.truncate(12);
        name
    }

    /// Returns the containers that have a folder, in order.
    pub(crate) fn containers(&self) -> Result<Vec<ContainerId>> {
        let dir = self.join("containers");
        let failed = || io_error("list", &dir);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed())? {
            let name = entry.map_err(failed())?.file_name();
            found.extend(name.to_str().and_then(|name| ContainerId::new(name).ok()));
        }
        found.sort();
        Ok(found)
    }

    /// Returns the folder of a container, which need not exist.
    pub(crate) fn container(&self, id: &ContainerId) -> PathBuf {
        self.join("containers").join(id.as_str())
    }

    /// Reads what a container wrote; see [`crate::Runtime::logs`].
    pub(crate) async fn logs(
        &self,
        id: &ContainerId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk> {
        let folder = self.container(id);
        let dir = folder.join(LOGS);
        let read = tokio::task::spawn_blocking(move || logs::read(&dir, stream, offset, max))
            .await
            .expect("reading a log does not panic");
        match read {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound { id: id.clone() })
            }
            other => other.map_err(io_error("read the logs in", &folder)),
        }
    }
}

/// Returns the images that the containers in the folder `dir` were made from, by the record `name` of each.
pub(crate) fn images_of<R: DeserializeOwned>(
    dir: &Path,
    name: &str,
    image: impl Fn(R) -> Digest,
) -> io::Result<BTreeSet<Digest>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        match files::get_json::<R>(&entry?.path(), name) {
            Ok(record) => found.extend(record.map(&image)),
            // Removed since.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Keeps a second runtime out of the folder for as long as the file is open. Shims do not inherit it.
fn lock(root: &Path) -> io::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(root.join("lock"))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| io::Error::new(io::Error::from(e).kind(), "another runtime uses it"))?;
    Ok(file)
}
