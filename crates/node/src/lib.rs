//! A validator: engine, mempool, executor, store, history.
//!
//! One [`Node`] runs the engine on threads of its own; everyone else holds a [`Handle`].
//!
//! ```text
//!  Handle::submit ─► pool ─► pace ─► app ─► executor ─► market      (speculative, can be undone)
//!                                     │        └► writes ─► state   (authenticated store, roots in the header)
//!                              engine: simplex + marshal
//!                                     │ final
//!                                     ▼
//!                       ledger ─► history (SQLite) ─► readable market ─► receipts, subscribers
//! ```
//!
//! # Map
//! - what others use: [`Node`], [`Handle`], [`Subscription`], [`Filter`]
//! - the engine, kept in few files: `engine` (wiring), `app` (the application), `chain` (blocks), `state` (the store),
//!   `solo` (keys of a single validator), `null_net` (its network), `beacon`, `pace`, `proofs`
//! - ours: `pool`, `executor`, `ledger`, `history`, `folder`
//!
//! # What a crash leaves
//! A block is in the history before it is in the store, and is delivered again until it is durable in the store. So a
//! process that is killed at any instant loses no final transaction and applies none twice. What waited in the pool is
//! lost; whoever submitted it sees no receipt and submits it again, which its nonce makes safe.

mod app;
mod beacon;
mod chain;
mod engine;
mod executor;
mod folder;
mod gossip;
mod handle;
mod history;
mod ledger;
mod members;
mod no_sync;
mod node;
mod null_net;
mod pace;
mod peers;
mod pool;
mod proofs;
mod solo;
mod state;

pub use chain::{BadBlock, read_block};
pub use folder::{FORMAT_VERSION, FolderError};
pub use handle::{EXPIRY_MAX, Ended, Handle, Status, SubmitError, Subscription, WaitError};
pub use history::{Filter, FinalBlock, HistoryError, Included, PAGE_MAX, Subject, kind_tag};
pub use ledger::Head;
pub use members::{DealError, Members, MembersError, VALIDATORS_MAX, VALIDATORS_MIN, deal_network};
#[doc(hidden)]
pub use node::Lab;
pub use node::{Config, Node, StartError, StopError};
pub use pool::PoolFull;
pub use proofs::ProofError;
pub use solo::KeyError;
