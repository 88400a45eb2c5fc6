//! Every fact that the ledger announces. An event has a number that counts up by one over the whole ledger.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    codec::{PublicKey, TxId},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    records::{Bill, EndReason, JobEnd, LeaseSource},
    units::{Height, Millis, Money, Timestamp},
};

/// A fact, with its place in the ledger's history.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Event {
    /// Number of the event; consecutive over the whole ledger, from 0.
    pub seq: u64,
    /// The block.
    pub height: Height,
    /// Its time.
    pub time: Timestamp,
    /// The transaction that caused it; `None` when a timer did.
    pub cause: Option<TxId>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened. New facts are appended: the position is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum EventKind {
    /// One movement of the double-entry ledger.
    Posted {
        /// Where it came from.
        from: Slot,
        /// Where it went.
        to: Slot,
        /// How much.
        amount: Money,
        /// For what.
        purpose: Purpose,
    },
    /// An account was opened by its first deposit.
    AccountOpened {
        /// Which.
        account: AccountId,
    },
    /// A key may now act for an account.
    KeyAuthorized {
        /// Which account.
        account: AccountId,
        /// Which key.
        key: PublicKey,
    },
    /// A key may no longer act.
    KeyRevoked {
        /// Which account.
        account: AccountId,
        /// Which key.
        key: PublicKey,
    },
    /// A redemption was asked for.
    RedemptionRequested {
        /// Which.
        redemption: RedemptionId,
        /// By whom.
        account: AccountId,
        /// From whom.
        treasurer: PublicKey,
        /// How much.
        amount: Money,
    },
    /// A redemption is final.
    RedemptionClosed {
        /// Which.
        redemption: RedemptionId,
        /// By whom it was asked for.
        account: AccountId,
        /// Whether it was paid out; otherwise the dollars returned.
        paid: bool,
    },
    /// An account became a provider.
    ProviderOpened {
        /// Which.
        provider: AccountId,
    },
    /// A machine was added.
    MachineAdded {
        /// Which.
        machine: MachineId,
        /// Whose.
        provider: AccountId,
    },
    /// A machine's record changed: specification, keys or state.
    MachineChanged {
        /// Which.
        machine: MachineId,
        /// Whose.
        provider: AccountId,
    },
    /// An offer stands.
    OfferPlaced {
        /// Which.
        offer: OfferId,
        /// Whose.
        provider: AccountId,
        /// On which machine.
        machine: MachineId,
    },
    /// An offer no longer stands.
    OfferClosed {
        /// Which.
        offer: OfferId,
        /// Whose.
        provider: AccountId,
        /// Whether it expired by itself.
        expired: bool,
    },
    /// A job was opened and its budget held.
    JobOpened {
        /// Which.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// What is held.
        budget: Money,
    },
    /// A job's budget grew.
    JobToppedUp {
        /// Which.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// By how much.
        amount: Money,
    },
    /// A job is final and what was left of its hold returned.
    JobEnded {
        /// Which.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// Why.
        reason: JobEnd,
        /// Charged in all.
        charged: Money,
        /// Returned to the tenant.
        returned: Money,
    },
    /// An order is in the book.
    OrderOpened {
        /// Which.
        order: OrderId,
        /// Of which job.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// When bids are compared.
        closes_at: Timestamp,
    },
    /// An order left the book unplaced.
    OrderClosed {
        /// Which.
        order: OrderId,
        /// Of which job.
        job: JobId,
        /// Whether it expired; otherwise its job was cancelled.
        expired: bool,
    },
    /// A bid was placed.
    BidPlaced {
        /// Which.
        bid: BidId,
        /// On which order.
        order: OrderId,
        /// Whose.
        provider: AccountId,
    },
    /// A bid is final without a lease.
    BidClosed {
        /// Which.
        bid: BidId,
        /// On which order.
        order: OrderId,
        /// Whose.
        provider: AccountId,
        /// Why.
        why: BidEnd,
    },
    /// A lease was awarded.
    LeaseAwarded {
        /// Which.
        lease: LeaseId,
        /// Of which job.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// By whom.
        provider: AccountId,
        /// Where.
        machine: MachineId,
        /// From what.
        source: LeaseSource,
    },
    /// A workload is ready; charging runs from `at`.
    LeaseReady {
        /// Which.
        lease: LeaseId,
        /// Of which job.
        job: JobId,
        /// Where.
        machine: MachineId,
        /// From when.
        at: Timestamp,
    },
    /// A lease went from one live state to another, or its limits moved in the same one.
    LeaseChanged {
        /// Which.
        lease: LeaseId,
        /// Of which job.
        job: JobId,
        /// Where.
        machine: MachineId,
        /// To which state.
        to: LeasePhase,
    },
    /// A lease is final.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// Of which job.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// By whom.
        provider: AccountId,
        /// Where.
        machine: MachineId,
        /// Why.
        reason: EndReason,
        /// The bill.
        bill: Bill,
    },
    /// Money of a lease was paid to its provider.
    LeasePaid {
        /// Which.
        lease: LeaseId,
        /// To whom.
        provider: AccountId,
        /// How much.
        amount: Money,
    },
    /// A job may run longer than it was to at first.
    JobExtended {
        /// Which.
        job: JobId,
        /// Whose.
        tenant: AccountId,
        /// By how much.
        by: Millis,
    },
}

/// A lease's state without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LeasePhase {
    /// Awarded.
    Awarded,
    /// Running.
    Running,
    /// Suspect.
    Suspect,
    /// Preempting.
    Preempting,
    /// Paused.
    Paused,
    /// Ended.
    Ended,
}

/// Why a bid ended without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum BidEnd {
    /// Another was better.
    Lost,
    /// Its devices were taken meanwhile, or its machine fell away; costs nothing.
    Void,
    /// Taken back.
    Withdrawn,
    /// Its order left the book.
    OrderClosed,
}

/// A place where dollars can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Slot {
    /// Outside: issue comes from here, redemption goes here.
    Outside,
    /// An account's available balance.
    Available(AccountId),
    /// A job's escrow.
    Hold(JobId),
    /// A redemption under way.
    Redemption(RedemptionId),
    /// A provider's bond.
    Bond(AccountId),
    /// Earned by a lease, not yet paid.
    Payable(LeaseId),
    /// Fees.
    Fees,
    /// The insurance pool.
    Insurance,
}

/// Why dollars moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Purpose {
    /// Issue by a treasurer.
    Issue,
    /// Redemption.
    Redeem,
    /// Transfer between accounts.
    Transfer,
    /// Escrow for a job.
    Escrow,
    /// Unused escrow returned.
    Refund,
    /// Charge of a lease.
    Charge,
    /// Fee on a charge.
    Fee,
    /// Payment to a provider.
    Pay,
    /// Bond posted or withdrawn.
    Bond,
    /// Bond forfeited.
    Forfeit,
}
