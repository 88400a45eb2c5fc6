//! A tenant reads logs from a machine.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use market::{Grant, LeaseId, Millis, NetworkName, PublicKey, Rights, SignedGrant};
use net::logs::{
    CHUNK_BYTES_MAX, LogChunk, LogClient, LogEnd, LogError, LogEvent, LogOffsets, LogPiece,
    LogQuery, LogSource, LogStream, LogStreams,
};
use net::{BindOptions, Endpoint, Limits, Refusal, RefusalCode, Services};

use crate::support::{
    FakeLogs, client, fresh_secret, grant, key, lease, machine, network, now, query, signed, soon,
};

/// What was read, and how it ended.
#[derive(Debug, Default)]
struct Read {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    pieces: Vec<LogPiece>,
}

impl Read {
    fn take(&mut self, piece: LogPiece) {
        match piece.stream {
            LogStream::Stdout => self.stdout.extend_from_slice(&piece.bytes),
            LogStream::Stderr => self.stderr.extend_from_slice(&piece.bytes),
        }
        self.pieces.push(piece);
    }
}

async fn read_all(logs: &mut LogClient<'_>) -> Result<(Read, LogEnd), LogError> {
    let mut read = Read::default();
    loop {
        match soon(logs.next()).await? {
            LogEvent::Piece(piece) => read.take(piece),
            LogEvent::End(end) => return Ok((read, end)),
        }
    }
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

#[tokio::test]
async fn both_streams_arrive_whole_and_the_end_is_told() {
    let source = FakeLogs::new();
    let (out, err) = (pattern(3 * CHUNK_BYTES_MAX + 17), pattern(100));
    source.write(LogStream::Stdout, &out);
    source.write(LogStream::Stderr, &err);
    let machine = machine(source.clone(), Limits::default()).await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant.clone(), query(false));
    let (read, end) = read_all(&mut logs).await.unwrap();
    assert_eq!((read.stdout, read.stderr), (out, err));
    assert_eq!(end, LogEnd::CaughtUp);
    let LogEvent::End(again) = soon(logs.next()).await.unwrap() else {
        panic!("the end is final");
    };
    assert_eq!(again, LogEnd::CaughtUp);
    source.end();
    let only = LogQuery {
        streams: LogStreams::Only(LogStream::Stderr),
        from: LogOffsets {
            stdout: 0,
            stderr: 90,
        },
        ..query(false)
    };
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, only);
    let (read, end) = read_all(&mut logs).await.unwrap();
    assert_eq!(
        (read.stdout.len(), read.stderr),
        (0, pattern(100)[90..].to_vec())
    );
    assert_eq!(end, LogEnd::WorkloadEnded);
}

#[tokio::test]
async fn a_follower_sees_output_as_it_is_written_until_the_workload_ends() {
    let source = FakeLogs::new();
    let machine = machine(source.clone(), Limits::default()).await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, query(true));
    for n in 0..5u8 {
        source.write(LogStream::Stdout, &[n; 3]);
        let LogEvent::Piece(piece) = soon(logs.next()).await.unwrap() else {
            panic!("the workload still runs");
        };
        assert_eq!(
            (piece.offset, &piece.bytes[..]),
            (u64::from(n) * 3, &[n; 3][..])
        );
    }
    source.write(LogStream::Stderr, b"bye");
    source.end();
    let (read, end) = read_all(&mut logs).await.unwrap();
    assert_eq!(read.stderr, b"bye");
    assert_eq!(end, LogEnd::WorkloadEnded);
}

#[tokio::test]
async fn dropped_output_is_counted_and_not_silently_skipped() {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, &pattern(1000));
    source.drop_before(400);
    source.end();
    let machine = machine(source, Limits::default()).await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let from = LogOffsets {
        stdout: 100,
        stderr: 0,
    };
    let wanted = LogQuery {
        from,
        ..query(true)
    };
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, wanted);
    let (read, _) = read_all(&mut logs).await.unwrap();
    assert_eq!((read.pieces[0].offset, read.pieces[0].dropped), (400, 300));
    assert_eq!(read.stdout, pattern(1000)[400..]);
    assert_eq!(logs.offsets().stdout, 1000);
}

#[tokio::test]
async fn only_a_fitting_grant_opens_the_logs() {
    let machine = machine(FakeLogs::new(), Limits::default()).await;
    let tenant = client().await;
    let good = grant(tenant.key());
    let elsewhere = NetworkName::parse("other").unwrap();
    let mut forged = signed(good.clone());
    forged.grant.expires_at = now().after(Millis::from_secs(9999));
    let cases: [(SignedGrant, RefusalCode); 7] = [
        (forged, RefusalCode::NotAuthorized),
        (
            good.clone().sign(&elsewhere, &key(77)),
            RefusalCode::NotAuthorized,
        ),
        (
            good.clone().sign(&network(), &key(78)),
            RefusalCode::NotAuthorized,
        ),
        (
            signed(Grant {
                endpoint: machine.key(),
                ..good.clone()
            }),
            RefusalCode::NotAuthorized,
        ),
        (
            signed(Grant {
                rights: Rights::EXEC,
                ..good.clone()
            }),
            RefusalCode::NotAuthorized,
        ),
        (
            signed(Grant {
                lease: lease(2),
                ..good.clone()
            }),
            RefusalCode::NotAuthorized,
        ),
        (
            signed(Grant {
                expires_at: now(),
                ..good.clone()
            }),
            RefusalCode::ExpiredGrant,
        ),
    ];
    for (n, (grant, want)) in cases.into_iter().enumerate() {
        let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, query(true));
        let got = soon(logs.next()).await;
        let Err(LogError::Refused(refusal)) = got else {
            panic!("case {n}: expected a refusal, got {got:?}");
        };
        assert_eq!(refusal.code(), want, "case {n}: {refusal}");
    }
    let unknown = signed(Grant {
        lease: lease(2),
        ..good
    });
    let wanted = LogQuery {
        lease: lease(2),
        ..query(true)
    };
    let mut logs = LogClient::new(&tenant, machine.as_peer(), unknown, wanted);
    let Err(LogError::Refused(refusal)) = soon(logs.next()).await else {
        panic!("an unknown lease has no logs");
    };
    assert_eq!(refusal.code(), RefusalCode::NoSuchLease);
}

#[tokio::test]
async fn a_grant_that_expires_ends_the_following() {
    let limits = Limits {
        keepalive: Duration::from_millis(50),
        ..Limits::default()
    };
    let machine = machine(FakeLogs::new(), limits).await;
    let tenant = client().await;
    let short = Grant {
        expires_at: now().after(Millis::from_millis(400)),
        ..grant(tenant.key())
    };
    let mut logs = LogClient::new(&tenant, machine.as_peer(), signed(short), query(true));
    let Err(LogError::Refused(refusal)) = soon(logs.next()).await else {
        panic!("the grant has expired");
    };
    assert_eq!(refusal.code(), RefusalCode::ExpiredGrant);
}

#[tokio::test]
async fn a_follower_goes_on_where_it_was_when_the_agent_restarts() {
    let source = FakeLogs::new();
    let secret = SigningKey::from_bytes(&fresh_secret());
    let services = Services::none().with_logs(network(), source.clone());
    let options = BindOptions::loopback();
    let first = Endpoint::bind(&secret, options, services.clone())
        .await
        .unwrap();
    let peer = first.as_peer();
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, peer.clone(), grant, query(true));
    source.write(LogStream::Stdout, b"before ");
    let mut read = Read::default();
    let LogEvent::Piece(piece) = soon(logs.next()).await.unwrap() else {
        panic!("the workload still runs");
    };
    read.take(piece);
    first.close().await;
    drop(first);
    source.write(LogStream::Stdout, b"between ");
    let options = BindOptions {
        port: peer.addrs[0].port(),
        ..options
    };
    let second = Endpoint::bind(&secret, options, services).await.unwrap();
    source.write(LogStream::Stdout, b"after");
    source.end();
    let (rest, end) = read_all(&mut logs).await.unwrap();
    read.stdout.extend(rest.stdout);
    assert_eq!(
        String::from_utf8(read.stdout).unwrap(),
        "before between after"
    );
    assert_eq!(end, LogEnd::WorkloadEnded);
    second.close().await;
}

#[tokio::test]
async fn a_reader_waits_its_turn_when_the_machine_is_busy() {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, b"x");
    let limits = Limits {
        log_streams: 1,
        ..Limits::default()
    };
    let machine = machine(source, limits).await;
    let (one, two) = (client().await, client().await);
    let mut first = LogClient::new(
        &one,
        machine.as_peer(),
        signed(grant(one.key())),
        query(true),
    );
    soon(first.next()).await.unwrap();
    let mut second = LogClient::new(
        &two,
        machine.as_peer(),
        signed(grant(two.key())),
        query(true),
    );
    let waited = tokio::time::timeout(Duration::from_millis(300), second.next()).await;
    assert!(waited.is_err(), "the only place is taken");
    drop(first);
    let LogEvent::Piece(piece) = soon(second.next()).await.unwrap() else {
        panic!("the workload still runs");
    };
    assert_eq!(&piece.bytes[..], b"x");
}

#[tokio::test]
async fn closing_ends_followers_and_joins_every_task() {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, b"x");
    let machine = machine(source.clone(), Limits::default()).await;
    let tenant = client().await;
    let grant = signed(grant(tenant.key()));
    let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, query(true));
    soon(logs.next()).await.unwrap();
    let begun = tokio::time::Instant::now();
    soon(machine.close()).await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    drop(machine);
    // The endpoint's tasks held the only other references to the source.
    assert_eq!(std::sync::Arc::strong_count(&source), 1);
}

#[tokio::test]
async fn a_port_that_stays_taken_is_an_error() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = BindOptions {
        port,
        ..BindOptions::loopback()
    };
    let begun = tokio::time::Instant::now();
    let secret = key(1);
    let bound = Endpoint::bind(&secret, options, Services::none());
    let error = soon(bound).await.unwrap_err();
    assert_eq!(error.port, port);
    let patience = begun.elapsed();
    assert!(
        patience > Duration::from_secs(1),
        "gave up after {patience:?}"
    );
}

#[tokio::test]
async fn local_addresses_can_be_dialled_and_written_as_hints() {
    let source = FakeLogs::new();
    source.end();
    for options in [BindOptions::loopback(), BindOptions::all_interfaces(0)] {
        let services = Services::none().with_logs(network(), source.clone());
        let secret = SigningKey::from_bytes(&fresh_secret());
        let machine = Endpoint::bind(&secret, options, services).await.unwrap();
        let hints = machine.dial_hints();
        assert!(!hints.is_empty());
        let peer = net::Peer::from_hints(PublicKey::of(&secret), &hints);
        assert!(
            peer.addrs
                .iter()
                .all(|addr| !addr.ip().is_unspecified() && addr.port() != 0)
        );
        let secret = SigningKey::from_bytes(&fresh_secret());
        let tenant = Endpoint::bind(&secret, options, Services::none());
        let tenant = tenant.await.unwrap();
        let grant = signed(grant(tenant.key()));
        let mut logs = LogClient::new(&tenant, peer, grant, query(true));
        assert_eq!(read_all(&mut logs).await.unwrap().1, LogEnd::WorkloadEnded);
        tenant.close().await;
        machine.close().await;
    }
}

/// What a source must not do.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Panic,
    Hang,
    Repeat,
    TooMuch,
    Overflow,
}

#[async_trait]
impl LogSource for Fault {
    async fn authorize(&self, _grant: &SignedGrant, _remote: PublicKey) -> Result<(), Refusal> {
        Ok(())
    }

    async fn read(
        &self,
        _lease: LeaseId,
        _stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk, Refusal> {
        let (offset, bytes) = match self {
            Self::Panic => panic!("the source panics: this message belongs to the test"),
            Self::Hang => std::future::pending().await,
            Self::Repeat => (offset - 1, 1),
            Self::TooMuch => (offset, max + 1),
            Self::Overflow => (u64::MAX, 1),
        };
        Ok(LogChunk {
            offset,
            bytes: vec![0; bytes],
            ended: false,
        })
    }
}

#[tokio::test]
async fn a_faulty_source_costs_its_reader_only() {
    let limits = Limits {
        source: Duration::from_millis(100),
        ..Limits::default()
    };
    for fault in [
        Fault::Panic,
        Fault::Hang,
        Fault::Repeat,
        Fault::TooMuch,
        Fault::Overflow,
    ] {
        let machine = machine(Arc::new(fault), limits).await;
        let tenant = client().await;
        let from = LogOffsets {
            stdout: 5,
            stderr: 5,
        };
        let wanted = LogQuery {
            from,
            ..query(true)
        };
        let grant = signed(grant(tenant.key()));
        let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, wanted);
        // The reader tries again: the machine may get over it. It shall never see a wrong byte.
        let got = tokio::time::timeout(Duration::from_millis(400), logs.next()).await;
        assert!(got.is_err(), "{fault:?}: {got:?}");
        drop(logs);
        soon(machine.close()).await;
    }
}
