//! `tradewind ps`: my jobs.

use std::collections::BTreeMap;

use api::JobView;
use market::{JobId, Timestamp};

use crate::commands::collect;
use crate::context::Context;
use crate::error::{Result, exit};
use crate::labels;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::words;

/// Running jobs whose leases are looked at for their cost so far: a screenful, each a request.
const RUNNING_COUNTED: usize = 50;

/// List my jobs
#[derive(Debug, Default, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind ps\n  tradewind ps -a -o json\n  tradewind ps --label team=vision -o wide"
)]
pub(crate) struct Args {
    /// Ended ones too
    #[arg(short, long)]
    all: bool,
    /// Everybody's
    #[arg(long, hide_short_help = true)]
    everybody: bool,
    /// Only those with this label, repeatable; labels are known on the machine that started the job
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = words::label)]
    label: Vec<(String, String)>,
    /// Only those whose name contains this
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Go on after this cursor
    #[arg(long, value_name = "CURSOR", hide_short_help = true)]
    after: Option<String>,
}

const COLUMNS: &[Column] = &[
    text("JOB", Keep::Always),
    text("NAME", Keep::Until(2)),
    text("STATE", Keep::Always),
    number("COST $", Keep::Always),
    number("BUDGET $", Keep::Until(3)),
    number("RAN", Keep::Until(4)),
    text("OPENED", Keep::Until(1)),
    text("LEASE", Keep::Wide),
    number("ATTEMPTS", Keep::Wide),
    text("LABELS", Keep::Wide),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wallet = if args.everybody {
        None
    } else {
        Some(context.wallet()?)
    };
    let state = (!args.all).then_some("live");
    block_on(async {
        let session = Session::open(context).await?;
        let tenant = match &wallet {
            Some(wallet) => Some(session.acting_for(wallet).await?),
            None => None,
        };
        let page = collect(context, args.after.clone(), async |after| {
            Ok(session
                .client
                .jobs(tenant.as_ref(), state, after.as_deref())
                .await?)
        });
        let mut page = page.await?;
        let labels = labels_of(context, &page.items)?;
        page.items.retain(|job| wanted(args, job, &labels));
        if !context.output.is_json() {
            count_running(&session, &mut page.items).await?;
        }
        context.output.list(
            &page,
            &page.items,
            &table(&page.items, &labels, session.status.now.0),
        )?;
        Ok(exit::DONE)
    })
}

/// Labels of jobs, by the job's id; those without any have no entry.
pub(crate) type Labels = BTreeMap<JobId, BTreeMap<String, String>>;

/// Returns the labels of those of the jobs that have some here.
fn labels_of(context: &Context, jobs: &[JobView]) -> Result<Labels> {
    let mut all = Labels::new();
    for job in jobs {
        let labels = labels::of(&context.home, job.id)?;
        if !labels.is_empty() {
            all.insert(job.id, labels);
        }
    }
    Ok(all)
}

fn wanted(args: &Args, job: &JobView, labels: &Labels) -> bool {
    let none = BTreeMap::new();
    let name = job.name.as_ref().map_or("", |name| name.as_str());
    labels::have(labels.get(&job.id).unwrap_or(&none), &args.label)
        && args.name.as_ref().is_none_or(|part| name.contains(part))
}

/// Adds to each running job what its lease has cost and run so far: the job itself counts leases that ended.
async fn count_running(session: &Session, jobs: &mut [JobView]) -> Result<()> {
    for job in jobs.iter_mut().take(RUNNING_COUNTED) {
        if let Some(lease) = job.lease {
            let lease = session.client.lease(&lease).await?;
            job.charged.0 = job.charged.0.saturating_add(lease.charged.0);
            job.ran_ms = job.ran_ms.saturating_add(lease.elapsed_ms);
        }
    }
    Ok(())
}

/// Returns jobs as a table.
pub(crate) fn table(jobs: &[JobView], labels: &Labels, now: Timestamp) -> Table {
    let mut table = Table::new(
        COLUMNS,
        "no jobs; start one: tradewind run IMAGE, or see all with: tradewind ps -a",
    );
    for job in jobs {
        table.row(
            job.id.to_string(),
            vec![
                job.id.to_string(),
                job.name
                    .as_ref()
                    .map_or_else(|| "–".to_owned(), ToString::to_string),
                state(job),
                words::show_amount(job.charged.0),
                words::show_amount(job.budget.0),
                words::show_duration(market::Millis::from_millis(job.ran_ms)),
                words::show_age(job.opened_at.0, now),
                job.lease
                    .map_or_else(|| "–".to_owned(), |lease| lease.to_string()),
                format!("{}/{}", job.attempts_used, job.attempts_max),
                labels
                    .get(&job.id)
                    .map_or_else(|| "–".to_owned(), labels::show),
            ],
        );
    }
    table
}

/// Returns a job's state, with how it ended once it has.
pub(crate) fn state(job: &JobView) -> String {
    match &job.end {
        Some(end) => end.reason.to_string(),
        None => job.state.clone(),
    }
}
