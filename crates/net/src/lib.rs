//! The data plane between tenant, keeper and machine.
//!
//! QUIC dialled by public key: an [`Endpoint`] has an Ed25519 key, and whoever dials it knows that key from the
//! ledger. No relay, no DNS and no discovery: the ledger carries the addresses too.
//!
//! # Map
//! - [`Endpoint`], [`Peer`]: bind, dial, serve, close
//! - [`manifest`]: a machine fetches the sealed manifest of its lease from a keeper
//! - [`logs`]: a tenant reads a workload's output, resumable by offset
//! - [`Refusal`]: the typed no of either
//!
//! # How a stream runs
//! The dialler opens a stream, writes one request frame and reads response frames. A frame is a length (four bytes,
//! little-endian) and that many bytes of borsh; its bound depends on who sends it. The version is in the protocol's
//! name. Every wait has a deadline ([`Limits`]), and every task is joined by [`Endpoint::close`].

mod endpoint;
mod frame;
#[doc(hidden)]
pub mod fuzz;
mod limits;
pub mod logs;
pub mod manifest;
mod refusal;
mod serve;

pub use endpoint::{BindError, BindOptions, DialError, Endpoint, Peer, Scope};
pub use frame::FrameError;
pub use limits::Limits;
pub use refusal::{Refusal, RefusalCode};
pub use serve::Services;
