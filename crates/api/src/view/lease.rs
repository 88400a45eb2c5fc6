//! Leases: for people, and for the machine that serves them.

use market::{
    AccountId, Bill, EndReason, JobId, Lease, LeaseId, LeaseState, MachineId, OrderId, Run, Tier,
    Timestamp, event::LeasePhase,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeeperView, MoneyView, PricesView, TimeView, text};

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LeaseView {
    /// Its id: the fencing token of the workload.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<LeaseId>")]
    pub id: LeaseId,
    /// Its job.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<JobId>")]
    pub job: JobId,
    /// The order that it placed.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<OrderId>")]
    pub order: OrderId,
    /// Who pays.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub tenant: AccountId,
    /// Who is paid.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub provider: AccountId,
    /// Where.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<MachineId>")]
    pub machine: MachineId,
    /// The offer or bid that it was made from, as text.
    pub source: String,
    /// The devices, by index.
    pub devices: Vec<u8>,
    /// Processor time given.
    pub cpu_milli: u32,
    /// Memory given.
    pub memory_bytes: u64,
    /// Disk given.
    pub disk_bytes: u64,
    /// How firmly.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Tier>")]
    pub tier: Tier,
    /// At what prices.
    pub prices: PricesView,
    /// Notice before a spot lease is taken back.
    pub preempt_notice_ms: u64,
    /// Bond reserved for it.
    pub collateral: MoneyView,
    /// Most that it may cost.
    pub funds: MoneyView,
    /// Longest running time.
    pub duration_max_ms: u64,
    /// When it was awarded.
    pub awarded_at: TimeView,
    /// State, with what belongs to it.
    #[serde(flatten)]
    pub state: LeaseStateView,
    /// Device time so far or in all, per device.
    pub elapsed_ms: u64,
    /// Charge for device time so far (at `as_of`), or the final charge.
    pub charged: MoneyView,
    /// The instant for which `elapsed_ms` and `charged` hold: the last good beat, or the end.
    pub as_of: Option<TimeView>,
}

/// A lease's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum LeaseStateView {
    /// The machine prepares; free of charge.
    Awarded {
        /// The workload must be ready by this instant.
        start_by: TimeView,
    },
    /// The workload runs.
    Running {
        /// Its clock.
        run: RunView,
    },
    /// The machine has missed its beats.
    Suspect {
        /// Its clock.
        run: RunView,
        /// When it ends as provider-lost.
        lost_at: TimeView,
    },
    /// The provider takes it back.
    Preempting {
        /// Its clock.
        run: RunView,
        /// When it ends as preempted.
        stop_by: TimeView,
    },
    /// Funds ran out; only storage is charged.
    Paused {
        /// Its clock, stopped.
        run: RunView,
        /// Since when.
        since: TimeView,
        /// When it ends as budget-reached.
        until: TimeView,
    },
    /// Final.
    Ended {
        /// Why.
        reason: EndReasonView,
        /// When the workload was ready, if ever.
        ready_at: Option<TimeView>,
        /// End of what is charged.
        ended_at: TimeView,
        /// The bill.
        bill: BillView,
    },
}

impl LeaseStateView {
    /// Returns the state without its data.
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

    /// Returns the clock of a workload that has been ready and has not ended.
    pub const fn run(&self) -> Option<&RunView> {
        match self {
            Self::Running { run }
            | Self::Suspect { run, .. }
            | Self::Preempting { run, .. }
            | Self::Paused { run, .. } => Some(run),
            Self::Awarded { .. } | Self::Ended { .. } => None,
        }
    }
}

impl From<&LeaseState> for LeaseStateView {
    fn from(state: &LeaseState) -> Self {
        match state {
            LeaseState::Awarded { start_by } => Self::Awarded {
                start_by: (*start_by).into(),
            },
            LeaseState::Running { run } => Self::Running { run: run.into() },
            LeaseState::Suspect { run, lost_at } => Self::Suspect {
                run: run.into(),
                lost_at: (*lost_at).into(),
            },
            LeaseState::Preempting { run, stop_by } => Self::Preempting {
                run: run.into(),
                stop_by: (*stop_by).into(),
            },
            LeaseState::Paused { run, since, until } => Self::Paused {
                run: run.into(),
                since: (*since).into(),
                until: (*until).into(),
            },
            LeaseState::Ended {
                reason,
                ready_at,
                ended_at,
                bill,
            } => Self::Ended {
                reason: (*reason).into(),
                ready_at: ready_at.map(Into::into),
                ended_at: (*ended_at).into(),
                bill: bill.into(),
            },
        }
    }
}

/// The clock of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// When it was ready first.
    pub ready_at: TimeView,
    /// Start of the current stretch.
    pub since: TimeView,
    /// Time run in stretches before the current one.
    pub ran_before_ms: u64,
    /// The last good beat.
    pub good_until: TimeView,
    /// The instant up to which it is funded.
    pub funded_until: TimeView,
    /// The instant at which its longest duration is reached.
    pub duration_until: TimeView,
}

impl From<&Run> for RunView {
    fn from(run: &Run) -> Self {
        Self {
            ready_at: run.ready_at.into(),
            since: run.since.into(),
            ran_before_ms: run.ran_before.millis(),
            good_until: run.good_until.into(),
            funded_until: run.funded_until.into(),
            duration_until: run.duration_until.into(),
        }
    }
}

/// Why something ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EndReasonView {
    /// The reason's stable word, for example `completed` or `provider-lost`.
    pub code: String,
    /// The exit code of failed work.
    pub exit_code: Option<u8>,
}

impl EndReasonView {
    /// Makes a reason that has no exit code.
    pub(crate) fn word(code: &str) -> Self {
        Self {
            code: code.to_owned(),
            exit_code: None,
        }
    }
}

impl std::fmt::Display for EndReasonView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.exit_code {
            Some(code) => write!(f, "{} ({code})", self.code),
            None => f.write_str(&self.code),
        }
    }
}

impl From<EndReason> for EndReasonView {
    fn from(reason: EndReason) -> Self {
        Self::word(match reason {
            EndReason::Completed => "completed",
            EndReason::Failed { code } => {
                return Self {
                    code: "failed".to_owned(),
                    exit_code: Some(code),
                };
            }
            EndReason::Cancelled => "cancelled",
            EndReason::BudgetReached => "budget-reached",
            EndReason::DurationReached => "duration-reached",
            EndReason::Preempted => "preempted",
            EndReason::Drained => "drained",
            EndReason::ProviderLost => "provider-lost",
            EndReason::StartTimeout => "start-timeout",
            EndReason::ImageError => "image-error",
            EndReason::VerificationFailed => "verification-failed",
            EndReason::Superseded => "superseded",
        })
    }
}

/// The final amounts of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BillView {
    /// Device time charged, per device.
    pub elapsed_ms: u64,
    /// Charge for device time.
    pub compute: MoneyView,
    /// Charge for storage kept.
    pub storage: MoneyView,
    /// Charge for bytes moved out.
    pub egress: MoneyView,
    /// Taken from the tenant's hold in all.
    pub charged: MoneyView,
    /// Of that, to the fee pool.
    pub fee: MoneyView,
    /// Of that, to the provider.
    pub to_provider: MoneyView,
    /// Forfeited from the provider's bond.
    pub forfeited: MoneyView,
}

impl From<&Bill> for BillView {
    fn from(bill: &Bill) -> Self {
        Self {
            elapsed_ms: bill.elapsed.millis(),
            compute: bill.compute.into(),
            storage: bill.storage.into(),
            egress: bill.egress.into(),
            charged: bill.charged.into(),
            fee: bill.fee.into(),
            to_provider: bill.to_provider.into(),
            forfeited: bill.forfeited.into(),
        }
    }
}

impl From<&Lease> for LeaseView {
    fn from(lease: &Lease) -> Self {
        let (elapsed_ms, charged, as_of) = accrued(lease);
        Self {
            id: lease.id,
            job: lease.job,
            order: lease.order,
            tenant: lease.tenant,
            provider: lease.provider,
            machine: lease.machine,
            source: super::plan::source_text(lease.source),
            devices: lease.devices.clone(),
            cpu_milli: lease.cpu.milli(),
            memory_bytes: lease.memory.bytes(),
            disk_bytes: lease.disk.bytes(),
            tier: lease.tier,
            prices: PricesView::from(&lease.prices),
            preempt_notice_ms: lease.preempt_notice.millis(),
            collateral: lease.collateral.into(),
            funds: lease.funds.into(),
            duration_max_ms: lease.duration_max.millis(),
            awarded_at: lease.awarded_at.into(),
            state: LeaseStateView::from(&lease.state),
            elapsed_ms,
            charged,
            as_of: as_of.map(Into::into),
        }
    }
}

/// Returns device time and charge so far, proven by beats, and the instant for which they hold.
fn accrued(lease: &Lease) -> (u64, MoneyView, Option<Timestamp>) {
    let (elapsed, until) = match &lease.state {
        LeaseState::Awarded { .. } => return (0, MoneyView::default(), None),
        LeaseState::Ended { bill, ended_at, .. } => {
            return (bill.elapsed.millis(), bill.charged.into(), Some(*ended_at));
        }
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => (
            run.ran_before
                .saturating_add(run.good_until.since(run.since)),
            run.good_until,
        ),
        LeaseState::Paused { run, since, .. } => (run.ran_before, *since),
    };
    let devices = u32::try_from(lease.devices.len()).unwrap_or(u32::MAX);
    let charge = lease
        .prices
        .per_device_hour
        .charge(devices, elapsed)
        .unwrap_or(market::Money::MAX);
    (
        elapsed.millis(),
        charge.min(lease.funds).into(),
        Some(until),
    )
}

/// A lease with everything that its machine needs to serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WorkView {
    /// The lease.
    pub lease: LeaseView,
    /// Who hold the job's encrypted manifest.
    pub keepers: Vec<KeeperView>,
    /// Salted digest that the manifest must have, in hexadecimal.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<market::Digest>")]
    pub manifest: market::Digest,
    /// When the machine pauses the workload if it cannot reach the ledger; `None` goes on.
    pub partition_pause_ms: Option<u64>,
    /// Compressed image size.
    pub image_size_bytes: u64,
    /// Storage kept while paused.
    pub storage_kept_bytes: u64,
    /// Most bytes moved out.
    pub egress_max_bytes: u64,
}

impl WorkView {
    /// Makes the view of a lease and its job's record.
    pub fn new(lease: &Lease, job: &market::Job) -> Self {
        let spec = &job.spec;
        Self {
            lease: LeaseView::from(lease),
            keepers: spec.keepers.iter().map(KeeperView::from).collect(),
            manifest: spec.manifest,
            partition_pause_ms: super::job::partition_pause_ms(spec.on_partition),
            image_size_bytes: spec.image_size.bytes(),
            storage_kept_bytes: spec.storage_kept.bytes(),
            egress_max_bytes: spec.egress_max.bytes(),
        }
    }
}
