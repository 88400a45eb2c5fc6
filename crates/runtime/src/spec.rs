//! What to run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::Digest;

/// Describes one container. Everything not said here comes from the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The prepared image, by the digest that [`crate::Runtime::prepare`] returned.
    pub image: Digest,
    /// Replaces the image's entrypoint; where set, the image's default arguments are dropped as well.
    pub command: Option<Vec<String>>,
    /// Replaces the image's default arguments.
    pub args: Option<Vec<String>>,
    /// Added to the image's environment; wins where both name a variable.
    pub env: BTreeMap<String, String>,
    /// Replaces the image's working directory; made where it does not exist. Absolute.
    pub workdir: Option<String>,
    /// The host name inside.
    pub hostname: Option<String>,
    /// Devices it gets, by their names in the Container Device Interface: `vendor/class=name`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// What it may use.
    pub limits: Limits,
}

impl ContainerSpec {
    /// Returns a spec that runs `image` as it is, within `limits`.
    pub fn new(image: Digest, limits: Limits) -> Self {
        Self {
            image,
            command: None,
            args: None,
            env: BTreeMap::new(),
            workdir: None,
            hostname: None,
            devices: Vec::new(),
            limits,
        }
    }
}

/// What a container may use. Which of them are enforced, [`crate::Capabilities`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// CPU time per time, in thousandths of a core.
    pub cpu_milli: u32,
    /// Memory, in bytes; swap is not added to it.
    pub memory_bytes: u64,
    /// Processes and threads together.
    pub pids: u32,
}

impl Limits {
    /// Returns the whole cores that the quota covers, at least one: what a program should size its pools by.
    pub fn cpus(&self) -> u32 {
        self.cpu_milli.div_ceil(1000).max(1)
    }
}
