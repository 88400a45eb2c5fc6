//! What every long-running role does: leave the terminal if asked to, claim its pid file, log, and end on a signal.

use std::future::Future;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::context::{Context, TRADEWIND_LOG};
use crate::error::{Failure, Result};
use crate::service::{self, Claim, Service};

/// What is logged where nothing else is asked for: what an operator wants to know the next morning.
const LOG_DEFAULT: &str = "info,commonware_consensus=warn,commonware_storage=warn,commonware_runtime=warn,commonware_glue=warn,iroh=warn,noq=warn,hyper=warn";

/// Arguments of every long-running role.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave the terminal that started it; `up` does
    #[arg(long, hide = true)]
    detached: bool,
}

/// A long-running role that has begun.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// Held until the role has ended.
    _claim: Claim,
}

impl Daemon {
    /// Leaves the terminal if asked to, claims the pid file and starts the log.
    pub(crate) fn begin(context: &Context, service: &Service, args: &Args) -> Result<Self> {
        if args.detached {
            service::detach_from_terminal();
        }
        let claim = service.claim()?;
        let wanted = context.log_filter.as_deref().unwrap_or(LOG_DEFAULT);
        let filter = EnvFilter::try_new(wanted).map_err(|error| {
            Failure::new("usage", format!("{TRADEWIND_LOG} is no filter")).causes(&error)
        })?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(context.output.colors_talk());
        // A second call in one process is a bug of ours, and only tests could make it.
        subscriber.try_init().map_err(|error| {
            Failure::new("bug", "the log was started twice").detail(error.to_string())
        })?;
        Ok(Self { _claim: claim })
    }

    /// Runs the role.
    #[expect(clippy::unused_self, reason = "the claim must be held while it runs")]
    pub(crate) fn run<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            Failure::new("io", "could not start the asynchronous runtime").causes(&error)
        })?;
        runtime.block_on(work)
    }
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stop_signal() -> Result<()> {
    let failed =
        |error: std::io::Error| Failure::new("io", "could not listen for signals").causes(&error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stopping: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stopping: SIGINT"),
    }
    Ok(())
}
