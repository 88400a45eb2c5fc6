//! A key in a file that only its owner can read, and what it signs.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use ed25519_dalek::SigningKey;
use market::{AccountId, NetworkName, PublicKey, SignedTx, Timestamp, Tx, TxBody};

use crate::error::{Failure, Result, io_failure};
use crate::files;

/// First line of a key file: what it is, and which version of it.
const HEADER: &str = "tradewind-key-v1";
/// Longest key file read: header, 64 digits, and room for a note.
const FILE_BYTES_MAX: u64 = 4096;
/// Bits that let others in.
const OTHERS: u32 = 0o077;

/// A key that signs for an account.
#[derive(Clone)]
pub(crate) struct Wallet {
    key: SigningKey,
}

impl std::fmt::Debug for Wallet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Wallet({}, ***)", self.public())
    }
}

impl Wallet {
    /// Reads a key file.
    ///
    /// # Errors
    /// `no-key-file` where there is none; `bad-key` where it holds no key or others may read it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            key: SigningKey::from_bytes(&read_seed(path)?),
        })
    }

    /// Reads a key file, or makes one with a fresh key.
    pub(crate) fn open_or_create(path: &Path) -> Result<Self> {
        Ok(Self {
            key: SigningKey::from_bytes(&seed(path)?),
        })
    }

    /// Returns the public half.
    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::of(&self.key)
    }

    /// Returns the account that this key owns.
    pub(crate) fn account(&self) -> AccountId {
        AccountId::of(self.public())
    }

    /// Returns the key, for what signs by itself.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Signs a transaction.
    pub(crate) fn sign(
        &self,
        network: &NetworkName,
        nonce: u64,
        expires_at: Timestamp,
        call: Tx,
    ) -> SignedTx {
        TxBody {
            signer: self.public(),
            nonce,
            expires_at,
            call,
        }
        .sign(network, &self.key)
    }
}

/// Reads the 32 secret bytes of a key file, or makes one with fresh ones.
pub(crate) fn seed(path: &Path) -> Result<[u8; 32]> {
    if !path.exists() {
        files::create_private_folder(path.parent().unwrap_or(Path::new(".")))?;
        let seed: [u8; 32] = rand::random();
        files::write_private(
            path,
            format!("{HEADER}\n{}\n", hex::encode(seed)).as_bytes(),
        )?;
    }
    read_seed(path)
}

fn read_seed(path: &Path) -> Result<[u8; 32]> {
    let mut file = fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::new(
            "no-key-file",
            format!("there is no key file {}", path.display()),
        ),
        _ => io_failure("read", path)(error),
    })?;
    let mode = file.metadata().map_err(io_failure("read", path))?.mode();
    if mode & OTHERS != 0 {
        return Err(Failure::new(
            "bad-key",
            format!("others may read the key file {}", path.display()),
        )
        .hint(format!("make it yours alone: chmod 600 {}", path.display())));
    }
    let mut text = String::new();
    let read = file.by_ref().take(FILE_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|_| bad(path))?;
    let mut lines = text.lines();
    let header = lines.next();
    let seed = lines
        .next()
        .and_then(|line| <[u8; 32]>::try_from(hex::decode(line.trim()).ok()?).ok());
    match (header, seed) {
        (Some(HEADER), Some(seed)) => Ok(seed),
        _ => Err(bad(path)),
    }
}

fn bad(path: &Path) -> Failure {
    Failure::new(
        "bad-key",
        format!("{} holds no tradewind key", path.display()),
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn key_is_made_once_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/demo.key");
        let made = Wallet::open_or_create(&path).unwrap().public();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(Wallet::open_or_create(&path).unwrap().public(), made);
    }

    #[test]
    fn key_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.key");
        Wallet::open_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(Wallet::open(&path).unwrap_err().code(), "bad-key");
    }

    #[test]
    fn file_without_a_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("demo.key");
        for content in [
            "",
            "tradewind-key-v1\n",
            "tradewind-key-v1\nabcd\n",
            "\u{0}\u{1}",
            "other\n00\n",
        ] {
            files::write_private(&path, content.as_bytes()).unwrap();
            assert_eq!(Wallet::open_or_create(&path).unwrap_err().code(), "bad-key");
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        }
    }

    #[test]
    fn missing_key_is_said() {
        assert_eq!(
            Wallet::open(Path::new("/nowhere/x.key"))
                .unwrap_err()
                .code(),
            "no-key-file"
        );
    }
}
