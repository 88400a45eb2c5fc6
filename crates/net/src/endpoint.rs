//! One QUIC endpoint: its key, its socket, who it dials and what it serves.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use iroh::endpoint::{
    BindOpts, Connection, NetReportConfig, PortmapperConfig, QuicTransportConfig, VarInt, presets,
};
use iroh::{EndpointAddr, RelayMode, SecretKey};
use market::{DIAL_MAX, Name, PublicKey};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::Limits;
use crate::serve::{Services, accept_loop};

/// What one stream may have on the way to us: a chunk of logs several times over.
const STREAM_WINDOW: u32 = 256 * 1024;
/// What one connection may have on the way in either direction.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// Silence after which a connection is lost; three of the library's own keepalives.
const CONNECTION_SILENCE: Duration = Duration::from_secs(15);
/// How long a taken port is asked for again.
const PORT_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two such attempts.
const PORT_PAUSE: Duration = Duration::from_millis(50);
/// For tasks and connections to end in good order; then they are cut.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// Who can reach an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This machine only.
    Loopback,
    /// Whoever can route to any of its interfaces.
    AllInterfaces,
}

/// How an endpoint binds.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// Who can reach it.
    pub scope: Scope,
    /// UDP port; zero takes a free one.
    pub port: u16,
    /// How much it takes from others.
    pub limits: Limits,
}

impl BindOptions {
    /// Returns options for this machine only, on a free port.
    pub fn loopback() -> Self {
        Self {
            scope: Scope::Loopback,
            port: 0,
            limits: Limits::default(),
        }
    }

    /// Returns options for all interfaces on `port`.
    pub fn all_interfaces(port: u16) -> Self {
        Self {
            scope: Scope::AllInterfaces,
            port,
            ..Self::loopback()
        }
    }
}

/// Whom to dial, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its endpoint key; nobody else can answer for it.
    pub key: PublicKey,
    /// Where it may be; all are tried.
    pub addrs: Vec<SocketAddr>,
}

impl Peer {
    /// Reads the ledger's dial hints; those that are no `ip:port` are passed over.
    pub fn from_hints(key: PublicKey, hints: &[Name]) -> Self {
        let addrs = hints.iter().filter_map(|hint| hint.as_str().parse().ok());
        Self {
            key,
            addrs: addrs.take(DIAL_MAX).collect(),
        }
    }
}

/// Why an endpoint could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("could not open UDP port {port}")]
pub struct BindError {
    /// The port asked for.
    pub port: u16,
    /// The cause.
    #[source]
    pub cause: AnyError,
}

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The key is no point of the curve.
    #[error("{key} is not a usable endpoint key")]
    BadKey {
        /// The key.
        key: PublicKey,
    },
    /// No address is known.
    #[error("no address is known for {key}")]
    NoAddress {
        /// The peer.
        key: PublicKey,
    },
    /// Nobody with this key answered in time.
    #[error("{key} did not answer within {after:?}")]
    Timeout {
        /// The peer.
        key: PublicKey,
        /// How long it was given.
        after: Duration,
    },
    /// Somebody answered, but has another key, does not speak the protocol or refuses connections.
    #[error("could not connect to {key}")]
    Failed {
        /// The peer.
        key: PublicKey,
        /// The cause.
        #[source]
        cause: AnyError,
    },
}

/// An endpoint of the data plane. Dropping it cuts everything; [`Endpoint::close`] says goodbye first.
#[derive(Debug)]
pub struct Endpoint {
    iroh: iroh::Endpoint,
    key: PublicKey,
    options: BindOptions,
    stop: watch::Sender<bool>,
    /// The accept loop, which owns all other tasks.
    tasks: Mutex<JoinSet<()>>,
}

impl Endpoint {
    /// Opens the socket and begins to serve.
    pub async fn bind(
        secret: &SigningKey,
        options: BindOptions,
        services: Services,
    ) -> Result<Self, BindError> {
        let deadline = Instant::now() + PORT_PATIENCE;
        let iroh = loop {
            match open(secret, &options, &services).await {
                Ok(iroh) => break iroh,
                // A predecessor may be on its way out: its socket closes a little after it said goodbye.
                Err(cause) if is_in_use(&*cause) && Instant::now() < deadline => {
                    sleep(PORT_PAUSE).await;
                }
                Err(cause) => {
                    return Err(BindError {
                        port: options.port,
                        cause,
                    });
                }
            }
        };
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept_loop(iroh.clone(), services, options.limits, stopped));
        Ok(Self {
            iroh,
            key: PublicKey::of(secret),
            options,
            stop,
            tasks: Mutex::new(tasks),
        })
    }

    /// Returns the endpoint's key.
    pub const fn key(&self) -> PublicKey {
        self.key
    }

    /// Returns the limits it was bound with.
    pub const fn limits(&self) -> &Limits {
        &self.options.limits
    }

    /// Returns where it can be dialled, by this machine's own knowledge: its sockets, and for a socket on all
    /// interfaces the addresses of these.
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        let sockets = self.iroh.bound_sockets();
        if self.options.scope == Scope::Loopback {
            return sockets;
        }
        let mut addrs: Vec<SocketAddr> = self.iroh.addr().ip_addrs().copied().collect();
        if addrs.is_empty() {
            // Nothing but loopback is up: it is then the one place where somebody can dial.
            addrs.extend(sockets.iter().filter_map(|socket| match socket {
                SocketAddr::V4(v4) => Some(SocketAddr::from((Ipv4Addr::LOCALHOST, v4.port()))),
                SocketAddr::V6(_) => None,
            }));
        }
        addrs.sort_unstable();
        addrs
    }

    /// Returns [`Self::local_addrs`] as the ledger writes them in a machine's record.
    pub fn dial_hints(&self) -> Vec<Name> {
        self.local_addrs()
            .iter()
            .filter_map(|addr| Name::parse(&addr.to_string()))
            .take(DIAL_MAX)
            .collect()
    }

    /// Returns itself as others see it.
    pub fn as_peer(&self) -> Peer {
        Peer {
            key: self.key,
            addrs: self.local_addrs(),
        }
    }

    /// Dials a peer for one protocol; the connection is with the holder of the peer's key or not at all.
    pub(crate) async fn dial(
        &self,
        peer: &Peer,
        protocol: &[u8],
        within: Duration,
    ) -> Result<Connection, DialError> {
        let key = peer.key;
        let id =
            iroh::PublicKey::from_bytes(key.as_bytes()).map_err(|_| DialError::BadKey { key })?;
        if peer.addrs.is_empty() {
            return Err(DialError::NoAddress { key });
        }
        let addrs = peer.addrs.iter().take(DIAL_MAX);
        let target = addrs.fold(EndpointAddr::new(id), |target, addr| {
            target.with_ip_addr(*addr)
        });
        match timeout(within, self.iroh.connect(target, protocol)).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(DialError::Failed {
                key,
                cause: error.into(),
            }),
            Err(_) => Err(DialError::Timeout { key, after: within }),
        }
    }

    /// Ends every connection, tells the peers, and waits for all tasks, within five seconds twice.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let mut tasks = self.tasks.lock().await;
        let joined = timeout(CLOSE_DEADLINE, async {
            while tasks.join_next().await.is_some() {}
        });
        if joined.await.is_err() {
            tracing::warn!("tasks of the endpoint did not end in time and are cut");
            tasks.shutdown().await;
        }
        if timeout(CLOSE_DEADLINE, self.iroh.close()).await.is_err() {
            tracing::warn!("peers did not acknowledge the end of the endpoint in time");
        }
    }
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

async fn open(
    secret: &SigningKey,
    options: &BindOptions,
    services: &Services,
) -> Result<iroh::Endpoint, AnyError> {
    let builder = iroh::Endpoint::builder(presets::Minimal)
        .secret_key(SecretKey::from_bytes(&secret.to_bytes()))
        .alpns(services.alpns())
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        .transport_config(transport(&options.limits))
        .clear_ip_transports();
    let builder = match options.scope {
        Scope::Loopback => builder.bind_addr((Ipv4Addr::LOCALHOST, options.port))?,
        Scope::AllInterfaces => {
            // A machine without IPv6 is served over IPv4 alone.
            let optional = BindOpts::default().set_is_required(false);
            builder
                .bind_addr((Ipv4Addr::UNSPECIFIED, options.port))?
                .bind_addr_with_opts((Ipv6Addr::UNSPECIFIED, options.port), optional)?
        }
    };
    // Boxed: it is some 20 KiB, which every caller would carry.
    Ok(Box::pin(builder.bind()).await?)
}

fn is_in_use(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>();
    io.is_some_and(|io| io.kind() == io::ErrorKind::AddrInUse)
        || error.source().is_some_and(is_in_use)
}

fn transport(limits: &Limits) -> QuicTransportConfig {
    let silence = CONNECTION_SILENCE
        .try_into()
        .expect("fifteen seconds are a valid idle time");
    QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.streams_per_connection))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .max_idle_timeout(Some(silence))
        .build()
}
