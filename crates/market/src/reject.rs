//! Every reason to say no, with a stable code and data.
//!
//! [`Inadmissible`]: the transaction cannot be in a block at all, nothing is recorded. [`Reject`]: it is in a block and
//! had no effect but its nonce.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    units::{Millis, Money, Timestamp},
};

/// Why a transaction cannot be in a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inadmissible {
    /// The signature does not fit.
    #[error("the signature does not fit the key, the network's name or the bytes")]
    BadSignature,
    /// The key belongs to no account.
    #[error("the key belongs to no funded account and none has authorized it")]
    UnknownKey,
    /// The key was revoked or has expired.
    #[error("the key was revoked or has expired")]
    KeyEnded,
    /// The nonce is not the next one.
    #[error("nonce {got} is not the key's next one, {expected}")]
    Nonce {
        /// The next one.
        expected: u64,
        /// The one used.
        got: u64,
    },
    /// Its time is over.
    #[error("the transaction expired before it was included")]
    Expired,
    /// A list is longer, or a number larger, than its bound.
    #[error("{field} is out of its bounds")]
    OutOfBounds {
        /// Which field.
        field: &'static str,
    },
}

impl Inadmissible {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::BadSignature => "bad-signature",
            Self::UnknownKey => "unknown-key",
            Self::KeyEnded => "key-ended",
            Self::Nonce { .. } => "wrong-nonce",
            Self::Expired => "tx-expired",
            Self::OutOfBounds { .. } => "out-of-bounds",
        }
    }
}

/// Why a transaction had no effect. New reasons are appended: the position is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum Reject {
    /// The key's role does not allow this.
    #[error("the key's role does not allow this")]
    NotAllowed,
    /// The key's own budget is used up.
    #[error("the key's budget has {left} left, {need} is needed")]
    KeyBudget {
        /// What is left.
        left: Money,
        /// What is needed.
        need: Money,
    },
    /// Not enough available money.
    #[error("the account has {available} available, {need} is needed")]
    Funds {
        /// What there is.
        available: Money,
        /// What is needed.
        need: Money,
    },
    /// A first deposit below the minimum.
    #[error("a first deposit must be at least {min}")]
    DepositTooSmall {
        /// The minimum.
        min: Money,
    },
    /// An amount of zero where one is needed.
    #[error("the amount is zero")]
    ZeroAmount,
    /// A sum exceeds what can be represented.
    #[error("the amount is too large")]
    Overflow,
    /// The outside reference was used before.
    #[error("the outside reference was used before")]
    ReferenceUsed,
    /// The treasurer is not one.
    #[error("the key is no treasurer of this network")]
    NotTreasurer,
    /// No such redemption.
    #[error("there is no redemption {0}")]
    NoRedemption(RedemptionId),
    /// No such account.
    #[error("there is no account {0}")]
    NoAccount(AccountId),
    /// The key is known already.
    #[error("the key is in use already")]
    KeyInUse,
    /// No such key.
    #[error("the account has no such key")]
    NoKey,
    /// Not a provider.
    #[error("the account is no provider")]
    NotProvider,
    /// A provider already.
    #[error("the account is a provider already")]
    AlreadyProvider,
    /// Bond is reserved.
    #[error("only {free} of the bond is free")]
    BondReserved {
        /// What is free.
        free: Money,
    },
    /// No such machine of this account.
    #[error("the account has no machine {0}")]
    NoMachine(MachineId),
    /// The machine is retired, draining or down.
    #[error("machine {0} does not take leases now")]
    MachineState(MachineId),
    /// Leases use what would change or go.
    #[error("machine {0} has live leases on those devices")]
    MachineBusy(MachineId),
    /// A device index is unknown, repeated or out of order, or the list is empty.
    #[error("the device list is empty, unordered or names a device that the machine lacks")]
    Devices,
    /// No such offer of this account.
    #[error("the account has no offer {0}")]
    NoOffer(OfferId),
    /// An instant that must lie in the future does not, or lies too far.
    #[error("{at:?} is not within the allowed time")]
    BadTime {
        /// The instant.
        at: Timestamp,
    },
    /// The beat does not continue the machine's chain.
    #[error("the beat does not continue the machine's chain; next is {next}")]
    BeatChain {
        /// Number of the machine's next beat.
        next: u64,
    },
    /// A field's value is not accepted.
    #[error("{field} is not accepted")]
    BadField {
        /// Which, as the job file names it.
        field: FieldName,
    },
    /// Not supported by this version of the network.
    #[error("{field} is not supported yet")]
    Unsupported {
        /// Which.
        field: FieldName,
    },
    /// No such job of this account.
    #[error("the account has no job {0}")]
    NoJob(JobId),
    /// The job is final.
    #[error("job {0} has ended")]
    JobEnded(JobId),
    /// The account has too many live things of this kind.
    #[error("the account has {max} of these already")]
    TooMany {
        /// The bound.
        max: u32,
    },
    /// No such order in the book.
    #[error("there is no order {0} in the book")]
    NoOrder(OrderId),
    /// The order does not take bids (any more).
    #[error("order {0} takes no bids")]
    OrderClosed(OrderId),
    /// The bid does not meet the order's requirement.
    #[error("the bid does not meet the order: {0}")]
    Unmet(Unmet),
    /// No such bid of this account.
    #[error("the account has no bid {0}")]
    NoBid(BidId),
    /// No such lease of this machine or account.
    #[error("there is no lease {0} of this sender")]
    NoLease(LeaseId),
    /// The lease is not in a state where this is possible.
    #[error("lease {0} is not in a state where this is possible")]
    LeaseState(LeaseId),
    /// Only spot leases can be preempted.
    #[error("lease {0} is not a spot lease")]
    NotSpot(LeaseId),
    /// The hold's deadline has not passed, or a lease is live.
    #[error("the hold of job {0} cannot be released yet")]
    HoldLive(JobId),
    /// The provider does not lend for so long.
    #[error("the machine is lent for {} s at most at these prices", longest.millis() / 1_000)]
    TermTooLong {
        /// How long it does.
        longest: Millis,
    },
}

/// A field named in a reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum FieldName {
    /// `budget`
    Budget,
    /// `duration`
    Duration,
    /// `attempts`
    Attempts,
    /// `window`
    Window,
    /// `wait`
    Wait,
    /// `keepers`
    Keepers,
    /// `kind`
    Kind,
    /// `verification`
    Verification,
    /// `count`
    Count,
    /// `price`
    Price,
    /// `grace`
    Grace,
    /// `devices`
    Devices,
    /// `term`
    Term,
    /// `role`
    Role,
    /// `name`
    Name,
    /// `sla`
    Sla,
}

impl std::fmt::Display for FieldName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Budget => "budget",
            Self::Duration => "duration",
            Self::Attempts => "attempts",
            Self::Window => "window",
            Self::Wait => "wait",
            Self::Keepers => "keepers",
            Self::Kind => "kind",
            Self::Verification => "verification",
            Self::Count => "count",
            Self::Price => "price",
            Self::Grace => "grace",
            Self::Devices => "devices",
            Self::Term => "term",
            Self::Role => "role",
            Self::Name => "name",
            Self::Sla => "sla",
        })
    }
}

/// The first requirement that a machine and its price do not meet, in the order in which they are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Unmet {
    /// Not online: down, draining, suspended, retired, or never beat.
    Online,
    /// Another tier.
    Tier,
    /// Another device class or model.
    Model,
    /// Too little device memory.
    Vram,
    /// Another interface.
    Interface,
    /// Too few such devices free.
    DevicesFree,
    /// No fabric has that many.
    Fabric,
    /// Too little processor time free.
    Cpu,
    /// Too little memory free.
    Memory,
    /// Too little disk free.
    Disk,
    /// Weaker isolation.
    Isolation,
    /// Another region, or none known.
    Region,
    /// Latency too high, or unknown.
    Latency,
    /// A certificate is missing.
    Certificate,
    /// Too little reliability, or no evidence.
    Reliability,
    /// A lower SLA class.
    Sla,
    /// Only unverified claims.
    Unverified,
    /// Not among the wanted providers.
    Provider,
    /// Excluded by the job, or avoided after a failure.
    Excluded,
    /// Terms too short or too long.
    Term,
    /// The provider's free bond does not cover the collateral.
    Bond,
    /// Dearer than the cap.
    Price,
    /// The budget does not pay for the reserve.
    Budget,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Online => "not online",
            Self::Tier => "other tier",
            Self::Model => "other device model",
            Self::Vram => "too little device memory",
            Self::Interface => "other interface",
            Self::DevicesFree => "too few devices free",
            Self::Fabric => "no shared fabric",
            Self::Cpu => "too little processor time free",
            Self::Memory => "too little memory free",
            Self::Disk => "too little disk free",
            Self::Isolation => "weaker isolation",
            Self::Region => "other region, or none known",
            Self::Latency => "latency too high, or unknown",
            Self::Certificate => "certificate missing",
            Self::Reliability => "too little reliability, or no evidence",
            Self::Sla => "lower SLA class",
            Self::Unverified => "claims are not verified",
            Self::Provider => "not among the wanted providers",
            Self::Excluded => "excluded, or avoided after a failure",
            Self::Term => "term too short or too long",
            Self::Bond => "bond does not cover the collateral",
            Self::Price => "dearer than the cap",
            Self::Budget => "budget does not cover the reserve",
        })
    }
}

impl Reject {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAllowed => "not-allowed",
            Self::KeyBudget { .. } => "key-budget",
            Self::Funds { .. } => "insufficient-funds",
            Self::DepositTooSmall { .. } => "deposit-too-small",
            Self::ZeroAmount => "zero-amount",
            Self::Overflow => "overflow",
            Self::ReferenceUsed => "reference-used",
            Self::NotTreasurer => "not-treasurer",
            Self::NoRedemption(_) => "no-redemption",
            Self::NoAccount(_) => "no-account",
            Self::KeyInUse => "key-in-use",
            Self::NoKey => "no-key",
            Self::NotProvider => "not-provider",
            Self::AlreadyProvider => "already-provider",
            Self::BondReserved { .. } => "bond-reserved",
            Self::NoMachine(_) => "no-machine",
            Self::MachineState(_) => "machine-state",
            Self::MachineBusy(_) => "machine-busy",
            Self::Devices => "bad-devices",
            Self::NoOffer(_) => "no-offer",
            Self::BadTime { .. } => "bad-time",
            Self::BeatChain { .. } => "beat-chain",
            Self::BadField { .. } => "bad-field",
            Self::Unsupported { .. } => "unsupported",
            Self::NoJob(_) => "no-job",
            Self::JobEnded(_) => "job-ended",
            Self::TooMany { .. } => "too-many",
            Self::NoOrder(_) => "no-order",
            Self::OrderClosed(_) => "order-closed",
            Self::Unmet(_) => "unmet",
            Self::NoBid(_) => "no-bid",
            Self::NoLease(_) => "no-lease",
            Self::LeaseState(_) => "lease-state",
            Self::NotSpot(_) => "not-spot",
            Self::HoldLive(_) => "hold-live",
            Self::TermTooLong { .. } => "term-too-long",
        }
    }
}
