//! The ledger's events.

use market::{
    AccountId, BidId, Event, EventKind, JobId, LeaseId, MachineId, OfferId, OrderId, PublicKey,
    RedemptionId,
    codec::TxId,
    event::{BidEnd, LeasePhase, Purpose, Slot},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BillView, EndReasonView, MoneyView, TimeView, job::job_end, plan::source_text, text};

/// A fact, with its place in the ledger's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// Number of the event; consecutive over the whole ledger.
    pub seq: u64,
    /// The block.
    pub height: u64,
    /// Its time.
    pub time: TimeView,
    /// The transaction that caused it; `None` when a timer did.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<TxId>>")]
    pub tx: Option<TxId>,
    /// What happened; `kind` and its data lie beside `seq` in JSON.
    #[serde(flatten)]
    pub kind: EventKindView,
}

impl From<&Event> for EventView {
    fn from(event: &Event) -> Self {
        Self {
            seq: event.seq,
            height: event.height.number(),
            time: event.time.into(),
            tx: event.cause,
            kind: EventKindView::from(&event.kind),
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EventKindView {
    /// One movement of the double-entry ledger.
    Posted {
        /// Where it came from.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<Slot>")]
        from: Slot,
        /// Where it went.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<Slot>")]
        to: Slot,
        /// How much.
        amount: MoneyView,
        /// For what.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<Purpose>")]
        purpose: Purpose,
    },
    /// An account was opened by its first deposit.
    AccountOpened {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        account: AccountId,
    },
    /// A key may now act for an account.
    KeyAuthorized {
        /// Which account.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        account: AccountId,
        /// Which key.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<PublicKey>")]
        key: PublicKey,
    },
    /// A key may no longer act.
    KeyRevoked {
        /// Which account.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        account: AccountId,
        /// Which key.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<PublicKey>")]
        key: PublicKey,
    },
    /// A redemption was asked for.
    RedemptionRequested {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<RedemptionId>")]
        redemption: RedemptionId,
        /// By whom.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        account: AccountId,
        /// From whom.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<PublicKey>")]
        treasurer: PublicKey,
        /// How much.
        amount: MoneyView,
    },
    /// A redemption is final.
    RedemptionClosed {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<RedemptionId>")]
        redemption: RedemptionId,
        /// By whom it was asked for.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        account: AccountId,
        /// Whether it was paid out; otherwise the dollars returned.
        paid: bool,
    },
    /// An account became a provider.
    ProviderOpened {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
    },
    /// A machine was added.
    MachineAdded {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
    },
    /// A machine's record changed: specification, keys or state.
    MachineChanged {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
    },
    /// An offer stands.
    OfferPlaced {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OfferId>")]
        offer: OfferId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// On which machine.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
    },
    /// An offer no longer stands.
    OfferClosed {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OfferId>")]
        offer: OfferId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// Whether it expired by itself.
        expired: bool,
    },
    /// A job was opened and its budget held.
    JobOpened {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// What is held.
        budget: MoneyView,
    },
    /// A job's budget grew.
    JobToppedUp {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// By how much.
        amount: MoneyView,
    },
    /// A job is final and what was left of its hold returned.
    JobEnded {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// Why.
        reason: EndReasonView,
        /// Charged in all.
        charged: MoneyView,
        /// Returned to the tenant.
        returned: MoneyView,
    },
    /// An order is in the book.
    OrderOpened {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OrderId>")]
        order: OrderId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// When bids are compared.
        closes_at: TimeView,
    },
    /// An order left the book unplaced.
    OrderClosed {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OrderId>")]
        order: OrderId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whether it expired; otherwise its job was cancelled.
        expired: bool,
    },
    /// A bid was placed.
    BidPlaced {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<BidId>")]
        bid: BidId,
        /// On which order.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OrderId>")]
        order: OrderId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
    },
    /// A bid is final without a lease.
    BidClosed {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<BidId>")]
        bid: BidId,
        /// On which order.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<OrderId>")]
        order: OrderId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// Why.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<BidEnd>")]
        why: BidEnd,
    },
    /// A lease was awarded.
    LeaseAwarded {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeaseId>")]
        lease: LeaseId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// By whom.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// Where.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// From what.
        source: String,
    },
    /// A workload is ready; charging runs from `at`.
    LeaseReady {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeaseId>")]
        lease: LeaseId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Where.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// From when.
        at: TimeView,
    },
    /// A lease went from one live state to another.
    LeaseChanged {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeaseId>")]
        lease: LeaseId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Where.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// To which state.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeasePhase>")]
        to: LeasePhase,
    },
    /// A lease is final.
    LeaseEnded {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeaseId>")]
        lease: LeaseId,
        /// Of which job.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// By whom.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// Where.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<MachineId>")]
        machine: MachineId,
        /// Why.
        reason: EndReasonView,
        /// The bill.
        bill: BillView,
    },
    /// Money of a lease was paid to its provider.
    LeasePaid {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<LeaseId>")]
        lease: LeaseId,
        /// To whom.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        provider: AccountId,
        /// How much.
        amount: MoneyView,
    },
    /// A job may run longer than it was to at first.
    JobExtended {
        /// Which.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<JobId>")]
        job: JobId,
        /// Whose.
        #[serde(with = "text")]
        #[schemars(with = "text::Written<AccountId>")]
        tenant: AccountId,
        /// By how much, in milliseconds.
        by_ms: u64,
    },
}

impl From<&EventKind> for EventKindView {
    #[expect(
        clippy::too_many_lines,
        reason = "one arm an event, all straight lines"
    )]
    fn from(kind: &EventKind) -> Self {
        match kind.clone() {
            EventKind::Posted {
                from,
                to,
                amount,
                purpose,
            } => Self::Posted {
                from,
                to,
                amount: amount.into(),
                purpose,
            },
            EventKind::AccountOpened { account } => Self::AccountOpened { account },
            EventKind::KeyAuthorized { account, key } => Self::KeyAuthorized { account, key },
            EventKind::KeyRevoked { account, key } => Self::KeyRevoked { account, key },
            EventKind::RedemptionRequested {
                redemption,
                account,
                treasurer,
                amount,
            } => Self::RedemptionRequested {
                redemption,
                account,
                treasurer,
                amount: amount.into(),
            },
            EventKind::RedemptionClosed {
                redemption,
                account,
                paid,
            } => Self::RedemptionClosed {
                redemption,
                account,
                paid,
            },
            EventKind::ProviderOpened { provider } => Self::ProviderOpened { provider },
            EventKind::MachineAdded { machine, provider } => {
                Self::MachineAdded { machine, provider }
            }
            EventKind::MachineChanged { machine, provider } => {
                Self::MachineChanged { machine, provider }
            }
            EventKind::OfferPlaced {
                offer,
                provider,
                machine,
            } => Self::OfferPlaced {
                offer,
                provider,
                machine,
            },
            EventKind::OfferClosed {
                offer,
                provider,
                expired,
            } => Self::OfferClosed {
                offer,
                provider,
                expired,
            },
            EventKind::JobOpened {
                job,
                tenant,
                budget,
            } => Self::JobOpened {
                job,
                tenant,
                budget: budget.into(),
            },
            EventKind::JobToppedUp {
                job,
                tenant,
                amount,
            } => Self::JobToppedUp {
                job,
                tenant,
                amount: amount.into(),
            },
            EventKind::JobEnded {
                job,
                tenant,
                reason,
                charged,
                returned,
            } => Self::JobEnded {
                job,
                tenant,
                reason: job_end(reason),
                charged: charged.into(),
                returned: returned.into(),
            },
            EventKind::OrderOpened {
                order,
                job,
                tenant,
                closes_at,
            } => Self::OrderOpened {
                order,
                job,
                tenant,
                closes_at: closes_at.into(),
            },
            EventKind::OrderClosed {
                order,
                job,
                expired,
            } => Self::OrderClosed {
                order,
                job,
                expired,
            },
            EventKind::BidPlaced {
                bid,
                order,
                provider,
            } => Self::BidPlaced {
                bid,
                order,
                provider,
            },
            EventKind::BidClosed {
                bid,
                order,
                provider,
                why,
            } => Self::BidClosed {
                bid,
                order,
                provider,
                why,
            },
            EventKind::LeaseAwarded {
                lease,
                job,
                tenant,
                provider,
                machine,
                source,
            } => Self::LeaseAwarded {
                lease,
                job,
                tenant,
                provider,
                machine,
                source: source_text(source),
            },
            EventKind::LeaseReady {
                lease,
                job,
                machine,
                at,
            } => Self::LeaseReady {
                lease,
                job,
                machine,
                at: at.into(),
            },
            EventKind::LeaseChanged {
                lease,
                job,
                machine,
                to,
            } => Self::LeaseChanged {
                lease,
                job,
                machine,
                to,
            },
            EventKind::LeaseEnded {
                lease,
                job,
                tenant,
                provider,
                machine,
                reason,
                bill,
            } => Self::LeaseEnded {
                lease,
                job,
                tenant,
                provider,
                machine,
                reason: reason.into(),
                bill: (&bill).into(),
            },
            EventKind::LeasePaid {
                lease,
                provider,
                amount,
            } => Self::LeasePaid {
                lease,
                provider,
                amount: amount.into(),
            },
            EventKind::JobExtended { job, tenant, by } => Self::JobExtended {
                job,
                tenant,
                by_ms: by.millis(),
            },
        }
    }
}

impl EventKindView {
    /// Every kind's word, in the order of the ledger's own list.
    pub const WORDS: [&str; 24] = [
        "posted",
        "account-opened",
        "key-authorized",
        "key-revoked",
        "redemption-requested",
        "redemption-closed",
        "provider-opened",
        "machine-added",
        "machine-changed",
        "offer-placed",
        "offer-closed",
        "job-opened",
        "job-topped-up",
        "job-ended",
        "order-opened",
        "order-closed",
        "bid-placed",
        "bid-closed",
        "lease-awarded",
        "lease-ready",
        "lease-changed",
        "lease-ended",
        "lease-paid",
        "job-extended",
    ];

    /// Returns the kind's word, as it stands in JSON.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Posted { .. } => "posted",
            Self::AccountOpened { .. } => "account-opened",
            Self::KeyAuthorized { .. } => "key-authorized",
            Self::KeyRevoked { .. } => "key-revoked",
            Self::RedemptionRequested { .. } => "redemption-requested",
            Self::RedemptionClosed { .. } => "redemption-closed",
            Self::ProviderOpened { .. } => "provider-opened",
            Self::MachineAdded { .. } => "machine-added",
            Self::MachineChanged { .. } => "machine-changed",
            Self::OfferPlaced { .. } => "offer-placed",
            Self::OfferClosed { .. } => "offer-closed",
            Self::JobOpened { .. } => "job-opened",
            Self::JobToppedUp { .. } => "job-topped-up",
            Self::JobEnded { .. } => "job-ended",
            Self::OrderOpened { .. } => "order-opened",
            Self::OrderClosed { .. } => "order-closed",
            Self::BidPlaced { .. } => "bid-placed",
            Self::BidClosed { .. } => "bid-closed",
            Self::LeaseAwarded { .. } => "lease-awarded",
            Self::LeaseReady { .. } => "lease-ready",
            Self::LeaseChanged { .. } => "lease-changed",
            Self::LeaseEnded { .. } => "lease-ended",
            Self::LeasePaid { .. } => "lease-paid",
            Self::JobExtended { .. } => "job-extended",
        }
    }
}
