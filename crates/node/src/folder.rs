//! The data folder: one process at a time, one network for good, one format version.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use market::Genesis;
use nix::fcntl::{Flock, FlockArg};

use crate::members::{self, Members, MembersError};

/// Version of the folder's layout and of everything in it.
pub const FORMAT_VERSION: u32 = 1;
/// Longest version or genesis file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Reading or writing failed.
    #[error("could not access {path}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process uses the folder.
    #[error("another node uses the data folder {path}")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A newer build wrote the folder.
    #[error(
        "the data folder {path} has format {found}; this build knows up to {FORMAT_VERSION}: use a newer build"
    )]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A file in the folder is not what it should be.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The folder belongs to another network.
    #[error("the data folder {path} belongs to another network or another genesis")]
    OtherGenesis {
        /// The folder.
        path: PathBuf,
    },
    /// The file of validators is not one.
    #[error("{path} is no file of validators: {why}")]
    Members {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        why: MembersError,
    },
    /// There is no genesis in the folder and none was given.
    #[error("the data folder {path} is new: a genesis is needed")]
    NoGenesis {
        /// The folder.
        path: PathBuf,
    },
}

/// An open data folder; the lock goes with it.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    pub(crate) genesis: Genesis,
    _lock: Flock<fs::File>,
}

impl Folder {
    /// Opens or makes the folder, locks it, and checks its version and its genesis.
    ///
    /// `genesis` is needed for a new folder, and compared in an old one.
    pub(crate) fn open(path: &Path, genesis: Option<&Genesis>) -> Result<Self, FolderError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|source| io_error(path, source))?;
        let lock = lock(path)?;
        check_version(path)?;
        let genesis = settle_genesis(path, genesis)?;
        Ok(Self {
            path: path.to_owned(),
            genesis,
            _lock: lock,
        })
    }

    /// Returns where the validator's keys are.
    pub(crate) fn keys(&self) -> PathBuf {
        self.path.join("validator.key")
    }

    /// Returns the validators, if there are several.
    pub(crate) fn members(&self) -> Result<Option<Members>, FolderError> {
        members::read(&self.path.join("network"))
    }

    /// Writes who the validators are.
    pub(crate) fn write_members(&self, members: &Members) -> Result<(), FolderError> {
        write(&self.path.join("network"), members.to_text().as_bytes())
    }

    /// Returns where the engine keeps its files.
    pub(crate) fn engine(&self) -> PathBuf {
        self.path.join("engine")
    }

    /// Returns where the queryable history is.
    pub(crate) fn history(&self) -> PathBuf {
        self.path.join("history.sqlite")
    }
}

fn lock(folder: &Path) -> Result<Flock<fs::File>, FolderError> {
    let path = folder.join("lock");
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|source| io_error(&path, source))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| FolderError::InUse {
        path: folder.to_owned(),
    })
}

fn check_version(folder: &Path) -> Result<(), FolderError> {
    let path = folder.join("format");
    let Some(bytes) = read(&path)? else {
        return write(&path, format!("{FORMAT_VERSION}\n").as_bytes());
    };
    let found: u32 = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| FolderError::Damaged { path: path.clone() })?;
    match found {
        FORMAT_VERSION => Ok(()),
        0 => Err(FolderError::Damaged { path }),
        _ => Err(FolderError::Newer {
            path: folder.to_owned(),
            found,
        }),
    }
}

fn settle_genesis(folder: &Path, given: Option<&Genesis>) -> Result<Genesis, FolderError> {
    let path = folder.join("genesis");
    match (read(&path)?, given) {
        (None, None) => Err(FolderError::NoGenesis {
            path: folder.to_owned(),
        }),
        (None, Some(given)) => {
            write(&path, &market::codec::encode(given))?;
            Ok(given.clone())
        }
        (Some(bytes), given) => {
            let kept: Genesis =
                borsh::from_slice(&bytes).map_err(|_| FolderError::Damaged { path })?;
            if given.is_some_and(|given| *given != kept) {
                return Err(FolderError::OtherGenesis {
                    path: folder.to_owned(),
                });
            }
            Ok(kept)
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(path, source)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|source| io_error(path, source))?;
    Ok(Some(bytes))
}

/// Writes a small file whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let beside = path.with_extension("new");
    let attempt = || {
        let mut file = fs::File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent()
            .map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    attempt().map_err(|source| io_error(path, source))
}

fn io_error(path: &Path, source: std::io::Error) -> FolderError {
    FolderError::Io {
        path: path.to_owned(),
        source,
    }
}
