//! `tradewind/logs/1`: a tenant reads a workload's output straight from the machine.
//!
//! The tenant shows a signed grant for the lease and its own endpoint key, and names the offsets to read from. Chunks
//! of both streams come interleaved, each with its stream and offset, so a reader that was cut resumes where it was.
//! The last frame says why no more comes. [`LogClient`] does all of it; [`LogSource`] is the machine's side.

mod client;
pub(crate) mod serve;
mod wire;

pub use client::{AttemptError, LogClient, LogError, LogEvent, LogPiece, LogQuery};
pub use serve::{LogChunk, LogSource};
pub use wire::{ALPN, CHUNK_BYTES_MAX, LogEnd, LogOffsets, LogStream, LogStreams};

/// Reads bytes as each thing that this protocol's frames hold; what is accepted must encode back to the same bytes.
pub(crate) fn read_any(frame: &[u8]) {
    crate::fuzz::canonical::<wire::LogRequest>(frame);
    crate::fuzz::canonical::<wire::LogFrame>(frame);
}
