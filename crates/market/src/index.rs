//! What is derived from the records, so that nothing scans: lists, timers, loads of machines and the book of offers.
//!
//! Everything in an [`Index`] is a function of the records alone, whatever the order in which they were written:
//! rebuilt after a restart it equals the lived one. Lists change as a row changes ([`Indexed`]). The book and the timers
//! of a machine depend on several records; their machine is marked and brought up to date by [`Index::refresh`].

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    codec::PublicKey,
    glance::{Glance, offered},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId},
    load::{Load, Weight, device_bits},
    params::Params,
    records::{
        Account, Bid, Hold, Job, JobState, Lease, Machine, MachineState, Offer, Order, Payable,
        Provider, Redemption, Signer,
    },
    rows::{Reference, Tables},
    timer::{self, Clock, Timer},
    tx::{Device, DeviceClass, Name, Tier},
    units::{Rate, Timestamp},
};

/// A row that keeps its part of the index.
pub(crate) trait Indexed: Sized {
    /// What the index must know of a row that was replaced.
    type Marks;

    /// Returns the row's marks.
    fn marks(&self) -> Self::Marks;
    /// Brings the index from the row that `old` is of to `new`.
    fn reindex(index: &mut Index, old: Option<&Self::Marks>, new: Option<&Self>);
}

/// Where the book keeps an offer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bucket {
    /// Every device of a class.
    Class(DeviceClass),
    /// One model.
    Model(Name),
    /// One provider.
    Provider(AccountId),
}

/// How an offer is listed in the book.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listing {
    tier: Tier,
    buckets: BTreeSet<Bucket>,
    place: Place,
    glance: Glance,
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
    machine_timers: BTreeMap<MachineId, timer::Pair>,
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
    book: BTreeMap<(Tier, Bucket), BTreeMap<Place, Glance>>,
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
    pub(crate) fn listed(&self, tier: Tier, bucket: Bucket) -> Option<&BTreeMap<Place, Glance>> {
        self.book.get(&(tier, bucket))
    }

    /// Brings the book and the machines' timers up to date with the records.
    pub(crate) fn refresh(&mut self, tables: &Tables) {
        while let Some(id) = self.dirty.pop_first() {
            let machine = tables.machines.get(id);
            self.refresh_timers(id, machine);
            let offers: Vec<OfferId> = self.offers_on(id).collect();
            for offer in offers {
                match (tables.offers.get(offer), machine) {
                    (Some(offer), Some(machine)) => self.relist(offer, machine),
                    _ => self.unlist(offer),
                }
            }
        }
    }

    fn refresh_timers(&mut self, id: MachineId, machine: Option<&Machine>) {
        let idle = Load::default();
        let load = self.loads.get(&id).unwrap_or(&idle);
        let new = machine.map_or([None; 2], |m| timer::of_machine(&self.params, m, load));
        let old = if new == [None; 2] {
            self.machine_timers.remove(&id)
        } else {
            self.machine_timers.insert(id, new)
        };
        self.set_timers(old.unwrap_or([None; 2]), new);
    }

    /// Brings an offer's listing up to date.
    fn relist(&mut self, offer: &Offer, machine: &Machine) {
        let Some(glance) = glance(offer, machine, self.loads.get(&machine.id)) else {
            return self.unlist(offer.id);
        };
        let place = (offer.terms.prices.per_device_hour, offer.seq, offer.id);
        if let Some(listed) = self.listed.get_mut(&offer.id)
            && listed.tier == offer.terms.tier
            && listed.place == place
            && are_buckets(&listed.buckets, offer, machine)
        {
            if listed.glance != glance {
                listed.glance = glance;
                for bucket in &listed.buckets {
                    let places = self.book.get_mut(&(listed.tier, bucket.clone()));
                    places.and_then(|places| places.insert(place, glance));
                }
            }
            return;
        }
        self.unlist(offer.id);
        let buckets: BTreeSet<Bucket> = buckets(offer, machine).collect();
        for bucket in &buckets {
            let places = self.book.entry((offer.terms.tier, bucket.clone()));
            places.or_default().insert(place, glance);
        }
        let tier = offer.terms.tier;
        let listing = Listing {
            tier,
            buckets,
            place,
            glance,
        };
        self.listed.insert(offer.id, listing);
    }

    fn unlist(&mut self, offer: OfferId) {
        let Some(old) = self.listed.remove(&offer) else {
            return;
        };
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

    fn set_timers(&mut self, old: timer::Pair, new: timer::Pair) {
        for gone in old.iter().flatten().filter(|t| !new.contains(&Some(**t))) {
            self.timers.remove(gone);
        }
        for set in new.iter().flatten().filter(|t| !old.contains(&Some(**t))) {
            self.timers.insert(*set);
        }
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
    type Marks = ();

    fn marks(&self) {}

    fn reindex(_: &mut Index, _: Option<&()>, _: Option<&Self>) {}
}

impl Indexed for Reference {
    type Marks = ();

    fn marks(&self) {}

    fn reindex(_: &mut Index, _: Option<&()>, _: Option<&Self>) {}
}

impl Indexed for Provider {
    type Marks = ();

    fn marks(&self) {}

    fn reindex(_: &mut Index, _: Option<&()>, _: Option<&Self>) {}
}

impl Indexed for Signer {
    type Marks = (AccountId, PublicKey);

    fn marks(&self) -> Self::Marks {
        (self.account, self.key)
    }

    fn reindex(index: &mut Index, old: Option<&Self::Marks>, new: Option<&Self>) {
        let (old, new) = (old.copied(), new.map(Self::marks));
        if old == new {
            return;
        }
        // A key moves between accounts only when it was never used for another, so both sides are counted.
        if let Some((account, _)) = old {
            index.count(account, true, false, |c| &mut c.signers);
        }
        if let Some((account, _)) = new {
            index.count(account, false, true, |c| &mut c.signers);
        }
        swap(&mut index.signers_of, old, new);
    }
}

impl Indexed for Redemption {
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let timer = |r: &Self| (Clock::Limit, r.returns_at, Timer::RedemptionReturn(r.id));
        index.set_timer(old.map(timer), new.map(timer));
    }
}

impl Indexed for Machine {
    type Marks = (AccountId, MachineId);

    fn marks(&self) -> Self::Marks {
        (self.provider, self.id)
    }

    fn reindex(index: &mut Index, old: Option<&Self::Marks>, new: Option<&Self>) {
        let (old, new) = (old.copied(), new.map(Self::marks));
        swap(&mut index.machines_of, old, new);
        if let Some((provider, id)) = old.or(new) {
            index.count(provider, old.is_some(), new.is_some(), |c| &mut c.machines);
            index.dirty.insert(id);
        }
    }
}

impl Indexed for Offer {
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

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
                index.unlist(o.id);
            }
        }
    }
}

/// What the index knows of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobMarks {
    entry: (AccountId, u64, JobId),
    ended_at: Option<Timestamp>,
}

impl Indexed for Job {
    type Marks = JobMarks;

    fn marks(&self) -> JobMarks {
        JobMarks {
            entry: (self.tenant, self.seq, self.id),
            ended_at: match self.state {
                JobState::Ended { at, .. } => Some(at),
                JobState::Open { .. } | JobState::Running { .. } => None,
            },
        }
    }

    fn reindex(index: &mut Index, old: Option<&JobMarks>, new: Option<&Self>) {
        let (old, new) = (old.copied(), new.map(Self::marks));
        if old == new {
            return;
        }
        let entry = |marks: JobMarks| marks.entry;
        swap(&mut index.jobs_of, old.map(entry), new.map(entry));
        let retention = index.params.retention;
        let timer = |marks: JobMarks| {
            let at = marks.ended_at?.after(retention);
            Some((Clock::Block, at, Timer::JobForget(marks.entry.2)))
        };
        index.set_timer(old.and_then(timer), new.and_then(timer));
        let live = |marks: JobMarks| marks.ended_at.is_none();
        if let Some(marks) = old.or(new) {
            let (had, has) = (old.is_some_and(live), new.is_some_and(live));
            index.count(marks.entry.0, had, has, |c| &mut c.jobs);
        }
    }
}

impl Indexed for Order {
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

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
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

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
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |h: &Self| (h.tenant, h.job);
        swap(&mut index.holds_of, old.map(entry), new.map(entry));
    }
}

impl Indexed for Payable {
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |p: &Self| (p.provider, p.lease);
        swap(&mut index.payables_of, old.map(entry), new.map(entry));
        let timer = |p: &Self| (Clock::Block, p.due, Timer::PayableDue(p.lease));
        index.set_timer(old.map(timer), new.map(timer));
    }
}

impl Indexed for Lease {
    type Marks = Self;

    fn marks(&self) -> Self {
        self.clone()
    }

    fn reindex(index: &mut Index, old: Option<&Self>, new: Option<&Self>) {
        let entry = |l: &Self| (l.job, l.seq, l.id);
        swap(&mut index.leases_of, old.map(entry), new.map(entry));
        let by_machine = |l: &Self| (l.machine, l.id);
        swap(
            &mut index.leases_by,
            old.map(by_machine),
            new.map(by_machine),
        );
        let timers = |index: &Index, l: Option<&Self>| {
            l.map_or([None; 2], |l| timer::of_lease(&index.params, l))
        };
        let (was, is) = (timers(index, old), timers(index, new));
        index.set_timers(was, is);
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

/// Returns what the book says of an offer; `None` when its machine is not online or all its devices are in use.
fn glance(offer: &Offer, machine: &Machine, load: Option<&Load>) -> Option<Glance> {
    let used = load.map_or(0, |l| l.devices);
    let free = device_bits(&offer.terms.devices) & !used;
    if !is_online(machine, load) || free == 0 {
        return None;
    }
    Some(Glance::of(offer, machine, load, free))
}

/// Returns the buckets of an offer; some may come more than once.
fn buckets<'a>(offer: &'a Offer, machine: &'a Machine) -> impl Iterator<Item = Bucket> + 'a {
    let kinds = offered(offer, machine)
        .flat_map(|d| [Bucket::Class(d.class), Bucket::Model(d.model.clone())]);
    kinds.chain([Bucket::Provider(offer.provider)])
}

/// Returns whether these are the buckets of an offer; makes no copies, because nearly always they are.
fn are_buckets(all: &BTreeSet<Bucket>, offer: &Offer, machine: &Machine) -> bool {
    let is_of = |bucket: &Bucket, device: &Device| match bucket {
        Bucket::Class(class) => *class == device.class,
        Bucket::Model(model) => *model == device.model,
        Bucket::Provider(_) => false,
    };
    let devices = || offered(offer, machine);
    let needed = all.iter().all(|bucket| match bucket {
        Bucket::Provider(provider) => *provider == offer.provider,
        Bucket::Class(_) | Bucket::Model(_) => devices().any(|d| is_of(bucket, d)),
    });
    // A device is in the bucket of its class and in that of its model.
    needed && devices().all(|d| all.iter().filter(|bucket| is_of(bucket, d)).count() == 2)
}
