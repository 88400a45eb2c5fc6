//! A market with a few people in it, and short words to move it.

use std::collections::BTreeMap;

use market::*;

/// Block time of genesis in every test.
pub(crate) const START: u64 = 1_000_000_000_000;

/// A market whose keys need no signatures: the market leaves those to its caller.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) m: Market,
    nonces: BTreeMap<PublicKey, u64>,
    references: u64,
}

/// A key that only this number has.
pub(crate) fn key(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

/// The account of a key.
pub(crate) fn account(n: u8) -> AccountId {
    AccountId::of(key(n))
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a valid name")
}

pub(crate) fn usd(dollars: u64) -> Money {
    Money::from_dollars(dollars)
}

pub(crate) fn secs(secs: u64) -> Millis {
    Millis::from_secs(secs)
}

/// The treasurer.
pub(crate) const TREASURER: u8 = 1;

pub(crate) fn genesis(params: Params) -> Genesis {
    Genesis {
        network: NetworkName::parse("test").expect("a valid name"),
        time: Timestamp::from_unix_millis(START),
        treasurers: vec![key(TREASURER)],
        params,
    }
}

/// A machine with `gpus` GPUs of 80 GiB.
pub(crate) fn gpu_machine(gpus: u8, domain: &str) -> MachineSpec {
    let device = Device {
        class: DeviceClass::Nvidia,
        model: name("h100"),
        vram: ByteSize::from_gib(80),
        interface: Interface::Module,
        fabric: 0,
        identity: Digest::default(),
    };
    MachineSpec {
        devices: vec![device; usize::from(gpus)],
        cpu: MilliCpu::from_milli(16_000),
        memory: ByteSize::from_gib(64),
        disk: ByteSize::from_gib(500),
        down_bytes_per_s: Some(100_000_000),
        isolation: Isolation::Container,
        runtime: name("embedded"),
        region: Some(name("eu-west")),
        facility: None,
        failure_domain: name(domain),
        dial: vec![name("127.0.0.1:4000")],
    }
}

/// The three keys of machine number `n`.
pub(crate) fn machine_keys(n: u8) -> MachineKeys {
    MachineKeys {
        sign: key(n),
        endpoint: key(n),
        seal: key(n),
    }
}

/// Offer of the first `devices` devices at `dollars` per device-hour.
pub(crate) fn offer(machine: MachineId, devices: u8, tier: Tier, dollars: u64) -> OfferTerms {
    OfferTerms {
        machine,
        devices: (0..devices).collect(),
        tier,
        prices: prices(dollars),
        term_min: Millis::ZERO,
        term_max: secs(86_400),
        preempt_notice: secs(30),
        sla: SlaClass::None,
        expires_at: Timestamp::from_unix_millis(START + 30 * 86_400_000),
    }
}

pub(crate) fn prices(dollars: u64) -> Prices {
    Prices {
        per_device_hour: Rate::from_micros_per_hour(dollars * 1_000_000),
        per_gib_hour: Rate::from_micros_per_hour(1_000),
        per_gib_out: PricePerGib::ZERO,
    }
}

/// A plain job for one GPU.
pub(crate) fn job(dollars: u64) -> JobSpec {
    JobSpec {
        name: None,
        kind: JobKind::Batch,
        needs: Requirement {
            device: DeviceNeed::Gpu {
                models: vec![],
                vram_min: ByteSize::ZERO,
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
            providers: vec![],
            exclude_machines: vec![],
            exclude_domains: vec![],
            claims: Claims::Allowed,
        },
        tier: Tier::OnDemand,
        budget: usd(dollars),
        price_cap: None,
        duration_max: secs(3_600),
        attempts_max: 3,
        window: Millis::ZERO,
        wait_max: secs(600),
        on_budget: OnBudget::End,
        on_partition: OnPartition::Keep,
        verification: Verification::None,
        storage_kept: ByteSize::ZERO,
        egress_max: ByteSize::ZERO,
        image_size: ByteSize::from_mib(100),
        manifest: Digest::default(),
        keepers: vec![Keeper {
            endpoint: key(200),
            seal: key(200),
        }],
    }
}

impl World {
    pub(crate) fn new(params: Params) -> Self {
        Self {
            m: Market::genesis(&genesis(params)).expect("a valid genesis"),
            nonces: BTreeMap::new(),
            references: 0,
        }
    }

    /// Makes a transaction with the key's next nonce.
    pub(crate) fn tx(&mut self, signer: PublicKey, call: Tx) -> SignedTx {
        let nonce = self.nonces.entry(signer).or_default();
        let body = TxBody {
            signer,
            nonce: *nonce,
            expires_at: Timestamp::MAX,
            call,
        };
        *nonce += 1;
        unsigned(body)
    }

    /// Returns the nonce of the key's next transaction.
    pub(crate) fn nonce(&self, signer: PublicKey) -> u64 {
        self.nonces.get(&signer).copied().unwrap_or(0)
    }

    pub(crate) fn ctx(&self, after: Millis) -> BlockCtx {
        BlockCtx {
            height: self.m.height().next(),
            time: self.m.time().after(after),
            seed: None,
        }
    }

    /// Runs one block, `after` its parent; checks every invariant.
    pub(crate) fn block(&mut self, after: Millis, calls: Vec<(PublicKey, Tx)>) -> BlockOutcome {
        let txs: Vec<SignedTx> = calls.into_iter().map(|(k, c)| self.tx(k, c)).collect();
        let ctx = self.ctx(after);
        let outcome = self.m.execute(&ctx, &txs).expect("an admissible block");
        invariants::check(&self.m).expect("every invariant holds");
        outcome
    }

    /// Lets time pass, with a block whenever one is due and at least every heartbeat.
    pub(crate) fn wait(&mut self, time: Millis) -> Vec<EventKind> {
        let end = self.m.time().after(time);
        let mut events = Vec::new();
        while self.m.time() < end {
            let next = self.m.time().after(self.m.params().heartbeat).min(end);
            let next = self.m.next_due().map_or(next, |due| due.min(next));
            let outcome = self.block(next.since(self.m.time()), vec![]);
            events.extend(outcome.events.into_iter().map(|e| e.kind));
        }
        events
    }

    /// Runs one call in a block of its own, right now; it must take effect.
    pub(crate) fn ok(&mut self, signer: PublicKey, call: Tx) -> Vec<EventKind> {
        let outcome = self.block(Millis::ZERO, vec![(signer, call)]);
        assert_eq!(outcome.receipts[0].result, Ok(()));
        outcome.events.into_iter().map(|e| e.kind).collect()
    }

    /// Runs one call that must be rejected, and returns why. Nothing but the nonce may change.
    pub(crate) fn reject(&mut self, signer: PublicKey, call: Tx) -> Reject {
        let mut untouched = self.clone();
        untouched.block(Millis::ZERO, vec![]);
        let outcome = self.block(Millis::ZERO, vec![(signer, call)]);
        let result = outcome.receipts[0].result.clone();
        let why = result.expect_err("the call is rejected");
        let same = others(&self.m, signer) == others(&untouched.m, signer);
        assert!(same, "a call rejected with {why:?} changed something");
        why
    }

    /// Issues dollars to an account.
    pub(crate) fn fund(&mut self, n: u8, dollars: u64) {
        self.references += 1;
        let reference = Digest::of(&[&self.references.to_le_bytes()]);
        let (to, amount) = (account(n), usd(dollars));
        self.ok(
            key(TREASURER),
            Tx::Issue {
                to,
                amount,
                reference,
            },
        );
    }

    /// Makes a provider with a bond.
    pub(crate) fn provider(&mut self, n: u8, bond: u64) {
        self.fund(n, bond + 1);
        self.ok(
            key(n),
            Tx::OpenProvider {
                name: name("provider"),
            },
        );
        self.ok(key(n), Tx::PostBond { amount: usd(bond) });
    }

    /// Adds a machine with its key and has it beat once.
    pub(crate) fn machine(&mut self, owner: u8, n: u8, spec: MachineSpec) -> MachineId {
        let id = MachineId::created_by(&key(owner), self.nonce(key(owner)));
        let keys = machine_keys(n);
        self.ok(key(owner), Tx::AddMachine { keys, spec });
        self.beat(id, &[]);
        id
    }

    /// Places an offer.
    pub(crate) fn offer(&mut self, owner: u8, terms: OfferTerms) -> OfferId {
        let id = OfferId::created_by(&key(owner), self.nonce(key(owner)));
        self.ok(key(owner), Tx::PlaceOffer(terms));
        id
    }

    /// Opens a job.
    pub(crate) fn job(&mut self, tenant: u8, spec: JobSpec) -> JobId {
        let id = JobId::created_by(&key(tenant), self.nonce(key(tenant)));
        self.ok(key(tenant), Tx::OpenJob(spec));
        id
    }

    /// Makes the next beat of a machine at block time, unless there was one at that instant.
    pub(crate) fn beat_call(
        &self,
        machine: MachineId,
        at: Timestamp,
        leases: &[LeaseId],
    ) -> (PublicKey, Tx) {
        let record = self.m.machine(machine).expect("the machine exists");
        let mut leases = leases.to_vec();
        leases.sort();
        let batch = BeatBatch {
            machine,
            first_seq: record.next_beat,
            prev: record.beat_link,
            beats: vec![Beat { at, leases }],
        };
        (record.keys.sign, Tx::Beat(batch))
    }

    /// Has a machine beat now.
    pub(crate) fn beat(&mut self, machine: MachineId, leases: &[LeaseId]) {
        let last = self.m.machine(machine).and_then(|record| record.last_beat);
        if last.is_none_or(|last| last < self.m.time()) {
            let (key, call) = self.beat_call(machine, self.m.time(), leases);
            self.ok(key, call);
        }
    }

    /// Lets time pass while a machine beats for its leases every 10 s.
    pub(crate) fn run(&mut self, machine: MachineId, leases: &[LeaseId], time: Millis) {
        let end = self.m.time().after(time);
        while self.m.time() < end {
            let step = end.since(self.m.time()).min(secs(10));
            self.wait(step);
            self.beat(machine, leases);
        }
    }

    /// Returns the live lease of a job.
    pub(crate) fn lease_of(&self, job: JobId) -> LeaseId {
        match self.m.job(job).map(|j| j.state) {
            Some(JobState::Running { lease }) => lease,
            other => panic!("job has no live lease: {other:?}"),
        }
    }

    /// Returns a lease.
    pub(crate) fn lease(&self, id: LeaseId) -> &Lease {
        self.m.lease(id).expect("the lease is in the live state")
    }

    /// Returns why a lease ended, and its bill.
    pub(crate) fn end_of(&self, id: LeaseId) -> (EndReason, Bill) {
        match self.lease(id).state {
            LeaseState::Ended { reason, bill, .. } => (reason, bill),
            other => panic!("lease has not ended: {other:?}"),
        }
    }

    /// Returns why a job ended.
    pub(crate) fn job_end(&self, id: JobId) -> JobEnd {
        match self.m.job(id).map(|j| j.state) {
            Some(JobState::Ended { reason, .. }) => reason,
            other => panic!("job has not ended: {other:?}"),
        }
    }

    /// Has a machine report a workload ready.
    pub(crate) fn ready(&mut self, lease: LeaseId) {
        let at = self.m.time();
        let signer = self.machine_key(lease);
        self.ok(signer, Tx::LeaseReady { lease, at });
    }

    /// Has a machine report a workload's end.
    pub(crate) fn ended(&mut self, lease: LeaseId, outcome: Outcome) -> Vec<EventKind> {
        let at = self.m.time();
        let signer = self.machine_key(lease);
        self.ok(signer, Tx::LeaseEnded { lease, at, outcome })
    }

    /// Returns the signing key of the machine that has a lease.
    pub(crate) fn machine_key(&self, lease: LeaseId) -> PublicKey {
        let machine = self.m.machine(self.lease(lease).machine);
        machine.expect("the machine of a lease exists").keys.sign
    }

    pub(crate) fn available(&self, n: u8) -> Money {
        self.m
            .account(account(n))
            .map_or(Money::ZERO, |a| a.available)
    }
}

/// A transaction without a signature: the market does not look at it.
pub(crate) fn unsigned(body: TxBody) -> SignedTx {
    SignedTx {
        version: market::codec::TX_VERSION,
        body,
        signature: Signature([0; 64]),
    }
}

/// Every record but the signer's and the block's own numbers.
pub(crate) fn others(m: &Market, signer: PublicKey) -> BTreeMap<RecordKey, Vec<u8>> {
    let mut records: BTreeMap<RecordKey, Vec<u8>> = m.records().collect();
    records.remove(&RecordId::Signer(signer).key());
    records
}
