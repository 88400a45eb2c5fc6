//! A network of several validators: the file that says who they are, and the dealer that makes their keys.
//!
//! ```text
//! tradewind-network 1
//! name lab
//! group <the group key and its polynomial, hex>
//! validator <public key, hex> 127.0.0.1:7201
//! ```
//!
//! Each validator's folder has the same file; an operator may change addresses in it, nothing else.

use std::{
    fmt::Write as _,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use commonware_codec::{Copying, DecodeExt as _, Encode as _, Read as _};
use commonware_cryptography::{
    Signer as _,
    bls12381::{
        dkg::feldman_desmedt::deal,
        primitives::{
            sharing::{Mode, ModeVersion, Sharing},
            variant::MinSig,
        },
    },
    ed25519,
};
use commonware_math::algebra::Random as _;
use commonware_utils::{N3f1, NZU32, ordered::Set};
use light::Validator;
use market::{Genesis, NetworkName};

use crate::{
    folder::{Folder, FolderError},
    solo::{KeyError, Keys},
};

/// Fewest validators of a network that is dealt: with fewer than four, none of them may fail.
pub const VALIDATORS_MIN: usize = 2;
/// Most validators: every block goes from its proposer to each other one.
pub const VALIDATORS_MAX: usize = 32;
/// First word and version of the file.
const MAGIC: &str = "tradewind-network 1";
/// Longest file: many times what the most validators need.
pub(crate) const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a file of validators is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembersError {
    /// Another version, or another file.
    #[error("its first line is not {MAGIC:?}")]
    Version,
    /// A line that says nothing known.
    #[error("line {line} is not understood")]
    Line {
        /// Which, from 1.
        line: usize,
    },
    /// Something is missing, too much, or twice.
    #[error(
        "it must name one network, one group key, and {VALIDATORS_MIN} to {VALIDATORS_MAX} validators, each once"
    )]
    Incomplete,
}

/// The validators of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    name: NetworkName,
    pub(crate) group: Sharing<MinSig>,
    pub(crate) validators: Vec<(Validator, SocketAddr)>,
}

impl Members {
    /// Reads a file's text.
    ///
    /// # Errors
    /// [`MembersError`].
    pub fn parse(text: &str) -> Result<Self, MembersError> {
        let mut lines = text.lines().zip(1..);
        if lines.next().map(|(line, _)| line.trim_end()) != Some(MAGIC) {
            return Err(MembersError::Version);
        }
        let (mut name, mut group) = (None, None);
        let mut validators = Vec::new();
        for (text, line) in lines {
            let words: Vec<&str> = text.split_whitespace().collect();
            let bad = MembersError::Line { line };
            match *words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["name", word] if name.is_none() => {
                    name = Some(NetworkName::parse(word).ok_or(bad)?);
                }
                ["group", word] if group.is_none() => {
                    group = Some(read_group(word).ok_or(bad)?);
                }
                ["validator", key, address] if validators.len() < VALIDATORS_MAX => {
                    validators.push(read_validator(key, address).ok_or(bad)?);
                }
                _ => return Err(bad),
            }
        }
        let all = Set::from_iter_dedup(validators.iter().map(|(validator, _)| validator.clone()));
        match (name, group) {
            (Some(name), Some(group))
                if all.len() == validators.len()
                    && all.len() >= VALIDATORS_MIN
                    && u32::try_from(all.len()).is_ok_and(|all| group.total().get() == all) =>
            {
                Ok(Self {
                    name,
                    group,
                    validators,
                })
            }
            _ => Err(MembersError::Incomplete),
        }
    }

    /// Returns the file's text.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{MAGIC}\n\
             # The same at every validator; addresses may be changed, nothing else.\n\
             name {}\ngroup {}\n",
            self.name,
            hex(&self.group.encode())
        );
        for (validator, address) in &self.validators {
            // Writing to a text does not fail.
            let _infallible = writeln!(text, "validator {} {address}", hex(&validator.encode()));
        }
        text
    }

    /// Returns the network's name.
    pub const fn name(&self) -> &NetworkName {
        &self.name
    }

    /// Returns the group key: what light clients pin.
    pub fn group_key(&self) -> Vec<u8> {
        self.group.public().encode().to_vec()
    }

    /// Returns the validators in the order that votes count them.
    pub(crate) fn participants(&self) -> Set<Validator> {
        Set::from_iter_dedup(
            self.validators
                .iter()
                .map(|(validator, _)| validator.clone()),
        )
    }

    /// Returns where a validator listens.
    pub(crate) fn address_of(&self, validator: &Validator) -> Option<SocketAddr> {
        let mut all = self.validators.iter();
        all.find(|(one, _)| one == validator).map(|(_, at)| *at)
    }
}

fn read_group(word: &str) -> Option<Sharing<MinSig>> {
    let bytes = from_hex(word)?;
    let most = NZU32!(u32::try_from(VALIDATORS_MAX).ok()?);
    let mut left = Copying(bytes.as_slice());
    let group = Sharing::read_cfg(&mut left, &(most, ModeVersion::v0())).ok()?;
    // Nothing may follow it.
    (bytes::Buf::remaining(&left) == 0).then_some(group)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text does not fail.
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .filter(|_| !byte.is_ascii_uppercase())
    };
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    };
    digits.chunks(2).map(byte).collect()
}

fn read_validator(key: &str, address: &str) -> Option<(Validator, SocketAddr)> {
    let key = from_hex(key)?;
    let validator = Validator::decode(Copying(key.as_slice())).ok()?;
    Some((validator, SocketAddr::from_str(address).ok()?))
}

/// Why validators' folders could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DealError {
    /// Too few or too many.
    #[error("a network has {VALIDATORS_MIN} to {VALIDATORS_MAX} validators")]
    Count,
    /// Something lies there already.
    #[error("{path} is there already; a network is not dealt twice into one folder")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// A folder could not be made.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A key file could not be written.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// Makes the keys of a new network and one data folder a validator, `validator-1` and so on, under `out`.
///
/// This is a trusted dealer: whoever runs it sees every share of the group key, and could keep them. For development and
/// for networks whose validators trust the dealer; others make their key together.
///
/// # Errors
/// [`DealError`].
pub fn deal_network(
    out: &Path,
    genesis: &Genesis,
    addresses: &[SocketAddr],
) -> Result<(Members, Vec<PathBuf>), DealError> {
    if !(VALIDATORS_MIN..=VALIDATORS_MAX).contains(&addresses.len()) {
        return Err(DealError::Count);
    }
    let folders: Vec<PathBuf> = (1..=addresses.len())
        .map(|number| out.join(format!("validator-{number}")))
        .collect();
    if let Some(path) = folders.iter().find(|path| path.exists()) {
        return Err(DealError::Exists { path: path.clone() });
    }
    let mut rng = commonware_utils::sys_rng();
    let identities: Vec<ed25519::PrivateKey> = addresses
        .iter()
        .map(|_| ed25519::PrivateKey::random(&mut rng))
        .collect();
    let players = Set::from_iter_dedup(identities.iter().map(ed25519::PrivateKey::public_key));
    let (output, shares) = deal::<MinSig, _, N3f1>(&mut rng, Mode::NonZeroCounter, players)
        .map_err(|_| DealError::Count)?;
    let members = Members {
        name: genesis.network.clone(),
        group: output.public().clone(),
        validators: identities
            .iter()
            .map(ed25519::PrivateKey::public_key)
            .zip(addresses.iter().copied())
            .collect(),
    };
    for (identity, folder) in identities.into_iter().zip(&folders) {
        let share = shares.get_value(&identity.public_key());
        let share = share.ok_or(DealError::Count)?.clone();
        let folder = Folder::open(folder, Some(genesis))?;
        Keys::new(identity, members.group.clone(), share).write(&folder.keys())?;
        folder.write_members(&members)?;
    }
    Ok((members, folders))
}

/// Reads the file of a folder, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Members>, FolderError> {
    let io = |source| FolderError::Io {
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(io(why)),
        Ok(meta) if meta.len() > FILE_BYTES_MAX => {
            return Err(FolderError::Damaged {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(io)?;
    let members = Members::parse(&text).map_err(|why| FolderError::Members {
        path: path.to_owned(),
        why,
    })?;
    Ok(Some(members))
}
