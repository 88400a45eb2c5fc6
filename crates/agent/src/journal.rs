//! The agent's folder: its keys, and the little that must survive a restart.
//!
//! ```text
//! <folder>/lock              held while an agent runs: one agent per folder
//! <folder>/keys/sign|endpoint|seal   32 bytes each, in hexadecimal, readable by the owner only
//! <folder>/state             version, SHA-256, borsh of `State`; replaced in one step
//! <folder>/logs/<lease>/     output of ended leases, see `logs`
//! ```
//!
//! Secrets of jobs are never written here.

mod v1;

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use api::envelope::SealSecret;
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::SigningKey;
use market::{Digest, Height, LeaseId, MachineId, MachineKeys, NetworkName, PublicKey};

use crate::{
    beats::Chain,
    core::{Kept, Wanted},
};

/// Version of the folder's form. A newer one is refused, an older one read and written anew.
const STATE_VERSION: u8 = 2;
/// Largest state: a few hundred leases and an hour of beats are far below.
const STATE_BYTES_MAX: u64 = 16 << 20;

/// What must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct State {
    /// Which network and machine this is, once it is registered.
    pub identity: Option<Identity>,
    /// The beats that wait.
    pub chain: Chain,
    /// What is remembered of each lease.
    pub kept: BTreeMap<LeaseId, Kept>,
    /// The last verified word of the ledger on each lease.
    pub wanted: BTreeMap<LeaseId, Wanted>,
    /// The greatest height that the ledger answered with.
    pub height: Height,
}

/// Which machine this is.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Identity {
    /// The network.
    pub network: NetworkName,
    /// The machine's id there.
    pub machine: MachineId,
}

/// A machine's three secret keys.
pub struct Keys {
    /// Signs beats and reports.
    pub sign: SigningKey,
    /// The data plane's address.
    pub endpoint: SigningKey,
    /// Receives job keys.
    pub seal: SealSecret,
}

impl Keys {
    /// Returns the public halves.
    pub fn public(&self) -> MachineKeys {
        MachineKeys {
            sign: PublicKey::of(&self.sign),
            endpoint: PublicKey::of(&self.endpoint),
            seal: self.seal.public(),
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A file could not be read or written.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Another agent uses the folder.
    #[error("another agent runs in {}", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The state was written by a newer version of this program.
    #[error("{} has version {version}; this program knows {STATE_VERSION}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
    },
    /// The content is damaged.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// The folder belongs to a machine of another network.
    #[error("{} belongs to network {found}, not {wanted}", path.display())]
    OtherNetwork {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: NetworkName,
        /// What was asked for.
        wanted: NetworkName,
    },
}

/// An agent's folder, locked.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    /// What is, or is about to be, on disk: change it and call [`Journal::save`].
    pub state: State,
    keys: Keys,
    /// Held until the journal is dropped.
    _lock: File,
}

impl Journal {
    /// Opens the folder, and makes it and its keys where there are none.
    ///
    /// # Errors
    /// [`JournalError`]; a damaged or newer state is never overwritten.
    pub fn open(folder: &Path) -> Result<Self, JournalError> {
        let key_folder = folder.join("keys");
        make_private(&key_folder)?;
        let lock = lock(folder)?;
        let seed = |name| secret(&key_folder.join(name));
        let keys = Keys {
            sign: SigningKey::from_bytes(&seed("sign")?),
            endpoint: SigningKey::from_bytes(&seed("endpoint")?),
            seal: SealSecret::from_bytes(seed("seal")?),
        };
        let state = read_state(&folder.join("state"))?;
        Ok(Self {
            folder: folder.to_owned(),
            state,
            keys,
            _lock: lock,
        })
    }

    /// Returns the machine's keys.
    pub const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Returns where the output of ended leases is kept.
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Returns which machine this is on `network`; `None` before it is registered.
    ///
    /// # Errors
    /// [`JournalError::OtherNetwork`].
    pub fn machine_on(&self, network: &NetworkName) -> Result<Option<MachineId>, JournalError> {
        match &self.state.identity {
            Some(identity) if identity.network != *network => Err(JournalError::OtherNetwork {
                path: self.folder.clone(),
                found: identity.network.clone(),
                wanted: network.clone(),
            }),
            identity => Ok(identity.as_ref().map(|i| i.machine)),
        }
    }

    /// Writes the state so that it survives a power cut; a reader sees the old or the new one.
    ///
    /// # Errors
    /// [`JournalError::Io`]; what was on disk is then still there.
    pub fn save(&self) -> Result<(), JournalError> {
        let body = market::codec::encode(&self.state);
        let mut bytes = vec![STATE_VERSION];
        bytes.extend(Digest::of(&[&body]).0);
        bytes.extend(body);
        replace(&self.folder, "state", &bytes)
    }
}

fn make_private(folder: &Path) -> Result<(), JournalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io_error("make", folder))
}

fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse {
            path: folder.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", &path)(source)),
    }
}

/// Reads a secret, or draws one and writes it down before it is used.
fn secret(path: &Path) -> Result<[u8; 32], JournalError> {
    let damaged = |what| JournalError::Damaged {
        path: path.to_owned(),
        what,
    };
    match fs::read_to_string(path) {
        Ok(text) => {
            let mut seed = [0; 32];
            hex::decode_to_slice(text.trim(), &mut seed)
                .map_err(|_| damaged("want 64 hexadecimal digits"))?;
            Ok(seed)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A seal secret is any 32 bytes, as an Ed25519 seed is; one source of randomness serves all three.
            let seed = *SealSecret::generate(&mut api::envelope::system_rng()).expose();
            let folder = path.parent().ok_or_else(|| damaged("it has no folder"))?;
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .unwrap_or_default();
            replace(folder, name, format!("{}\n", hex::encode(seed)).as_bytes())?;
            Ok(seed)
        }
        Err(e) => Err(io_error("read", path)(e)),
    }
}

fn read_state(path: &Path) -> Result<State, JournalError> {
    let damaged = |what| JournalError::Damaged {
        path: path.to_owned(),
        what,
    };
    let bytes = match fs::metadata(path) {
        Ok(meta) if meta.len() > STATE_BYTES_MAX => return Err(damaged("it is too long")),
        Ok(_) => fs::read(path).map_err(io_error("read", path))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
        Err(e) => return Err(io_error("read", path)(e)),
    };
    let (version, rest) = bytes.split_first().ok_or_else(|| damaged("it is empty"))?;
    if *version > STATE_VERSION {
        return Err(JournalError::Newer {
            path: path.to_owned(),
            version: *version,
        });
    }
    let (sum, body) = rest
        .split_first_chunk::<32>()
        .ok_or_else(|| damaged("it is cut short"))?;
    if Digest::of(&[body]).0 != *sum {
        return Err(damaged("its checksum does not fit"));
    }
    let read = match *version {
        1 => borsh::from_slice::<v1::StateV1>(body).map(State::from),
        STATE_VERSION => borsh::from_slice(body),
        _ => return Err(damaged("there never was such a version")),
    };
    read.map_err(|_| damaged("it cannot be read"))
}

/// Replaces `folder/name` in one step that survives a power cut; only the owner can read it.
fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), JournalError> {
    let (temporary, path) = (folder.join(format!(".{name}.new")), folder.join(name));
    let written = || {
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    written().map_err(io_error("write", &path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use market::Timestamp;

    use super::*;

    #[test]
    fn state_and_keys_survive_and_one_agent_holds_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let lease = LeaseId::from_bytes([5; 16]);
        let kept = Kept {
            started: Some(Timestamp::from_unix_millis(7)),
            ..Kept::default()
        };
        journal.state.kept.insert(lease, kept);
        journal.save().unwrap();
        let keys = journal.keys().public();
        assert!(matches!(
            Journal::open(dir.path()),
            Err(JournalError::InUse { .. })
        ));
        let state = journal.state.clone();
        drop(journal);

        let again = Journal::open(dir.path()).unwrap();
        assert_eq!(again.state, state);
        assert_eq!(again.keys().public(), keys);
        assert_ne!(keys.sign, keys.endpoint);
        for file in ["state", "keys/sign", "keys/endpoint", "keys/seal"] {
            let mode = fs::metadata(dir.path().join(file))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn damage_and_newer_versions_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path()).unwrap().save().unwrap();
        let path = dir.path().join("state");
        let good = fs::read(&path).unwrap();
        let mut newer = good.clone();
        newer[0] = 9;
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (bytes, newer) in [
            (newer, true),
            (flipped, false),
            (good[..20].to_vec(), false),
            (vec![], false),
        ] {
            fs::write(&path, &bytes).unwrap();
            match Journal::open(dir.path()) {
                Err(JournalError::Newer { version: 9, .. }) => assert!(newer),
                Err(JournalError::Damaged { .. }) => assert!(!newer),
                other => panic!("{other:?}"),
            }
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn state_of_version_1_is_read_and_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        drop(Journal::open(dir.path()).unwrap());
        let lease = LeaseId::from_bytes([5; 16]);
        let kept = v1::KeptV1 {
            started: Some(Timestamp::from_unix_millis(7)),
            stop: None,
            ended: None,
            ready_settled: true,
            ended_settled: false,
        };
        let wanted = v1::WantedV1 {
            phase: v1::PhaseV1::Paused,
            duration_max: market::Millis::from_secs(9),
            affords: market::Millis::from_secs(8),
            notice: market::Millis::from_secs(7),
        };
        let old = v1::StateV1 {
            identity: None,
            chain: Chain::default(),
            kept: [(lease, kept)].into(),
            wanted: [(lease, wanted)].into(),
            height: Height::from_number(3),
        };
        let body = market::codec::encode(&old);
        let mut bytes = vec![1];
        bytes.extend(Digest::of(&[&body]).0);
        bytes.extend(body);
        fs::write(dir.path().join("state"), bytes).unwrap();

        let journal = Journal::open(dir.path()).unwrap();
        let state = journal.state.clone();
        assert!(state.kept[&lease].ready_settled && !state.kept[&lease].resting);
        let left = market::Millis::ZERO;
        assert_eq!(
            state.wanted[&lease].phase,
            crate::core::Phase::Paused { left }
        );
        journal.save().unwrap();
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().state, state);
    }

    #[test]
    fn a_write_cut_short_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        Journal::open(dir.path()).unwrap().save().unwrap();
        fs::write(dir.path().join(".state.new"), b"half").unwrap();
        assert_eq!(Journal::open(dir.path()).unwrap().state, State::default());
    }
}
