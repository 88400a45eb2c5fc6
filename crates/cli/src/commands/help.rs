//! `tradewind help`: commands, error codes and topics, offline.

use api::jobfile::FIELDS;

use crate::app;
use crate::context::{Context, VARIABLES};
use crate::error::{CODES, Code, Failure, Result, exit, find, nearest};
use crate::table::push_line;

/// Explain a command, an error code or a topic
///
/// Topics: codes, exit-codes, environment, job-file.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A command, an error code or a topic
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let words: Vec<&str> = args.words.iter().map(String::as_str).collect();
    let text = match words.as_slice() {
        [] => app::command().render_help().to_string(),
        ["codes"] => codes(),
        ["exit-codes"] => exit_codes(),
        ["environment"] => variables(),
        ["job-file"] => job_file(),
        [word] => match find(word) {
            Some(code) => explain(code),
            None => command_help(&words)?,
        },
        _ => command_help(&words)?,
    };
    context.output.bytes(text.as_bytes());
    Ok(exit::DONE)
}

fn command_help(words: &[&str]) -> Result<String> {
    Ok(find_command(words)?.render_long_help().to_string())
}

/// Returns the command that `words` name.
pub(super) fn find_command(words: &[&str]) -> Result<clap::Command> {
    let mut command = app::command();
    command.build();
    let mut at = &mut command;
    for word in words {
        let names: Vec<String> = at
            .get_subcommands()
            .map(|c| c.get_name().to_owned())
            .collect();
        at = match at.find_subcommand_mut(word) {
            Some(next) => next,
            None => return Err(unknown(words, &names)),
        };
    }
    Ok(at.clone())
}

fn unknown(words: &[&str], names: &[String]) -> Failure {
    let last = words.last().copied().unwrap_or_default();
    let candidates = names
        .iter()
        .map(String::as_str)
        .chain(CODES.iter().map(|row| row.name));
    let failure = Failure::new(
        "usage",
        format!("there is no help on {:?}", words.join(" ")),
    );
    match nearest(last, candidates) {
        Some(word) => failure.hint(format!("did you mean: tradewind help {word}")),
        None => failure.hint("see all codes: tradewind help codes"),
    }
}

fn explain(row: &Code) -> String {
    let mut text = format!("{}\n\n{}\n", row.name, row.meaning);
    push_line(
        &mut text,
        &format!(
            "Exit code {}. Who can mend it: {}.\n\nWays out:",
            row.exit,
            row.mender.words()
        ),
    );
    for way in row.ways {
        push_line(&mut text, &format!("  - {way}"));
    }
    text
}

fn codes() -> String {
    let width = CODES.iter().map(|row| row.name.len()).max().unwrap_or(0);
    CODES
        .iter()
        .map(|row| format!("{:width$}  {:3}  {}\n", row.name, row.exit, row.meaning))
        .collect::<Vec<_>>()
        .concat()
}

fn exit_codes() -> String {
    let lines = exit::TABLE
        .iter()
        .map(|(code, meaning)| format!("{code:4}  {meaning}\n"))
        .collect::<Vec<_>>()
        .concat();
    format!("{lines}\nAn attached run returns the workload's own exit code.\n")
}

/// Returns every key of a job file with what it says, in the form of one.
fn job_file() -> String {
    let mut text = String::from(
        "A job file is a page of YAML; a flag of run wins over it. Only image is needed.\n\n",
    );
    let mut section = "";
    for field in FIELDS {
        if field.section != section && !field.section.is_empty() {
            push_line(&mut text, &format!("{}:", field.section));
        }
        section = field.section;
        let indent = if section.is_empty() { "" } else { "  " };
        let line = format!("{indent}{}: {}", field.name, field.example);
        let default = match field.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        push_line(&mut text, &format!("{line:<38} # {}{default}", field.about));
    }
    push_line(
        &mut text,
        "\nJSON Schema: /api/v1/schema/job of any node. Write a file: tradewind job init",
    );
    text
}

fn variables() -> String {
    let width = VARIABLES
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    let lines = VARIABLES
        .iter()
        .map(|(name, what)| format!("{name:width$}  {what}\n"))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "{lines}\nNO_COLOR, CLICOLOR_FORCE and TERM=dumb are honoured. A flag wins over a variable.\n"
    )
}
