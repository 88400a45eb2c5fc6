//! Starting and stopping a node: of a network of one validator, or one validator of several.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::Arc,
    thread,
    time::Duration,
};

use commonware_consensus::types::Height;
use commonware_cryptography::Digestible as _;
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _, tokio as engine_runtime};
use commonware_utils::ordered::Set;
use futures::future::select_all;
use light::{Digest, Scheme, Validator};
use market::{Genesis, GenesisError, LoadError, Market, NetworkName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    app::{App, LocalClock, now_ms},
    beacon::Beacon,
    chain::Block,
    engine::{self, Blocks, Engine, Net as _, Setup, Timeouts},
    executor::{self, Base, Executor, Requests},
    folder::{Folder, FolderError},
    gossip,
    handle::{Ended, Handle},
    history::{History, HistoryError},
    ledger::{Head, Ledger, final_block},
    members::Members,
    null_net::NullNet,
    pace::Pace,
    peers::{self, AnyNet, PeersConfig},
    pool::Pool,
    proofs::{self, ProofRequest},
    solo::{KeyError, Keys},
    state::{self, Databases, StoreFailed},
};

/// Shortest time between two blocks: lets transactions gather while the disk writes the last block.
const INTERVAL_MIN: Duration = Duration::from_millis(2);
/// The same among several, where a block must reach the others too.
const INTERVAL_MIN_PEERS: Duration = Duration::from_millis(40);
/// A view without a proposal by then is given up. An idle network spends several views on each heartbeat; that is the
/// price of a short stall after a crash (see the next one), and costs a millisecond a view.
const LEADER_TIMEOUT: Duration = Duration::from_secs(2);
/// A view that was not certified by then is given up. This is how long a validator stalls that was killed between its
/// vote and the certificate: the engine does not count its own vote again.
const CERTIFICATION_TIMEOUT: Duration = Duration::from_secs(3);
/// A leader that was not heard of for so long is passed over at once: longer than any view of a network that works.
const SKIP_TIMEOUT: Duration = Duration::from_secs(10);
/// Threads of the engine: consensus, store and execution of one validator keep about one busy.
const ENGINE_THREADS: usize = 2;
/// Threads for the engine's file accesses; the rest queue.
const FILE_THREADS: usize = 16;
/// How long the engine may take to load its state.
const START_MAX: Duration = Duration::from_mins(5);
/// How long the engine may take to come to rest.
const STOP_MAX: Duration = Duration::from_secs(20);

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder; made when it does not exist.
    pub folder: PathBuf,
    /// What the network starts from: needed for a new folder, compared in an old one.
    pub genesis: Option<Genesis>,
    /// Where to listen for the other validators, instead of this one's address in the file of validators.
    pub listen_peers: Option<SocketAddr>,
}

/// What a test does to a node that nobody would do to a real one.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Lab {
    /// How far this validator's clock is ahead: its blocks come from the future. All validators started anew with it are
    /// a network that was stopped for so long.
    pub clock_ahead: Duration,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The validator's keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The genesis document.
    #[error("the genesis document is not valid")]
    Genesis(#[from] GenesisError),
    /// The history.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The stored state.
    #[error("the stored state could not be loaded")]
    Load(#[from] LoadError),
    /// The store.
    #[error("the state store failed: {0}")]
    Store(String),
    /// The key and the file of validators are of different networks.
    #[error("the validator's key does not belong to the validators that the folder's file names")]
    OtherNetwork,
    /// A thread could not be started.
    #[error("could not start the engine's thread")]
    Thread(#[source] std::io::Error),
    /// The engine ended or took too long.
    #[error("the engine did not come up: {why}")]
    Engine {
        /// What is known about it.
        why: String,
    },
}

/// Why a node did not come to rest in time; what is final is safe.
#[derive(Debug, thiserror::Error)]
#[error("the engine did not stop within {} s", STOP_MAX.as_secs())]
pub struct StopError;

impl From<StoreFailed> for StartError {
    fn from(StoreFailed(why): StoreFailed) -> Self {
        Self::Store(why)
    }
}

/// A running node. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Node {
    handle: Handle,
    stop: watch::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Node {
    /// Starts a node and waits until its state is loaded.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_in_lab(config, Lab::default()).await
    }

    /// Starts a node as a test wants it.
    ///
    /// # Errors
    /// [`StartError`].
    #[doc(hidden)]
    pub async fn start_in_lab(config: Config, lab: Lab) -> Result<Self, StartError> {
        let folder = Folder::open(&config.folder, config.genesis.as_ref())?;
        let heartbeat = Duration::from_millis(folder.genesis.params.heartbeat.millis());
        let members = folder.members()?;
        let keys = Keys::load_or_make(&folder.keys(), members.is_none())?;
        // Refused here, so that a bad document is an error and not a panic of the engine.
        drop(Market::genesis(&folder.genesis)?);
        let network = folder.genesis.network.clone();
        let group_key: Arc<[u8]> = keys.group_key().into();
        let place = Place::new(&keys, members, config.listen_peers, &network)?;
        let validators = place.participants.len();
        let (history, writer) = History::open(&folder.history())?;
        let ledger = Ledger::new(history, Pool::default());
        let (proofs, proof_requests) = mpsc::channel(proofs::REQUESTS_MAX);
        let (outbox, told) = mpsc::channel(gossip::OUTBOX_MAX);
        let outbox = place.peers.is_some().then_some(outbox);
        let (stop, stopped) = watch::channel(false);
        let (ended, ended_seen) = watch::channel(None);
        let (ready, started) = oneshot::channel();
        let run = Run {
            folder,
            keys,
            place,
            ledger: ledger.clone(),
            heartbeat,
            lab,
            proofs: proof_requests,
            told,
            stopped,
        };
        let thread = thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let outcome = run.block(ready);
                writer.stop();
                ended.send_replace(Some(outcome));
            })
            .map_err(StartError::Thread)?;
        let handle = Handle {
            ledger,
            network,
            group_key,
            validators,
            proofs,
            outbox,
            ended: ended_seen,
        };
        let node = Self {
            handle,
            stop,
            thread: Some(thread),
        };
        match tokio::time::timeout(START_MAX, started).await {
            Ok(Ok(Ok(()))) => Ok(node),
            Ok(Ok(Err(why))) => Err(why),
            Ok(Err(_)) => {
                let why = match node.handle.ended().await {
                    Ended::Failed { why } => why,
                    Ended::Stopped => "it stopped".to_owned(),
                };
                Err(StartError::Engine { why })
            }
            Err(_) => Err(StartError::Engine {
                why: format!("not ready after {} s", START_MAX.as_secs()),
            }),
        }
    }

    /// Returns what others reach the node with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops the node and waits until it rests and its folder is free.
    ///
    /// # Errors
    /// [`StopError`] when it takes too long.
    pub async fn stop(mut self) -> Result<(), StopError> {
        self.stop.send_replace(true);
        let Some(thread) = self.thread.take() else {
            return Ok(());
        };
        let joined = tokio::task::spawn_blocking(move || thread.join());
        tokio::time::timeout(STOP_MAX, joined)
            .await
            .map_err(|_| StopError)?
            .ok();
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Everything the engine's thread needs.
struct Run {
    folder: Folder,
    keys: Keys,
    place: Place,
    ledger: Ledger,
    heartbeat: Duration,
    lab: Lab,
    proofs: mpsc::Receiver<ProofRequest>,
    /// What was admitted here and the others are to be told of.
    told: mpsc::Receiver<Vec<u8>>,
    stopped: watch::Receiver<bool>,
}

/// This validator's place among the others.
struct Place {
    scheme: Scheme,
    participants: Set<Validator>,
    /// Who the others are and where to listen for them; nobody in a network of one.
    peers: Option<(Members, SocketAddr)>,
}

impl Place {
    fn new(
        keys: &Keys,
        members: Option<Members>,
        listen: Option<SocketAddr>,
        network: &NetworkName,
    ) -> Result<Self, StartError> {
        let Some(members) = members else {
            let participants = keys.alone();
            return Ok(Self {
                scheme: keys
                    .scheme(network.as_str(), participants.clone())
                    .ok_or(StartError::OtherNetwork)?,
                participants,
                peers: None,
            });
        };
        let participants = members.participants();
        let fits = members.name() == network && members.group_key() == keys.group_key();
        let scheme = keys.scheme(network.as_str(), participants.clone());
        let at = members.address_of(&keys.validator());
        match (scheme, at) {
            (Some(scheme), Some(at)) if fits => Ok(Self {
                scheme,
                participants,
                peers: Some((members, listen.unwrap_or(at))),
            }),
            _ => Err(StartError::OtherNetwork),
        }
    }

    /// Starts the network among validators, if there are several.
    fn connect(
        &self,
        context: &engine_runtime::Context,
        keys: &Keys,
        ledger: &Ledger,
        told: mpsc::Receiver<Vec<u8>>,
    ) -> (AnyNet, Vec<commonware_runtime::Handle<()>>) {
        let Some((members, listen)) = &self.peers else {
            let nobody = NullNet::new(self.participants.clone());
            return (AnyNet::Nobody(nobody), Vec::new());
        };
        let config = PeersConfig {
            network: members.name().as_str().to_owned(),
            identity: keys.identity(),
            listen: *listen,
            validators: members.validators.clone(),
        };
        let (net, network) = peers::start(context, config);
        let mut net = AnyNet::Peers(Box::new(net));
        let (sender, receiver) = net.channel(peers::GOSSIP);
        let inbox = gossip::Inbox {
            ledger: ledger.clone(),
            network: members.name().clone(),
            blocker: net.blocker(),
        };
        let telling = context
            .child("gossip_out")
            .spawn(move |clock| gossip::send(clock, sender, told));
        // Checking signatures holds a core while it lasts.
        let hearing = context
            .child("gossip_in")
            .dedicated()
            .spawn(move |clock| inbox.run(clock, receiver));
        (net, vec![network, telling, hearing])
    }
}

type Ready = oneshot::Sender<Result<(), StartError>>;

impl Run {
    /// Runs the engine on this thread until it is stopped or fails.
    fn block(self, ready: Ready) -> Ended {
        let config = engine_runtime::Config::new()
            .with_storage_directory(self.folder.engine())
            .with_worker_threads(ENGINE_THREADS)
            .with_max_blocking_threads(FILE_THREADS)
            .with_catch_panics(false);
        let runner = engine_runtime::Runner::new(config);
        // A storage failure panics by the engine's design: end, and let whoever supervises start again.
        catch_unwind(AssertUnwindSafe(|| {
            runner.start(|context| self.run(context, ready))
        }))
        .unwrap_or_else(|panic| Ended::Failed {
            why: panic_text(panic.as_ref()),
        })
    }

    async fn run(self, context: engine_runtime::Context, ready: Ready) -> Ended {
        let Self {
            folder,
            keys,
            place,
            ledger,
            heartbeat,
            lab,
            proofs,
            told,
            mut stopped,
        } = self;
        let since_ms = now_ms(&context);
        let (executor, requests) = Executor::new();
        let setup = setup(&folder, &keys, &place, &ledger, &executor, heartbeat, lab);
        let genesis = setup.app.genesis.clone();
        let (net, connected) = place.connect(&context, &keys, &ledger, told);
        let Engine {
            blocks,
            databases,
            handles,
        } = engine::start(context.child("engine"), setup, net).await;
        let loaded = Loader {
            folder: &folder,
            ledger: &ledger,
            blocks: &blocks,
            genesis: &genesis,
        };
        let databases = databases.await;
        let base = match loaded.load(&databases).await {
            Ok(base) => base,
            Err(why) => {
                let ended = Ended::Failed {
                    why: why.to_string(),
                };
                drop(ready.send(Err(why)));
                return ended;
            }
        };
        let caught_up = catch_up(place.peers.is_none(), ledger.head(), since_ms);
        let executing = spawn_executor(&context, base, executor, requests, ledger.pool().clone());
        let proving = context
            .child("proofs")
            .spawn(move |context| proofs::run(context, databases, blocks, proofs));
        let mut all = handles;
        all.extend([executing, proving]);
        all.extend(connected);
        let mut any = select_all(all);
        let failed = |(result, at, _)| Ended::Failed {
            why: format!("actor {at} ended: {result:?}"),
        };
        let early = tokio::select! {
            () = caught_up => None,
            _ = stopped.wait_for(|stop| *stop) => Some(Ended::Stopped),
            one = &mut any => Some(failed(one)),
        };
        let ended = if let Some(ended) = early {
            ended
        } else {
            drop(ready.send(Ok(())));
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => Ended::Stopped,
                one = &mut any => failed(one),
            }
        };
        // Actors that watch for it flush; the rest is safe to cut off at any instant.
        drop(context.stop(0, Some(STOP_MAX / 2)).await);
        drop(folder);
        ended
    }
}

fn setup(
    folder: &Folder,
    keys: &Keys,
    place: &Place,
    ledger: &Ledger,
    executor: &Executor,
    heartbeat: Duration,
    lab: Lab,
) -> Setup {
    let app = App {
        genesis: Block::genesis::<engine_runtime::Context>(&folder.genesis),
        executor: executor.clone(),
        ledger: ledger.clone(),
        beacon: Beacon::new(place.scheme.clone()),
        network: folder.genesis.network.clone(),
        clock: LocalClock {
            ahead: lab.clock_ahead,
        },
    };
    let alone = place.peers.is_none();
    Setup {
        scheme: place.scheme.clone(),
        me: keys.validator(),
        app,
        pace: Pace::new(
            ledger.pool().clone(),
            executor.clone(),
            heartbeat,
            if alone {
                INTERVAL_MIN
            } else {
                INTERVAL_MIN_PEERS
            },
        ),
        timeouts: Timeouts {
            leader: LEADER_TIMEOUT,
            certification: CERTIFICATION_TIMEOUT,
            skip: (!alone).then_some(SKIP_TIMEOUT),
        },
    }
}

/// Waits until a block that was proposed after `since_ms` is final, and so all that were final before are followed.
///
/// After a crash the newest ones are delivered again; who is let in before would be told nonces that are used up.
///
/// Alone, the next block comes soon. Among several it may take until enough of them are there, so nothing is waited for;
/// who asks before that is told how old the newest block is.
async fn catch_up(alone: bool, mut head: watch::Receiver<Head>, since_ms: u64) {
    if !alone {
        return;
    }
    // The ledger outlives this wait, so it cannot fail.
    drop(
        head.wait_for(|head| head.height > 0 && head.time_ms >= since_ms)
            .await,
    );
}

fn spawn_executor(
    context: &engine_runtime::Context,
    base: Base,
    executor: Executor,
    requests: Requests,
    pool: Pool,
) -> commonware_runtime::Handle<()> {
    // Execution holds a core while it lasts; a thread of its own keeps consensus responsive.
    context
        .child("executor")
        .dedicated()
        .spawn(move |_| executor::run(base, executor, requests, pool))
}

/// Loads the state that the store was recovered to.
struct Loader<'a> {
    folder: &'a Folder,
    ledger: &'a Ledger,
    blocks: &'a Blocks,
    genesis: &'a Block,
}

impl Loader<'_> {
    async fn load(
        &self,
        databases: &Databases<engine_runtime::Context>,
    ) -> Result<Base, StartError> {
        let (at, records) = state::read_all(databases).await?;
        let base = if at.height == 0 {
            let market = Market::genesis(&self.folder.genesis)?;
            let genesis = market.records().collect();
            self.ledger.open(
                Market::genesis(&self.folder.genesis)?,
                self.genesis.digest(),
            );
            Base {
                market,
                digest: self.genesis.digest(),
                genesis,
            }
        } else {
            let digest = self.digest_at(at.height).await?;
            self.ledger
                .open(Market::load(records.iter().cloned())?, digest);
            Base {
                market: Market::load(records)?,
                digest,
                genesis: Vec::new(),
            }
        };
        tracing::info!(height = at.height, digest = %base.digest, "state loaded");
        self.repair_history(at.height).await?;
        Ok(base)
    }

    async fn digest_at(&self, height: u64) -> Result<Digest, StartError> {
        let info = self.blocks.get_info(Height::new(height)).await;
        let (_, digest) = info
            .ok_or_else(|| StartError::Store(format!("block {height} of the state is missing")))?;
        Ok(digest)
    }

    /// Makes the history again from the blocks when it does not reach the state, as when its file was deleted.
    async fn repair_history(&self, to: u64) -> Result<(), StartError> {
        let history = self.ledger.history();
        let have = history.height()?.unwrap_or(0);
        if have >= to {
            return Ok(());
        }
        tracing::warn!(
            have,
            to,
            "the history is behind the state; making it again from the blocks"
        );
        let mut market = Market::genesis(&self.folder.genesis)?;
        for height in 1..=to {
            let Some(block) = self.blocks.get_block(Height::new(height)).await else {
                tracing::error!(height, "the block is pruned; the history begins after it");
                return Ok(());
            };
            let executed = executor::replay(
                &mut market,
                &block.inner().header,
                block.inner().txs.clone(),
            )
            .map_err(|why| StartError::Store(why.to_string()))?;
            if height > have {
                history
                    .append(final_block(&executed, block.digest()))
                    .await?;
            }
        }
        Ok(())
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_else(|| "the engine panicked".to_owned())
}
