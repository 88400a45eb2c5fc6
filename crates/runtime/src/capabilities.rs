//! What a runtime can do on this machine.

use serde::{Deserialize, Serialize};

/// What a runtime can do on this machine: offers are built from this, never from configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The runtime: `embedded`, `runc`, `engine`, `process` or `fake`.
    pub name: String,
    /// This crate's version and the engine's.
    pub version: String,
    /// Whether containers can run here at all; if not, why, in words for the operator.
    pub usable: Result<(), String>,
    /// What stands between a tenant and the host.
    pub isolation: Isolation,
    /// How the kernel groups processes here.
    pub cgroup_mode: CgroupMode,
    /// Which limits hold.
    pub limits: LimitsEnforced,
    /// Whether a system-call filter is in force, as the self-test showed.
    pub seccomp: bool,
    /// Whether device rules are in force, as the self-test showed.
    pub device_rules: bool,
    /// Whether each container has its own range of user ids.
    pub user_namespaces: bool,
    /// What the start-up self-test tried, in order.
    pub self_test: Vec<Check>,
    /// Devices that it can hand to containers, by the names that [`crate::ContainerSpec::devices`] wants.
    #[serde(default)]
    pub devices: Vec<String>,
    /// In what it falls short of the embedded runtime.
    #[serde(default)]
    pub differences: Vec<Difference>,
}

impl Capabilities {
    /// Tells whether every check of the self-test passed and a tenant's code may be let in.
    pub fn isolates(&self) -> bool {
        self.isolation == Isolation::Container
    }

    /// Tells whether it falls short in this.
    pub fn differs(&self, difference: Difference) -> bool {
        self.differences.contains(&difference)
    }
}

/// In what a runtime falls short of the embedded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// There is no shim: the engine holds the container, and an engine that is stopped may end it.
    #[error("no shim: the engine holds the containers, and its own restart may end them")]
    NoShim,
    /// Output is copied from the engine's log; what the engine drops while no agent runs is lost.
    #[error("output is copied from the engine's own log")]
    LogsByEngine,
    /// The command is process 1: a signal that it does not handle is ignored, until it is killed.
    #[error("the command is process 1, since the engine has no init program")]
    CommandIsFirst,
    /// What a container used cannot be asked for once it has ended.
    #[error("counters end with the container")]
    NoFinalStats,
    /// A signal that ends a command is only seen by its exit code.
    #[error("signals are guessed from exit codes")]
    SignalsByCode,
    /// That memory ran out is only told where the engine tells it; podman does not with control groups of version 1.
    #[error("out of memory is told only where the engine tells it")]
    OomByEngine,
    /// System calls are filtered by the engine's list, not by ours.
    #[error("system calls are filtered by the engine's list")]
    EngineFilter,
    /// Devices cannot be handed to containers.
    #[error("no devices for containers")]
    NoDevices,
    /// Root inside is root outside.
    #[error("containers share the host's user ids")]
    SharedIds,
}

/// What stands between a tenant and the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Nothing to rely on: for trying it out, and for jobs that allow it.
    None,
    /// Namespaces with an own uid range, system-call filter, device rules and limits.
    Container,
}

/// How the kernel groups processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Not used by this runtime, or not there.
    None,
    /// Version 1 only.
    V1,
    /// Version 1 controllers with a version 2 tree beside them.
    Hybrid,
    /// Version 2 only.
    V2,
}

/// Which limits hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsEnforced {
    /// [`crate::Limits::cpu_milli`].
    pub cpu: bool,
    /// [`crate::Limits::memory_bytes`].
    pub memory: bool,
    /// [`crate::Limits::pids`].
    pub pids: bool,
}

/// One thing that the self-test tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What must be so, as a fact: `denied_syscall_is_denied`.
    pub name: String,
    /// Whether it was so.
    pub passed: bool,
    /// What was seen.
    pub seen: String,
}
