//! `tradewind provider test`: everything that tenants will rely on, tried for real.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use agent::inventory::{Gpu, GpuProbe as _, NotOffered, offerable};
use agent::setup::standing;
use agent::steward::{DISK_ENOUGH, read_closed};
use ed25519_dalek::SigningKey;
use market::{Grant, LeaseId, Millis, PublicKey, Rights};
use net::logs::{LogClient, LogError, LogOffsets, LogQuery, LogStreams};
use net::{BindOptions, Endpoint, Peer, Services};
use runtime::{Capabilities, Isolation};

use super::trial::{IMAGE_HINT, Trial, try_image};
use super::{Lender, Which, open_runtime, setup};
use crate::commands::checks::{CLOCK_APART_MS, Check, report};
use crate::commands::up;
use crate::context::Context;
use crate::error::{Failure, Result};
use crate::session::{Session, block_on};
use crate::wallet::Wallet;
use crate::{tail, words};

/// Beats older than this, with a minute between two of an idle machine, are missed ones.
const BEAT_OLD: Millis = Millis::from_secs(150);
/// What is written to measure the disk: beyond what a small cache takes in silence, and done in a second or two.
const DISK_TRIAL_BYTES: usize = 32 << 20;
/// For the data plane of a machine to answer.
const DIAL_DEADLINE: Duration = Duration::from_secs(15);

/// Try everything that tenants will rely on
///
/// A container is started and must be denied what it has no right to, the disk is written to, GPUs are asked for, the
/// machine is dialled at the addresses that it gives to tenants, and the ledger must say what is true of it.
#[derive(Debug, clap::Args)]
pub(super) struct Test {
    #[command(flatten)]
    which: Which,
    /// Fetch this image instead of running the demo's
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
}

pub(super) fn run(context: &Context, args: &Test) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    let items = block_on(async {
        let (mut checks, capabilities) = containers(&lender, trial(context, args)).await;
        checks.push(gpus(capabilities.as_ref()).await);
        checks.push(disk(&lender));
        checks.push(prices(&lender));
        checks.extend(ledger(context, &lender).await);
        Ok(checks)
    })?;
    let names = items.iter().map(|check| check.name.len());
    let width = names.max().unwrap_or_default() + 1;
    report(context, "provider test", width, items)
}

/// Makes a line of the report.
pub(super) fn check(
    name: &str,
    seen: std::result::Result<String, String>,
    hint: &'static str,
) -> Check {
    let passed = seen.is_ok();
    let (Ok(seen) | Err(seen)) = seen;
    Check {
        name: name.to_owned(),
        passed,
        seen,
        hint: Some(hint.to_owned()),
    }
}

/// Starts a container in a folder of its own, beside the agent's: its self-test is what a tenant's code could try.
async fn containers(lender: &Lender, trial: Result<Trial>) -> (Vec<Check>, Option<Capabilities>) {
    const HINT: &str = "see what this machine lacks: tradewind doctor";
    let folder = lender.folder.join("test");
    let tried = async {
        let runtime = open_runtime(lender.stored.runtime, &folder, &lender.stored.images).await?;
        let probed = runtime.probe().await;
        let capabilities = probed
            .map_err(|e| Failure::new("no-runtime", "could not probe the runtime").causes(&e))?;
        let images = match &trial {
            Ok(trial) if capabilities.usable.is_ok() => try_image(runtime.as_ref(), trial).await,
            Ok(_) => Vec::new(),
            Err(failure) => vec![check("image", Err(failure.what().to_owned()), IMAGE_HINT)],
        };
        Ok::<_, Failure>((capabilities, images))
    };
    let tried = tried.await;
    // It held nothing but what the trial made.
    let _removed = fs::remove_dir_all(&folder);
    let (capabilities, images) = match tried {
        Ok(tried) => tried,
        Err(failure) => {
            let failed = check("runtime", Err(failure.what().to_owned()), HINT);
            return (vec![failed], None);
        }
    };
    let name = &capabilities.name;
    let usable = capabilities.usable.as_ref();
    let seen = usable
        .map(|()| format!("{name}: a container was started"))
        .map_err(Clone::clone);
    let mut checks = vec![check("runtime", seen, HINT)];
    for tried in &capabilities.self_test {
        checks.push(Check {
            name: tried.name.replace('_', " "),
            passed: tried.passed,
            seen: tried.seen.clone(),
            hint: Some(HINT.to_owned()),
        });
    }
    checks.push(limits(&capabilities));
    checks.extend(images);
    (checks, Some(capabilities))
}

/// Tells which limits of a lease the runtime enforces here. One that isolates nothing promises none, and the ledger says so.
fn limits(capabilities: &Capabilities) -> Check {
    const HINT: &str = "limits need control groups of version 2, and root: tradewind doctor";
    let enforced = &capabilities.limits;
    let all = [
        ("processor", enforced.cpu),
        ("memory", enforced.memory),
        ("processes", enforced.pids),
    ];
    let missing: Vec<&str> = all
        .iter()
        .filter(|(_, on)| !on)
        .map(|(name, _)| *name)
        .collect();
    let seen = match (&*missing, capabilities.isolation) {
        ([], _) => Ok("processor, memory and processes".to_owned()),
        (_, Isolation::None) => Ok("none; only jobs that allow --isolation none come".to_owned()),
        _ => Err(format!("not on {}", missing.join(", "))),
    };
    check("limits enforced", seen, HINT)
}

/// Returns what is tried: the demo's image is written anew where its program is beside this one.
fn trial(context: &Context, args: &Test) -> Result<Trial> {
    match &args.image {
        Some(image) => Ok(Trial::Fetch(image.clone())),
        None => up::demo_image(context).map(Trial::Demo),
    }
}

/// Asks the driver for GPUs, and says of each whether a runtime that can do this could hand it to a container.
pub(crate) async fn gpus(runtime: Option<&Capabilities>) -> Check {
    const DRIVER: &str =
        "see what the driver says: nvidia-smi; a driver that hangs wants a restart of the machine";
    const CDI: &str = "describe them: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml \
         (from the package nvidia-container-toolkit)";
    let gpus = match ask_driver().await {
        Ok(gpus) => gpus,
        Err(why) => return check("GPUs", Err(why), DRIVER),
    };
    let Some(runtime) = runtime.filter(|_| !gpus.is_empty()) else {
        let seen = match gpus.len() {
            0 => "none, or no driver".to_owned(),
            n => format!("{n}; no runtime works that could hand them out"),
        };
        return check("GPUs", Ok(seen), DRIVER);
    };
    let tried: Vec<_> = gpus.iter().map(|gpu| offerable(gpu, runtime)).collect();
    let words: Vec<String> = gpus
        .iter()
        .zip(&tried)
        .map(|(gpu, tried)| match tried {
            Ok(_) => format!("{}: can be leased", gpu.name),
            Err(why) => format!("{}: {why}", gpu.name),
        })
        .collect();
    let seen = words.join("; ");
    if tried.contains(&Err(NotOffered::Undescribed)) {
        return check("GPUs", Err(seen), CDI);
    }
    check("GPUs", Ok(seen), DRIVER)
}

async fn ask_driver() -> std::result::Result<Vec<Gpu>, String> {
    let probe = setup::gpu_probe().map_err(|failure| failure.what().to_owned())?;
    let asked = tokio::task::spawn_blocking(move || probe.gpus()).await;
    asked
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())
}

/// Writes, and waits until it is on the disk.
fn disk(lender: &Lender) -> Check {
    const HINT: &str = "make room; below a quarter of a GiB the machine takes no leases";
    let path = lender.folder.join("disk-test");
    let begun = Instant::now();
    let written = fs::File::create(&path).and_then(|mut file| {
        let piece = vec![0x5a; 1 << 20];
        for _ in 0..DISK_TRIAL_BYTES >> 20 {
            file.write_all(&piece)?;
        }
        file.sync_all()
    });
    let took = begun.elapsed();
    let _removed = fs::remove_file(&path);
    let seen = written.map_err(|error| format!("{}: {error}", lender.folder.display()));
    let seen = seen.and_then(|()| {
        let stat = nix::sys::statvfs::statvfs(&lender.folder).map_err(|error| error.to_string())?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        let per_second =
            u128::try_from(DISK_TRIAL_BYTES).unwrap_or(0) * 1_000 / took.as_millis().max(1);
        let text = format!(
            "{} free, writes {} a second",
            words::show_size(free),
            words::show_size(u64::try_from(per_second).unwrap_or(u64::MAX)),
        );
        if free < DISK_ENOUGH.bytes() {
            Err(text)
        } else {
            Ok(text)
        }
    });
    check("disk", seen, HINT)
}

fn prices(lender: &Lender) -> Check {
    let seen = lender
        .policy()
        .map(|policy| {
            let bids = if policy.bids() {
                "bids below them"
            } else {
                "no bids below them"
            };
            format!("{} set, {bids}", policy.lines.len())
        })
        .map_err(|failure| failure.what().to_owned());
    check("prices", seen, "set one: tradewind provider price set 0.10")
}

async fn ledger(context: &Context, lender: &Lender) -> Vec<Check> {
    let session = match Session::open(context).await {
        Ok(session) => session,
        Err(failure) => {
            let hint = "start a node, or name another: --endpoint http://HOST:PORT";
            return vec![check("node", Err(failure.what().to_owned()), hint)];
        }
    };
    let mut checks = vec![clock(&session)];
    let machine = match lender.machine(session.network()) {
        Ok(machine) => machine,
        Err(failure) => {
            let hint = "register it: tradewind provider init";
            checks.push(check("registered", Err(failure.what().to_owned()), hint));
            return checks;
        }
    };
    let stands = match standing(&session.client, machine).await {
        Ok(stands) => stands,
        Err(error) => {
            let hint = "register it: tradewind provider init";
            checks.push(check("registered", Err(error.to_string()), hint));
            return checks;
        }
    };
    checks.extend(listing(lender, &stands, session.status.now.0));
    checks.push(data_plane(&session, lender, &stands.machine).await);
    checks
}

fn clock(session: &Session) -> Check {
    let (here, there) = (tail::now(), session.status.now.0);
    let apart = here.since(there).max(there.since(here)).millis();
    let text = format!("{apart} ms from the ledger's");
    let seen = if apart <= CLOCK_APART_MS {
        Ok(text)
    } else {
        Err(text)
    };
    check(
        "clock",
        seen,
        "set it by the network: timedatectl set-ntp true",
    )
}

fn listing(lender: &Lender, stands: &agent::setup::Standing, now: market::Timestamp) -> Vec<Check> {
    let machine = &stands.machine;
    let state = match machine.state.as_str() {
        "active" => Ok("active".to_owned()),
        "draining" => Err(read_closed(&lender.folder)
            .map_or_else(|| "drained by hand".to_owned(), |why| why.to_string())),
        other => Err(other.to_owned()),
    };
    let beat = match machine.last_beat {
        Some(at) if now.since(at.0) <= BEAT_OLD => Ok(words::show_age(at.0, now)),
        Some(at) => Err(words::show_age(at.0, now)),
        None => Err("never".to_owned()),
    };
    let offers = match stands.offers.len() {
        0 => Err("none stands".to_owned()),
        count => Ok(format!("{count} in the book")),
    };
    let free = stands
        .account
        .bonded
        .0
        .saturating_sub(stands.provider.reserved.0);
    let dearest = stands
        .offers
        .iter()
        .map(|o| o.prices.per_device_hour.0)
        .max();
    let bond = format!("{} bonded, {free} of it free", stands.account.bonded);
    let bond = if dearest.is_some_and(|price| price > free) && stands.leases.is_empty() {
        Err(format!(
            "{bond}; a lease of one device reserves an hour's price"
        ))
    } else {
        Ok(bond)
    };
    vec![
        check(
            "takes leases",
            state,
            "put it back: tradewind provider resume",
        ),
        check("beats", beat, "run its agent: tradewind provider start"),
        check("offers", offers, "place them: tradewind provider init"),
        check("bond", bond, "post more: tradewind provider init --bond 20"),
    ]
}

/// Dials the machine as a tenant would, at the addresses on the ledger, and asks for output of a lease that is none: that
/// it is refused shows that the right machine answers.
async fn data_plane(session: &Session, lender: &Lender, machine: &api::MachineView) -> Check {
    const HINT: &str = "its agent must run, and its UDP port be open; tenants dial what `provider machine show` names";
    let tried = tokio::time::timeout(DIAL_DEADLINE, dial(session, lender, machine)).await;
    let seen = tried.unwrap_or_else(|_| Err(format!("no answer within {DIAL_DEADLINE:?}")));
    check("reached by tenants", seen, HINT)
}

async fn dial(
    session: &Session,
    lender: &Lender,
    machine: &api::MachineView,
) -> std::result::Result<String, String> {
    let wallet = Wallet::open(&lender.stored.key_file).map_err(|f| f.what().to_owned())?;
    let peer = Peer::from_hints(machine.endpoint_key, &machine.dial);
    let secret = SigningKey::from_bytes(&rand::random());
    let endpoint = Endpoint::bind(&secret, BindOptions::all_interfaces(0), Services::none())
        .await
        .map_err(|error| error.to_string())?;
    let lease = LeaseId::from_bytes(rand::random());
    let grant = Grant {
        lease,
        endpoint: PublicKey::of(&secret),
        rights: Rights::LOGS,
        expires_at: tail::now().after(Millis::from_secs(60)),
    };
    let query = LogQuery {
        lease,
        streams: LogStreams::Both,
        from: LogOffsets::default(),
        follow: false,
    };
    let grant = grant.sign(session.network(), wallet.key());
    let begun = Instant::now();
    let answer = LogClient::new(&endpoint, peer, grant, query).next().await;
    endpoint.close().await;
    match answer {
        Err(LogError::Refused(_)) => Ok(format!(
            "answers in {} ms at {}",
            begun.elapsed().as_millis(),
            machine
                .dial
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        )),
        Ok(_) => Err("it gave output of a lease that does not exist".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
