//! [`Market`]: the tables with their journal and index, and every read-only query.
//!
//! Parts: making one (genesis, load), moving between blocks (undo, absorb), queries. Running blocks is in
//! [`apply`](crate::apply).

use std::collections::{BTreeMap, VecDeque};

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    apply::BlockCtx,
    codec::{PublicKey, TxId, encode},
    event::{Event, EventKind},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId},
    index::Index,
    params::{Genesis, NetworkName, Params},
    records::{
        Account, Bid, Bill, Hold, Job, Lease, Machine, Offer, Order, Payable, Provider, Record,
        RecordId, RecordKey, Redemption, Retry, Signer, System,
    },
    rows::{Stored, Tables, TablesBefore},
    timer::Clock,
    tx::KeyRole,
    units::{BasisPoints, Height, Millis, Money, Timestamp},
};

/// Most blocks whose undo data is kept; a node that has not finalized for longer than this is beyond repair by undo.
const UNDO_BLOCKS_MAX: usize = 4_096;

/// The exchange: every record, what is derived from them, and how to get back to earlier blocks.
#[derive(Clone, Debug)]
pub struct Market {
    pub(crate) system: System,
    pub(crate) tables: Tables,
    pub(crate) index: Index,
    pub(crate) out: Out,
    undo: VecDeque<Undo>,
    /// Names of the records by key, needed to absorb removals; made at the first one.
    names: Option<BTreeMap<RecordKey, RecordId>>,
}

/// What the block under way has announced.
#[derive(Clone, Debug, Default)]
pub(crate) struct Out {
    pub(crate) events: Vec<Event>,
    pub(crate) cause: Option<TxId>,
    /// Time of the block before.
    pub(crate) parent_time: Timestamp,
}

#[derive(Clone, Debug)]
struct Undo {
    height: Height,
    system: System,
    rows: TablesBefore,
}

/// What a block changed: each record's key and new encoding (`None`: removed), sorted by key.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChangeSet(pub Vec<(RecordKey, Option<Vec<u8>>)>);

/// A network cannot start from this genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Nobody could ever issue a dollar.
    #[error("genesis names no treasurer")]
    NoTreasurer,
    /// A treasurer is named twice.
    #[error("genesis names a treasurer twice")]
    TreasurerTwice,
    /// A tunable is out of its range.
    #[error("genesis parameter {0} is out of its range")]
    Param(&'static str),
}

/// Records that are no market.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Bytes that are no record.
    #[error("record {0:?} does not decode")]
    Malformed(RecordKey),
    /// A record under another record's key.
    #[error("record {0:?} is not stored under its own key")]
    WrongKey(RecordKey),
    /// The same record twice.
    #[error("record {0:?} comes twice")]
    Twice(RecordKey),
    /// The system record is missing.
    #[error("the system record is missing")]
    NoSystem,
    /// A removal of a record that is not there.
    #[error("record {0:?} is removed but not there")]
    Unknown(RecordKey),
    /// The changes are not those of the next block.
    #[error("the changes are those of another block")]
    WrongBlock,
}

impl Market {
    /// Makes the market of block 0.
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        check_params(&genesis.params)?;
        if genesis.treasurers.is_empty() {
            return Err(GenesisError::NoTreasurer);
        }
        let mut market = Self::bare(System {
            network: genesis.network.clone(),
            params: genesis.params.clone(),
            treasurers: genesis.treasurers.clone(),
            height: Height::ZERO,
            time: genesis.time,
            next_seq: 0,
            next_event: 0,
            issued: Money::ZERO,
            fees: Money::ZERO,
            insurance: Money::ZERO,
            gap_total: Millis::ZERO,
            last_gap: None,
            retry: Retry::default(),
        });
        for key in &genesis.treasurers {
            if market.get::<Signer>(*key).is_some() {
                return Err(GenesisError::TreasurerTwice);
            }
            market.open_account(AccountId::of(*key), KeyRole::Treasurer);
        }
        market.out = Out::default();
        market.system.next_event = 0;
        drop(market.tables.seal());
        Ok(market)
    }

    fn bare(system: System) -> Self {
        let index = Index::new(system.params.clone());
        Self {
            system,
            tables: Tables::default(),
            index,
            out: Out::default(),
            undo: VecDeque::new(),
            names: None,
        }
    }

    /// Makes a market from stored records, in any order.
    pub fn load(
        records: impl IntoIterator<Item = (RecordKey, Vec<u8>)>,
    ) -> Result<Self, LoadError> {
        let mut rows = Vec::new();
        for (key, bytes) in records {
            rows.push((key, decode(key, &bytes)?));
        }
        let system_key = RecordId::System.key();
        let system = rows.iter().find(|(key, _)| *key == system_key);
        let Some((_, Record::System(system))) = system else {
            return Err(LoadError::NoSystem);
        };
        let mut market = Self::bare(System::clone(system));
        let mut seen = std::collections::BTreeSet::new();
        for (key, record) in rows {
            if !seen.insert(key) {
                return Err(LoadError::Twice(key));
            }
            market.tables.write_record(&mut market.index, record);
        }
        drop(market.tables.seal());
        market.index.refresh(&market.tables);
        Ok(market)
    }

    /// Returns every record as it is stored.
    pub fn records(&self) -> impl Iterator<Item = (RecordKey, Vec<u8>)> {
        let system = std::iter::once(Record::System(Box::new(self.system.clone())));
        let all = system.chain(self.tables.records());
        all.map(|record| (record.id().key(), encode(&record)))
    }

    /// Takes back the last block; `false` when none is kept.
    pub fn undo_block(&mut self) -> bool {
        let Some(undo) = self.undo.pop_back() else {
            return false;
        };
        self.roll_back(undo.system, undo.rows);
        true
    }

    /// Forgets how to undo blocks below `height`.
    pub fn forget_before(&mut self, height: Height) {
        while self.undo.front().is_some_and(|u| u.height < height) {
            self.undo.pop_front();
        }
    }

    /// Brings the market over a block that another executed, from what the block changed. It can be undone.
    pub fn absorb(&mut self, ctx: &BlockCtx, changes: &ChangeSet) -> Result<(), LoadError> {
        let mut writes = Vec::new();
        for (key, bytes) in &changes.0 {
            match bytes {
                Some(bytes) => writes.push((None, Some(decode(*key, bytes)?))),
                None => writes.push((Some(self.name(*key)?), None)),
            }
        }
        let system = writes.iter().find_map(|(_, r)| match r {
            Some(Record::System(system)) => Some(system),
            _ => None,
        });
        let system = *system.ok_or(LoadError::NoSystem)?.clone();
        if system.height != ctx.height
            || system.time != ctx.time
            || ctx.height != self.height().next()
        {
            return Err(LoadError::WrongBlock);
        }
        let before = std::mem::replace(&mut self.system, system);
        for (name, record) in writes {
            if let Some(name) = name {
                self.tables.remove(&mut self.index, &name);
            }
            if let Some(record) = record {
                self.tables.write_record(&mut self.index, record);
            }
        }
        self.index.refresh(&self.tables);
        self.seal(before);
        Ok(())
    }

    /// Ends a block: files its journal and returns what it changed.
    pub(crate) fn seal(&mut self, system_before: System) -> ChangeSet {
        let (rows, changed) = self.tables.seal();
        let mut changes = Vec::with_capacity(changed.len().saturating_add(1));
        for (id, bytes) in changed {
            let key = id.key();
            if let Some(names) = &mut self.names {
                match &bytes {
                    Some(_) => names.insert(key, id),
                    None => names.remove(&key),
                };
            }
            changes.push((key, bytes));
        }
        if self.system != system_before {
            let record = Record::System(Box::new(self.system.clone()));
            changes.push((RecordId::System.key(), Some(encode(&record))));
        }
        // The first word of two hashes nearly always decides, without a call.
        changes.sort_unstable_by(|(a, _), (b, _)| {
            first_word(a).cmp(&first_word(b)).then_with(|| a.cmp(b))
        });
        self.undo.push_back(Undo {
            height: self.system.height,
            system: system_before,
            rows,
        });
        if self.undo.len() > UNDO_BLOCKS_MAX {
            self.undo.pop_front();
        }
        ChangeSet(changes)
    }

    /// Takes back a block that was not sealed.
    pub(crate) fn abandon(&mut self, system_before: System) {
        let (rows, _) = self.tables.seal();
        self.roll_back(system_before, rows);
    }

    fn roll_back(&mut self, system: System, rows: TablesBefore) {
        self.system = system;
        self.out = Out::default();
        let changed = self.names.is_some().then(|| rows.names());
        self.tables.restore(&mut self.index, rows);
        self.index.refresh(&self.tables);
        let (Some(names), Some(changed)) = (&mut self.names, changed) else {
            return;
        };
        // What the block removed came back, what it made went.
        for id in changed {
            match self.tables.record(&id) {
                Some(_) => names.insert(id.key(), id),
                None => names.remove(&id.key()),
            };
        }
    }

    fn name(&mut self, key: RecordKey) -> Result<RecordId, LoadError> {
        let tables = &self.tables;
        let names = self.names.get_or_insert_with(|| {
            let ids = tables.records().map(|r| r.id());
            ids.map(|id| (id.key(), id)).collect()
        });
        names.get(&key).copied().ok_or(LoadError::Unknown(key))
    }
}

fn decode(key: RecordKey, bytes: &[u8]) -> Result<Record, LoadError> {
    let record: Record = borsh::from_slice(bytes).map_err(|_| LoadError::Malformed(key))?;
    if record.id().key() == key {
        Ok(record)
    } else {
        Err(LoadError::WrongKey(key))
    }
}

fn check_params(params: &Params) -> Result<(), GenesisError> {
    let checks = [
        ("fee", params.fee <= BasisPoints::from_bps(10_000)),
        ("beat_leased", !params.beat_leased.is_zero()),
        ("suspect_after", params.suspect_after >= params.beat_leased),
        ("lost_after", params.lost_after >= params.suspect_after),
        ("heartbeat", !params.heartbeat.is_zero()),
        ("start_bandwidth_floor", params.start_bandwidth_floor > 0),
        ("first_deposit_min", !params.first_deposit_min.is_zero()),
    ];
    match checks.iter().find(|(_, good)| !good) {
        Some((name, _)) => Err(GenesisError::Param(name)),
        None => Ok(()),
    }
}

/// Reading and writing rows, for the handlers.
impl Market {
    pub(crate) fn get<R: Stored>(&self, key: R::Key) -> Option<&R> {
        R::table(&self.tables).get(key)
    }

    pub(crate) fn put<R: Stored>(&mut self, row: R) {
        self.tables.put(&mut self.index, row);
    }

    pub(crate) fn delete<R: Stored>(&mut self, key: R::Key) {
        self.tables.delete::<R>(&mut self.index, key);
    }

    /// Changes a row that the caller knows is there.
    pub(crate) fn edit<R: Stored>(&mut self, key: R::Key, change: impl FnOnce(&mut R)) {
        let edited = self.tables.edit(&mut self.index, key, change);
        edited.expect("the handler checked that the row exists");
    }

    pub(crate) fn emit(&mut self, kind: EventKind) {
        let seq = self.system.next_event;
        self.system.next_event = seq.saturating_add(1);
        self.out.events.push(Event {
            seq,
            height: self.system.height,
            time: self.system.time,
            cause: self.out.cause,
            kind,
        });
    }

    /// Returns the next number of the ledger-wide creation order.
    pub(crate) fn next_seq(&mut self) -> u64 {
        let seq = self.system.next_seq;
        self.system.next_seq = seq.saturating_add(1);
        seq
    }

    /// Returns chain time: block time without gaps.
    pub(crate) fn chain_now(&self) -> Timestamp {
        self.system.time.before(self.system.gap_total)
    }

    /// Returns the block time at which a timer comes due.
    pub(crate) fn due(&self, clock: Clock, at: Timestamp) -> Timestamp {
        match clock {
            Clock::Block => at,
            Clock::Chain => at.after(self.system.gap_total),
            Clock::Limit => {
                let grace_end = |(_, to): (Timestamp, Timestamp)| to.after(self.params().gap_grace);
                self.system
                    .last_gap
                    .map_or(at, |gap| at.max(grace_end(gap)))
            }
        }
    }

    /// Brings the book up to date with the records.
    pub(crate) fn refresh(&mut self) {
        self.index.refresh(&self.tables);
    }
}

/// Queries; all cheap.
impl Market {
    /// Returns the last block's number.
    pub const fn height(&self) -> Height {
        self.system.height
    }

    /// Returns the last block's time.
    pub const fn time(&self) -> Timestamp {
        self.system.time
    }

    /// Returns the network's name.
    pub const fn network(&self) -> &NetworkName {
        &self.system.network
    }

    /// Returns the tunables.
    pub const fn params(&self) -> &Params {
        &self.system.params
    }

    /// Returns the record of what belongs to nobody.
    pub const fn system(&self) -> &System {
        &self.system
    }

    /// Returns the block time at which `end_block` next has work.
    pub fn next_due(&self) -> Option<Timestamp> {
        if self.system.retry.from.is_some() {
            return Some(self.system.time);
        }
        let timers = [Clock::Block, Clock::Limit, Clock::Chain];
        let timers = timers.into_iter().filter_map(|clock| {
            let (at, _) = self.index.first(clock)?;
            Some(self.due(clock, at))
        });
        let closing = self.index.closing.first().map(|(at, _, _)| *at);
        timers.chain(closing).min()
    }

    /// Returns the record with this name.
    pub fn record(&self, id: &RecordId) -> Option<Record> {
        if *id == RecordId::System {
            return Some(Record::System(Box::new(self.system.clone())));
        }
        self.tables.record(id)
    }

    /// Returns an account.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.get(id)
    }

    /// Returns a signing key.
    pub fn signer(&self, key: &PublicKey) -> Option<&Signer> {
        self.get(*key)
    }

    /// Returns a redemption under way.
    pub fn redemption(&self, id: crate::ids::RedemptionId) -> Option<&Redemption> {
        self.get(id)
    }

    /// Returns every redemption under way, by id.
    pub fn redemptions(&self) -> impl Iterator<Item = &Redemption> {
        self.tables.redemptions.iter()
    }

    /// Returns a provider.
    pub fn provider(&self, account: AccountId) -> Option<&Provider> {
        self.get(account)
    }

    /// Returns a machine.
    pub fn machine(&self, id: MachineId) -> Option<&Machine> {
        self.get(id)
    }

    /// Returns a standing offer.
    pub fn offer(&self, id: OfferId) -> Option<&Offer> {
        self.get(id)
    }

    /// Returns a job, until some time after its end.
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.get(id)
    }

    /// Returns an order in the book.
    pub fn order(&self, id: OrderId) -> Option<&Order> {
        self.get(id)
    }

    /// Returns a live bid.
    pub fn bid(&self, id: BidId) -> Option<&Bid> {
        self.get(id)
    }

    /// Returns a lease, until some time after its end.
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.get(id)
    }

    /// Returns the escrow of a job.
    pub fn hold(&self, job: JobId) -> Option<&Hold> {
        self.get(job)
    }

    /// Returns what a lease earned and is not yet paid.
    pub fn payable(&self, lease: LeaseId) -> Option<&Payable> {
        self.get(lease)
    }

    /// Returns every standing offer, by id.
    pub fn offers(&self) -> impl Iterator<Item = &Offer> {
        self.tables.offers.iter()
    }

    /// Returns every account, by id.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.tables.accounts.iter()
    }

    /// Returns every provider, by account.
    pub fn providers(&self) -> impl Iterator<Item = &Provider> {
        self.tables.providers.iter()
    }

    /// Returns every machine, by id.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.tables.machines.iter()
    }

    /// Returns every lease in the live state, by id.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.tables.leases.iter()
    }

    /// Returns every order in the book, by id.
    pub fn orders_open(&self) -> impl Iterator<Item = &Order> {
        self.tables.orders.iter()
    }

    /// Returns every job in the live state, by id.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.tables.jobs.iter()
    }

    /// Returns an account's jobs, oldest first.
    pub fn jobs_of(&self, account: AccountId) -> impl Iterator<Item = &Job> {
        self.index.jobs_of(account).filter_map(|id| self.job(id))
    }

    /// Returns a job's leases, oldest first.
    pub fn leases_of_job(&self, job: JobId) -> impl Iterator<Item = &Lease> {
        self.index.leases_of(job).filter_map(|id| self.lease(id))
    }

    /// Returns a machine's live leases.
    pub fn leases_on(&self, machine: MachineId) -> impl Iterator<Item = &Lease> {
        let load = self.index.load(machine);
        let ids = load.into_iter().flat_map(|l| l.leases.iter());
        ids.filter_map(|id| self.lease(*id))
    }

    /// Returns a provider's machines.
    pub fn machines_of(&self, provider: AccountId) -> impl Iterator<Item = &Machine> {
        let ids = self.index.machines_of(provider);
        ids.filter_map(|id| self.machine(id))
    }

    /// Returns a provider's standing offers.
    pub fn offers_of(&self, provider: AccountId) -> impl Iterator<Item = &Offer> {
        let ids = self.index.offers_of(provider);
        ids.filter_map(|id| self.offer(id))
    }

    /// Returns a machine's standing offers.
    pub fn offers_on(&self, machine: MachineId) -> impl Iterator<Item = &Offer> {
        let ids = self.index.offers_on(machine);
        ids.filter_map(|id| self.offer(id))
    }

    /// Returns the live bids on an order.
    pub fn bids_on(&self, order: OrderId) -> impl Iterator<Item = &Bid> {
        self.index.bids_on(order).filter_map(|id| self.bid(id))
    }

    /// Returns the keys that may act for an account, its own first or later among them.
    pub fn signers_of(&self, account: AccountId) -> impl Iterator<Item = &Signer> {
        let keys = self.index.signers_of(account);
        keys.filter_map(|key| self.get(key))
    }

    /// Returns the escrows of an account's jobs.
    pub fn holds_of(&self, account: AccountId) -> impl Iterator<Item = &Hold> {
        self.index
            .holds_of(account)
            .filter_map(|job| self.hold(job))
    }

    /// Returns what a provider has earned and is not yet paid.
    pub fn payables_of(&self, account: AccountId) -> impl Iterator<Item = &Payable> {
        let leases = self.index.payables_of(account);
        leases.filter_map(|lease| self.payable(lease))
    }

    /// Returns whether a machine takes leases now: active, beating, none of its leases suspect.
    pub fn is_online(&self, machine: MachineId) -> bool {
        let found = self.machine(machine);
        found.is_some_and(|m| crate::index::is_online(m, self.index.load(machine)))
    }

    /// Returns the bill of a lease if it ended at `at`; its final bill once it has ended.
    pub fn charge_now(&self, lease: &Lease, at: Timestamp) -> Bill {
        crate::money::settle::bill_at(self, lease, at)
    }
}

/// Returns a key's first eight bytes as a number, which orders keys as their bytes do.
fn first_word(key: &RecordKey) -> u64 {
    key.0
        .first_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
