//! The driver around the core: it looks, asks the core what to do, and does it.
//!
//! ```text
//! ledger (SSE + resync) ─┐                          ┌─► steps: manifest, image, start, stop, remove (side by side)
//! runtime (ends)        ─┼─► one loop owns all state ┼─► sender: beats and reports, in order
//! timers                ─┘     core::reconcile       └─► journal, before what it is about
//! ```
//!
//! Map: `ledger` hears the ledger, `steps` acts on containers, `sender` speaks to the ledger, `state` is what the loop
//! owns. Nothing here polls in order to react; the periodic resync only catches what was missed.

mod ledger;
mod sender;
mod state;
mod steps;

use std::{
    collections::BTreeSet, future::Future, net::SocketAddr, path::PathBuf, sync::Arc,
    time::Duration,
};

use api::{Client, ClientError};
use ed25519_dalek::SigningKey;
use market::{MachineId, NetworkName};
use net::{BindError, BindOptions, Endpoint, Services};
use runtime::Runtime;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    bidder::{Bidder, run_bidder},
    images::ImagePolicy,
    inventory::GpuProbe,
    journal::{Journal, JournalError},
    logs::MachineLogs,
    metrics::{Metrics, ServeError, serve},
    pricing::Policy,
    steward::{Steward, Stewarding},
    submit::Submitter,
};
use state::{Agent, Input};
pub(crate) use steps::container;

/// Inputs that wait for the loop: each step and watcher has at most a few, and there are at most 64 leases.
const INPUTS_MAX: usize = 1_024;
/// For the tasks to end when the agent is told to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// What an agent needs to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder: keys and journal. [`crate::setup::Provider::init`] must have registered the machine.
    pub folder: PathBuf,
    /// The gateway, as `host:port`.
    pub gateway: String,
    /// What runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Where the data plane listens; the same port as in the machine's record.
    pub bind: BindOptions,
    /// Which images tenants may name.
    pub images: ImagePolicy,
    /// Tells which GPUs are there when a lease wants its own.
    pub gpus: Arc<dyn GpuProbe>,
    /// How it bids on orders that collect bids; `None` leaves it at the standing offers.
    pub bidding: Option<Bidding>,
    /// How it keeps its listing true; `None` leaves it as setup made it.
    pub steward: Option<Stewarding>,
    /// Where it tells its metrics; `None` tells nobody.
    pub metrics: Option<SocketAddr>,
}

/// What an agent needs to bid.
#[derive(Clone)]
pub struct Bidding {
    /// Speaks for the provider: its owner key, or one with the provider's role.
    pub key: SigningKey,
    /// At what prices, as they are now.
    pub policy: watch::Receiver<Policy>,
}

impl Bidding {
    fn on(self, client: Client, machine: MachineId) -> Bidder {
        Bidder {
            client,
            key: self.key,
            machine,
            policy: self.policy,
        }
    }
}

impl std::fmt::Debug for Bidding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bidding")
            .field("key", &"***")
            .field("policy", &*self.policy.borrow())
            .finish()
    }
}

/// Why an agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The gateway's address is no address.
    #[error(transparent)]
    Gateway(#[from] ClientError),
    /// The machine was never registered.
    #[error("no machine is registered in {}: run setup first", folder.display())]
    NotRegistered {
        /// The folder.
        folder: PathBuf,
    },
    /// The data plane cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] ServeError),
    /// The runtime's folder cannot be used.
    #[error("could not look at the containers")]
    Runtime(#[source] runtime::Error),
}

/// Runs the agent until `shutdown` is ready; then ends every task and leaves the workloads running.
///
/// Needs no answer from the gateway to begin: a machine that restarts during an outage takes its workloads up again.
///
/// # Errors
/// [`RunError`], before anything was started. Later troubles are logged and tried again.
pub async fn run(
    config: Config,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let journal = Journal::open(&config.folder)?;
    let identity = journal.state.identity.clone();
    let identity = identity.ok_or_else(|| RunError::NotRegistered {
        folder: config.folder.clone(),
    })?;
    let (network, machine) = (identity.network, identity.machine);
    let client = Client::new(&config.gateway)?;
    let endpoint = bind(&config, &journal, &client, &network, machine).await?;
    tracing::info!(%machine, %network, gateway = client.endpoint(), "agent runs");

    let (inputs, mut heard) = mpsc::channel(INPUTS_MAX);
    let mut tasks = JoinSet::new();
    let metrics = Metrics::new();
    if let Some(address) = config.metrics {
        let (at, answers) = serve(address, Arc::clone(&metrics)).await?;
        tracing::info!(%at, "tells its metrics");
        tasks.spawn(answers);
    }
    let (interest, interested) = watch::channel(BTreeSet::new());
    let watcher = ledger::Watcher {
        client: client.clone(),
        network: network.clone(),
        machine,
        inputs: inputs.clone(),
    };
    tasks.spawn(watcher.run(interested));
    if let Some(bidding) = config.bidding.clone() {
        tasks.spawn(run_bidder(bidding.on(client.clone(), machine)));
    }
    if let Some(with) = config.steward.clone() {
        let metrics = Arc::clone(&metrics);
        tasks.spawn(steward(with, &config, &client, &journal, machine, metrics).run());
    }
    let submitter = Submitter::new(client.clone(), network.clone(), journal.keys().sign.clone());
    let outbox = sender::spawn(&mut tasks, submitter, machine, inputs.clone());

    let doer = steps::Doer {
        client,
        network,
        runtime: config.runtime.clone(),
        endpoint: endpoint.clone(),
        seal: Arc::new(journal.keys().seal.clone()),
        logs: journal.logs(),
        images: Arc::new(config.images.clone()),
        gpus: Arc::clone(&config.gpus),
        inputs: inputs.clone(),
    };
    let mut agent = Agent::new(journal, machine, doer, outbox, interest, metrics);
    agent.look_at_all().await.map_err(RunError::Runtime)?;
    go_on(&mut agent, &mut heard, &mut tasks, shutdown).await;
    tracing::info!("agent stops; its workloads go on");
    if tokio::time::timeout(STOP_DEADLINE, tasks.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("tasks did not end in time");
    }
    agent.save();
    endpoint.close().await;
    Ok(())
}

/// Acts and listens until `shutdown` is ready.
async fn go_on(
    agent: &mut Agent,
    heard: &mut mpsc::Receiver<Input>,
    tasks: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()> + Send,
) {
    tokio::pin!(shutdown);
    loop {
        agent.act(tasks);
        let wake = tokio::time::sleep(agent.until_next());
        tokio::select! {
            () = &mut shutdown => break,
            input = heard.recv() => match input {
                Some(input) => agent.take(input),
                None => break,
            },
            Some(ended) = tasks.join_next(), if !tasks.is_empty() => agent.joined(ended),
            () = wake => {}
        }
        // What has arrived meanwhile is taken in one go: the core decides on the newest state.
        while let Ok(input) = heard.try_recv() {
            agent.take(input);
        }
    }
}

fn steward(
    with: Stewarding,
    config: &Config,
    client: &Client,
    journal: &Journal,
    machine: MachineId,
    metrics: Arc<Metrics>,
) -> Steward {
    Steward {
        with,
        client: client.clone(),
        machine,
        sign: journal.keys().public().sign,
        runtime: Arc::clone(&config.runtime),
        folder: config.folder.clone(),
        metrics,
    }
}

async fn bind(
    config: &Config,
    journal: &Journal,
    client: &Client,
    network: &NetworkName,
    machine: MachineId,
) -> Result<Arc<Endpoint>, BindError> {
    let logs = MachineLogs {
        client: client.clone(),
        machine,
        runtime: config.runtime.clone(),
        folder: journal.logs(),
    };
    let services = Services::none().with_logs(network.clone(), Arc::new(logs));
    let endpoint = Endpoint::bind(&journal.keys().endpoint, config.bind, services).await?;
    Ok(Arc::new(endpoint))
}

/// Sends an input to the loop; when the loop is gone, there is nobody to tell.
async fn tell(inputs: &mpsc::Sender<Input>, input: Input) {
    if inputs.send(input).await.is_err() {
        tracing::debug!("the agent's loop has ended");
    }
}
