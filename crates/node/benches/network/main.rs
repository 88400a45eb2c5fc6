//! What a network of several validators does in a second: real processes, sockets, signatures and disk.
//! `cargo xtask bench network`.
//!
//! ```text
//! --validators N  processes (4)
//! --txs N         transactions of each saturated phase (40000)
//! --seconds N     how long the phases of idling and of 2,000 a second last (10)
//! --people N      tenants with a provider and a machine each, for the market's mix (2000)
//! --folder P      where the data lies while it runs (a new folder in the current one)
//! ```
//! Every process is one validator, signs its share of the load before it runs, and submits it to itself; the others hear
//! of it by gossip. The parent tells all of them when a phase begins. The last line is a JSON object.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::wildcard_imports,
    reason = "a measurement counts in floats"
)]

#[path = "../../../market/benches/market/figures.rs"]
#[expect(dead_code, reason = "the market's bench uses the rest")]
mod figures;
#[path = "../../../market/benches/market/life.rs"]
mod life;
#[path = "../ledger/process.rs"]
mod process;
#[path = "../ledger/send.rs"]
mod send;
mod validator;

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use figures::{Figures, note};
use market::{Genesis, Millis, Params, Timestamp};
use send::Sender;

/// Transactions of one batch.
const BATCH: usize = 100;
/// Load at which finality is measured, in transactions a second, of all validators together.
const STEADY_PER_S: usize = 2_000;
/// Longest wait for all validators to end a phase.
const PHASE_MAX: Duration = Duration::from_mins(5);
/// Phases, in order; each process names its figures by them.
const PHASES: [&str; 6] = ["set_up", "idle", "transfers", "mix", "steady", "proof"];

/// How much is measured.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) validators: usize,
    pub(crate) txs: usize,
    pub(crate) seconds: u64,
    pub(crate) people: usize,
    pub(crate) folder: PathBuf,
    /// In a process of a validator: its number from 0, and when the network was born.
    pub(crate) validator: Option<usize>,
    pub(crate) born_ms: u64,
}

fn main() -> ExitCode {
    let Ok(plan) = plan(env::args().skip(1)) else {
        note("the options are --validators, --txs, --seconds, --people and --folder");
        return ExitCode::from(2);
    };
    if let Some(number) = plan.validator {
        validator::run(&plan, number);
        return ExitCode::SUCCESS;
    }
    let figures = measure(&plan);
    // What is left of the folder does no harm.
    drop(std::fs::remove_dir_all(&plan.folder));
    figures.print();
    ExitCode::SUCCESS
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let folder = format!("bench-network-{}", std::process::id());
    let mut plan = Plan {
        validators: 4,
        txs: 40_000,
        seconds: 10,
        people: 2_000,
        folder: folder.into(),
        validator: None,
        born_ms: send::now().unix_millis(),
    };
    while let Some(word) = words.next() {
        // Cargo says that this is a bench; we know.
        if word == "--bench" {
            continue;
        }
        let value = words.next().ok_or("a value is missing")?;
        let number = value.parse::<u64>().map_err(|_| "not a number");
        match word.as_str() {
            "--validators" => plan.validators = number? as usize,
            "--txs" => plan.txs = number? as usize,
            "--seconds" => plan.seconds = number?,
            "--people" => plan.people = number? as usize,
            "--folder" => plan.folder = value.into(),
            "--validator" => plan.validator = Some(number? as usize),
            "--born" => plan.born_ms = number?,
            _ => return Err(format!("no such option: {word}")),
        }
    }
    Ok(plan)
}

/// One validator's process.
struct Process {
    child: Child,
    orders: ChildStdin,
    said: Receiver<String>,
}

fn measure(plan: &Plan) -> Figures {
    let listeners: Vec<TcpListener> = (0..plan.validators)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"))
        .collect();
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| listener.local_addr().expect("it is bound"))
        .collect();
    let born = Timestamp::from_unix_millis(plan.born_ms);
    let genesis = Genesis {
        network: send::network(),
        time: born,
        treasurers: vec![Sender::new(plan.people, born).treasurer()],
        params: Params {
            heartbeat: Millis::from_secs(1),
            ..Params::default()
        },
    };
    node::deal_network(&plan.folder, &genesis, &addresses).expect("a new network");
    drop(listeners);
    let mut processes: Vec<Process> = (0..plan.validators).map(|at| spawn(plan, at)).collect();
    let mut figures = Figures::default();
    for process in &processes {
        hear(process, "ready");
    }
    for phase in PHASES {
        note(phase);
        for process in &mut processes {
            writeln!(process.orders, "{phase}").expect("the process listens");
        }
        let all: Vec<BTreeMap<String, f64>> =
            processes.iter().map(|one| hear(one, phase)).collect();
        put(&mut figures, phase, &all);
    }
    for mut process in processes {
        drop(process.orders);
        drop(process.child.wait());
    }
    figures
}

/// Puts what all validators said of a phase: rates add up, waits and sizes are the worst of all.
fn put(figures: &mut Figures, phase: &str, all: &[BTreeMap<String, f64>]) {
    let names: Vec<&String> = all.first().into_iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let values = all.iter().filter_map(|one| one.get(name)).copied();
        let value = match name.as_str() {
            "tx_per_s" | "mix_tx_per_s" => values.sum(),
            "cpu_us_per_tx" => values.sum::<f64>() / (all.len() * all.len()) as f64,
            _ => values.fold(0.0, f64::max),
        };
        note(&format!("{phase}: {name} {value:.3}"));
        figures.put(name, value);
    }
}

fn spawn(plan: &Plan, at: usize) -> Process {
    let number = at.to_string();
    let options = [
        ("--validators", plan.validators.to_string()),
        ("--txs", plan.txs.to_string()),
        ("--seconds", plan.seconds.to_string()),
        ("--people", plan.people.to_string()),
        ("--folder", plan.folder.display().to_string()),
        ("--validator", number),
        ("--born", plan.born_ms.to_string()),
    ];
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(options.iter().flat_map(|(name, value)| [*name, value]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program runs");
    let orders = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, said) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Process {
        child,
        orders,
        said,
    }
}

/// Waits until the process has ended a phase, and returns its figures of it.
fn hear(process: &Process, phase: &str) -> BTreeMap<String, f64> {
    let line = process.said.recv_timeout(PHASE_MAX);
    let line = line.unwrap_or_else(|_| panic!("a validator does not end {phase}"));
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some(phase), "{line}");
    words
        .filter_map(|word| word.split_once('='))
        .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
        .collect()
}
