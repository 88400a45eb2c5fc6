//! A node that is killed at any instant loses no final transaction and applies none twice.
//!
//! The child is this test binary itself, started again for one ignored test that runs a node and says on its standard
//! output what became final.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use market::codec::TxId;
use node::{Filter, Handle, PAGE_MAX};

use crate::world::{PATIENCE, account, fixed_key, included, open_accounts, start, transfer};

/// Where the child finds its folder.
const FOLDER: &str = "TRADEWIND_TEST_FOLDER";
/// Kills of one run: at least this many.
const KILLS: u32 = 15;
/// Transfers that the child keeps under way, so that blocks hold several.
const PIPELINE: u64 = 8;
/// What the receiving account was opened with.
const OPENED: u64 = 1_000_000_000;
/// Each moves this much.
const MICROS: u64 = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the crash test, not a test"]
async fn child() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let node = start(Path::new(&folder)).await;
    let handle = node.handle();
    let (alice, bob) = (fixed_key(1), fixed_key(2));
    open_accounts(&handle, &[&alice, &bob]).await;
    let mut nonce = handle.next_nonce(&market::PublicKey::of(&alice)).unwrap();
    println!("ready {nonce}");
    loop {
        let mut ids = Vec::new();
        for _ in 0..PIPELINE {
            ids.push(
                handle
                    .submit(transfer(&alice, nonce, account(&bob), MICROS))
                    .await
                    .unwrap(),
            );
            nonce += 1;
        }
        for id in ids {
            let at = included(&handle, &id).await;
            assert_eq!(at.result, Ok(()));
            println!("final {} {id}", at.nonce);
        }
    }
}

struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

fn spawn(folder: &Path) -> Running {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Running { child, lines }
}

/// Kills after the given time and returns what was said to be final until then.
fn kill_after(mut running: Running, delay: Duration) -> Vec<(u64, TxId)> {
    thread::sleep(delay);
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    running
        .lines
        .iter()
        .filter_map(|line| parse(&line))
        .collect()
}

fn parse(line: &str) -> Option<(u64, TxId)> {
    let (nonce, id) = line.strip_prefix("final ")?.split_once(' ')?;
    Some((nonce.parse().ok()?, TxId::parse(id)?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_instant_no_final_transaction_is_lost_or_applied_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for round in 0..KILLS {
        let running = spawn(folder.path());
        // Some while it starts, some while it works: the delays are spread over both.
        let delay = Duration::from_millis(u64::from(round * 97 % 700) + 30);
        told.extend(kill_after(running, delay));
    }
    // One that surely works, however slow the machine is.
    let running = spawn(folder.path());
    for _ in 0..20 {
        told.extend(parse(&running.lines.recv_timeout(PATIENCE).unwrap()));
    }
    told.extend(kill_after(running, Duration::from_millis(3)));
    println!(
        "{} transfers were said to be final over {} kills",
        told.len(),
        KILLS + 1
    );
    assert!(!told.is_empty());

    let node = start(folder.path()).await;
    let handle = node.handle();
    for (nonce, id) in &told {
        let found = handle.tx(id).await.unwrap();
        let found = found.unwrap_or_else(|| panic!("final transfer {nonce} was lost"));
        assert_eq!((found.nonce, &found.result), (*nonce, &Ok(())));
    }
    require_each_once(&handle);
    require_history_without_gaps(&handle).await;
    node.stop().await.unwrap();
}

/// The next nonce, the money that arrived, and the transfers in the history are one number.
fn require_each_once(handle: &Handle) {
    let (alice, bob) = (fixed_key(1), fixed_key(2));
    let sent = handle.next_nonce(&market::PublicKey::of(&alice)).unwrap();
    let arrived = handle.read(|market| {
        let bob = market
            .account(account(&bob))
            .map(|bob| bob.available.micros());
        bob.unwrap_or(0)
    });
    assert_eq!(arrived, OPENED + sent * MICROS);
    println!("{sent} transfers are in the ledger");
}

async fn require_history_without_gaps(handle: &Handle) {
    let mut after = None;
    let mut next = 0;
    loop {
        let (events, end) = handle
            .events(Filter::default(), after, PAGE_MAX)
            .await
            .unwrap();
        for event in &events {
            assert_eq!(
                event.seq, next,
                "events are numbered without gaps or repeats"
            );
            next += 1;
        }
        if end == after {
            break;
        }
        after = end;
    }
    let head = *handle.head().borrow();
    assert!(head.height > 0 && next > 0);
}
