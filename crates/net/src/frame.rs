//! Length-prefixed frames on a QUIC stream.

use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::{Buf as _, BytesMut};
use iroh::endpoint::{ReadError, RecvStream, SendStream, WriteError};
use tokio::time::timeout;

/// Length prefix of a frame.
const HEAD_BYTES: usize = 4;
/// Largest request: a grant is about 160 bytes.
pub(crate) const REQUEST_BYTES_MAX: usize = 1024;

/// Why a frame did not arrive or leave.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer announces more than it may send.
    #[error("peer announces a frame of {bytes} bytes, more than {max}")]
    TooLong {
        /// The announced length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The stream ends within a frame, or before the frame that was due.
    #[error("peer ended the stream too early")]
    Truncated,
    /// The bytes are not what belongs here.
    #[error("peer sent a frame that makes no sense here")]
    Malformed,
    /// The peer reset the stream or refuses to read it, or the connection was lost.
    #[error("connection was cut")]
    Cut(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The peer took too long.
    #[error("peer was silent for {after:?}")]
    Silent {
        /// How long it was given.
        after: Duration,
    },
}

impl FrameError {
    /// Returns whether the peer broke the protocol, rather than went away.
    pub const fn is_violation(&self) -> bool {
        matches!(self, Self::TooLong { .. } | Self::Malformed)
    }
}

impl From<ReadError> for FrameError {
    fn from(error: ReadError) -> Self {
        Self::Cut(error.into())
    }
}

impl From<WriteError> for FrameError {
    fn from(error: WriteError) -> Self {
        Self::Cut(error.into())
    }
}

/// Reads frames of one bound. Dropping a future of it loses nothing.
#[derive(Debug)]
pub(crate) struct FrameReader {
    stream: RecvStream,
    max: usize,
    pending: BytesMut,
}

impl FrameReader {
    pub(crate) fn new(stream: RecvStream, max: usize) -> Self {
        Self {
            stream,
            max,
            pending: BytesMut::new(),
        }
    }

    /// Returns the next frame; an ended stream is [`FrameError::Truncated`], as every stream has a final frame.
    pub(crate) async fn next<T: BorshDeserialize>(
        &mut self,
        within: Duration,
    ) -> Result<T, FrameError> {
        let frame = timeout(within, self.next_bytes())
            .await
            .map_err(|_| FrameError::Silent { after: within })??;
        borsh::from_slice(&frame).map_err(|_| FrameError::Malformed)
    }

    async fn next_bytes(&mut self) -> Result<BytesMut, FrameError> {
        loop {
            let missing = match take_frame(&mut self.pending, self.max)? {
                Taken::Frame(frame) => return Ok(frame),
                Taken::Missing(bytes) => bytes,
            };
            match self.stream.read_chunk(missing).await? {
                Some(chunk) => self.pending.extend_from_slice(&chunk),
                None => return Err(FrameError::Truncated),
            }
        }
    }
}

/// What [`take_frame`] found.
#[derive(Debug)]
pub(crate) enum Taken {
    Frame(BytesMut),
    Missing(usize),
}

/// Takes a whole frame off `pending`, or says how many bytes are missing at least.
pub(crate) fn take_frame(pending: &mut BytesMut, max: usize) -> Result<Taken, FrameError> {
    let Some(head) = pending.first_chunk::<HEAD_BYTES>() else {
        return Ok(Taken::Missing(HEAD_BYTES - pending.len()));
    };
    let bytes = u32::from_le_bytes(*head) as usize;
    if bytes > max {
        return Err(FrameError::TooLong { bytes, max });
    }
    let missing = (HEAD_BYTES + bytes).saturating_sub(pending.len());
    if missing > 0 {
        return Ok(Taken::Missing(missing));
    }
    pending.advance(HEAD_BYTES);
    Ok(Taken::Frame(pending.split_to(bytes)))
}

/// Writes one frame; a peer that does not take it within `stall` is an error.
pub(crate) async fn write<T: BorshSerialize>(
    stream: &mut SendStream,
    value: &T,
    stall: Duration,
) -> Result<(), FrameError> {
    let bytes = frame_bytes(value);
    timeout(stall, stream.write_all(&bytes))
        .await
        .map_err(|_| FrameError::Silent { after: stall })?
        .map_err(FrameError::from)
}

fn frame_bytes<T: BorshSerialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    value
        .serialize(&mut bytes)
        .expect("encoding to memory does not fail");
    let length = u32::try_from(bytes.len() - HEAD_BYTES).expect("our frames are far shorter");
    bytes[..HEAD_BYTES].copy_from_slice(&length.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_announced_excess_is_refused_before_it_arrives() {
        let mut pending = BytesMut::from(&1025u32.to_le_bytes()[..]);
        let error = take_frame(&mut pending, 1024).unwrap_err();
        assert!(matches!(
            error,
            FrameError::TooLong {
                bytes: 1025,
                max: 1024
            }
        ));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cutting(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6), cut in 1..9usize) {
            let wire: Vec<u8> = frames.iter().flat_map(frame_bytes).collect();
            let mut pending = BytesMut::new();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                pending.extend_from_slice(piece);
                while let Taken::Frame(frame) = take_frame(&mut pending, 64).unwrap() {
                    seen.push(borsh::from_slice::<Vec<u8>>(&frame).unwrap());
                }
            }
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn garbage_never_asks_for_more_than_the_bound(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut pending = BytesMut::from(&bytes[..]);
            if let Ok(Taken::Missing(missing)) = take_frame(&mut pending, 1024) {
                prop_assert!(missing <= HEAD_BYTES + 1024);
            }
        }
    }
}
