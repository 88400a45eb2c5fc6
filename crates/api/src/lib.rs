//! The public contract: views, problems, the sealed manifest and the Rust client.
//!
//! Everything that a tenant, a provider's agent or a third party needs to talk to a gateway is here, and nothing else
//! is used by our own command line and agent.
//!
//! # Map
//! - [`view`]: what the gateway answers, as serde types over the ledger's own ids and quantities
//! - [`problem`]: every error as an RFC 9457 problem, with a stable [`Code`]
//! - [`manifest`]: what a job runs; never on the ledger
//! - [`jobfile`]: the same as people write it, with what it may cost; its JSON Schema
//! - [`envelope`]: how a manifest and its key are sealed to keepers and machines
//! - [`claim`]: how a tenant shows that a manifest is its own before the job is on the ledger
//! - [`hook`]: signed requests for notices of an account's events, and how a receiver checks one
//! - [`client`]: the HTTP client, with its resumable [`EventStream`]

pub mod claim;
pub mod client;
pub mod envelope;
pub mod hook;
pub mod jobfile;
pub mod manifest;
pub mod problem;
pub mod view;

pub use claim::ManifestClaim;
pub use client::{Client, ClientError, EventFilter, EventStream, OfferFilter, Wait};
pub use problem::{Code, Problem};
pub use view::*;
