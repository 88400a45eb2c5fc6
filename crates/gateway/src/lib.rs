//! HTTP on one port: what a node tells and takes, for people and programs.
//!
//! The gateway reads the final ledger and passes signed transactions on; it holds no key that could spend. It reaches
//! the node only through [`node::Handle`], and everything it answers is a view or a problem of the `api` crate.
//!
//! ```text
//!  request ─► connections (shares, head deadline) ─► guard (request id, deadline, shares, rates)
//!          ─► route ─► parse ─► reads (final ledger) ─► view
//!                         └──► node (submit, receipt, events, proof)   any error ─► refusal ─► problem+json
//! ```
//!
//! # Map
//! - [`serve`], [`Config`], [`Server`]: the way in
//! - [`openapi()`]: the description of all routes; [`metrics_page`]: of all metrics
//! - [`Keeper`]: holds encrypted manifests and hands them to the machines of live leases
//! - [`Hooks`]: sends notices of an account's events to addresses that it named
//! - `routes`: one file a noun; `reads`: views of ledger records; `parse`: ids, queries and bodies; `guard`: what
//!   surrounds every request; `replies`: answers given again under an idempotency key; `clients`: who asks, with its share and rate; `refusal`: errors as problems; `stream`:
//!   server-sent events
#![forbid(unsafe_code)]

mod clients;
#[doc(hidden)]
pub mod fuzz;
mod guard;
mod hooks;
mod keeper;
mod metrics;
mod openapi;
mod parse;
mod reads;
mod refusal;
mod replies;
mod routes;
mod server;
mod stall;
mod stream;

pub use clients::{Limits, LocalClients, Rate};
pub use hooks::{Hooks, HooksConfig, HooksError, Reach};
pub use keeper::{Keeper, KeeperConfig, KeeperError};
pub use metrics::page as metrics_page;
pub use openapi::text as openapi;
pub use server::{Config, ServeError, Server, serve};
