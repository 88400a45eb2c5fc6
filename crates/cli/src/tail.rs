//! A workload's output, read from its machine and written here: standard output to standard output, errors to errors.

use std::sync::Arc;
use std::time::Duration;

use api::LeaseView;
use ed25519_dalek::SigningKey;
use market::{Grant, Millis, PublicKey, Rights, SignedGrant, Timestamp};
use net::logs::{
    LogClient, LogEnd, LogError, LogEvent, LogOffsets, LogQuery, LogStream, LogStreams,
};
use net::{BindOptions, Endpoint, Peer, RefusalCode, Scope, Services};

use serde_json::json;

use crate::error::{Failure, Result};
use crate::output::Output;
use crate::session::Session;
use crate::wallet::Wallet;

/// How long a grant opens the logs; a longer stream shows a fresh one.
const GRANT_LIFETIME: Millis = Millis::from_secs(3_600);
/// A machine that hears of its lease's grant before it has seen the lease says so; it catches up within this time.
const CATCH_UP: Duration = Duration::from_secs(20);
/// Pause between two questions to such a machine.
const CATCH_UP_PAUSE: Duration = Duration::from_millis(200);

/// What to read of a lease's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// Which streams.
    pub(crate) streams: LogStreams,
    /// Whether to wait for more until the workload ends.
    pub(crate) follow: bool,
    /// Where to write it.
    pub(crate) sink: Sink,
}

/// Where a workload's output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// Each stream to its own.
    Streams,
    /// Both to standard error: standard output gets a view.
    Errors,
    /// Both to standard output, as lines of JSON.
    Lines,
}

impl Sink {
    fn write(self, output: &Output, stream: LogStream, bytes: &[u8]) -> Result<()> {
        match (self, stream) {
            (Self::Streams, LogStream::Stdout) => output.bytes(bytes),
            (Self::Streams, LogStream::Stderr) | (Self::Errors, _) => output.error_bytes(bytes),
            (Self::Lines, stream) => {
                let text = String::from_utf8_lossy(bytes);
                let piece = json!({"kind": "output", "stream": stream.to_string(), "text": text});
                output.json_line(&piece)?;
            }
        }
        Ok(())
    }
}

/// Reads a lease's output to its end, or to now, and writes it as it comes.
///
/// # Errors
/// Where the machine refuses or cannot be reached; what was read before has been written.
pub(crate) async fn copy(
    session: &Session,
    wallet: &Wallet,
    output: &Arc<Output>,
    lease: &LeaseView,
    wanted: Wanted,
) -> Result<LogEnd> {
    let machine = session.client.machine(&lease.machine).await?;
    let peer = Peer::from_hints(machine.endpoint_key, &machine.dial);
    let endpoint = dialler(&peer).await?;
    let ended = read(session, wallet, output, lease, wanted, &endpoint, &peer).await;
    endpoint.close().await;
    ended
}

async fn dialler(peer: &Peer) -> Result<Endpoint> {
    let far = peer.addrs.iter().any(|addr| !addr.ip().is_loopback());
    let scope = if far {
        Scope::AllInterfaces
    } else {
        Scope::Loopback
    };
    // A fresh key: who reads which lease is between the tenant and the machine.
    let secret = SigningKey::from_bytes(&rand::random());
    let options = BindOptions {
        scope,
        ..BindOptions::loopback()
    };
    Endpoint::bind(&secret, options, Services::none())
        .await
        .map_err(|error| Failure::new("io", "could not open a UDP port").causes(&error))
}

async fn read(
    session: &Session,
    wallet: &Wallet,
    output: &Arc<Output>,
    lease: &LeaseView,
    wanted: Wanted,
    endpoint: &Endpoint,
    peer: &Peer,
) -> Result<LogEnd> {
    let grant = || grant(session, wallet, lease, endpoint.key());
    let query = LogQuery {
        lease: lease.id,
        streams: wanted.streams,
        from: LogOffsets::default(),
        follow: wanted.follow,
    };
    let mut client = LogClient::new(endpoint, peer.clone(), grant(), query);
    let begun = tokio::time::Instant::now();
    loop {
        match client.next().await {
            Ok(LogEvent::Piece(piece)) => {
                if piece.dropped > 0 {
                    output.warn(&format!("{} bytes of {} are gone: the machine keeps the beginning and the latest part", piece.dropped, piece.stream));
                }
                wanted.sink.write(output, piece.stream, &piece.bytes)?;
            }
            Ok(LogEvent::End(end)) => return Ok(end),
            Err(LogError::Refused(refusal)) if refusal.code() == RefusalCode::ExpiredGrant => {
                client.renew(peer.clone(), grant());
            }
            Err(LogError::Refused(refusal))
                if refusal.code() == RefusalCode::NoSuchLease && begun.elapsed() < CATCH_UP =>
            {
                tokio::time::sleep(CATCH_UP_PAUSE).await;
                client.renew(peer.clone(), grant());
            }
            Err(error) => return Err(failure(lease, &error)),
        }
    }
}

fn grant(
    session: &Session,
    wallet: &Wallet,
    lease: &LeaseView,
    endpoint: PublicKey,
) -> SignedGrant {
    let grant = Grant {
        lease: lease.id,
        endpoint,
        rights: Rights::LOGS,
        expires_at: now().after(GRANT_LIFETIME),
    };
    grant.sign(session.network(), wallet.key())
}

/// Returns this machine's clock.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn failure(lease: &LeaseView, error: &LogError) -> Failure {
    let what = format!("could not read the output of {} from its machine", lease.id);
    let code = match error {
        LogError::Refused(refusal) => refusal.code().as_str(),
        LogError::Violation(_) => "protocol-mismatch",
        LogError::Unreachable { .. } => "machine-unreachable",
    };
    Failure::new(code, what).causes(error)
}
