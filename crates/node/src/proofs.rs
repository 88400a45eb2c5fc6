//! Answers from the engine: proofs with their certificate and headers, whole blocks, metrics.

use commonware_codec::Encode as _;
use commonware_consensus::types::Height;
use commonware_runtime::Spawner;
use commonware_storage::{Context as StorageContext, qmdb::Error as DbError};
use light::{Absent, Bundle, Claim, Digest, Finalization, Header, Present};
use market::RecordKey;
use tokio::sync::{mpsc, oneshot};

use crate::{
    engine::Blocks,
    state::{Databases, Db, StoreFailed, stored_at},
};

/// Requests that may wait; each takes well under a millisecond.
pub(crate) const REQUESTS_MAX: usize = 64;
/// How far above the proved block a certificate may be; see `light`.
const CERTIFICATE_DISTANCE_MAX: u64 = 15;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// No block is final yet, or its certificate is not there yet.
    #[error("the newest state is not certified yet; try again")]
    NotYet,
    /// The store failed.
    #[error("the state store failed: {0}")]
    Store(String),
    /// The node has stopped.
    #[error("the node is stopping")]
    Stopping,
}

/// What can be asked.
#[derive(Debug)]
pub(crate) enum ProofRequest {
    /// A proof of a record, or of its absence.
    Record(RecordKey, Reply<Vec<u8>>),
    /// The bytes of a final block.
    Block(u64, Reply<Option<Vec<u8>>>),
    /// The engine's metrics.
    Metrics(Reply<String>),
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, ProofError>>;

/// Answers requests until no one can ask.
pub(crate) async fn run<E: Spawner + StorageContext>(
    context: E,
    databases: Databases<E>,
    blocks: Blocks,
    mut requests: mpsc::Receiver<ProofRequest>,
) {
    while let Some(request) = requests.recv().await {
        // An asker that went away needs no answer.
        match request {
            ProofRequest::Record(key, reply) => {
                let answer = prove(&databases, &blocks, key).await;
                drop(reply.send(answer.map(|bundle| bundle.to_bytes())));
            }
            ProofRequest::Block(height, reply) => {
                let block = blocks.get_block(Height::new(height)).await;
                drop(reply.send(Ok(block.map(|block| block.encode().to_vec()))));
            }
            ProofRequest::Metrics(reply) => drop(reply.send(Ok(context.encode()))),
        }
    }
}

async fn prove<E: Spawner + StorageContext>(
    databases: &Databases<E>,
    blocks: &Blocks,
    key: RecordKey,
) -> Result<Bundle, ProofError> {
    let (height, root, claim) = {
        let db = databases.read().await;
        let at = stored_at(&*db)
            .await
            .map_err(|StoreFailed(why)| ProofError::Store(why))?;
        (
            at.height,
            db.root(),
            claim(&*db, Digest::from(key.0)).await?,
        )
    };
    let (certificate, headers) = certify(blocks, height).await.ok_or(ProofError::NotYet)?;
    let proved = headers.last().ok_or(ProofError::NotYet)?;
    if proved.state_root != root {
        return Err(ProofError::Store(format!(
            "the store is not at block {height}"
        )));
    }
    Ok(Bundle {
        certificate,
        headers,
        claim,
    })
}

async fn claim<E: Spawner + StorageContext>(db: &Db<E>, key: Digest) -> Result<Claim, ProofError> {
    let failed = |why: DbError<_>| ProofError::Store(why.to_string());
    let Some(value) = db.get(&key).await.map_err(failed)? else {
        let proof = db.exclusion_proof(&key).await.map_err(failed)?;
        return Ok(Claim::Absent(Absent { key, proof }));
    };
    let proof = db.key_value_proof(key).await.map_err(failed)?;
    Ok(Claim::Present(Present { key, value, proof }))
}

/// Returns the first certificate at or above a block, and the headers from there down to the block.
async fn certify(blocks: &Blocks, height: u64) -> Option<(Finalization, Vec<Header>)> {
    let mut headers = Vec::new();
    for at in height..=height.saturating_add(CERTIFICATE_DISTANCE_MAX) {
        let block = blocks.get_block(Height::new(at)).await?;
        headers.push(block.inner().header.clone());
        if let Some(certificate) = blocks.get_finalization(Height::new(at)).await {
            headers.reverse();
            return Some((certificate, headers));
        }
    }
    None
}
