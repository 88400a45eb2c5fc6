//! The block header: everything a block commits to, and the only thing its digest covers.

use bytes::BufMut;
use commonware_codec::{
    Buf, Copying, DecodeExt as _, Encode as _, EncodeSize, Error as CodecError, FixedSize as _,
    MaxEncodeSize, Read, ReadExt as _, Write,
};
use commonware_consensus::{
    simplex::types::Context,
    types::{Height, View},
};
use commonware_cryptography::{Hasher as _, Sha256, ed25519, sha256};
use commonware_storage::mmr::Location;
use commonware_utils::range::NonEmptyRange;

pub use commonware_consensus::types::Round;

/// A SHA-256 digest.
pub type Digest = sha256::Digest;
/// Names a validator on the consensus network.
pub type Validator = ed25519::PublicKey;

/// Version of the header's encoding.
pub const HEADER_VERSION: u8 = 1;
/// The view of genesis.
pub const GENESIS_VIEW: View = View::zero();
/// Separates header digests from every other hash.
const DOMAIN: &[u8] = b"tradewind/header/v1";

/// What a block commits to. The body is reached through [`tx_root`](Self::tx_root).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where and by whom it was proposed, and on which parent.
    pub context: Context<Digest, Validator>,
    /// Number of blocks before it.
    pub height: Height,
    /// Block time in milliseconds since the Unix epoch; greater than the parent's.
    pub time_ms: u64,
    /// Root over the transactions' bytes; of genesis, the digest of the genesis document.
    pub tx_root: Digest,
    /// Root over what the block announced: receipts, then events.
    pub events_root: Digest,
    /// Root of the state after this block: what record proofs are checked against.
    pub state_root: Digest,
    /// Root of the state's operation log after this block (state sync).
    pub ops_root: Digest,
    /// The part of the operation log that the state needs.
    pub ops_range: NonEmptyRange<Location>,
    /// The beacon's value for the parent's round, as its threshold signature; none if the proposer lacked it.
    pub seed: Option<Seed>,
}

/// Encoded length of a beacon signature (BLS12-381 G1, compressed).
pub const SEED_BYTES: usize = 48;
/// A beacon signature as bytes.
pub type Seed = [u8; SEED_BYTES];

impl Header {
    /// Returns the digest that names the block.
    pub fn digest(&self) -> Digest {
        Sha256::hash(&[DOMAIN, &self.encode()])
    }

    /// Returns the parent's digest.
    pub const fn parent(&self) -> Digest {
        self.context.parent.1
    }

    /// Returns the 32 bytes that the market sees of a beacon signature.
    pub fn hash_seed(seed: &Seed) -> [u8; 32] {
        Sha256::hash(&[seed.as_slice()]).0
    }

    /// Returns the 32 bytes that the market sees of this block's seed.
    pub fn seed_hash(&self) -> Option<[u8; 32]> {
        self.seed.as_ref().map(Self::hash_seed)
    }

    /// Returns the bytes that the digest covers.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode().to_vec()
    }

    /// Reads a header from exactly these bytes.
    ///
    /// # Errors
    /// Truncated, trailing or non-canonical bytes, or a version this build does not know.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Self::decode(Copying(bytes))
    }
}

impl Write for Header {
    fn write(&self, buf: &mut impl BufMut) {
        HEADER_VERSION.write(buf);
        self.context.write(buf);
        self.height.write(buf);
        self.time_ms.write(buf);
        self.tx_root.write(buf);
        self.events_root.write(buf);
        self.state_root.write(buf);
        self.ops_root.write(buf);
        self.ops_range.write(buf);
        self.seed.write(buf);
    }
}

impl EncodeSize for Header {
    fn encode_size(&self) -> usize {
        1 + self.context.encode_size()
            + self.height.encode_size()
            + u64::SIZE
            + 4 * Digest::SIZE
            + self.ops_range.encode_size()
            + self.seed.encode_size()
    }
}

impl MaxEncodeSize for Header {
    const MAX_ENCODE_SIZE: usize = 1
        + Context::<Digest, Validator>::MAX_ENCODE_SIZE
        + Height::MAX_ENCODE_SIZE
        + u64::SIZE
        + 4 * Digest::SIZE
        + NonEmptyRange::<Location>::MAX_ENCODE_SIZE
        + 1
        + SEED_BYTES;
}

impl Read for Header {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        if u8::read(buf)? != HEADER_VERSION {
            return Err(CodecError::Invalid("Header", "unknown version"));
        }
        Ok(Self {
            context: Context::read(buf)?,
            height: Height::read(buf)?,
            time_ms: u64::read(buf)?,
            tx_root: Digest::read(buf)?,
            events_root: Digest::read(buf)?,
            state_root: Digest::read(buf)?,
            ops_root: Digest::read(buf)?,
            ops_range: NonEmptyRange::read(buf)?,
            seed: Option::<Seed>::read(buf)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use commonware_consensus::types::Epoch;
    use commonware_cryptography::Signer as _;
    use commonware_utils::non_empty_range;

    use super::*;

    fn sample() -> Header {
        let fill = |byte: u8| Digest::from([byte; 32]);
        Header {
            context: Context {
                round: Round::new(Epoch::zero(), View::new(300)),
                leader: ed25519::PrivateKey::from_seed(7).public_key(),
                parent: (View::new(299), fill(1)),
            },
            height: Height::new(257),
            time_ms: 1_795_459_291_796,
            tx_root: fill(2),
            events_root: fill(3),
            state_root: fill(4),
            ops_root: fill(5),
            ops_range: non_empty_range!(Location::new(6), Location::new(900)),
            seed: Some([8; SEED_BYTES]),
        }
    }

    /// Bytes and digest are what light clients and stored blocks depend on: change them only with the version.
    #[test]
    fn header_bytes_are_golden() {
        let bytes = sample().encode();
        let line = format!("header: {}", hex::encode(&bytes));
        assert!(GOLDEN.lines().any(|golden| golden == line), "{line}");
        assert_eq!(sample().digest().to_string(), GOLDEN_DIGEST);
        assert_eq!(Header::from_bytes(&bytes).unwrap(), sample());
    }

    #[test]
    fn truncated_extended_and_newer_headers_are_refused() {
        let bytes = sample().encode().to_vec();
        assert!(bytes.len() <= Header::MAX_ENCODE_SIZE);
        for end in 0..bytes.len() {
            assert!(Header::from_bytes(&bytes[..end]).is_err());
        }
        assert!(Header::from_bytes(&[bytes.as_slice(), &[0]].concat()).is_err());
        let mut newer = bytes;
        newer[0] = HEADER_VERSION + 1;
        assert!(Header::from_bytes(&newer).is_err());
    }

    #[test]
    fn digest_depends_on_every_byte() {
        let bytes = sample().encode().to_vec();
        for at in 1..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if let Ok(header) = Header::from_bytes(&changed) {
                assert_ne!(header.digest(), sample().digest(), "byte {at}");
            }
        }
    }

    const GOLDEN: &str = include_str!("../tests/it/golden.txt");
    const GOLDEN_DIGEST: &str = "34c571ce8c301c938b0a372f6c945d444a0d9f69c0b70d0087eaae3809844d36";
}
