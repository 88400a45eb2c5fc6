//! A second, slow opinion on every dollar, written from the design and not from the code: plain integers over the
//! stream of transactions and events. It takes from the market who ended what and when the chain was halted; every
//! instant that is charged and every amount it works out itself.

use std::collections::BTreeMap;

use market::*;

const HOUR: u128 = 3_600_000;
const GIB: u128 = 1 << 30;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Balances {
    available: u128,
    held: u128,
    bonded: u128,
    locked: u128,
}

#[derive(Clone, Debug)]
struct Job {
    tenant: AccountId,
    hold: u128,
    spec: JobSpec,
    ran: u128,
}

/// A lease as the auditor sees it; instants in milliseconds.
#[derive(Clone, Debug)]
struct Lease {
    job: JobId,
    provider: AccountId,
    machine: MachineId,
    prices: Prices,
    notice: u128,
    collateral: u128,
    funds: u128,
    duration: u128,
    awarded: u128,
    /// When its tenant cancelled it.
    cut: Option<u128>,
    run: Option<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    since: u128,
    ran: u128,
    paused: u128,
    good: u128,
    /// Since when it is paused, and until when at most.
    pause: Option<(u128, u128)>,
    stop_by: Option<u128>,
}

/// The second opinion.
#[derive(Debug)]
pub(crate) struct Auditor {
    params: Params,
    accounts: BTreeMap<AccountId, Balances>,
    fees: u128,
    insurance: u128,
    issued: u128,
    jobs: BTreeMap<JobId, Job>,
    leases: BTreeMap<LeaseId, Lease>,
    offers: BTreeMap<OfferId, OfferTerms>,
    bids: BTreeMap<BidId, BidTerms>,
    redemptions: BTreeMap<RedemptionId, (AccountId, u128)>,
    payables: BTreeMap<LeaseId, (AccountId, u128)>,
    evictions: BTreeMap<MachineId, (u128, u128)>,
    now: u128,
    parent: u128,
    gap: Option<(u128, u128)>,
}

fn at(t: Timestamp) -> u128 {
    u128::from(t.unix_millis())
}

fn of(m: Money) -> u128 {
    u128::from(m.micros())
}

fn time(m: Millis) -> u128 {
    u128::from(m.millis())
}

impl Auditor {
    /// Begins with the books of a market as they are; it has no jobs yet.
    pub(crate) fn new(m: &Market) -> Self {
        let accounts = m.accounts().map(|a| {
            let balances = Balances {
                available: of(a.available),
                held: of(a.held),
                bonded: of(a.bonded),
                locked: of(a.locked),
            };
            (a.id, balances)
        });
        Self {
            params: m.params().clone(),
            accounts: accounts.collect(),
            fees: of(m.system().fees),
            insurance: of(m.system().insurance),
            issued: of(m.system().issued),
            jobs: BTreeMap::new(),
            leases: BTreeMap::new(),
            offers: BTreeMap::new(),
            bids: BTreeMap::new(),
            redemptions: BTreeMap::new(),
            payables: BTreeMap::new(),
            evictions: BTreeMap::new(),
            now: at(m.time()),
            parent: at(m.time()),
            gap: None,
        }
    }

    /// Follows a block that took place.
    pub(crate) fn follow(&mut self, m: &Market, txs: &[SignedTx], outcome: &BlockOutcome) {
        self.parent = self.now;
        self.now = at(m.time());
        self.gap = m.system().last_gap.map(|(a, b)| (at(a), at(b)));
        let mut events = outcome.events.iter().peekable();
        for (tx, receipt) in txs.iter().zip(&outcome.receipts) {
            if receipt.result.is_ok() {
                self.take(tx);
            }
            while let Some(event) = events.next_if(|e| e.cause == Some(receipt.tx)) {
                self.hear(&event.kind, Some(&tx.body.call));
            }
        }
        for event in events {
            assert_eq!(event.cause, None, "timers come after transactions");
            self.hear(&event.kind, None);
        }
    }

    /// Compares every balance.
    pub(crate) fn agree(&self, m: &Market) {
        for account in m.accounts() {
            let theirs = Balances {
                available: of(account.available),
                held: of(account.held),
                bonded: of(account.bonded),
                locked: of(account.locked),
            };
            let ours = self.accounts.get(&account.id).copied().unwrap_or_default();
            assert_eq!(ours, theirs, "the auditor disagrees on {}", account.id);
        }
        assert_eq!(self.fees, of(m.system().fees), "fees");
        assert_eq!(self.insurance, of(m.system().insurance), "insurance");
        assert_eq!(self.issued, of(m.system().issued), "issued");
    }

    fn account(&mut self, id: AccountId) -> &mut Balances {
        self.accounts.entry(id).or_default()
    }

    /// Books what a transaction says by itself.
    fn take(&mut self, tx: &SignedTx) {
        let (signer, nonce) = (&tx.body.signer, tx.body.nonce);
        let me = AccountId::of(*signer);
        match &tx.body.call {
            Tx::Issue { to, amount, .. } => {
                self.issued += of(*amount);
                self.account(*to).available += of(*amount);
            }
            Tx::Transfer { to, amount, .. } => {
                self.account(me).available -= of(*amount);
                self.account(*to).available += of(*amount);
            }
            Tx::RequestRedemption { amount, .. } => {
                self.account(me).available -= of(*amount);
                self.account(me).held += of(*amount);
                let id = RedemptionId::created_by(signer, nonce);
                self.redemptions.insert(id, (me, of(*amount)));
            }
            Tx::PostBond { amount } => {
                self.account(me).available -= of(*amount);
                self.account(me).bonded += of(*amount);
            }
            Tx::WithdrawBond { amount } => {
                self.account(me).bonded -= of(*amount);
                self.account(me).available += of(*amount);
            }
            Tx::PlaceOffer(terms) => {
                let id = OfferId::created_by(signer, nonce);
                self.offers.insert(id, terms.clone());
            }
            Tx::PlaceBid(terms) => {
                let id = BidId::created_by(signer, nonce);
                self.bids.insert(id, terms.clone());
            }
            Tx::OpenJob(spec) => {
                let id = JobId::created_by(signer, nonce);
                let (spec, hold) = (spec.clone(), of(spec.budget));
                self.jobs.insert(
                    id,
                    Job {
                        tenant: me,
                        hold,
                        spec,
                        ran: 0,
                    },
                );
            }
            Tx::TopUpJob { job, amount } => {
                let job_id = *job;
                let job = self.jobs.get_mut(&job_id).expect("a known job");
                job.hold += of(*amount);
                let tenant = job.tenant;
                self.account(tenant).available -= of(*amount);
                self.account(tenant).held += of(*amount);
                for lease in self.leases.values_mut().filter(|l| l.job == job_id) {
                    lease.funds += of(*amount);
                }
            }
            Tx::ExtendJob { job, by } => {
                let spec = &mut self.jobs.get_mut(job).expect("a known job").spec;
                spec.duration_max = spec.duration_max.saturating_add(*by);
                for lease in self.leases.values_mut().filter(|l| l.job == *job) {
                    lease.duration += time(*by);
                }
            }
            Tx::CancelJob { job } => {
                let now = self.now;
                for lease in self.leases.values_mut().filter(|l| l.job == *job) {
                    lease.cut.get_or_insert(now);
                }
            }
            Tx::DrainMachine { machine, evict_at } => {
                let now = self.now;
                match (evict_at.map(at), self.evictions.get(machine).copied()) {
                    (None, _) => drop(self.evictions.remove(machine)),
                    (Some(new), Some((old, said))) if new >= old => {
                        self.evictions.insert(*machine, (new, said));
                    }
                    (Some(new), _) => drop(self.evictions.insert(*machine, (new, now))),
                }
            }
            Tx::ResumeMachine { machine } => drop(self.evictions.remove(machine)),
            Tx::Beat(batch) => self.beat(batch),
            _ => {}
        }
    }

    /// A beat counts if it is at most 25 s old, or from the halt (or 25 s before) and within a minute of its end.
    fn beat(&mut self, batch: &BeatBatch) {
        let from = self.halted_since().unwrap_or(self.now).min(self.now);
        let oldest = from.saturating_sub(time(self.params.suspect_after));
        for beat in batch.beats.iter().filter(|b| at(b.at) >= oldest) {
            for id in &beat.leases {
                let lease = self
                    .leases
                    .get_mut(id)
                    .filter(|l| l.machine == batch.machine);
                let run = lease.and_then(|l| l.run.as_mut());
                if let Some(run) = run.filter(|r| r.pause.is_none()) {
                    run.good = run.good.max(at(beat.at).min(self.now));
                }
            }
        }
    }

    fn halted_since(&self) -> Option<u128> {
        let (start, end) = self.gap?;
        (self.now <= end + time(self.params.gap_grace)).then_some(start)
    }

    /// Books what an event says, working out its amounts.
    fn hear(&mut self, event: &EventKind, call: Option<&Tx>) {
        match event {
            EventKind::JobOpened {
                tenant,
                budget,
                job,
            } => {
                self.account(*tenant).available -= of(*budget);
                self.account(*tenant).held += of(*budget);
                self.jobs
                    .get_mut(job)
                    .expect("opened by its transaction")
                    .tenant = *tenant;
            }
            EventKind::RedemptionClosed {
                redemption, paid, ..
            } => {
                let (account, amount) = self.redemptions.remove(redemption).expect("known");
                self.account(account).held -= amount;
                if *paid {
                    self.issued -= amount;
                } else {
                    self.account(account).available += amount;
                }
            }
            EventKind::LeaseAwarded {
                lease,
                job,
                provider,
                machine,
                source,
                ..
            } => {
                self.award(*lease, *job, *provider, *machine, *source);
            }
            EventKind::LeaseReady {
                lease, at: said, ..
            } => self.ready(*lease, *said, call),
            EventKind::LeaseChanged { lease, to, .. } => self.change(*lease, *to, call),
            EventKind::LeaseEnded {
                lease,
                reason,
                bill,
                ..
            } => {
                self.end(*lease, *reason, bill, call);
            }
            EventKind::LeasePaid { lease, .. } => {
                if let Some((provider, amount)) = self.payables.remove(lease) {
                    self.account(provider).locked -= amount;
                    self.account(provider).available += amount;
                }
            }
            EventKind::JobEnded { job, returned, .. } => {
                let job = self.jobs.remove(job).expect("a known job");
                assert_eq!(of(*returned), job.hold, "what is left returns");
                self.account(job.tenant).held -= job.hold;
                self.account(job.tenant).available += job.hold;
            }
            _ => {}
        }
    }

    fn award(
        &mut self,
        id: LeaseId,
        job_id: JobId,
        provider: AccountId,
        machine: MachineId,
        source: LeaseSource,
    ) {
        let (prices, notice) = match source {
            LeaseSource::Offer(offer) => {
                let terms = &self.offers[&offer];
                (terms.prices, terms.preempt_notice)
            }
            LeaseSource::Bid(bid) => {
                let terms = &self.bids[&bid];
                (terms.prices, terms.preempt_notice)
            }
        };
        let job = &self.jobs[&job_id];
        let count = u128::from(job.spec.needs.count);
        let rate = u128::from(prices.per_device_hour.micros_per_hour());
        let collateral = match job.spec.tier {
            Tier::Spot => count * rate * time(self.params.start_collateral) / HOUR,
            Tier::OnDemand | Tier::Reserved => count * rate,
        };
        let lease = Lease {
            job: job_id,
            provider,
            machine,
            prices,
            notice: time(notice),
            collateral,
            funds: job.hold,
            duration: time(job.spec.duration_max) - job.ran,
            awarded: self.now,
            cut: None,
            run: None,
        };
        self.leases.insert(id, lease);
    }

    /// The earliest instant that a machine may name now.
    fn earliest(&self) -> u128 {
        let tolerated = self.parent - time(self.params.clock_tolerance);
        self.halted_since()
            .map_or(tolerated, |start| start.min(tolerated))
    }

    fn ready(&mut self, id: LeaseId, said: Timestamp, call: Option<&Tx>) {
        let Some(Tx::LeaseReady { at: claimed, .. }) = call else {
            panic!("only the machine says ready")
        };
        let earliest = self.earliest();
        let now = self.now;
        let lease = self.leases.get_mut(&id).expect("a known lease");
        let ready = at(*claimed).max(earliest).max(lease.awarded).min(now);
        assert_eq!(ready, at(said), "ready is the machine's word within bounds");
        if self.jobs[&lease.job].spec.tier == Tier::Spot {
            lease.collateral = 0;
        }
        lease.run = Some(Run {
            since: ready,
            ran: 0,
            paused: 0,
            good: ready,
            pause: None,
            stop_by: None,
        });
    }

    fn change(&mut self, id: LeaseId, to: LeasePhase, call: Option<&Tx>) {
        if matches!(
            call,
            Some(Tx::TopUpJob { .. } | Tx::ExtendJob { .. } | Tx::CancelJob { .. })
        ) {
            return; // Its limits moved, not its state.
        }
        let (now, earliest) = (self.now, self.earliest());
        let lease = self.leases[&id].clone();
        let Some(mut run) = lease.run else { return };
        match (to, call) {
            (LeasePhase::Paused, call) => {
                let (_, limit) = self.limits(&lease, &run);
                let claimed = match call {
                    Some(Tx::LeaseEnded { at: claimed, .. }) => at(*claimed).min(now),
                    _ => limit,
                };
                run.ran += self.covered(&run, claimed, limit) - run.since;
                let since = claimed.min(limit);
                run.pause = Some((since, since + self.grace(lease.job)));
            }
            (LeasePhase::Running, Some(Tx::LeaseReady { at: claimed, .. })) => {
                let (since, _) = run.pause.take().expect("it was paused");
                let resumed = at(*claimed).max(earliest).max(since).min(now);
                run.paused += resumed - since;
                run.since = resumed;
                run.good = resumed;
            }
            (LeasePhase::Preempting, _) => run.stop_by = Some(now + lease.notice),
            _ => {}
        }
        self.leases.get_mut(&id).expect("a known lease").run = Some(run);
    }

    fn grace(&self, job: JobId) -> u128 {
        match self.jobs[&job].spec.on_budget {
            OnBudget::End => 0,
            OnBudget::Pause { grace } => time(grace),
        }
    }

    fn storage(&self, lease: &Lease, paused: u128) -> u128 {
        let kept = u128::from(self.jobs[&lease.job].spec.storage_kept.bytes());
        let rate = u128::from(lease.prices.per_gib_hour.micros_per_hour());
        kept * rate * paused / (GIB * HOUR)
    }

    /// What a millisecond of all devices costs, times an hour's milliseconds.
    fn hourly(&self, lease: &Lease) -> u128 {
        let count = u128::from(self.jobs[&lease.job].spec.needs.count);
        count * u128::from(lease.prices.per_device_hour.micros_per_hour())
    }

    /// The instants at which funds and the earlier of funds and duration are used up.
    fn limits(&self, lease: &Lease, run: &Run) -> (u128, u128) {
        let kept = self.storage(lease, run.paused + self.grace(lease.job));
        let compute = lease.funds.saturating_sub(kept);
        let hourly = self.hourly(lease);
        let never = u128::from(u64::MAX);
        let all = (compute * HOUR).checked_div(hourly).unwrap_or(never);
        let funded = (run.since + all.saturating_sub(run.ran)).min(never);
        let duration = run.since + lease.duration.saturating_sub(run.ran);
        let cut = lease.cut.unwrap_or(never);
        (funded, funded.min(duration).min(cut))
    }

    /// A workload ran up to its last good beat, or to what was claimed if beats come within 20 s of it.
    fn covered(&self, run: &Run, claimed: u128, limit: u128) -> u128 {
        let end = claimed.max(run.good);
        let slack = 2 * time(self.params.beat_leased);
        let end = if end > run.good + slack {
            run.good
        } else {
            end
        };
        end.min(limit).max(run.since)
    }

    fn end(&mut self, id: LeaseId, reason: EndReason, bill: &Bill, call: Option<&Tx>) {
        let lease = self.leases.remove(&id).expect("a known lease");
        let now = self.now;
        let eviction = self.evictions.get(&lease.machine).copied();
        let (mut ran, mut paused) = (0, 0);
        if let Some(run) = &lease.run {
            let (_, limit) = self.limits(&lease, run);
            let claimed = match (reason, call) {
                (EndReason::ProviderLost, _) => run.good,
                (_, Some(Tx::LeaseEnded { at: claimed, .. })) => at(*claimed).min(now),
                (EndReason::Cancelled, _) if run.pause.is_none() => limit.min(now),
                (_, Some(_)) => now,
                (EndReason::Preempted, None) => run.stop_by.expect("notice was given"),
                (EndReason::Drained, None) => eviction.expect("eviction was announced").0,
                (_, None) => run.pause.map_or(limit, |(_, until)| until),
            };
            (ran, paused) = match run.pause {
                Some((since, until)) => {
                    (run.ran, run.paused + claimed.min(until).max(since) - since)
                }
                None => (
                    run.ran + self.covered(run, claimed, limit) - run.since,
                    run.paused,
                ),
            };
        }
        self.jobs.get_mut(&lease.job).expect("a known job").ran += ran;
        let early = lease.run.is_none() || ran < time(self.params.early_exit);
        let pays_nothing = match reason {
            EndReason::ImageError | EndReason::StartTimeout => true,
            EndReason::Failed { .. } => early,
            _ => false,
        };
        if reason == EndReason::Cancelled {
            let least = time(self.params.cancel_minimum).min(now - lease.awarded);
            ran = ran.max(least);
        }
        if pays_nothing {
            (ran, paused) = (0, 0);
        }
        let compute = (self.hourly(&lease) * ran / HOUR).min(lease.funds);
        let storage = self.storage(&lease, paused).min(lease.funds - compute);
        let charged = compute + storage;
        let undelivered = matches!(reason, EndReason::ProviderLost | EndReason::StartTimeout);
        let fee = if undelivered || pays_nothing {
            0
        } else {
            charged * u128::from(self.params.fee.bps()) / 10_000
        };
        let short = eviction.is_some_and(|(at, said)| at - said < time(self.params.drain_notice));
        let forfeited = match reason {
            EndReason::ProviderLost | EndReason::StartTimeout => lease.collateral,
            EndReason::Drained if short => lease.collateral,
            _ => 0,
        };
        let ours = (compute, storage, charged, fee, forfeited);
        let theirs = (
            bill.compute,
            bill.storage,
            bill.charged,
            bill.fee,
            bill.forfeited,
        );
        let theirs = (
            of(theirs.0),
            of(theirs.1),
            of(theirs.2),
            of(theirs.3),
            of(theirs.4),
        );
        assert_eq!(ours, theirs, "bill of {id}, ended as {reason:?}: {lease:?}");
        self.pay(id, &lease, charged, fee, forfeited);
    }

    fn pay(&mut self, id: LeaseId, lease: &Lease, charged: u128, fee: u128, forfeited: u128) {
        let job = self.jobs.get_mut(&lease.job).expect("a known job");
        job.hold -= charged;
        let tenant = job.tenant;
        self.account(tenant).held -= charged;
        self.fees += fee;
        self.insurance += forfeited;
        self.account(lease.provider).bonded -= forfeited;
        let earned = charged - fee;
        if self.params.audit_lag_none.is_zero() {
            self.account(lease.provider).available += earned;
        } else if earned > 0 {
            self.account(lease.provider).locked += earned;
            self.payables.insert(id, (lease.provider, earned));
        }
    }
}
