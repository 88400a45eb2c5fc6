//! What the fuzz targets call: the parsers behind a stream, without a stream.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::BytesMut;

use crate::frame::{REQUEST_BYTES_MAX, Taken, take_frame};
use crate::{logs, manifest};

/// Reads bytes as a row of frames, and each frame as everything that a frame can be.
pub fn frames(bytes: &[u8]) {
    let mut pending = BytesMut::from(bytes);
    while let Ok(Taken::Frame(frame)) = take_frame(&mut pending, REQUEST_BYTES_MAX * 64) {
        logs::read_any(&frame);
        manifest::read_any(&frame);
    }
}

/// Reads a value; one that is accepted must survive its own encoding. (A refusal's text is cleaned when it is read, so
/// its bytes may differ.)
pub(crate) fn canonical<T: BorshSerialize + BorshDeserialize + PartialEq>(bytes: &[u8]) {
    let Ok(value) = borsh::from_slice::<T>(bytes) else {
        return;
    };
    let again = borsh::to_vec(&value).expect("encoding to memory does not fail");
    let same = borsh::from_slice::<T>(&again).is_ok_and(|again| again == value);
    assert!(same, "a frame does not survive its own encoding");
}
