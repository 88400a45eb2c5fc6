//! An endless, reproducible stream of what people do on the ledger: half beats, a fifth transfers, the rest orders, bids,
//! reports of ready and of the end.
//!
//! Each person is a tenant, a provider and a machine with one device; its jobs go to its own machine, so that every id is
//! known in advance and the stream can be signed before it is sent.

use market::*;

/// What a person does in turn: `o`rder and `b`id on it, `h`eartbeat, `r`eady, `t`ransfer, `e`nd.
const LIFE: &[u8; 37] = b"ohhrhhhhhttteohhrhhhhhttteohhrhhhhtte";
/// Number of the treasurer's key.
const TREASURER: u64 = 0;
/// Prices of the standing offer and of the bid, in micro-dollars an hour.
const PRICES: (u64, u64) = (1_000_000, 900_000);

/// One transaction to be: the number of its key, its nonce, and what it says.
pub(crate) type Act = (u64, u64, Tx);

#[derive(Clone, Debug)]
struct Person {
    /// Numbers of the tenant's, the provider's and the machine's key.
    numbers: [u64; 3],
    keys: [PublicKey; 3],
    born: Timestamp,
    machine: MachineId,
    nonces: [u64; 3],
    step: usize,
    beats: u64,
    link: Digest,
    lease: Option<LeaseId>,
    running: bool,
}

/// The stream.
pub(crate) struct Life {
    people: Vec<Person>,
    turn: usize,
    bid: Option<Act>,
}

impl Life {
    /// Makes the people, whose keys `key` names, and what must be sent first, in this order.
    pub(crate) fn new(
        people: usize,
        born: Timestamp,
        key: impl Fn(u64) -> PublicKey,
    ) -> (Self, Vec<Act>) {
        let mut acts = Vec::new();
        let mut life = Self {
            people: Vec::new(),
            turn: 0,
            bid: None,
        };
        for n in 0..people as u64 {
            let numbers = [3 * n + 1, 3 * n + 2, 3 * n + 3];
            let keys = numbers.map(&key);
            for (at, to) in [(0, keys[0]), (1, keys[1])] {
                let nonce = 2 * n + at;
                let call = Tx::Issue {
                    to: AccountId::of(to),
                    amount: Money::from_dollars(100_000),
                    reference: Digest::of(&[&nonce.to_le_bytes()]),
                };
                acts.push((TREASURER, nonce, call));
            }
            life.people.push(Person {
                numbers,
                keys,
                born,
                machine: MachineId::created_by(&keys[1], 2),
                nonces: [0; 3],
                // So that not all do the same at the same time.
                step: n as usize % LIFE.len(),
                beats: 0,
                link: Digest::default(),
                lease: None,
                running: false,
            });
        }
        for person in &mut life.people {
            acts.extend(person.set_up());
        }
        (life, acts)
    }

    /// Returns the next transaction.
    pub(crate) fn next(&mut self) -> Act {
        if let Some(bid) = self.bid.take() {
            return bid;
        }
        self.turn = (self.turn + 1) % self.people.len();
        let next = (self.turn + 1) % self.people.len();
        let to = AccountId::of(self.people[next].keys[0]);
        let person = &mut self.people[self.turn];
        let deed = LIFE[person.step];
        person.step = (person.step + 1) % LIFE.len();
        match deed {
            b'o' => {
                let (order, bid) = person.order();
                self.bid = Some(bid);
                order
            }
            b't' => person.act(
                0,
                Tx::Transfer {
                    to,
                    amount: Money::from_micros(1_000),
                    memo: None,
                },
            ),
            // Someone who began in the middle of a life has no lease yet.
            b'r' | b'e' if person.lease.is_none() => person.beat(),
            b'r' => person.ready(),
            b'e' => person.end(),
            _ => person.beat(),
        }
    }
}

impl Person {
    /// Signs with the tenant's (0), the provider's (1) or the machine's key (2).
    fn act(&mut self, role: usize, call: Tx) -> Act {
        let number = self.numbers[role];
        let nonce = self.nonces[role];
        self.nonces[role] += 1;
        (number, nonce, call)
    }

    fn set_up(&mut self) -> Vec<Act> {
        let sign = self.keys[2];
        let keys = MachineKeys {
            sign,
            endpoint: sign,
            seal: sign,
        };
        let terms = OfferTerms {
            machine: self.machine,
            devices: vec![0],
            tier: Tier::OnDemand,
            prices: prices(PRICES.0),
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(86_400),
            preempt_notice: Millis::from_secs(30),
            sla: SlaClass::None,
            expires_at: self.born.after(Millis::from_secs(300 * 86_400)),
        };
        vec![
            self.act(
                1,
                Tx::OpenProvider {
                    name: name("provider"),
                },
            ),
            self.act(
                1,
                Tx::PostBond {
                    amount: Money::from_dollars(1_000),
                },
            ),
            self.act(
                1,
                Tx::AddMachine {
                    keys,
                    spec: machine(),
                },
            ),
            self.beat(),
            self.act(1, Tx::PlaceOffer(terms)),
        ]
    }

    fn order(&mut self) -> (Act, Act) {
        let job = JobId::created_by(&self.keys[0], self.nonces[0]);
        let order = OrderId::child_of(job.to_bytes(), 0);
        self.lease = Some(LeaseId::child_of(order.to_bytes(), 0));
        let spec = job_for(AccountId::of(self.keys[1]));
        let bid = BidTerms {
            order,
            machine: self.machine,
            devices: vec![0],
            prices: prices(PRICES.1),
            preempt_notice: Millis::from_secs(30),
        };
        (
            self.act(0, Tx::OpenJob(spec)),
            self.act(1, Tx::PlaceBid(bid)),
        )
    }

    fn ready(&mut self) -> Act {
        self.running = true;
        let lease = self.lease.expect("ready follows an order");
        self.act(
            2,
            Tx::LeaseReady {
                lease,
                at: self.clock(),
            },
        )
    }

    fn end(&mut self) -> Act {
        self.running = false;
        let lease = self.lease.take().expect("an end follows an order");
        let outcome = Outcome::Exited {
            code: 0,
            out_of_memory: false,
        };
        self.act(
            2,
            Tx::LeaseEnded {
                lease,
                at: self.clock(),
                outcome,
            },
        )
    }

    fn beat(&mut self) -> Act {
        let leases = self.lease.filter(|_| self.running).into_iter().collect();
        let beat = Beat {
            at: self.clock(),
            leases,
        };
        let batch = BeatBatch {
            machine: self.machine,
            first_seq: self.beats,
            prev: self.link,
            beats: vec![beat],
        };
        self.link = batch.last_link();
        self.beats += 1;
        self.act(2, Tx::Beat(batch))
    }

    /// Returns an instant that the ledger cuts to block time, because the stream does not know when it is sent.
    fn clock(&self) -> Timestamp {
        self.born
            .after(Millis::from_millis(365 * 86_400_000 + self.beats))
    }
}

fn prices(micros: u64) -> Prices {
    Prices {
        per_device_hour: Rate::from_micros_per_hour(micros),
        per_gib_hour: Rate::from_micros_per_hour(100),
        per_gib_out: PricePerGib::ZERO,
    }
}

fn machine() -> MachineSpec {
    let device = Device {
        class: DeviceClass::Nvidia,
        model: name("rtx4090"),
        vram: ByteSize::from_gib(24),
        interface: Interface::Pcie,
        fabric: 0,
        identity: Digest::default(),
    };
    MachineSpec {
        devices: vec![device],
        cpu: MilliCpu::from_milli(16_000),
        memory: ByteSize::from_gib(64),
        disk: ByteSize::from_gib(500),
        down_bytes_per_s: Some(100_000_000),
        isolation: Isolation::Container,
        runtime: name("embedded"),
        region: Some(name("eu-west")),
        facility: None,
        failure_domain: name("site"),
        dial: vec![name("192.0.2.1:4000")],
    }
}

/// A job that one provider can take.
fn job_for(provider: AccountId) -> JobSpec {
    JobSpec {
        name: None,
        kind: JobKind::Batch,
        needs: Requirement {
            device: DeviceNeed::Gpu {
                models: vec![name("rtx4090")],
                vram_min: ByteSize::from_gib(16),
                interface: None,
                one_fabric: false,
            },
            count: 1,
            cpu: None,
            memory: None,
            disk: ByteSize::from_gib(10),
            isolation: Isolation::Container,
            regions: vec![],
            certificates: vec![],
            reliability_min: None,
            sla: SlaClass::None,
            latency: None,
            providers: vec![provider],
            exclude_machines: vec![],
            exclude_domains: vec![],
            claims: Claims::Allowed,
        },
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
        image_size: ByteSize::from_mib(100),
        manifest: Digest::default(),
        keepers: vec![Keeper {
            endpoint: PublicKey::default(),
            seal: PublicKey::default(),
        }],
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}
