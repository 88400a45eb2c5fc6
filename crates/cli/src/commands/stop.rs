//! `tradewind stop`: end jobs and settle.

use api::Code;
use market::{AccountId, JobId, Tx};

use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::session::{Session, block_on};
use crate::wallet::Wallet;

/// End jobs and settle
///
/// A job whose workload has started pays for what ran, at least for one minute of its price or as long as it ran if
/// that is shorter; what is left of its budget returns at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind stop hello\n  tradewind stop --all")]
pub(crate) struct Args {
    /// Names, ids, or unique beginnings of ids
    #[arg(
        value_name = "JOB",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    jobs: Vec<String>,
    /// All of my jobs that have not ended
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wallet = context.wallet()?;
    block_on(async {
        let session = Session::open(context).await?;
        let account = session.acting_for(&wallet).await?;
        let mut jobs = Vec::new();
        if args.all {
            jobs = live(&session, account).await?;
            if jobs.is_empty() {
                context.output.say("nothing runs");
            }
        }
        for text in &args.jobs {
            jobs.push(session.find_job(text, Some(account)).await?);
        }
        for job in jobs {
            stop(context, &session, &wallet, job).await?;
        }
        Ok(exit::DONE)
    })
}

/// Returns the account's jobs that have not ended.
pub(crate) async fn live(session: &Session, account: AccountId) -> Result<Vec<JobId>> {
    let mut jobs = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = session
            .client
            .jobs(Some(&account), Some("live"), after.as_deref())
            .await?;
        jobs.extend(page.items.iter().map(|job| job.id));
        after = page.next;
        if after.is_none() {
            return Ok(jobs);
        }
    }
}

async fn stop(context: &Context, session: &Session, wallet: &Wallet, job: JobId) -> Result<()> {
    if let Err(error) = session.submit(wallet, Tx::CancelJob { job }).await {
        let ended = error.code() == Code::JobEnded.as_str();
        return Err(if ended { already(job) } else { error });
    }
    let view = session.client.job(&job.to_string()).await?;
    let returned = view.budget.0.saturating_sub(view.charged.0);
    context.output.say(&format!(
        "{} {job} ended; charged {}, returned {returned}",
        context.output.mark(crate::output::Style::Good),
        view.charged,
    ));
    context.output.result(&view, &job.to_string())
}

fn already(job: JobId) -> Failure {
    Failure::new("job-ended", format!("job {job} has ended already"))
        .hint(format!("see how: tradewind job show {job}"))
}
