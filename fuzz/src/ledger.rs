//! The exchange itself: any calls by anybody, at any time, in any order. Its invariants hold after every block.
//!
//! An input is a row of steps: who (one byte), how long after the block before (one byte), and a call in its canonical
//! encoding. A provider, a machine with an offer and a tenant are there before the first step.

use borsh::BorshDeserialize as _;
use market::{
    AccountId, Beat, BeatBatch, BlockCtx, Digest, Genesis, JobId, LeaseId, MachineId, MachineKeys,
    MachineSpec, Market, Millis, Money, Name, NetworkName, OfferTerms, Outcome, Params, Prices,
    PublicKey, Rate, Requirement, Signature, SignedTx, Timestamp, Tx, TxBody, invariants,
};

/// Block time of genesis.
const START_MS: u64 = 1_000_000_000_000;
/// Most steps of one input: a full check after each is slow.
const STEPS_MAX: usize = 24;
/// Who there is: treasurer, tenant, provider and its machine, another provider, a stranger.
const PEOPLE: [u8; 6] = [TREASURER, TENANT, PROVIDER, MACHINE, 5, 6];
const TREASURER: u8 = 1;
const TENANT: u8 = 2;
const PROVIDER: u8 = 3;
const MACHINE: u8 = 4;
/// Time between two blocks by a step's second byte: from the same instant to beyond every liveness deadline.
const PAUSES_MS: [u64; 8] = [0, 1, 999, 2_000, 9_000, 31_000, 61_000, 3_700_000];

pub(crate) fn run(bytes: &[u8]) {
    let mut world = World::new();
    let mut rest = bytes;
    for _ in 0..STEPS_MAX {
        let [who, pause, tail @ ..] = rest else { break };
        rest = tail;
        let Ok(call) = Tx::deserialize(&mut rest) else {
            break;
        };
        let who = PEOPLE[usize::from(*who) % PEOPLE.len()];
        let pause = PAUSES_MS[usize::from(*pause) % PAUSES_MS.len()];
        world.step(who, pause, call);
    }
    world.check_reload();
}

fn key(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

struct World {
    market: Market,
    /// The steps so far, as an input; empty while the stage is set.
    steps: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let genesis = Genesis {
            network: NetworkName::parse("fuzz").expect("a valid name"),
            time: Timestamp::from_unix_millis(START_MS),
            treasurers: vec![key(TREASURER)],
            params: Params::default(),
        };
        let mut world = Self {
            market: Market::genesis(&genesis).expect("a valid genesis"),
            steps: Vec::new(),
        };
        for n in PEOPLE {
            let (to, amount) = (AccountId::of(key(n)), Money::from_dollars(100));
            let reference = Digest::of(&[&[n]]);
            world.execute(
                TREASURER,
                0,
                Tx::Issue {
                    to,
                    amount,
                    reference,
                },
            );
        }
        let amount = Money::from_dollars(50);
        world.execute(
            PROVIDER,
            0,
            Tx::OpenProvider {
                name: name("north"),
            },
        );
        world.execute(PROVIDER, 0, Tx::PostBond { amount });
        let keys = MachineKeys {
            sign: key(MACHINE + 50),
            endpoint: key(MACHINE),
            seal: key(MACHINE),
        };
        let spec = golden_machine();
        world.execute(PROVIDER, 0, Tx::AddMachine { keys, spec });
        world.beat(&[]);
        world.execute(PROVIDER, 0, Tx::PlaceOffer(offer()));
        world.steps.clear();
        world
    }

    /// Takes one step, with the beat chain's links put right: no fuzzer finds a hash.
    fn step(&mut self, who: u8, pause_ms: u64, mut call: Tx) {
        if let Tx::Beat(batch) = &mut call
            && let Some(machine) = self.market.machine(batch.machine)
        {
            batch.first_seq = machine.next_beat;
            batch.prev = machine.beat_link;
        }
        self.execute(who, pause_ms, call);
    }

    fn execute(&mut self, who: u8, pause_ms: u64, call: Tx) {
        let signer = self.signer(who, &call);
        let nonce = self
            .market
            .signer(&signer)
            .map_or(0, |signer| signer.next_nonce);
        let tx = SignedTx {
            version: market::codec::TX_VERSION,
            body: TxBody {
                signer,
                nonce,
                expires_at: Timestamp::MAX,
                call,
            },
            signature: Signature([0; 64]),
        };
        let ctx = BlockCtx {
            height: self.market.height().next(),
            time: self.market.time().after(Millis::from_millis(pause_ms)),
            seed: None,
        };
        let before = self.market.clone();
        match self.market.execute(&ctx, std::slice::from_ref(&tx)) {
            Ok(_) => {
                self.note(who, pause_ms, &tx.body.call);
                invariants::check(&self.market).expect("every invariant holds");
                let mut undone = self.market.clone();
                assert!(undone.undo_block(), "the last block can be taken back");
                assert!(
                    undone.records().eq(before.records()),
                    "a block taken back leaves nothing"
                );
            }
            Err(_) => assert!(
                self.market.records().eq(before.records()),
                "what is no block changes nothing"
            ),
        }
    }

    /// What a machine says is signed by its own key.
    fn signer(&self, who: u8, call: &Tx) -> PublicKey {
        let by_machine = matches!(
            call,
            Tx::Beat(_) | Tx::LeaseReady { .. } | Tx::LeaseEnded { .. }
        );
        let machine = by_machine.then(|| self.market.machine(machine_id()));
        machine
            .flatten()
            .map_or(key(who), |machine| machine.keys.sign)
    }

    fn beat(&mut self, leases: &[LeaseId]) {
        let beat = Beat {
            at: self.market.time(),
            leases: leases.to_vec(),
        };
        let batch = BeatBatch {
            machine: machine_id(),
            first_seq: 0,
            prev: Digest::default(),
            beats: vec![beat],
        };
        self.step(MACHINE, 0, Tx::Beat(batch));
    }

    fn note(&mut self, who: u8, pause_ms: u64, call: &Tx) {
        let who = PEOPLE.iter().position(|n| *n == who).unwrap_or(0);
        let pause = PAUSES_MS.iter().position(|ms| *ms == pause_ms).unwrap_or(0);
        self.steps
            .extend([who, pause].map(|n| u8::try_from(n).unwrap_or(0)));
        self.steps.extend(market::codec::encode(call));
    }

    /// A market that is loaded from its records is the same market.
    fn check_reload(&self) {
        let again = Market::load(self.market.records()).expect("its own records load");
        invariants::check(&again).expect("every invariant holds after loading");
        assert!(
            again.records().eq(self.market.records()),
            "loading changes nothing"
        );
    }
}

fn machine_id() -> MachineId {
    // The provider's third call, after opening and bond.
    MachineId::created_by(&key(PROVIDER), 2)
}

/// The machine of the market's pinned encodings.
fn golden_machine() -> MachineSpec {
    match crate::bytes::golden_call("AddMachine") {
        Tx::AddMachine { spec, .. } => spec,
        other => panic!("not a machine: {other:?}"),
    }
}

fn offer() -> OfferTerms {
    match crate::bytes::golden_call("PlaceOffer") {
        Tx::PlaceOffer(terms) => OfferTerms {
            machine: machine_id(),
            devices: vec![0],
            prices: Prices {
                per_device_hour: Rate::from_micros_per_hour(1_000_000),
                ..terms.prices
            },
            term_min: Millis::ZERO,
            expires_at: Timestamp::from_unix_millis(START_MS + 30 * 86_400_000),
            ..terms
        },
        other => panic!("no offer: {other:?}"),
    }
}

/// A job from order to payment, one that is cancelled, and every pinned call in turn.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![whole_job(), cancelled_job()];
    for call in crate::bytes::calls() {
        let mut world = World::new();
        world.note(TENANT, 0, &call);
        seeds.push(world.steps);
    }
    seeds
}

fn opened(world: &mut World) -> JobId {
    let Tx::OpenJob(mut spec) = crate::bytes::golden_call("OpenJob") else {
        panic!("no job");
    };
    spec.budget = Money::from_dollars(5);
    spec.price_cap = None;
    spec.needs = plain();
    spec.tier = offer().tier;
    let nonce = world
        .market
        .signer(&key(TENANT))
        .map_or(0, |signer| signer.next_nonce);
    world.step(TENANT, 0, Tx::OpenJob(spec));
    JobId::created_by(&key(TENANT), nonce)
}

/// What the one machine meets.
fn plain() -> Requirement {
    Requirement {
        count: 1,
        device: market::DeviceNeed::Any,
        cpu: None,
        memory: None,
        disk: market::ByteSize::ZERO,
        isolation: market::Isolation::None,
        regions: Vec::new(),
        certificates: Vec::new(),
        reliability_min: None,
        latency: None,
        providers: Vec::new(),
        exclude_machines: Vec::new(),
        exclude_domains: Vec::new(),
        sla: market::SlaClass::None,
        claims: market::Claims::Allowed,
    }
}

fn whole_job() -> Vec<u8> {
    let mut world = World::new();
    let job = opened(&mut world);
    let leases: Vec<LeaseId> = world
        .market
        .leases_of_job(job)
        .map(|lease| lease.id)
        .collect();
    if let Some(lease) = leases.first().copied() {
        let at = world.market.time();
        world.step(MACHINE, 0, Tx::LeaseReady { lease, at });
        world.step(
            TENANT,
            9_000,
            Tx::TopUpJob {
                job,
                amount: Money::from_dollars(1),
            },
        );
        world.beat(&leases);
        let at = world.market.time();
        let outcome = Outcome::Exited {
            code: 0,
            out_of_memory: false,
        };
        world.step(MACHINE, 0, Tx::LeaseEnded { lease, at, outcome });
    }
    world.steps
}

fn cancelled_job() -> Vec<u8> {
    let mut world = World::new();
    let job = opened(&mut world);
    world.step(TENANT, 3_700_000, Tx::CancelJob { job });
    world.steps
}
