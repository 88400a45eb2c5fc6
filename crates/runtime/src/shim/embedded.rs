//! Containers made by libcontainer.

use std::fmt::Write as _;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder, LinuxCpuBuilder,
    LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder,
    LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
    LinuxResourcesBuilder, Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::unistd::Pid;

use super::init::{self, Ids};
use super::job::{Command, Job};
use super::root::{Namespaces, Stage};
use super::{Ends, Failure, seccomp};
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

/// Makes and starts the container, and returns its first process.
pub(super) fn start(dir: &Path, job: &Job, cgroup: &str, ends: Ends) -> Result<Pid, Failure> {
    let range = job
        .id_range
        .ok_or_else(|| Failure::of("job", "an embedded container needs a range of ids"))?;
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
    let spec = Bundle {
        job,
        cgroup,
        rootfs,
        namespaces,
    }
    .spec()
    .map_err(|e| Failure::of("container description", e))?;
    spec.save(bundle.join("config.json"))
        .map_err(|e| Failure::of("bundle", e))?;
    let state = stage.folder("state").map_err(|e| Failure::of("state", e))?;
    run(job, &bundle, &state, ends).map_err(|e| Failure::of("container", chain(&e)))
}

fn run(job: &Job, bundle: &Path, state: &Path, ends: Ends) -> Result<Pid, LibcontainerError> {
    let first = FirstProcess {
        command: job.command.clone(),
        report: Rc::new(ends.report),
    };
    let mut container = ContainerBuilder::new(job.id.as_str().to_owned(), SyscallType::default())
        .with_root_path(state)?
        .with_executor(first)
        .with_stdout(ends.stdout)
        .with_stderr(ends.stderr)
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    container.start()?;
    container
        .pid()
        .map(|pid| Pid::from_raw(pid.as_raw()))
        .ok_or_else(|| LibcontainerError::Other("the container has no process".to_owned()))
}

/// Writes an error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ignored = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// What libcontainer runs in place of an exec: our first process.
#[derive(Clone)]
struct FirstProcess {
    command: Command,
    report: Rc<OwnedFd>,
}

impl Executor for FirstProcess {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let report = self.report.as_fd().try_clone_to_owned();
        let report = report.map_err(|e| ExecutorError::Other(e.to_string()))?;
        let code = init::run(&self.command, Ids::Range, report);
        // A first process ends here; it has no main to return to.
        std::process::exit(code);
    }

    /// The command is looked for when it is run: its lack is an exit code, not a failure to start.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }
}

/// All that goes into a container's description.
struct Bundle<'a> {
    job: &'a Job,
    cgroup: &'a str,
    rootfs: PathBuf,
    namespaces: Namespaces,
}

impl Bundle<'_> {
    fn spec(&self) -> Result<Spec, OciSpecError> {
        let process = ProcessBuilder::default()
            .terminal(false)
            // Both are the first process's business; the field must not be empty.
            .args(vec!["first-process".to_owned()])
            .env(Vec::<String>::new())
            .cwd("/")
            .no_new_privileges(true)
            .capabilities(capabilities()?)
            .build()?;
        let linux = LinuxBuilder::default()
            .namespaces(self.namespaces()?)
            .cgroups_path(self.cgroup)
            .resources(resources(self.job.spec.limits)?)
            .seccomp(seccomp::profile()?)
            .masked_paths(MASKED.map(str::to_owned).to_vec())
            .readonly_paths(READ_ONLY.map(str::to_owned).to_vec())
            .build()?;
        let hostname = self.job.spec.hostname.clone();
        SpecBuilder::default()
            .version("1.0.2")
            .root(
                RootBuilder::default()
                    .path(&self.rootfs)
                    .readonly(false)
                    .build()?,
            )
            .hostname(hostname.unwrap_or_else(|| self.job.id.as_str().to_owned()))
            .process(process)
            .mounts(mounts(self.job.spec.limits)?)
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

fn resources(limits: Limits) -> Result<LinuxResources, OciSpecError> {
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
        .devices(device_rules()?)
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
