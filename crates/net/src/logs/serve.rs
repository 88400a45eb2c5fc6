//! The machine's side.

use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use iroh::endpoint::SendStream;
use market::{LeaseId, NetworkName, PublicKey, Rights, SignedGrant, Timestamp};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use super::wire::{CHUNK_BYTES_MAX, LogEnd, LogFrame, LogOffsets, LogRequest, LogStream};
use crate::frame::{self, FrameError, FrameReader};
use crate::limits::Limits;
use crate::refusal::{Refusal, RefusalCode};

/// How long the default [`LogSource::more`] waits: a reader hardly sees it, and a machine hardly feels it.
const MORE_PAUSE: Duration = Duration::from_millis(100);

/// A piece of a workload's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Where `bytes` begin; later than asked for where that part was dropped.
    pub offset: u64,
    /// The bytes; empty where nothing was written past `offset` yet.
    pub bytes: Vec<u8>,
    /// Whether the workload has ended and nothing comes after `bytes`.
    pub ended: bool,
}

/// What a machine serves logs from.
#[async_trait]
pub trait LogSource: Send + Sync + 'static {
    /// Says whether the grant's signer may act for the tenant of the grant's lease, and whether that lease is or was
    /// here. Signature, expiry, right and endpoint key have been checked. Asked again while a lease is followed.
    ///
    /// # Errors
    /// A [`Refusal`], which is told to the tenant.
    async fn authorize(&self, grant: &SignedGrant, remote: PublicKey) -> Result<(), Refusal>;

    /// Returns up to `max` bytes of `stream` from `offset` on.
    ///
    /// # Errors
    /// A [`Refusal`], which is told to the tenant.
    async fn read(
        &self,
        lease: LeaseId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk, Refusal>;

    /// Returns when there may be more to read of `lease`; too early does no harm. By default after a short pause.
    async fn more(&self, lease: LeaseId) {
        let _: LeaseId = lease;
        sleep(MORE_PAUSE).await;
    }
}

/// Serves one log stream.
pub(crate) struct LogStreamServer<'a> {
    pub(crate) network: &'a NetworkName,
    pub(crate) source: &'a dyn LogSource,
    pub(crate) limits: &'a Limits,
    pub(crate) places: &'a Semaphore,
    pub(crate) remote: PublicKey,
}

/// Why a stream ends before its final frame.
enum Stop {
    /// Tell the peer.
    Refuse(Refusal),
    /// There is nobody to tell.
    Gone(FrameError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<FrameError> for Stop {
    fn from(error: FrameError) -> Self {
        Self::Gone(error)
    }
}

impl LogStreamServer<'_> {
    /// Reads the request and serves it.
    pub(crate) async fn run(
        &self,
        requests: &mut FrameReader,
        send: &mut SendStream,
    ) -> Result<(), FrameError> {
        let last = match self.answer(requests, send).await {
            Ok(end) => LogFrame::End(end),
            Err(Stop::Refuse(refusal)) => LogFrame::Refused(refusal),
            Err(Stop::Gone(error)) => return Err(error),
        };
        frame::write(send, &last, self.limits.stall).await
    }

    async fn answer(
        &self,
        requests: &mut FrameReader,
        send: &mut SendStream,
    ) -> Result<LogEnd, Stop> {
        let request: LogRequest = match requests.next(self.limits.request).await {
            Ok(request) => request,
            Err(error @ FrameError::Cut(_)) => return Err(error.into()),
            Err(error) => {
                return Err(Refusal::new(RefusalCode::BadRequest, error.to_string()).into());
            }
        };
        self.check(&request).await?;
        // Only now: whoever may not read takes nobody's place.
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Refusal::new(RefusalCode::Busy, "too many readers of logs").into());
        };
        let stopped = send.stopped();
        tokio::select! {
            end = self.stream(&request, send) => end,
            // The reader has gone: do not wait for output to find out.
            _ = stopped => Err(FrameError::Truncated.into()),
            () = sleep(self.limits.stream_total) => {
                Err(Refusal::new(RefusalCode::Busy, "the stream has run for too long; resume it").into())
            }
        }
    }

    /// Sends output until it is over, the reader is content, or it may no longer read.
    async fn stream(&self, request: &LogRequest, send: &mut SendStream) -> Result<LogEnd, Stop> {
        let mut at = request.from;
        let mut sent_at = Instant::now();
        let mut checked_at = Instant::now();
        loop {
            let round = self.send_round(request, &mut at, send).await?;
            if round.ended {
                return Ok(LogEnd::WorkloadEnded);
            }
            if round.bytes > 0 {
                sent_at = Instant::now();
            } else if !request.follow {
                return Ok(LogEnd::CaughtUp);
            } else {
                // Whatever the source does, a keepalive is due in time.
                let due = self.limits.keepalive.saturating_sub(sent_at.elapsed());
                drop(timeout(due, self.source.more(request.lease)).await);
            }
            if sent_at.elapsed() >= self.limits.keepalive {
                frame::write(send, &LogFrame::Keepalive, self.limits.stall).await?;
                sent_at = Instant::now();
            }
            check_expiry(&request.grant, now())?;
            if checked_at.elapsed() >= self.limits.recheck {
                self.authorize(&request.grant).await?;
                checked_at = Instant::now();
            }
        }
    }

    /// Sends at most one chunk of each stream.
    async fn send_round(
        &self,
        request: &LogRequest,
        at: &mut LogOffsets,
        send: &mut SendStream,
    ) -> Result<Round, Stop> {
        let mut round = Round {
            bytes: 0,
            ended: true,
        };
        for stream in LogStream::BOTH {
            if !request.streams.contain(stream) {
                continue;
            }
            let from = at.of(stream);
            let chunk = self.read(request.lease, stream, from).await?;
            round.bytes += chunk.bytes.len();
            round.ended &= chunk.ended;
            let next = chunk.offset + chunk.bytes.len() as u64;
            if next == from {
                continue;
            }
            let frame = LogFrame::Chunk {
                stream,
                offset: chunk.offset,
                dropped: chunk.offset - from,
                bytes: chunk.bytes,
            };
            frame::write(send, &frame, self.limits.stall).await?;
            at.set(stream, next);
        }
        Ok(round)
    }

    async fn read(
        &self,
        lease: LeaseId,
        stream: LogStream,
        from: u64,
    ) -> Result<LogChunk, Refusal> {
        let chunk = self.source.read(lease, stream, from, CHUNK_BYTES_MAX);
        let chunk = timeout(self.limits.source, chunk)
            .await
            .map_err(|_| Refusal::new(RefusalCode::Unavailable, "reading took too long"))??;
        let fits = chunk.bytes.len() <= CHUNK_BYTES_MAX;
        let follows =
            chunk.offset >= from && chunk.offset.checked_add(chunk.bytes.len() as u64).is_some();
        if !(fits && follows) {
            tracing::error!(%lease, %stream, from, offset = chunk.offset, "log source broke its promise");
            return Err(Refusal::new(
                RefusalCode::Unavailable,
                "logs cannot be read",
            ));
        }
        Ok(chunk)
    }

    async fn check(&self, request: &LogRequest) -> Result<(), Refusal> {
        let not = |text: &str| Err(Refusal::new(RefusalCode::NotAuthorized, text));
        let SignedGrant { grant, .. } = &request.grant;
        if request.grant.verify(self.network).is_err() {
            return not("the grant's signature does not fit");
        }
        if grant.endpoint != self.remote {
            return not("the grant is for another endpoint key");
        }
        if grant.lease != request.lease {
            return not("the grant is for another lease");
        }
        if !grant.rights.allow(Rights::LOGS) {
            return not("the grant does not allow reading logs");
        }
        check_expiry(&request.grant, now())?;
        self.authorize(&request.grant).await
    }

    async fn authorize(&self, grant: &SignedGrant) -> Result<(), Refusal> {
        timeout(
            self.limits.source,
            self.source.authorize(grant, self.remote),
        )
        .await
        .map_err(|_| Refusal::new(RefusalCode::Unavailable, "authorizing took too long"))?
    }
}

/// What one round over the streams did.
struct Round {
    bytes: usize,
    ended: bool,
}

fn check_expiry(grant: &SignedGrant, now: Timestamp) -> Result<(), Refusal> {
    if grant.grant.expires_at <= now {
        return Err(Refusal::new(
            RefusalCode::ExpiredGrant,
            "the grant has expired",
        ));
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
