//! `tradewind lease`: leases in detail.

use api::{LeaseStateView, LeaseView, view::text::Text as _};
use market::{JobId, Lease, Millis, Record, RecordId};

use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::proof;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};
use crate::words;

/// Jobs whose leases are listed when none is named: a screenful.
const JOBS_LISTED: usize = 20;

/// Leases in detail: list, show
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    #[command(visible_alias = "ls")]
    List(List),
    Show(Show),
}

/// List a job's leases, or those of my newest jobs
#[derive(Debug, clap::Args)]
struct List {
    /// Name, id, or unique beginning of the job's id
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

/// Show a lease
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind lease show LEASE --verify")]
struct Show {
    /// Id, or a unique beginning of it
    #[arg(value_name = "LEASE")]
    lease: String,
    /// Check it by proof, without trusting the node
    #[arg(long)]
    verify: bool,
}

const COLUMNS: &[Column] = &[
    text("LEASE", Keep::Always),
    text("STATE", Keep::Always),
    number("COST $", Keep::Always),
    number("RAN", Keep::Until(2)),
    number("$/DEVICE·H", Keep::Until(3)),
    text("MACHINE", Keep::Until(1)),
    text("JOB", Keep::Wide),
    text("PROVIDER", Keep::Wide),
    text("AWARDED", Keep::Wide),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::List(args) => list(context, args),
        Verb::Show(args) => show(context, args),
    }
}

fn list(context: &Context, args: &List) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let jobs: Vec<JobId> = if let Some(text) = &args.job {
            vec![
                session
                    .find_job(text, session.tenant(context).await)
                    .await?,
            ]
        } else {
            let own = session.acting_for(&context.wallet()?).await?;
            let page = session.client.jobs(Some(&own), None, None).await?;
            page.items
                .iter()
                .take(JOBS_LISTED)
                .map(|job| job.id)
                .collect()
        };
        let mut page = api::Page::only(Vec::new());
        for job in jobs {
            page.items
                .extend(session.client.job_leases(&job).await?.items);
        }
        context
            .output
            .list(&page, &page.items, &table(&page.items))?;
        Ok(exit::DONE)
    })
}

/// Returns leases as a table.
pub(crate) fn table(leases: &[LeaseView]) -> Table {
    let mut table = Table::new(
        COLUMNS,
        "no leases yet; see why a job waits: tradewind job explain JOB",
    );
    for lease in leases {
        table.row(
            lease.id.to_string(),
            vec![
                lease.id.to_string(),
                state(lease),
                words::show_amount(lease.charged.0),
                words::show_duration(Millis::from_millis(lease.elapsed_ms)),
                words::show_amount(lease.prices.per_device_hour.0),
                lease.machine.to_string(),
                lease.job.to_string(),
                lease.provider.to_string(),
                lease.awarded_at.to_string(),
            ],
        );
    }
    table
}

fn state(lease: &LeaseView) -> String {
    match &lease.state {
        LeaseStateView::Ended { reason, .. } => reason.to_string(),
        live => live.phase().to_text(),
    }
}

fn show(context: &Context, args: &Show) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_lease(&args.lease, session.tenant(context).await)
            .await?;
        let view = session.client.lease(&id).await?;
        context
            .output
            .thing(&view, &id.to_string(), &lines(&view))?;
        if args.verify {
            context.output.say(&verify(context, &session, &view).await?);
        }
        Ok(exit::DONE)
    })
}

/// Checks a lease by proof, compares it with what the node shows, and returns a line that says so.
pub(crate) async fn verify(
    context: &Context,
    session: &Session,
    view: &LeaseView,
) -> Result<String> {
    let proved = proof::record(context, session, RecordId::Lease(view.id)).await?;
    let Some(Record::Lease(lease)) = &proved.record else {
        return Err(Failure::new(
            "bad-proof",
            format!("lease {} is proved not to exist", view.id),
        ));
    };
    let lease: &Lease = lease;
    let same = LeaseView::from(lease) == *view;
    if !same {
        // A running lease's last beat moves; everything that is final must be equal.
        let moving = !matches!(view.state, LeaseStateView::Ended { .. });
        let unchanged = moving && lease.job == view.job && lease.machine == view.machine;
        if !unchanged {
            return Err(Failure::new(
                "bad-proof",
                "the node shows another lease than the one proved",
            ));
        }
    }
    Ok(proved.summary)
}

pub(crate) fn lines(lease: &LeaseView) -> String {
    let mut rows = vec![
        ("lease", lease.id.to_string()),
        ("state", state(lease)),
        ("job", lease.job.to_string()),
        ("provider", lease.provider.to_string()),
        ("machine", lease.machine.to_string()),
        ("devices", format!("{:?}", lease.devices)),
        ("from", lease.source.clone()),
        (
            "price",
            format!("{} per device-hour", lease.prices.per_device_hour),
        ),
        (
            "given",
            format!(
                "{} cores, {} memory, {} disk",
                words::show_cores(lease.cpu_milli),
                words::show_size(lease.memory_bytes),
                words::show_size(lease.disk_bytes),
            ),
        ),
        ("awarded", lease.awarded_at.to_string()),
        ("ran", format!("{} ms", lease.elapsed_ms)),
        (
            "cost",
            format!("{} of at most {}", lease.charged, lease.funds),
        ),
        ("collateral", lease.collateral.to_string()),
    ];
    if let LeaseStateView::Ended {
        ready_at,
        ended_at,
        bill,
        ..
    } = &lease.state
    {
        rows.push((
            "ready",
            ready_at.map_or_else(|| "never".to_owned(), |at| at.to_string()),
        ));
        rows.push(("ended", ended_at.to_string()));
        rows.push((
            "bill",
            format!(
                "compute {} + storage {} + egress {}; {} to the provider, {} fee",
                bill.compute, bill.storage, bill.egress, bill.to_provider, bill.fee,
            ),
        ));
    }
    pairs(&rows)
}
