//! Event streams.

use std::time::{Duration, Instant};

use api::{EventFilter, EventKindView, EventStream, EventView};
use ed25519_dalek::SigningKey;
use market::{Digest, EventKind, Tx};
use node::{Filter, Node, Subject};
use tokio::time::timeout;

use crate::world::{PATIENCE, World, account, job_spec, key, machine_keys, now, treasurer};

async fn next(events: &mut EventStream) -> EventView {
    timeout(PATIENCE, events.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_over_a_restart_of_the_gateway() {
    let world = World::start().await;
    let (alice, bob) = (key(10), key(11));
    world.fund(&alice, 1).await;
    let mut events = world.client.events(None, EventFilter::default());
    let first = next(&mut events).await;
    assert_eq!(first.seq, 0);
    let world = world.restart_gateway().await;
    world.fund(&bob, 2).await;
    let mut last = first.seq;
    loop {
        let event = next(&mut events).await;
        assert_eq!(event.seq, last + 1, "no gap and no repeat");
        last = event.seq;
        if matches!(event.kind, EventKindView::AccountOpened { account: opened } if opened == account(&bob))
        {
            break;
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_lets_only_its_own_through() {
    let world = World::start().await;
    let (alice, bob) = (key(10), key(11));
    let filter = EventFilter {
        kinds: vec!["posted".to_owned()],
        ..EventFilter::account(account(&bob))
    };
    let mut events = world.client.events(None, filter.clone());
    world.fund(&alice, 1).await;
    world.fund(&bob, 2).await;
    let event = next(&mut events).await;
    let EventKindView::Posted { to, .. } = event.kind else {
        panic!("{event:?}")
    };
    assert_eq!(to, market::event::Slot::Available(account(&bob)));
    let page = world.client.event_page(None, &filter).await.unwrap();
    assert_eq!(page.items, [event]);
    world.stop().await;
}

/// Returns the kinds of the account's events, as a page has them.
async fn kinds_of(world: &World, owner: &SigningKey) -> Vec<&'static str> {
    let filter = EventFilter::account(account(owner));
    let page = world.client.event_page(None, &filter).await.unwrap();
    page.items.iter().map(|event| event.kind.word()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_hear_that_their_lease_is_ready() {
    let world = World::start().await;
    let (owner, tenant, sign_key) = (key(40), key(41), key(42));
    let (keys, _) = machine_keys(&sign_key, &key(43));
    let machine = world.machine(&owner, keys, &sign_key).await;
    world.fund(&tenant, 10).await;
    let filter = EventFilter {
        kinds: vec!["lease-ready".to_owned()],
        ..EventFilter::account(account(&tenant))
    };
    let mut live = world.client.events(None, filter);
    let spec = job_spec(Digest([1; 32]));
    world.apply(&tenant, Tx::OpenJob(spec)).await;
    let work = world.client.machine_leases(&machine).await.unwrap();
    let ready = Tx::LeaseReady {
        lease: work.items[0].lease.id,
        at: now(),
    };
    world.apply(&sign_key, ready).await;
    assert_eq!(next(&mut live).await.kind.word(), "lease-ready");
    for side in [&owner, &tenant] {
        assert!(kinds_of(&world, side).await.contains(&"lease-ready"));
    }
    assert!(
        !kinds_of(&world, &treasurer())
            .await
            .contains(&"lease-ready")
    );

    // A history of the version before knew no side of them; it is completed when it is opened.
    let World {
        node,
        server,
        folder,
        ..
    } = world;
    server.stop().await;
    node.stop().await.unwrap();
    let path = folder.path().join("node");
    let file = rusqlite::Connection::open(path.join("history.sqlite")).unwrap();
    let of_accounts = "DELETE FROM subjects WHERE hex(subject) LIKE '00%' AND seq IN
        (SELECT s.seq FROM subjects s GROUP BY s.seq HAVING count(*) = 5)";
    assert!(file.execute(of_accounts, []).unwrap() >= 2);
    file.pragma_update(None, "user_version", 1).unwrap();
    drop(file);
    let config = node::Config {
        folder: path,
        genesis: None,
        listen_peers: None,
    };
    let node = Node::start(config).await.unwrap();
    for side in [&owner, &tenant] {
        let filter = Filter {
            subjects: vec![Subject::Account(account(side)), Subject::Machine(machine)],
            kinds: vec![],
        };
        let (events, _) = node.handle().events(filter, None, 100).await.unwrap();
        let ready = |event: &market::Event| matches!(event.kind, EventKind::LeaseReady { .. });
        assert_eq!(events.iter().filter(|event| ready(event)).count(), 1);
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_streams_at_once() {
    let world = World::start().await;
    let mut events = world.client.events(None, EventFilter::default());
    // Nothing happened yet, so the stream is open and quiet.
    assert!(
        timeout(Duration::from_millis(300), events.next())
            .await
            .is_err()
    );
    let World { server, node, .. } = world;
    let begun = Instant::now();
    server.stop().await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    node.stop().await.unwrap();
}
