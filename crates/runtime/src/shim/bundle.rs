//! A container's description, as OCI runtimes want it, and the folder it lies in.

use std::io;
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxIdMapping,
    LinuxIdMappingBuilder, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder, Mount,
    MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};

use super::job::{IdRange, Job};
use super::root::{Namespaces, Stage};
use super::seccomp::{self, MaskIn};
use super::{Failure, devices};
use crate::spec::Limits;

/// CPU time is dealt out in periods of this length, the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// The least quota the kernel takes.
const CPU_QUOTA_US_MIN: i64 = 1_000;
/// Shared memory is counted as memory, so half of that is a bound and no gift.
const SHARED_MEMORY_SHARE: u64 = 2;

/// What container engines leave to a container's root, less what concerns devices, audit and raw sockets.
pub(super) const CAPABILITIES: [Capability; 10] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
];

/// Hidden inside: they tell about the host, or reach it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What differs between the runtimes that make a container: mostly its first process.
pub(super) struct First {
    /// What it executes, where it executes something.
    pub(super) args: Vec<String>,
    /// What that needs besides the container's own files.
    pub(super) mounts: Vec<Mount>,
    /// How the runtime reads filters.
    pub(super) mask: MaskIn,
}

/// A container that is laid out, for an OCI runtime to make.
pub(super) struct Bundle {
    /// The folder with the description.
    pub(super) dir: PathBuf,
    /// A folder for the runtime's own notes.
    pub(super) state: PathBuf,
}

impl Bundle {
    /// Lays out the container of `job`, whose first process `first` tells.
    pub(super) fn make(
        dir: &Path,
        job: &Job,
        cgroup: &str,
        first: impl FnOnce(&Stage) -> io::Result<First>,
    ) -> Result<Self, Failure> {
        let range = job
            .id_range
            .ok_or_else(|| Failure::of("job", "such a container needs a range of ids"))?;
        let mut avoid = vec![dir];
        if let super::job::Root::Layers { dir, .. } = &job.root {
            avoid.push(dir);
        }
        let stage = Stage::set(&avoid).map_err(|e| Failure::of("mount namespace", e))?;
        let namespaces =
            Namespaces::make(&stage, range).map_err(|e| Failure::of("user namespace", e))?;
        let rootfs = stage
            .root(dir, &job.root, range, &namespaces.user)
            .map_err(|e| Failure::of("root folder", e))?;
        let bundle = stage
            .folder("bundle")
            .map_err(|e| Failure::of("bundle", e))?;
        let mut first = first(&stage).map_err(|e| Failure::of("first process", e))?;
        let shown = devices::show(&stage, &job.edits, range);
        first
            .mounts
            .extend(shown.map_err(|e| Failure::of("devices", e))?);
        let spec = Description {
            job,
            cgroup,
            rootfs,
            namespaces,
            range,
            first,
        }
        .spec()
        .map_err(|e| Failure::of("container description", e))?;
        spec.save(bundle.join("config.json"))
            .map_err(|e| Failure::of("bundle", e))?;
        let state = stage.folder("state").map_err(|e| Failure::of("state", e))?;
        Ok(Self { dir: bundle, state })
    }
}

/// All that goes into a container's description.
struct Description<'a> {
    job: &'a Job,
    cgroup: &'a str,
    rootfs: PathBuf,
    namespaces: Namespaces,
    range: IdRange,
    first: First,
}

impl Description<'_> {
    fn spec(self) -> Result<Spec, OciSpecError> {
        let process = ProcessBuilder::default()
            .terminal(false)
            .args(self.first.args.clone())
            // The first process's business.
            .env(Vec::<String>::new())
            .cwd("/")
            .no_new_privileges(true)
            .capabilities(capabilities()?)
            .build()?;
        let linux = LinuxBuilder::default()
            .namespaces(self.namespaces()?)
            // Those that the namespace has already; some runtimes want to be told.
            .uid_mappings(vec![mapping(self.range)?])
            .gid_mappings(vec![mapping(self.range)?])
            .cgroups_path(self.cgroup)
            .resources(resources(self.job)?)
            .seccomp(seccomp::profile(self.first.mask)?)
            .masked_paths(MASKED.map(str::to_owned).to_vec())
            .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
            .build()?;
        let mut all_mounts = mounts(self.job.spec.limits)?;
        all_mounts.extend(self.first.mounts);
        let hostname = self.job.spec.hostname.clone();
        let mut spec = SpecBuilder::default();
        if !self.job.edits.hooks.is_empty() {
            spec = spec.hooks(devices::hooks(&self.job.edits)?);
        }
        spec.version("1.0.2")
            .root(
                RootBuilder::default()
                    .path(&self.rootfs)
                    .readonly(false)
                    .build()?,
            )
            .hostname(hostname.unwrap_or_else(|| self.job.id.as_str().to_owned()))
            .process(process)
            .mounts(all_mounts)
            .linux(linux)
            .build()
    }

    fn namespaces(&self) -> Result<Vec<LinuxNamespace>, OciSpecError> {
        let new = |kind| LinuxNamespaceBuilder::default().typ(kind).build();
        let join = |kind, path: &Path| {
            LinuxNamespaceBuilder::default()
                .typ(kind)
                .path(path.to_owned())
                .build()
        };
        Ok(vec![
            join(LinuxNamespaceType::User, &self.namespaces.user)?,
            join(LinuxNamespaceType::Network, &self.namespaces.network)?,
            new(LinuxNamespaceType::Pid)?,
            new(LinuxNamespaceType::Mount)?,
            new(LinuxNamespaceType::Ipc)?,
            new(LinuxNamespaceType::Uts)?,
            new(LinuxNamespaceType::Cgroup)?,
        ])
    }
}

fn mapping(range: IdRange) -> Result<LinuxIdMapping, OciSpecError> {
    LinuxIdMappingBuilder::default()
        .container_id(0_u32)
        .host_id(range.base)
        .size(IdRange::LEN)
        .build()
}

pub(super) fn capabilities() -> Result<LinuxCapabilities, OciSpecError> {
    let set = || {
        CAPABILITIES
            .into_iter()
            .collect::<std::collections::HashSet<_>>()
    };
    LinuxCapabilitiesBuilder::default()
        .bounding(set())
        .effective(set())
        .permitted(set())
        .inheritable(std::collections::HashSet::new())
        .ambient(std::collections::HashSet::new())
        .build()
}

fn resources(job: &Job) -> Result<LinuxResources, OciSpecError> {
    let limits = job.spec.limits;
    let mut rules = device_rules()?;
    rules.extend(devices::rules(&job.edits)?);
    let quota = i64::from(limits.cpu_milli) * i64::try_from(CPU_PERIOD_US / 1000).unwrap_or(100);
    let memory = i64::try_from(limits.memory_bytes).unwrap_or(i64::MAX);
    let mut bytes = LinuxMemoryBuilder::default().limit(memory);
    if crate::cgroup::can_limit_swap() {
        // Memory and swap together: no swap on top.
        bytes = bytes.swap(memory);
    }
    LinuxResourcesBuilder::default()
        .cpu(
            LinuxCpuBuilder::default()
                .quota(quota.max(CPU_QUOTA_US_MIN))
                .period(CPU_PERIOD_US)
                .build()?,
        )
        .memory(bytes.build()?)
        .pids(
            LinuxPidsBuilder::default()
                .limit(i64::from(limits.pids))
                .build()?,
        )
        .devices(rules)
        .build()
}

/// Nothing, then what every program may count on. libcontainer adds the same by itself; saying it here keeps
/// the rules in one place to read.
fn device_rules() -> Result<Vec<LinuxDeviceCgroup>, OciSpecError> {
    let deny = LinuxDeviceCgroupBuilder::default()
        .allow(false)
        .access("rwm")
        .build()?;
    let allow = |major: i64, minor: Option<i64>| {
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(major)
            .access("rw");
        match minor {
            Some(minor) => rule.minor(minor).build(),
            None => rule.build(),
        }
    };
    Ok(vec![
        deny,
        allow(1, Some(3))?, // null
        allow(1, Some(5))?, // zero
        allow(1, Some(7))?, // full
        allow(1, Some(8))?, // random
        allow(1, Some(9))?, // urandom
        allow(5, Some(0))?, // tty
        allow(5, Some(2))?, // ptmx
        allow(136, None)?,  // pts/*
    ])
}

fn mounts(limits: Limits) -> Result<Vec<Mount>, OciSpecError> {
    let one = |target: &str, kind: &str, options: &[&str]| {
        MountBuilder::default()
            .destination(target)
            .typ(kind)
            .source(kind)
            .options(options.iter().map(|&o| o.to_owned()).collect::<Vec<_>>())
            .build()
    };
    let shared = format!("size={}", limits.memory_bytes / SHARED_MEMORY_SHARE);
    let quiet = ["nosuid", "noexec", "nodev"];
    Ok(vec![
        one("/proc", "proc", &quiet)?,
        one(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        one(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        one(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", &shared],
        )?,
        one("/dev/mqueue", "mqueue", &quiet)?,
        one("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"])?,
    ])
}

/// Lets a test of the profile be written without libcontainer's types.
pub(super) fn as_io(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
