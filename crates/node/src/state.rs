//! The authenticated store: which of the engine's databases holds the records, and how.

use bytes::Bytes;
use commonware_codec::{DecodeExt as _, Encode as _, FixedSize as _};
use commonware_cryptography::Sha256;
use commonware_glue::stateful::db::{DatabaseSet, Merkleized as _, Shared, Unmerkleized as _};
use commonware_parallel::Sequential;
use commonware_runtime::{Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context,
    journal::contiguous::variable::Config as LogConfig,
    mmr::{self, full::Config as MmrConfig},
    qmdb::current::{VariableConfig, ordered::variable},
    translator::EightCap,
};
use commonware_utils::{NZU64, NZUsize, non_empty_range};
use futures::{StreamExt as _, pin_mut};
use light::{Digest, Value};
use market::{ChangeSet, RecordKey};

use crate::chain::StateCommitment;

/// Bytes of one chunk of the activity bitmap; part of the state root's definition (see `light`).
const CHUNK_BYTES: usize = 32;
/// Operations of one file of the log, and of one of the tree: files of a few MiB, so that pruning frees disk soon.
const ITEMS_PER_BLOB: u64 = 65_536;
/// Write and replay buffers.
const BUFFER_BYTES: usize = 256 * 1024;

/// The database: record key to canonical bytes, with proofs of current value and of absence.
pub(crate) type Db<E> =
    variable::Db<mmr::Family, E, Digest, Value, Sha256, EightCap, CHUNK_BYTES, Sequential>;
/// The set of databases that a block commits to: one.
pub(crate) type Databases<E> = Shared<Db<E>>;
/// Writes on top of a state.
pub(crate) type Unmerkleized<E> = <Databases<E> as DatabaseSet<E>>::Unmerkleized;
/// Writes with their root.
pub(crate) type Merkleized<E> = <Databases<E> as DatabaseSet<E>>::Merkleized;

/// A store that failed; the engine stops and the node must be started again.
#[derive(Debug, thiserror::Error)]
#[error("the state store failed: {0}")]
pub(crate) struct StoreFailed(pub(crate) String);

/// The height up to which a store's state goes, kept in each commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StoredAt {
    pub(crate) height: u64,
}

impl StoredAt {
    fn to_bytes(self) -> Bytes {
        self.height.encode()
    }

    fn from_bytes(bytes: Bytes) -> Option<Self> {
        (bytes.len() == u64::SIZE).then_some(())?;
        u64::decode(bytes).ok().map(|height| Self { height })
    }
}

/// Returns how the store is opened.
pub(crate) fn config(
    prefix: &str,
    page_cache: CacheRef,
) -> VariableConfig<EightCap, ((), ()), Sequential> {
    VariableConfig {
        merkle_config: MmrConfig {
            journal_partition: format!("{prefix}-state-tree"),
            metadata_partition: format!("{prefix}-state-tree-meta"),
            items_per_blob: NZU64!(ITEMS_PER_BLOB),
            write_buffer: NZUsize!(BUFFER_BYTES),
            replay_buffer: NZUsize!(BUFFER_BYTES),
            strategy: Sequential,
            page_cache: page_cache.clone(),
        },
        journal_config: LogConfig {
            partition: format!("{prefix}-state-log"),
            items_per_section: NZU64!(ITEMS_PER_BLOB),
            compression: None,
            codec_config: ((), ()),
            page_cache,
            write_buffer: NZUsize!(BUFFER_BYTES),
            replay_buffer: NZUsize!(BUFFER_BYTES),
        },
        grafted_metadata_partition: format!("{prefix}-state-bitmap"),
        translator: EightCap,
        init_cache: Some(NZUsize!(65_536)),
        init_buffer: NZUsize!(1 << 20),
        init_concurrency: (),
    }
}

/// Puts one block's writes on top of its parent's state and computes the roots.
///
/// # Errors
/// A storage failure.
pub(crate) async fn write<E: Spawner + Context>(
    mut batch: Unmerkleized<E>,
    height: u64,
    changes: &ChangeSet,
) -> Result<Merkleized<E>, StoreFailed> {
    for (key, value) in &changes.0 {
        batch = batch.write(
            Digest::from(key.0),
            value.clone().map(|value| Value(value.into())),
        );
    }
    batch
        .with_metadata(Value(StoredAt { height }.to_bytes()))
        .merkleize()
        .await
        .map_err(|why| StoreFailed(why.to_string()))
}

/// Returns what a header carries about this state.
pub(crate) fn commitment<E: Spawner + Context>(state: &Merkleized<E>) -> StateCommitment {
    StateCommitment {
        state_root: state.root(),
        ops_root: state.ops_root(),
        ops_range: non_empty_range!(state.sync_boundary(), state.bounds().tip.size),
    }
}

/// Reads all records in key order, and the height they belong to.
///
/// # Errors
/// A storage failure, or a store whose last commit this build did not write.
pub(crate) async fn read_all<E: Spawner + Context>(
    databases: &Databases<E>,
) -> Result<(StoredAt, Vec<(RecordKey, Vec<u8>)>), StoreFailed> {
    let db = databases.read().await;
    let at = stored_at(&*db).await?;
    let mut records = Vec::new();
    let stream = db.stream_range(..);
    pin_mut!(stream);
    while let Some(next) = stream.next().await {
        let (key, value) = next.map_err(|why| StoreFailed(why.to_string()))?;
        records.push((RecordKey(key.0), value.0.to_vec()));
    }
    Ok((at, records))
}

/// Returns the height that the store's last commit belongs to; 0 when nothing was ever written.
///
/// # Errors
/// A storage failure, or a store whose last commit this build did not write.
pub(crate) async fn stored_at<E: Spawner + Context>(db: &Db<E>) -> Result<StoredAt, StoreFailed> {
    match db
        .get_metadata()
        .await
        .map_err(|why| StoreFailed(why.to_string()))?
    {
        None => Ok(StoredAt::default()),
        Some(bytes) => StoredAt::from_bytes(bytes.0)
            .ok_or_else(|| StoreFailed("the last commit has no height".to_owned())),
    }
}
