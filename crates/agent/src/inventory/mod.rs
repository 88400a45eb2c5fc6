//! What the machine has, measured.
//!
//! [`measure`] reads the kernel and asks a [`GpuProbe`]; [`machine_spec`] turns that and the provider's [`Listing`] into
//! what goes on the ledger. Map: `host` reads the kernel, `gpu` asks for GPUs in a child process, `model` names them,
//! `listing` decides what is offered, `devices` finds a lease's devices again.

mod devices;
mod gpu;
mod host;
mod listing;
mod model;

use std::path::Path;

pub use devices::{DeviceError, names_of_lease};
pub use gpu::{ChildProbe, Gpu, GpuProbe, GpuProbeError, RecordedProbe, probe_gpus_main};
pub use host::{Host, HostError};
pub use listing::{Listing, MachineFacts, NotOffered, Offered, machine_spec, offerable};
pub use model::{canonical_model, interface_of};

/// What the machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// Processor, memory, disk.
    pub host: Host,
    /// The GPUs, or why none can be told of.
    pub gpus: Result<Vec<Gpu>, String>,
}

/// Measures this machine; `data` is the folder whose disk leases use.
///
/// Blocks for as long as the probe takes, which is bounded.
///
/// # Errors
/// Only where the kernel does not tell. A machine without GPUs, or with a broken driver, is no error.
pub fn measure(data: &Path, probe: &dyn GpuProbe) -> Result<Inventory, HostError> {
    Ok(Inventory {
        host: Host::measure(data)?,
        gpus: probe.gpus().map_err(|e| e.to_string()),
    })
}
