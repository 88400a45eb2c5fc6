//! What the tests share: a running network of one, people with keys, and a machine for rent.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::{
    Client, TxStatus, TxView, Wait,
    envelope::{SealSecret, system_rng},
};
use ed25519_dalek::SigningKey;
use gateway::{Config, Hooks, HooksConfig, Keeper, KeeperConfig, Limits, Reach, Server};
use market::{
    AccountId, Beat, BeatBatch, ByteSize, Claims, Device, DeviceClass, DeviceNeed, Digest, Genesis,
    Interface, Isolation, JobKind, JobSpec, Keeper as KeeperKeys, MachineId, MachineKeys,
    MachineSpec, MilliCpu, Millis, Money, Name, NetworkName, OfferTerms, OnBudget, OnPartition,
    Params, PricePerGib, Prices, PublicKey, Rate, Requirement, SignedTx, SlaClass, Tier, Timestamp,
    Tx, TxBody, Verification,
};
use node::Node;

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node with its gateway and keeper.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) server: Server,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) client: Client,
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let genesis = Genesis {
            network: network(),
            time: Timestamp::from_unix_millis(1_790_000_000_000),
            treasurers: vec![PublicKey::of(&treasurer())],
            params: Params::default(),
        };
        let config = node::Config {
            folder: folder.path().join("node"),
            genesis: Some(genesis),
            listen_peers: None,
        };
        let node = Node::start(config).await.unwrap();
        let keeper = open_keeper(&folder, &node);
        let server = serve(
            &folder,
            &node,
            &keeper,
            "127.0.0.1:0".parse().unwrap(),
            limits,
        )
        .await;
        let client = Client::new(&server.address().to_string()).unwrap();
        Self {
            node,
            server,
            keeper,
            client,
            folder,
        }
    }

    /// Stops the gateway and starts another at the same address, with a keeper that read its folder anew.
    pub(crate) async fn restart_gateway(self) -> Self {
        let Self {
            node,
            server,
            client,
            folder,
            keeper,
        } = self;
        let address = server.address();
        server.stop().await;
        drop(keeper);
        let keeper = open_keeper(&folder, &node);
        let server = serve(&folder, &node, &keeper, address, Limits::default()).await;
        Self {
            node,
            server,
            keeper,
            client,
            folder,
        }
    }

    pub(crate) async fn stop(self) {
        self.server.stop().await;
        self.node.stop().await.unwrap();
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Signs with the key's next nonce, submits, and waits until it is final.
    pub(crate) async fn send(&self, key: &SigningKey, call: Tx) -> TxView {
        let nonce = self.client.next_nonce(&PublicKey::of(key)).await.unwrap();
        self.client
            .submit(&sign(key, nonce, call), Wait::Final)
            .await
            .unwrap()
    }

    /// The same for what must have its effect.
    pub(crate) async fn apply(&self, key: &SigningKey, call: Tx) {
        let receipt = self.send(key, call).await;
        assert_eq!(receipt.status, TxStatus::Applied, "{:?}", receipt.problem);
    }

    /// Opens an account with so many dollars.
    pub(crate) async fn fund(&self, key: &SigningKey, dollars: u64) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let reference = Digest::of(&[&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes()]);
        let issue = Tx::Issue {
            to: account(key),
            amount: Money::from_dollars(dollars),
            reference,
        };
        self.apply(&treasurer(), issue).await;
    }

    /// Makes a provider with one beating machine of one CPU slot, offered at $1 an hour.
    pub(crate) async fn machine(
        &self,
        owner: &SigningKey,
        keys: MachineKeys,
        sign_key: &SigningKey,
    ) -> MachineId {
        self.fund(owner, 100).await;
        self.apply(
            owner,
            Tx::OpenProvider {
                name: name("North"),
            },
        )
        .await;
        self.apply(
            owner,
            Tx::PostBond {
                amount: Money::from_dollars(50),
            },
        )
        .await;
        let nonce = self.client.next_nonce(&PublicKey::of(owner)).await.unwrap();
        let machine = MachineId::created_by(&PublicKey::of(owner), nonce);
        self.apply(
            owner,
            Tx::AddMachine {
                keys,
                spec: cpu_machine(),
            },
        )
        .await;
        self.beat(machine, sign_key).await;
        self.apply(owner, Tx::PlaceOffer(offer(machine))).await;
        machine
    }

    /// Says that the machine lives.
    pub(crate) async fn beat(&self, machine: MachineId, sign_key: &SigningKey) {
        let view = self.client.machine(&machine).await.unwrap();
        let beats = vec![Beat {
            at: now(),
            leases: vec![],
        }];
        let batch = BeatBatch {
            machine,
            first_seq: view.next_beat,
            prev: view.beat_link,
            beats,
        };
        self.apply(sign_key, Tx::Beat(batch)).await;
    }
}

/// Returns a job for one CPU slot whose manifest this world's keeper holds.
pub(crate) fn job_spec(manifest: Digest) -> JobSpec {
    let keeper = keeper_keys();
    JobSpec {
        name: Some(name("a job")),
        kind: JobKind::Batch,
        needs: needs(),
        tier: Tier::OnDemand,
        budget: Money::from_dollars(2),
        price_cap: None,
        duration_max: Millis::from_secs(3_600),
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
        keepers: vec![keeper],
    }
}

/// Returns the world's keeper as jobs name it.
pub(crate) fn keeper_keys() -> KeeperKeys {
    KeeperKeys {
        endpoint: keeper_endpoint(),
        seal: keeper_seal().public(),
    }
}

fn keeper_endpoint() -> PublicKey {
    PublicKey::of(&SigningKey::from_bytes(&[90; 32]))
}

pub(crate) fn keeper_seal() -> SealSecret {
    SealSecret::from_bytes([91; 32])
}

fn open_keeper(folder: &tempfile::TempDir, node: &Node) -> Arc<Keeper> {
    let config = KeeperConfig {
        folder: folder.path().join("keeper"),
        seal: keeper_seal(),
        endpoint: keeper_endpoint(),
    };
    let keeper = Keeper::open(config, node.handle()).unwrap();
    keeper.set_dial(vec!["127.0.0.1:4000".to_owned()]);
    keeper
}

async fn serve(
    folder: &tempfile::TempDir,
    node: &Node,
    keeper: &Arc<Keeper>,
    listen: SocketAddr,
    limits: Limits,
) -> Server {
    let hooks = HooksConfig {
        pauses: [50, 100, 200].map(Duration::from_millis).into(),
        ..HooksConfig::new(folder.path().join("hooks"), Reach::Private)
    };
    let hooks = Hooks::open(hooks, node.handle()).unwrap();
    let config = Config {
        listen,
        handle: node.handle(),
        keeper: Some(Arc::clone(keeper)),
        hooks: Some(hooks),
        limits,
    };
    gateway::serve(config).await.unwrap()
}

pub(crate) fn network() -> NetworkName {
    NetworkName::parse("test").unwrap()
}

pub(crate) fn treasurer() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub(crate) fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub(crate) fn account(key: &SigningKey) -> AccountId {
    AccountId::of(PublicKey::of(key))
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp::from_unix_millis(since.as_millis().try_into().unwrap())
}

pub(crate) fn sign(key: &SigningKey, nonce: u64, call: Tx) -> SignedTx {
    let expires_at = now().after(Millis::from_secs(600));
    TxBody {
        signer: PublicKey::of(key),
        nonce,
        expires_at,
        call,
    }
    .sign(&network(), key)
}

pub(crate) fn transfer(from: &SigningKey, nonce: u64, to: AccountId, micros: u64) -> SignedTx {
    sign(
        from,
        nonce,
        Tx::Transfer {
            to,
            amount: Money::from_micros(micros),
            memo: None,
        },
    )
}

/// A machine's keys, and the secrets of those that the tests use.
pub(crate) fn machine_keys(
    sign_key: &SigningKey,
    endpoint: &SigningKey,
) -> (MachineKeys, SealSecret) {
    let seal = SealSecret::generate(&mut system_rng());
    let keys = MachineKeys {
        sign: PublicKey::of(sign_key),
        endpoint: PublicKey::of(endpoint),
        seal: seal.public(),
    };
    (keys, seal)
}

fn cpu_machine() -> MachineSpec {
    let device = Device {
        class: DeviceClass::Cpu,
        model: name("cpu"),
        vram: ByteSize::ZERO,
        interface: Interface::Host,
        fabric: 0,
        identity: Digest::default(),
    };
    MachineSpec {
        devices: vec![device],
        cpu: MilliCpu::from_milli(2_000),
        memory: ByteSize::from_gib(2),
        disk: ByteSize::from_gib(10),
        down_bytes_per_s: None,
        isolation: Isolation::Container,
        runtime: name("embedded"),
        region: Some(name("eu-west")),
        facility: None,
        failure_domain: name("rack-7"),
        dial: vec![name("127.0.0.1:4001")],
    }
}

fn offer(machine: MachineId) -> OfferTerms {
    OfferTerms {
        machine,
        devices: vec![0],
        tier: Tier::OnDemand,
        prices: Prices {
            per_device_hour: Rate::from_micros_per_hour(1_000_000),
            per_gib_hour: Rate::ZERO,
            per_gib_out: PricePerGib::ZERO,
        },
        term_min: Millis::ZERO,
        term_max: Millis::from_secs(86_400),
        preempt_notice: Millis::ZERO,
        sla: SlaClass::None,
        expires_at: now().after(Millis::from_secs(86_400)),
    }
}

fn needs() -> Requirement {
    Requirement {
        device: DeviceNeed::Cpu,
        count: 1,
        cpu: None,
        memory: None,
        disk: ByteSize::from_mib(100),
        isolation: Isolation::Container,
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
