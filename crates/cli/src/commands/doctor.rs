//! `tradewind doctor`: check everything that this machine's roles need.

use std::fs;

use runtime::Capabilities;

use crate::commands::checks::{CLOCK_APART_MS, Check, report};
use crate::commands::node;
use crate::commands::provider::{Lender, RuntimeKind, gpus, open_runtime};
use crate::context::Context;
use crate::error::Result;
use crate::session::{Session, block_on};
use crate::tail;
use crate::words;

/// Free space below which a ledger soon stops.
const DISK_LOW: u64 = 1 << 30;
/// Columns for the names of checks.
const NAME_WIDTH: usize = 18;

/// Check everything that this machine's roles need
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(context: &Context, _args: &Args) -> Result<u8> {
    let items = block_on(async {
        let mut checks = vec![home(context), disk(context), own_key(context)];
        checks.extend(network(context).await);
        for label in Lender::labels(context) {
            checks.push(provider(context, &label));
        }
        checks.extend(runtimes().await);
        Ok(checks)
    })?;
    report(context, "doctor", NAME_WIDTH, items)
}

fn passed(name: impl Into<String>, seen: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        passed: true,
        seen: seen.into(),
        hint: None,
    }
}

fn failed(name: impl Into<String>, seen: impl Into<String>, hint: impl Into<String>) -> Check {
    Check {
        name: name.into(),
        passed: false,
        seen: seen.into(),
        hint: Some(hint.into()),
    }
}

fn home(context: &Context) -> Check {
    let home = context.home.display().to_string();
    if !context.home.exists() {
        return failed(
            "home",
            format!("{home} does not exist"),
            "make it: tradewind up",
        );
    }
    match tempfile_in(&context.home) {
        Ok(()) => passed("home", format!("{home}, context {}", context.name())),
        Err(error) => failed(
            "home",
            format!("{home}: {error}"),
            "make it writable, or use another: TRADEWIND_HOME=/PATH",
        ),
    }
}

fn tempfile_in(folder: &std::path::Path) -> std::io::Result<()> {
    let path = folder.join(format!("doctor-{}", std::process::id()));
    fs::write(&path, b"")?;
    fs::remove_file(&path)
}

fn disk(context: &Context) -> Check {
    let stat = nix::sys::statvfs::statvfs(&context.home);
    let free = stat.map(|stat| stat.blocks_available().saturating_mul(stat.fragment_size()));
    match free {
        Ok(free) if free >= DISK_LOW => passed("disk", format!("{} free", words::show_size(free))),
        Ok(free) => failed(
            "disk",
            format!("{} free", words::show_size(free)),
            "make room, or use another disk: TRADEWIND_HOME=/PATH",
        ),
        Err(error) => failed("disk", error.to_string(), "see: tradewind up"),
    }
}

fn own_key(context: &Context) -> Check {
    match context.wallet() {
        Ok(wallet) => passed("key", wallet.account().to_string()),
        Err(failure) => failed("key", failure.what(), failure.hints().join("; ")),
    }
}

async fn network(context: &Context) -> Vec<Check> {
    let service = node::service(&context.home);
    let process = match service.running() {
        Ok(Some(pid)) => passed("node process", format!("pid {pid}")),
        Ok(None) if context.stored().is_none() => {
            passed("node process", "none of this home folder")
        }
        Ok(None) => failed("node process", "not running", "start it: tradewind up"),
        Err(failure) => failed("node process", failure.what(), "see the file's owner"),
    };
    let session = match Session::open(context).await {
        Ok(session) => session,
        Err(failure) => {
            return vec![
                process,
                failed("node", failure.what(), failure.hints().join("; ")),
            ];
        }
    };
    let status = &session.status;
    let node = match &status.not_ready {
        None => passed(
            "node",
            format!(
                "{} at {}, block {}",
                status.network,
                session.client.endpoint(),
                status.height
            ),
        ),
        Some(why) => failed(
            "node",
            why.clone(),
            format!("read its log: {}", service.log().display()),
        ),
    };
    let apart = tail::now()
        .unix_millis()
        .abs_diff(status.now.0.unix_millis());
    let clock = if apart <= CLOCK_APART_MS {
        passed("clock", format!("{apart} ms from the node's"))
    } else {
        failed(
            "clock",
            format!("{apart} ms from the node's"),
            "set this machine's clock, or the node's",
        )
    };
    let keeper = match &status.keeper {
        Some(keeper) => passed("keeper", keeper.dial.join(", ")),
        None => failed(
            "keeper",
            "the node keeps no manifests",
            "submit jobs to another node: --endpoint http://HOST:PORT",
        ),
    };
    vec![process, node, clock, keeper]
}

fn provider(context: &Context, label: &str) -> Check {
    let name = format!("provider {label}");
    let running = Lender::find(context, label).and_then(|lender| lender.service().running());
    match running {
        Ok(Some(pid)) => passed(name, format!("pid {pid}")),
        Ok(None) => failed(name, "not running", "start it: tradewind up"),
        Err(failure) => failed(name, failure.what(), failure.hints().join("; ")),
    }
}

/// Tries every runtime in a folder of its own; one that works is enough.
async fn runtimes() -> Vec<Check> {
    let folder = std::env::temp_dir().join(format!("tradewind-doctor-{}", std::process::id()));
    let mut checks = Vec::new();
    // The strongest that works: the one that a provider gets.
    let mut best = None;
    for kind in [
        RuntimeKind::Embedded,
        RuntimeKind::Runc,
        RuntimeKind::Engine,
        RuntimeKind::Process,
    ] {
        let name = format!("{} runtime", kind.word());
        let seen = try_runtime(kind, &folder.join(kind.word())).await;
        checks.push(match seen {
            Ok((seen, can)) => {
                best = best.or(Some(can));
                passed(name, seen)
            }
            Err(why) if best.is_some() => passed(name, format!("not needed: {why}")),
            Err(why) => failed(name, why, "run as root for real containers"),
        });
    }
    if best.is_some() {
        // What the weaker one can do is enough to go on; the stronger one's lack is said, and no failure.
        for check in checks.iter_mut().filter(|check| !check.passed) {
            check.passed = true;
            check.seen = format!("not available: {}", check.seen);
        }
    }
    let _removed = fs::remove_dir_all(&folder);
    // Whoever only hires needs none to be leasable.
    checks.push(Check {
        passed: true,
        ..gpus(best.as_ref()).await
    });
    checks
}

async fn try_runtime(
    kind: RuntimeKind,
    folder: &std::path::Path,
) -> Result<(String, Capabilities), String> {
    let runtime = open_runtime(kind, folder, &agent::images::ImagePolicy::default())
        .await
        .map_err(|failure| failure.what().to_owned())?;
    let can = runtime.probe().await.map_err(|error| error.to_string())?;
    can.usable.clone()?;
    let failed: Vec<&str> = can
        .self_test
        .iter()
        .filter(|check| !check.passed)
        .map(|check| check.name.as_str())
        .collect();
    let limits = [
        ("cpu", can.limits.cpu),
        ("memory", can.limits.memory),
        ("pids", can.limits.pids),
    ];
    let held: Vec<&str> = limits
        .iter()
        .filter(|(_, held)| *held)
        .map(|(name, _)| *name)
        .collect();
    let limits = if held.is_empty() {
        "no limits".to_owned()
    } else {
        format!("limits: {}", held.join(", "))
    };
    let isolation = if can.isolates() {
        "isolates"
    } else {
        "does not isolate"
    };
    let lacks = if failed.is_empty() {
        String::new()
    } else {
        format!("; failed: {}", failed.join(", "))
    };
    let differences: Vec<String> = can.differences.iter().map(ToString::to_string).collect();
    let differences = if differences.is_empty() {
        String::new()
    } else {
        format!("; unlike embedded: {}", differences.join(", "))
    };
    let seen = format!("{isolation}, {limits}{lacks}{differences}");
    Ok((seen, can))
}
