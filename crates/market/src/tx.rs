//! Every verb of the product as one documented enum, and the shapes it carries.
//!
//! Shapes are bounded and parsed once: a [`Name`] that decodes is a valid name. Lists carry their bound as a constant
//! beside them, checked by `Tx::check_shape` before anything else happens.

use std::{fmt, sync::Arc};

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    codec::{Digest, PublicKey, encode},
    ids::{AccountId, BidId, JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    reject::Inadmissible,
    units::{BasisPoints, ByteSize, MilliCpu, Millis, Money, PricePerGib, Rate, Timestamp},
};

/// Most devices of one machine.
pub const DEVICES_MAX: usize = 64;
/// Most keepers of one job.
pub const KEEPERS_MAX: usize = 4;
/// Most entries of any list of names or exclusions in a requirement.
pub const LIST_MAX: usize = 32;
/// Most dial hints of a machine.
pub const DIAL_MAX: usize = 8;
/// Most instants in one beat batch: an hour at the leased interval.
pub const BEATS_MAX: usize = 360;
/// Most leases that one beat names; a machine cannot have more leases than devices.
pub const BEAT_LEASES_MAX: usize = DEVICES_MAX;

/// A short text: 1 to 64 printable ASCII characters, no spaces at the ends.
///
/// Clones share the text: names are in records that are copied at every write.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 64;

    /// Parses a name; `None` when it is empty, too long, or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::LEN_MAX).contains(&text.len());
        let plain = text.bytes().all(|c| (b' '..=b'~').contains(&c));
        (fits && plain && text.trim() == text).then(|| Self(text.into()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl BorshSerialize for Name {
    fn serialize<W: std::io::Write>(&self, writer: &mut W) -> std::io::Result<()> {
        self.0.serialize(writer)
    }
}

impl BorshDeserialize for Name {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let text = String::deserialize_reader(reader)?;
        Self::parse(&text).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}

/// Every verb of the product. New verbs are appended: the position is the tag on the wire.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Tx {
    /// Treasurer: creates dollars against an outside payment; the reference can be used once.
    Issue {
        /// Who receives them.
        to: AccountId,
        /// How much.
        amount: Money,
        /// Digest of the outside payment.
        reference: Digest,
    },
    /// Moves available dollars to another account; opens it when the amount is a first deposit.
    Transfer {
        /// Who receives them.
        to: AccountId,
        /// How much.
        amount: Money,
        /// Free digest, for example of an invoice.
        memo: Option<Digest>,
    },
    /// Sets dollars aside to be paid out by a treasurer; they return after the release time unless it confirms.
    RequestRedemption {
        /// The treasurer that shall pay.
        treasurer: PublicKey,
        /// How much.
        amount: Money,
        /// Salted digest of where to.
        destination: Digest,
    },
    /// Treasurer: the outside payment was made; the dollars are destroyed. The reference can be used once.
    ConfirmRedemption {
        /// Which request.
        redemption: RedemptionId,
        /// Digest of the outside payment.
        reference: Digest,
    },
    /// Treasurer: the payment cannot be made; the dollars return.
    RefuseRedemption {
        /// Which request.
        redemption: RedemptionId,
    },
    /// Owner: lets another key act for the account.
    AuthorizeKey {
        /// The key.
        key: PublicKey,
        /// What it may do.
        role: KeyRole,
        /// How much it may commit to jobs in all; `None` is without limit.
        budget: Option<Money>,
        /// When it ends.
        expires_at: Option<Timestamp>,
    },
    /// Owner: ends a key's authority. Its nonce stays known.
    RevokeKey {
        /// The key.
        key: PublicKey,
    },
    /// Makes the account a provider.
    OpenProvider {
        /// The name shown to tenants.
        name: Name,
    },
    /// Moves available dollars into the provider's bond.
    PostBond {
        /// How much.
        amount: Money,
    },
    /// Moves bond that no lease reserves back to available.
    WithdrawBond {
        /// How much.
        amount: Money,
    },
    /// Adds a machine; its id derives from signer and nonce.
    AddMachine {
        /// The three keys.
        keys: MachineKeys,
        /// What it has.
        spec: MachineSpec,
    },
    /// Replaces what a machine says of itself; devices under lease must stay.
    UpdateMachine {
        /// Which.
        machine: MachineId,
        /// What it has now.
        spec: MachineSpec,
    },
    /// Replaces a machine's keys.
    RotateMachineKeys {
        /// Which.
        machine: MachineId,
        /// The new keys.
        keys: MachineKeys,
    },
    /// Takes a machine out of matching; its leases run to their end, or end as drained at `evict_at`.
    DrainMachine {
        /// Which.
        machine: MachineId,
        /// When remaining leases end as drained; `None` lets them run out.
        evict_at: Option<Timestamp>,
    },
    /// Puts a drained machine back into matching.
    ResumeMachine {
        /// Which.
        machine: MachineId,
    },
    /// Removes a machine without leases, and its offers.
    RetireMachine {
        /// Which.
        machine: MachineId,
    },
    /// Places a standing offer; its id derives from signer and nonce.
    PlaceOffer(OfferTerms),
    /// Withdraws a standing offer; leases made from it go on.
    WithdrawOffer {
        /// Which.
        offer: OfferId,
    },
    /// Machine key: says that the machine and the named leases were alive at each instant.
    Beat(BeatBatch),
    /// Opens a job and holds its budget; its id derives from signer and nonce.
    OpenJob(JobSpec),
    /// Adds to a job's budget.
    TopUpJob {
        /// Which.
        job: JobId,
        /// How much.
        amount: Money,
    },
    /// Ends a job and its lease.
    CancelJob {
        /// Which.
        job: JobId,
    },
    /// Bids on an order; its id derives from signer and nonce.
    PlaceBid(BidTerms),
    /// Takes a bid back while its order is open.
    WithdrawBid {
        /// Which.
        bid: BidId,
    },
    /// Machine key: the workload is ready; charging starts.
    LeaseReady {
        /// Which.
        lease: LeaseId,
        /// The machine's clock at ready.
        at: Timestamp,
    },
    /// Machine key: the workload ended, or could not be started.
    LeaseEnded {
        /// Which.
        lease: LeaseId,
        /// The machine's clock at the end.
        at: Timestamp,
        /// What was seen.
        outcome: Outcome,
    },
    /// Provider: takes a spot lease back; it ends as preempted after the offer's notice.
    PreemptLease {
        /// Which.
        lease: LeaseId,
    },
    /// Anyone: releases a hold whose deadline has passed.
    ReleaseHold {
        /// The job whose hold it is.
        job: JobId,
    },
    /// Lets a job run longer than it was to at first.
    ExtendJob {
        /// Which.
        job: JobId,
        /// By how much.
        by: Millis,
    },
}

impl Tx {
    /// Checks the bound of every list, before anything else happens.
    pub fn check_shape(&self) -> Result<(), Inadmissible> {
        match self {
            Self::AddMachine { spec, .. } | Self::UpdateMachine { spec, .. } => {
                within("devices", spec.devices.len(), DEVICES_MAX)?;
                within("dial", spec.dial.len(), DIAL_MAX)
            }
            Self::PlaceOffer(terms) => within("devices", terms.devices.len(), DEVICES_MAX),
            Self::PlaceBid(terms) => within("devices", terms.devices.len(), DEVICES_MAX),
            Self::Beat(batch) => {
                within("beats", batch.beats.len(), BEATS_MAX)?;
                let longest = batch.beats.iter().map(|b| b.leases.len()).max();
                within("leases", longest.unwrap_or(0), BEAT_LEASES_MAX)
            }
            Self::OpenJob(spec) => {
                within("keepers", spec.keepers.len(), KEEPERS_MAX)?;
                spec.needs.check_shape()
            }
            Self::Issue { .. }
            | Self::Transfer { .. }
            | Self::RequestRedemption { .. }
            | Self::ConfirmRedemption { .. }
            | Self::RefuseRedemption { .. }
            | Self::AuthorizeKey { .. }
            | Self::RevokeKey { .. }
            | Self::OpenProvider { .. }
            | Self::PostBond { .. }
            | Self::WithdrawBond { .. }
            | Self::RotateMachineKeys { .. }
            | Self::DrainMachine { .. }
            | Self::ResumeMachine { .. }
            | Self::RetireMachine { .. }
            | Self::WithdrawOffer { .. }
            | Self::TopUpJob { .. }
            | Self::CancelJob { .. }
            | Self::WithdrawBid { .. }
            | Self::LeaseReady { .. }
            | Self::LeaseEnded { .. }
            | Self::PreemptLease { .. }
            | Self::ReleaseHold { .. }
            | Self::ExtendJob { .. } => Ok(()),
        }
    }
}

fn within(field: &'static str, len: usize, max: usize) -> Result<(), Inadmissible> {
    if len <= max {
        Ok(())
    } else {
        Err(Inadmissible::OutOfBounds { field })
    }
}

impl Requirement {
    fn check_shape(&self) -> Result<(), Inadmissible> {
        if let DeviceNeed::Gpu { models, .. } = &self.device {
            within("models", models.len(), LIST_MAX)?;
        }
        within("regions", self.regions.len(), LIST_MAX)?;
        within("certificates", self.certificates.len(), LIST_MAX)?;
        within("providers", self.providers.len(), LIST_MAX)?;
        within("exclude_machines", self.exclude_machines.len(), LIST_MAX)?;
        within("exclude_domains", self.exclude_domains.len(), LIST_MAX)
    }
}

/// What a key may do for its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum KeyRole {
    /// Everything: the account's own key.
    Owner,
    /// Issues and redeems dollars; set at genesis.
    Treasurer,
    /// Opens, tops up and cancels jobs within its budget; signs grants.
    Tenant,
    /// Manages machines, offers and bids; cannot move money.
    Provider,
    /// Beats and reports of one machine; cannot move money.
    Machine(MachineId),
    /// Signs grants only: may look, cannot spend.
    Viewer,
}

/// A machine's three keys, each rotatable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct MachineKeys {
    /// Signs beats and reports (Ed25519).
    pub sign: PublicKey,
    /// The address that the data plane dials (Ed25519).
    pub endpoint: PublicKey,
    /// Receives job keys (X25519).
    pub seal: PublicKey,
}

/// What a machine says of itself. Until verification arrives, these are claims.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct MachineSpec {
    /// What can be leased, by index; at most [`DEVICES_MAX`].
    pub devices: Vec<Device>,
    /// Processor time for leases.
    pub cpu: MilliCpu,
    /// Memory for leases.
    pub memory: ByteSize,
    /// Disk for leases.
    pub disk: ByteSize,
    /// Download bandwidth in bytes per second, if measured.
    pub down_bytes_per_s: Option<u64>,
    /// Strongest isolation that its runtime enforces.
    pub isolation: Isolation,
    /// Runtime, for example `embedded` or `process`.
    pub runtime: Name,
    /// Region, for example `eu-west`.
    pub region: Option<Name>,
    /// Facility, as its auditors name it.
    pub facility: Option<Name>,
    /// What fails together with it: host, rack or site.
    pub failure_domain: Name,
    /// Where the endpoint key may be dialled: `ip:port` or a relay's address; at most [`DIAL_MAX`].
    pub dial: Vec<Name>,
}

/// One leasable device.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Device {
    /// CPU slot or GPU.
    pub class: DeviceClass,
    /// Canonical model in lower case: `h100`, `rtx4090`; `cpu` for CPU slots.
    pub model: Name,
    /// Device memory; zero for CPU slots.
    pub vram: ByteSize,
    /// How it is attached.
    pub interface: Interface,
    /// Devices with the same number share a fast interconnect.
    pub fabric: u8,
    /// Salted digest of the hardware identity.
    pub identity: Digest,
}

/// CPU slot or GPU, by vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum DeviceClass {
    /// A share of the machine's processor and memory.
    Cpu,
    /// A GPU of NVIDIA.
    Nvidia,
    /// A GPU of AMD.
    Amd,
    /// A GPU of Intel.
    Intel,
}

/// How a device is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Interface {
    /// Part of the host (CPU slots, integrated GPUs).
    Host,
    /// A PCI Express card.
    Pcie,
    /// A module with its own interconnect (SXM, OAM).
    Module,
}

/// Isolation classes, weakest first; a requirement names the weakest that will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Isolation {
    /// A process of the provider's user; limits are not enforced.
    None,
    /// A container: namespaces, limits, seccomp, device rules.
    Container,
    /// A virtual machine.
    Vm,
    /// A confidential virtual machine with attestation.
    Tee,
}

/// Prices of one lease or offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Prices {
    /// Per device-hour.
    pub per_device_hour: Rate,
    /// Per GiB-hour of storage kept while paused or between attempts.
    pub per_gib_hour: Rate,
    /// Per GiB moved out.
    pub per_gib_out: PricePerGib,
}

/// How firmly capacity is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Tier {
    /// The provider may take it back after the offer's notice.
    Spot,
    /// Until the tenant ends it, within the offer's longest term.
    OnDemand,
    /// A fixed term.
    Reserved,
}

/// Availability promised, each with a public credit table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum SlaClass {
    /// No promise.
    None,
    /// 99.0 %.
    P990,
    /// 99.5 %.
    P995,
    /// 99.9 %.
    P999,
}

/// A standing offer: any order that fits takes it at its price.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OfferTerms {
    /// Whose devices.
    pub machine: MachineId,
    /// Which devices of the machine, by index, ascending, no repeats.
    pub devices: Vec<u8>,
    /// How firmly.
    pub tier: Tier,
    /// At what prices.
    pub prices: Prices,
    /// Shortest job duration that it takes.
    pub term_min: Millis,
    /// Longest job duration that it takes.
    pub term_max: Millis,
    /// Notice before a spot lease is taken back.
    pub preempt_notice: Millis,
    /// Availability promised.
    pub sla: SlaClass,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

/// A bid on one order.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BidTerms {
    /// The order.
    pub order: OrderId,
    /// The machine that would serve it.
    pub machine: MachineId,
    /// The exact devices, by index, ascending, no repeats.
    pub devices: Vec<u8>,
    /// At what prices; the winner is paid its bid.
    pub prices: Prices,
    /// Notice before a spot lease is taken back.
    pub preempt_notice: Millis,
}

/// What a machine says of itself and its leases; one per interval, or one for a whole outage.
///
/// Beats are hash-chained: link `n` is `SHA-256("tradewind/beat/v1" ‖ link n−1 ‖ machine ‖ seq ‖ at ‖ leases)`. `prev`
/// is the link of the last beat that the machine knows was accepted, or the zero digest for its first.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BeatBatch {
    /// The machine.
    pub machine: MachineId,
    /// Number of the first beat in the batch; counts up by one per beat.
    pub first_seq: u64,
    /// Link before the first beat.
    pub prev: Digest,
    /// The beats, oldest first; at most [`BEATS_MAX`].
    pub beats: Vec<Beat>,
}

impl BeatBatch {
    /// Returns link `seq` of a machine's beat chain.
    pub fn link(prev: &Digest, machine: MachineId, seq: u64, beat: &Beat) -> Digest {
        Digest::of(&[
            b"tradewind/beat/v1",
            &prev.0,
            &machine.to_bytes(),
            &seq.to_le_bytes(),
            &encode(&beat.at),
            &encode(&beat.leases),
        ])
    }

    /// Returns the link of the batch's last beat; `prev` when it has none.
    pub fn last_link(&self) -> Digest {
        let numbered = self.beats.iter().zip(self.first_seq..);
        numbered.fold(self.prev, |prev, (beat, seq)| {
            Self::link(&prev, self.machine, seq, beat)
        })
    }
}

/// One beat.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Beat {
    /// The machine's clock.
    pub at: Timestamp,
    /// Leases whose workload was seen running, ascending.
    pub leases: Vec<LeaseId>,
}

impl Beat {
    /// Returns the beat's link in its machine's chain, after the link `prev`, as beat number `seq`.
    pub fn link(&self, prev: &Digest, machine: MachineId, seq: u64) -> Digest {
        let at_and_leases = crate::codec::encode(self);
        Digest::of(&[
            b"tradewind/beat/v1",
            &prev.0,
            &machine.to_bytes(),
            &seq.to_le_bytes(),
            &at_and_leases,
        ])
    }
}

/// What a tenant wants done.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct JobSpec {
    /// The tenant's own name for it.
    pub name: Option<Name>,
    /// What sort of work.
    pub kind: JobKind,
    /// Which machines will do.
    pub needs: Requirement,
    /// How firmly.
    pub tier: Tier,
    /// Hard cap of what it may cost in all, held at once.
    pub budget: Money,
    /// Most it pays per device-hour; `None` accepts any price within the budget.
    pub price_cap: Option<Rate>,
    /// Longest running time, over all attempts.
    pub duration_max: Millis,
    /// Attempts that failing work may use up; at least 1.
    pub attempts_max: u16,
    /// How long bids are collected; zero takes the best standing offer at once.
    pub window: Millis,
    /// How long an order may wait in the book for capacity.
    pub wait_max: Millis,
    /// What happens when the budget is used up.
    pub on_budget: OnBudget,
    /// What the machine does when it cannot reach the ledger.
    pub on_partition: OnPartition,
    /// How the work shall be verified.
    pub verification: Verification,
    /// Storage kept while paused and between attempts.
    pub storage_kept: ByteSize,
    /// Most bytes moved out that it will pay for.
    pub egress_max: ByteSize,
    /// Compressed image size, for the start deadline.
    pub image_size: ByteSize,
    /// Salted digest of the manifest; its content never goes on the ledger.
    pub manifest: Digest,
    /// Who hold the encrypted manifest; at most [`KEEPERS_MAX`], at least one.
    pub keepers: Vec<Keeper>,
}

/// A keeper: holds the encrypted manifest and re-seals the job key to the machine of a live lease. It can read the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Keeper {
    /// The address that the data plane dials (Ed25519).
    pub endpoint: PublicKey,
    /// Receives the job key (X25519).
    pub seal: PublicKey,
}

/// What sort of work; only batch is accepted so far, the others keep their place on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum JobKind {
    /// Runs to its end.
    Batch,
    /// Runs until it is stopped.
    Service,
    /// Several ranks at once, all or none.
    Gang {
        /// How many.
        ranks: u16,
    },
    /// Many independent runs.
    Array {
        /// How many.
        size: u32,
    },
}

/// What happens when the budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum OnBudget {
    /// The lease ends as budget-reached.
    End,
    /// The lease pauses, its storage kept, until a top-up or for this long.
    Pause {
        /// How long.
        grace: Millis,
    },
}

/// What a machine does that cannot reach the ledger; it never goes on beyond the funded instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum OnPartition {
    /// Goes on.
    Keep,
    /// Pauses the workload after this long.
    Pause {
        /// How long.
        after: Millis,
    },
}

/// How work is verified; only none is accepted so far, the others keep their place on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Verification {
    /// Delivery is the provider's claim.
    None,
    /// A share of the units is re-run.
    Sampled {
        /// Which share.
        share: BasisPoints,
    },
    /// Every unit is run this many times.
    Redundant {
        /// How many times.
        copies: u8,
    },
}

/// Which machines will do. Every field that is set must be met; unknown fails, unless claims are allowed.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Requirement {
    /// Which devices.
    pub device: DeviceNeed,
    /// How many of them, on one machine; at least 1.
    pub count: u8,
    /// Processor time; `None` takes the devices' share of the machine.
    pub cpu: Option<MilliCpu>,
    /// Memory; `None` takes the devices' share of the machine.
    pub memory: Option<ByteSize>,
    /// Disk.
    pub disk: ByteSize,
    /// Weakest isolation that will do.
    pub isolation: Isolation,
    /// Regions that will do; empty is any.
    pub regions: Vec<Name>,
    /// Facility certificates that are all needed.
    pub certificates: Vec<Name>,
    /// Least reliability by the ledger's own evidence.
    pub reliability_min: Option<BasisPoints>,
    /// Least SLA class.
    pub sla: SlaClass,
    /// Longest measured latency to a region.
    pub latency: Option<LatencyNeed>,
    /// Providers that will do; empty is any.
    pub providers: Vec<AccountId>,
    /// Machines that will not do.
    pub exclude_machines: Vec<MachineId>,
    /// Failure domains that will not do.
    pub exclude_domains: Vec<Name>,
    /// Whether unverified claims will do.
    pub claims: Claims,
}

/// Which devices will do.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DeviceNeed {
    /// Anything.
    Any,
    /// CPU slots.
    Cpu,
    /// GPUs.
    Gpu {
        /// Models that will do, canonical; empty is any.
        models: Vec<Name>,
        /// Least device memory.
        vram_min: ByteSize,
        /// How attached; `None` is any.
        interface: Option<Interface>,
        /// Whether all must share one fabric.
        one_fabric: bool,
    },
}

/// A latency need.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LatencyNeed {
    /// To where.
    pub region: Name,
    /// At most.
    pub max: Millis,
}

/// Whether a provider's unverified word is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Claims {
    /// Only what was measured or attested counts.
    VerifiedOnly,
    /// Unverified claims count; today nothing else exists.
    Allowed,
}

/// What a machine saw of a workload's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Outcome {
    /// It exited.
    Exited {
        /// Its exit code; 128 + n for signal n.
        code: u8,
        /// Whether the memory limit killed it.
        out_of_memory: bool,
    },
    /// The image could not be fetched, verified or started; the tenant's to mend.
    ImageError,
    /// The machine stopped it at the instant up to which it was funded, or at its longest duration.
    LimitReached,
    /// The machine stopped it because the ledger had ended the lease's job, or to give notice effect.
    Stopped,
    /// The machine lost the workload by its own fault.
    Lost,
}
