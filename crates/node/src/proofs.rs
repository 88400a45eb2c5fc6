//! Answers with evidence: certificate, headers, state proof.

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

/// A wish for a proof.
pub(crate) struct ProofRequest {
    pub(crate) key: RecordKey,
    pub(crate) reply: oneshot::Sender<Result<Vec<u8>, ProofError>>,
}

/// Answers requests until no one can ask.
pub(crate) async fn run<E: Spawner + StorageContext>(
    databases: Databases<E>,
    blocks: Blocks,
    mut requests: mpsc::Receiver<ProofRequest>,
) {
    while let Some(ProofRequest { key, reply }) = requests.recv().await {
        let answer = prove(&databases, &blocks, key).await;
        // An asker that went away needs no answer.
        drop(reply.send(answer.map(|bundle| bundle.to_bytes())));
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
    match db.get(&key).await.map_err(failed)? {
        Some(value) => {
            let proof = db.key_value_proof(key).await.map_err(failed)?;
            Ok(Claim::Present(Present { key, value, proof }))
        }
        None => {
            let proof = db.exclusion_proof(&key).await.map_err(failed)?;
            Ok(Claim::Absent(Absent { key, proof }))
        }
    }
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
