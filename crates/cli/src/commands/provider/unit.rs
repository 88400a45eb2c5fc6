//! `tradewind provider unit`: the systemd unit of an agent, with this machine's paths.

use super::Which;
use crate::context::Context;
use crate::error::{Result, exit};

/// As it lies in the repository, with the usual paths.
const UNIT: &str = include_str!("../../../../../deploy/tradewind-provider.service");
const USUAL_PROGRAM: &str = "/usr/local/bin/tradewind";
const USUAL_HOME: &str = "/var/lib/tradewind";
const USUAL_LABEL: &str = "--as this";

/// Print the systemd unit that keeps an agent running, with this machine's paths
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  tradewind provider unit | sudo tee /etc/systemd/system/tradewind-provider.service\n  \
    sudo systemctl enable --now tradewind-provider"
)]
pub(super) struct Unit {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(context: &Context, args: &Unit) -> Result<u8> {
    let program = super::setup::own_program()?;
    let text = unit(
        &program.display().to_string(),
        &context.home.display().to_string(),
        &args.which.label,
    );
    context.output.bytes(text.as_bytes());
    Ok(exit::DONE)
}

fn unit(program: &str, home: &str, label: &str) -> String {
    // Systemd reads % and white space as its own.
    let quoted = |path: &str| path.replace('%', "%%").replace(' ', "\\x20");
    UNIT.replace(USUAL_PROGRAM, &quoted(program))
        .replace(USUAL_HOME, &quoted(home))
        .replace(USUAL_LABEL, &format!("--as {label}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_filled_in_and_nothing_else_changes() {
        assert_eq!(unit(USUAL_PROGRAM, USUAL_HOME, "this"), UNIT);
        let text = unit("/opt/50% off/tradewind", "/home/me/.tradewind", "a");
        assert!(text.contains("\nExecStart=/opt/50%%\\x20off/tradewind provider start --as a\n"));
        assert!(text.contains("\nEnvironment=TRADEWIND_HOME=/home/me/.tradewind\n"));
        // Stopping the agent must not stop what it started.
        assert!(text.contains("\nKillMode=process\n"));
    }
}
