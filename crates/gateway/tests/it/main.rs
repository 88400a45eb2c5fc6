//! The gateway over real HTTP, in front of a real node.

mod bad_input;
mod events;
mod keeper;
mod ledger;
mod world;
