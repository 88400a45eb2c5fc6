//! The tenant's side.

use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, VarInt};
use market::{LeaseId, SignedGrant};
use tokio::time::{Instant, sleep};

use super::wire::{
    ALPN, CHUNK_BYTES_MAX, FRAME_BYTES_MAX, LogEnd, LogFrame, LogOffsets, LogRequest, LogStream,
    LogStreams,
};
use crate::endpoint::{DialError, Endpoint, Peer};
use crate::frame::{self, FrameError, FrameReader};
use crate::refusal::Refusal;

/// For a machine to answer the dial.
const DIAL_DEADLINE: Duration = Duration::from_secs(10);
/// For a machine to take the request.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Silence after which a machine counts as gone: it sends a keepalive every four seconds.
const SILENCE_MAX: Duration = Duration::from_secs(13);
/// Attempts in a row that bring nothing new. With the pauses between them, an agent has about 15 s to restart.
const ATTEMPTS_MAX: u32 = 8;
/// Pause before the second attempt; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause between attempts.
const PAUSE_MAX: Duration = Duration::from_secs(4);
/// A connection that lived this long was no failed attempt, even if the workload was silent.
const LONG_LIVED: Duration = Duration::from_secs(30);

/// What to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// Of which lease.
    pub lease: LeaseId,
    /// Which streams.
    pub streams: LogStreams,
    /// From where.
    pub from: LogOffsets,
    /// Whether to wait for more until the workload ends.
    pub follow: bool,
}

/// A piece of output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Which stream wrote it.
    pub stream: LogStream,
    /// Where `bytes` begin in the stream.
    pub offset: u64,
    /// How many bytes just before are gone for ever: the machine keeps the beginning and the latest part.
    pub dropped: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// What a reader of logs learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// Output.
    Piece(LogPiece),
    /// No more comes; repeated when asked again.
    End(LogEnd),
}

/// Why logs cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The machine said no.
    #[error("the machine refused")]
    Refused(#[source] Refusal),
    /// The machine broke the protocol.
    #[error("the machine sent nonsense")]
    Violation(#[source] FrameError),
    /// The machine could not be reached in several attempts; this was the last.
    #[error("could not reach the machine in {attempts} attempts")]
    Unreachable {
        /// How many.
        attempts: u32,
        /// Why the last one failed.
        #[source]
        last: AttemptError,
    },
}

/// Why one attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// It could not be dialled.
    #[error(transparent)]
    Dial(DialError),
    /// It said that it is busy.
    #[error(transparent)]
    Busy(Refusal),
    /// It was cut or fell silent.
    #[error(transparent)]
    Cut(FrameError),
}

/// Reads a workload's logs from its machine, and resumes by itself where it was cut.
///
/// Dropping a future of [`LogClient::next`] loses no output; while it dials, the dial begins anew.
#[derive(Debug)]
pub struct LogClient<'a> {
    endpoint: &'a Endpoint,
    machine: Peer,
    grant: SignedGrant,
    query: LogQuery,
    open: Option<OpenStream>,
    /// Attempts in a row that brought nothing new.
    failed: u32,
    not_before: Instant,
    end: Option<LogEnd>,
}

#[derive(Debug)]
struct OpenStream {
    connection: Connection,
    frames: FrameReader,
    since: Instant,
    heard: Instant,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.connection.close(VarInt::from_u32(0), b"done");
    }
}

impl<'a> LogClient<'a> {
    /// Prepares to read; nothing is dialled yet. The grant must name `endpoint`'s key.
    pub fn new(endpoint: &'a Endpoint, machine: Peer, grant: SignedGrant, query: LogQuery) -> Self {
        Self {
            endpoint,
            machine,
            grant,
            query,
            open: None,
            failed: 0,
            not_before: Instant::now(),
            end: None,
        }
    }

    /// Returns where reading goes on: what to ask for in another session.
    pub const fn offsets(&self) -> LogOffsets {
        self.query.from
    }

    /// Dials elsewhere from the next attempt on, or shows a fresh grant: after [`LogError`], reading can go on.
    pub fn renew(&mut self, machine: Peer, grant: SignedGrant) {
        self.machine = machine;
        self.grant = grant;
        self.open = None;
        self.failed = 0;
        self.not_before = Instant::now();
    }

    /// Returns what comes next.
    ///
    /// # Errors
    /// [`LogError`] when going on by itself is hopeless.
    pub async fn next(&mut self) -> Result<LogEvent, LogError> {
        loop {
            if let Some(end) = self.end {
                return Ok(LogEvent::End(end));
            }
            let frame = match self.next_frame().await {
                Ok(frame) => frame,
                Err(error) => {
                    self.after_failure(error)?;
                    continue;
                }
            };
            match frame {
                LogFrame::Keepalive => {}
                LogFrame::End(end) => {
                    self.open = None;
                    self.end = Some(end);
                }
                LogFrame::Refused(refusal) if refusal.code().is_passing() => {
                    self.after_failure(AttemptError::Busy(refusal))?;
                }
                LogFrame::Refused(refusal) => {
                    self.open = None;
                    return Err(LogError::Refused(refusal));
                }
                LogFrame::Chunk {
                    stream,
                    offset,
                    dropped,
                    bytes,
                } => {
                    let piece = LogPiece {
                        stream,
                        offset,
                        dropped,
                        bytes: bytes.into(),
                    };
                    return self.accept(piece).map(LogEvent::Piece);
                }
            }
        }
    }

    async fn next_frame(&mut self) -> Result<LogFrame, AttemptError> {
        let open = match &mut self.open {
            Some(open) => open,
            closed => {
                tokio::time::sleep_until(self.not_before).await;
                let stream = open_stream(self.endpoint, &self.machine, &self.grant, &self.query);
                closed.insert(stream.await?)
            }
        };
        // Counted from the last frame, so that a caller who asks again and again cannot wait for ever.
        let left = SILENCE_MAX.saturating_sub(open.heard.elapsed());
        let frame = open.frames.next(left).await.map_err(AttemptError::Cut)?;
        open.heard = Instant::now();
        Ok(frame)
    }

    /// Takes a piece only where it continues what we have: a machine cannot make us skip or repeat unawares.
    fn accept(&mut self, piece: LogPiece) -> Result<LogPiece, LogError> {
        let at = self.query.from.of(piece.stream);
        let continues = self.query.streams.contain(piece.stream)
            && at.checked_add(piece.dropped) == Some(piece.offset)
            && piece.bytes.len() <= CHUNK_BYTES_MAX;
        let next = piece.offset.checked_add(piece.bytes.len() as u64);
        match next {
            Some(next) if continues && next > at => {
                self.query.from.set(piece.stream, next);
                self.failed = 0;
                Ok(piece)
            }
            _ => {
                self.open = None;
                Err(LogError::Violation(FrameError::Malformed))
            }
        }
    }

    /// Counts a failed attempt and sets the pause before the next, or gives up.
    fn after_failure(&mut self, error: AttemptError) -> Result<(), LogError> {
        let lived = self.open.take().map(|open| open.since.elapsed());
        if let AttemptError::Cut(error) = error {
            if error.is_violation() {
                return Err(LogError::Violation(error));
            }
            return self.count_failure(lived, AttemptError::Cut(error));
        }
        self.count_failure(lived, error)
    }

    fn count_failure(
        &mut self,
        lived: Option<Duration>,
        last: AttemptError,
    ) -> Result<(), LogError> {
        if lived.is_some_and(|lived| lived >= LONG_LIVED) {
            self.failed = 0;
        }
        self.failed += 1;
        if self.failed >= ATTEMPTS_MAX {
            return Err(LogError::Unreachable {
                attempts: self.failed,
                last,
            });
        }
        let pause = PAUSE_FIRST * 2u32.saturating_pow(self.failed - 1);
        self.not_before = Instant::now() + pause.min(PAUSE_MAX);
        tracing::debug!(error = %last, attempt = self.failed, "log stream was cut; resuming");
        Ok(())
    }
}

async fn open_stream(
    endpoint: &Endpoint,
    machine: &Peer,
    grant: &SignedGrant,
    query: &LogQuery,
) -> Result<OpenStream, AttemptError> {
    let connection = endpoint
        .dial(machine, ALPN, DIAL_DEADLINE)
        .await
        .map_err(AttemptError::Dial)?;
    let request = LogRequest {
        grant: grant.clone(),
        lease: query.lease,
        streams: query.streams,
        from: query.from,
        follow: query.follow,
    };
    let opened = async {
        let (mut send, recv) = tokio::select! {
            stream = connection.open_bi() => stream.map_err(|error| FrameError::Cut(error.into()))?,
            () = sleep(REQUEST_DEADLINE) => return Err(FrameError::Silent { after: REQUEST_DEADLINE }),
        };
        frame::write(&mut send, &request, REQUEST_DEADLINE).await?;
        drop(send.finish());
        Ok(FrameReader::new(recv, FRAME_BYTES_MAX))
    };
    match opened.await {
        Ok(frames) => Ok(OpenStream {
            connection,
            frames,
            since: Instant::now(),
            heard: Instant::now(),
        }),
        Err(error) => Err(AttemptError::Cut(error)),
    }
}
