//! Random histories of valid and invalid transactions: whatever happens, the invariants hold.
//!
//! A seed makes a history. A failure names the seed and the block; `HISTORY_SEED=n` replays one.

use std::collections::BTreeMap;

use market::*;

use crate::{auditor::Auditor, world::*};

/// Transactions of the ordinary run, over all its seeds.
const TRANSACTIONS: usize = 100_000;
/// Seeds that share them.
const SEEDS: u64 = 10;
/// Blocks between two full checks.
const CHECK_EVERY: u64 = 100;
/// Tenants and providers: their numbers double as keys.
const TENANTS: [u8; 5] = [10, 11, 12, 13, 14];
const PROVIDERS: [u8; 4] = [20, 21, 22, 23];
/// Machines that there are at most; retired ones make room.
const MACHINES: usize = 10;
/// A tenant's extra key.
const DELEGATES: [u8; 3] = [40, 41, 42];

/// A small generator of numbers (splitmix64): the same everywhere, and no dependency.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let len = u64::try_from(from.len()).expect("short lists");
        let at = usize::try_from(self.below(len.max(1))).expect("short lists");
        from.get(at).copied()
    }

    fn one<T: Copy>(&mut self, from: &[T]) -> T {
        self.pick(from).expect("the list is not empty")
    }
}

/// Parameters under which much happens in little time.
fn params() -> Params {
    Params {
        audit_lag_none: secs(30),
        retention: secs(600),
        live_per_account: 40,
        timers_per_block: 50,
        ..Params::default()
    }
}

/// A history under way.
struct History {
    w: World,
    dice: Dice,
    /// Transactions of the block being made.
    block: Vec<SignedTx>,
    /// Beats sent in this block, which the state does not show yet: one per machine.
    beaten: Vec<MachineId>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut w = World::new(params());
        for n in TENANTS {
            w.fund(n, 50);
        }
        for n in PROVIDERS {
            w.provider(n, 30);
        }
        Self {
            w,
            dice: Dice::new(seed),
            block: Vec::new(),
            beaten: Vec::new(),
        }
    }

    fn m(&self) -> &Market {
        &self.w.m
    }

    /// Whether a machine is out: each is for a while, now and then, and then says nothing.
    fn is_out(&self, machine: MachineId) -> bool {
        let spell = self.m().time().unix_millis() / 150_000;
        let mut dice = Dice::new(spell ^ u64::from(machine.to_bytes()[0]) << 32);
        dice.one_in(6)
    }

    /// Adds a transaction, sometimes of a key that may not send it.
    fn push(&mut self, signer: PublicKey, call: Tx) {
        let signer = if self.dice.one_in(50) {
            key(self.dice.one(&TENANTS))
        } else {
            signer
        };
        if let Ok(admission) = self.m().admissible(&signer, self.m().time()) {
            let before = self
                .block
                .iter()
                .filter(|tx| tx.body.signer == signer)
                .count();
            let nonce = admission.next_nonce + u64::try_from(before).expect("short blocks");
            let expires_at = Timestamp::MAX;
            self.block.push(unsigned(TxBody {
                signer,
                nonce,
                expires_at,
                call,
            }));
        }
    }

    fn usd_below(&mut self, dollars: u64) -> Money {
        Money::from_micros(self.dice.below(dollars * 1_000_000))
    }

    fn pick_machine(&mut self) -> Option<(MachineId, AccountId)> {
        let all: Vec<_> = self.m().machines().map(|x| (x.id, x.provider)).collect();
        self.dice.pick(&all)
    }

    fn pick_lease(&mut self) -> Option<Lease> {
        let live: Vec<LeaseId> = self
            .m()
            .leases()
            .filter(|l| l.is_live())
            .map(|l| l.id)
            .collect();
        let all: Vec<LeaseId> = self.m().leases().map(|l| l.id).collect();
        let id = if self.dice.one_in(20) {
            self.dice.pick(&all)
        } else {
            self.dice.pick(&live)
        };
        self.m().lease(id?).cloned()
    }

    fn pick_job(&mut self) -> Option<(JobId, AccountId)> {
        let tenant = account(self.dice.one(&TENANTS));
        let ended_too = self.dice.one_in(6);
        let live = |j: &&Job| ended_too || !matches!(j.state, JobState::Ended { .. });
        let jobs: Vec<JobId> = self
            .m()
            .jobs_of(tenant)
            .filter(live)
            .map(|j| j.id)
            .collect();
        self.dice.pick(&jobs).map(|id| (id, tenant))
    }

    /// An instant around now.
    fn instant(&mut self) -> Timestamp {
        let now = self.m().time();
        match self.dice.below(10) {
            0 => now.after(Millis::from_millis(self.dice.below(100_000))),
            1 => now.before(Millis::from_millis(self.dice.below(100_000))),
            _ => now.before(Millis::from_millis(self.dice.below(3_000))),
        }
    }

    /// One random step.
    fn step(&mut self) {
        match self.dice.below(100) {
            0..=35 => self.beat(),
            36..=53 => self.report(),
            54..=63 => self.open_job(),
            64..=73 => self.job_verb(),
            74..=81 => self.supply_verb(),
            82..=86 => self.bid(),
            87..=96 => self.money_verb(),
            _ => self.key_verb(),
        }
    }

    fn beat(&mut self) {
        let Some((machine, _)) = self.pick_machine() else {
            return;
        };
        if self.beaten.contains(&machine) || self.is_out(machine) {
            return;
        }
        let leases = self.m().leases_on(machine);
        let leases: Vec<LeaseId> = leases.map(|l| l.id).collect();
        let at = self.instant();
        let (signer, mut call) = self.w.beat_call(machine, at, &leases);
        if let Tx::Beat(batch) = &mut call {
            if self.dice.one_in(3) {
                let earlier = at.before(Millis::from_millis(1 + self.dice.below(60_000)));
                batch.beats.insert(
                    0,
                    Beat {
                        at: earlier,
                        leases: batch.beats[0].leases.clone(),
                    },
                );
            }
            if self.dice.one_in(30) {
                batch.first_seq += 1;
            }
        }
        self.beaten.push(machine);
        self.push(signer, call);
    }

    fn report(&mut self) {
        let Some(lease) = self.pick_lease() else {
            return;
        };
        let Some(signer) = self.m().machine(lease.machine).map(|x| x.keys.sign) else {
            return;
        };
        if self.is_out(lease.machine) {
            return;
        }
        let (at, id) = (self.instant(), lease.id);
        let awarded = matches!(
            lease.state,
            LeaseState::Awarded { .. } | LeaseState::Paused { .. }
        );
        let outcome = match self.dice.below(12) {
            0..=3 => Outcome::Exited {
                code: 0,
                out_of_memory: false,
            },
            4..=5 => Outcome::Exited {
                code: 1,
                out_of_memory: true,
            },
            6 => Outcome::ImageError,
            7 => Outcome::Stopped,
            8 => Outcome::Lost,
            _ => Outcome::LimitReached,
        };
        let call = if awarded != self.dice.one_in(5) {
            Tx::LeaseReady { lease: id, at }
        } else if !self.dice.one_in(4) {
            return;
        } else {
            Tx::LeaseEnded {
                lease: id,
                at,
                outcome,
            }
        };
        self.push(signer, call);
    }

    fn open_job(&mut self) {
        let tenant = self.dice.one(&TENANTS);
        let signer = if self.dice.one_in(4) {
            self.dice.one(&DELEGATES)
        } else {
            tenant
        };
        let mut spec = job(1);
        let cents = self.dice.one(&[10, 30, 300]);
        spec.budget = Money::from_micros(self.dice.below(cents * 10_000));
        spec.tier = self.dice.one(&[Tier::Spot, Tier::OnDemand, Tier::Reserved]);
        spec.duration_max = secs(1 + self.dice.below(600));
        spec.wait_max = secs(self.dice.below(300));
        spec.window = secs(self.dice.one(&[0, 0, 0, 1, 20]));
        spec.attempts_max = self.dice.one(&[1, 1, 2, 3, 3, 3, 3, 3, 0]);
        spec.needs.count = self.dice.one(&[1, 1, 1, 1, 1, 1, 2, 2, 4, 0]);
        spec.needs.isolation = self.dice.one(&[Isolation::None, Isolation::Container]);
        spec.storage_kept = ByteSize::from_gib(self.dice.below(50));
        spec.price_cap = self
            .dice
            .one(&[None, None, Some(Rate::from_micros_per_hour(9_000_000))]);
        spec.on_budget = self
            .dice
            .one(&[OnBudget::End, OnBudget::Pause { grace: secs(100) }]);
        self.push(key(signer), Tx::OpenJob(spec));
    }

    fn job_verb(&mut self) {
        let Some((job, tenant)) = self.pick_job() else {
            return;
        };
        let amount = self.usd_below(1);
        let signer = if self.dice.one_in(5) {
            key(self.dice.one(&DELEGATES))
        } else {
            *tenant.owner_key()
        };
        let call = match self.dice.below(8) {
            2 | 3 => {
                let by = self
                    .dice
                    .one(&[secs(1), secs(30), secs(600), secs(400 * 86_400)]);
                Tx::ExtendJob { job, by }
            }
            0 => Tx::CancelJob { job },
            1 => Tx::ReleaseHold { job },
            _ => Tx::TopUpJob { job, amount },
        };
        self.push(signer, call);
    }

    fn supply_verb(&mut self) {
        let owner = self.dice.one(&PROVIDERS);
        let mut unused = (100..=255).filter(|n| self.m().signer(&key(*n)).is_none());
        let few = self.m().machines().count() < MACHINES;
        if let Some(n) = unused.next().filter(|_| few) {
            let gpus = self.dice.one(&[1, 2, 4, 8]);
            let domain = self.dice.one(&["rack-a", "rack-b", "rack-c"]);
            let (keys, spec) = (machine_keys(n), gpu_machine(gpus, domain));
            return self.push(key(owner), Tx::AddMachine { keys, spec });
        }
        let Some((machine, provider)) = self.pick_machine() else {
            return;
        };
        let signer = *provider.owner_key();
        let now = self.m().time();
        let call = match self.dice.below(40) {
            0 => Tx::DrainMachine {
                machine,
                evict_at: None,
            },
            1 => Tx::DrainMachine {
                machine,
                evict_at: Some(now.after(secs(self.dice.below(200)))),
            },
            2..=5 => Tx::ResumeMachine { machine },
            6 if self.dice.one_in(3) => Tx::RetireMachine { machine },
            7 => {
                let gpus = self.dice.one(&[1, 2, 4, 8]);
                Tx::UpdateMachine {
                    machine,
                    spec: gpu_machine(gpus, "rack-a"),
                }
            }
            8..=10 => match self.m().offers_on(machine).next().map(|o| o.id) {
                Some(offer) => Tx::WithdrawOffer { offer },
                None => return,
            },
            11..=13 => match self.pick_lease() {
                Some(lease) => {
                    return self.push(
                        *lease.provider.owner_key(),
                        Tx::PreemptLease { lease: lease.id },
                    );
                }
                None => return,
            },
            14 => {
                let keys = machine_keys(u8::try_from(50 + self.dice.below(50)).expect("small"));
                Tx::RotateMachineKeys { machine, keys }
            }
            _ => {
                let tier = self.dice.one(&[Tier::Spot, Tier::OnDemand, Tier::Reserved]);
                let mut terms = offer(machine, self.dice.one(&[1, 1, 2, 4, 8]), tier, 1);
                terms.prices.per_device_hour =
                    Rate::from_micros_per_hour(1_000_000 * self.dice.below(12));
                terms.expires_at = now.after(secs(self.dice.below(3_000)));
                Tx::PlaceOffer(terms)
            }
        };
        self.push(signer, call);
    }

    fn bid(&mut self) {
        let orders: Vec<OrderId> = self.m().orders_open().map(|o| o.id).collect();
        let (Some(order), Some((machine, provider))) =
            (self.dice.pick(&orders), self.pick_machine())
        else {
            return;
        };
        let bids: Vec<BidId> = self.m().bids_on(order).map(|b| b.id).collect();
        let call = match self.dice.pick(&bids) {
            Some(bid) if self.dice.one_in(4) => Tx::WithdrawBid { bid },
            _ => Tx::PlaceBid(BidTerms {
                order,
                machine,
                devices: (0..self.dice.one(&[1, 1, 2, 4])).collect(),
                prices: prices(self.dice.below(8)),
                preempt_notice: secs(self.dice.below(60)),
            }),
        };
        self.push(*provider.owner_key(), call);
    }

    fn money_verb(&mut self) {
        let (tenant, provider) = (self.dice.one(&TENANTS), self.dice.one(&PROVIDERS));
        let amount = self.usd_below(5);
        let reference = Digest::of(&[&self.dice.below(100_000).to_le_bytes()]);
        let treasurer = key(TREASURER);
        let redemptions: Vec<RedemptionId> = self.m().redemptions().map(|r| r.id).collect();
        let (signer, call) = match self.dice.below(10) {
            0..=2 => (
                treasurer,
                Tx::Issue {
                    to: account(tenant),
                    amount,
                    reference,
                },
            ),
            3 => (
                key(tenant),
                Tx::Transfer {
                    to: account(provider),
                    amount,
                    memo: None,
                },
            ),
            4 => (
                key(provider),
                Tx::Transfer {
                    to: account(tenant),
                    amount,
                    memo: None,
                },
            ),
            5 => (
                key(tenant),
                Tx::Transfer {
                    to: account(99),
                    amount: Money::from_micros(amount.micros() % 200_000),
                    memo: None,
                },
            ),
            6 => (key(provider), Tx::PostBond { amount }),
            7 => (key(provider), Tx::WithdrawBond { amount }),
            8 => (
                key(provider),
                Tx::RequestRedemption {
                    treasurer,
                    amount,
                    destination: reference,
                },
            ),
            _ => match self.dice.pick(&redemptions) {
                Some(redemption) if self.dice.one_in(2) => (
                    treasurer,
                    Tx::ConfirmRedemption {
                        redemption,
                        reference,
                    },
                ),
                Some(redemption) => (treasurer, Tx::RefuseRedemption { redemption }),
                None => return,
            },
        };
        self.push(signer, call);
    }

    fn key_verb(&mut self) {
        let (tenant, delegate) = (self.dice.one(&TENANTS), key(self.dice.one(&DELEGATES)));
        let call = if self.dice.one_in(3) {
            Tx::RevokeKey { key: delegate }
        } else {
            Tx::AuthorizeKey {
                key: delegate,
                role: self
                    .dice
                    .one(&[KeyRole::Tenant, KeyRole::Viewer, KeyRole::Owner]),
                budget: Some(self.usd_below(20)),
                expires_at: Some(self.m().time().after(secs(self.dice.below(1_000)))),
            }
        };
        self.push(key(tenant), call);
    }

    /// Time to the next block: mostly a moment, at times what is due or a heartbeat, rarely a halt.
    fn pause(&mut self) -> Millis {
        match self.dice.below(40) {
            0..=29 => Millis::from_millis(self.dice.below(4_000)),
            30..=37 => {
                let heartbeat = self.m().params().heartbeat;
                let due = self.m().next_due().map(|due| due.since(self.m().time()));
                due.map_or(heartbeat, |due| due.min(heartbeat))
            }
            38 => secs(self.dice.below(60)),
            _ => secs(self.dice.below(1_200)),
        }
    }

    /// Makes and runs one block; returns it and what it did.
    fn run_block(&mut self) -> (BlockCtx, Vec<SignedTx>, BlockOutcome) {
        let pause = self.pause();
        for _ in 0..=self.dice.below(30) {
            self.step();
        }
        self.beaten.clear();
        let ctx = self.w.ctx(pause);
        let mut txs = std::mem::take(&mut self.block);
        // A key may expire in the time since the last block, or be revoked by this one: such a block is none and
        // changes nothing, so its proposer leaves the transactions of that key out.
        loop {
            match self.w.m.execute(&ctx, &txs) {
                Ok(outcome) => return (ctx, txs, outcome),
                Err(BlockError {
                    index,
                    why: Inadmissible::KeyEnded,
                }) => {
                    let ended = txs[index].body.signer;
                    let mut at = 0..;
                    txs.retain(|tx| at.next() < Some(index) || tx.body.signer != ended);
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Sum of all money by the records that blocks change: conservation at every step, without reading everything.
#[derive(Default)]
struct Balance {
    accounts: BTreeMap<RecordKey, u128>,
    total: u128,
}

impl Balance {
    fn follow(&mut self, m: &Market, changes: &ChangeSet) {
        let system = m.system();
        for (key, bytes) in &changes.0 {
            let record = bytes
                .as_ref()
                .map(|b| borsh::from_slice(b).expect("a record"));
            let Some(Record::Account(account)) = record else {
                continue;
            };
            let parts = [
                account.available,
                account.held,
                account.bonded,
                account.locked,
            ];
            let now: u128 = parts.iter().map(|p| u128::from(p.micros())).sum();
            let was = self.accounts.insert(*key, now).unwrap_or(0);
            self.total = self.total + now - was;
        }
        let pools = u128::from(system.fees.micros()) + u128::from(system.insurance.micros());
        assert_eq!(
            self.total + pools,
            u128::from(system.issued.micros()),
            "money is conserved"
        );
    }
}

fn seeds() -> Vec<u64> {
    // One seed can be asked for, to look at a failure.
    let asked = option_env!("HISTORY_SEED").and_then(|text| text.parse().ok());
    asked.map_or_else(|| (0..SEEDS).collect(), |seed| vec![seed])
}

fn digest(m: &Market) -> Digest {
    let mut records: Vec<(RecordKey, Vec<u8>)> = m.records().collect();
    records.sort();
    let parts: Vec<&[u8]> = records.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    Digest::of(&parts)
}

#[test]
fn invariants_hold_and_the_auditor_agrees_over_random_histories() {
    let mut reasons: BTreeMap<EndReason, u64> = BTreeMap::new();
    let mut rejects: BTreeMap<&str, u64> = BTreeMap::new();
    let mut phases: BTreeMap<String, u64> = BTreeMap::new();
    for seed in seeds() {
        let mut history = History::new(seed);
        let mut auditor = Auditor::new(history.m());
        let mut balance = Balance::default();
        let all = ChangeSet(history.m().records().map(|(k, v)| (k, Some(v))).collect());
        balance.follow(history.m(), &all);
        let mut done = 0;
        let share = TRANSACTIONS / usize::try_from(SEEDS).expect("few");
        while done < share {
            let (_, txs, outcome) = history.run_block();
            done += txs.len();
            balance.follow(history.m(), &outcome.changes);
            auditor.follow(history.m(), &txs, &outcome);
            for event in &outcome.events {
                match event.kind {
                    EventKind::LeaseEnded { reason, .. } => {
                        *reasons.entry(reason).or_default() += 1;
                    }
                    EventKind::LeaseChanged { to, .. } => {
                        *phases.entry(format!("{to:?}")).or_default() += 1;
                    }
                    _ => {}
                }
            }
            for receipt in &outcome.receipts {
                let code = receipt.result.as_ref().map_or_else(Reject::code, |()| "ok");
                *rejects.entry(code).or_default() += 1;
            }
            if history.m().height().number().is_multiple_of(CHECK_EVERY) {
                let checked = invariants::check(history.m());
                checked
                    .unwrap_or_else(|e| panic!("seed {seed}, block {}: {e}", history.m().height()));
                auditor.agree(history.m());
            }
        }
        invariants::check(history.m()).expect("every invariant holds at the end");
        auditor.agree(history.m());
    }
    println!("{reasons:?}\n{phases:?}\n{rejects:?}");
    assert_eq!(
        phases.len(),
        4,
        "running again, suspect, preempting, paused"
    );
    for reason in [
        EndReason::Completed,
        EndReason::Failed { code: 1 },
        EndReason::Cancelled,
        EndReason::BudgetReached,
        EndReason::DurationReached,
        EndReason::Preempted,
        EndReason::Drained,
        EndReason::ProviderLost,
        EndReason::StartTimeout,
        EndReason::ImageError,
    ] {
        assert!(
            reasons.contains_key(&reason),
            "no history ended a lease as {reason:?}"
        );
    }
}

#[test]
fn a_rejected_transaction_changes_nothing_but_its_nonce() {
    let mut history = History::new(77);
    let mut compared = 0;
    while compared < 300 {
        let before = history.m().clone();
        let (ctx, txs, outcome) = history.run_block();
        let rejected = outcome.receipts.iter().position(|r| r.result.is_err());
        if let Some(at) = rejected {
            let (mut without, mut with) = (before.clone(), before);
            without
                .execute(&ctx, &txs[..at])
                .expect("a prefix is admissible");
            with.execute(&ctx, &txs[..=at])
                .expect("a prefix is admissible");
            let signer = txs[at].body.signer;
            let (a, b) = (others(&without, signer), others(&with, signer));
            assert!(a == b, "rejected {:?} changed something", txs[at].body.call);
            compared += 1;
        }
    }
}

#[test]
fn replay_undo_absorb_and_load_all_give_the_lived_market() {
    let mut history = History::new(5);
    let genesis = history.m().clone();
    let started = digest(&genesis);
    let mut follower = genesis.clone();
    let mut blocks = Vec::new();
    for n in 0..600 {
        let before = digest(history.m());
        let (ctx, txs, outcome) = history.run_block();
        let after = digest(history.m());
        if n % 10 == 0 {
            assert!(history.w.m.undo_block());
            assert_eq!(digest(history.m()), before, "undo gives the parent back");
            invariants::check(history.m()).expect("the index is undone too");
            let again = history.w.m.execute(&ctx, &txs);
            assert_eq!(again.as_ref(), Ok(&outcome), "the same block does the same");
        }
        follower
            .absorb(&ctx, &outcome.changes)
            .expect("the changes of the next block");
        assert_eq!(
            digest(&follower),
            after,
            "absorbing gives what executing gave"
        );
        if n % 50 == 0 {
            invariants::check(&follower).expect("the follower's index is right");
            assert!(follower.undo_block());
            assert_eq!(digest(&follower), before, "an absorbed block can be undone");
            follower
                .absorb(&ctx, &outcome.changes)
                .expect("and absorbed again");
            let loaded = Market::load(history.m().records()).expect("its own records");
            invariants::check(&loaded).expect("the loaded index is right");
            assert_eq!(digest(&loaded), after);
        }
        blocks.push((ctx, txs, outcome));
    }
    let mut replayed = genesis;
    let mut loaded: Option<Market> = None;
    for (n, (ctx, txs, outcome)) in blocks.iter().enumerate() {
        let again = replayed.execute(ctx, txs).expect("it was admissible");
        assert_eq!(&again, outcome, "replay of block {n} does the same");
        if let Some(loaded) = &mut loaded {
            let again = loaded.execute(ctx, txs).expect("it was admissible");
            assert_eq!(
                &again, outcome,
                "a loaded market behaves like the lived one at block {n}"
            );
        }
        if n == 300 {
            loaded = Some(Market::load(replayed.records()).expect("its own records"));
        }
    }
    for _ in &blocks {
        assert!(replayed.undo_block());
    }
    assert_eq!(
        digest(&replayed),
        started,
        "every block can be undone, back to the start"
    );
}
