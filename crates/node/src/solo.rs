//! A validator's keys, readable by their owner only: dealt to it, or, in a network of one, made at the first start.
//!
//! The 1-of-1 group key is for that network alone. When more validators join, they make a key of their own; this one is
//! never split, because its owner knows all of it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use bytes::Buf as _;
use commonware_codec::{Copying, Encode as _, Error as CodecError, Read as _, ReadExt as _};
use commonware_cryptography::{
    Signer as _,
    bls12381::{
        dkg::feldman_desmedt::deal,
        primitives::{
            group::Share,
            sharing::{Mode, ModeVersion, Sharing},
            variant::MinSig,
        },
    },
    ed25519,
};
use commonware_math::algebra::Random as _;
use commonware_utils::{N3f1, NZU32, TryCollect as _, ordered::Set};
use light::{Scheme, Validator};
use sha2::{Digest as _, Sha256};

/// First bytes of the key file, with its version.
const MAGIC: &[u8; 16] = b"tradewind-key/1\n";
/// Bytes of the checksum at its end.
const CHECK_BYTES: usize = 8;
/// Longest key file: many times what one holds.
const FILE_BYTES_MAX: u64 = 4_096;
/// Most shares of a group key that is read.
const SHARES_MAX: u32 = 32;
/// Read and write for the owner, nothing for others.
const OWNER_ONLY: u32 = 0o600;

/// Why the validator's keys could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Reading or writing failed.
    #[error("could not access the key file {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not whole.
    #[error("the key file {path} is damaged; restore it from a backup")]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Others may read the file.
    #[error("the key file {path} may be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// The secrets of a validator.
pub(crate) struct Keys {
    identity: ed25519::PrivateKey,
    group: Sharing<MinSig>,
    share: Share,
}

impl Keys {
    /// Puts a dealt validator's secrets together.
    pub(crate) const fn new(
        identity: ed25519::PrivateKey,
        group: Sharing<MinSig>,
        share: Share,
    ) -> Self {
        Self {
            identity,
            group,
            share,
        }
    }

    /// Writes them to a file that did not exist.
    pub(crate) fn write(&self, path: &Path) -> Result<(), KeyError> {
        write_new(path, &self.to_file()).map_err(|source| io_error(path, source))
    }

    /// Returns what this validator proves its name to peers with.
    pub(crate) fn identity(&self) -> ed25519::PrivateKey {
        self.identity.clone()
    }

    /// Reads the keys; for a network of one, makes them when there is no file.
    pub(crate) fn load_or_make(path: &Path, solo: bool) -> Result<Self, KeyError> {
        match fs::metadata(path) {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(KeyError::Exposed {
                        path: path.to_owned(),
                        mode,
                    });
                }
                if meta.len() > FILE_BYTES_MAX {
                    return Err(KeyError::Damaged {
                        path: path.to_owned(),
                    });
                }
                let bytes = fs::read(path).map_err(|source| io_error(path, source))?;
                Self::from_file(&bytes).ok_or_else(|| KeyError::Damaged {
                    path: path.to_owned(),
                })
            }
            Err(why) if why.kind() == std::io::ErrorKind::NotFound && solo => {
                let keys = Self::make();
                write_new(path, &keys.to_file()).map_err(|source| io_error(path, source))?;
                Ok(keys)
            }
            Err(source) => Err(io_error(path, source)),
        }
    }

    /// Returns the public name of this validator.
    pub(crate) fn validator(&self) -> Validator {
        self.identity.public_key()
    }

    /// Returns the group key: what light clients pin.
    pub(crate) fn group_key(&self) -> Vec<u8> {
        self.group.public().encode().to_vec()
    }

    /// Returns the set of validators of a network of one: this one.
    pub(crate) fn alone(&self) -> Set<Validator> {
        [self.validator()]
            .into_iter()
            .try_collect()
            .expect("one validator is no duplicate")
    }

    /// Returns what votes are made with; nothing where the share is of another group.
    pub(crate) fn scheme(&self, network: &str, participants: Set<Validator>) -> Option<Scheme> {
        let participants_number = u32::try_from(participants.len()).ok()?;
        if self.group.total().get() != participants_number {
            return None;
        }
        Scheme::signer(
            &light::namespace(network),
            participants,
            self.group.clone(),
            self.share.clone(),
        )
    }

    fn make() -> Self {
        let mut rng = commonware_utils::sys_rng();
        let identity = ed25519::PrivateKey::random(&mut rng);
        let players: Set<Validator> = [identity.public_key()]
            .into_iter()
            .try_collect()
            .expect("one player is no duplicate");
        let (output, shares) = deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, players)
            .expect("dealing to one player does not fail");
        let share = shares
            .values()
            .first()
            .expect("the one player got a share")
            .clone();
        Self {
            identity,
            group: output.public().clone(),
            share,
        }
    }

    fn to_file(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.identity.encode());
        bytes.extend_from_slice(&self.group.encode());
        bytes.extend_from_slice(&self.share.encode());
        let check = checksum(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    fn from_file(bytes: &[u8]) -> Option<Self> {
        let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK_BYTES)?)?;
        let body = body
            .strip_prefix(MAGIC)
            .filter(|_| checksum(body) == *check)?;
        Self::read(body).ok()
    }

    fn read(body: &[u8]) -> Result<Self, CodecError> {
        let mut buf = Copying(body);
        let keys = Self {
            identity: ed25519::PrivateKey::read(&mut buf)?,
            group: Sharing::read_cfg(&mut buf, &(NZU32!(SHARES_MAX), ModeVersion::v0()))?,
            share: Share::read(&mut buf)?,
        };
        if buf.remaining() > 0 {
            return Err(CodecError::ExtraData(buf.remaining()));
        }
        Ok(keys)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let full: [u8; 32] = Sha256::digest(bytes).into();
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&full[..CHECK_BYTES]);
    check
}

fn io_error(path: &Path, source: std::io::Error) -> KeyError {
    KeyError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Writes a file that did not exist, whole or not at all: beside it first, then renamed.
fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}
