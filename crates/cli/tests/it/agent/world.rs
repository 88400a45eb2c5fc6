//! A network of one with a keeper, a provider's machine with workloads in memory, and a tenant.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use agent::{
    images::ImagePolicy,
    inventory::{Inventory, Listing, RecordedProbe, measure},
    journal::Journal,
    pricing::Policy,
    setup,
    steward::Stewarding,
};
use api::{
    Client, LeaseStateView, LeaseView, ManifestClaim, TxStatus, Wait,
    envelope::{JobKey, SaltedManifest, SealContext, SealSecret, SealedJob, system_rng},
    manifest::{Manifest, SecretText},
};
use ed25519_dalek::SigningKey;
use market::{
    AccountId, ByteSize, Claims, DeviceNeed, Digest, Genesis, Isolation, JobId, JobKind, JobSpec,
    Keeper as KeeperKeys, LeaseId, MachineId, Millis, Money, Name, NetworkName, OnBudget,
    OnPartition, Params, PublicKey, Requirement, SlaClass, Tier, Timestamp, Tx, TxBody,
    Verification,
};
use net::{BindOptions, Endpoint, Services};
use runtime::{ContainerId, Fake, Runtime as _};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

/// Longest wait for anything in these tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// What the probe says where there is no driver.
pub(crate) const NO_GPUS: &str = r#"{"gpus":[]}"#;
/// The image that every job of these tests names, unless it says otherwise.
const IMAGE: &str = "oci:/srv/app";

pub(crate) fn network() -> NetworkName {
    NetworkName::parse("test").unwrap()
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn treasurer() -> SigningKey {
    key(1)
}

pub(crate) fn tenant() -> SigningKey {
    key(2)
}

pub(crate) fn owner() -> SigningKey {
    key(3)
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(since.as_millis().try_into().unwrap())
}

pub(crate) fn container(lease: LeaseId) -> ContainerId {
    ContainerId::new(lease.to_string()).unwrap()
}

/// Waits until `look` gives something, and says what did not come.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < give_up, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) struct World {
    node: node::Node,
    server: Option<gateway::Server>,
    address: SocketAddr,
    keeper: Arc<gateway::Keeper>,
    keeper_endpoint: Endpoint,
    keeper_seal: SealSecret,
    pub(crate) client: Client,
    pub(crate) fake: Fake,
    pub(crate) machine: MachineId,
    /// Which images its agent takes.
    pub(crate) images: ImagePolicy,
    /// What a probe tells its agent of the GPUs.
    pub(crate) gpus: String,
    /// Where the agent's data plane listens.
    port: u16,
    folder: TempDir,
}

/// An agent that runs.
pub(crate) struct Agent {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), agent::RunError>>,
}

impl Agent {
    /// Ends it as a service manager would.
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }

    /// Drops it in the middle of whatever it does.
    pub(crate) async fn crash(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// Beats and deadlines short enough for a test, in the proportions of the real ones.
fn params() -> Params {
    Params {
        beat_leased: Millis::from_millis(400),
        beat_idle: Millis::from_millis(800),
        suspect_after: Millis::from_millis(1_500),
        lost_after: Millis::from_millis(8_000),
        early_exit: Millis::from_millis(100),
        order_reserve: Millis::from_millis(1_500),
        ..Params::default()
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let genesis = Genesis {
            network: network(),
            time: now(),
            treasurers: vec![PublicKey::of(&treasurer())],
            params: params(),
        };
        let config = node::Config {
            folder: folder.path().join("node"),
            genesis: Some(genesis),
            listen_peers: None,
        };
        let node = node::Node::start(config).await.unwrap();
        let (keeper_key, keeper_seal) = (key(90), SealSecret::from_bytes([91; 32]));
        let config = gateway::KeeperConfig {
            folder: folder.path().join("keeper"),
            seal: keeper_seal.clone(),
            endpoint: PublicKey::of(&keeper_key),
        };
        let keeper = gateway::Keeper::open(config, node.handle()).unwrap();
        let services = Services::none().with_manifests(Arc::<gateway::Keeper>::clone(&keeper));
        let endpoint = Endpoint::bind(&keeper_key, BindOptions::loopback(), services);
        let keeper_endpoint = endpoint.await.unwrap();
        keeper.set_dial(
            keeper_endpoint
                .local_addrs()
                .iter()
                .map(ToString::to_string)
                .collect(),
        );
        let server = serve(&node, &keeper, "127.0.0.1:0".parse().unwrap()).await;
        let mut world = Self {
            address: server.address(),
            client: Client::new(&server.address().to_string()).unwrap(),
            server: Some(server),
            node,
            keeper,
            keeper_endpoint,
            keeper_seal,
            fake: Fake::new(),
            machine: MachineId::from_bytes([0; 16]),
            images: ImagePolicy::any(),
            gpus: NO_GPUS.to_owned(),
            port: free_port(),
            folder,
        };
        world.fund(&tenant(), 100).await;
        world.fund(&owner(), 100).await;
        world.machine = world.set_up(&Policy::default()).await.machine;
        world
    }

    /// Ends everything that may still run.
    pub(crate) async fn stop(mut self) {
        self.cut().await;
        self.keeper_endpoint.close().await;
        self.node.stop().await.unwrap();
    }

    /// Ends the gateway: nobody reaches the ledger.
    pub(crate) async fn cut(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    /// Brings the gateway back where it was.
    pub(crate) async fn mend(&mut self) {
        self.server = Some(serve(&self.node, &self.keeper, self.address).await);
    }

    pub(crate) async fn set_up(&self, policy: &Policy) -> setup::Ready {
        self.set_up_with(policy, NO_GPUS).await
    }

    /// Sets up a machine with the GPUs that a probe told of.
    pub(crate) async fn set_up_with(&self, policy: &Policy, gpus: &str) -> setup::Ready {
        let mut journal = Journal::open(&self.folder.path().join("agent")).unwrap();
        let inventory = self.inventory(gpus);
        let plan = self.plan(policy);
        let runtime = self.fake.probe().await.unwrap();
        let provider = setup::Provider::of_key(self.client.clone(), owner()).await;
        provider
            .unwrap()
            .init(&mut journal, &inventory, &runtime, &plan)
            .await
            .unwrap()
    }

    /// Measures this computer, as if it had these GPUs.
    pub(crate) fn inventory(&self, gpus: &str) -> Inventory {
        let answer = gpus.to_owned();
        measure(self.folder.path(), &RecordedProbe { answer }).unwrap()
    }

    pub(crate) fn plan(&self, policy: &Policy) -> setup::Plan {
        setup::Plan {
            name: Name::parse("North").unwrap(),
            bond: Money::from_dollars(20),
            listing: Listing {
                dial: vec![Name::parse(&format!("127.0.0.1:{}", self.port)).unwrap()],
                ..Listing::default()
            },
            policy: policy.clone(),
        }
    }

    /// Starts the agent and waits until the market takes its machine.
    pub(crate) async fn agent(&self) -> Agent {
        let agent = self.spawn_agent();
        until("a beat", async || {
            self.client.machine(&self.machine).await.unwrap().last_beat
        })
        .await;
        agent
    }

    pub(crate) fn spawn_agent(&self) -> Agent {
        self.spawn_agent_with(None, None)
    }

    pub(crate) fn spawn_agent_with(
        &self,
        bidding: Option<agent::Bidding>,
        steward: Option<Stewarding>,
    ) -> Agent {
        let (stop, stopped) = oneshot::channel::<()>();
        let config = agent::Config {
            folder: self.folder.path().join("agent"),
            gateway: self.address.to_string(),
            runtime: Arc::new(self.fake.clone()),
            bind: BindOptions {
                port: self.port,
                ..BindOptions::loopback()
            },
            images: self.images.clone(),
            gpus: Arc::new(RecordedProbe {
                answer: self.gpus.clone(),
            }),
            bidding,
            steward,
            metrics: None,
        };
        let task = tokio::spawn(agent::run(config, async { drop(stopped.await) }));
        Agent { stop, task }
    }

    pub(crate) async fn send(&self, key: &SigningKey, call: Tx) {
        let nonce = self.client.next_nonce(&PublicKey::of(key)).await.unwrap();
        let body = TxBody {
            signer: PublicKey::of(key),
            nonce,
            expires_at: now().after(Millis::from_secs(60)),
            call,
        };
        let receipt = self
            .client
            .submit(&body.sign(&network(), key), Wait::Final)
            .await
            .unwrap();
        assert_eq!(receipt.status, TxStatus::Applied, "{:?}", receipt.problem);
    }

    async fn fund(&self, key: &SigningKey, dollars: u64) {
        let to = AccountId::of(PublicKey::of(key));
        let issue = Tx::Issue {
            to,
            amount: Money::from_dollars(dollars),
            reference: Digest::of(&[to.owner_key().as_bytes()]),
        };
        self.send(&treasurer(), issue).await;
    }

    /// Opens a job whose manifest the keeper holds; `change` makes it another than the usual ten minutes.
    pub(crate) async fn open_job(&self, change: impl FnOnce(&mut JobSpec)) -> JobId {
        self.open_job_of(IMAGE, change).await
    }

    /// As [`Self::open_job`], of another image.
    pub(crate) async fn open_job_of(
        &self,
        image: &str,
        change: impl FnOnce(&mut JobSpec),
    ) -> JobId {
        let image_digest = Digest(*runtime::Digest::of(image.as_bytes()).as_bytes());
        let mut manifest = Manifest::new(image, image_digest);
        manifest
            .secrets
            .insert("TOKEN".to_owned(), SecretText::new("hush-hush"));
        let mut rng = system_rng();
        let salted = SaltedManifest::new(&manifest, &mut rng).unwrap();
        let nonce = self
            .client
            .next_nonce(&PublicKey::of(&tenant()))
            .await
            .unwrap();
        let job = JobId::created_by(&PublicKey::of(&tenant()), nonce);
        let (job_key, name) = (JobKey::generate(&mut rng), network());
        let context = SealContext::keeper(&name, job);
        let to = self.keeper_seal.public();
        let sealed = SealedJob::seal(&mut rng, &job_key, &salted, &to, &context).unwrap();
        let claim = ManifestClaim::sign(&name, &tenant(), nonce, &sealed);
        let staged = self.client.stage_manifest(&job, &sealed, &claim);
        staged.await.unwrap();
        let mut spec = self.spec(salted.digest());
        change(&mut spec);
        self.send(&tenant(), Tx::OpenJob(spec)).await;
        job
    }

    fn spec(&self, manifest: Digest) -> JobSpec {
        JobSpec {
            name: None,
            kind: JobKind::Batch,
            needs: needs(),
            tier: Tier::OnDemand,
            budget: Money::from_dollars(1),
            price_cap: None,
            duration_max: Millis::from_secs(600),
            attempts_max: 1,
            window: Millis::ZERO,
            wait_max: Millis::from_secs(600),
            on_budget: OnBudget::End,
            on_partition: OnPartition::Keep,
            verification: Verification::None,
            storage_kept: ByteSize::ZERO,
            egress_max: ByteSize::ZERO,
            image_size: ByteSize::from_mib(1),
            manifest,
            keepers: vec![KeeperKeys {
                endpoint: self.keeper_endpoint.key(),
                seal: self.keeper_seal.public(),
            }],
        }
    }

    /// Waits until a lease of the job is as wanted.
    pub(crate) async fn lease(
        &self,
        job: JobId,
        what: &str,
        want: impl Fn(&LeaseStateView) -> bool,
    ) -> LeaseView {
        until(what, async || {
            let leases = self.client.job_leases(&job).await.unwrap().items;
            leases.into_iter().find(|lease| want(&lease.state))
        })
        .await
    }

    pub(crate) async fn running(&self, job: JobId) -> LeaseView {
        self.lease(job, "running", |s| {
            matches!(s, LeaseStateView::Running { .. })
        })
        .await
    }

    /// Waits for the end, and returns the reason's word and the lease.
    pub(crate) async fn ended(&self, job: JobId) -> (String, LeaseView) {
        let lease = self
            .lease(job, "ended", |s| matches!(s, LeaseStateView::Ended { .. }))
            .await;
        let LeaseStateView::Ended { reason, .. } = &lease.state else {
            unreachable!("that is what was waited for");
        };
        (reason.code.clone(), lease)
    }

    /// Waits until the runtime holds nothing.
    pub(crate) async fn cleared(&self) {
        until("nothing left", async || {
            self.fake.list().await.unwrap().is_empty().then_some(())
        })
        .await;
    }

    /// Returns every byte that the agent's folder holds.
    pub(crate) fn agent_bytes(&self) -> Vec<u8> {
        let (mut bytes, mut folders) = (Vec::new(), vec![self.folder.path().join("agent")]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    bytes.extend(std::fs::read(path).unwrap());
                }
            }
        }
        bytes
    }
}

fn free_port() -> u16 {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    socket.local_addr().unwrap().port()
}

fn needs() -> Requirement {
    Requirement {
        device: DeviceNeed::Cpu,
        count: 1,
        cpu: None,
        memory: None,
        disk: ByteSize::ZERO,
        isolation: Isolation::None,
        regions: vec![],
        certificates: vec![],
        reliability_min: None,
        sla: SlaClass::None,
        latency: None,
        providers: vec![],
        exclude_machines: vec![],
        exclude_domains: vec![],
        claims: Claims::Allowed,
    }
}

async fn serve(
    node: &node::Node,
    keeper: &Arc<gateway::Keeper>,
    listen: SocketAddr,
) -> gateway::Server {
    let config = gateway::Config {
        listen,
        handle: node.handle(),
        keeper: Some(Arc::clone(keeper)),
        hooks: None,
        limits: gateway::Limits::default(),
    };
    gateway::serve(config).await.unwrap()
}
