//! How long a tenant and a machine wait for each other; run with `--ignored --nocapture` on a quiet machine.

use std::time::{Duration, Instant};

use net::Limits;
use net::logs::{LogClient, LogEvent, LogStream};

use crate::support::{FakeLogs, client, grant, machine, query, signed, soon};

const ROUNDS: usize = 30;

#[tokio::test]
#[ignore = "a measurement"]
async fn first_bytes_of_a_log() {
    let source = FakeLogs::new();
    source.write(LogStream::Stdout, b"hello");
    let machine = machine(source.clone(), Limits::default()).await;
    let (mut bind, mut first, mut live) = (Vec::new(), Vec::new(), Vec::new());
    let mut bye = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let tenant = client().await;
        bind.push(begun.elapsed());
        let begun = Instant::now();
        let grant = signed(grant(tenant.key()));
        let mut logs = LogClient::new(&tenant, machine.as_peer(), grant, query(true));
        let LogEvent::Piece(piece) = soon(logs.next()).await.unwrap() else {
            panic!("the workload still runs");
        };
        first.push(begun.elapsed());
        assert!(piece.bytes.starts_with(b"hello"));
        source.write(LogStream::Stdout, b".");
        let begun = Instant::now();
        soon(logs.next()).await.unwrap();
        live.push(begun.elapsed());
        drop(logs);
        let begun = Instant::now();
        tenant.close().await;
        bye.push(begun.elapsed());
    }
    report("bind an endpoint", bind);
    report("connect, authorize, first byte", first);
    report("written to seen, following", live);
    report("close", bye);
    machine.close().await;
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    println!(
        "{what}: p50 {:?}, max {:?}",
        times[ROUNDS / 2],
        times[ROUNDS - 1]
    );
}
