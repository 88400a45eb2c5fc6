//! Request ids and idempotency keys, as any HTTP client has them.

use market::codec::TxId;
use tokio::join;

use crate::{
    curl::{Curl, Reply},
    world::{World, account, key, transfer},
};

/// Posts a transaction's bytes under a key.
async fn post(curl: &Curl, world: &World, name: &str, bytes: &[u8]) -> Reply {
    let hex = api::view::text::to_hex(bytes);
    let url = format!("http://{}/api/v1/transactions?wait=final", world.address());
    let (key, body) = (
        format!("idempotency-key: {name}"),
        format!("{{\"tx\": \"{hex}\"}}"),
    );
    curl.ask(&[
        "-H",
        "content-type: application/json",
        "-H",
        &key,
        "-d",
        &body,
        &url,
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_gives_one_answer_and_no_other_request_may_use_it() {
    let Some(curl) = Curl::find("one_key_gives_one_answer_and_no_other_request_may_use_it") else {
        return;
    };
    let world = World::start().await;
    let (alice, bob) = (key(10), key(11));
    world.fund(&alice, 1).await;
    let first = transfer(&alice, 0, account(&bob), 100_000).encode();
    let second = transfer(&alice, 1, account(&bob), 100_000).encode();

    let done = post(&curl, &world, "a-1", &first).await;
    assert_eq!(done.status, 200, "{done:?}");
    assert_eq!(done.header("idempotency-replayed"), "");
    let again = post(&curl, &world, "a-1", &first).await;
    assert_eq!((again.status, &again.body), (200, &done.body));
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_ne!(again.header("x-request-id"), done.header("x-request-id"));

    let other = post(&curl, &world, "a-1", &second).await;
    assert_eq!(other.status, 409, "{other:?}");
    assert!(other.body.contains("\"idempotency-reused\""), "{other:?}");
    assert_eq!(post(&curl, &world, "a-2", &second).await.status, 200);

    // A refusal is an answer as well.
    let bad = post(&curl, &world, "a-3", b"\x07garbage").await;
    let bad_again = post(&curl, &world, "a-3", b"\x07garbage").await;
    assert_eq!((bad.status, bad_again.status), (400, 400));
    assert_eq!(bad_again.header("idempotency-replayed"), "true");
    assert!(
        bad_again.body.contains("\"bad-transaction\""),
        "{bad_again:?}"
    );
    let no_key = post(&curl, &world, &"x".repeat(200), &first).await;
    assert_eq!(no_key.status, 400, "{no_key:?}");

    // Two at once: one does it, and the other has the same answer or is told that it runs.
    let third = transfer(&alice, 2, account(&bob), 100_000).encode();
    let (one, two) = join!(
        post(&curl, &world, "a-4", &third),
        post(&curl, &world, "a-4", &third)
    );
    let both = [one.status, two.status];
    assert!(
        both.contains(&200) && both.iter().all(|status| [200, 409].contains(status)),
        "{one:?} {two:?}"
    );
    let id = TxId(market::Digest::of(&[&third])).to_string();
    assert!(one.body.contains(&id) || two.body.contains(&id));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_keeps_its_id_and_a_bad_one_gets_a_new_one() {
    let Some(curl) = Curl::find("a_request_keeps_its_id_and_a_bad_one_gets_a_new_one") else {
        return;
    };
    let world = World::start().await;
    let url = format!("http://{}/api/v1/leases/x", world.address());
    let ours = curl.ask(&["-H", "x-request-id: trace-7.a_b", &url]).await;
    assert_eq!(ours.header("x-request-id"), "trace-7.a_b");
    assert!(
        ours.body.contains("\"request_id\":\"trace-7.a_b\""),
        "{ours:?}"
    );
    for bad in [
        "x-request-id: no spaces",
        "x-request-id: <script>",
        &format!("x-request-id: {}", "x".repeat(65)),
    ] {
        let reply = curl.ask(&["-H", bad, &url]).await;
        assert!(
            reply.header("x-request-id").starts_with("req_"),
            "{reply:?}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let Some(curl) = Curl::find("pages_follow_each_other_without_gap_or_repeat") else {
        return;
    };
    let world = World::start().await;
    let (alice, bob) = (key(10), key(11));
    world.fund(&alice, 1).await;
    world.fund(&bob, 1).await;
    let at = format!("http://{}/api/v1", world.address());
    let mut after = String::new();
    let mut seen = Vec::new();
    for _ in 0..20 {
        let url = format!("{at}/events?follow=false&limit=2{after}");
        let reply = curl.ask(&[&url]).await;
        let page: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|event| event["seq"].as_u64().unwrap()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert!(seen.len() >= 4);
    assert!(
        seen.iter().enumerate().all(|(at, seq)| at as u64 == *seq),
        "{seen:?}"
    );
    for path in ["machines", "jobs", "orders", "offers"] {
        let reply = curl.ask(&[&format!("{at}/{path}?limit=1")]).await;
        assert_eq!(reply.body, r#"{"items":[],"next":null}"#, "{path}");
    }
    world.stop().await;
}
