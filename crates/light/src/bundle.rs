//! What a node hands out as evidence of one record, and the check of it.

use bytes::{BufMut, Bytes};
use commonware_codec::{
    Buf, Copying, Decode as _, Encode as _, EncodeSize, Error as CodecError, Read, ReadExt as _,
    Write,
};
use commonware_consensus::simplex::{scheme::bls12381_threshold::vrf, types};
use commonware_cryptography::{
    Sha256,
    bls12381::primitives::variant::{MinSig, Variant},
};
use commonware_parallel::Sequential;
use commonware_storage::{
    mmr,
    qmdb::{
        any::value::VariableEncoding,
        current::ordered::proof::constant::{ExclusionProof, KeyValueProof},
    },
};

use crate::{Digest, Header, RECORD_BYTES_MAX, Validator, namespace};

/// The validators' signing scheme.
pub type Scheme = vrf::Scheme<Validator, MinSig>;
/// A finality certificate.
pub type Finalization = types::Finalization<Scheme, Digest>;

/// Version of the bundle's encoding.
const BUNDLE_VERSION: u8 = 1;
/// Longest accepted bundle: the largest record, its proof and a full chain of headers.
pub const BUNDLE_BYTES_MAX: usize = RECORD_BYTES_MAX + 64 * 1024;
/// Most headers between the certified block and the proved one: certificates of single blocks may be missing after a
/// crash, but not many in a row.
const HEADERS_MAX: usize = 16;
/// Most digests in a state proof: two paths of 64 levels are more than any log can need.
const PROOF_DIGESTS_MAX: usize = 160;
/// Bytes of a chunk of the activity bitmap; part of the state root's definition.
pub(crate) const CHUNK_BYTES: usize = 32;

type Encoding = VariableEncoding<Value>;

/// A record's canonical bytes, at most [`RECORD_BYTES_MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value(pub Bytes);

impl Write for Value {
    fn write(&self, buf: &mut impl BufMut) {
        self.0.write(buf);
    }
}

impl EncodeSize for Value {
    fn encode_size(&self) -> usize {
        self.0.encode_size()
    }
}

impl Read for Value {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        Bytes::read_cfg(buf, &(0..=RECORD_BYTES_MAX).into()).map(Self)
    }
}

/// A record and the proof that it is current.
#[derive(Clone, Debug, PartialEq)]
pub struct Present {
    /// The record's key.
    pub key: Digest,
    /// The record's canonical bytes.
    pub value: Value,
    /// Ties both to the state root.
    pub proof: KeyValueProof<mmr::Family, Digest, Digest, CHUNK_BYTES>,
}

/// A key and the proof that no record has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Absent {
    /// The key.
    pub key: Digest,
    /// Shows the neighbours between which it would be.
    pub proof: ExclusionProof<mmr::Family, Digest, Encoding, Digest, CHUNK_BYTES>,
}

/// What a bundle says about its key.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The record exists.
    Present(Present),
    /// No such record exists.
    Absent(Absent),
}

/// Certificate, headers and state proof of one record.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Finalizes the first of [`headers`](Self::headers).
    pub certificate: Finalization,
    /// From the certified block down to the block whose state is proved, each the parent of the one before.
    pub headers: Vec<Header>,
    /// What holds in the last header's state.
    pub claim: Claim,
}

/// What a verifier must know beforehand.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The network's name.
    pub network: String,
    /// The validators' group key, 96 bytes, as `node start` prints it in hexadecimal.
    pub group_key: Vec<u8>,
}

/// What a bundle proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The block in whose state it held.
    pub height: u64,
    /// That block's time, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// The record's key.
    pub key: [u8; 32],
    /// The record's canonical bytes; `None` when it was proved that there is no such record.
    pub value: Option<Vec<u8>>,
}

/// Why a bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// More bytes than any honest bundle has.
    #[error("bundle has {bytes} bytes, more than {BUNDLE_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Truncated, trailing or non-canonical bytes, or an unknown version.
    #[error("bundle bytes are malformed")]
    Malformed(#[source] CodecError),
    /// The pinned key is not a group key.
    #[error("the pinned group key is not one")]
    GroupKey,
    /// The certificate was not made by the pinned group key for this network.
    #[error("the certificate is not by the pinned group key of network {network}")]
    Certificate {
        /// The pinned name.
        network: String,
    },
    /// A header is not the block that the certificate, or the header before it, names.
    #[error("header {index} is not the block that was certified")]
    Header {
        /// Position in the bundle.
        index: usize,
    },
    /// The record does not follow from the state root.
    #[error("the state proof does not fit the certified state")]
    Proof,
}

/// The proved state is older than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proved state is {age_ms} ms old, more than {max_age_ms} ms")]
pub struct Stale {
    /// Its age by the caller's clock.
    pub age_ms: u64,
    /// What was asked for.
    pub max_age_ms: u64,
}

impl Verified {
    /// Checks that the proved state is at most `max_age_ms` old at `now_ms` by the caller's clock.
    ///
    /// # Errors
    /// [`Stale`] when it is older.
    pub const fn require_fresh(&self, now_ms: u64, max_age_ms: u64) -> Result<(), Stale> {
        let age_ms = now_ms.saturating_sub(self.time_ms);
        if age_ms > max_age_ms {
            Err(Stale { age_ms, max_age_ms })
        } else {
            Ok(())
        }
    }
}

impl Bundle {
    /// Returns the bytes to hand out.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads a bundle from exactly these bytes; nothing is verified yet.
    ///
    /// # Errors
    /// [`Refused::TooLong`] and [`Refused::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Refused> {
        if bytes.len() > BUNDLE_BYTES_MAX {
            return Err(Refused::TooLong { bytes: bytes.len() });
        }
        Self::decode_cfg(Copying(bytes), &()).map_err(Refused::Malformed)
    }

    /// Checks certificate, headers and state proof.
    ///
    /// # Errors
    /// The first check that fails, in that order.
    pub fn verify(&self, pinned: &Pinned) -> Result<Verified, Refused> {
        self.require_certified(pinned)?;
        let header = self.require_linked()?;
        let (key, value) = match &self.claim {
            Claim::Present(Present { key, value, proof }) => {
                proof
                    .verify::<Sha256, Encoding>(*key, value.clone(), &header.state_root)
                    .then_some(())
                    .ok_or(Refused::Proof)?;
                (key, Some(value.0.to_vec()))
            }
            Claim::Absent(Absent { key, proof }) => {
                proof
                    .verify::<Sha256>(key, &header.state_root)
                    .then_some(())
                    .ok_or(Refused::Proof)?;
                (key, None)
            }
        };
        Ok(Verified {
            height: header.height.get(),
            time_ms: header.time_ms,
            key: key.0,
            value,
        })
    }

    fn require_certified(&self, pinned: &Pinned) -> Result<(), Refused> {
        let group_key = <MinSig as Variant>::Public::decode_cfg(Copying(&pinned.group_key), &())
            .map_err(|_| Refused::GroupKey)?;
        let scheme = Scheme::certificate_verifier(&namespace(&pinned.network), group_key);
        let mut rng = commonware_utils::sys_rng();
        self.certificate
            .verify(&mut rng, &scheme, &Sequential)
            .then_some(())
            .ok_or_else(|| Refused::Certificate {
                network: pinned.network.clone(),
            })
    }

    /// Returns the header whose state is proved, once each is the block that was named before it.
    fn require_linked(&self) -> Result<&Header, Refused> {
        let mut named = self.certificate.proposal.payload;
        for (index, header) in self.headers.iter().enumerate() {
            if header.digest() != named {
                return Err(Refused::Header { index });
            }
            named = header.parent();
        }
        self.headers.last().ok_or(Refused::Header { index: 0 })
    }
}

/// Reads and verifies a bundle.
///
/// # Errors
/// See [`Refused`].
pub fn verify(bytes: &[u8], pinned: &Pinned) -> Result<Verified, Refused> {
    Bundle::from_bytes(bytes)?.verify(pinned)
}

impl Write for Bundle {
    fn write(&self, buf: &mut impl BufMut) {
        BUNDLE_VERSION.write(buf);
        self.certificate.write(buf);
        self.headers.write(buf);
        self.claim.write(buf);
    }
}

impl EncodeSize for Bundle {
    fn encode_size(&self) -> usize {
        1 + self.certificate.encode_size() + self.headers.encode_size() + self.claim.encode_size()
    }
}

impl Read for Bundle {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        if u8::read(buf)? != BUNDLE_VERSION {
            return Err(CodecError::Invalid("Bundle", "unknown version"));
        }
        Ok(Self {
            certificate: Finalization::read_cfg(buf, &())?,
            headers: Vec::read_cfg(buf, &((1..=HEADERS_MAX).into(), ()))?,
            claim: Claim::read_cfg(buf, &())?,
        })
    }
}

impl Write for Claim {
    fn write(&self, buf: &mut impl BufMut) {
        match self {
            Self::Present(Present { key, value, proof }) => {
                0u8.write(buf);
                key.write(buf);
                value.write(buf);
                proof.write(buf);
            }
            Self::Absent(Absent { key, proof }) => {
                1u8.write(buf);
                key.write(buf);
                proof.write(buf);
            }
        }
    }
}

impl EncodeSize for Claim {
    fn encode_size(&self) -> usize {
        1 + match self {
            Self::Present(Present { key, value, proof }) => {
                key.encode_size() + value.encode_size() + proof.encode_size()
            }
            Self::Absent(Absent { key, proof }) => key.encode_size() + proof.encode_size(),
        }
    }
}

impl Read for Claim {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        match u8::read(buf)? {
            0 => Ok(Self::Present(Present {
                key: Digest::read(buf)?,
                value: Value::read(buf)?,
                proof: KeyValueProof::read_cfg(buf, &(PROOF_DIGESTS_MAX, ()))?,
            })),
            1 => Ok(Self::Absent(Absent {
                key: Digest::read(buf)?,
                proof: ExclusionProof::read_cfg(buf, &(PROOF_DIGESTS_MAX, ((), ()), ()))?,
            })),
            tag => Err(CodecError::InvalidEnum(tag)),
        }
    }
}
