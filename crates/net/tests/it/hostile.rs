//! Peers that break the protocols, on either side.

use std::sync::Arc;
use std::time::Duration;

use borsh::BorshSerialize;
use market::{LeaseId, SignedGrant};
use net::logs::{self, LogClient, LogEnd, LogError, LogEvent, LogOffsets, LogStream, LogStreams};
use net::manifest::{self, FetchError, fetch_manifest};
use net::{FrameError, Limits};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::raw::{self, exchange, frame, read_frame};
use crate::support::{
    FakeLogs, SOON, client, fresh_secret, grant, job, lease, machine, query, signed, soon,
};

/// First byte of a frame from a machine: its variant.
const CHUNK: u8 = 0;
const KEEPALIVE: u8 = 1;
const END: u8 = 2;
const REFUSED: u8 = 3;
/// Refusal code of a request that makes no sense.
const BAD_REQUEST: u8 = 4;

fn body(value: &impl BorshSerialize) -> Vec<u8> {
    borsh::to_vec(value).unwrap()
}

/// The request of a log stream as it is on the wire.
fn request(grant: &SignedGrant, follow: bool) -> Vec<u8> {
    let from = LogOffsets::default();
    frame(&body(&(grant, lease(1), LogStreams::Both, from, follow)))
}

async fn raw_tenant(machine: &net::Endpoint) -> (iroh::Endpoint, iroh::endpoint::Connection) {
    let tenant = raw::endpoint(fresh_secret(), &[]).await;
    let connection = tenant.connect(raw::target(&machine.as_peer()), logs::ALPN);
    let connection = soon(connection).await.unwrap();
    (tenant, connection)
}

/// The logs of an ended workload can still be read.
async fn assert_serves(machine: &net::Endpoint) {
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, query(false));
    loop {
        match soon(logs.next()).await.unwrap() {
            LogEvent::Piece(_) => {}
            LogEvent::End(end) => break assert_eq!(end, LogEnd::WorkloadEnded),
        }
    }
    tenant.close().await;
}

fn ended() -> Arc<FakeLogs> {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, b"all");
    source.end();
    source
}

#[tokio::test]
async fn garbage_oversize_and_cut_requests_are_refused_by_name() {
    let limits = Limits {
        request: Duration::from_millis(300),
        ..Limits::default()
    };
    let machine = machine(ended(), limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    let whole = request(&signed(grant(machine.key())), false);
    let mut requests: Vec<Vec<u8>> = vec![
        vec![],
        vec![1],
        frame(b""),
        frame(&[0; 1024]),
        frame(&[0xff; 300]),
        u32::MAX.to_le_bytes().to_vec(),
        1025u32.to_le_bytes().to_vec(),
        frame(&vec![7; 100_000]),
        frame(&[&whole[4..], b"trailing"].concat()),
    ];
    let strategy = proptest::collection::vec(any::<u8>(), 0..400);
    let mut runner = TestRunner::deterministic();
    for n in 0..60 {
        let bytes = strategy.new_tree(&mut runner).unwrap().current();
        requests.push(if n % 2 == 0 { bytes } else { frame(&bytes) });
    }
    for cut in (4..whole.len() - 1).step_by(13) {
        requests.push(whole[..cut].to_vec());
        requests.push(frame(&whole[4..cut]));
    }
    for (n, bytes) in requests.iter().enumerate() {
        let answer = soon(exchange(&connection, bytes)).await.unwrap_or_default();
        assert_eq!(
            answer.get(4..6),
            Some(&[REFUSED, BAD_REQUEST][..]),
            "case {n}: {answer:?}"
        );
    }
    assert_serves(&machine).await;
    tenant.close().await;
}

#[tokio::test]
async fn a_request_that_never_comes_is_not_waited_for() {
    let limits = Limits {
        request: Duration::from_millis(200),
        ..Limits::default()
    };
    let machine = machine(ended(), limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[9]).await.unwrap();
    let answer = soon(read_frame(&mut recv)).await.unwrap();
    assert_eq!(answer[..2], [REFUSED, BAD_REQUEST]);
    tenant.close().await;
}

#[tokio::test]
async fn a_connection_without_streams_is_closed() {
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..Limits::default()
    };
    let machine = machine(ended(), limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    soon(connection.closed()).await;
    assert_serves(&machine).await;
    tenant.close().await;
}

#[tokio::test]
async fn a_silent_workload_is_kept_alive_and_a_gone_reader_is_noticed() {
    let source = FakeLogs::new();
    let limits = Limits {
        keepalive: Duration::from_millis(50),
        log_streams: 1,
        ..Limits::default()
    };
    let machine = machine(source.clone(), limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    let key = market::PublicKey::from_bytes(*tenant.id().as_bytes());
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&request(&signed(grant(key)), true))
        .await
        .unwrap();
    for _ in 0..3 {
        assert_eq!(soon(read_frame(&mut recv)).await.unwrap(), [KEEPALIVE]);
    }
    recv.stop(0u32.into()).unwrap();
    source.end();
    // There is one place: another reader gets in only because the first is seen to be gone.
    assert_serves(&machine).await;
    tenant.close().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_and_its_place_given_on() {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, &vec![1; 8 << 20]);
    source.end();
    let limits = Limits {
        stall: Duration::from_millis(300),
        log_streams: 1,
        ..Limits::default()
    };
    let machine = machine(source, limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    let key = market::PublicKey::from_bytes(*tenant.id().as_bytes());
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&request(&signed(grant(key)), true))
        .await
        .unwrap();
    assert_eq!(soon(read_frame(&mut recv)).await.unwrap()[0], CHUNK);
    assert_serves(&machine).await;
    tenant.close().await;
}

#[tokio::test]
async fn a_flood_of_connections_takes_only_the_places_there_are() {
    let limits = Limits {
        connections: 6,
        connections_per_peer: 2,
        idle: Duration::from_secs(2),
        ..Limits::default()
    };
    let machine = machine(ended(), limits).await;
    let target = raw::target(&machine.as_peer());
    let one = raw::endpoint(fresh_secret(), &[]).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(soon(one.connect(target.clone(), logs::ALPN)).await.unwrap());
    }
    sleep(Duration::from_millis(200)).await;
    let open = held.iter().filter(|held| held.close_reason().is_none());
    assert_eq!(open.count(), 2, "one peer has two places");
    let mut flood = JoinSet::new();
    for _ in 0..12 {
        let target = target.clone();
        flood.spawn(async move {
            let endpoint = raw::endpoint(fresh_secret(), &[]).await;
            let connection = endpoint.connect(target, logs::ALPN).await;
            (endpoint, connection)
        });
    }
    let many = soon(flood.join_all()).await;
    let let_in = many.iter().filter(|(_, connection)| connection.is_ok());
    assert!(let_in.count() <= 4, "six places in all");
    // Idle connections are closed, and there is room again.
    sleep(Duration::from_millis(2500)).await;
    assert_serves(&machine).await;
}

#[tokio::test]
async fn a_flood_of_streams_waits_for_the_streams_there_are() {
    let limits = Limits {
        streams_per_connection: 3,
        request: Duration::from_secs(3),
        ..Limits::default()
    };
    let machine = machine(ended(), limits).await;
    let (tenant, connection) = raw_tenant(&machine).await;
    let mut open = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(200), connection.open_bi()).await
    {
        let (mut send, recv) = stream.unwrap();
        send.write_all(&[0]).await.unwrap();
        open.push((send, recv));
        assert!(open.len() <= 3, "three streams at a time");
    }
    assert_eq!(open.len(), 3);
    assert_serves(&machine).await;
    tenant.close().await;
}

/// A machine or keeper that answers each stream with the next of `answers`, then closes the connection.
struct Liar {
    endpoint: iroh::Endpoint,
    tasks: JoinSet<()>,
}

fn liar_on(
    endpoint: iroh::Endpoint,
    mut answer: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static,
) -> Liar {
    let mut tasks = JoinSet::new();
    let server = endpoint.clone();
    tasks.spawn(async move {
        while let Some(incoming) = server.accept().await {
            let Ok(connection) = incoming.await else {
                continue;
            };
            let Ok((mut send, mut recv)) = connection.accept_bi().await else {
                continue;
            };
            let Some(asked) = read_frame(&mut recv).await else {
                continue;
            };
            drop(send.write_all(&answer(asked)).await);
            drop(send.finish());
            // What was written arrives before the connection goes.
            drop(tokio::time::timeout(Duration::from_secs(2), send.stopped()).await);
            connection.close(9u32.into(), b"cut");
        }
    });
    Liar { endpoint, tasks }
}

async fn liar(answer: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static) -> Liar {
    let endpoint = raw::endpoint(fresh_secret(), &[logs::ALPN, manifest::ALPN]).await;
    liar_on(endpoint, answer)
}

fn chunk(stream: LogStream, offset: u64, dropped: u64, bytes: &[u8]) -> Vec<u8> {
    frame(&body(&(CHUNK, stream, offset, dropped, bytes.to_vec())))
}

#[tokio::test]
async fn a_machine_that_sends_nonsense_is_a_typed_error() {
    let out = LogStream::Stdout;
    let cases: Vec<Vec<u8>> = vec![
        frame(b"\xffgarbage"),
        frame(b""),
        frame(&[END, 7]),
        u32::MAX.to_le_bytes().to_vec(),
        frame(&vec![0; 40_000]),
        chunk(out, 5, 0, b"skipped ahead unawares"),
        chunk(out, 0, 0, b""),
        chunk(out, 3, u64::MAX, b"x"),
        chunk(out, u64::MAX, u64::MAX, b"xx"),
        [chunk(out, 0, 0, b"ab"), chunk(out, 1, 0, b"repeated")].concat(),
        frame(&body(&(CHUNK, 2u8, 0u64, 0u64, vec![1u8]))),
        frame(&body(&(CHUNK, out, 0u64, 0u64, u32::MAX))),
    ];
    let tenant = client().await;
    for (n, answer) in cases.into_iter().enumerate() {
        let machine = liar(move |_| answer.clone()).await;
        let peer = raw::peer(&machine.endpoint);
        let grant = signed(grant(tenant.key()));
        let mut logs = LogClient::new(&tenant, peer, grant, query(true));
        let error = loop {
            match soon(logs.next()).await {
                Ok(LogEvent::Piece(_)) => {}
                Ok(LogEvent::End(end)) => panic!("case {n}: {end:?}"),
                Err(error) => break error,
            }
        };
        assert!(
            matches!(error, LogError::Violation(_)),
            "case {n}: {error:?}"
        );
        machine.endpoint.close().await;
    }
}

#[tokio::test]
async fn a_machine_that_never_gets_on_is_given_up() {
    let machine = liar(|_| frame(&[KEEPALIVE])).await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, raw::peer(&machine.endpoint), grant, query(true));
    let begun = tokio::time::Instant::now();
    let error = tokio::time::timeout(Duration::from_secs(30), logs.next())
        .await
        .expect("retries are bounded")
        .unwrap_err();
    assert!(
        matches!(error, LogError::Unreachable { attempts: 8, .. }),
        "{error:?}"
    );
    assert!(
        begun.elapsed() > Duration::from_secs(8),
        "it was given time to come back"
    );
}

#[tokio::test]
async fn a_reader_that_is_cut_anywhere_gets_every_byte_once() {
    let all: Vec<u8> = (0..3000u32).flat_map(u32::to_le_bytes).collect();
    let served = all.clone();
    let strategy = (1usize..900, 1usize..600);
    let mut runner = TestRunner::deterministic();
    let mut cuts = 0u32;
    let (told, mut connections) = tokio::sync::watch::channel(0);
    let machine = liar(move |asked| {
        let (_, _, _, from, _): (SignedGrant, LeaseId, LogStreams, LogOffsets, bool) =
            borsh::from_slice(&asked).unwrap();
        let (most, step) = strategy.new_tree(&mut runner).unwrap().current();
        cuts += 1;
        told.send_replace(cuts);
        let mut answer = Vec::new();
        for (stream, begin) in [
            (LogStream::Stdout, from.stdout),
            (LogStream::Stderr, from.stderr),
        ] {
            let mut at = usize::try_from(begin).unwrap();
            let to = (at + most).min(served.len());
            while at < to {
                let end = (at + step).min(to);
                answer.extend(chunk(stream, at as u64, 0, &served[at..end]));
                at = end;
            }
        }
        let length = served.len() as u64;
        let done = from.stdout == length && from.stderr == length;
        if done {
            answer.extend(frame(&[END, 0]));
        } else if cuts.is_multiple_of(2) {
            // Cut within a frame.
            let next = chunk(LogStream::Stdout, from.stdout + 1, 0, &served[..50]);
            answer.extend(&next[..next.len() - 7]);
        }
        answer
    })
    .await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, raw::peer(&machine.endpoint), grant, query(true));
    let (mut out, mut err) = (Vec::<u8>::new(), Vec::<u8>::new());
    loop {
        match soon(logs.next()).await.unwrap() {
            LogEvent::Piece(piece) if piece.stream == LogStream::Stdout => out.extend(&piece.bytes),
            LogEvent::Piece(piece) => err.extend(&piece.bytes),
            LogEvent::End(end) => break assert_eq!(end, LogEnd::WorkloadEnded),
        }
    }
    assert!(
        out == all && err == all,
        "{} and {} of {}",
        out.len(),
        err.len(),
        all.len()
    );
    assert!(*connections.borrow_and_update() > 10, "it was cut often");
}

#[tokio::test]
async fn a_keeper_that_sends_nonsense_is_a_typed_error() {
    let cases: Vec<Vec<u8>> = vec![
        vec![],
        frame(b""),
        frame(&[9; 200]),
        u32::MAX.to_le_bytes().to_vec(),
        frame(&vec![0; 90_000]),
        // A job key and a manifest of nothing but zeros: right shape, unknown version.
        frame(&body(&(0u8, [0u8; 81], vec![0u8; 100]))),
        frame(&body(&(0u8, [1u8; 81], vec![1u8; 10]))),
    ];
    let machine = client().await;
    for (n, answer) in cases.into_iter().enumerate() {
        let keeper = liar(move |_| answer.clone()).await;
        let peer = raw::peer(&keeper.endpoint);
        let error = soon(fetch_manifest(&machine, &peer, lease(1), job(1), SOON))
            .await
            .unwrap_err();
        match n {
            0 => assert!(
                matches!(error, FetchError::Answer(FrameError::Truncated)),
                "{error:?}"
            ),
            5 | 6 => assert!(
                matches!(error, FetchError::Envelope(_)),
                "case {n}: {error:?}"
            ),
            _ => assert!(
                matches!(&error, FetchError::Answer(error) if error.is_violation()),
                "case {n}: {error:?}"
            ),
        }
        keeper.endpoint.close().await;
        drop(keeper.tasks);
    }
}
