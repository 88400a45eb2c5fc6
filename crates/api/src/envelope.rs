//! How a manifest travels: sealed under a job key, and the job key sealed to whoever may open it next.
//!
//! ```text
//! tenant   job key ← random;  SealedManifest = XChaCha20-Poly1305(job key, salt ‖ manifest)
//!          SealedJobKey = HPKE(keeper's seal key, job key)          both go to the keeper
//! keeper   checks on the ledger that a machine has a live lease of the job, then
//!          SealedJobKey = HPKE(machine's seal key, job key)         both go to that machine
//! machine  opens both and checks the salted digest against the ledger's JobSpec
//! ```
//!
//! HPKE is RFC 9180 base mode with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305. The context
//! ([`SealContext`]) and the recipient's key are bound in, so a sealed key is worthless for another job, lease,
//! network or recipient. Base mode does not say who sealed; the digest on the ledger, which the tenant signed, does.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
pub use hpke::rand_core::CryptoRng;
use hpke::rand_core::UnwrapErr;
use hpke::{Deserializable as _, Kem as _, OpModeR, OpModeS, Serializable as _};
use market::codec::encode;
use market::{Digest, JobId, LeaseId, NetworkName, PublicKey};
use zeroize::Zeroizing;

use crate::manifest::{BadManifest, MANIFEST_BYTES_MAX, Manifest, Salt, manifest_digest};

/// Version of both sealed forms.
pub const ENVELOPE_VERSION: u8 = 1;
/// Length of a sealed job key: version, encapsulated key, key, tag.
pub const SEALED_JOB_KEY_BYTES: usize = 1 + 32 + 32 + TAG_BYTES;
/// Longest sealed manifest: version, nonce, salt, manifest, tag.
pub const SEALED_MANIFEST_BYTES_MAX: usize = MANIFEST_HEAD_BYTES + MANIFEST_BYTES_MAX + TAG_BYTES;
/// Longest encoded [`SealedJob`].
pub const SEALED_JOB_BYTES_MAX: usize = SEALED_MANIFEST_BYTES_MAX + SEALED_JOB_KEY_BYTES + 4;

type HpkePublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type HpkeSecretKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type HpkeSenderKey = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const MANIFEST_HEAD_BYTES: usize = 1 + NONCE_BYTES + Salt::BYTES;
const MANIFEST_DOMAIN: &[u8] = b"tradewind/sealed-manifest/v1";
const JOB_KEY_DOMAIN: &[u8] = b"tradewind/sealed-job-key/v1";

/// Returns the operating system's random source; panics where that fails, as nothing safe can follow.
pub fn system_rng() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// The random key of one job; it opens the manifest.
#[derive(Clone, PartialEq, Eq)]
pub struct JobKey(Zeroizing<[u8; 32]>);

impl JobKey {
    /// Draws a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Makes the key from its bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns its bytes, for the tenant's own key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for JobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The secret half of a seal key (X25519): what keepers and machines open job keys with.
#[derive(Clone)]
pub struct SealSecret(Zeroizing<[u8; 32]>);

impl SealSecret {
    /// Draws a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let (secret, _) = X25519HkdfSha256::gen_keypair_with_rng(rng);
        Self::from_bytes(secret.to_bytes().into())
    }

    /// Makes the key from its bytes; every 32 bytes are one.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Returns its bytes, for the owner's key file.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the public half: the `seal` key of the ledger's records.
    pub fn public(&self) -> PublicKey {
        let public = X25519HkdfSha256::sk_to_pk(&self.hpke());
        PublicKey::from_bytes(public.to_bytes().into())
    }

    fn hpke(&self) -> HpkeSecretKey {
        HpkeSecretKey::from_bytes(self.0.as_slice()).expect("every 32 bytes are an X25519 secret")
    }
}

impl fmt::Debug for SealSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a sealed job key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext<'a> {
    /// The network.
    pub network: &'a NetworkName,
    /// Who receives it in which role.
    pub to: SealedFor,
}

/// In which role a job key is received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum SealedFor {
    /// A keeper of the job.
    Keeper(JobId),
    /// The machine of the lease.
    Machine(LeaseId),
}

impl<'a> SealContext<'a> {
    /// Returns the context of a key that a keeper of `job` receives.
    pub const fn keeper(network: &'a NetworkName, job: JobId) -> Self {
        Self {
            network,
            to: SealedFor::Keeper(job),
        }
    }

    /// Returns the context of a key that the machine of `lease` receives.
    pub const fn machine(network: &'a NetworkName, lease: LeaseId) -> Self {
        Self {
            network,
            to: SealedFor::Machine(lease),
        }
    }

    fn info(&self, recipient: &PublicKey) -> Vec<u8> {
        let mut info = JOB_KEY_DOMAIN.to_vec();
        info.extend(encode(self.network));
        info.extend(encode(&self.to));
        info.extend(recipient.as_bytes());
        info
    }
}

/// Why something sealed cannot be opened, or something cannot be sealed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Shorter or longer than anything sealed.
    #[error("sealed bytes have the wrong length: {bytes}")]
    Length {
        /// The length.
        bytes: usize,
    },
    /// A form that this build does not know.
    #[error("envelope version {version} is not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// Bytes that are no [`SealedJob`].
    #[error("sealed job bytes are not canonical")]
    Malformed,
    /// The recipient's seal key is no usable X25519 key.
    #[error("seal key is not usable")]
    Recipient,
    /// Altered, for another recipient, or for another context.
    #[error("sealed bytes do not open with this key in this context")]
    NotForUs,
    /// It opened, but it is not the manifest that the job names.
    #[error("manifest does not have the digest that the job names")]
    DigestMismatch,
    /// It is the manifest that the job names, and it is bad.
    #[error("the sealed manifest is bad")]
    Manifest(#[from] BadManifest),
}

/// A manifest that only the job key opens.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedManifest(Vec<u8>);

impl SealedManifest {
    /// Takes sealed bytes from elsewhere; checks version and length only.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, EnvelopeError> {
        let sealed = Self(bytes);
        sealed.check()?;
        Ok(sealed)
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        let fits = MANIFEST_HEAD_BYTES + TAG_BYTES..=SEALED_MANIFEST_BYTES_MAX;
        match self.0.first() {
            _ if !fits.contains(&self.0.len()) => Err(EnvelopeError::Length {
                bytes: self.0.len(),
            }),
            Some(&ENVELOPE_VERSION) => Ok(()),
            Some(&version) => Err(EnvelopeError::Version { version }),
            None => Err(EnvelopeError::Length { bytes: 0 }),
        }
    }
}

/// A job key that only one recipient opens, in one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedJobKey([u8; SEALED_JOB_KEY_BYTES]);

impl SealedJobKey {
    /// Takes sealed bytes from elsewhere; checks version and length only.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let bytes = bytes
            .try_into()
            .map_err(|_| EnvelopeError::Length { bytes: bytes.len() })?;
        let sealed = Self(bytes);
        sealed.check()?;
        Ok(sealed)
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; SEALED_JOB_KEY_BYTES] {
        &self.0
    }

    fn check(&self) -> Result<(), EnvelopeError> {
        match self.0[0] {
            ENVELOPE_VERSION => Ok(()),
            version => Err(EnvelopeError::Version { version }),
        }
    }
}

/// A manifest as it is handed on: to a keeper with the job key sealed to it, or to a machine likewise.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedJob {
    /// The job key, sealed to the receiver.
    pub key: SealedJobKey,
    /// The manifest, sealed under the job key.
    pub manifest: SealedManifest,
}

impl SealedJob {
    /// Tenant: seals the manifest, and the job key to one keeper's seal key in `context`.
    pub fn seal(
        rng: &mut impl CryptoRng,
        key: &JobKey,
        manifest: &SaltedManifest,
        recipient: &PublicKey,
        context: &SealContext<'_>,
    ) -> Result<Self, EnvelopeError> {
        Ok(Self {
            key: seal_job_key(rng, recipient, context, key)?,
            manifest: seal_manifest(rng, key, context.network, manifest),
        })
    }

    /// Keeper: seals the job key, received in `from`, to another recipient in `to`; the manifest stays as it is.
    pub fn reseal(
        &self,
        rng: &mut impl CryptoRng,
        secret: &SealSecret,
        from: &SealContext<'_>,
        recipient: &PublicKey,
        to: &SealContext<'_>,
    ) -> Result<Self, EnvelopeError> {
        let key = open_job_key(secret, from, &self.key)?;
        Ok(Self {
            key: seal_job_key(rng, recipient, to, &key)?,
            manifest: self.manifest.clone(),
        })
    }

    /// Keeper or machine: opens both and checks that it is the manifest that the job names by `digest`.
    pub fn open(
        &self,
        secret: &SealSecret,
        context: &SealContext<'_>,
        digest: &Digest,
    ) -> Result<Manifest, EnvelopeError> {
        let key = open_job_key(secret, context, &self.key)?;
        open_manifest(&key, context.network, digest, &self.manifest)
    }

    /// Returns its canonical bytes: what is posted to a keeper.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it from exactly these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() > SEALED_JOB_BYTES_MAX {
            return Err(EnvelopeError::Length { bytes: bytes.len() });
        }
        let job: Self = borsh::from_slice(bytes).map_err(|_| EnvelopeError::Malformed)?;
        job.key.check()?;
        job.manifest.check()?;
        Ok(job)
    }
}

/// A manifest as its tenant made it: the bytes, their salt, and the digest for the job's `JobSpec`.
#[derive(Clone, PartialEq, Eq)]
pub struct SaltedManifest {
    bytes: Zeroizing<Vec<u8>>,
    salt: Salt,
    digest: Digest,
}

impl SaltedManifest {
    /// Encodes the manifest and draws its salt.
    pub fn new(manifest: &Manifest, rng: &mut impl CryptoRng) -> Result<Self, BadManifest> {
        let bytes = Zeroizing::new(manifest.encode()?);
        let salt = Salt::generate(rng);
        let digest = manifest_digest(&salt, &bytes);
        Ok(Self {
            bytes,
            salt,
            digest,
        })
    }

    /// Returns what goes into `JobSpec.manifest`.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

impl fmt::Debug for SaltedManifest {
    /// Writes the digest only: the bytes hold the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SaltedManifest({})", self.digest)
    }
}

/// Seals a manifest under the job key, bound to the network and the digest.
pub fn seal_manifest(
    rng: &mut impl CryptoRng,
    key: &JobKey,
    network: &NetworkName,
    manifest: &SaltedManifest,
) -> SealedManifest {
    let mut nonce = [0; NONCE_BYTES];
    rng.fill_bytes(&mut nonce);
    let mut plain = Zeroizing::new(manifest.salt.as_bytes().to_vec());
    plain.extend_from_slice(&manifest.bytes);
    let payload = Payload {
        msg: &plain,
        aad: &manifest_aad(network, &manifest.digest),
    };
    let sealed = cipher(key)
        .encrypt(&XNonce::from(nonce), payload)
        .expect("a manifest is far shorter than the cipher's limit");
    let mut bytes = vec![ENVELOPE_VERSION];
    bytes.extend(nonce);
    bytes.extend(sealed);
    debug_assert!(bytes.len() <= SEALED_MANIFEST_BYTES_MAX);
    SealedManifest(bytes)
}

/// Opens a sealed manifest and checks that it is the one the job names by `digest`.
pub fn open_manifest(
    key: &JobKey,
    network: &NetworkName,
    digest: &Digest,
    sealed: &SealedManifest,
) -> Result<Manifest, EnvelopeError> {
    sealed.check()?;
    let length = EnvelopeError::Length {
        bytes: sealed.0.len(),
    };
    let body = sealed.0.get(1..).ok_or_else(|| length.clone())?;
    let (nonce, cipher_text) = body
        .split_first_chunk::<NONCE_BYTES>()
        .ok_or_else(|| length.clone())?;
    let payload = Payload {
        msg: cipher_text,
        aad: &manifest_aad(network, digest),
    };
    let plain = cipher(key)
        .decrypt(&XNonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| EnvelopeError::NotForUs)?;
    let (salt, bytes) = plain.split_first_chunk::<{ Salt::BYTES }>().ok_or(length)?;
    // The cipher does not commit to its key: only the hash proves that these are the bytes that the tenant signed.
    if manifest_digest(&Salt::from_bytes(*salt), bytes) != *digest {
        return Err(EnvelopeError::DigestMismatch);
    }
    Ok(Manifest::decode(bytes)?)
}

/// Seals a job key to a recipient's seal key.
pub fn seal_job_key(
    rng: &mut impl CryptoRng,
    recipient: &PublicKey,
    context: &SealContext<'_>,
    key: &JobKey,
) -> Result<SealedJobKey, EnvelopeError> {
    let public =
        HpkePublicKey::from_bytes(recipient.as_bytes()).map_err(|_| EnvelopeError::Recipient)?;
    let info = context.info(recipient);
    let sealing = hpke::setup_sender_with_rng::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
    let (mut sender_key, mut sender) = sealing(&OpModeS::Base, &public, &info, rng)
        .map(|(encapsulated, sender)| (encapsulated.to_bytes().to_vec(), sender))
        // The one way to fail is a recipient of small order, with which no secret can be shared.
        .map_err(|_| EnvelopeError::Recipient)?;
    let mut cipher_text = sender
        .seal(key.expose(), &[])
        .expect("the first message of a fresh context");
    let mut bytes = vec![ENVELOPE_VERSION];
    bytes.append(&mut sender_key);
    bytes.append(&mut cipher_text);
    SealedJobKey::from_bytes(&bytes)
}

/// Opens a job key that was sealed to `secret` in `context`.
pub fn open_job_key(
    secret: &SealSecret,
    context: &SealContext<'_>,
    sealed: &SealedJobKey,
) -> Result<JobKey, EnvelopeError> {
    sealed.check()?;
    let (sender_key, cipher_text) = sealed.0[1..].split_at(32);
    let sender_key = HpkeSenderKey::from_bytes(sender_key).map_err(|_| EnvelopeError::NotForUs)?;
    let info = context.info(&secret.public());
    let opening = hpke::setup_receiver::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>;
    let plain = opening(&OpModeR::Base, &secret.hpke(), &sender_key, &info)
        .and_then(|mut receiver| receiver.open(cipher_text, &[]))
        .map(Zeroizing::new)
        .map_err(|_| EnvelopeError::NotForUs)?;
    let key: [u8; 32] = plain
        .as_slice()
        .try_into()
        .map_err(|_| EnvelopeError::NotForUs)?;
    Ok(JobKey::from_bytes(key))
}

fn cipher(key: &JobKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose().into())
}

fn manifest_aad(network: &NetworkName, digest: &Digest) -> Vec<u8> {
    let mut aad = MANIFEST_DOMAIN.to_vec();
    aad.extend(encode(network));
    aad.extend(digest.0);
    aad
}

#[cfg(test)]
mod tests;
