//! Benches that are programs of their own: `benches/` of the crate that they measure.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};

use super::Report;
use crate::shop::Shop;

/// A bench program: the words that have Cargo build and run it.
pub(super) struct Program(&'static [&'static str]);

/// The state machine alone.
pub(super) const MARKET: Program = Program(&["-p", "market", "--bench", "market"]);

/// A whole node. All of the workspace, because Cargo would choose other features for the node alone and build its engine
/// anew, which takes minutes.
pub(super) const LEDGER: Program = Program(&["--workspace", "--bench", "ledger"]);

/// Several validators, each a process.
pub(super) const NETWORK: Program = Program(&["--workspace", "--bench", "network"]);

impl Program {
    /// Runs it with these options. What it says while it goes on is passed on; its last line is its report.
    pub(super) fn run(&self, shop: &Shop, options: &[&str]) -> Result<Report> {
        let mut command = shop.cargo(&["bench", "--locked"]);
        command.args(self.0).arg("--").args(options);
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.context("could not start the bench")?;
        ensure!(
            output.status.success(),
            "the bench ended with {}",
            output.status
        );
        let said = String::from_utf8(output.stdout).context("the bench wrote no text")?;
        let report = said.lines().last().context("the bench reported nothing")?;
        serde_json::from_str(report).context("the bench's last line is no report")
    }
}
