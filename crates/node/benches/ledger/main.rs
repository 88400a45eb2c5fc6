//! What a whole node does in a second: one validator, real signatures, real disk. `cargo xtask bench ledger`.
//!
//! ```text
//! --txs N       transactions of the saturated phase (100000)
//! --seconds N   how long the phases of idling and of 2,000 a second last (10)
//! --people N    tenants with a provider and a machine each (5000)
//! --folder P    where the node's data lies while it runs (a new folder in the current one)
//! ```
//! Everything is signed before it is sent, and submitted in batches of 100 by two tasks, each for half of the people. Half are beats, a fifth
//! transfers, the rest orders, bids, reports of ready and of the end. The last line is a JSON object.
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
mod process;
mod send;

use std::{env, path::PathBuf, process::ExitCode, time::Duration};

use figures::{Figures, note, quantile_us};
use market::{Genesis, Params};
use node::{Config, Handle, Node};
use process::Usage;
use send::{Load, Sender};

/// Transactions of one batch.
const BATCH: usize = 100;
/// Load at which finality is measured, in transactions a second.
const STEADY_PER_S: usize = 2_000;

/// How much is measured.
#[derive(Clone)]
struct Plan {
    txs: usize,
    seconds: u64,
    people: usize,
    folder: PathBuf,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let (Ok(plan), Ok(runtime)) = (plan(env::args().skip(1)), runtime) else {
        note(
            "the options are --txs, --seconds, --people with a number each, and --folder with a path",
        );
        return ExitCode::from(2);
    };
    let figures = runtime.block_on(measure(&plan));
    // What is left of the folder does no harm.
    drop(std::fs::remove_dir_all(&plan.folder));
    figures.print();
    ExitCode::SUCCESS
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let folder = format!("bench-ledger-{}", std::process::id());
    let mut plan = Plan {
        txs: 100_000,
        seconds: 10,
        people: 5_000,
        folder: folder.into(),
    };
    while let Some(word) = words.next() {
        // Cargo says that this is a bench; we know.
        if word == "--bench" {
            continue;
        }
        let value = words.next().ok_or("a value is missing")?;
        let number = value.parse::<usize>().map_err(|_| "not a number");
        match word.as_str() {
            "--txs" => plan.txs = number?,
            "--seconds" => plan.seconds = number? as u64,
            "--people" => plan.people = number?,
            "--folder" => plan.folder = value.into(),
            _ => return Err(format!("no such option: {word}")),
        }
    }
    Ok(plan)
}

async fn measure(plan: &Plan) -> Figures {
    let mut figures = Figures::default();
    let born = send::now();
    let mut sender = Sender::new(plan.people, born);
    let genesis = Genesis {
        network: send::network(),
        time: born,
        treasurers: vec![sender.treasurer()],
        params: Params::default(),
    };
    note("signing");
    let steady = STEADY_PER_S * plan.seconds as usize;
    let set_up = sender.sign_set_up();
    let saturated = sender.sign(plan.txs);
    let steady = sender.sign(steady);
    let before = Usage::now(&plan.folder);
    let config = Config {
        folder: plan.folder.clone(),
        genesis: Some(genesis),
        listen_peers: None,
    };
    let node = Node::start(config).await.expect("the node starts");
    let handle = node.handle();
    for wave in &set_up {
        send::saturate(&handle, wave).await;
    }
    note("idle");
    let idle = Usage::now(&plan.folder);
    tokio::time::sleep(Duration::from_secs(plan.seconds)).await;
    let idle = Usage::now(&plan.folder).since(&idle);
    figures.put(
        "idle_cpu_ratio",
        idle.cpu.as_secs_f64() / idle.wall.as_secs_f64(),
    );
    put_saturated(&mut figures, plan, &handle, &saturated).await;
    put_steady(&mut figures, &handle, &steady).await;
    let all = Usage::now(&plan.folder).since(&before);
    figures.put("rss_mib", all.resident as f64 / f64::from(1 << 20));
    node.stop().await.expect("the node stops");
    figures
}

/// As fast as it goes.
async fn put_saturated(figures: &mut Figures, plan: &Plan, handle: &Handle, txs: &Load) {
    note("saturated");
    let height = handle.status().head.height;
    let usage = Usage::now(&plan.folder);
    let rejected = send::saturate(handle, txs).await;
    let used = Usage::now(&plan.folder).since(&usage);
    let count = txs.len() as f64;
    let blocks = handle.status().head.height - height;
    figures.put("tx_per_s", count / used.wall.as_secs_f64());
    figures.put("tx_per_cpu_s", count / used.cpu.as_secs_f64());
    figures.put("cpu_us_per_tx", used.cpu.as_secs_f64() * 1e6 / count);
    figures.put("txs_per_block", count / blocks.max(1) as f64);
    figures.put("disk_bytes_per_tx", used.disk as f64 / count);
    figures.put("written_bytes_per_tx", used.written as f64 / count);
    figures.put("writes_per_tx", used.writes as f64 / count);
    figures.put("not_taken_percent", 100.0 * rejected as f64 / count);
}

/// At a fixed load.
async fn put_steady(figures: &mut Figures, handle: &Handle, txs: &Load) {
    note("steady");
    let mut times = send::steadily(handle, txs, BATCH, STEADY_PER_S).await;
    figures.put("finality_p50_ms", quantile_us(&mut times, 50) / 1e3);
    figures.put("finality_p99_ms", quantile_us(&mut times, 99) / 1e3);
}
