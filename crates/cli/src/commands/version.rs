//! `tradewind version`.

use serde::Serialize;

use crate::context::Context;
use crate::error::{Result, exit};

/// Say which version this is
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    target: &'static str,
}

pub(crate) fn run(context: &Context) -> Result<u8> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        target: std::env::consts::ARCH,
    };
    let line = format!("tradewind {} {}\n", version.version, version.target);
    context.output.thing(&version, version.version, &line)?;
    Ok(exit::DONE)
}
