//! What is on the ledger: one record type per table, as it is stored, proven and shown.
//!
//! A record's place in the authenticated store is [`RecordKey`]: `SHA-256("tradewind/record/v1" ‖ table ‖ id)`; its value
//! is the canonical encoding of [`Record`], so that a proof shows table, id and content at once.

use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    codec::{Digest, PublicKey, encode},
    event::LeasePhase,
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    params::{NetworkName, Params},
    tx::{BidTerms, JobSpec, KeyRole, MachineKeys, MachineSpec, Name, OfferTerms, Prices, Tier},
    units::{ByteSize, Height, MilliCpu, Millis, Money, Timestamp},
};

/// Place of a record in the authenticated store.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct RecordKey(pub [u8; 32]);

/// One stored record. New tables are appended: the position is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Record {
    /// The one record of what belongs to nobody.
    System(Box<System>),
    /// A signing key and its nonce.
    Signer(Signer),
    /// An account.
    Account(Account),
    /// An outside reference that was used.
    Reference(Digest),
    /// A redemption under way.
    Redemption(Redemption),
    /// A provider.
    Provider(Provider),
    /// A machine.
    Machine(Box<Machine>),
    /// A standing offer.
    Offer(Offer),
    /// A job.
    Job(Box<Job>),
    /// An order.
    Order(Order),
    /// A bid.
    Bid(Bid),
    /// A lease.
    Lease(Box<Lease>),
    /// The escrow of a job.
    Hold(Hold),
    /// Money that becomes a provider's when an audit window closes.
    Payable(Payable),
}

/// Names a record: its table and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum RecordId {
    /// The system record.
    System,
    /// A signer, by key.
    Signer(PublicKey),
    /// An account.
    Account(AccountId),
    /// A used reference.
    Reference(Digest),
    /// A redemption.
    Redemption(RedemptionId),
    /// A provider, by account.
    Provider(AccountId),
    /// A machine.
    Machine(MachineId),
    /// An offer.
    Offer(OfferId),
    /// A job.
    Job(JobId),
    /// An order.
    Order(OrderId),
    /// A bid.
    Bid(BidId),
    /// A lease.
    Lease(LeaseId),
    /// A hold, by job.
    Hold(JobId),
    /// A payable, by lease.
    Payable(LeaseId),
}

impl RecordId {
    /// Returns the record's place in the authenticated store.
    pub fn key(&self) -> RecordKey {
        RecordKey(Digest::of(&[b"tradewind/record/v1", &encode(self)]).0)
    }
}

impl Record {
    /// Returns the record's name.
    pub fn id(&self) -> RecordId {
        match self {
            Self::System(_) => RecordId::System,
            Self::Signer(r) => RecordId::Signer(r.key),
            Self::Account(r) => RecordId::Account(r.id),
            Self::Reference(r) => RecordId::Reference(*r),
            Self::Redemption(r) => RecordId::Redemption(r.id),
            Self::Provider(r) => RecordId::Provider(r.account),
            Self::Machine(r) => RecordId::Machine(r.id),
            Self::Offer(r) => RecordId::Offer(r.id),
            Self::Job(r) => RecordId::Job(r.id),
            Self::Order(r) => RecordId::Order(r.id),
            Self::Bid(r) => RecordId::Bid(r.id),
            Self::Lease(r) => RecordId::Lease(r.id),
            Self::Hold(r) => RecordId::Hold(r.job),
            Self::Payable(r) => RecordId::Payable(r.lease),
        }
    }
}

/// What belongs to nobody: the network's name, the tunables, counters and the pools.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct System {
    /// The network's name.
    pub network: NetworkName,
    /// The tunables.
    pub params: Params,
    /// Keys that may issue and redeem.
    pub treasurers: Vec<PublicKey>,
    /// The last block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// Next number of the ledger-wide creation order; ties in matching go to the older thing.
    pub next_seq: u64,
    /// Next event number.
    pub next_event: u64,
    /// Dollars issued minus dollars redeemed: what everything else must sum to.
    pub issued: Money,
    /// Fees taken.
    pub fees: Money,
    /// Forfeits that went to nobody in particular.
    pub insurance: Money,
    /// Total excess of block distances over the gap limit; chain time is block time minus this.
    pub gap_total: Millis,
    /// The last gap: block times before and after it. One within the grace after another continues it.
    pub last_gap: Option<(Timestamp, Timestamp)>,
    /// The pass over the waiting orders that is under way, because capacity may have appeared.
    pub retry: Retry,
}

/// A pass over the waiting orders, oldest first, bounded per block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Retry {
    /// Creation number from which the pass goes on; `None` when none is under way.
    pub from: Option<u64>,
    /// Whether capacity appeared since the pass began, so that another must follow.
    pub again: bool,
}

/// A signing key: whose it is, what it may do, and its next nonce.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signer {
    /// The key.
    pub key: PublicKey,
    /// The account that it acts for.
    pub account: AccountId,
    /// What it may do.
    pub role: KeyRole,
    /// How much it may commit to jobs in all.
    pub budget: Option<Money>,
    /// How much it has committed.
    pub committed: Money,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// Whether its authority was taken back.
    pub revoked: bool,
    /// The nonce of its next transaction.
    pub next_nonce: u64,
}

/// An account's balances. What jobs hold and machines bond is counted here too, so that one record shows all.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Account {
    /// Whose.
    pub id: AccountId,
    /// Free to use.
    pub available: Money,
    /// In escrow of its own jobs and redemptions; equals the sum of those records.
    pub held: Money,
    /// In its provider's bond.
    pub bonded: Money,
    /// Earned, but its audit window is open; equals the sum of its payables.
    pub locked: Money,
    /// When it was opened.
    pub opened_at: Timestamp,
}

/// A redemption under way.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Redemption {
    /// Its id.
    pub id: RedemptionId,
    /// Whose dollars.
    pub account: AccountId,
    /// Who shall pay.
    pub treasurer: PublicKey,
    /// How much.
    pub amount: Money,
    /// Salted digest of where to.
    pub destination: Digest,
    /// When it returns by itself.
    pub returns_at: Timestamp,
}

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Provider {
    /// Its account.
    pub account: AccountId,
    /// The name shown to tenants.
    pub name: Name,
    /// State.
    pub state: ProviderState,
    /// Bond reserved by live leases; at most the account's bonded money.
    pub reserved: Money,
    /// Leases that ended, and how many of them by this provider's fault.
    pub leases_ended: u64,
    /// See [`Provider::leases_ended`].
    pub leases_failed: u64,
}

/// A provider's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ProviderState {
    /// Takes leases.
    Active,
    /// Takes no new leases.
    Suspended,
    /// Is leaving; its bond returns when its last lease has settled.
    Leaving,
}

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Machine {
    /// Its id.
    pub id: MachineId,
    /// Creation order.
    pub seq: u64,
    /// Whose.
    pub provider: AccountId,
    /// Its keys.
    pub keys: MachineKeys,
    /// What it says of itself; shared, since each beat copies the record and none changes this.
    pub spec: Arc<MachineSpec>,
    /// State.
    pub state: MachineState,
    /// Number of its next beat.
    pub next_beat: u64,
    /// Link of its last beat.
    pub beat_link: Digest,
    /// Instant of its last beat; `None` until the first.
    pub last_beat: Option<Timestamp>,
    /// Chain time when its last beat arrived (block time minus the gap total then).
    pub last_beat_chain: Timestamp,
}

/// A machine's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum MachineState {
    /// Takes leases while it beats.
    Active,
    /// Takes no new leases; `evict_at` ends those that remain.
    Draining {
        /// When remaining leases end as drained.
        evict_at: Option<Timestamp>,
        /// When `evict_at` was announced.
        announced_at: Timestamp,
    },
    /// Missed its beats; takes no new leases until it beats again.
    Down,
    /// Gone; kept until its last lease has left the live state.
    Retired,
}

/// A standing offer.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Offer {
    /// Its id.
    pub id: OfferId,
    /// Creation order.
    pub seq: u64,
    /// Whose.
    pub provider: AccountId,
    /// The terms.
    pub terms: OfferTerms,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Creation order.
    pub seq: u64,
    /// Whose.
    pub tenant: AccountId,
    /// The key that opened it.
    pub opened_by: PublicKey,
    /// What is wanted, with top-ups added to the budget.
    pub spec: JobSpec,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Orders made so far; the number of the next one.
    pub orders: u32,
    /// Attempts used up by failing work.
    pub attempts_used: u16,
    /// Running time charged or counted so far, over all leases.
    pub ran: Millis,
    /// Charged so far, fee included.
    pub charged: Money,
    /// Machines that this job shall not meet again, with why; bounded by the list bound, oldest dropped.
    pub avoid: Vec<Avoid>,
    /// Owners that reported an image error or an early failed exit: a second one ends the job.
    pub doubted_by: Vec<AccountId>,
    /// State.
    pub state: JobState,
}

/// A machine that a job avoids.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Avoid {
    /// The machine.
    pub machine: MachineId,
    /// Its owner.
    pub provider: AccountId,
    /// Its failure domain, when that shall be avoided as a whole.
    pub domain: Option<Name>,
    /// The end reason that taught it.
    pub why: EndReason,
}

/// A job's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum JobState {
    /// An order waits in the book.
    Open {
        /// The order.
        order: OrderId,
    },
    /// A lease is live.
    Running {
        /// The lease.
        lease: LeaseId,
    },
    /// Final.
    Ended {
        /// Why.
        reason: JobEnd,
        /// When.
        at: Timestamp,
    },
}

/// Why a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum JobEnd {
    /// As its last lease.
    Lease(EndReason),
    /// No machine took it within its waiting time.
    NoMatch,
    /// Cancelled while no lease was live.
    Cancelled,
    /// What remains of the budget does not pay for another placement.
    BudgetReached,
}

/// An order: one placement that a job wants now.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Creation order: position in the book.
    pub seq: u64,
    /// Its job.
    pub job: JobId,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When bids are compared; before that it takes no standing offer.
    pub closes_at: Timestamp,
    /// When it leaves the book unplaced.
    pub expires_at: Timestamp,
    /// Most it pays per device-hour, from cap and remaining budget.
    pub price_cap: Prices,
    /// Whether it was compared since it closed and found no place: it waits for capacity.
    pub waiting: bool,
}

/// A live bid.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Bid {
    /// Its id.
    pub id: BidId,
    /// Creation order.
    pub seq: u64,
    /// Whose.
    pub provider: AccountId,
    /// The terms.
    pub terms: BidTerms,
}

/// What a lease was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LeaseSource {
    /// A standing offer.
    Offer(OfferId),
    /// A bid.
    Bid(BidId),
}

/// A lease. Its id is the fencing token of the workload.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// Creation order.
    pub seq: u64,
    /// Its job.
    pub job: JobId,
    /// The order that it placed.
    pub order: OrderId,
    /// Who pays.
    pub tenant: AccountId,
    /// Who is paid.
    pub provider: AccountId,
    /// Where.
    pub machine: MachineId,
    /// From which offer or bid.
    pub source: LeaseSource,
    /// The devices, by index.
    pub devices: Vec<u8>,
    /// Processor time given.
    pub cpu: MilliCpu,
    /// Memory given.
    pub memory: ByteSize,
    /// Disk given.
    pub disk: ByteSize,
    /// How firmly.
    pub tier: Tier,
    /// At what prices.
    pub prices: Prices,
    /// Notice before a spot lease is taken back.
    pub preempt_notice: Millis,
    /// Bond reserved for it.
    pub collateral: Money,
    /// Most that this lease may cost, fixed at award and raised by top-ups: what the hold had left.
    pub funds: Money,
    /// Longest running time, fixed at award: what the job's duration had left.
    pub duration_max: Millis,
    /// When it was awarded.
    pub awarded_at: Timestamp,
    /// State.
    pub state: LeaseState,
}

/// A lease's state; each has a deadline, an owner of the deadline and a price, see the table in `demand/lease.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LeaseState {
    /// The machine prepares; free of charge.
    Awarded {
        /// The workload must be ready by this instant of chain time.
        start_by: Timestamp,
    },
    /// The workload runs.
    Running {
        /// Its clock.
        run: Run,
    },
    /// The machine has missed its beats.
    Suspect {
        /// Its clock.
        run: Run,
        /// Instant of chain time at which it ends as provider-lost.
        lost_at: Timestamp,
    },
    /// The provider takes it back.
    Preempting {
        /// Its clock.
        run: Run,
        /// When it ends as preempted.
        stop_by: Timestamp,
    },
    /// Funds ran out; only storage is charged.
    Paused {
        /// Its clock, stopped.
        run: Run,
        /// Since when.
        since: Timestamp,
        /// When it ends as budget-reached.
        until: Timestamp,
    },
    /// Final.
    Ended {
        /// Why.
        reason: EndReason,
        /// When the workload was ready, if ever.
        ready_at: Option<Timestamp>,
        /// End of what is charged.
        ended_at: Timestamp,
        /// The bill.
        bill: Bill,
    },
}

/// The clock of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Run {
    /// When it was ready first.
    pub ready_at: Timestamp,
    /// Start of the current stretch: ready, or the last resumption.
    pub since: Timestamp,
    /// Time run in stretches before the current one.
    pub ran_before: Millis,
    /// Time paused so far, for which storage is charged.
    pub paused_before: Millis,
    /// The last good beat.
    pub good_until: Timestamp,
    /// Chain time when that beat (or the ready report) was accepted: liveness deadlines count from here.
    pub seen_chain: Timestamp,
    /// The instant up to which it is funded.
    pub funded_until: Timestamp,
    /// The instant at which its longest duration is reached.
    pub duration_until: Timestamp,
}

impl Run {
    /// Returns the instant at which the workload must stop: out of funds, or at its longest duration.
    pub fn limit(&self) -> Timestamp {
        self.funded_until.min(self.duration_until)
    }
}

impl LeaseState {
    /// Returns the state's name.
    pub const fn phase(&self) -> LeasePhase {
        match self {
            Self::Awarded { .. } => LeasePhase::Awarded,
            Self::Running { .. } => LeasePhase::Running,
            Self::Suspect { .. } => LeasePhase::Suspect,
            Self::Preempting { .. } => LeasePhase::Preempting,
            Self::Paused { .. } => LeasePhase::Paused,
            Self::Ended { .. } => LeasePhase::Ended,
        }
    }

    /// Returns the workload's clock, if it has started and not ended.
    pub const fn run(&self) -> Option<&Run> {
        match self {
            Self::Running { run }
            | Self::Suspect { run, .. }
            | Self::Preempting { run, .. }
            | Self::Paused { run, .. } => Some(run),
            Self::Awarded { .. } | Self::Ended { .. } => None,
        }
    }
}

impl Lease {
    /// Returns whether the lease has not ended.
    pub const fn is_live(&self) -> bool {
        !matches!(self.state, LeaseState::Ended { .. })
    }
}

/// The final amounts of a lease; the parts sum to the charge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Bill {
    /// Device time charged, per device.
    pub elapsed: Millis,
    /// Charge for device time.
    pub compute: Money,
    /// Charge for storage kept.
    pub storage: Money,
    /// Charge for bytes moved out.
    pub egress: Money,
    /// Taken from the tenant's hold in all.
    pub charged: Money,
    /// Of that, to the fee pool.
    pub fee: Money,
    /// Of that, to the provider.
    pub to_provider: Money,
    /// Forfeited from the provider's bond to the insurance pool.
    pub forfeited: Money,
}

/// Why a lease ended: a closed set, see the table in `demand/ending.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum EndReason {
    /// The workload exited with code 0.
    Completed,
    /// The workload exited with another code.
    Failed {
        /// The code.
        code: u8,
    },
    /// The tenant ended it.
    Cancelled,
    /// The budget was used up.
    BudgetReached,
    /// The longest duration was reached.
    DurationReached,
    /// The provider took a spot lease back.
    Preempted,
    /// The provider emptied the machine.
    Drained,
    /// The machine fell silent, or lost the workload.
    ProviderLost,
    /// The workload was not ready in time.
    StartTimeout,
    /// The image could not be fetched, verified or started.
    ImageError,
    /// A verdict refuted the work.
    VerificationFailed,
    /// Another lease took its place.
    Superseded,
}

/// The escrow of a job.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Hold {
    /// Its job.
    pub job: JobId,
    /// Whose dollars.
    pub tenant: AccountId,
    /// How much is left.
    pub amount: Money,
    /// After this anyone may release it, unless a lease is live.
    pub release_at: Timestamp,
}

/// Money earned whose audit window is open.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Payable {
    /// Earned by which lease.
    pub lease: LeaseId,
    /// Whose.
    pub provider: AccountId,
    /// How much.
    pub amount: Money,
    /// When it is paid.
    pub due: Timestamp,
}
