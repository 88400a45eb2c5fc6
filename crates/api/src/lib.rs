//! The public contract: views, problems, the sealed manifest and the Rust client.

pub mod envelope;
pub mod manifest;
