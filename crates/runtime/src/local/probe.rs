//! Finding out what works on this machine, by trying it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use super::container::Container;
use super::ids::PROBE_BASE;
use super::{Kind, LocalRuntime};
use crate::Runtime as _;
use crate::capabilities::{Capabilities, CgroupMode, Check, Difference, Isolation, LimitsEnforced};
use crate::cdi::{Devices, Edits};
use crate::cgroup;
use crate::error::{Error, Result, io as io_error};
use crate::files;
use crate::id::ContainerId;
use crate::image::Digest;
use crate::logs::LogStream;
use crate::shim::job::{Command, ROOTFS, Work};
use crate::shim::self_test::{DENIED_DEVICE, DENIED_DEVICE_NUMBERS, DEVICE, SYSCALL};
use crate::shim::{PROBE_LAYERS, PROBE_NAMESPACES, SHIM_ARGUMENT};
use crate::spec::{ContainerSpec, Limits};

/// A probe does a dozen system calls.
const PROBE_DEADLINE: Duration = Duration::from_secs(20);
/// Longer than all checks of the self-test written out.
const CHECKS_BYTES: usize = 64 << 10;
/// Odd numbers, so that no default looks like them.
const TEST_LIMITS: Limits = Limits {
    cpu_milli: 730,
    memory_bytes: 72 << 20,
    pids: 37,
};
/// Longer than any version of runc is written.
const VERSION_CHARS: usize = 64;
/// How many checks a whole self-test writes.
const CHECKS: usize = 7;

/// Tries whether layers can be stacked here; the inner error says why not.
pub(super) async fn layers(root: &Path, shim: &Path) -> Result<Result<(), String>> {
    let dir = root.join("tmp/probe");
    let failed = || io_error("try out layers in", &dir);
    files::remove_tree(&dir).map_err(failed())?;
    std::fs::create_dir(&dir).map_err(failed())?;
    let tried = run_probe(shim, &[PROBE_LAYERS.as_ref(), dir.as_os_str()]).await;
    files::remove_tree(&dir).map_err(failed())?;
    tried
}

async fn run_probe(shim: &Path, arguments: &[&std::ffi::OsStr]) -> Result<Result<(), String>> {
    let output = tokio::process::Command::new(shim)
        .arg(SHIM_ARGUMENT)
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = timeout(PROBE_DEADLINE, output)
        .await
        .map_err(|_| Error::Deadline {
            what: "waiting for the shim's probe".to_owned(),
            after: PROBE_DEADLINE,
        })?
        .map_err(io_error("run the shim", shim))?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(Err(if said.is_empty() {
        format!("the shim's probe ended with {}", output.status)
    } else {
        said
    }))
}

/// Asks a runc what it is.
async fn runc_version(program: &Path) -> Result<String, String> {
    let asked = tokio::process::Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let told = timeout(PROBE_DEADLINE, asked)
        .await
        .map_err(|_| format!("{} does not answer", program.display()))?
        .map_err(|e| format!("could not run {}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&told.stdout);
    let first = text.lines().next().unwrap_or_default();
    if first.starts_with("runc version ") {
        Ok(first.chars().take(VERSION_CHARS).collect())
    } else {
        Err(format!("{} is no runc", program.display()))
    }
}

impl LocalRuntime {
    pub(super) async fn measure(&self) -> Result<Capabilities> {
        let is_root = rustix::process::geteuid().is_root();
        let (name, engine) = match &self.kind {
            Kind::Embedded => ("embedded", "libcontainer 0.7.0".to_owned()),
            Kind::Runc { program } => ("runc", runc_version(program).await.unwrap_or_default()),
            Kind::Process => ("process", "namespaces".to_owned()),
        };
        let isolates = self.kind.isolates();
        let usable = match &self.kind {
            Kind::Process => run_probe(&self.shim, &[PROBE_NAMESPACES.as_ref()]).await?,
            _ if !is_root => Err(format!(
                "the {name} runtime needs root; the process runtime does not"
            )),
            _ if cgroup::mode() == CgroupMode::None => {
                Err("no control groups at /sys/fs/cgroup".to_owned())
            }
            Kind::Runc { program } => runc_version(program).await.map(drop),
            Kind::Embedded => Ok(()),
        };
        let mut found = Capabilities {
            name: name.to_owned(),
            version: format!("{} ({engine})", env!("CARGO_PKG_VERSION")),
            usable,
            isolation: Isolation::None,
            cgroup_mode: if isolates {
                cgroup::mode()
            } else {
                CgroupMode::None
            },
            limits: LimitsEnforced::default(),
            seccomp: false,
            device_rules: false,
            user_namespaces: is_root,
            self_test: Vec::new(),
            devices: Vec::new(),
            differences: Vec::new(),
        };
        if !isolates {
            found.differences = vec![Difference::NoDevices];
        }
        if found.usable.is_ok() {
            self.self_test(&mut found).await?;
        }
        Ok(found)
    }

    /// Looks which devices are described here. A description that cannot be used is said, and then there are none.
    pub(super) fn find_devices(&self, found: &mut Capabilities) {
        if found.usable.is_err() || !self.kind.isolates() {
            return;
        }
        match Devices::load(&self.cdi_dirs) {
            Ok(devices) => found.devices = devices.names().map(str::to_owned).collect(),
            Err(error) => found.self_test.push(Check {
                name: "devices_are_described".to_owned(),
                passed: false,
                seen: error.to_string(),
            }),
        }
    }

    /// Runs the self-test in a container of its own, and removes that again.
    async fn self_test(&self, found: &mut Capabilities) -> Result<()> {
        let name = format!("selftest_{}", std::process::id());
        let id = ContainerId::new(name).expect("a word and a number make an id");
        self.remove(&id).await?;
        let container = self.container(&id);
        let result = self.self_test_in(&container, found).await;
        self.remove(&id).await?;
        match result {
            // A machine where nothing starts says so; it is no reason for its agent to fail.
            Err(Error::StartFailed { reason, .. }) => {
                found.usable = Err(format!("the self-test's container did not start: {reason}"));
                Ok(())
            }
            other => other,
        }
    }

    async fn self_test_in(&self, container: &Container, found: &mut Capabilities) -> Result<()> {
        let spec = ContainerSpec::new(Digest::of(b""), TEST_LIMITS);
        let command = Command {
            work: Work::SelfTest,
            env: Vec::new(),
            workdir: "/".to_owned(),
            user: None,
            devices: Vec::new(),
        };
        self.lay_out(container, &spec, command, Edits::default(), None)
            .await?;
        if self.kind.isolates() {
            make_denied_device(&container.dir().join(ROOTFS))
                .map_err(io_error("make a device node in", container.dir()))?;
        }
        let id = container.id();
        self.start(id).await?;
        // It runs until told to end, which leaves time to look from outside.
        if let Some(cgroup) = container.cgroup() {
            let (cpu, memory, pids) = cgroup.limits();
            found.limits = LimitsEnforced {
                cpu: cpu == Some(u64::from(TEST_LIMITS.cpu_milli)),
                memory: memory == Some(TEST_LIMITS.memory_bytes),
                pids: pids == Some(u64::from(TEST_LIMITS.pids)),
            };
        }
        self.stop(id, PROBE_DEADLINE).await?;
        let written = self.logs(id, LogStream::Stdout, 0, CHECKS_BYTES).await?;
        for line in written
            .bytes
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
        {
            if let Ok(check) = serde_json::from_slice::<Check>(line) {
                found.self_test.push(check);
            }
        }
        if !self.kind.isolates() {
            // Without device rules there is no such node to try; it counts as not in force.
            found.self_test.retain(|check| check.name != DEVICE);
        }
        let passed = |name: &str| found.self_test.iter().any(|c| c.name == name && c.passed);
        found.seccomp = passed(SYSCALL);
        found.device_rules = passed(DEVICE);
        let LimitsEnforced { cpu, memory, pids } = found.limits;
        // Whether all that a tenant must not do is denied. How images are shared is no part of that.
        let all = found.self_test.len() == CHECKS && found.self_test.iter().all(|c| c.passed);
        if self.kind.isolates() && all && cpu && memory && pids {
            found.isolation = Isolation::Container;
        }
        found.self_test.push(Check {
            name: "layers_are_shared".to_owned(),
            passed: self.flat_because.is_none(),
            seen: self
                .flat_because
                .clone()
                .unwrap_or_else(|| "idmapped overlay".to_owned()),
        });
        Ok(())
    }
}

fn make_denied_device(rootfs: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, chmod, makedev, mknodat};
    let (major, minor) = DENIED_DEVICE_NUMBERS;
    let path = rootfs.join(DENIED_DEVICE);
    let mode = Mode::from_raw_mode(0o666);
    mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        mode,
        makedev(major, minor),
    )?;
    // The process's own mask took something away; access must fail for its rule alone.
    chmod(&path, mode)?;
    // Inside, it belongs to somebody.
    std::os::unix::fs::lchown(&path, Some(PROBE_BASE), Some(PROBE_BASE))
}
