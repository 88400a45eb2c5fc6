//! `tradewind node`: a validator with its gateway and keeper, in one process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::Client;
use api::envelope::SealSecret;
use gateway::{
    Hooks, HooksConfig, Keeper, KeeperConfig, Limits, LocalClients, Rate, Reach, Server,
};
use market::{Genesis, NetworkName, Params, PublicKey};
use net::{BindOptions, Endpoint, Scope, Services};
use node::{Ended, FolderError, Node, StartError};

use crate::context::Context;
use crate::daemon::{self, Daemon};
use crate::error::{Failure, Result, exit};
use crate::output::Style;
use crate::service::Service;
use crate::session::{Session, block_on};
use crate::table::pairs;
use crate::wallet::{self, Wallet};

/// A validator on this machine: start, status
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Start(Start),
    Status(Status),
}

/// Run a validator, its gateway and its keeper until stopped
///
/// A new data folder begins a new network of one validator; an old one goes on with its own.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind node start\n  tradewind node start --listen 127.0.0.1:7171 --network lab"
)]
struct Start {
    /// Where the gateway listens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070")]
    listen: SocketAddr,
    /// Where the data lies, instead of the home folder's node
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name of a new network
    #[arg(long, value_name = "NAME", default_value = "local", value_parser = network_name)]
    network: NetworkName,
    /// Key that may issue dollars in a new network, repeatable; without any, one is made in the home folder
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    treasurer: Vec<PublicKey>,
    /// UDP port of the keeper's data plane; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    data_plane_port: u16,
    /// Send tenants' notices into private networks and to this machine too, not only over the internet
    #[arg(long)]
    private_hooks: bool,
    /// Where to listen for the other validators, instead of the address that they know
    #[arg(long, value_name = "IP:PORT")]
    listen_peers: Option<SocketAddr>,
    /// Name of the process among those of this home folder
    #[arg(long, hide = true, default_value = "node")]
    service: String,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    daemon: daemon::Args,
}

/// How much one address may have of the gateway; processes on this machine are not held to it
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Limits of one address")]
struct LimitArgs {
    /// Requests a second, on average
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests.per_second, value_parser = at_least_one())]
    requests_per_second: u32,
    /// Requests at once after a pause
    #[arg(long, value_name = "N", default_value_t = Limits::default().requests.burst, value_parser = at_least_one())]
    requests_burst: u32,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = Limits::default().connections_per_client)]
    connections_per_address: usize,
    /// Event streams
    #[arg(long, value_name = "N", default_value_t = Limits::default().streams_per_client)]
    streams_per_address: usize,
    /// Hold processes on this machine to the limits too, where a proxy passes on what others ask
    #[arg(long)]
    limit_loopback: bool,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl LimitArgs {
    fn limits(&self) -> Limits {
        Limits {
            connections_per_client: self.connections_per_address,
            streams_per_client: self.streams_per_address,
            requests: Rate {
                per_second: self.requests_per_second,
                burst: self.requests_burst,
            },
            local: if self.limit_loopback {
                LocalClients::Limited
            } else {
                LocalClients::Free
            },
            ..Limits::default()
        }
    }
}

/// Show how the node stands
#[derive(Debug, clap::Args)]
struct Status {}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Start(args) => start(context, args),
        Verb::Status(_) => status(context),
    }
}

/// Returns the service of this machine's node.
pub(crate) fn service(home: &Path) -> Service {
    Service::new(home, "node")
}

/// Folder of the validators of a network of several on this machine.
pub(crate) const VALIDATORS: &str = "validators";

/// Returns the service of this machine's validator of this number, from 1.
pub(crate) fn service_of(home: &Path, number: u16) -> Service {
    match number {
        1 => service(home),
        _ => Service::new(home, format!("node-{number}")),
    }
}

/// Returns the folders of this machine's validators, in the order of their numbers; none for a network of one.
pub(crate) fn validator_folders(home: &Path) -> Vec<PathBuf> {
    (1..=node::VALIDATORS_MAX)
        .map(|number| home.join(VALIDATORS).join(format!("validator-{number}")))
        .take_while(|folder| folder.exists())
        .collect()
}

/// Returns the file of the key that may issue dollars in a network begun here.
pub(crate) fn treasurer_file(context: &Context) -> PathBuf {
    context.keys().join("treasurer.key")
}

fn start(context: &Context, args: &Start) -> Result<u8> {
    let service = Service::new(&context.home, args.service.as_str());
    let daemon = Daemon::begin(context, &service, &args.daemon)?;
    daemon.run(async {
        let parts = Parts::start(context, args).await?;
        let address = parts.server.address();
        let status = Client::new(&address.to_string())?.status().await?;
        context.output.say(&format!(
            "{} node serves network {} at http://{address}, block {}",
            context.output.mark(Style::Good),
            status.network,
            status.height,
        ));
        let failed = parts.run_until_stopped().await?;
        match failed {
            None => Ok(exit::DONE),
            Some(why) => Err(Failure::new("died", format!("the node failed: {why}"))),
        }
    })
}

/// What a node process consists of.
struct Parts {
    node: Node,
    endpoint: Endpoint,
    server: Server,
}

impl Parts {
    async fn start(context: &Context, args: &Start) -> Result<Self> {
        let folder = args
            .data
            .clone()
            .unwrap_or_else(|| context.home.join("node"));
        let node = open_node(context, args, &folder).await?;
        let secret = Wallet::open_or_create(&folder.join("keeper-endpoint.key"))?;
        let seal = SealSecret::from_bytes(wallet::seed(&folder.join("keeper-seal.key"))?);
        let config = KeeperConfig {
            folder: folder.join("keeper"),
            seal,
            endpoint: secret.public(),
        };
        let keeper = Keeper::open(config, node.handle())
            .map_err(|error| Failure::new("io", "could not open the keeper").causes(&error))?;
        let scope = if args.listen.ip().is_loopback() {
            Scope::Loopback
        } else {
            Scope::AllInterfaces
        };
        let options = BindOptions {
            scope,
            port: args.data_plane_port,
            ..BindOptions::loopback()
        };
        let services = Services::none().with_manifests(keeper.clone());
        let endpoint = Endpoint::bind(secret.key(), options, services)
            .await
            .map_err(|error| {
                Failure::new("port-taken", "could not open the keeper's UDP port").causes(&error)
            })?;
        keeper.set_dial(
            endpoint
                .local_addrs()
                .iter()
                .map(ToString::to_string)
                .collect(),
        );
        let config = gateway::Config {
            listen: args.listen,
            handle: node.handle(),
            keeper: Some(keeper),
            hooks: Some(open_hooks(&node, &folder, args.private_hooks)?),
            limits: args.limits.limits(),
        };
        let server = gateway::serve(config).await.map_err(|error| {
            Failure::new("port-taken", format!("could not listen on {}", args.listen))
                .causes(&error)
        })?;
        Ok(Self {
            node,
            endpoint,
            server,
        })
    }

    /// Runs until a signal comes or the node fails, and stops everything; returns why it failed.
    async fn run_until_stopped(self) -> Result<Option<String>> {
        let handle = self.node.handle();
        let failed = tokio::select! {
            signal = daemon::stop_signal() => { signal?; None }
            ended = handle.ended() => match ended {
                Ended::Stopped => None,
                Ended::Failed { why } => Some(why),
            },
        };
        self.server.stop().await;
        self.endpoint.close().await;
        self.node
            .stop()
            .await
            .map_err(|error| Failure::new("timed-out", error.to_string()))?;
        Ok(failed)
    }
}

/// Opens the hooks, through which tenants are told of their jobs.
fn open_hooks(node: &Node, folder: &Path, private: bool) -> Result<Arc<Hooks>> {
    let reach = if private {
        Reach::Private
    } else {
        Reach::Public
    };
    let config = HooksConfig::new(folder.join("hooks"), reach);
    Hooks::open(config, node.handle())
        .map_err(|error| Failure::new("io", "could not open the hooks").causes(&error))
}

/// Opens the data folder; a new one begins the network that the arguments name.
async fn open_node(context: &Context, args: &Start, folder: &Path) -> Result<Node> {
    let old = Node::start(node::Config {
        folder: folder.to_owned(),
        genesis: None,
        listen_peers: args.listen_peers,
    })
    .await;
    let started = match old {
        Err(StartError::Folder(FolderError::NoGenesis { .. })) => {
            let treasurers = match args.treasurer.as_slice() {
                [] => vec![Wallet::open_or_create(&treasurer_file(context))?.public()],
                given => given.to_vec(),
            };
            let genesis = Genesis {
                network: args.network.clone(),
                time: crate::tail::now(),
                treasurers,
                params: Params::default(),
            };
            Node::start(node::Config {
                folder: folder.to_owned(),
                genesis: Some(genesis),
                listen_peers: args.listen_peers,
            })
            .await
        }
        old => old,
    };
    started.map_err(|error| {
        let code = match &error {
            StartError::Folder(FolderError::InUse { .. }) => "home-busy",
            StartError::Folder(FolderError::Newer { .. }) => "newer-data",
            StartError::Folder(FolderError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::StorageFull =>
            {
                "disk-full"
            }
            _ => "died",
        };
        Failure::new(code, "the node could not start").causes(&error)
    })
}

pub(super) fn network_name(text: &str) -> Result<NetworkName, String> {
    NetworkName::parse(text)
        .ok_or_else(|| format!("{text:?} is no network's name; use 1 to 48 of a-z, 0-9 and -"))
}

pub(super) fn public_key(text: &str) -> Result<PublicKey, String> {
    PublicKey::parse(text).ok_or_else(|| format!("{text:?} is no public key, as key_…"))
}

fn status(context: &Context) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let view = &session.status;
        let process = match service(&context.home).running()? {
            Some(pid) => format!("pid {pid}, log {}", service(&context.home).log().display()),
            None => "not of this machine's home folder".to_owned(),
        };
        let lines = pairs(&[
            ("network", view.network.to_string()),
            ("endpoint", session.client.endpoint().to_owned()),
            ("version", view.version.clone()),
            ("block", format!("{}, {}", view.height, view.time)),
            (
                "ready",
                view.not_ready.clone().unwrap_or_else(|| "yes".to_owned()),
            ),
            ("waiting", format!("{} transactions", view.pending)),
            (
                "keeper",
                view.keeper
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), |keeper| keeper.dial.join(", ")),
            ),
            ("issued", view.issued.to_string()),
            ("fees", view.fees.to_string()),
            ("insurance", view.insurance.to_string()),
            ("process", process),
        ]);
        context.output.thing(view, view.network.as_str(), &lines)?;
        if view.ready {
            return Ok(exit::DONE);
        }
        Ok(exit::FAILED)
    })
}
