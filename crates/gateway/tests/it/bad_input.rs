//! What strangers send.

use std::net::SocketAddr;

use api::Problem;
use market::JobId;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::world::{PATIENCE, World};

/// Sends raw bytes and returns all that comes back.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The other side may hang up before it has read everything.
    drop(socket.write_all(bytes).await);
    let mut reply = Vec::new();
    drop(
        timeout(PATIENCE, socket.read_to_end(&mut reply))
            .await
            .unwrap(),
    );
    String::from_utf8_lossy(&reply).into_owned()
}

/// Sends a request and returns the status and the problem.
async fn ask(address: SocketAddr, head: &str, body: &[u8]) -> (u16, Problem) {
    let length = body.len();
    let mut bytes =
        format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    let reply = raw(address, &bytes).await;
    let status = reply.split(' ').nth(1).and_then(|text| text.parse().ok());
    let status = status.unwrap_or_else(|| panic!("{head}: {reply:?}"));
    let (headers, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(
        headers.contains("application/problem+json"),
        "{head}: {headers}"
    );
    let problem: Problem =
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{head}: {error}: {body}"));
    let id = problem.request_id.clone().unwrap();
    assert!(
        headers.contains(&format!("x-request-id: {id}")),
        "{headers}"
    );
    (status, problem)
}

/// A path longer than any id and any query.
fn long() -> String {
    "x".repeat(3_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_read_gets_its_problem() {
    let world = World::start().await;
    let (long_id, long_query) = (
        format!("/leases/{}", long()),
        format!("/offers?model={}", long()),
    );
    let cases = [
        ("/nothing", 404, "not-found"),
        ("/accounts/acc_zzz", 400, "bad-id"),
        ("/accounts/%ff", 400, "bad-request"),
        ("/machines/job_00000000000000000000000000", 400, "bad-id"),
        (&long_id, 400, "bad-id"),
        ("/leases/lse_00000000000000000000000000", 404, "no-lease"),
        ("/offers?colour=red", 400, "bad-request"),
        ("/offers?tier=gold", 400, "bad-id"),
        ("/offers?limit=none", 400, "bad-request"),
        (&long_query, 400, "bad-request"),
        ("/jobs?state=asleep", 400, "bad-request"),
        ("/events?after=-1", 400, "bad-request"),
        ("/events?kind=posted,surprise", 400, "bad-request"),
        ("/proofs/secrets/x", 404, "not-found"),
        ("/proofs/account/x", 400, "bad-id"),
        ("/proofs/account/%ff", 400, "bad-request"),
    ];
    for (path, status, code) in cases {
        let head = format!("GET /api/v1{path} HTTP/1.1");
        expect(world.address(), &head, b"", status, code).await;
    }
    let resumed = "GET /api/v1/events HTTP/1.1\r\nlast-event-id: x";
    expect(world.address(), resumed, b"", 400, "bad-request").await;
    expect(world.address(), "GET / HTTP/1.1", b"", 404, "not-found").await;
    let method = "DELETE /api/v1/jobs HTTP/1.1";
    expect(world.address(), method, b"", 405, "method-not-allowed").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_body_gets_its_problem() {
    let world = World::start().await;
    let manifests = format!("/manifests/{}", JobId::from_bytes([1; 16]));
    let (json, binary) = ("application/json", "application/octet-stream");
    let big = vec![0; 300_000];
    let cases: [(&str, &str, &[u8], u16, &str); 13] = [
        ("/transactions", binary, b"", 400, "bad-transaction"),
        (
            "/transactions",
            binary,
            b"\x07garbage",
            400,
            "bad-transaction",
        ),
        ("/transactions", binary, &big, 413, "too-large"),
        ("/transactions", json, b"{", 400, "bad-request"),
        ("/transactions", json, b"{\"tx\": 7}", 400, "bad-request"),
        (
            "/transactions",
            json,
            b"{\"tx\": \"xyz\"}",
            400,
            "bad-request",
        ),
        (
            "/transactions",
            json,
            b"{\"tx\": \"01\"}",
            400,
            "bad-transaction",
        ),
        ("/transactions", "text/html", b"", 415, "media-type"),
        (
            "/transactions?wait=forever",
            binary,
            b"",
            400,
            "bad-request",
        ),
        ("/plan", binary, b"\xff\xff\xff\xff", 400, "bad-request"),
        ("/plan", binary, &big, 413, "too-large"),
        (&manifests, binary, b"\x01", 422, "bad-manifest"),
        (&manifests, binary, &big, 413, "too-large"),
    ];
    for (path, kind, body, status, code) in cases {
        let head = format!("POST /api/v1{path} HTTP/1.1\r\ncontent-type: {kind}");
        expect(world.address(), &head, body, status, code).await;
    }
    world.stop().await;
}

async fn expect(address: SocketAddr, head: &str, body: &[u8], status: u16, code: &str) {
    let (got, problem) = ask(address, head, body).await;
    assert_eq!(
        (got, problem.code.as_str()),
        (status, code),
        "{head}: {problem:?}"
    );
    assert_eq!(problem.status, got);
    assert!(!problem.hints.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_garbage_leaves_the_gateway_well() {
    let world = World::start().await;
    let at = world.address();
    let mut floods = Vec::new();
    for n in 0..200u64 {
        floods.push(tokio::spawn(async move {
            let mut noise = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut bytes = match n % 4 {
                0 => Vec::new(),
                1 => {
                    b"POST /api/v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-length: 600\r\n\r\n"
                        .to_vec()
                }
                2 => b"GET /api/v1/offers?".to_vec(),
                _ => b"PUT /api/v1/manifests/".to_vec(),
            };
            for _ in 0..600 {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                bytes.push(noise.to_le_bytes()[0]);
            }
            let mut socket = TcpStream::connect(at).await.unwrap();
            drop(socket.write_all(&bytes).await);
            drop(socket.shutdown().await);
            let mut reply = Vec::new();
            drop(
                timeout(PATIENCE, socket.read_to_end(&mut reply))
                    .await
                    .unwrap(),
            );
            let reply = String::from_utf8_lossy(&reply);
            assert!(!reply.starts_with("HTTP/1.1 5"), "{reply}");
        }));
    }
    for flood in floods {
        flood.await.unwrap();
    }
    assert!(world.client.status().await.unwrap().ready);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_the_page_for_people_answer() {
    let world = World::start().await;
    let at = world.address();
    let plain = |path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").into_bytes()
    };
    assert!(raw(at, &plain("/healthz")).await.ends_with("\r\n\r\nok\n"));
    assert!(raw(at, &plain("/readyz")).await.starts_with("HTTP/1.1 200"));
    let metrics = raw(at, &plain("/metrics")).await;
    assert!(metrics.contains("\n# HELP "), "{metrics}");
    let page = raw(at, &plain("/status")).await;
    assert!(page.contains("network    test\n"), "{page}");
    world.stop().await;
}
