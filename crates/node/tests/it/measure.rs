//! Numbers, on request: `cargo test --release -p node --test it -- --ignored --nocapture measure::`

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::world::{account, apply, fixed_key, included, open_accounts, start, transfer};

fn cpu_and_rss() -> (Duration, u64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let pages: u64 = fields[21].parse().unwrap();
    (Duration::from_millis(ticks * 10), pages * 4096)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn idle_and_finality() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob) = (fixed_key(1), fixed_key(2));
    open_accounts(&handle, &[&alice, &bob]).await;
    let before = cpu_and_rss();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let after = cpu_and_rss();
    println!(
        "idle: {:?} cpu in 20 s, rss {} MiB",
        after.0.saturating_sub(before.0),
        after.1 >> 20
    );
    let mut times = Vec::new();
    for nonce in 0..200 {
        let at = Instant::now();
        apply(&handle, transfer(&alice, nonce, account(&bob), 1_000)).await;
        times.push(at.elapsed());
    }
    times.sort();
    println!(
        "finality: p50 {:?} p90 {:?} p99 {:?}",
        times[100], times[180], times[198]
    );
    let before = cpu_and_rss().0;
    let at = Instant::now();
    let mut last = None;
    for nonce in 200..2_200 {
        let tx = transfer(&alice, nonce, account(&bob), 1_000);
        last = Some(handle.submit(tx).await.unwrap());
    }
    println!("2000 signed and submitted in {:?}", at.elapsed());
    let at_block = included(&handle, &last.unwrap()).await;
    println!(
        "2000 final in {:?}, cpu {:?}, last in block {}, rss {} MiB",
        at.elapsed(),
        cpu_and_rss().0.saturating_sub(before),
        at_block.height,
        cpu_and_rss().1 >> 20
    );
    node.stop().await.unwrap();
}
