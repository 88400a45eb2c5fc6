//! What of the machine is offered.

use market::{
    BasisPoints, ByteSize, DEVICES_MAX, Device, DeviceClass, Digest, Interface, Isolation,
    MachineSpec, MilliCpu, Name, NetworkName, PublicKey,
};

use super::{Gpu, Inventory, canonical_model, devices::cdi_name, interface_of};

/// How a provider wants its machine listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// How many leases a machine without GPUs takes side by side; 1 to [`DEVICES_MAX`].
    pub slots: u8,
    /// Whether its GPUs are offered; without them it is a machine of CPU slots.
    pub gpus: bool,
    /// Share of processor, memory and disk that is for leases; the rest is the host's own, or another agent's.
    pub share: BasisPoints,
    /// Region, if the provider says.
    pub region: Option<Name>,
    /// Facility, as its auditors name it.
    pub facility: Option<Name>,
    /// What fails together with it; `None` is this host.
    pub failure_domain: Option<Name>,
    /// Where the data plane may dial the machine.
    pub dial: Vec<Name>,
}

impl Default for Listing {
    /// Its GPUs, else two slots, on nine tenths of the machine.
    fn default() -> Self {
        Self {
            slots: 2,
            gpus: true,
            share: BasisPoints::from_bps(9_000),
            region: None,
            facility: None,
            failure_domain: None,
            dial: Vec::new(),
        }
    }
}

/// What is offered, and what is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// What goes on the ledger.
    pub spec: MachineSpec,
    /// GPUs that are there and not offered, in bus order.
    pub left_out: Vec<(Gpu, NotOffered)>,
}

/// Why a GPU is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOffered {
    /// The provider does not want to.
    #[error("this provider lists no GPUs (--no-gpus)")]
    Unwanted,
    /// The runtime hands no device to any container.
    #[error("the runtime hands no GPUs to containers; the embedded one does, as root")]
    Runtime,
    /// No description tells what a container needs for it.
    #[error(
        "no CDI file describes it; install nvidia-container-toolkit, then: \
         nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
    )]
    Undescribed,
    /// It is cut into instances.
    #[error("it is cut into instances (MIG)")]
    Mig,
    /// Something outside the exchange uses it.
    #[error("{0} program(s) outside the exchange use it")]
    Busy(u32),
    /// The driver's name for it is not understood.
    #[error("its model is not known")]
    Model,
}

/// Who the machine is and what runs its containers: the rest of what [`machine_spec`] needs.
#[derive(Clone, Copy, Debug)]
pub struct MachineFacts<'a> {
    /// The network: identities are salted with it.
    pub network: &'a NetworkName,
    /// The machine's sign key: tells the slots of two agents on one host apart.
    pub sign: &'a PublicKey,
    /// What the runtime can do.
    pub runtime: &'a runtime::Capabilities,
}

/// Returns what of `inventory` is offered: its GPUs, or CPU slots where no GPU can be.
pub fn machine_spec(inventory: &Inventory, listing: &Listing, facts: MachineFacts<'_>) -> Offered {
    let (mut devices, mut left_out) = (Vec::new(), Vec::new());
    for gpu in inventory.gpus.iter().flatten() {
        let device = if listing.gpus {
            gpu_device(gpu, devices.len(), facts)
        } else {
            Err(NotOffered::Unwanted)
        };
        match device {
            Ok(device) => devices.push(device),
            Err(why) => left_out.push((gpu.clone(), why)),
        }
    }
    if devices.is_empty() {
        let slots = listing
            .slots
            .clamp(1, u8::try_from(DEVICES_MAX).unwrap_or(u8::MAX));
        devices = (0..slots)
            .map(|slot| cpu_slot(inventory, slot, facts))
            .collect();
    }
    let host = &inventory.host;
    let spec = MachineSpec {
        devices,
        cpu: MilliCpu::from_milli(
            u32::try_from(share(u64::from(host.cpu.milli()), listing.share)).unwrap_or(u32::MAX),
        ),
        memory: ByteSize::from_bytes(share(host.memory.bytes(), listing.share)),
        disk: ByteSize::from_bytes(share(host.disk.bytes(), listing.share)),
        // The link's stated speed is no measurement of what reaches a registry.
        down_bytes_per_s: None,
        isolation: match facts.runtime.isolation {
            runtime::Isolation::None => Isolation::None,
            runtime::Isolation::Container => Isolation::Container,
        },
        runtime: Name::parse(&facts.runtime.name).unwrap_or_else(unnamed),
        region: listing.region.clone(),
        facility: listing.facility.clone(),
        failure_domain: listing
            .failure_domain
            .clone()
            .unwrap_or_else(|| host.failure_domain()),
        dial: listing.dial.clone(),
    };
    Offered { spec, left_out }
}

fn unnamed() -> Name {
    Name::parse("unnamed").expect("a plain word is a name")
}

fn share(of: u64, bps: BasisPoints) -> u64 {
    let part = u128::from(of) * u128::from(bps.bps().min(10_000)) / 10_000;
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Returns the model under which a GPU can be offered by a runtime.
///
/// # Errors
/// Why it cannot be.
pub fn offerable(gpu: &Gpu, runtime: &runtime::Capabilities) -> Result<Name, NotOffered> {
    if runtime.differs(runtime::Difference::NoDevices) {
        return Err(NotOffered::Runtime);
    }
    if gpu.mig {
        return Err(NotOffered::Mig);
    }
    if gpu.programs > 0 {
        return Err(NotOffered::Busy(gpu.programs));
    }
    let model = canonical_model(&gpu.name).ok_or(NotOffered::Model)?;
    let described = cdi_name(gpu, &runtime.devices);
    described.map(|_| model).ok_or(NotOffered::Undescribed)
}

fn gpu_device(gpu: &Gpu, index: usize, facts: MachineFacts<'_>) -> Result<Device, NotOffered> {
    let model = offerable(gpu, facts.runtime)?;
    let interface = interface_of(&gpu.name);
    let on_switch = interface == Interface::Module && gpu.linked;
    Ok(Device {
        class: DeviceClass::Nvidia,
        model,
        vram: ByteSize::from_bytes(gpu.vram_bytes),
        interface,
        // Linked modules of one host share its switch, fabric 0; any other GPU is alone in its own.
        fabric: if on_switch {
            0
        } else {
            u8::try_from(index + 1).unwrap_or(u8::MAX)
        },
        identity: gpu_identity(facts.network, gpu),
    })
}

fn cpu_slot(inventory: &Inventory, slot: u8, facts: MachineFacts<'_>) -> Device {
    let parts: [&[u8]; 4] = [
        b"cpu",
        &inventory.host.identity.0,
        facts.sign.as_bytes(),
        &[slot],
    ];
    Device {
        class: DeviceClass::Cpu,
        model: Name::parse("cpu").expect("a plain word is a name"),
        vram: ByteSize::ZERO,
        interface: Interface::Host,
        fabric: 0,
        identity: identity(facts.network, &parts),
    }
}

/// Returns how the ledger knows a GPU.
pub(super) fn gpu_identity(network: &NetworkName, gpu: &Gpu) -> Digest {
    identity(network, &[b"gpu", gpu.uuid.as_bytes()])
}

/// Salted with the network only, so that the same GPU listed twice in it is seen; a UUID is too long to be guessed.
fn identity(network: &NetworkName, parts: &[&[u8]]) -> Digest {
    let name = network.as_str().as_bytes();
    let mut all: Vec<&[u8]> = vec![b"tradewind/device/v1", name, &[0]];
    all.extend(parts);
    Digest::of(&all)
}

#[cfg(test)]
mod tests {
    use runtime::Runtime as _;

    use super::*;
    use crate::inventory::{GpuProbe as _, Host, RecordedProbe};

    fn inventory(gpus: Vec<Gpu>) -> Inventory {
        let host = Host {
            cpu: MilliCpu::from_milli(2_000),
            memory: ByteSize::from_gib(8),
            disk: ByteSize::from_gib(100),
            link_bits_per_s: None,
            identity: Digest([3; 32]),
        };
        Inventory {
            host,
            gpus: Ok(gpus),
        }
    }

    fn two_h100() -> Vec<Gpu> {
        let answer = include_str!("h100x2.json").to_owned();
        RecordedProbe { answer }.gpus().unwrap()
    }

    /// What a runtime says that can hand out devices, and has these by name.
    fn capabilities(devices: &[&str]) -> runtime::Capabilities {
        let executor = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let fake = runtime::Fake::new();
        fake.set_devices(devices);
        executor.block_on(fake.probe()).unwrap()
    }

    fn both_described() -> runtime::Capabilities {
        let uuids = two_h100()
            .into_iter()
            .map(|gpu| format!("nvidia.com/gpu={}", gpu.uuid));
        let uuids: Vec<String> = uuids.collect();
        capabilities(&uuids.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn spec_of(
        inventory: &Inventory,
        listing: &Listing,
        sign: u8,
        runtime: &runtime::Capabilities,
    ) -> Offered {
        let facts = MachineFacts {
            network: &NetworkName::parse("test").unwrap(),
            sign: &PublicKey::from_bytes([sign; 32]),
            runtime,
        };
        machine_spec(inventory, listing, facts)
    }

    #[test]
    fn two_agents_share_one_machine_in_slots_of_different_identity() {
        let half = Listing {
            slots: 2,
            share: BasisPoints::from_bps(4_500),
            ..Listing::default()
        };
        let runtime = capabilities(&[]);
        let a = spec_of(&inventory(vec![]), &half, 1, &runtime).spec;
        let b = spec_of(&inventory(vec![]), &half, 2, &runtime).spec;
        assert_eq!(
            (a.devices.len(), a.cpu.milli(), a.memory.bytes()),
            (2, 900, ByteSize::from_gib(8).bytes() * 45 / 100)
        );
        assert_eq!(a.failure_domain, b.failure_domain);
        let identities: std::collections::BTreeSet<Digest> = a
            .devices
            .iter()
            .chain(&b.devices)
            .map(|d| d.identity)
            .collect();
        assert_eq!(identities.len(), 4);
        assert_eq!(a.runtime.as_str(), "fake");
    }

    #[test]
    fn gpus_are_offered_only_where_the_runtime_can_hand_them_out() {
        let seen = inventory(two_h100());
        let left_out = |runtime: &runtime::Capabilities| {
            let offered = spec_of(&seen, &Listing::default(), 1, runtime);
            let gpus = offered
                .spec
                .devices
                .iter()
                .filter(|d| d.class != DeviceClass::Cpu);
            let why: Vec<NotOffered> = offered.left_out.iter().map(|l| l.1).collect();
            (gpus.count(), why)
        };
        let mut none = capabilities(&["nvidia.com/gpu=0"]);
        none.differences = vec![runtime::Difference::NoDevices];
        assert_eq!(left_out(&none), (0, vec![NotOffered::Runtime; 2]));
        let other = capabilities(&["tradewind.example/test=zero"]);
        let why = vec![NotOffered::Undescribed, NotOffered::Busy(1)];
        assert_eq!(left_out(&other), (0, why));
        assert_eq!(left_out(&both_described()), (1, vec![NotOffered::Busy(1)]));
        let slots = Listing {
            gpus: false,
            ..Listing::default()
        };
        let unwanted = spec_of(&seen, &slots, 1, &both_described());
        assert_eq!(unwanted.spec.devices.len(), 2);
        assert_eq!(unwanted.left_out[0].1, NotOffered::Unwanted);
    }

    #[test]
    fn a_gpu_in_use_or_in_pieces_is_left_out_and_the_identity_is_hashed() {
        let mut gpus = two_h100();
        let runtime = both_described();
        let all = spec_of(&inventory(gpus.clone()), &Listing::default(), 1, &runtime);
        assert_eq!(
            all.left_out.iter().map(|l| l.1).collect::<Vec<_>>(),
            [NotOffered::Busy(1)]
        );
        let h100 = &all.spec.devices[0];
        assert_eq!(
            (h100.model.as_str(), h100.interface, h100.fabric),
            ("h100", Interface::Module, 0)
        );
        assert_eq!(h100.vram.bytes(), 85_520_809_984);
        assert!(!format!("{:?}", all.spec).contains(&gpus[0].uuid));
        gpus[0].mig = true;
        let rest = spec_of(&inventory(gpus), &Listing::default(), 1, &runtime);
        assert_eq!(rest.left_out[0].1, NotOffered::Mig);
        assert_eq!(rest.spec.devices[0].class, DeviceClass::Cpu);
    }
}
