//! One validator: blocks, restarts, limits, followers.

use std::{fs, path::Path};

use market::{Digest, Millis, Money, PublicKey, RecordKey, Reject, Tx};
use node::{Config, Filter, Handle, Node, Subject, SubmitError, WaitError};

use crate::world::{
    PATIENCE, account, apply, fresh_key, genesis, included, issue, now, sign, start, transfer,
};

/// Digest of all records as the readable market has them.
fn state_digest(handle: &Handle) -> Digest {
    handle.read(|market| {
        let mut records: Vec<(RecordKey, Vec<u8>)> = market.records().collect();
        records.sort();
        let bytes: Vec<u8> = records
            .into_iter()
            .flat_map(|(key, value)| [key.0.to_vec(), value].concat())
            .collect();
        Digest::of(&[&bytes])
    })
}

/// The state root of the newest block, as a light client is shown it.
async fn certified_root(handle: &Handle) -> (u64, Vec<u8>) {
    let height = handle.status().head.height;
    let bytes = handle.block(height).await.unwrap().unwrap();
    let (header, _) = node::read_block(&bytes).unwrap();
    (height, header.state_root.to_vec())
}

async fn restart(node: Node, folder: &Path) -> Node {
    node.stop().await.unwrap();
    start(folder).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_become_final_and_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&node.handle(), issue(0, account(&alice), 100)).await;
    for nonce in 0..10 {
        apply(
            &node.handle(),
            transfer(&alice, nonce, account(&bob), 1_000_000),
        )
        .await;
    }
    let before = (
        state_digest(&node.handle()),
        certified_root(&node.handle()).await,
    );

    let node = restart(node, folder.path()).await;
    let handle = node.handle();
    // Only the clock of the ledger may have moved on, by an empty block.
    if handle.status().head.height == before.1.0 {
        assert_eq!(
            (state_digest(&handle), certified_root(&handle).await),
            before
        );
    }
    apply(&handle, transfer(&alice, 10, account(&bob), 1_000_000)).await;
    let money = handle.read(|market| market.account(account(&bob)).unwrap().available);
    assert_eq!(money, Money::from_dollars(11));
    // The store, the readable market and the certified root are one state after the reload, too.
    let key = market::RecordId::Account(account(&bob)).key();
    let proved = light::verify(&handle.proof(key).await.unwrap(), &handle.pinned()).unwrap();
    let stored = handle.read(|market| {
        market
            .records()
            .find(|(at, _)| *at == key)
            .map(|(_, value)| value)
    });
    assert_eq!(proved.value, stored);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rejected_transaction_has_a_receipt_and_uses_its_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&handle, issue(0, account(&alice), 1)).await;
    let id = handle
        .submit(transfer(&alice, 0, account(&bob), 5_000_000))
        .await
        .unwrap();
    let receipt = included(&handle, &id).await;
    assert!(
        matches!(receipt.result, Err(Reject::Funds { .. })),
        "{receipt:?}"
    );
    assert_eq!(handle.next_nonce(&PublicKey::of(&alice)).unwrap(), 1);
    assert_eq!(handle.tx(&id).await.unwrap(), Some(receipt));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_that_came_in_any_order_are_final_in_nonce_order() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&handle, issue(0, account(&alice), 10)).await;
    let mut ids = Vec::new();
    for nonce in (0..17).rev() {
        ids.push(
            handle
                .submit(transfer(&alice, nonce, account(&bob), 100_000))
                .await
                .unwrap(),
        );
    }
    assert_eq!(handle.next_nonce(&PublicKey::of(&alice)).unwrap(), 17);
    let mut places = Vec::new();
    for id in ids.iter().rev() {
        let at = included(&handle, id).await;
        assert_eq!(at.result, Ok(()));
        places.push((at.height, at.index, at.nonce));
    }
    assert!(places.is_sorted());
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_included_is_refused_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob, stranger) = (fresh_key(), fresh_key(), fresh_key());
    apply(&handle, issue(0, account(&alice), 10)).await;
    let first = transfer(&alice, 0, account(&bob), 200_000);
    apply(&handle, first.clone()).await;
    // The same bytes again are no error: the answer to them may have been lost.
    assert_eq!(handle.submit(first.clone()).await.unwrap(), first.id());

    let code = |tx| {
        let handle = handle.clone();
        async move { handle.submit(tx).await.map_err(|why| why.code()) }
    };
    assert_eq!(
        code(transfer(&stranger, 0, account(&bob), 1)).await,
        Err("unknown-key")
    );
    assert_eq!(
        code(transfer(&alice, 0, account(&bob), 7)).await,
        Err("wrong-nonce")
    );
    assert_eq!(
        code(transfer(&alice, 5_000, account(&bob), 7)).await,
        Err("key-queue-full")
    );
    let mut forged = transfer(&alice, 1, account(&bob), 7);
    forged.signature.0[3] ^= 1;
    assert_eq!(code(forged).await, Err("bad-signature"));
    let mut late = transfer(&alice, 1, account(&bob), 7).body;
    late.expires_at = market::Timestamp::from_unix_millis(now() - 1);
    assert_eq!(
        code(late.sign(&crate::world::network(), &alice)).await,
        Err("tx-expiry")
    );
    // A gap waits; another one of the same nonce is told so.
    handle
        .submit(transfer(&alice, 9, account(&bob), 1))
        .await
        .unwrap();
    assert_eq!(
        code(transfer(&alice, 9, account(&bob), 2)).await,
        Err("nonce-taken")
    );
    let waiting = handle
        .receipt(&transfer(&alice, 9, account(&bob), 3).id(), PATIENCE)
        .await;
    assert!(matches!(waiting, Err(WaitError::Unknown)), "{waiting:?}");
    node.stop().await.unwrap();
    assert!(matches!(
        handle.submit(transfer(&alice, 1, account(&bob), 1)).await,
        Err(SubmitError::Stopping)
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_cannot_fill_the_pool() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&handle, issue(0, account(&alice), 10)).await;
    // Nonce 0 never comes, so all of them wait.
    for nonce in 1..17 {
        handle
            .submit(transfer(&alice, nonce, account(&bob), 1))
            .await
            .unwrap();
    }
    let why = handle
        .submit(transfer(&alice, 17, account(&bob), 1))
        .await
        .unwrap_err();
    assert_eq!(why.code(), "key-queue-full");
    assert_eq!(handle.status().pool_txs, 16);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriber_gets_every_event_once_from_any_point() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let (alice, bob) = (fresh_key(), fresh_key());
    let mut live = handle.subscribe(Filter::default(), None);
    apply(&handle, issue(0, account(&alice), 10)).await;
    for nonce in 0..5 {
        apply(&handle, transfer(&alice, nonce, account(&bob), 200_000)).await;
    }
    let last = handle.status().head.next_seq.unwrap() - 1;
    let mut next = 0;
    while next <= last {
        let event = tokio::time::timeout(PATIENCE, live.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event.seq, next);
        next += 1;
    }
    // From the middle, of one account only, over a restart.
    let node = restart(node, folder.path()).await;
    let handle = node.handle();
    let filter = Filter {
        subjects: vec![Subject::Account(account(&bob))],
        kinds: Vec::new(),
    };
    let mut of_bob = handle.subscribe(filter.clone(), Some(last / 2));
    apply(&handle, transfer(&alice, 5, account(&bob), 200_000)).await;
    let (all, _) = handle.events(filter, Some(last / 2), 1_000).await.unwrap();
    assert!(all.len() >= 2 && all.iter().all(|event| event.seq > last / 2));
    for wanted in &all {
        let event = tokio::time::timeout(PATIENCE, of_bob.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(event, *wanted);
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleted_history_is_made_again_from_the_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&node.handle(), issue(0, account(&alice), 10)).await;
    let done = apply(&node.handle(), transfer(&alice, 0, account(&bob), 200_000)).await;
    let (before, _) = node
        .handle()
        .events(Filter::default(), None, 1_000)
        .await
        .unwrap();
    node.stop().await.unwrap();
    fs::remove_file(folder.path().join("history.sqlite")).unwrap();
    drop(fs::remove_file(folder.path().join("history.sqlite-wal")));

    let node = start(folder.path()).await;
    let (again, _) = node
        .handle()
        .events(Filter::default(), None, 1_000)
        .await
        .unwrap();
    assert!(again.starts_with(&before));
    assert_eq!(node.handle().tx(&done.id).await.unwrap(), Some(done));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_network_makes_a_block_a_heartbeat() {
    let folder = tempfile::tempdir().unwrap();
    let mut genesis = genesis();
    genesis.params.heartbeat = Millis::from_millis(250);
    let config = Config {
        folder: folder.path().to_owned(),
        genesis: Some(genesis),
        listen_peers: None,
    };
    let node = Node::start(config).await.unwrap();
    let mut head = node.handle().head();
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    let mut wait_for = async |height: u64| {
        tokio::select! {
            head = head.wait_for(|head| head.height >= height) => head.unwrap().time_ms,
            () = &mut deadline => panic!("no block {height}"),
        }
    };
    let first = wait_for(1).await;
    let fifth = wait_for(5).await;
    // Four heartbeats take a second. A block's time is read a little after its heartbeat came, hence the slack; without
    // pacing, four blocks take some 40 ms.
    assert!(fifth - first >= 700, "{} ms", fifth - first);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn corrupt_and_truncated_blocks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let alice = fresh_key();
    let at = apply(&node.handle(), issue(0, account(&alice), 10)).await;
    let bytes = node.handle().block(at.height).await.unwrap().unwrap();
    assert_eq!(node.handle().block(at.height + 1_000).await.unwrap(), None);
    node.stop().await.unwrap();
    let (header, txs) = node::read_block(&bytes).unwrap();
    assert_eq!((header.height.get(), txs.len()), (at.height, 1));
    for end in 0..bytes.len() {
        assert!(
            node::read_block(&bytes[..end]).is_err(),
            "{end} bytes are enough"
        );
    }
    for index in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[index] ^= 0x10;
        if let Ok((other, _)) = node::read_block(&forged) {
            assert_ne!(
                other.digest(),
                header.digest(),
                "byte {index} changes nothing"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn treasurer_reference_is_taken_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let alice = fresh_key();
    let reference = Digest::of(&[b"payment 1"]);
    let issue = |nonce| {
        let call = Tx::Issue {
            to: account(&alice),
            amount: Money::from_dollars(5),
            reference,
        };
        sign(&crate::world::treasurer(), nonce, call)
    };
    apply(&handle, issue(0)).await;
    let id = handle.submit(issue(1)).await.unwrap();
    assert!(included(&handle, &id).await.result.is_err());
    let money = handle.read(|market| market.account(account(&alice)).unwrap().available);
    assert_eq!(money, Money::from_dollars(5));
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_carry_the_beacon_of_their_parents_round() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let alice = fresh_key();
    let mut at = apply(&handle, issue(0, account(&alice), 10)).await;
    for nonce in 1..5 {
        at = apply(&handle, issue(nonce, account(&alice), 10)).await;
    }
    let mut seeds = Vec::new();
    for height in 2..=at.height {
        let bytes = handle.block(height).await.unwrap().unwrap();
        let (header, _) = node::read_block(&bytes).unwrap();
        seeds.push(
            header
                .seed
                .expect("the parent was certified in this process"),
        );
    }
    let count = seeds.len();
    seeds.sort_unstable();
    seeds.dedup();
    assert!(count >= 4 && seeds.len() == count);
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_final_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    apply(&handle, issue(0, account(&fresh_key()), 10)).await;
    let metrics = handle.metrics().await.unwrap();
    let line = metrics
        .lines()
        .find(|line| line.contains("processed_height") && !line.starts_with('#'));
    assert!(line.is_some(), "{metrics}");
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_socket_listens_for_a_network_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let mine: Vec<String> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|fd| {
            fs::read_link(fd.ok()?.path())
                .ok()?
                .into_os_string()
                .into_string()
                .ok()
        })
        .filter_map(|link| Some(link.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        // Columns: number, local, remote, state (0A listens), …, inode.
        for line in fs::read_to_string(table)
            .unwrap_or_default()
            .lines()
            .skip(1)
        {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let listens = columns[3] == "0A" && mine.iter().any(|inode| inode == columns[9]);
            assert!(!listens, "{line}");
        }
    }
    node.stop().await.unwrap();
}
