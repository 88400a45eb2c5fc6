//! A network of several validators, each with its own folder and sockets, in one process.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::{Duration, Instant},
};

use market::{Genesis, Millis, Params, RecordId};
use node::{Config, Handle, Lab, Node, deal_network, read_block};

use crate::world::{PATIENCE, account, apply, fresh_key, genesis, included, issue, now, transfer};

/// A dealt network and where its parts lie.
struct Several {
    _out: tempfile::TempDir,
    folders: Vec<PathBuf>,
    nodes: Vec<Option<Node>>,
}

fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap())
        .collect()
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap()
}

fn quick_genesis() -> Genesis {
    Genesis {
        params: Params {
            heartbeat: Millis::from_secs(1),
            ..Params::default()
        },
        ..genesis()
    }
}

impl Several {
    async fn start(count: usize) -> Self {
        let mut all = Self::deal(count);
        for at in 0..count {
            all.start_one(at).await;
        }
        all
    }

    fn deal(count: usize) -> Self {
        let out = tempfile::tempdir().unwrap();
        let addresses = free_addresses(count);
        let (members, folders) = deal_network(out.path(), &quick_genesis(), &addresses).unwrap();
        assert_eq!(node::Members::parse(&members.to_text()).unwrap(), members);
        Self {
            _out: out,
            nodes: folders.iter().map(|_| None).collect(),
            folders,
        }
    }

    async fn start_one(&mut self, at: usize) {
        self.start_in_lab(at, Lab::default()).await;
    }

    async fn start_in_lab(&mut self, at: usize, lab: Lab) {
        let config = Config {
            folder: self.folders[at].clone(),
            genesis: None,
            listen_peers: None,
        };
        self.nodes[at] = Some(Node::start_in_lab(config, lab).await.unwrap());
    }

    async fn stop_one(&mut self, at: usize) {
        self.nodes[at].take().unwrap().stop().await.unwrap();
    }

    fn handle(&self, at: usize) -> Handle {
        self.nodes[at].as_ref().unwrap().handle()
    }

    async fn stop(mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].is_some() {
                self.stop_one(at).await;
            }
        }
    }
}

/// Waits until the node has followed this height.
async fn followed(handle: &Handle, height: u64) {
    let mut head = handle.head();
    let reached = head.wait_for(|head| head.height >= height);
    tokio::time::timeout(PATIENCE, reached)
        .await
        .unwrap()
        .unwrap();
}

/// Returns the state root after a block, as one node's copy of it says.
async fn root(handle: &Handle, height: u64) -> light::Digest {
    let bytes = handle.block(height).await.unwrap().unwrap();
    read_block(&bytes).unwrap().0.state_root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_agree_go_on_without_one_and_take_it_back() {
    let mut all = Several::start(4).await;
    let (alice, bob) = (fresh_key(), fresh_key());
    let begun = Instant::now();
    apply(&all.handle(0), issue(0, account(&alice), 100)).await;
    println!("first transaction final after {:?}", begun.elapsed());
    let opened = all.handle(0).head().borrow().height;
    followed(&all.handle(1), opened).await;
    for nonce in 0..20 {
        let begun = Instant::now();
        apply(
            &all.handle(1),
            transfer(&alice, nonce, account(&bob), 1_000_000),
        )
        .await;
        println!("transfer {nonce} final after {:?}", begun.elapsed());
    }
    let height = all.handle(1).head().borrow().height;
    let mut roots = Vec::new();
    for at in 0..4 {
        followed(&all.handle(at), height).await;
        roots.push(root(&all.handle(at), height).await);
    }
    assert!(roots.windows(2).all(|two| two[0] == two[1]), "{roots:?}");

    all.stop_one(3).await;
    let begun = Instant::now();
    let tx = transfer(&alice, 20, account(&bob), 1_000_000);
    let id = all.handle(0).submit(tx).await.unwrap();
    let without = included(&all.handle(0), &id).await;
    println!("without one, final after {:?}", begun.elapsed());
    assert_eq!(without.result, Ok(()));

    all.start_one(3).await;
    let begun = Instant::now();
    followed(&all.handle(3), without.height).await;
    println!("caught up after {:?}", begun.elapsed());
    let key = RecordId::Account(account(&bob)).key();
    let mut pinned = all.handle(0).pinned();
    assert_eq!(pinned.group_key, all.handle(3).pinned().group_key);
    let bundle = all.handle(3).proof(key).await.unwrap();
    let verified = light::verify(&bundle, &pinned).unwrap();
    assert!(verified.height >= without.height);
    verified.require_fresh(now(), 60_000).unwrap();
    pinned.group_key[0] ^= 1;
    assert!(light::verify(&bundle, &pinned).is_err());
    // Votes of the one that came back count: with another one gone, three of four are needed.
    all.stop_one(2).await;
    let tx = transfer(&alice, 21, account(&bob), 1_000_000);
    apply(&all.handle(3), tx).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    all.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_lost_its_disk_but_its_key_executes_all_again() {
    let mut all = Several::start(4).await;
    let (alice, bob) = (fresh_key(), fresh_key());
    apply(&all.handle(0), issue(0, account(&alice), 100)).await;
    all.stop_one(3).await;
    let folder = all.folders[3].clone();
    std::fs::remove_dir_all(folder.join("engine")).unwrap();
    for file in ["history.sqlite", "history.sqlite-wal", "history.sqlite-shm"] {
        // Those that SQLite had folded into the first are not there.
        drop(std::fs::remove_file(folder.join(file)));
    }
    let tx = transfer(&alice, 0, account(&bob), 1_000_000);
    let height = apply(&all.handle(0), tx).await.height;
    let begun = Instant::now();
    all.start_one(3).await;
    followed(&all.handle(3), height).await;
    println!("caught up from nothing after {:?}", begun.elapsed());
    assert_eq!(
        root(&all.handle(3), height).await,
        root(&all.handle(0), height).await
    );
    let open = |market: &market::Market| market.account(account(&bob)).is_some();
    assert!(all.handle(3).read(open));
    all.stop().await;
}

/// One of four proposes blocks from the far future only: its views time out, and the chain goes on in the present.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_from_the_future_cost_their_views_only() {
    let mut all = Several::deal(4);
    let from_the_future = Lab {
        clock_ahead: Duration::from_hours(24 * 365 * 900),
    };
    for at in 0..3 {
        all.start_one(at).await;
    }
    all.start_in_lab(3, from_the_future).await;
    let alice = fresh_key();
    apply(&all.handle(0), issue(0, account(&alice), 100)).await;
    let opened = all.handle(0).head().borrow().height;
    followed(&all.handle(1), opened).await;
    let begun = Instant::now();
    for nonce in 0..12 {
        let begun = Instant::now();
        apply(&all.handle(1), transfer(&alice, nonce, account(&alice), 1)).await;
        println!("transfer {nonce} final after {:?}", begun.elapsed());
    }
    let head = *all.handle(1).head().borrow();
    println!("block {} after {:?}", head.height, begun.elapsed());
    assert!(head.time_ms <= now(), "a block from the future is final");
    // It follows the others all the same.
    followed(&all.handle(3), head.height).await;
    all.stop().await;
}

/// A network that was stopped for an hour goes on, and the ledger knows of the hour: no liveness deadline passed in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_stopped_goes_on_and_knows_it() {
    const STOPPED: Duration = Duration::from_hours(1);
    let mut all = Several::start(4).await;
    let alice = fresh_key();
    let before = apply(&all.handle(0), issue(0, account(&alice), 100)).await;
    for at in 0..4 {
        followed(&all.handle(at), before.height).await;
    }
    let gap = |handle: &Handle| handle.read(|market| market.system().gap_total.millis());
    let gap_before = gap(&all.handle(0));
    for at in 0..4 {
        all.stop_one(at).await;
    }
    let later = Lab {
        clock_ahead: STOPPED,
    };
    for at in 0..4 {
        all.start_in_lab(at, later).await;
    }
    let begun = Instant::now();
    let mut head = all.handle(2).head();
    let went_on = head.wait_for(|head| head.time_ms >= before.time_ms + millis(STOPPED));
    tokio::time::timeout(PATIENCE, went_on)
        .await
        .unwrap()
        .unwrap();
    println!("goes on after {:?}", begun.elapsed());
    let after = gap(&all.handle(2));
    let lost = Params::default().gap_after.millis() + 60_000;
    assert!(
        after - gap_before + lost >= millis(STOPPED),
        "{gap_before} {after}"
    );
    let last = all.handle(2).read(|market| market.system().last_gap);
    let (from, to) = last.unwrap();
    assert!(
        to.since(from).millis() + lost >= millis(STOPPED),
        "{last:?}"
    );
    all.stop().await;
}

/// Gossip: what one validator was told waits at the others too, before it is final.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_one_waits_at_all() {
    let all = Several::start(4).await;
    let alice = fresh_key();
    let height = apply(&all.handle(0), issue(0, account(&alice), 100))
        .await
        .height;
    followed(&all.handle(2), height).await;
    // Behind a missing nonce it is in no block, so it can be seen to wait.
    let gapped = transfer(&alice, 1, account(&alice), 1);
    all.handle(0).submit(gapped).await.unwrap();
    let begun = Instant::now();
    while all.handle(2).status().pool_txs == 0 {
        assert!(begun.elapsed() < PATIENCE, "it is not told");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("told after {:?}", begun.elapsed());
    // The one that was missing comes to another validator, and both are taken.
    followed(&all.handle(1), height).await;
    let missing = transfer(&alice, 0, account(&alice), 1);
    let id = all.handle(1).submit(missing).await.unwrap();
    included(&all.handle(1), &id).await;
    let begun = Instant::now();
    while all.handle(0).status().pool_txs > 0 {
        assert!(begun.elapsed() < PATIENCE, "it is not taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all.stop().await;
}
