//! `tradewind job`: jobs in detail.

mod init;

use api::{EventFilter, EventView, JobView, LeaseView};
use market::{Millis, Record, RecordId};

use crate::commands::{collect, lease, ps, stop};
use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::explain;
use crate::proof;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};
use crate::words;

/// Jobs in detail: list, show, events, explain, init, extend, cancel
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List my jobs, the same as ps
    #[command(visible_alias = "ls")]
    List(ps::Args),
    /// Show a job and its leases
    Show(One),
    /// List everything that happened to a job
    Events(Events),
    /// Say what matches a waiting job, or why nothing does
    Explain(One),
    Init(Box<init::Args>),
    Extend(Extend),
    /// End jobs and settle, the same as stop
    Cancel(stop::Args),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Name, id, or unique beginning of the id
    #[arg(value_name = "JOB")]
    job: String,
}

#[derive(Debug, clap::Args)]
struct Events {
    #[command(flatten)]
    one: One,
    /// Go on as they happen, until the job has ended
    #[arg(short, long)]
    follow: bool,
    /// Movements of money too
    #[arg(long)]
    money: bool,
    /// Go on after this cursor
    #[arg(long, value_name = "CURSOR", hide_short_help = true)]
    after: Option<u64>,
}

/// Let a job run longer, cost more, or both
///
/// A job that its budget would end earlier goes on as long as the new one lasts. A longer running time takes a machine
/// that is offered for so long.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind job extend finetune --for 2h\n  tradewind job extend finetune --for 2h --budget 5"
)]
#[group(id = "more", required = true, multiple = true, args = ["duration", "budget"])]
struct Extend {
    #[command(flatten)]
    one: One,
    /// How much longer it may run
    #[arg(long = "for", id = "duration", value_name = "TIME", value_parser = words::duration)]
    duration: Option<Millis>,
    /// How much more it may cost
    #[arg(long, value_name = "DOLLARS", value_parser = words::money)]
    budget: Option<market::Money>,
    /// Do it without being asked
    #[arg(short, long)]
    yes: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::List(args) => ps::run(context, args),
        Verb::Show(one) => show(context, one),
        Verb::Events(args) => events(context, args),
        Verb::Explain(one) => explain(context, one),
        Verb::Init(args) => init::run(context, args),
        Verb::Extend(args) => extend(context, args),
        Verb::Cancel(args) => stop::run(context, args),
    }
}

fn show(context: &Context, one: &One) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_job(&one.job, session.tenant(context).await)
            .await?;
        let job = session.client.job(&id.to_string()).await?;
        let leases = session.client.job_leases(&id).await?;
        context
            .output
            .thing(&job, &id.to_string(), &lines(&job, &leases.items))?;
        Ok(exit::DONE)
    })
}

fn lines(job: &JobView, leases: &[LeaseView]) -> String {
    let dash = || "–".to_owned();
    let mut text = pairs(&[
        ("job", job.id.to_string()),
        (
            "name",
            job.name.as_ref().map_or_else(dash, ToString::to_string),
        ),
        ("state", ps::state(job)),
        ("opened", job.opened_at.to_string()),
        (
            "ended",
            job.end.as_ref().map_or_else(dash, |end| end.at.to_string()),
        ),
        ("cost", format!("{} of at most {}", job.charged, job.budget)),
        ("held", job.held.to_string()),
        (
            "price cap",
            job.price_cap
                .map_or_else(dash, |cap| format!("{cap} per device-hour")),
        ),
        ("ran", words::show_duration(Millis::from_millis(job.ran_ms))),
        (
            "at most",
            words::show_duration(Millis::from_millis(job.duration_max_ms)),
        ),
        (
            "attempts",
            format!("{} of {} used", job.attempts_used, job.attempts_max),
        ),
        (
            "verification",
            format!("{}: delivery is the provider's claim", job.verification),
        ),
    ]);
    if !leases.is_empty() {
        text.push('\n');
        text.push_str(&lease::table(leases).render(None, true));
    }
    text
}

const COLUMNS: &[Column] = &[
    number("EVENT", Keep::Until(2)),
    text("TIME", Keep::Always),
    number("BLOCK", Keep::Until(1)),
    text("WHAT", Keep::Always),
    text("DETAIL", Keep::Always),
    text("TRANSACTION", Keep::Wide),
];

fn events(context: &Context, args: &Events) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_job(&args.one.job, session.tenant(context).await)
            .await?;
        let filter = EventFilter::job(id);
        if args.follow {
            return follow(context, &session, filter, args).await;
        }
        let page = collect(
            context,
            args.after.map(|seq| seq.to_string()),
            async |after| {
                let after = after.and_then(|text| text.parse().ok());
                Ok(session.client.event_page(after, &filter).await?)
            },
        );
        let page = page.await?;
        let money = if args.money {
            Money::Shown
        } else {
            Money::Hidden
        };
        context
            .output
            .list(&page, &page.items, &events_table(&page.items, money))?;
        Ok(exit::DONE)
    })
}

/// Whether movements of money are among the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Money {
    /// They are.
    Shown,
    /// They are left out: what happened says what it cost.
    Hidden,
}

/// Returns events as a table.
pub(super) fn events_table(events: &[EventView], money: Money) -> Table {
    let mut table = Table::new(COLUMNS, "nothing happened yet");
    for event in events
        .iter()
        .filter(|event| money == Money::Shown || !is_money(event))
    {
        table.row(event.seq.to_string(), cells(event));
    }
    table
}

async fn follow(
    context: &Context,
    session: &Session,
    filter: EventFilter,
    args: &Events,
) -> Result<u8> {
    let mut stream = session.client.events(args.after, filter);
    loop {
        let event = stream.next().await?;
        if context.output.is_json() {
            context.output.json_line(&event)?;
        } else if args.money || !is_money(&event) {
            let cells = cells(&event);
            context.output.line(&format!(
                "{:>6}  {}  {:<14} {}",
                cells[0], cells[1], cells[3], cells[4]
            ));
        }
        if event.kind.word() == "job-ended" {
            return Ok(exit::DONE);
        }
    }
}

fn is_money(event: &EventView) -> bool {
    event.kind.word() == "posted"
}

fn cells(event: &EventView) -> Vec<String> {
    vec![
        event.seq.to_string(),
        event.time.to_string(),
        event.height.to_string(),
        event.kind.word().to_owned(),
        explain::event(event),
        event.tx.map_or_else(|| "–".to_owned(), |tx| tx.to_string()),
    ]
}

fn explain(context: &Context, one: &One) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_job(&one.job, session.tenant(context).await)
            .await?;
        let proved = proof::record(context, &session, RecordId::Job(id)).await?;
        let Some(Record::Job(job)) = proved.record else {
            return Err(
                Failure::new("no-job", format!("job {id} has left the live state"))
                    .hint(format!("its history remains: tradewind job events {id}")),
            );
        };
        let answer = session.client.explain(&job.spec).await?;
        context
            .output
            .thing(&answer, &id.to_string(), &explain::plan_lines(&answer))?;
        Ok(exit::DONE)
    })
}

fn extend(context: &Context, args: &Extend) -> Result<u8> {
    let wallet = context.wallet()?;
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_job(&args.one.job, session.tenant(context).await)
            .await?;
        let job = session.client.job(&id.to_string()).await?;
        if let Some(budget) = args.budget {
            let question = format!(
                "hold {budget} more for {id}, which may cost {} so far (context {})?",
                job.budget,
                context.name()
            );
            // Without a terminal, naming the amount is consent, as the budget of run is.
            if !args.yes && context.output.can_ask() && !context.output.ask(&question) {
                return Err(Failure::new("declined", "nothing was added"));
            }
        }
        // Time before money: it costs nothing, and where it is refused nothing was held for it.
        if let Some(by) = args.duration {
            let call = market::Tx::ExtendJob { job: id, by };
            session.submit(&wallet, call).await?;
        }
        if let Some(amount) = args.budget {
            let call = market::Tx::TopUpJob { job: id, amount };
            session.submit(&wallet, call).await?;
        }
        let view = session.client.job(&id.to_string()).await?;
        let output = &context.output;
        output.say(&format!(
            "{} {id} may run {} and cost {} in all",
            output.mark(crate::output::Style::Good),
            words::show_duration(Millis::from_millis(view.duration_max_ms)),
            view.budget
        ));
        say_what_ends_first(context, &session, &view).await?;
        output.result(&view, &id.to_string())?;
        Ok(exit::DONE)
    })
}

/// Says so where the money will be used up before the time is.
async fn say_what_ends_first(context: &Context, session: &Session, job: &JobView) -> Result<()> {
    let leases = session.client.job_leases(&job.id).await?.items;
    let runs = leases.iter().filter_map(|lease| lease.state.run());
    for run in runs.filter(|run| run.funded_until.0 < run.duration_until.0) {
        context.output.warn(&format!(
            "its budget is used up at {}, before its time is; add to it: tradewind job extend {} --budget DOLLARS",
            run.funded_until, job.id
        ));
    }
    Ok(())
}
