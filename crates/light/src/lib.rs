//! The light client: from one pinned group key to a record of the ledger, without trusting who answers.
//!
//! A [`Bundle`] is a chain of checks: the *certificate* (one threshold signature of the validators) names a block; the
//! block's [`Header`] names the root of the state; the *state proof* shows that a record is in that state, or that none
//! is. Whoever holds the network's name and its group key ([`Pinned`]) verifies all of it in a few milliseconds:
//!
//! ```text
//! group key ── certificate ── header (── header …) ── state root ── record, or its absence
//! ```
//!
//! Only *finalizations* are accepted: with deferred verification a notarization does not say that the block's content
//! was checked. A proof says what was so at [`Verified::time_ms`], not that nothing happened since: use
//! [`Verified::require_fresh`].
//!
//! This crate uses the engine's codecs, signatures and proof maths, and none of its actors.
#![forbid(unsafe_code)]

mod bundle;
mod header;
mod merkle;

pub use bundle::{
    Absent, BUNDLE_BYTES_MAX, Bundle, Claim, Finalization, Pinned, Present, Refused, Scheme, Stale,
    Value, Verified, verify,
};
pub use header::{
    Digest, GENESIS_VIEW, HEADER_VERSION, Header, Round, SEED_BYTES, Seed, Validator,
};
pub use merkle::merkle_root;

/// Longest record value on the ledger, in bytes.
///
/// A job's record with a full requirement and its keepers is the largest known, about 8 KiB; this leaves room.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// Prefix of a network's name in everything that its validators sign.
const NAMESPACE: &[u8] = b"tradewind/consensus/";

/// Returns the bytes that separate this network's certificates from those of any other.
pub fn namespace(network: &str) -> Vec<u8> {
    [NAMESPACE, network.as_bytes()].concat()
}
