//! What the two sides say to each other.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use market::{LeaseId, SignedGrant};

use crate::refusal::Refusal;

/// The protocol's name and version.
pub const ALPN: &[u8] = b"tradewind/logs/1";
/// Most bytes of output in one frame.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;
/// Largest frame from the machine: a chunk with tag, stream, offset, truncation and length.
pub(crate) const FRAME_BYTES_MAX: usize = CHUNK_BYTES_MAX + 32;

/// One of the two things a program writes to.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl LogStream {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::Stdout, Self::Stderr];
}

impl fmt::Display for LogStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        })
    }
}

/// Which streams to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LogStreams {
    /// One of them.
    Only(LogStream),
    /// Both.
    Both,
}

impl LogStreams {
    /// Returns whether `stream` is among them.
    pub fn contain(self, stream: LogStream) -> bool {
        match self {
            Self::Only(only) => only == stream,
            Self::Both => true,
        }
    }
}

/// Where to read on, in each stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LogOffsets {
    /// In standard output.
    pub stdout: u64,
    /// In standard error.
    pub stderr: u64,
}

impl LogOffsets {
    /// Returns the offset of `stream`.
    pub const fn of(&self, stream: LogStream) -> u64 {
        match stream {
            LogStream::Stdout => self.stdout,
            LogStream::Stderr => self.stderr,
        }
    }

    pub(crate) const fn set(&mut self, stream: LogStream, offset: u64) {
        match stream {
            LogStream::Stdout => self.stdout = offset,
            LogStream::Stderr => self.stderr = offset,
        }
    }
}

/// Why no more output comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LogEnd {
    /// The workload has ended, and everything it wrote was sent.
    WorkloadEnded,
    /// Everything written so far was sent, and the reader did not want to follow.
    CaughtUp,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct LogRequest {
    pub(crate) grant: SignedGrant,
    pub(crate) lease: LeaseId,
    pub(crate) streams: LogStreams,
    pub(crate) from: LogOffsets,
    pub(crate) follow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) enum LogFrame {
    /// Output; `offset` is where `bytes` begin, `dropped` how many bytes before it are gone for ever.
    Chunk {
        stream: LogStream,
        offset: u64,
        dropped: u64,
        bytes: Vec<u8>,
    },
    /// Nothing to say, still here.
    Keepalive,
    /// The last frame.
    End(LogEnd),
    /// The last frame, too.
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_chunk_fits_a_frame_and_an_empty_request_its_bound() {
        let frame = LogFrame::Chunk {
            stream: LogStream::Stderr,
            offset: u64::MAX,
            dropped: u64::MAX,
            bytes: vec![0; CHUNK_BYTES_MAX],
        };
        assert!(borsh::to_vec(&frame).unwrap().len() <= FRAME_BYTES_MAX);
    }
}
