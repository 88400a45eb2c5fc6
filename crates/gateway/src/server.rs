//! Listening, connections and the end of both.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use api::Code;
use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use market::Market;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    clients::{Client, Clients, Kind, Limits},
    guard::{self, Guard},
    hooks::Hooks,
    keeper::Keeper,
    metrics::Metrics,
    refusal::{Answer, Refusal, internal},
    routes,
    stall::Impatient,
    stream::Streams,
};

/// Time for a request's head, and how long a connection may idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Largest request head: a path, a query and a few headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Scans of the whole ledger at once.
const SCANS_MAX: usize = 1;
/// Longest wait for a turn to scan: well over a hundred scans of the largest book that was measured.
const SCAN_PATIENCE: Duration = Duration::from_secs(10);
/// Time for requests that are under way when the gateway stops.
const STOP_MAX: Duration = Duration::from_secs(5);

/// What a gateway is started with.
#[derive(Debug)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The node.
    pub handle: node::Handle,
    /// The keeper, if this node is one.
    pub keeper: Option<Arc<Keeper>>,
    /// The hooks, if this node sends notices.
    pub hooks: Option<Arc<Hooks>>,
    /// How much of the gateway there is, and for whom.
    pub limits: Limits,
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) node: node::Handle,
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) hooks: Option<Arc<Hooks>>,
    pub(crate) clients: Arc<Clients>,
    pub(crate) streams: Arc<Streams>,
    pub(crate) scans: Arc<Semaphore>,
    pub(crate) metrics: Arc<Metrics>,
}

impl App {
    /// Looks at much of the final ledger, in turn with others and away from the threads that serve.
    ///
    /// A scan holds the ledger's read lock, and blocks are followed only between scans: hence few at a time.
    pub(crate) async fn scan<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Market) -> T + Send + 'static,
    ) -> Answer<T> {
        let turn = timeout(SCAN_PATIENCE, Arc::clone(&self.scans).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            let text = "too many wait to look through the whole ledger";
            return Err(Refusal::new(Code::Overloaded, text));
        };
        let node = self.node.clone();
        let scan = move || {
            let seen = node.read(look);
            drop(turn);
            seen
        };
        tokio::task::spawn_blocking(scan)
            .await
            .map_err(|error| internal(&error))
    }
}

/// The gateway cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {listen}")]
pub struct ServeError {
    listen: SocketAddr,
    #[source]
    source: std::io::Error,
}

/// A running gateway. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Returns where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends event streams, lets requests finish for a few seconds, and joins every task.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the gateway's task failed");
        }
    }
}

/// Starts a gateway; it serves until [`Server::stop`].
pub async fn serve(config: Config) -> Result<Server, ServeError> {
    let failed = |source| ServeError {
        listen: config.listen,
        source,
    };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let (stop, stopped) = watch::channel(false);
    let (clients, metrics) = (Clients::new(config.limits), Metrics::new());
    let app = App {
        node: config.handle,
        keeper: config.keeper.clone(),
        hooks: config.hooks.clone(),
        clients: Arc::clone(&clients),
        streams: Arc::new(Streams::new(Arc::clone(&clients), stopped.clone())),
        scans: Arc::new(Semaphore::new(SCANS_MAX)),
        metrics: Arc::clone(&metrics),
    };
    let router = router(app);
    let mut keeping = JoinSet::new();
    if let Some(keeper) = config.keeper {
        let stopped = stopped.clone();
        keeping.spawn(async move { keeper.sweep_until(stopped).await });
    }
    let task = tokio::spawn(async move {
        accept_loop(listener, clients, metrics, router, stopped).await;
        keeping.join_all().await;
        if let Some(hooks) = config.hooks {
            hooks.stop().await;
        }
    });
    tracing::info!(%address, "gateway listens");
    Ok(Server {
        address,
        stop,
        task,
    })
}

fn router(app: App) -> Router {
    let guard = Guard::new(Arc::clone(&app.clients), Arc::clone(&app.metrics));
    let guard = axum::middleware::from_fn_with_state(guard, guard::guard);
    routes::router().with_state(app).layer(guard)
}

/// Accepts connections until told to stop, then lets them finish and joins them all.
async fn accept_loop(
    listener: TcpListener,
    clients: Arc<Clients>,
    metrics: Arc<Metrics>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = told_to_stop(&mut stopped) => break,
        };
        let (socket, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let client = Client::at(address.ip());
        let Ok(place) = clients.enter(client, Kind::Connection) else {
            metrics.gateway.refused("connections");
            turn_away(&socket);
            continue;
        };
        // Small answers must not wait for one another.
        drop(socket.set_nodelay(true));
        let inner = TowerToHyperService::new(router.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(client);
            inner.call(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Impatient::new(socket)), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    if timeout(STOP_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at the gateway's stop");
    }
    connections.shutdown().await;
}

/// Says that there is no room, as far as that can be said at once, and hangs up.
fn turn_away(socket: &TcpStream) {
    const TEXT: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n";
    // Whoever does not hear it sees the end of the connection.
    drop(socket.try_write(TEXT));
}

/// Waits until the gateway is told to stop, or dropped.
pub(crate) async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    drop(stopped.wait_for(|stop| *stop).await);
}
