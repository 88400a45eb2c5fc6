//! What a block is: a header that is voted on, and a body that the header commits to.

use bytes::{BufMut, Bytes};
use commonware_codec::{
    Buf, Copying, DecodeExt as _, EncodeSize, Error as CodecError, MaxEncodeSize as _, Read,
    ReadExt as _, Write,
};
use commonware_consensus::{
    Block as ConsensusBlock, BoundedBlock, CertifiableBlock, Heightable,
    simplex::types::Context,
    types::{Epoch, Height, Round},
};
use commonware_cryptography::{Digestible, Hasher as _, Sha256, Signer as _, ed25519};
use commonware_glue::stateful::db::DatabaseSet;
use commonware_runtime::Spawner;
use commonware_storage::Context as StorageContext;
use commonware_storage::mmr::Location;
use commonware_utils::range::NonEmptyRange;
use light::{Digest, GENESIS_VIEW, Header, Validator, merkle_root};
use market::{
    Event, Genesis, SignedTx,
    codec::{TX_BYTES_MAX, TxId, encode},
};

use crate::state::Databases;

/// Most transactions of a block: at ~20 µs each, a block takes well under 100 ms to execute.
pub(crate) const BLOCK_TXS_MAX: usize = 4_096;
/// Most body bytes of a block: what a validator must send to each other one within a view.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// A block: header and transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) header: Header,
    pub(crate) txs: Vec<SignedTx>,
    /// The transactions as they were signed; encoding them again is not needed.
    body: Vec<Bytes>,
}

impl Block {
    /// Makes a block of a header and the transactions that its `tx_root` commits to.
    pub(crate) fn new(header: Header, txs: Vec<SignedTx>) -> Self {
        let body = txs.iter().map(|tx| Bytes::from(tx.encode())).collect();
        Self { header, txs, body }
    }

    /// Returns the first block, which commits to the genesis document and to an empty store.
    pub(crate) fn genesis<E: Spawner + StorageContext>(genesis: &Genesis) -> Self {
        let document = Sha256::hash(&[b"tradewind/genesis/v1", &encode(genesis)]);
        let empty = Databases::<E>::initial_sync_targets();
        let header = Header {
            context: Context {
                round: Round::new(Epoch::zero(), GENESIS_VIEW),
                leader: no_validator(),
                parent: (GENESIS_VIEW, document),
            },
            height: Height::zero(),
            time_ms: genesis.time.unix_millis(),
            tx_root: merkle_root([]),
            events_root: merkle_root([]),
            state_root: empty.root,
            ops_root: empty.root,
            ops_range: empty.range,
            seed: None,
        };
        Self {
            header,
            txs: Vec::new(),
            body: Vec::new(),
        }
    }
}

/// Bytes that are no block.
#[derive(Debug, thiserror::Error)]
#[error("block bytes are malformed")]
pub struct BadBlock(#[source] CodecError);

/// Reads a block from exactly these bytes: its header, and the transactions that the header commits to.
///
/// Nothing about it is verified but that the two belong together.
///
/// # Errors
/// [`BadBlock`] for truncated, trailing or non-canonical bytes, and for a body of another header.
pub fn read_block(bytes: &[u8]) -> Result<(Header, Vec<SignedTx>), BadBlock> {
    let block = Block::decode(Copying(bytes)).map_err(BadBlock)?;
    Ok((block.header, block.txs))
}

/// Stands for the proposer of genesis, which nobody proposed.
fn no_validator() -> Validator {
    ed25519::PrivateKey::from_seed(0).public_key()
}

/// Returns the root that a header carries for its transactions: over their ids, in order.
pub(crate) fn tx_root(ids: impl IntoIterator<Item = TxId>) -> Digest {
    let ids: Vec<TxId> = ids.into_iter().collect();
    merkle_root(ids.iter().map(|id| id.0.0.as_slice()))
}

/// Returns the root that a header carries for what the block announced: receipts, then events.
pub(crate) fn events_root(receipts: &[market::Receipt], events: &[Event]) -> Digest {
    let leaves: Vec<Vec<u8>> = receipts
        .iter()
        .map(|receipt| encode(&(receipt.tx, &receipt.result)))
        .chain(events.iter().map(encode))
        .collect();
    merkle_root(leaves.iter().map(Vec::as_slice))
}

/// The store's commitment after a block, as its header carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StateCommitment {
    pub(crate) state_root: Digest,
    pub(crate) ops_root: Digest,
    pub(crate) ops_range: NonEmptyRange<Location>,
}

impl Write for Block {
    fn write(&self, buf: &mut impl BufMut) {
        self.header.write(buf);
        self.body.write(buf);
    }
}

impl EncodeSize for Block {
    fn encode_size(&self) -> usize {
        self.header.encode_size() + self.body.encode_size()
    }
}

impl Read for Block {
    type Cfg = ();

    fn read_cfg(buf: &mut impl Buf, (): &()) -> Result<Self, CodecError> {
        let header = Header::read(buf)?;
        let count = usize::read_cfg(buf, &(0..=BLOCK_TXS_MAX).into())?;
        let mut left = BODY_BYTES_MAX;
        let mut body = Vec::with_capacity(count);
        let mut txs = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = Bytes::read_cfg(buf, &(0..=left.min(TX_BYTES_MAX)).into())?;
            left -= bytes.len();
            txs.push(
                SignedTx::decode(&bytes).map_err(|why| CodecError::Wrapped("Block", why.into()))?,
            );
            body.push(bytes);
        }
        if tx_root(txs.iter().map(SignedTx::id)) != header.tx_root {
            return Err(CodecError::Invalid("Block", "body does not fit the header"));
        }
        Ok(Self { header, txs, body })
    }
}

impl Digestible for Block {
    type Digest = Digest;

    fn digest(&self) -> Digest {
        self.header.digest()
    }
}

impl Heightable for Block {
    fn height(&self) -> Height {
        self.header.height
    }
}

impl ConsensusBlock for Block {
    fn parent(&self) -> Digest {
        self.header.parent()
    }
}

impl CertifiableBlock for Block {
    type Context = Context<Digest, Validator>;

    fn context(&self) -> Self::Context {
        self.header.context.clone()
    }
}

impl BoundedBlock for Block {
    fn max_encode_size((): &()) -> usize {
        // Every transaction may carry a length of up to five bytes; the count is one more.
        Header::MAX_ENCODE_SIZE + BODY_BYTES_MAX + 5 * (BLOCK_TXS_MAX + 1)
    }
}
