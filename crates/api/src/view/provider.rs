//! Providers, their machines and standing offers.

use market::{
    AccountId, Device, DeviceClass, Interface, Isolation, Machine, MachineId, MachineState, Name,
    Offer, OfferId, Prices, Provider, ProviderState, PublicKey, SlaClass, Tier,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MoneyView, TimeView, text};

/// A provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProviderView {
    /// Its account.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub account: AccountId,
    /// The name shown to tenants.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Name>")]
    pub name: Name,
    /// `active`, `suspended` or `leaving`.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<ProviderState>")]
    pub state: ProviderState,
    /// Bond reserved by live leases.
    pub reserved: MoneyView,
    /// Leases that ended.
    pub leases_ended: u64,
    /// How many of them by this provider's fault.
    pub leases_failed: u64,
}

impl From<&Provider> for ProviderView {
    fn from(provider: &Provider) -> Self {
        Self {
            account: provider.account,
            name: provider.name.clone(),
            state: provider.state,
            reserved: provider.reserved.into(),
            leases_ended: provider.leases_ended,
            leases_failed: provider.leases_failed,
        }
    }
}

/// One leasable device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceView {
    /// Its index in the machine.
    pub index: u8,
    /// `cpu`, `nvidia`, `amd` or `intel`.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<DeviceClass>")]
    pub class: DeviceClass,
    /// Canonical model.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Name>")]
    pub model: Name,
    /// Device memory.
    pub vram_bytes: u64,
    /// `host`, `pcie` or `module`.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Interface>")]
    pub interface: Interface,
    /// Devices with the same number share a fast interconnect.
    pub fabric: u8,
    /// Its hardware's identity, hashed with the network's name, in hexadecimal.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<market::Digest>")]
    pub identity: market::Digest,
}

impl DeviceView {
    fn new(index: usize, device: &Device) -> Self {
        Self {
            index: u8::try_from(index).unwrap_or(u8::MAX),
            class: device.class,
            model: device.model.clone(),
            vram_bytes: device.vram.bytes(),
            interface: device.interface,
            fabric: device.fabric,
            identity: device.identity,
        }
    }
}

/// A machine, as its provider describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MachineView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<MachineId>")]
    pub id: MachineId,
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub provider: AccountId,
    /// Signs beats and reports.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub sign_key: PublicKey,
    /// The address that the data plane dials.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub endpoint_key: PublicKey,
    /// Receives job keys (X25519).
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub seal_key: PublicKey,
    /// `active`, `draining`, `down` or `retired`.
    pub state: String,
    /// When the leases of a draining machine end as drained.
    pub evict_at: Option<TimeView>,
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Processor time for leases, in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory for leases.
    pub memory_bytes: u64,
    /// Disk for leases.
    pub disk_bytes: u64,
    /// Download bandwidth, if measured.
    pub down_bytes_per_s: Option<u64>,
    /// Strongest isolation that its runtime enforces.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Isolation>")]
    pub isolation: Isolation,
    /// Its runtime.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Name>")]
    pub runtime: Name,
    /// Region.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub region: Option<Name>,
    /// Facility.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub facility: Option<Name>,
    /// What fails together with it.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Name>")]
    pub failure_domain: Name,
    /// Where the endpoint key may be dialled.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<Name>>")]
    pub dial: Vec<Name>,
    /// Number of its next beat.
    pub next_beat: u64,
    /// Link of its last accepted beat, in hexadecimal: what the next batch continues.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<market::Digest>")]
    pub beat_link: market::Digest,
    /// Instant of its last beat.
    pub last_beat: Option<TimeView>,
}

impl From<&Machine> for MachineView {
    fn from(machine: &Machine) -> Self {
        let spec = &machine.spec;
        let evict_at = match machine.state {
            MachineState::Draining { evict_at, .. } => evict_at,
            MachineState::Active | MachineState::Down | MachineState::Retired => None,
        };
        Self {
            id: machine.id,
            provider: machine.provider,
            sign_key: machine.keys.sign,
            endpoint_key: machine.keys.endpoint,
            seal_key: machine.keys.seal,
            state: text::machine_state(&machine.state).to_owned(),
            evict_at: evict_at.map(Into::into),
            devices: spec
                .devices
                .iter()
                .enumerate()
                .map(|(i, d)| DeviceView::new(i, d))
                .collect(),
            cpu_milli: spec.cpu.milli(),
            memory_bytes: spec.memory.bytes(),
            disk_bytes: spec.disk.bytes(),
            down_bytes_per_s: spec.down_bytes_per_s,
            isolation: spec.isolation,
            runtime: spec.runtime.clone(),
            region: spec.region.clone(),
            facility: spec.facility.clone(),
            failure_domain: spec.failure_domain.clone(),
            dial: spec.dial.clone(),
            next_beat: machine.next_beat,
            beat_link: machine.beat_link,
            last_beat: machine.last_beat.map(Into::into),
        }
    }
}

/// Prices of a lease or offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricesView {
    /// Per device-hour.
    pub per_device_hour: MoneyView,
    /// Per GiB-hour of storage kept.
    pub per_gib_hour: MoneyView,
    /// Per GiB moved out.
    pub per_gib_out: MoneyView,
}

impl From<&Prices> for PricesView {
    fn from(prices: &Prices) -> Self {
        Self {
            per_device_hour: prices.per_device_hour.into(),
            per_gib_hour: prices.per_gib_hour.into(),
            per_gib_out: MoneyView(market::Money::from_micros(
                prices.per_gib_out.micros_per_gib(),
            )),
        }
    }
}

/// A standing offer, with what matters of its machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OfferView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<OfferId>")]
    pub id: OfferId,
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub provider: AccountId,
    /// The provider's name.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub provider_name: Option<Name>,
    /// On which machine.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<MachineId>")]
    pub machine: MachineId,
    /// The machine's state, see [`MachineView::state`].
    pub machine_state: String,
    /// Indexes of the devices offered.
    pub devices: Vec<u8>,
    /// How many of them no lease has now.
    pub devices_free: u32,
    /// Class of the first device.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<DeviceClass>")]
    pub class: DeviceClass,
    /// Model of the first device.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Name>")]
    pub model: Name,
    /// Memory of the first device.
    pub vram_bytes: u64,
    /// The machine's processor time.
    pub cpu_milli: u32,
    /// The machine's memory.
    pub memory_bytes: u64,
    /// The machine's disk.
    pub disk_bytes: u64,
    /// The machine's isolation.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Isolation>")]
    pub isolation: Isolation,
    /// The machine's region.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub region: Option<Name>,
    /// How firmly.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Tier>")]
    pub tier: Tier,
    /// At what prices.
    pub prices: PricesView,
    /// Shortest job duration that it takes.
    pub term_min_ms: u64,
    /// Longest job duration that it takes.
    pub term_max_ms: u64,
    /// Notice before a spot lease is taken back.
    pub preempt_notice_ms: u64,
    /// Availability promised.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<SlaClass>")]
    pub sla: SlaClass,
    /// When it ends by itself.
    pub expires_at: TimeView,
}

impl OfferView {
    /// Makes the view of a record; `None` when the offer names no device of its machine, which the ledger rules out.
    pub fn new(
        offer: &Offer,
        machine: &Machine,
        provider_name: Option<&Name>,
        devices_free: u32,
    ) -> Option<Self> {
        let terms = &offer.terms;
        let spec = &machine.spec;
        let first = spec.devices.get(usize::from(*terms.devices.first()?))?;
        Some(Self {
            id: offer.id,
            provider: offer.provider,
            provider_name: provider_name.cloned(),
            machine: terms.machine,
            machine_state: text::machine_state(&machine.state).to_owned(),
            devices: terms.devices.clone(),
            devices_free,
            class: first.class,
            model: first.model.clone(),
            vram_bytes: first.vram.bytes(),
            cpu_milli: spec.cpu.milli(),
            memory_bytes: spec.memory.bytes(),
            disk_bytes: spec.disk.bytes(),
            isolation: spec.isolation,
            region: spec.region.clone(),
            tier: terms.tier,
            prices: PricesView::from(&terms.prices),
            term_min_ms: terms.term_min.millis(),
            term_max_ms: terms.term_max.millis(),
            preempt_notice_ms: terms.preempt_notice.millis(),
            sla: terms.sla,
            expires_at: terms.expires_at.into(),
        })
    }
}
