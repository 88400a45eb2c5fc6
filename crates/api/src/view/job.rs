//! Jobs, their orders and the bids on those.

use market::{
    AccountId, Bid, BidId, Claims, DeviceNeed, Interface, Isolation, Job, JobEnd, JobId, JobKind,
    JobState, LeaseId, MachineId, Name, OnBudget, OnPartition, Order, OrderId, PublicKey,
    Requirement, SlaClass, Tier, Verification,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EndReasonView, KeeperView, MoneyView, PricesView, TimeView, text};

/// A job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<JobId>")]
    pub id: JobId,
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub tenant: AccountId,
    /// The key that opened it.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub opened_by: PublicKey,
    /// The tenant's own name for it.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub name: Option<Name>,
    /// `batch`, `service`, `gang` or `array`.
    pub kind: String,
    /// `open`, `running` or `ended`.
    pub state: String,
    /// The order that waits in the book, while open.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<OrderId>>")]
    pub order: Option<OrderId>,
    /// The live lease, while running.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<LeaseId>>")]
    pub lease: Option<LeaseId>,
    /// How it ended, once it has.
    pub end: Option<JobEndView>,
    /// Which machines will do.
    pub needs: RequirementView,
    /// How firmly.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Tier>")]
    pub tier: Tier,
    /// Hard cap of what it may cost in all, top-ups included.
    pub budget: MoneyView,
    /// Most it pays per device-hour.
    pub price_cap: Option<MoneyView>,
    /// Charged so far for leases that ended.
    pub charged: MoneyView,
    /// What its escrow still holds.
    pub held: MoneyView,
    /// Longest running time, over all attempts.
    pub duration_max_ms: u64,
    /// Running time counted so far.
    pub ran_ms: u64,
    /// Attempts that failing work may use up.
    pub attempts_max: u16,
    /// Attempts used up.
    pub attempts_used: u16,
    /// Orders made so far.
    pub orders: u32,
    /// How long bids are collected.
    pub window_ms: u64,
    /// How long an order may wait in the book.
    pub wait_max_ms: u64,
    /// Grace when the budget is used up; `None` ends the lease.
    pub pause_grace_ms: Option<u64>,
    /// When a machine that cannot reach the ledger pauses; `None` goes on.
    pub partition_pause_ms: Option<u64>,
    /// `none`, `sampled` or `redundant`.
    pub verification: String,
    /// Storage kept while paused and between attempts.
    pub storage_kept_bytes: u64,
    /// Most bytes moved out that it will pay for.
    pub egress_max_bytes: u64,
    /// Compressed image size.
    pub image_size_bytes: u64,
    /// Salted digest of the manifest, in hexadecimal.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<market::Digest>")]
    pub manifest: market::Digest,
    /// Who hold the encrypted manifest. Their dial addresses are in `/api/v1/status` of each.
    pub keepers: Vec<KeeperView>,
    /// Machines that it shall not meet again.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<MachineId>>")]
    pub avoids: Vec<MachineId>,
    /// When it was opened.
    pub opened_at: TimeView,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobEndView {
    /// The last lease's reason, or `no-match`, `cancelled`, `budget-reached`.
    pub reason: EndReasonView,
    /// When.
    pub at: TimeView,
}

/// Returns a job end as a reason word and, for failed work, its exit code.
pub(crate) fn job_end(end: JobEnd) -> EndReasonView {
    match end {
        JobEnd::Lease(reason) => reason.into(),
        JobEnd::NoMatch => EndReasonView::word("no-match"),
        JobEnd::Cancelled => EndReasonView::word("cancelled"),
        JobEnd::BudgetReached => EndReasonView::word("budget-reached"),
    }
}

impl JobView {
    /// Makes the view of a record; `held` is what the job's escrow has left.
    pub fn new(job: &Job, held: market::Money) -> Self {
        let spec = &job.spec;
        let (state, order, lease, end) = match job.state {
            JobState::Open { order } => ("open", Some(order), None, None),
            JobState::Running { lease } => ("running", None, Some(lease), None),
            JobState::Ended { reason, at } => (
                "ended",
                None,
                None,
                Some(JobEndView {
                    reason: job_end(reason),
                    at: at.into(),
                }),
            ),
        };
        Self {
            id: job.id,
            tenant: job.tenant,
            opened_by: job.opened_by,
            name: spec.name.clone(),
            kind: kind_word(spec.kind).to_owned(),
            state: state.to_owned(),
            order,
            lease,
            end,
            needs: RequirementView::from(&spec.needs),
            tier: spec.tier,
            budget: spec.budget.into(),
            price_cap: spec.price_cap.map(Into::into),
            charged: job.charged.into(),
            held: held.into(),
            duration_max_ms: spec.duration_max.millis(),
            ran_ms: job.ran.millis(),
            attempts_max: spec.attempts_max,
            attempts_used: job.attempts_used,
            orders: job.orders,
            window_ms: spec.window.millis(),
            wait_max_ms: spec.wait_max.millis(),
            pause_grace_ms: match spec.on_budget {
                OnBudget::End => None,
                OnBudget::Pause { grace } => Some(grace.millis()),
            },
            partition_pause_ms: partition_pause_ms(spec.on_partition),
            verification: verification_word(spec.verification).to_owned(),
            storage_kept_bytes: spec.storage_kept.bytes(),
            egress_max_bytes: spec.egress_max.bytes(),
            image_size_bytes: spec.image_size.bytes(),
            manifest: spec.manifest,
            keepers: spec.keepers.iter().map(KeeperView::from).collect(),
            avoids: job.avoid.iter().map(|avoid| avoid.machine).collect(),
            opened_at: job.opened_at.into(),
        }
    }
}

pub(crate) const fn partition_pause_ms(policy: OnPartition) -> Option<u64> {
    match policy {
        OnPartition::Keep => None,
        OnPartition::Pause { after } => Some(after.millis()),
    }
}

const fn kind_word(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Batch => "batch",
        JobKind::Service => "service",
        JobKind::Gang { .. } => "gang",
        JobKind::Array { .. } => "array",
    }
}

const fn verification_word(verification: Verification) -> &'static str {
    match verification {
        Verification::None => "none",
        Verification::Sampled { .. } => "sampled",
        Verification::Redundant { .. } => "redundant",
    }
}

/// Which machines will do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementView {
    /// `any`, `cpu` or `gpu`.
    pub device: String,
    /// GPU models that will do; empty is any.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<Name>>")]
    pub models: Vec<Name>,
    /// Least device memory.
    pub vram_min_bytes: u64,
    /// How attached; `None` is any.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Interface>>")]
    pub interface: Option<Interface>,
    /// Whether all devices must share one fabric.
    pub one_fabric: bool,
    /// How many devices.
    pub count: u8,
    /// Processor time; `None` takes the devices' share.
    pub cpu_milli: Option<u32>,
    /// Memory; `None` takes the devices' share.
    pub memory_bytes: Option<u64>,
    /// Disk.
    pub disk_bytes: u64,
    /// Weakest isolation that will do.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Isolation>")]
    pub isolation: Isolation,
    /// Regions that will do; empty is any.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<Name>>")]
    pub regions: Vec<Name>,
    /// Facility certificates that are all needed.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<Name>>")]
    pub certificates: Vec<Name>,
    /// Least reliability, in hundredths of a percent.
    pub reliability_min_bps: Option<u16>,
    /// Least SLA class.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<SlaClass>")]
    pub sla: SlaClass,
    /// Region of the latency need.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub latency_region: Option<Name>,
    /// Longest latency to that region.
    pub latency_ms_max: Option<u64>,
    /// Providers that will do; empty is any.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<AccountId>>")]
    pub providers: Vec<AccountId>,
    /// Machines that will not do.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<MachineId>>")]
    pub exclude_machines: Vec<MachineId>,
    /// Failure domains that will not do.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<Name>>")]
    pub exclude_domains: Vec<Name>,
    /// `verified-only` or `allowed`.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Claims>")]
    pub claims: Claims,
}

impl From<&Requirement> for RequirementView {
    fn from(needs: &Requirement) -> Self {
        let (device, models, vram_min_bytes, interface, one_fabric) = match &needs.device {
            DeviceNeed::Any => ("any", Vec::new(), 0, None, false),
            DeviceNeed::Cpu => ("cpu", Vec::new(), 0, None, false),
            DeviceNeed::Gpu {
                models,
                vram_min,
                interface,
                one_fabric,
            } => (
                "gpu",
                models.clone(),
                vram_min.bytes(),
                *interface,
                *one_fabric,
            ),
        };
        Self {
            device: device.to_owned(),
            models,
            vram_min_bytes,
            interface,
            one_fabric,
            count: needs.count,
            cpu_milli: needs.cpu.map(market::MilliCpu::milli),
            memory_bytes: needs.memory.map(market::ByteSize::bytes),
            disk_bytes: needs.disk.bytes(),
            isolation: needs.isolation,
            regions: needs.regions.clone(),
            certificates: needs.certificates.clone(),
            reliability_min_bps: needs.reliability_min.map(market::BasisPoints::bps),
            sla: needs.sla,
            latency_region: needs.latency.as_ref().map(|need| need.region.clone()),
            latency_ms_max: needs.latency.as_ref().map(|need| need.max.millis()),
            providers: needs.providers.clone(),
            exclude_machines: needs.exclude_machines.clone(),
            exclude_domains: needs.exclude_domains.clone(),
            claims: needs.claims,
        }
    }
}

/// An order in the book.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<OrderId>")]
    pub id: OrderId,
    /// Its job.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<JobId>")]
    pub job: JobId,
    /// Which machines will do.
    pub needs: RequirementView,
    /// How firmly.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Tier>")]
    pub tier: Tier,
    /// Most it pays.
    pub price_cap: PricesView,
    /// Longest running time that is left to the job.
    pub duration_max_ms: u64,
    /// When it was opened.
    pub opened_at: TimeView,
    /// When bids are compared.
    pub closes_at: TimeView,
    /// When it leaves the book unplaced.
    pub expires_at: TimeView,
}

impl OrderView {
    /// Makes the view of a record and its job's.
    pub fn new(order: &Order, job: &Job) -> Self {
        Self {
            id: order.id,
            job: order.job,
            needs: RequirementView::from(&job.spec.needs),
            tier: job.spec.tier,
            price_cap: PricesView::from(&order.price_cap),
            duration_max_ms: job.spec.duration_max.saturating_sub(job.ran).millis(),
            opened_at: order.opened_at.into(),
            closes_at: order.closes_at.into(),
            expires_at: order.expires_at.into(),
        }
    }
}

/// A live bid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BidView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<BidId>")]
    pub id: BidId,
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub provider: AccountId,
    /// On which order.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<OrderId>")]
    pub order: OrderId,
    /// With which machine.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<MachineId>")]
    pub machine: MachineId,
    /// With which devices, by index.
    pub devices: Vec<u8>,
    /// At what prices.
    pub prices: PricesView,
    /// Notice before a spot lease is taken back.
    pub preempt_notice_ms: u64,
}

impl From<&Bid> for BidView {
    fn from(bid: &Bid) -> Self {
        let terms = &bid.terms;
        Self {
            id: bid.id,
            provider: bid.provider,
            order: terms.order,
            machine: terms.machine,
            devices: terms.devices.clone(),
            prices: PricesView::from(&terms.prices),
            preempt_notice_ms: terms.preempt_notice.millis(),
        }
    }
}
