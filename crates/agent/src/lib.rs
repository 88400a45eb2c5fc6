//! A provider: a pure core and the driver around it.
//!
//! # Map
//! - what decides, without IO and clock: [`core`], [`beats`], [`pricing`]
//! - what tenants may name: [`images`]
//! - what the machine has: [`inventory`]
//! - what survives a restart: [`journal`]
//! - what Prometheus reads: [`metrics`]
//! - what acts: [`run`] (in `driver`), [`run_bidder`], [`steward`], `logs`, `submit`
//! - what a provider does once: [`setup`]
#![forbid(unsafe_code)]

pub mod beats;
mod bidder;
pub mod core;
mod driver;
pub mod images;
pub mod inventory;
pub mod journal;
mod logs;
pub mod metrics;
pub mod pricing;
pub mod setup;
pub mod steward;
mod submit;

pub use bidder::{Bidder, run_bidder};
pub use driver::{Bidding, Config, RunError, run};
pub use inventory::probe_gpus_main;
pub use submit::{SubmitError, Submitter};
