//! What one client may have of the gateway. The tests come from this machine, so it is held to the limits here.

use std::net::SocketAddr;

use api::{Code, EventFilter, Wait};
use gateway::{Limits, LocalClients, Rate};
use market::PublicKey;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{PATIENCE, World, account, key, transfer};

fn limited() -> Limits {
    Limits {
        local: LocalClients::Limited,
        ..Limits::default()
    }
}

/// Asks once on a connection of its own, and returns the head of the answer in lower case.
async fn head(at: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    drop(socket.write_all(ask.as_bytes()).await);
    let mut reply = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut reply));
    drop(read.await.unwrap());
    String::from_utf8_lossy(&reply).to_ascii_lowercase()
}

/// Opens an event stream and waits until it is served or refused.
async fn stream(at: SocketAddr) -> (TcpStream, String) {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let ask = b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n";
    drop(socket.write_all(ask).await);
    let mut first = vec![0; 1_024];
    let read = timeout(PATIENCE, socket.read(&mut first)).await.unwrap();
    first.truncate(read.unwrap_or_default());
    (socket, String::from_utf8_lossy(&first).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_too_often_is_told_when_to_come_back() {
    let requests = Rate {
        per_second: 1,
        burst: 3,
    };
    let limits = Limits {
        requests,
        ..limited()
    };
    let world = World::start_with(limits).await;
    for left in [2, 1, 0] {
        let reply = head(world.address(), "/api/v1/status").await;
        assert!(reply.starts_with("http/1.1 200"), "{reply}");
        assert!(reply.contains("ratelimit-limit: 3\r\n"), "{reply}");
        assert!(
            reply.contains(&format!("ratelimit-remaining: {left}\r\n")),
            "{reply}"
        );
    }
    let reply = head(world.address(), "/api/v1/status").await;
    assert!(reply.starts_with("http/1.1 429"), "{reply}");
    assert!(reply.contains("retry-after: 1\r\n"), "{reply}");
    assert!(reply.contains("\"rate-limited\""), "{reply}");
    // Our own client waits as long as it is told, and gets its answer.
    assert!(world.client.status().await.unwrap().ready);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_machine_is_not_held_to_rates_by_default() {
    let requests = Rate {
        per_second: 1,
        burst: 1,
    };
    let limits = Limits {
        requests,
        ..Limits::default()
    };
    let world = World::start_with(limits).await;
    for _ in 0..20 {
        let reply = head(world.address(), "/healthz").await;
        assert!(reply.starts_with("http/1.1 200"), "{reply}");
        assert!(!reply.contains("ratelimit"), "{reply}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_gets_its_share_of_connections_and_streams() {
    let limits = Limits {
        connections_per_client: 6,
        streams_per_client: 2,
        ..limited()
    };
    let world = World::start_with(limits).await;
    let at = world.address();
    let mut open = Vec::new();
    for _ in 0..2 {
        let (socket, reply) = stream(at).await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        open.push(socket);
    }
    let (socket, reply) = stream(at).await;
    assert!(reply.starts_with("HTTP/1.1 429"), "{reply}");
    assert!(reply.contains("too-many-requests"), "{reply}");
    open.push(socket);
    for _ in 0..3 {
        open.push(TcpStream::connect(at).await.unwrap());
    }
    let reply = head(at, "/healthz").await;
    assert!(
        reply.is_empty() || reply.starts_with("http/1.1 503"),
        "{reply}"
    );

    // Whoever leaves makes room.
    drop(open);
    let mut events = world.client.events(None, EventFilter::default());
    world.fund(&key(10), 1).await;
    assert_eq!(
        timeout(PATIENCE, events.next()).await.unwrap().unwrap().seq,
        0
    );
    drop(events);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_sends_too_fast_is_told_to_wait_and_its_neighbour_is_not() {
    let transactions = Rate {
        per_second: 1,
        burst: 2,
    };
    let limits = Limits {
        transactions,
        ..limited()
    };
    let world = World::start_with(limits).await;
    let (fast, other) = (key(10), key(11));
    world.fund(&fast, 1).await;
    world.fund(&other, 1).await;
    let mut refused = None;
    for n in 0..4 {
        let sent = transfer(&fast, n, account(&other), 1);
        refused = world
            .client
            .submit(&sent, Wait::None)
            .await
            .err()
            .or(refused);
    }
    // The client waits as told before it gives up, so the rate of one a second lets all of them pass in the end.
    assert!(refused.is_none(), "{refused:?}");
    let next = world
        .client
        .next_nonce(&PublicKey::of(&fast))
        .await
        .unwrap();
    assert_eq!(next, 4);
    let mut raw = String::new();
    for n in 4..8 {
        let sent = transfer(&fast, n, account(&other), 1);
        raw = post(world.address(), &sent.encode()).await;
    }
    assert!(
        raw.starts_with("http/1.1 429") && raw.contains("retry-after:"),
        "{raw}"
    );
    let calm = transfer(&other, 0, account(&fast), 1);
    let raw = post(world.address(), &calm.encode()).await;
    assert!(raw.starts_with("http/1.1 202"), "{raw}");
    assert_eq!(Code::RateLimited.status(), 429);
    world.stop().await;
}

async fn post(at: SocketAddr, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(at).await.unwrap();
    let length = body.len();
    let head = format!(
        "POST /api/v1/transactions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut reply = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut reply));
    drop(read.await.unwrap());
    String::from_utf8_lossy(&reply).to_ascii_lowercase()
}
