//! What the shell asks when somebody presses TAB: commands, flags, and the names of jobs, leases, machines and contexts
//! as they are now, as far as the node says so at once.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;
use std::time::Duration;

use api::{JobView, Page};
use clap::{Arg, Command, FromArgMatches as _};
use clap_complete::env::{CompleteEnv, Shells};
use clap_complete::{ArgValueCompleter, CompletionCandidate};

use crate::app::{self, App};
use crate::commands::state;
use crate::context::{self, Context};
use crate::error::{Failure, Result};
use crate::session::Session;

/// The variable by which a shell's script says that it asks, and for which shell.
const ASKED: &str = "_TRADEWIND_COMPLETE";
/// Whoever presses TAB waits no longer; without an answer there are no names.
const PATIENCE: Duration = Duration::from_millis(300);
/// Jobs whose leases are looked up: each is a request.
const JOBS_ASKED: usize = 10;

/// Answers a shell that asks; `None` where none does.
pub(crate) fn answer(words: &[OsString]) -> Option<ExitCode> {
    let folder = std::env::current_dir().ok();
    let answered = CompleteEnv::with_factory(app::command)
        .var(ASKED)
        .try_complete(words.iter().cloned(), folder.as_deref());
    match answered {
        Ok(false) => None,
        Ok(true) => Some(ExitCode::SUCCESS),
        // A message would stand in the middle of what is being typed.
        Err(_) => Some(ExitCode::FAILURE),
    }
}

/// Returns what a shell loads: it asks the program at every TAB.
pub(crate) fn script(shell: &str) -> Vec<u8> {
    const NAME: &str = "tradewind";
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(shell) {
        // Writing to memory does not fail.
        drop(shell.write_registration(ASKED, NAME, NAME, NAME, &mut script));
    }
    script
}

/// Tells every argument that takes a name where names come from, by what its value is called in the help.
pub(crate) fn with_names(command: Command) -> Command {
    command
        .mut_args(|arg| match names(&arg) {
            Some(names) => arg.add(ArgValueCompleter::new(names)),
            None => arg,
        })
        .mut_subcommands(with_names)
}

type Names = fn(&OsStr) -> Vec<CompletionCandidate>;

fn names(arg: &Arg) -> Option<Names> {
    let value = arg.get_value_names()?.first()?;
    match (value.as_str(), arg.get_id().as_str()) {
        ("JOB", _) => Some(jobs),
        ("LEASE", _) => Some(leases),
        ("MACHINE", _) => Some(machines),
        ("CONTEXT", _) | (_, "context") => Some(contexts),
        _ => None,
    }
}

fn jobs(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |context| Ok(newest(&context).await?.1.items));
    let words = found.iter().flatten().map(|job| {
        let name = job.name.as_ref().map(ToString::to_string);
        (name.unwrap_or_else(|| job.id.to_string()), state(job))
    });
    that_begin(begun, words)
}

fn leases(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |context| {
        let (session, jobs) = newest(&context).await?;
        let mut found = Vec::new();
        for job in jobs.items.iter().take(JOBS_ASKED) {
            let of_job = session.client.job_leases(&job.id).await?.items;
            let name = job.name.as_ref().map(ToString::to_string);
            let name = name.unwrap_or_else(|| job.id.to_string());
            found.extend(
                of_job
                    .iter()
                    .map(|lease| (lease.id.to_string(), name.clone())),
            );
        }
        Ok(found)
    });
    that_begin(begun, found.unwrap_or_default().into_iter())
}

fn machines(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = ask(async |context| {
        let session = Session::open(&context).await?;
        Ok(session.client.machines(None, None).await?.items)
    });
    let words = found.iter().flatten().map(|machine| {
        let region = machine.region.as_ref().map(ToString::to_string);
        (machine.id.to_string(), region.unwrap_or_default())
    });
    that_begin(begun, words)
}

fn contexts(begun: &OsStr) -> Vec<CompletionCandidate> {
    let found = here().and_then(|context| context::list(&context.home));
    let words = found.into_iter().flatten();
    that_begin(begun, words.map(|(name, stored)| (name, stored.endpoint)))
}

/// Returns the caller's newest jobs, those that have not ended first.
async fn newest(context: &Context) -> Result<(Session, Page<JobView>)> {
    let session = Session::open(context).await?;
    let tenant = session.tenant(context).await;
    let mut page = session.client.jobs(tenant.as_ref(), None, None).await?;
    page.items.sort_by_key(|job| job.end.is_some());
    Ok((session, page))
}

fn that_begin(
    begun: &OsStr,
    words: impl Iterator<Item = (String, String)>,
) -> Vec<CompletionCandidate> {
    let begun = begun.to_string_lossy();
    let fit = words.filter(|(word, _)| word.starts_with(&*begun));
    fit.map(|(word, about)| CompletionCandidate::new(word).help(Some(about.into())))
        .collect()
}

/// Returns the context that a command without flags would have.
fn here() -> Result<Context> {
    let parsed = <App as clap::CommandFactory>::command()
        .try_get_matches_from(["tradewind", "ps"])
        .and_then(|matches| App::from_arg_matches(&matches));
    let app = parsed.map_err(|error| Failure::new("usage", error.to_string()))?;
    Context::find(&app.global, context::output_without_flags())
}

/// Asks the node; `None` where it does not answer within [`PATIENCE`].
fn ask<T>(work: impl AsyncFnOnce(Context) -> Result<T>) -> Option<T> {
    let context = here().ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(PATIENCE, work(context)).await });
    // A name that is still being resolved must not be waited for.
    runtime.shutdown_background();
    answer.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(Into::into).collect();
        let last = words.len() - 1;
        let found = clap_complete::engine::complete(&mut app::command(), words, last, None);
        let values = found.unwrap().into_iter();
        values
            .map(|found| found.get_value().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn commands_and_flags_are_completed() {
        assert_eq!(completed(&["tradewind", "off"]), ["offers"]);
        assert_eq!(completed(&["tradewind", "key", "auth"]), ["authorize"]);
        assert!(completed(&["tradewind", "run", "--max"]).contains(&"--max-price".to_owned()));
    }

    /// What an argument is called decides what completes it.
    #[test]
    fn arguments_that_take_names_are_known() {
        let tree = app::command();
        let arg = |path: &[&str], id: &str| {
            let command = path.iter().fold(&tree, |command, word| {
                command.find_subcommand(word).unwrap()
            });
            let arg = command.get_arguments().find(|arg| arg.get_id() == id);
            arg.unwrap().get::<ArgValueCompleter>().is_some()
        };
        for (path, id) in [
            (&["logs"][..], "job"),
            (&["stop"], "jobs"),
            (&["job", "show"], "job"),
            (&["job", "extend"], "job"),
            (&["lease", "show"], "lease"),
            (&["context", "use"], "name"),
            (&[], "context"),
        ] {
            assert!(arg(path, id), "{path:?} {id}");
        }
        assert!(!arg(&["key", "create"], "name"));
    }
}
