//! A real node in a temporary folder.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test may fail and say so"
)]

mod crash;
mod folder;
mod light_client;
mod measure;
mod pool;
mod several;
mod solo;
mod world;
