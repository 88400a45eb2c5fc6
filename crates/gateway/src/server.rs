//! Listening, connections and the end of both.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    guard::{self, Guard},
    keeper::Keeper,
    routes,
    stall::Impatient,
    stream::Streams,
};

/// Connections at once: each costs a few kilobytes, and event streams hold theirs for hours.
const CONNECTIONS_MAX: usize = 2_048;
/// Time for a request's head, and how long a connection may idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Largest request head: a path, a query and a few headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Pause after an accept that failed, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) node: node::Handle,
    pub(crate) keeper: Option<Arc<Keeper>>,
    pub(crate) streams: Arc<Streams>,
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
    let app = App {
        node: config.handle,
        keeper: config.keeper.clone(),
        streams: Arc::new(Streams::new(stopped.clone())),
    };
    let router = router(app);
    let mut keeping = JoinSet::new();
    if let Some(keeper) = config.keeper {
        let stopped = stopped.clone();
        keeping.spawn(async move { keeper.sweep_until(stopped).await });
    }
    let task = tokio::spawn(async move {
        accept_loop(listener, router, stopped).await;
        keeping.join_all().await;
    });
    tracing::info!(%address, "gateway listens");
    Ok(Server {
        address,
        stop,
        task,
    })
}

fn router(app: App) -> Router {
    let guard = axum::middleware::from_fn_with_state(Guard::new(), guard::guard);
    routes::router().with_state(app).layer(guard)
}

/// Accepts connections until told to stop, then lets them finish and joins them all.
async fn accept_loop(listener: TcpListener, router: Router, mut stopped: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            () = told_to_stop(&mut stopped) => break,
        };
        let (socket, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Small answers must not wait for one another.
        drop(socket.set_nodelay(true));
        let service = TowerToHyperService::new(router.clone());
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
            drop(permit);
        });
    }
    drop(listener);
    if timeout(STOP_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were cut off at the gateway's stop");
    }
    connections.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room)
        .acquire_owned()
        .await
        .expect("the semaphore is never closed");
    let (socket, _) = listener.accept().await?;
    Ok((socket, permit))
}

/// Waits until the gateway is told to stop, or dropped.
pub(crate) async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, which means the same.
    drop(stopped.wait_for(|stop| *stop).await);
}
