//! What live leases take of a machine, kept as they come and go.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    ids::LeaseId,
    records::{Lease, LeaseState},
    units::{ByteSize, MilliCpu},
};

/// What live leases take of a machine.
///
/// Rows come and go in any order when a block is undone, so that for a moment a device may be named twice: devices are
/// kept per lease, and sums wrap instead of saturating.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Its live leases.
    pub(crate) leases: BTreeSet<LeaseId>,
    /// The devices of those that are not paused, by index.
    holding: BTreeMap<LeaseId, u64>,
    /// Devices in use, by index.
    pub(crate) devices: u64,
    cpu_milli: u64,
    memory_bytes: u128,
    disk_bytes: u128,
    /// Leases whose workload runs (or is thought to).
    pub(crate) running: u32,
    /// Of those, suspect ones.
    pub(crate) suspect: u32,
}

impl Load {
    /// Returns whether one of its leases is paused.
    pub(crate) fn has_paused(&self) -> bool {
        self.leases.len() > self.holding.len()
    }

    /// Returns the processor time in use.
    pub(crate) fn cpu(&self) -> MilliCpu {
        MilliCpu::from_milli(u32::try_from(self.cpu_milli).unwrap_or(u32::MAX))
    }

    /// Returns the memory in use.
    pub(crate) fn memory(&self) -> ByteSize {
        ByteSize::from_bytes(u64::try_from(self.memory_bytes).unwrap_or(u64::MAX))
    }

    /// Returns the disk in use.
    pub(crate) fn disk(&self) -> ByteSize {
        ByteSize::from_bytes(u64::try_from(self.disk_bytes).unwrap_or(u64::MAX))
    }
}

/// How a lease weighs on its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// Not at all: it ended.
    None,
    /// Its volume only: it is paused.
    Volume,
    /// With devices, not yet running.
    Starting,
    /// With devices, running.
    Running,
    /// With devices, silent.
    Suspect,
}

impl Weight {
    /// Returns how a lease weighs.
    pub(crate) fn of(lease: &Lease) -> Self {
        match lease.state {
            LeaseState::Ended { .. } => Self::None,
            LeaseState::Paused { .. } => Self::Volume,
            LeaseState::Awarded { .. } => Self::Starting,
            LeaseState::Running { .. } | LeaseState::Preempting { .. } => Self::Running,
            LeaseState::Suspect { .. } => Self::Suspect,
        }
    }
}

/// Returns the bit set of device indexes.
pub(crate) fn device_bits(devices: &[u8]) -> u64 {
    devices.iter().fold(0, |bits, d| bits | device_bit(*d))
}

/// Returns the bit of one device index; none beyond 63.
pub(crate) fn device_bit(device: u8) -> u64 {
    1u64.checked_shl(u32::from(device)).unwrap_or(0)
}

impl Load {
    /// Adds a lease.
    pub(crate) fn grow(&mut self, lease: &Lease) {
        let weight = Weight::of(lease);
        if weight == Weight::None {
            return;
        }
        self.leases.insert(lease.id);
        self.disk_bytes = self.disk_bytes.wrapping_add(u128::from(lease.disk.bytes()));
        if weight == Weight::Volume {
            return;
        }
        self.holding.insert(lease.id, device_bits(&lease.devices));
        self.cpu_milli = self.cpu_milli.wrapping_add(u64::from(lease.cpu.milli()));
        self.memory_bytes = self
            .memory_bytes
            .wrapping_add(u128::from(lease.memory.bytes()));
        self.running = self
            .running
            .wrapping_add(u32::from(weight != Weight::Starting));
        self.suspect = self
            .suspect
            .wrapping_add(u32::from(weight == Weight::Suspect));
        self.devices = self.holding.values().fold(0, |all, bits| all | bits);
    }

    /// Takes a lease away.
    pub(crate) fn shrink(&mut self, lease: &Lease) {
        let weight = Weight::of(lease);
        if weight == Weight::None {
            return;
        }
        self.leases.remove(&lease.id);
        self.disk_bytes = self.disk_bytes.wrapping_sub(u128::from(lease.disk.bytes()));
        if weight == Weight::Volume {
            return;
        }
        self.holding.remove(&lease.id);
        self.cpu_milli = self.cpu_milli.wrapping_sub(u64::from(lease.cpu.milli()));
        self.memory_bytes = self
            .memory_bytes
            .wrapping_sub(u128::from(lease.memory.bytes()));
        self.running = self
            .running
            .wrapping_sub(u32::from(weight != Weight::Starting));
        self.suspect = self
            .suspect
            .wrapping_sub(u32::from(weight == Weight::Suspect));
        self.devices = self.holding.values().fold(0, |all, bits| all | bits);
    }
}
