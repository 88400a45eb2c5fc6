//! Placements against a full book: an order is opened and gets its lease, and another lease is released.
//!
//! Offers differ in model, memory, interface, region, price and term, machines have one to eight devices; jobs ask for all
//! of these, with price caps, exclusions and a minimum reliability. One block is one placement, so that each has a time
//! of its own, and one block is one release: half by the tenant, half by the machine. Before and after every release the
//! book is between half and four fifths occupied.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use market::*;

use crate::{
    crowd::{Crowd, Dice, START_MS, account, name},
    figures::{Figures, Took, note, quantile_us, resident, time},
};

/// Machines of one provider.
const MACHINES_PER_PROVIDER: usize = 100;
/// Tenants.
const TENANTS: u64 = 1_000;
/// Number of the first tenant's key, provider's key and machine's key.
const FIRST: (u64, u64, u64) = (1, 1_000_000, 10_000_000);
/// Blocks of one millisecond of block time: machines need not beat within the run.
const BLOCKS_PER_MS: u64 = 40;
/// How long ended jobs and leases stay: about 100,000 placements of block time.
const RETENTION: Millis = Millis::from_secs(5);
/// Occupancy in percent that the run begins with, and at which a second lease is released or none.
const OCCUPIED: (u64, u64, u64) = (65, 78, 52);
/// How long each size of the growth measurement runs.
const GROWTH_SECONDS: u64 = 5;

/// Model, memory in GiB, interface, micro-dollars an hour.
const MODELS: [(&str, u64, Interface, u64); 16] = [
    ("h100", 80, Interface::Module, 2_500_000),
    ("h100-pcie", 80, Interface::Pcie, 2_100_000),
    ("h200", 141, Interface::Module, 3_300_000),
    ("b200", 180, Interface::Module, 5_200_000),
    ("a100-80", 80, Interface::Module, 1_400_000),
    ("a100-40", 40, Interface::Pcie, 1_000_000),
    ("l40s", 48, Interface::Pcie, 900_000),
    ("l4", 24, Interface::Pcie, 450_000),
    ("a10", 24, Interface::Pcie, 400_000),
    ("t4", 16, Interface::Pcie, 200_000),
    ("rtx3090", 24, Interface::Pcie, 220_000),
    ("rtx4090", 24, Interface::Pcie, 380_000),
    ("rtx5090", 32, Interface::Pcie, 600_000),
    ("rtx6000-ada", 48, Interface::Pcie, 800_000),
    ("v100", 32, Interface::Module, 300_000),
    ("a6000", 48, Interface::Pcie, 500_000),
];
const REGIONS: [&str; 12] = [
    "eu-west",
    "eu-north",
    "eu-south",
    "us-east",
    "us-west",
    "us-central",
    "ap-south",
    "ap-east",
    "sa-east",
    "ca-east",
    "me-west",
    "af-south",
];

/// What a machine says of a job that went well.
const DONE: Outcome = Outcome::Exited {
    code: 0,
    out_of_memory: false,
};

/// A book with leases in it.
struct Book {
    crowd: Crowd,
    dice: Dice,
    machines: Vec<MachineId>,
    /// Numbers of the machines' keys.
    signs: BTreeMap<MachineId, u64>,
    /// Whether providers have evidence, so that jobs may ask for it.
    picky: bool,
    devices: u64,
    used: u64,
    live: Vec<(LeaseId, JobId, u64, u8)>,
    blocks: u64,
    placed: usize,
    unplaced: usize,
}

/// Measures placements against a book of this size.
pub(crate) fn measure(figures: &mut Figures, offers: usize, seconds: u64) {
    let mut book = Book::new(offers);
    let before = resident();
    book.fill();
    let grown = resident().saturating_sub(before);
    figures.put("bytes_per_lease", grown as f64 / book.live.len() as f64);
    figures.put("record_bytes_per_lease", book.record_bytes());
    let mut run = book.run(Duration::from_secs(seconds));
    figures.put("offers", offers as f64);
    figures.put("leases_live", book.live.len() as f64);
    figures.put_rate("placements", run.count, run.took);
    figures.put("placement_p50_us", quantile_us(&mut run.times, 50));
    figures.put("placement_p99_us", quantile_us(&mut run.times, 99));
    figures.put("placement_max_us", quantile_us(&mut run.times, 100));
    figures.put("placement_seconds", run.took.wall.as_secs_f64());
    figures.put(
        "placed_percent",
        100.0 * book.placed as f64 / (book.placed + book.unplaced) as f64,
    );
    figures.put("occupied_percent_min", run.occupied.0);
    figures.put("occupied_percent_max", run.occupied.1);
}

/// Measures how placements slow down as the book grows.
pub(crate) fn measure_growth(figures: &mut Figures) {
    let mut means = Vec::new();
    for (offers, size) in [(10_000, "10k"), (1_000_000, "1m")] {
        let mut book = Book::new(offers);
        book.fill();
        let mut run = book.run(Duration::from_secs(GROWTH_SECONDS));
        figures.put(
            &format!("placement_p50_us_{size}"),
            quantile_us(&mut run.times, 50),
        );
        figures.put(
            &format!("placement_p99_us_{size}"),
            quantile_us(&mut run.times, 99),
        );
        means.push(run.took.cpu.as_secs_f64() / run.count as f64);
    }
    if let [small, large] = means[..] {
        figures.put("growth_10k_to_1m_ratio", large / small);
    }
}

/// What a run of placements took.
struct Run {
    count: usize,
    took: Took,
    times: Vec<Duration>,
    occupied: (f64, f64),
}

impl Book {
    fn new(offers: usize) -> Self {
        let mut book = Self {
            crowd: Crowd::new(RETENTION),
            dice: Dice(7),
            machines: Vec::with_capacity(offers),
            signs: BTreeMap::new(),
            picky: false,
            devices: 0,
            used: 0,
            live: Vec::new(),
            blocks: 0,
            placed: 0,
            unplaced: 0,
        };
        for n in 0..TENANTS {
            book.crowd.fund(FIRST.0 + n, 100_000_000);
        }
        for n in 0..offers {
            let provider = FIRST.1 + (n / MACHINES_PER_PROVIDER) as u64;
            if n % MACHINES_PER_PROVIDER == 0 {
                book.crowd.fund(provider, 1_000_000);
                book.crowd.flush();
                book.crowd.open_provider(provider, 900_000);
            }
            let sign = FIRST.2 + n as u64;
            book.add_offer(provider, sign);
        }
        book.crowd.flush();
        book
    }

    fn add_offer(&mut self, provider: u64, sign: u64) {
        let dice = &mut self.dice;
        let (model, vram, interface, base) = *dice.pick(&MODELS);
        let count = *dice.pick(&[1u8, 1, 1, 1, 1, 2, 2, 2, 4, 8]);
        let device = Device {
            class: DeviceClass::Nvidia,
            model: name(model),
            vram: ByteSize::from_gib(vram),
            interface,
            fabric: 0,
            identity: Digest::default(),
        };
        let each = u64::from(count);
        let spec = MachineSpec {
            devices: vec![device; usize::from(count)],
            cpu: MilliCpu::from_milli(u32::from(count) * 12_000),
            memory: ByteSize::from_gib(each * 96),
            disk: ByteSize::from_gib(each * 400),
            down_bytes_per_s: Some(125_000_000),
            isolation: *dice.pick(&[Isolation::Container, Isolation::Container, Isolation::Vm]),
            runtime: name("embedded"),
            region: Some(name(dice.pick::<&str>(&REGIONS))),
            facility: None,
            failure_domain: name(&format!("site-{}", provider % 400)),
            dial: vec![name("192.0.2.1:4000")],
        };
        // Whole tenths of a cent: some offers cost the same.
        let price = (base * (70 + dice.below(90)) / 100).next_multiple_of(1_000);
        let term_max = *dice.pick(&[7_200, 86_400, 30 * 86_400]);
        let tier = *dice.pick(&[Tier::OnDemand, Tier::OnDemand, Tier::Spot]);
        let machine = self.crowd.add_machine(provider, sign, spec);
        let terms = OfferTerms {
            machine,
            devices: (0..count).collect(),
            tier,
            prices: Prices {
                per_device_hour: Rate::from_micros_per_hour(price),
                per_gib_hour: Rate::from_micros_per_hour(100),
                per_gib_out: PricePerGib::ZERO,
            },
            term_min: Millis::ZERO,
            term_max: Millis::from_secs(term_max),
            preempt_notice: Millis::from_secs(30),
            sla: SlaClass::None,
            expires_at: Timestamp::from_unix_millis(START_MS + 30 * 86_400_000),
        };
        self.crowd.queue(provider, Tx::PlaceOffer(terms));
        self.machines.push(machine);
        self.signs.insert(machine, sign);
        self.devices += each;
    }

    /// Makes leases until enough of the book is occupied.
    fn fill(&mut self) {
        while self.occupied() < OCCUPIED.0 {
            self.place();
        }
        self.picky = true;
        note(&format!(
            "{} leases on {} of {} devices",
            self.live.len(),
            self.used,
            self.devices
        ));
    }

    fn occupied(&self) -> u64 {
        self.used * 100 / self.devices
    }

    fn run(&mut self, length: Duration) -> Run {
        let mut run = Run {
            count: 0,
            took: Took::default(),
            times: Vec::new(),
            occupied: (100.0, 0.0),
        };
        let ((), took) = time(|| {
            let start = Instant::now();
            while start.elapsed() < length {
                let (spec, tenant) = self.job();
                let begin = Instant::now();
                let placed = self.open(spec, tenant);
                run.times.push(begin.elapsed());
                run.count += usize::from(placed);
                if self.occupied() > OCCUPIED.2 {
                    self.release();
                }
                if self.occupied() > OCCUPIED.1 {
                    self.release();
                }
                let share = 100.0 * self.used as f64 / self.devices as f64;
                run.occupied = (run.occupied.0.min(share), run.occupied.1.max(share));
            }
        });
        run.took = took;
        run
    }

    fn place(&mut self) {
        let (spec, tenant) = self.job();
        self.open(spec, tenant);
    }

    /// Opens a job; whether it got a lease. One that got none is cancelled, so that the next is compared with the book alone.
    fn open(&mut self, spec: JobSpec, tenant: u64) -> bool {
        let job = JobId::created_by(&crate::crowd::key(tenant), self.crowd.nonce(tenant));
        let count = spec.needs.count;
        let tx = self.crowd.tx(tenant, Tx::OpenJob(spec));
        let outcome = self.block(&[tx]);
        let lease = outcome.events.iter().find_map(|event| match event.kind {
            EventKind::LeaseAwarded { lease, .. } => Some(lease),
            _ => None,
        });
        let Some(lease) = lease else {
            self.unplaced += 1;
            let cancel = self.crowd.tx(tenant, Tx::CancelJob { job });
            assert_eq!(self.block(&[cancel]).receipts[0].result, Ok(()));
            return false;
        };
        self.placed += 1;
        self.used += u64::from(count);
        self.live.push((lease, job, tenant, count));
        true
    }

    /// Ends some lease: its tenant does, or its machine says that it is done.
    fn release(&mut self) {
        let at = self.dice.below(self.live.len() as u64) as usize;
        let (lease, job, tenant, count) = self.live.swap_remove(at);
        self.used -= u64::from(count);
        let txs = if self.dice.chance(50) {
            vec![self.crowd.tx(tenant, Tx::CancelJob { job })]
        } else {
            let machine = self
                .crowd
                .market
                .lease(lease)
                .expect("the lease is live")
                .machine;
            let sign = self.signs[&machine];
            let at = self.crowd.market.time();
            let ready = self.crowd.tx(sign, Tx::LeaseReady { lease, at });
            let ended = self.crowd.tx(
                sign,
                Tx::LeaseEnded {
                    lease,
                    at,
                    outcome: DONE,
                },
            );
            vec![ready, ended]
        };
        for receipt in self.block(&txs).receipts {
            assert_eq!(receipt.result, Ok(()));
        }
    }

    fn block(&mut self, txs: &[SignedTx]) -> BlockOutcome {
        self.blocks += 1;
        let step = u64::from(self.blocks.is_multiple_of(BLOCKS_PER_MS));
        self.crowd.block(Millis::from_millis(step), txs)
    }

    /// Returns how many bytes the records of one lease take, with its job and escrow.
    fn record_bytes(&self) -> f64 {
        let sample = self.live.iter().take(1_000);
        let sizes = sample.clone().map(|(lease, job, ..)| {
            let ids = [
                RecordId::Lease(*lease),
                RecordId::Job(*job),
                RecordId::Hold(*job),
            ];
            ids.iter()
                .filter_map(|id| self.crowd.market.record(id))
                .map(|r| codec::encode(&r).len())
                .sum::<usize>()
        });
        sizes.sum::<usize>() as f64 / sample.count() as f64
    }

    /// Returns a job and its tenant.
    fn job(&mut self) -> (JobSpec, u64) {
        let needs = self.needs();
        let dice = &mut self.dice;
        let count = u64::from(needs.count);
        let spec = JobSpec {
            name: None,
            kind: JobKind::Batch,
            needs,
            tier: *dice.pick(&[Tier::OnDemand, Tier::OnDemand, Tier::Spot]),
            budget: Money::from_dollars(20 * count),
            price_cap: dice
                .chance(70)
                .then_some(Rate::from_micros_per_hour(6_000_000)),
            duration_max: Millis::from_secs(600 + dice.below(6_000)),
            attempts_max: 3,
            window: Millis::ZERO,
            wait_max: Millis::from_secs(600),
            on_budget: OnBudget::End,
            on_partition: OnPartition::Keep,
            verification: Verification::None,
            storage_kept: ByteSize::ZERO,
            egress_max: ByteSize::ZERO,
            image_size: ByteSize::from_mib(800),
            manifest: Digest::default(),
            keepers: vec![Keeper {
                endpoint: PublicKey::default(),
                seal: PublicKey::default(),
            }],
        };
        (spec, FIRST.0 + dice.below(TENANTS))
    }

    fn needs(&mut self) -> Requirement {
        let dice = &mut self.dice;
        let models = match dice.below(20) {
            0..12 => 1,
            12..17 => 3,
            _ => 0,
        };
        let first = dice.below(16) as usize;
        let models = MODELS.iter().cycle().skip(first).take(models);
        let smallest = models.clone().map(|m| m.1).min().unwrap_or(16);
        let interface = models
            .clone()
            .next()
            .map(|m| m.2)
            .filter(|_| models.clone().count() == 1);
        let count = *dice.pick(&[1u8, 1, 1, 1, 1, 1, 1, 2, 2, 4]);
        let regions = *dice.pick(&[0usize, 0, 3, 3, 1]);
        let skip = dice.below(12) as usize;
        let regions = REGIONS.iter().cycle().skip(skip).take(regions);
        Requirement {
            device: DeviceNeed::Gpu {
                models: models.map(|m| name(m.0)).collect(),
                vram_min: ByteSize::from_gib(smallest),
                interface,
                one_fabric: count > 1,
            },
            count,
            cpu: Some(MilliCpu::from_milli(u32::from(count) * 8_000)),
            memory: Some(ByteSize::from_gib(u64::from(count) * 64)),
            disk: ByteSize::from_gib(u64::from(count) * 100),
            isolation: Isolation::Container,
            regions: regions.map(|r| name(r)).collect(),
            certificates: vec![],
            reliability_min: (self.picky && dice.chance(20))
                .then_some(BasisPoints::from_bps(4_000)),
            sla: SlaClass::None,
            latency: None,
            providers: if dice.chance(3) {
                (0..8)
                    .map(|_| {
                        account(
                            FIRST.1
                                + dice.below((self.machines.len() / MACHINES_PER_PROVIDER) as u64),
                        )
                    })
                    .collect()
            } else {
                vec![]
            },
            exclude_machines: vec![*dice.pick(&self.machines)],
            exclude_domains: vec![name(&format!("site-{}", dice.below(400)))],
            claims: Claims::Allowed,
        }
    }
}
