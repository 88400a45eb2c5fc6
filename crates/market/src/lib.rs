//! The exchange as a pure, deterministic state machine.
//!
//! One [`SignedTx`] goes in, [`Event`]s come out. There is no clock, no IO, no float and no hash map in here: time is
//! an argument ([`BlockCtx`]), money is integer micro-dollars ([`Money`]), and every table iterates in key order, so
//! the same blocks give the same state and the same root on every machine.
//!
//! # Invariants
//! [`invariants::check`] says them in code: money is conserved; every balance is the sum of the records behind it; a
//! device is in one lease; a job is never charged above its budget; whatever is not final has a deadline.
//!
//! # Example
//! ```
//! use market::*;
//!
//! let treasurer = PublicKey::from_bytes([1; 32]);
//! let genesis = Genesis {
//!     network: NetworkName::parse("example").unwrap(),
//!     time: Timestamp::from_unix_millis(0),
//!     treasurers: vec![treasurer],
//!     params: Params::default(),
//! };
//! let mut market = Market::genesis(&genesis).unwrap();
//!
//! // One block with one transaction. Its signature was checked when it arrived; the market does not look at it.
//! let alice = AccountId::of(PublicKey::from_bytes([2; 32]));
//! let amount = Money::from_dollars(25);
//! let call = Tx::Issue { to: alice, amount, reference: Digest::of(&[b"invoice 1"]) };
//! let body = TxBody { signer: treasurer, nonce: 0, expires_at: Timestamp::MAX, call };
//! let tx = SignedTx { version: codec::TX_VERSION, body, signature: Signature([0; 64]) };
//! let ctx = BlockCtx { height: Height::from_number(1), time: Timestamp::from_unix_millis(5), seed: None };
//! let outcome = market.execute(&ctx, &[tx]).unwrap();
//!
//! assert_eq!(outcome.receipts[0].result, Ok(()));
//! assert_eq!(market.account(alice).unwrap().available, amount);
//! assert!(market.undo_block());
//! assert!(market.account(alice).is_none());
//! ```
//!
//! # Map
//! - quantities and names: [`units`], [`ids`]
//! - what goes in and comes out: [`tx`], [`event`], [`reject`], [`codec`], [`grant`]
//! - what is on the ledger: [`records`]
//! - tunables: [`params`]
//! - the state and its queries: [`state`]; running blocks over it: [`apply`]; why nothing matches: [`explain`]
//! - money: `money/` (double entry, treasurers, bills); providers, machines, beats, offers: `supply/`; jobs, orders,
//!   bids, placement, leases: `demand/`; who may do what: `keys`
//! - underneath: `table` (journaled maps, on `spread`), `rows` (which tables there are), `index` (what is derived from them, with
//!   `load`, `glance` and `timer`)
#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

pub mod apply;
pub mod codec;
mod demand;
pub mod event;
pub mod explain;
mod glance;
pub mod grant;
pub mod ids;
mod index;
pub mod invariants;
mod keys;
mod load;
mod money;
pub mod params;
pub mod records;
pub mod reject;
mod rows;
mod spread;
pub mod state;
mod supply;
mod table;
mod timer;
pub mod tx;
pub mod units;

pub use apply::{BlockCtx, BlockError, BlockOutcome, Receipt};
pub use codec::{BadSignature, BadTx, Digest, PublicKey, Signature, SignedTx, TxBody, TxId};
pub use event::{BidEnd, Event, EventKind, LeasePhase, Purpose, Slot};
pub use explain::{Explanation, OfferMatch, Relaxation};
pub use grant::{Grant, Rights, SignedGrant};
pub use ids::*;
pub use keys::{Admission, RoleNeeded};
pub use params::{Genesis, NetworkName, Params};
pub use records::*;
pub use reject::{Inadmissible, Reject};
pub use state::{ChangeSet, GenesisError, LoadError, Market};
pub use tx::*;
pub use units::*;
