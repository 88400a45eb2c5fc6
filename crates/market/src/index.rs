//! What is derived from the records, so that nothing scans: lists, timers, loads of machines and the book of offers.
//!
//! Everything in an [`Index`] is a function of the records alone, whatever the order in which they were written:
//! rebuilt after a restart it equals the lived one. Lists change as a row changes ([`Indexed`]). The book and the timers
//! of a machine depend on several records; their machine is marked and brought up to date by [`Index::refresh`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    codec::PublicKey,
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId},
    load::{Load, Weight, device_bits},
    params::Params,
    records::{
        Account, Bid, Hold, Job, JobState, Lease, Machine, MachineState, Offer, Order, Payable,
        Provider, Redemption, Signer,
    },
    rows::{Reference, Tables},
    timer::{self, Clock, Timer},
    tx::{DeviceClass, Name, Tier},
    units::{Rate, Timestamp},
};

/// A row that keeps its part of the index.
pub(crate) trait Indexed: Sized {
    /// Brings the index from `old` to `new`.
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>);
}

/// Where the book keeps an offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    /// Every device of a class.
    Class(DeviceClass),
    /// One model.
    Model(Name),
}

/// How an offer is listed in the book.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listing {
    tier: Tier,
    buckets: BTreeSet<Bucket>,
    place: Place,
}

/// An offer's rank: price, then age.
pub(crate) type Place = (Rate, u64, OfferId);

/// How many live things an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) signers: u32,
    pub(crate) machines: u32,
    pub(crate) offers: u32,
    pub(crate) bids: u32,
    pub(crate) jobs: u32,
}

/// The derived state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    params: Params,
    timers: BTreeSet<timer::Set>,
    machine_timers: BTreeMap<MachineId, Vec<timer::Set>>,
    /// Orders to compare when their window closes.
    pub(crate) closing: BTreeSet<(Timestamp, u64, OrderId)>,
    /// Orders that wait for capacity, oldest first.
    pub(crate) waiting: BTreeSet<(u64, OrderId)>,
    pub(crate) signers_of: BTreeSet<(AccountId, PublicKey)>,
    pub(crate) machines_of: BTreeSet<(AccountId, MachineId)>,
    pub(crate) offers_of: BTreeSet<(AccountId, OfferId)>,
    pub(crate) offers_on: BTreeSet<(MachineId, OfferId)>,
    pub(crate) jobs_of: BTreeSet<(AccountId, u64, JobId)>,
    pub(crate) leases_of: BTreeSet<(JobId, u64, LeaseId)>,
    pub(crate) leases_by: BTreeSet<(MachineId, LeaseId)>,
    pub(crate) bids_on: BTreeSet<(OrderId, BidId)>,
    pub(crate) bids_by: BTreeSet<(MachineId, BidId)>,
    pub(crate) holds_of: BTreeSet<(AccountId, JobId)>,
    pub(crate) payables_of: BTreeSet<(AccountId, LeaseId)>,
    counts: BTreeMap<AccountId, Counts>,
    loads: BTreeMap<MachineId, Load>,
    /// Live leases of a tenant with a provider.
    concentration: BTreeMap<(AccountId, AccountId), u32>,
    book: BTreeMap<(Tier, Bucket), BTreeSet<Place>>,
    listed: BTreeMap<OfferId, Listing>,
    dirty: BTreeSet<MachineId>,
}

impl Index {
    /// Makes an empty index.
    pub(crate) fn new(params: Params) -> Self {
        Self {
            params,
            ..Self::default()
        }
    }

    /// Returns the earliest timer of a clock.
    pub(crate) fn first(&self, clock: Clock) -> Option<(Timestamp, Timer)> {
        let from = (
            clock,
            Timestamp::ZERO,
            Timer::LeaseSuspect(LeaseId::from_bytes([0; 16])),
        );
        let (found, at, timer) = self.timers.range(from..).next()?;
        (*found == clock).then_some((*at, *timer))
    }

    /// Returns every timer that is set.
    pub(crate) fn timers(&self) -> impl Iterator<Item = &timer::Set> {
        self.timers.iter()
    }

    /// Returns what an account has.
    pub(crate) fn counts(&self, account: AccountId) -> Counts {
        self.counts.get(&account).copied().unwrap_or_default()
    }

    /// Returns what a machine's live leases take.
    pub(crate) fn load(&self, machine: MachineId) -> Option<&Load> {
        self.loads.get(&machine)
    }

    /// Returns how many live leases a tenant has with a provider.
    pub(crate) fn concentration(&self, tenant: AccountId, provider: AccountId) -> u32 {
        let key = (tenant, provider);
        self.concentration.get(&key).copied().unwrap_or(0)
    }

    /// Returns a bucket's offers, cheapest first. They are online and have at least one device free.
    pub(crate) fn listed(&self, tier: Tier, bucket: Bucket) -> Option<&BTreeSet<Place>> {
        self.book.get(&(tier, bucket))
    }

    /// Brings the book and the machines' timers up to date with the records.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        while let Some(id) = self.dirty.pop_first() {
            let machine = tables.machines.get(id);
            self.refresh_timers(id, machine);
            let offers: Vec<OfferId> = self.offers_on(id).collect();
            for offer in offers {
                let listing = tables.offers.get(offer).and_then(|offer| {
                    let machine = machine?;
                    listing(offer, machine, self.loads.get(&id))
                });
                self.list(offer, listing);
            }
        }
    }

    fn refresh_timers(&mut self, id: MachineId, machine: Option<&Machine>) {
        let idle = Load::default();
        let load = self.loads.get(&id).unwrap_or(&idle);
        let timers = machine
            .map(|m| timer::of_machine(&self.params, m, load))
            .unwrap_or_default();
        for old in self.machine_timers.remove(&id).unwrap_or_default() {
            self.timers.remove(&old);
        }
        self.timers.extend(timers.iter().copied());
        if !timers.is_empty() {
            self.machine_timers.insert(id, timers);
        }
    }

    fn list(&mut self, offer: OfferId, listing: Option<Listing>) {
        if self.listed.get(&offer) == listing.as_ref() {
            return;
        }
        if let Some(old) = self.listed.remove(&offer) {
            for bucket in old.buckets {
                let key = (old.tier, bucket);
                if let Some(places) = self.book.get_mut(&key) {
                    places.remove(&old.place);
                    if places.is_empty() {
                        self.book.remove(&key);
                    }
                }
            }
        }
        if let Some(new) = listing {
            for bucket in &new.buckets {
                let places = self.book.entry((new.tier, bucket.clone())).or_default();
                places.insert(new.place);
            }
            self.listed.insert(offer, new);
        }
    }

    fn count(&mut self, account: AccountId, had: bool, has: bool, of: fn(&mut Counts) -> &mut u32) {
        if had == has {
            return;
        }
        let counts = self.counts.entry(account).or_default();
        let count = of(counts);
        *count = if has {
            count.saturating_add(1)
        } else {
            count.saturating_sub(1)
        };
        if *counts == Counts::default() {
            self.counts.remove(&account);
        }
    }

    fn set_timer(&mut self, old: Option<timer::Set>, new: Option<timer::Set>) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&old);
        }
        self.timers.extend(new);
    }
}

macro_rules! lists {
    ($($name:ident: $set:ident, $owner:ty => $item:ident;)*) => {
        impl Index {
            $(
                /// Returns the items of this owner, in order.
                pub(crate) fn $name(&self, owner: $owner) -> impl Iterator<Item = $item> {
                    let from = (owner, first::$item());
                    self.$set.range(from..).take_while(move |(o, _)| *o == owner).map(|(_, i)| *i)
                }
            )*
        }
    };
}

lists! {
    signers_of: signers_of, AccountId => PublicKey;
    machines_of: machines_of, AccountId => MachineId;
    offers_of: offers_of, AccountId => OfferId;
    offers_on: offers_on, MachineId => OfferId;
    leases_by: leases_by, MachineId => LeaseId;
    bids_on: bids_on, OrderId => BidId;
    bids_by: bids_by, MachineId => BidId;
    holds_of: holds_of, AccountId => JobId;
    payables_of: payables_of, AccountId => LeaseId;
}

/// The least id of each kind: where a range over one owner's items begins.
#[expect(non_snake_case, reason = "named after the types, for the macro above")]
mod first {
    use crate::{codec, ids};

    macro_rules! first {
        ($($name:ident)*) => {
            $(pub(super) const fn $name() -> ids::$name {
                ids::$name::from_bytes([0; 16])
            })*
        };
    }

    first!(MachineId OfferId JobId BidId LeaseId);

    pub(super) const fn PublicKey() -> codec::PublicKey {
        codec::PublicKey::from_bytes([0; 32])
    }
}

impl Index {
    /// Returns an account's jobs, oldest first.
    pub(crate) fn jobs_of(&self, owner: AccountId) -> impl Iterator<Item = JobId> {
        let range = self.jobs_of.range((owner, 0, first::JobId())..);
        range.take_while(move |k| k.0 == owner).map(|k| k.2)
    }

    /// Returns a job's leases, oldest first.
    pub(crate) fn leases_of(&self, job: JobId) -> impl Iterator<Item = LeaseId> {
        let range = self.leases_of.range((job, 0, first::LeaseId())..);
        range.take_while(move |k| k.0 == job).map(|k| k.2)
    }
}

/// Replaces an entry of a set.
fn swap<T: Ord>(set: &mut BTreeSet<T>, old: Option<T>, new: Option<T>) {
    if old == new {
        return;
    }
    if let Some(old) = old {
        set.remove(&old);
    }
    set.extend(new);
}

impl Indexed for Account {
    fn reindex(_: &mut Index, _: Option<&Self>, _: Option<&Self>) {}
}

impl Indexed for Reference {
    fn reindex(_: &mut Index, _: Option<&Self>, _: Option<&Self>) {}
}

impl Indexed for Provider {
    fn reindex(_: &mut Index, _: Option<&Self>, _: Option<&Self>) {}
}

impl Indexed for Signer {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |s: &Self| (s.account, s.key);
        if old.map(entry) != new.map(entry) {
            // A key moves between accounts only when it was never used for another, so both sides are counted.
            if let Some(signer) = old {
                index.count(signer.account, true, false, |c| &mut c.signers);
            }
            if let Some(signer) = new {
                index.count(signer.account, false, true, |c| &mut c.signers);
            }
        }
        swap(&mut index.signers_of, old.map(entry), new.map(entry));
    }
}

impl Indexed for Redemption {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let timer = |r: &Self| (Clock::Limit, r.returns_at, Timer::RedemptionReturn(r.id));
        index.set_timer(old.map(timer), new.map(timer));
    }
}

impl Indexed for Machine {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |m: &Self| (m.provider, m.id);
        swap(&mut index.machines_of, old.map(entry), new.map(entry));
        if let Some(m) = old.or(new) {
            index.count(m.provider, old.is_some(), new.is_some(), |c| {
                &mut c.machines
            });
            index.dirty.insert(m.id);
        }
    }
}

impl Indexed for Offer {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let timer = |o: &Self| (Clock::Block, o.terms.expires_at, Timer::OfferExpire(o.id));
        index.set_timer(old.map(timer), new.map(timer));
        let by_provider = |o: &Self| (o.provider, o.id);
        let by_machine = |o: &Self| (o.terms.machine, o.id);
        swap(
            &mut index.offers_of,
            old.map(by_provider),
            new.map(by_provider),
        );
        swap(
            &mut index.offers_on,
            old.map(by_machine),
            new.map(by_machine),
        );
        if let Some(o) = old.or(new) {
            index.count(o.provider, old.is_some(), new.is_some(), |c| &mut c.offers);
            index.dirty.insert(o.terms.machine);
            if new.is_none() {
                index.list(o.id, None);
            }
        }
    }
}

impl Indexed for Job {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |j: &Self| (j.tenant, j.seq, j.id);
        swap(&mut index.jobs_of, old.map(entry), new.map(entry));
        let timer = |index: &Index, j: &Self| match j.state {
            JobState::Ended { at, .. } => {
                let at = at.after(index.params.retention);
                Some((Clock::Block, at, Timer::JobForget(j.id)))
            }
            JobState::Open { .. } | JobState::Running { .. } => None,
        };
        let (was, is) = (
            old.and_then(|j| timer(index, j)),
            new.and_then(|j| timer(index, j)),
        );
        index.set_timer(was, is);
        let live = |j: &Self| !matches!(j.state, JobState::Ended { .. });
        if let Some(j) = old.or(new) {
            let (had, has) = (old.is_some_and(live), new.is_some_and(live));
            index.count(j.tenant, had, has, |c| &mut c.jobs);
        }
    }
}

impl Indexed for Order {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        // An order that was never compared is compared first, even if it waits for no time at all.
        let timer = |o: &Self| {
            o.waiting
                .then_some((Clock::Block, o.expires_at, Timer::OrderExpire(o.id)))
        };
        index.set_timer(old.and_then(timer), new.and_then(timer));
        let closing = |o: &Self| (!o.waiting).then_some((o.closes_at, o.seq, o.id));
        let waiting = |o: &Self| o.waiting.then_some((o.seq, o.id));
        swap(
            &mut index.closing,
            old.and_then(closing),
            new.and_then(closing),
        );
        swap(
            &mut index.waiting,
            old.and_then(waiting),
            new.and_then(waiting),
        );
    }
}

impl Indexed for Bid {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let by_order = |b: &Self| (b.terms.order, b.id);
        let by_machine = |b: &Self| (b.terms.machine, b.id);
        swap(&mut index.bids_on, old.map(by_order), new.map(by_order));
        swap(&mut index.bids_by, old.map(by_machine), new.map(by_machine));
        if let Some(b) = old.or(new) {
            index.count(b.provider, old.is_some(), new.is_some(), |c| &mut c.bids);
        }
    }
}

impl Indexed for Hold {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |h: &Self| (h.tenant, h.job);
        swap(&mut index.holds_of, old.map(entry), new.map(entry));
    }
}

impl Indexed for Payable {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |p: &Self| (p.provider, p.lease);
        swap(&mut index.payables_of, old.map(entry), new.map(entry));
        let timer = |p: &Self| (Clock::Block, p.due, Timer::PayableDue(p.lease));
        index.set_timer(old.map(timer), new.map(timer));
    }
}

impl Indexed for Lease {
    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |l: &Self| (l.job, l.seq, l.id);
        swap(&mut index.leases_of, old.map(entry), new.map(entry));
        let by_machine = |l: &Self| (l.machine, l.id);
        swap(
            &mut index.leases_by,
            old.map(by_machine),
            new.map(by_machine),
        );
        for old in old
            .map(|l| timer::of_lease(&index.params, l))
            .into_iter()
            .flatten()
        {
            index.timers.remove(&old);
        }
        let timers = new.map(|l| timer::of_lease(&index.params, l));
        index.timers.extend(timers.into_iter().flatten());
        let pair = |l: &Self| l.is_live().then_some((l.tenant, l.provider));
        index.concentrate(old.and_then(pair), new.and_then(pair));
        if old.map(Weight::of) != new.map(Weight::of)
            && let Some(l) = old.or(new)
        {
            let load = index.loads.entry(l.machine).or_default();
            if let Some(old) = old {
                load.shrink(old);
            }
            if let Some(new) = new {
                load.grow(new);
            }
            if *load == Load::default() {
                index.loads.remove(&l.machine);
            }
            index.dirty.insert(l.machine);
        }
    }
}

impl Index {
    fn concentrate(
        &mut self,
        old: Option<(AccountId, AccountId)>,
        new: Option<(AccountId, AccountId)>,
    ) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            let left = self
                .concentration
                .get(&old)
                .map_or(0, |n| n.saturating_sub(1));
            if left == 0 {
                self.concentration.remove(&old);
            } else {
                self.concentration.insert(old, left);
            }
        }
        if let Some(new) = new {
            let n = self.concentration.entry(new).or_default();
            *n = n.saturating_add(1);
        }
    }
}

/// Returns whether a machine takes leases now.
pub(crate) fn is_online(machine: &Machine, load: Option<&Load>) -> bool {
    machine.state == MachineState::Active
        && machine.last_beat.is_some()
        && load.is_none_or(|l| l.suspect == 0)
}

/// Returns how the book lists an offer; `None` when its machine is not online or all its devices are in use.
fn listing(offer: &Offer, machine: &Machine, load: Option<&Load>) -> Option<Listing> {
    let used = load.map_or(0, |l| l.devices);
    let free = device_bits(&offer.terms.devices) & !used;
    if !is_online(machine, load) || free == 0 {
        return None;
    }
    let named = offer.terms.devices.iter();
    let devices = named.filter_map(|d| machine.spec.devices.get(usize::from(*d)));
    let buckets = devices
        .flat_map(|d| [Bucket::Class(d.class), Bucket::Model(d.model.clone())])
        .collect();
    Some(Listing {
        tier: offer.terms.tier,
        buckets,
        place: (offer.terms.prices.per_device_hour, offer.seq, offer.id),
    })
}
