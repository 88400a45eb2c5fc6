//! Event streams.

use std::time::{Duration, Instant};

use api::{EventFilter, EventKindView, EventStream, EventView};
use tokio::time::timeout;

use crate::world::{PATIENCE, World, account, key};

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
