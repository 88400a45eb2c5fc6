//! What an endpoint does for those who dial it.
//!
//! One accept loop owns the connection tasks, each connection task owns its stream tasks, and each stream serves one
//! request. Whoever ends joins what it owns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use iroh::endpoint::{Accepting, Connection, Incoming, RecvStream, SendStream, VarInt};
use market::{NetworkName, PublicKey};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::frame::{FrameReader, REQUEST_BYTES_MAX};
use crate::limits::Limits;
use crate::logs::{self, LogSource};
use crate::manifest::{self, ManifestSource};

/// Close code: the endpoint shuts down.
const CLOSE_STOPPING: u32 = 1;
/// Close code: no stream was open for too long.
const CLOSE_IDLE: u32 = 2;
/// Close code: the peer has too many connections.
const CLOSE_TOO_MANY: u32 = 3;

/// What an endpoint serves; nothing by default.
#[derive(Clone, Default)]
pub struct Services {
    manifests: Option<Arc<dyn ManifestSource>>,
    logs: Option<(NetworkName, Arc<dyn LogSource>)>,
}

impl Services {
    /// Serves nothing: an endpoint that only dials.
    pub fn none() -> Self {
        Self::default()
    }

    /// Serves sealed manifests to machines.
    #[must_use]
    pub fn with_manifests(mut self, source: Arc<dyn ManifestSource>) -> Self {
        self.manifests = Some(source);
        self
    }

    /// Serves logs to tenants whose grants are signed for `network`.
    #[must_use]
    pub fn with_logs(mut self, network: NetworkName, source: Arc<dyn LogSource>) -> Self {
        self.logs = Some((network, source));
        self
    }

    pub(crate) fn alpns(&self) -> Vec<Vec<u8>> {
        let manifests = self.manifests.as_ref().map(|_| manifest::ALPN.to_vec());
        let logs = self.logs.as_ref().map(|_| logs::ALPN.to_vec());
        manifests.into_iter().chain(logs).collect()
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services")
            .field("manifests", &self.manifests.is_some())
            .field("logs", &self.logs.is_some())
            .finish()
    }
}

/// What all connections of an endpoint share.
#[derive(Debug)]
struct Shared {
    services: Services,
    limits: Limits,
    log_streams: Semaphore,
    connections: Mutex<HashMap<PublicKey, usize>>,
}

/// Accepts connections until `stop` says so or the endpoint closes, then ends and joins them all.
pub(crate) async fn accept_loop(
    endpoint: iroh::Endpoint,
    services: Services,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) {
    let shared = Arc::new(Shared {
        services,
        limits,
        log_streams: Semaphore::new(limits.log_streams),
        connections: Mutex::default(),
    });
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    let held = connections.len();
                    if let Some(accepting) = admit(incoming, &limits, held) {
                        connections.spawn(serve_connection(accepting, shared.clone(), stop.clone()));
                    }
                }
                None => break,
            },
            Some(ended) = connections.join_next() => report_panic(ended),
            () = stopped(&mut stop) => break,
        }
    }
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

/// Takes the connection, unless there are too many; when half of the places are taken, the sender's address must be
/// proved first, so that a flood of forged addresses fills nothing.
fn admit(incoming: Incoming, limits: &Limits, held: usize) -> Option<Accepting> {
    if held >= limits.connections {
        incoming.refuse();
        return None;
    }
    if held >= limits.connections / 2 && !incoming.remote_addr_validated() {
        if let Err(error) = incoming.retry() {
            tracing::debug!(%error, "could not ask for an address proof");
        }
        return None;
    }
    incoming
        .accept()
        .inspect_err(|error| tracing::debug!(%error, "connection attempt came to nothing"))
        .ok()
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the endpoint is gone, which is a stop as well.
    drop(stop.wait_for(|stop| *stop).await);
}

fn report_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the data plane panicked");
    }
}

async fn serve_connection(
    accepting: Accepting,
    shared: Arc<Shared>,
    mut stop: watch::Receiver<bool>,
) {
    let connection = tokio::select! {
        connection = timeout(shared.limits.handshake, accepting) => match connection {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%error, "handshake failed"),
            Err(_) => return tracing::debug!("handshake took too long"),
        },
        () = stopped(&mut stop) => return,
    };
    let remote = PublicKey::from_bytes(*connection.remote_id().as_bytes());
    let Some(_place) = Place::take(&shared, remote) else {
        connection.close(VarInt::from_u32(CLOSE_TOO_MANY), b"too many connections");
        return;
    };
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    let stream = serve_stream(shared.clone(), connection.clone(), remote, send, recv);
                    streams.spawn(stream);
                }
                Err(_) => break,
            },
            Some(ended) = streams.join_next() => report_panic(ended),
            () = sleep(shared.limits.idle), if streams.is_empty() => {
                connection.close(VarInt::from_u32(CLOSE_IDLE), b"idle");
                break;
            }
            () = stopped(&mut stop) => {
                connection.close(VarInt::from_u32(CLOSE_STOPPING), b"shutting down");
                break;
            }
        }
    }
    streams.shutdown().await;
}

async fn serve_stream(
    shared: Arc<Shared>,
    connection: Connection,
    remote: PublicKey,
    mut send: SendStream,
    recv: RecvStream,
) {
    let Shared {
        services, limits, ..
    } = &*shared;
    let mut requests = FrameReader::new(recv, REQUEST_BYTES_MAX);
    let served = match (connection.alpn(), &services.manifests, &services.logs) {
        (manifest::ALPN, Some(source), _) => {
            manifest::serve(&**source, limits, remote, &mut requests, &mut send).await
        }
        (logs::ALPN, _, Some((network, source))) => {
            let log = logs::serve::LogStreamServer {
                network,
                source: &**source,
                limits,
                places: &shared.log_streams,
                remote,
            };
            log.run(&mut requests, &mut send).await
        }
        // The handshake only agrees on protocols that we named.
        _ => Ok(()),
    };
    if let Err(error) = served {
        tracing::debug!(%remote, %error, "stream ended early");
    }
    drop(send.finish());
}

/// One of a peer's places among the connections; given back on drop.
struct Place<'a> {
    shared: &'a Shared,
    remote: PublicKey,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, remote: PublicKey) -> Option<Self> {
        let mut held = lock(shared);
        let count = held.entry(remote).or_default();
        if *count >= shared.limits.connections_per_peer {
            return None;
        }
        *count += 1;
        Some(Self { shared, remote })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = lock(self.shared);
        if let Some(count) = held.get_mut(&self.remote) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.remote);
            }
        }
    }
}

fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, HashMap<PublicKey, usize>> {
    shared
        .connections
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}
