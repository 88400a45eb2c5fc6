//! `tradewind down`: stop everything that `up` started, and leave nothing behind but data.

use std::fs;
use std::time::{Duration, Instant};

use crate::commands::provider::Lender;
use crate::commands::{node, stop, up};
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::progress::Progress;
use crate::service::Service;
use crate::session::{Session, block_on};

/// For leases to end on the ledger and their containers to be wiped by the agents.
const SETTLE_DEADLINE: Duration = Duration::from_secs(20);
/// Between two looks at what cannot be waited on.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// An agent ends its tasks within five seconds, and its endpoint within ten.
const PROVIDER_GRACE: Duration = Duration::from_secs(20);
/// A node's gateway, endpoint and engine end one after the other, within 35 s.
const NODE_GRACE: Duration = Duration::from_secs(40);
/// Everything in a home folder; nothing else is ever removed.
const CONTENTS: [&str; 10] = [
    "contexts",
    "images",
    "keys",
    "labels",
    "log",
    "node",
    "providers",
    "run",
    "up.lock",
    "validators",
];

/// Stop everything that `up` started
///
/// My jobs that still run are ended and settled, others' leases here are drained, containers are wiped. Keys, ledger
/// and logs stay, so that `up` goes on where it was, unless --purge is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all data too: keys, ledger, logs
    #[arg(long)]
    purge: bool,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    if !context.home.exists() {
        context.output.say(&format!(
            "nothing to stop: there is no {}",
            context.home.display()
        ));
        return Ok(exit::DONE);
    }
    let alone = up::alone(context)?;
    let progress = Progress::new(&context.output);
    let first = node::service(&context.home);
    if first.running()?.is_some() {
        let settled = block_on(settle(context, &progress));
        if let Err(failure) = settled {
            progress.note("leases", &format!("not settled: {}", failure.what()));
        }
    }
    for label in labels(context) {
        stop_service(
            &progress,
            "provider",
            &Service::new(&context.home, format!("provider-{label}")),
            PROVIDER_GRACE,
        )?;
    }
    stop_service(&progress, "node", &first, NODE_GRACE)?;
    for (_folder, number) in node::validator_folders(&context.home)
        .iter()
        .zip(1..)
        .skip(1)
    {
        let other = node::service_of(&context.home, number);
        stop_service(&progress, "node", &other, NODE_GRACE)?;
    }
    for label in Lender::labels(context) {
        block_on(wipe(context, &progress, &label))?;
    }
    if args.purge {
        purge(context)?;
        progress.done("data", &format!("removed from {}", context.home.display()));
    }
    drop(alone);
    Ok(exit::DONE)
}

/// Returns the labels of all agents that are stored here, and of those whose pid files are.
fn labels(context: &Context) -> Vec<String> {
    let mut labels = Lender::labels(context);
    for entry in fs::read_dir(context.home.join("run"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().into_string().unwrap_or_default();
        let label = name
            .strip_prefix("provider-")
            .and_then(|rest| rest.strip_suffix(".pid"));
        labels.extend(label.map(ToOwned::to_owned));
    }
    labels.sort();
    labels.dedup();
    labels
}

fn stop_service(
    progress: &Progress,
    phase: &'static str,
    service: &Service,
    grace: Duration,
) -> Result<()> {
    progress.phase(phase, format!("{} stops", service.name()));
    if service.stop(grace)? {
        progress.done(phase, &format!("{} stopped", service.name()));
    } else {
        progress.clear();
    }
    Ok(())
}

/// Ends what runs, as the ledger sees it, and waits until the agents have wiped it.
async fn settle(context: &Context, progress: &Progress) -> Result<()> {
    let session = Session::open(context).await?;
    let wallet = context.wallet()?;
    for job in stop::live(&session, wallet.account()).await? {
        progress.phase("leases", format!("ending {job}"));
        let ended = session.submit(&wallet, market::Tx::CancelJob { job }).await;
        if let Err(failure) = ended
            && failure.code() != "job-ended"
        {
            return Err(failure);
        }
        let view = session.client.job(&job.to_string()).await?;
        progress.done("job", &format!("{job} ended; charged {}", view.charged));
    }
    for label in Lender::labels(context) {
        let lender = Lender::find(context, &label)?;
        if lender.service().running()?.is_none() {
            continue;
        }
        let machine = lender.machine(session.network())?;
        if !session
            .client
            .machine_leases(&machine)
            .await?
            .items
            .is_empty()
        {
            progress.phase("leases", format!("draining {}", lender.stored.name));
            let mut provider = lender.provider(context).await?;
            let drained = provider
                .drain(machine, Some(session.client.status().await?.now.0))
                .await;
            drained.map_err(|error| {
                Failure::new("machine-state", format!("could not drain {machine}")).causes(&error)
            })?;
        }
        wait_until_empty(&session, &lender).await?;
    }
    Ok(())
}

async fn wait_until_empty(session: &Session, lender: &Lender) -> Result<()> {
    let machine = lender.machine(session.network())?;
    let begun = Instant::now();
    loop {
        let leases = session.client.machine_leases(&machine).await?.items.len();
        let containers = lender.containers();
        if leases == 0 && containers == 0 {
            return Ok(());
        }
        if begun.elapsed() >= SETTLE_DEADLINE {
            let what = format!(
                "{} still has {leases} leases and {containers} containers",
                lender.stored.name
            );
            return Err(Failure::new("timed-out", what));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Removes containers that the agent left, because it was killed or could not settle.
async fn wipe(context: &Context, progress: &Progress, label: &str) -> Result<()> {
    let lender = Lender::find(context, label)?;
    if lender.containers() == 0 {
        return Ok(());
    }
    let runtime = lender.open_runtime().await?;
    let failed = |error: runtime::Error| {
        Failure::new(
            "no-runtime",
            format!("could not wipe what {} left", lender.stored.name),
        )
        .causes(&error)
    };
    let left = runtime.list().await.map_err(failed)?;
    for (id, _) in &left {
        runtime.remove(id).await.map_err(failed)?;
    }
    progress.note(
        "containers",
        &format!("wiped {} that {} left", left.len(), lender.stored.name),
    );
    Ok(())
}

fn purge(context: &Context) -> Result<()> {
    for name in CONTENTS {
        let path = context.home.join(name);
        let removed = match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(io_failure("remove", &path))?;
    }
    // Only if it is empty: other things of the user's may lie there.
    let _removed = fs::remove_dir(&context.home);
    Ok(())
}
