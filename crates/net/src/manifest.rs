//! `tradewind/manifest/1`: a machine fetches the sealed manifest of its lease from a keeper of the job.
//!
//! The machine's endpoint key, proved by the handshake, says who asks. The keeper checks on the ledger that this
//! machine holds the live lease of this job, and seals the job key to the machine's seal key.

use std::time::Duration;

use api::envelope::SealedJob;
use async_trait::async_trait;
use borsh::{BorshDeserialize, BorshSerialize};
use iroh::endpoint::{SendStream, VarInt};
use market::{JobId, LeaseId, PublicKey};
use tokio::time::{Instant, timeout, timeout_at};

use crate::endpoint::{DialError, Endpoint, Peer};
use crate::frame::{self, FrameError, FrameReader};
use crate::limits::Limits;
use crate::refusal::{Refusal, RefusalCode};

/// The protocol's name and version.
pub const ALPN: &[u8] = b"tradewind/manifest/1";
/// Largest response: a sealed job and a tag.
const RESPONSE_BYTES_MAX: usize = api::envelope::SEALED_JOB_BYTES_MAX + 1;

/// What a keeper serves from: its blobs and the ledger's state.
#[async_trait]
pub trait ManifestSource: Send + Sync + 'static {
    /// Returns the manifest of `job`, its key sealed to the machine whose endpoint key is `machine`, provided that
    /// this machine holds the live `lease` of the job.
    ///
    /// # Errors
    /// A [`Refusal`], which is told to the machine.
    async fn hand_over(
        &self,
        machine: PublicKey,
        lease: LeaseId,
        job: JobId,
    ) -> Result<SealedJob, Refusal>;
}

/// Why a manifest could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The keeper could not be reached.
    #[error("could not reach the keeper")]
    Dial(#[from] DialError),
    /// The keeper said no.
    #[error("the keeper refused")]
    Refused(#[from] Refusal),
    /// The keeper went away, took too long or sent nonsense.
    #[error("the keeper's answer did not arrive")]
    Answer(#[from] FrameError),
    /// What it sent is no sealed job.
    #[error("the keeper sent a bad envelope")]
    Envelope(#[from] api::envelope::EnvelopeError),
}

impl FetchError {
    /// Returns whether asking again later can help.
    pub const fn is_passing(&self) -> bool {
        match self {
            Self::Dial(error) => !matches!(error, DialError::BadKey { .. }),
            Self::Refused(refusal) => refusal.code().is_passing(),
            Self::Answer(error) => !error.is_violation(),
            Self::Envelope(_) => false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Request {
    lease: LeaseId,
    job: JobId,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
enum Response {
    HandedOver(SealedJob),
    Refused(Refusal),
}

/// Reads bytes as each thing that this protocol's frames hold.
pub(crate) fn read_any(frame: &[u8]) {
    crate::fuzz::canonical::<Request>(frame);
    crate::fuzz::canonical::<Response>(frame);
}

/// Asks a keeper once for the sealed manifest of `lease`, within `within` in all.
///
/// # Errors
/// [`FetchError`]; retrying is the caller's choice.
pub async fn fetch_manifest(
    endpoint: &Endpoint,
    keeper: &Peer,
    lease: LeaseId,
    job: JobId,
    within: Duration,
) -> Result<SealedJob, FetchError> {
    let deadline = Instant::now() + within;
    let connection = endpoint.dial(keeper, ALPN, within).await?;
    let asked = async {
        let (mut send, recv) = connection
            .open_bi()
            .await
            .map_err(|error| FrameError::Cut(error.into()))?;
        frame::write(&mut send, &Request { lease, job }, within).await?;
        drop(send.finish());
        FrameReader::new(recv, RESPONSE_BYTES_MAX)
            .next(within)
            .await
    };
    let response = timeout_at(deadline, asked)
        .await
        .unwrap_or(Err(FrameError::Silent { after: within }));
    connection.close(VarInt::from_u32(0), b"done");
    match response? {
        Response::HandedOver(job) => Ok(SealedJob::decode(&job.encode())?),
        Response::Refused(refusal) => Err(refusal.into()),
    }
}

/// Serves one request.
pub(crate) async fn serve(
    source: &dyn ManifestSource,
    limits: &Limits,
    machine: PublicKey,
    requests: &mut FrameReader,
    send: &mut SendStream,
) -> Result<(), FrameError> {
    let response = match requests.next(limits.request).await {
        Ok(Request { lease, job }) => {
            match timeout(limits.source, source.hand_over(machine, lease, job)).await {
                Ok(Ok(job)) => Response::HandedOver(job),
                Ok(Err(refusal)) => Response::Refused(refusal),
                Err(_) => Response::Refused(Refusal::new(
                    RefusalCode::Unavailable,
                    "the keeper took too long",
                )),
            }
        }
        Err(error @ FrameError::Cut(_)) => return Err(error),
        Err(error) => Response::Refused(Refusal::new(RefusalCode::BadRequest, error.to_string())),
    };
    frame::write(send, &response, limits.stall).await
}
