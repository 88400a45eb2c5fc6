//! The command tree: what is typed becomes a command, and its outcome an exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::commands::{self, Command};
use crate::complete;
use crate::context::{self, Context, Global};
use crate::error::{Failure, exit};
use crate::output::Output;
use crate::table::push_line;

/// An open exchange for compute: hire machines by the second, or lend yours
#[derive(Debug, clap::Parser)]
#[command(
    name = "tradewind",
    disable_help_subcommand = true,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    help_template = "{about}\n\n{usage-heading} {usage}\n\n{before-help}\n{options}\n{after-help}"
)]
pub(crate) struct App {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The groups of the top level, in the order of the help; a test checks that no command is missing.
const GROUPS: &[(&str, &[&str])] = &[
    ("RUN", &["run", "plan", "ps", "logs", "stop"]),
    ("MARKET", &["offers", "gpus"]),
    ("THINGS", &["job", "lease", "account", "key", "notify"]),
    ("LEND", &["provider"]),
    ("OPERATE", &["up", "down", "node", "network", "doctor"]),
    (
        "SETUP",
        &["context", "config", "completion", "man", "help", "version"],
    ),
];

/// Runs the command that `words` spell.
pub(crate) fn run(words: Vec<OsString>) -> ExitCode {
    if let Some(answered) = complete::answer(&words) {
        return answered;
    }
    let help = help_of(&words);
    let parsed = command()
        .try_get_matches_from(words)
        .and_then(|matches| App::from_arg_matches(&matches));
    let app = match parsed {
        Ok(app) => app,
        Err(error) => return refuse(&error, &help),
    };
    let output = match context::output(&app.global) {
        Ok(output) => output,
        Err(failure) => return fail(&context::output_without_flags(), &failure),
    };
    let mut context = match Context::find(&app.global, output) {
        Ok(context) => context,
        Err(failure) => {
            let plain =
                context::output(&app.global).unwrap_or_else(|_| context::output_without_flags());
            return fail(&plain, &failure);
        }
    };
    match commands::dispatch(&mut context, app.command) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&context.output, &failure),
    }
}

/// Returns the command tree, with the grouped list of commands in its help.
pub(crate) fn command() -> clap::Command {
    let command = complete::with_names(App::command());
    let list = grouped(&command);
    command
        .before_help(list)
        .after_help("Help of a command, an error code or a topic:  tradewind help run | no-match | job-file | exit-codes | environment")
}

fn grouped(command: &clap::Command) -> String {
    let mut text = String::new();
    for (group, names) in GROUPS {
        push_line(&mut text, group);
        for name in *names {
            let about = command
                .find_subcommand(name)
                .and_then(clap::Command::get_about);
            let about = about.map(ToString::to_string).unwrap_or_default();
            push_line(&mut text, &format!("  {name:<10} {about}"));
        }
    }
    text
}

/// Returns what to type for the help of the command that `words` begin with.
fn help_of(words: &[OsString]) -> String {
    let mut tree = command();
    tree.build();
    let mut at = &tree;
    let mut help = "tradewind help".to_owned();
    for word in words.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(child) = at.find_subcommand(word) {
            help = format!("{help} {word}");
            at = child;
        }
    }
    help
}

fn fail(output: &Output, failure: &Failure) -> ExitCode {
    output.failure(failure);
    ExitCode::from(failure.exit())
}

/// Prints help where that was asked for; otherwise says in our own form what is wrong with the command line.
fn refuse(error: &clap::Error, help: &str) -> ExitCode {
    let output = context::output_without_flags();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = if output.colors_data() {
                text.ansi().to_string()
            } else {
                text.to_string()
            };
            output.bytes(text.as_bytes());
            return ExitCode::from(exit::DONE);
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output.error_bytes(error.render().to_string().as_bytes());
            return ExitCode::from(exit::USAGE);
        }
        _ => {}
    }
    fail(&output, &usage_failure(error, help))
}

fn usage_failure(error: &clap::Error, help: &str) -> Failure {
    let text = error.render().to_string();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let first = first
        .strip_prefix("error: ")
        .unwrap_or(first)
        .trim_end_matches(':');
    let mut failure = Failure::new("usage", first);
    // What clap lists under the first line, for example the arguments that are missing.
    for line in
        lines.take_while(|line| line.starts_with("  ") && !line.trim_start().starts_with("tip:"))
    {
        failure = failure.detail(line.trim());
    }
    for kind in [
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedValue,
    ] {
        let nearest = match error.get(kind) {
            Some(ContextValue::String(word)) => Some(word),
            Some(ContextValue::Strings(words)) => words.first(),
            _ => None,
        };
        if let Some(word) = nearest {
            failure = failure.hint(format!("did you mean: {word}"));
        }
    }
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    match usage {
        Some(usage) => failure.hint(format!("usage: {usage}")),
        None => failure.hint(format!("see: {help}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{GROUPS, command};
    use crate::table::push_line;

    #[test]
    fn command_tree_is_sound() {
        command().debug_assert();
    }

    /// The whole reference in one file, so that no help changes unseen.
    #[test]
    fn help_of_every_command() {
        let mut tree = command();
        tree.build();
        let mut text = String::new();
        write_help(&mut tree, &mut text);
        insta::assert_snapshot!(text);
    }

    fn write_help(command: &mut clap::Command, text: &mut String) {
        let name = command.get_bin_name().unwrap_or("tradewind").to_owned();
        push_line(text, &format!("# {name}\n\n{}", command.render_long_help()));
        let names: Vec<String> = command
            .get_subcommands()
            .filter(|child| !child.is_hide_set())
            .map(|child| child.get_name().to_owned())
            .collect();
        for name in names {
            if let Some(child) = command.find_subcommand_mut(&name) {
                write_help(child, text);
            }
        }
    }

    #[test]
    fn every_visible_command_stands_in_one_group() {
        let shown: BTreeSet<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| *names)
            .copied()
            .collect();
        let tree = command();
        let visible: BTreeSet<&str> = tree
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(clap::Command::get_name)
            .collect();
        assert_eq!(shown, visible);
    }
}
