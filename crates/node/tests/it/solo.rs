//! One validator: blocks, restarts, proofs, limits.

use std::time::{Duration, Instant};

use crate::world::{account, apply, fresh_key, issue, start, transfer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_become_final_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let node = start(folder.path()).await;
    println!("started in {:?}", started.elapsed());
    let handle = node.handle();
    let (alice, bob) = (fresh_key(), fresh_key());
    let at = Instant::now();
    apply(&handle, issue(0, account(&alice), 100)).await;
    println!("first tx final in {:?}", at.elapsed());
    let mut times = Vec::new();
    for nonce in 0..40 {
        let at = Instant::now();
        apply(&handle, transfer(&alice, nonce, account(&bob), 1_000_000)).await;
        times.push(at.elapsed());
    }
    times.sort();
    println!(
        "finality p50 {:?} max {:?}",
        times[times.len() / 2],
        times[times.len() - 1]
    );
    let head = handle.status().head;
    println!("head {head:?}");
    node.stop().await.unwrap();
    println!("stopped");
    let at = Instant::now();
    let node = start(folder.path()).await;
    println!("restarted in {:?}", at.elapsed());
    let handle = node.handle();
    assert!(handle.status().head.height + 2 >= head.height);
    apply(&handle, transfer(&alice, 40, account(&bob), 1_000_000)).await;
    println!("head {:?}", handle.status().head);
    tokio::time::sleep(Duration::from_millis(10)).await;
    node.stop().await.unwrap();
}
