//! `tradewind logs`: a job's output.

use api::{LeaseStateView, LeaseView};
use market::JobId;
use net::logs::{LogStream, LogStreams};

use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::output::Format;
use crate::session::{Session, block_on};
use crate::tail::{self, Sink, Wanted};

/// Print a job's output
///
/// It is read straight from the machine, so only those who may sign for the job can read it. Standard output goes to
/// standard output, standard error to standard error.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind logs hello\n  tradewind logs -f hello")]
pub(crate) struct Args {
    /// Name, id, or unique beginning of the id
    #[arg(value_name = "JOB")]
    job: String,
    /// Go on until the workload ends
    #[arg(short, long)]
    follow: bool,
    /// Only standard output
    #[arg(long, conflicts_with = "stderr")]
    stdout: bool,
    /// Only standard error
    #[arg(long)]
    stderr: bool,
    /// Of this lease, by its place in `lease list`, 1 is the first; else of the last
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wallet = context.wallet()?;
    let streams = match (args.stdout, args.stderr) {
        (true, _) => LogStreams::Only(LogStream::Stdout),
        (_, true) => LogStreams::Only(LogStream::Stderr),
        _ => LogStreams::Both,
    };
    block_on(async {
        let session = Session::open(context).await?;
        let id = session
            .find_job(&args.job, session.tenant(context).await)
            .await?;
        let lease = lease(&session, id, args.attempt).await?;
        let wanted = Wanted {
            streams,
            follow: args.follow,
            sink: match context.output.format() {
                Format::Jsonl => Sink::Lines,
                _ => Sink::Streams,
            },
        };
        tokio::select! {
            copied = tail::copy(&session, &wallet, &context.output, &lease, wanted) => copied?,
            _interrupt = tokio::signal::ctrl_c() => return Ok(exit::INTERRUPTED),
        };
        Ok(exit::DONE)
    })
}

async fn lease(session: &Session, job: JobId, attempt: Option<u32>) -> Result<LeaseView> {
    let leases = session.client.job_leases(&job).await?.items;
    let chosen = match attempt {
        Some(number) => leases
            .into_iter()
            .nth(usize::try_from(number - 1).unwrap_or(usize::MAX)),
        None => leases.into_iter().next_back(),
    };
    let lease = chosen.ok_or_else(|| {
        Failure::new("no-lease-yet", format!("job {job} has no output yet"))
            .hint(format!("see why it waits: tradewind job explain {job}"))
    })?;
    if let LeaseStateView::Ended {
        ready_at: None,
        reason,
        ..
    } = &lease.state
        // Of an image that it would not or could not start, the machine has left the reason.
        && reason.code != "image-error"
    {
        return Err(Failure::new(
            "no-such-lease",
            format!("lease {} never started: {reason}", lease.id),
        )
        .hint(format!("see what happened: tradewind job events {job}")));
    }
    Ok(lease)
}
