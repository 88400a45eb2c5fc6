//! `tradewind provider maintenance`: times in which a machine shall be empty.

use std::fs;
use std::path::{Path, PathBuf};

use agent::steward::{Running, WINDOWS_MAX, Window};
use api::TimeView;
use market::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Lender, Which};
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::files;
use crate::table::{Column, Keep, Table, number, text};
use crate::{tail, words};

/// Its name in the agent's folder.
const FILE: &str = "maintenance.json";

/// Plan times in which the machine takes no leases: start, list, end
///
/// When such a time begins the running agent takes the machine out of matching, and afterwards puts it back. Leases that
/// run stay until they end by themselves, unless --evict ends them.
#[derive(Debug, clap::Args)]
pub(super) struct Maintenance {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Start(Start),
    List(List),
    End(End),
}

/// List the times that are planned
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
}

/// Plan a time; without --in or --at it begins now
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind provider maintenance start --in 10m --for 2h\n  \
    tradewind provider maintenance start --at 2026-12-01T02:00Z --for 2h --drain-ahead 6h --evict"
)]
struct Start {
    #[command(flatten)]
    which: Which,
    /// How long from now it begins
    #[arg(long = "in", value_name = "TIME", value_parser = words::duration, conflicts_with = "at")]
    after: Option<Millis>,
    /// When it begins, in UTC
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    at: Option<Timestamp>,
    /// How long it takes
    #[arg(long = "for", value_name = "TIME", value_parser = words::duration)]
    length: Millis,
    /// How long before it begins no lease is taken any more
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    drain_ahead: Option<Millis>,
    /// End leases that still run when it begins, as drained; what that costs: docs, Leases
    #[arg(long)]
    evict: bool,
}

/// End a time early, or strike a planned one off the list
#[derive(Debug, clap::Args)]
struct End {
    #[command(flatten)]
    which: Which,
    /// Its place in the list; by default the first
    #[arg(value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    number: u16,
}

/// Reads an instant as people write it: minutes are enough for them, the API's form has milliseconds.
fn instant(text: &str) -> std::result::Result<Timestamp, String> {
    let bare = text.strip_suffix('Z').unwrap_or(text);
    let whole = match bare.len() {
        16 => format!("{bare}:00.000Z"),
        19 => format!("{bare}.000Z"),
        _ => text.to_owned(),
    };
    TimeView::parse(&whole)
        .map(|at| at.0)
        .ok_or_else(|| format!("{text:?} is no instant; use 2026-12-01T02:00Z"))
}

/// A planned time, as it is stored and shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Planned {
    from: TimeView,
    until: TimeView,
    drain_ahead_ms: u64,
    evict: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    items: Vec<Planned>,
}

pub(super) fn run(context: &Context, args: &Maintenance) -> Result<u8> {
    match &args.verb {
        Verb::Start(args) => start(context, args),
        Verb::List(args) => list(context, &args.which.label),
        Verb::End(args) => end(context, args),
    }
}

/// Returns the times that are planned for the agent in `folder`.
pub(super) fn windows(folder: &Path) -> Result<Vec<Window>> {
    let window = |planned: Planned| Window {
        from: planned.from.0,
        until: planned.until.0,
        drain_ahead: Millis::from_millis(planned.drain_ahead_ms),
        running: if planned.evict {
            Running::Evict
        } else {
            Running::Stay
        },
    };
    Ok(read(folder)?.items.into_iter().map(window).collect())
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn read(folder: &Path) -> Result<Plan> {
    let path = path(folder);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new("bad-context", format!("could not read {}", path.display())).causes(&error)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(Plan { items: Vec::new() })
        }
        Err(error) => Err(io_failure("read", &path)(error)),
    }
}

fn write(folder: &Path, plan: &Plan) -> Result<()> {
    let text = serde_json::to_vec_pretty(plan)
        .map_err(|error| Failure::new("bug", "could not write the plan").causes(&error))?;
    files::write_private(&path(folder), &text)
}

const COLUMNS: &[Column] = &[
    number("N", Keep::Always),
    text("FROM", Keep::Always),
    text("UNTIL", Keep::Always),
    text("NO LEASES", Keep::Until(2)),
    text("WHAT RUNS", Keep::Until(3)),
    text("BEGINS", Keep::Until(1)),
];

fn list(context: &Context, label: &str) -> Result<u8> {
    let lender = Lender::find(context, label)?;
    let plan = read(&lender.folder)?;
    let now = tail::now();
    let mut table = Table::new(COLUMNS, "nothing is planned");
    for (number, planned) in (1..).zip(&plan.items) {
        let when = match (planned.from.0 <= now, planned.until.0 <= now) {
            (_, true) => "over".to_owned(),
            (true, false) => "now".to_owned(),
            _ => words::show_age(planned.from.0, now),
        };
        let ahead = match planned.drain_ahead_ms {
            0 => "from then".to_owned(),
            ms => format!("{} before", words::show_duration(Millis::from_millis(ms))),
        };
        let running = if planned.evict { "is ended" } else { "stays" };
        table.row(
            format!("{number}"),
            vec![
                format!("{number}"),
                planned.from.to_string(),
                planned.until.to_string(),
                ahead,
                running.to_owned(),
                when,
            ],
        );
    }
    context.output.list(&plan, &plan.items, &table)?;
    Ok(exit::DONE)
}

fn start(context: &Context, args: &Start) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    let mut plan = read(&lender.folder)?;
    let now = tail::now();
    plan.items.retain(|planned| planned.until.0 > now);
    if plan.items.len() >= WINDOWS_MAX {
        return Err(
            Failure::new("usage", format!("{WINDOWS_MAX} times are planned already"))
                .hint("strike one off: tradewind provider maintenance end 1"),
        );
    }
    let from = args
        .at
        .unwrap_or_else(|| now.after(args.after.unwrap_or(Millis::ZERO)));
    let until = from.after(args.length);
    if until <= now {
        return Err(Failure::new("usage", "that time is over")
            .hint("times are in UTC: --at 2026-12-01T02:00Z"));
    }
    let ahead = args.drain_ahead.unwrap_or(Millis::ZERO);
    plan.items.push(Planned {
        from: TimeView(from),
        until: TimeView(until),
        drain_ahead_ms: ahead.millis(),
        evict: args.evict,
    });
    plan.items.sort_by_key(|planned| planned.from.0);
    write(&lender.folder, &plan)?;
    context.output.say(&format!(
        "from {} to {} the machine takes no leases; what runs then {}",
        TimeView(from.before(ahead)),
        TimeView(until),
        if args.evict {
            "is ended"
        } else {
            "stays until it ends"
        },
    ));
    if lender.service().running()?.is_none() {
        context.output.warn(
            "its agent does not run, and does this only while it does: tradewind provider start",
        );
    }
    Ok(exit::DONE)
}

fn end(context: &Context, args: &End) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    let mut plan = read(&lender.folder)?;
    let index = usize::from(args.number) - 1;
    if index >= plan.items.len() {
        return Err(
            Failure::new("usage", format!("there is no planned time {}", args.number))
                .hint("see them: tradewind provider maintenance list"),
        );
    }
    let gone = plan.items.remove(index);
    write(&lender.folder, &plan)?;
    let what = if gone.from.0 <= tail::now() {
        "ended"
    } else {
        "struck off"
    };
    context
        .output
        .say(&format!("{what}: {} to {}", gone.from, gone.until));
    Ok(exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        for text in [
            "2026-12-01T02:00Z",
            "2026-12-01T02:00",
            "2026-12-01T02:00:00Z",
            "2026-12-01T02:00:00.000Z",
        ] {
            let at = instant(text).unwrap();
            assert_eq!(TimeView(at).to_string(), "2026-12-01T02:00:00.000Z");
        }
        for bad in [
            "",
            "tomorrow",
            "30m",
            "2026-13-01T02:00Z",
            "02:00",
            "2026-12-01",
        ] {
            assert!(instant(bad).is_err(), "{bad}");
        }
    }
}
