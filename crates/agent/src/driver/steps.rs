//! What the agent does for one lease: each step is a task with a deadline that tells the loop how it went.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use api::{
    Client, KeeperView, LeaseView, WorkView,
    envelope::{EnvelopeError, SealContext, SealSecret},
    manifest::Manifest,
};
use market::{DeviceClass, LeaseId, Name, NetworkName};
use net::{
    Endpoint, Peer,
    manifest::{FetchError, fetch_manifest},
};
use runtime::{Blame, ContainerId, ContainerSpec, ImageRef, Limits, Runtime, Status};
use tokio::sync::{mpsc, oneshot};

use super::{state::Input, tell};
use crate::{
    core::Step,
    images::{IMAGE_ERROR, ImagePolicy, ImageRefusal, advice},
    inventory::{GpuProbe, names_of_lease},
    logs,
};

/// For one keeper to answer: it only reads its disk.
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// For an image: the ledger's start deadline is nearer, this only ends what hangs.
const PREPARE_DEADLINE: Duration = Duration::from_mins(30);
/// For a container to be laid out and its command to run; the runtime needs milliseconds.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// For a container to be gone once its grace is over.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// For the runtime to say where a container stands.
const LOOK_DEADLINE: Duration = Duration::from_secs(10);
/// Tries to keep the output of an ended lease, about ten minutes: an operator who is told of a full disk can make room.
const KEEP_TRIES_MAX: u32 = 120;
/// Processes and threads of one workload: room for a training job's loaders, a wall for a fork bomb.
const PIDS_MAX: u32 = 8_192;

/// What the steps share.
#[derive(Clone)]
pub(super) struct Doer {
    pub(super) client: Client,
    pub(super) network: NetworkName,
    pub(super) runtime: Arc<dyn Runtime>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) seal: Arc<SealSecret>,
    pub(super) logs: PathBuf,
    pub(super) images: Arc<ImagePolicy>,
    pub(super) gpus: Arc<dyn GpuProbe>,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// What a step brought.
#[derive(Debug)]
pub(super) enum Got {
    Manifest(Box<Manifest>),
    Image(runtime::Digest),
    Nothing,
}

/// Where a container stands after a step.
#[derive(Debug)]
pub(super) enum Sight {
    At(Status),
    Absent,
    /// The runtime did not say.
    Unsure,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) blame: Blame,
    /// For the operator, and for the tenant where that is to blame; holds no secrets.
    pub(super) why: String,
    /// The stable code, where the tenant is to blame.
    pub(super) code: &'static str,
    /// What the tenant can do.
    pub(super) next_step: &'static str,
}

/// What a container is made of.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) image: runtime::Digest,
    pub(super) manifest: Manifest,
    pub(super) lease: LeaseView,
}

impl StepError {
    pub(super) fn new(blame: Blame, why: impl Into<String>) -> Self {
        let (code, next_step) = IMAGE_ERROR;
        Self {
            blame,
            why: why.into(),
            code,
            next_step,
        }
    }

    fn refused(refusal: &ImageRefusal) -> Self {
        Self {
            code: refusal.code(),
            next_step: refusal.next_step(),
            ..Self::new(Blame::Tenant, refusal.to_string())
        }
    }
}

impl From<runtime::Error> for StepError {
    fn from(error: runtime::Error) -> Self {
        let made = Self::new(error.blame(), with_causes(&error));
        let runtime::Error::Image { source, .. } = &error else {
            return made;
        };
        let (code, next_step) = advice(source);
        Self {
            code,
            next_step,
            ..made
        }
    }
}

/// Returns a keeper as the data plane dials it.
pub(super) fn keeper_peer(keeper: &KeeperView) -> Peer {
    let hints: Vec<Name> = keeper
        .dial
        .iter()
        .filter_map(|text| Name::parse(text))
        .collect();
    Peer::from_hints(keeper.endpoint, &hints)
}

/// Names a lease's container.
pub(crate) fn container(lease: LeaseId) -> ContainerId {
    ContainerId::new(lease.to_string()).expect("a lease id is made of letters, digits and _")
}

impl Doer {
    pub(super) async fn fetch_manifest(
        self,
        lease: LeaseId,
        work: Option<WorkView>,
        known: Vec<Peer>,
    ) {
        let result = match work {
            Some(work) => self.ask_keepers(&work, known).await,
            None => Err(StepError::new(
                Blame::Transient,
                "the lease's job is not known yet",
            )),
        };
        let result = result.map(|manifest| Got::Manifest(Box::new(manifest)));
        self.done(lease, Step::FetchManifest, result, None).await;
    }

    /// Asks the job's keepers one after the other.
    async fn ask_keepers(
        &self,
        work: &WorkView,
        mut known: Vec<Peer>,
    ) -> Result<Manifest, StepError> {
        let named = |peer: &Peer| work.keepers.iter().any(|k| k.endpoint == peer.key);
        if !known.iter().any(named)
            && let Ok(status) = self.client.status().await
        {
            known = status.keeper.iter().map(keeper_peer).collect();
        }
        let mut failed =
            StepError::new(Blame::Transient, "no address of the job's keepers is known");
        for keeper in &work.keepers {
            let mut peer = keeper_peer(keeper);
            let more = known
                .iter()
                .filter(|p| p.key == peer.key)
                .flat_map(|p| p.addrs.clone());
            peer.addrs.extend(more);
            if peer.addrs.is_empty() {
                continue;
            }
            match self.ask_keeper(&peer, work).await {
                Ok(manifest) => return Ok(manifest),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    async fn ask_keeper(&self, keeper: &Peer, work: &WorkView) -> Result<Manifest, StepError> {
        let lease = work.lease.id;
        let fetched = fetch_manifest(
            &self.endpoint,
            keeper,
            lease,
            work.lease.job,
            FETCH_DEADLINE,
        );
        // A keeper may hear of the award a moment after the machine, and its refusal then passes.
        let sealed = fetched
            .await
            .map_err(|e: FetchError| StepError::new(Blame::Transient, with_causes(&e)))?;
        let context = SealContext::machine(&self.network, lease);
        sealed
            .open(&self.seal, &context, &work.manifest)
            .map_err(|error| {
                let blame = match error {
                    // What the tenant signed is bad: it is so everywhere.
                    EnvelopeError::Manifest(_) => Blame::Tenant,
                    // This keeper's doing; another one, or another try, may do better.
                    _ => Blame::Transient,
                };
                StepError::new(blame, with_causes(&error))
            })
    }

    pub(super) async fn prepare(self, lease: LeaseId, image: Option<(String, market::Digest)>) {
        let result = match image {
            Some((image, digest)) => self.prepare_image(&image, digest).await,
            None => Err(StepError::new(Blame::Transient, "the manifest is not here")),
        };
        if let Err(error) = &result
            && error.blame == Blame::Tenant
        {
            self.tell_tenant(lease, error).await;
        }
        self.done(lease, Step::Prepare, result.map(Got::Image), None)
            .await;
    }

    async fn prepare_image(
        &self,
        image: &str,
        digest: market::Digest,
    ) -> Result<runtime::Digest, StepError> {
        let reference: ImageRef = image
            .parse()
            .map_err(|e| StepError::new(Blame::Tenant, format!("{e}")))?;
        let policy = Arc::clone(&self.images);
        let checked = tokio::task::spawn_blocking(move || policy.check(&reference)).await;
        let reference = checked
            .map_err(|error| StepError::new(Blame::Transient, error.to_string()))?
            .map_err(|refusal| StepError::refused(&refusal))?;
        let prepared = within(PREPARE_DEADLINE, self.runtime.prepare(&reference)).await?;
        if *prepared.digest.as_bytes() != digest.0 {
            let why = format!(
                "{image} is now {}, the job names sha256:{digest}",
                prepared.digest
            );
            return Err(StepError::new(Blame::Tenant, why));
        }
        Ok(prepared.digest)
    }

    /// Leaves the reason where the tenant looks for the workload's output: the ledger's word for it is only a word.
    async fn tell_tenant(&self, lease: LeaseId, error: &StepError) {
        let StepError {
            why,
            code,
            next_step,
            ..
        } = error;
        let text = format!("tradewind: {code}: {why}\ntradewind: next: {next_step}\n");
        let folder = self.logs.clone();
        let written = tokio::task::spawn_blocking(move || logs::leave_word(&folder, lease, &text));
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%lease, %error, "the tenant cannot be told why"),
            Err(error) => tracing::error!(%lease, %error, "the tenant cannot be told why"),
        }
    }

    /// Lays the container out where `launch` is given, has the start marked on disk, and starts it.
    pub(super) async fn start(self, lease: LeaseId, launch: Option<Launch>) {
        let result = self
            .create_and_start(lease, launch)
            .await
            .map(|()| Got::Nothing);
        let sight = self.sight(lease).await;
        self.done(lease, Step::Start, result, Some(sight)).await;
    }

    async fn create_and_start(
        &self,
        lease: LeaseId,
        launch: Option<Launch>,
    ) -> Result<(), StepError> {
        let id = container(lease);
        if let Some(launch) = launch {
            let mut spec = spec(&launch, &self.network);
            spec.devices = self.devices(&launch.lease).await?;
            within(START_DEADLINE, self.runtime.create(&id, &spec)).await?;
        }
        let (done, marked) = oneshot::channel();
        tell(&self.inputs, Input::Mark(lease, done)).await;
        let unmarked =
            |_| StepError::new(Blame::Transient, "the start could not be marked on disk");
        marked.await.map_err(unmarked)?;
        within(START_DEADLINE, self.runtime.start(&id)).await
    }

    /// Returns the devices of a lease, as the runtime calls them.
    async fn devices(&self, lease: &LeaseView) -> Result<Vec<String>, StepError> {
        let passing = |error: &dyn std::error::Error| {
            let why = format!(
                "the lease's devices cannot be looked up: {}",
                with_causes(error)
            );
            StepError::new(Blame::Transient, why)
        };
        let machine = self.client.machine(&lease.machine).await;
        let listed = machine.map_err(|e| passing(&e))?.devices;
        if listed.iter().all(|device| device.class == DeviceClass::Cpu) {
            return Ok(Vec::new());
        }
        // Measured anew: a card may have failed since it was listed.
        let probe = Arc::clone(&self.gpus);
        let gpus = tokio::task::spawn_blocking(move || probe.gpus()).await;
        let gpus = gpus.map_err(|e| passing(&e))?.map_err(|e| passing(&e))?;
        let described = within(LOOK_DEADLINE, self.runtime.probe()).await?.devices;
        names_of_lease(&lease.devices, &listed, &self.network, &gpus, &described)
            .map_err(|error| StepError::new(error.blame(), error.to_string()))
    }

    /// Starts a workload anew on the disk that it left.
    pub(super) async fn restart(self, lease: LeaseId, round: u32) {
        let result = within(
            START_DEADLINE,
            self.runtime.restart(&container(lease), round),
        )
        .await
        .map(|()| Got::Nothing);
        let sight = self.sight(lease).await;
        self.done(lease, Step::Restart, result, Some(sight)).await;
    }

    pub(super) async fn stop(self, lease: LeaseId, grace: Duration) {
        let id = container(lease);
        let stopped = within(grace + KILL_DEADLINE, self.runtime.stop(&id, grace)).await;
        // What outlives even that, for example of a lost shim, is killed without asking.
        let result = match stopped {
            Ok(()) => Ok(Got::Nothing),
            Err(_) => within(KILL_DEADLINE, self.runtime.kill(&id))
                .await
                .map(|()| Got::Nothing),
        };
        let sight = self.sight(lease).await;
        self.done(lease, Step::Stop, result, Some(sight)).await;
    }

    /// Keeps the output, and removes the container. What cannot be kept, for example on a full disk, stays in the
    /// container's own files until it can; `failures` so far, of which there is a most.
    pub(super) async fn remove(self, lease: LeaseId, failures: u32) {
        let result = self
            .keep_and_remove(lease, failures)
            .await
            .map(|()| Got::Nothing);
        let sight = self.sight(lease).await;
        self.done(lease, Step::Remove, result, Some(sight)).await;
    }

    async fn keep_and_remove(&self, lease: LeaseId, failures: u32) -> Result<(), StepError> {
        if let Err(error) = logs::keep(&*self.runtime, lease, &self.logs).await {
            let why = with_causes(&error);
            if failures < KEEP_TRIES_MAX {
                let why =
                    format!("its output cannot be kept yet, so that its container stays: {why}");
                return Err(StepError::new(Blame::Transient, why));
            }
            tracing::error!(%lease, why, "the output of an ended lease is lost");
            let folder = self.logs.clone();
            let given_up = tokio::task::spawn_blocking(move || logs::give_up(&folder, lease)).await;
            if let Ok(Err(error)) = given_up {
                tracing::warn!(%lease, %error, "the tenant cannot be told of it");
            }
        }
        within(KILL_DEADLINE, self.runtime.remove(&container(lease))).await
    }

    pub(super) async fn look(self, lease: LeaseId) {
        let sight = self.sight(lease).await;
        self.done(lease, Step::Look, Ok(Got::Nothing), Some(sight))
            .await;
    }

    /// Waits for a container's end.
    pub(super) async fn watch(self, lease: LeaseId) {
        let status = self.runtime.wait(&container(lease)).await.ok();
        tell(&self.inputs, Input::Ended(lease, status)).await;
    }

    async fn sight(&self, lease: LeaseId) -> Sight {
        let id = container(lease);
        match tokio::time::timeout(LOOK_DEADLINE, self.runtime.status(&id)).await {
            Ok(Ok(status)) => Sight::At(status),
            Ok(Err(runtime::Error::NotFound { .. })) => Sight::Absent,
            Ok(Err(_)) | Err(_) => Sight::Unsure,
        }
    }

    async fn done(
        &self,
        lease: LeaseId,
        step: Step,
        result: Result<Got, StepError>,
        sight: Option<Sight>,
    ) {
        tell(&self.inputs, Input::Done(lease, step, result, sight)).await;
    }
}

/// Returns the container of a lease.
fn spec(launch: &Launch, network: &NetworkName) -> ContainerSpec {
    let Launch {
        image,
        manifest,
        lease,
    } = launch;
    let limits = Limits {
        cpu_milli: lease.cpu_milli,
        memory_bytes: lease.memory_bytes,
        pids: PIDS_MAX,
    };
    let mut env = manifest.environment();
    // Ours win, so that a program can rely on them.
    let ours = [
        ("TRADEWIND_NETWORK", network.to_string()),
        ("TRADEWIND_JOB", lease.job.to_string()),
        ("TRADEWIND_LEASE", lease.id.to_string()),
        ("TRADEWIND_MACHINE", lease.machine.to_string()),
        ("TRADEWIND_DEVICES", lease.devices.len().to_string()),
        ("TRADEWIND_CPUS", limits.cpus().to_string()),
        ("TRADEWIND_MEMORY_BYTES", lease.memory_bytes.to_string()),
    ];
    env.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    ContainerSpec {
        command: manifest.command.clone(),
        args: manifest.args.clone(),
        env,
        workdir: manifest.workdir.clone(),
        ..ContainerSpec::new(*image, limits)
    }
}

async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = runtime::Result<T>>,
) -> Result<T, StepError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StepError::new(
            Blame::Transient,
            format!("no end within {deadline:?}"),
        )),
    }
}

/// Returns an error with its causes in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
