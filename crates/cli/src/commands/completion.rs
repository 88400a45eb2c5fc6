//! `tradewind completion`: what a shell loads to complete commands, flags and names.

use clap_complete::Shell;

use crate::complete;
use crate::context::Context;
use crate::error::exit;

/// Print what a shell needs to complete commands, flags, and names of jobs, leases and contexts
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    source <(tradewind completion bash)\n  \
    tradewind completion zsh > ~/.zfunc/_tradewind\n  \
    tradewind completion fish > ~/.config/fish/completions/tradewind.fish\n  \
    tradewind completion powershell | Out-String | Invoke-Expression")]
pub(crate) struct Args {
    /// Which: bash, zsh, fish or powershell
    #[arg(value_enum, value_name = "SHELL", hide_possible_values = true)]
    shell: Shell,
}

pub(crate) fn run(context: &Context, args: &Args) -> u8 {
    context.output.bytes(&script(args.shell));
    exit::DONE
}

fn script(shell: Shell) -> Vec<u8> {
    complete::script(&shell.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_learns_whom_to_ask() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let script = String::from_utf8(script(shell)).unwrap();
            assert!(
                script.contains("_TRADEWIND_COMPLETE"),
                "{shell:?}: {script}"
            );
        }
    }

    /// A script that the shell itself cannot read completes nothing.
    #[test]
    fn bash_reads_its_script() {
        let mut child = std::process::Command::new("bash")
            .args(["--noprofile", "--norc", "-n"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), &script(Shell::Bash)).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
