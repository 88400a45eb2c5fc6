//! What the book says of an offer at a glance, so that most offers that will not do are passed over without a look at
//! their machine, provider and bond.
//!
//! A glance never turns away what [`fit`](crate::demand::require::fit) would take: amounts are rounded in the offer's
//! favour, and names are compared by short tags, of which equal names have equal ones.

use crate::{
    demand::require::Want,
    load::Load,
    records::{Machine, Offer},
    tx::{Device, DeviceNeed, Interface, Isolation},
    units::{ByteSize, MilliCpu},
};

/// What an offer has left, in few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    /// Offered devices that are free.
    free: u8,
    isolation: Isolation,
    /// How its devices are attached: a bit for each way.
    interfaces: u8,
    region: Option<u32>,
    cpu: MilliCpu,
    /// Of the largest device.
    vram_mib: u32,
    memory_mib: u32,
    disk_mib: u32,
}

/// What a job wants, in the same terms.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    count: u8,
    isolation: Isolation,
    interfaces: u8,
    /// Empty for any.
    regions: Vec<u32>,
    cpu: MilliCpu,
    vram_mib: u32,
    memory_mib: u32,
    disk_mib: u32,
}

impl Glance {
    /// Makes the glance of an offer whose devices in `free` are not in use.
    pub(crate) fn of(offer: &Offer, machine: &Machine, load: Option<&Load>, free: u64) -> Self {
        let spec = &machine.spec;
        let idle = Load::default();
        let used = load.unwrap_or(&idle);
        let devices = || offered(offer, machine);
        Self {
            free: u8::try_from(free.count_ones()).unwrap_or(u8::MAX),
            isolation: spec.isolation,
            interfaces: devices().fold(0, |all, d| all | interface_bit(d.interface)),
            region: spec.region.as_ref().map(|name| tag(name.as_str())),
            cpu: spec.cpu.saturating_sub(used.cpu()),
            vram_mib: devices().map(|d| mib_up(d.vram)).max().unwrap_or(0),
            memory_mib: mib_up(spec.memory.saturating_sub(used.memory())),
            disk_mib: mib_up(spec.disk.saturating_sub(used.disk())),
        }
    }

    /// Returns whether the offer is worth a look.
    pub(crate) fn may_do(&self, wanted: &Wanted) -> bool {
        let in_region = |region: &u32| Some(*region) == self.region;
        self.free >= wanted.count
            && self.isolation >= wanted.isolation
            && self.interfaces & wanted.interfaces != 0
            && self.cpu >= wanted.cpu
            && self.vram_mib >= wanted.vram_mib
            && self.memory_mib >= wanted.memory_mib
            && self.disk_mib >= wanted.disk_mib
            && (wanted.regions.is_empty() || wanted.regions.iter().any(in_region))
    }
}

impl Wanted {
    /// Makes what a job wants.
    pub(crate) fn of(want: &Want<'_>) -> Self {
        let needs = want.needs;
        let (vram, interface) = match &needs.device {
            DeviceNeed::Gpu {
                vram_min,
                interface,
                ..
            } => (*vram_min, *interface),
            DeviceNeed::Any | DeviceNeed::Cpu => (ByteSize::ZERO, None),
        };
        Self {
            count: needs.count,
            isolation: needs.isolation,
            interfaces: interface.map_or(u8::MAX, interface_bit),
            regions: needs
                .regions
                .iter()
                .map(|name| tag(name.as_str()))
                .collect(),
            // What is not asked for is a share of the machine, which fits or not: the look will tell.
            cpu: needs.cpu.unwrap_or_default(),
            vram_mib: mib_down(vram),
            memory_mib: mib_down(needs.memory.unwrap_or_default()),
            disk_mib: mib_down(needs.disk.max(want.storage_kept)),
        }
    }
}

/// Returns the devices that an offer names.
pub(crate) fn offered<'a>(
    offer: &'a Offer,
    machine: &'a Machine,
) -> impl Iterator<Item = &'a Device> {
    let named = offer.terms.devices.iter();
    named.filter_map(|d| machine.spec.devices.get(usize::from(*d)))
}

fn interface_bit(interface: Interface) -> u8 {
    match interface {
        Interface::Host => 1,
        Interface::Pcie => 2,
        Interface::Module => 4,
    }
}

fn mib_down(size: ByteSize) -> u32 {
    u32::try_from(size.bytes() >> 20).unwrap_or(u32::MAX)
}

fn mib_up(size: ByteSize) -> u32 {
    u32::try_from(size.bytes().div_ceil(1 << 20)).unwrap_or(u32::MAX)
}

/// Returns a short stand-in for a name (FNV-1a): equal for equal names, and for others seldom.
fn tag(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |tag, byte| {
        (tag ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
