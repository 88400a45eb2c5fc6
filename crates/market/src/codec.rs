//! Canonical bytes, hashes and signatures.
//!
//! The encoding is borsh with strict ordering: one value has one byte string. What is signed is prefixed with a domain
//! and the network's name, so that a signature of one network or purpose is worthless in another.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use crate::{
    ids::{from_base32, to_base32},
    params::NetworkName,
    tx::Tx,
    units::Timestamp,
};

/// Version of the transaction envelope.
pub const TX_VERSION: u8 = 1;
/// Largest encoded transaction: a beat batch of an hour's outage of a busy machine is the largest honest one (~40 KiB).
pub const TX_BYTES_MAX: usize = 64 * 1024;
/// Domain of transaction signatures.
const TX_DOMAIN: &[u8] = b"tradewind/tx/v1";

/// A SHA-256 digest.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Returns the SHA-256 of the concatenated parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    /// Writes lower-case hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An Ed25519 public key, not yet known to be a curve point.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Makes the key from its bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the public half of a signing key.
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key().to_bytes())
    }

    /// Reads the text form `key_…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("key_").and_then(from_base32).map(Self)
    }

    /// Checks `signature` over `message`, strictly (no small-order keys, canonical scalars), so all validators agree.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.0).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(message, &signature)
            .map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key_{}", to_base32(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sig_")?;
        self.0
            .iter()
            .take(4)
            .try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…")
    }
}

/// The signature does not fit the key, the network or the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signature does not fit the key, the network's name or the bytes")]
pub struct BadSignature;

/// Bytes that are no transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTx {
    /// Longer than [`TX_BYTES_MAX`].
    #[error("transaction has {bytes} bytes, more than {TX_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An envelope version this build does not know.
    #[error("transaction version {version} is not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// Truncated, trailing or non-canonical bytes, or a field out of its bounds.
    #[error("transaction bytes are not canonical")]
    Malformed,
}

/// Everything a signer says; the signature covers all of it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TxBody {
    /// The key that signs; it names an account directly (owner key) or by authorization.
    pub signer: PublicKey,
    /// The signer's next number, counted per signing key from 0.
    pub nonce: u64,
    /// After this block time the transaction can no longer be included.
    pub expires_at: Timestamp,
    /// What to do.
    pub call: Tx,
}

/// A transaction as it travels and as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedTx {
    /// Envelope version, [`TX_VERSION`].
    pub version: u8,
    /// What is said.
    pub body: TxBody,
    /// Signature of `body` under [`TxBody::signer`].
    pub signature: Signature,
}

/// A transaction's digest: SHA-256 of its encoding, signature included.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct TxId(pub Digest);

impl TxId {
    /// Reads the text form `tx_…`.
    pub fn parse(text: &str) -> Option<Self> {
        text.strip_prefix("tx_")
            .and_then(from_base32)
            .map(|bytes| Self(Digest(bytes)))
    }
}

impl fmt::Display for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tx_{}", to_base32(&self.0.0))
    }
}

impl fmt::Debug for TxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TxBody {
    /// Returns the bytes that are signed: `domain ‖ len(network) ‖ network ‖ version ‖ body`.
    pub fn signing_bytes(&self, network: &NetworkName) -> Vec<u8> {
        let mut bytes = domain_bytes(TX_DOMAIN, network);
        bytes.push(TX_VERSION);
        bytes.extend(encode(self));
        bytes
    }

    /// Signs the body.
    pub fn sign(self, network: &NetworkName, key: &SigningKey) -> SignedTx {
        let signature = Signature(key.sign(&self.signing_bytes(network)).to_bytes());
        SignedTx {
            version: TX_VERSION,
            body: self,
            signature,
        }
    }
}

impl SignedTx {
    /// Returns the canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads a transaction from exactly these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadTx> {
        if bytes.len() > TX_BYTES_MAX {
            return Err(BadTx::TooLong { bytes: bytes.len() });
        }
        match bytes.first() {
            Some(&TX_VERSION) => {}
            Some(&version) => return Err(BadTx::Version { version }),
            None => return Err(BadTx::Malformed),
        }
        borsh::from_slice(bytes).map_err(|_| BadTx::Malformed)
    }

    /// Returns the digest that names this transaction.
    pub fn id(&self) -> TxId {
        TxId(Digest::of(&[&self.encode()]))
    }

    /// Checks the signature for `network`.
    pub fn verify(&self, network: &NetworkName) -> Result<(), BadSignature> {
        self.body
            .signer
            .verify(&self.body.signing_bytes(network), &self.signature)
    }
}

/// Returns a value's canonical bytes.
pub fn encode<T: BorshSerialize>(value: &T) -> Vec<u8> {
    // Writing to memory cannot fail for our types: none holds a collection longer than u32::MAX.
    borsh::to_vec(value).expect("encoding to memory does not fail")
}

/// Returns `domain ‖ len(network) ‖ network`, the start of everything that is signed.
pub(crate) fn domain_bytes(domain: &[u8], network: &NetworkName) -> Vec<u8> {
    let name = network.as_str().as_bytes();
    let mut bytes = domain.to_vec();
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend(name);
    bytes
}
