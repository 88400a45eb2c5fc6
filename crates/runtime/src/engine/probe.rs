//! Finding out what the engine does to a container, by looking at one from outside.

use std::fs;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::EngineRuntime;
use crate::Runtime as _;
use crate::capabilities::{Capabilities, CgroupMode, Check, Difference, Isolation, LimitsEnforced};
use crate::cgroup::{self, Cgroup};
use crate::error::{Error, Result, io as io_error};
use crate::files;
use crate::id::ContainerId;
use crate::image::ImageRef;
use crate::image::build::{ImageBuilder, LayerBuilder};
use crate::spec::{ContainerSpec, Limits};

/// Odd numbers, so that no default looks like them.
const TEST_LIMITS: Limits = Limits {
    cpu_milli: 730,
    memory_bytes: 72 << 20,
    pids: 37,
};
/// The test's program, by which its process is known; the kernel keeps 15 letters of a name.
const PROGRAM: &str = "tw_selftest";
const LOOK_DEADLINE: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// In this mode a process has a filter of system calls.
const SECCOMP_FILTER: &str = "2";

impl EngineRuntime {
    pub(super) async fn measure(&self) -> Result<Capabilities> {
        let mut found = Capabilities {
            name: "engine".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            usable: Ok(()),
            isolation: Isolation::None,
            cgroup_mode: cgroup::mode(),
            limits: LimitsEnforced::default(),
            seccomp: false,
            device_rules: false,
            user_namespaces: false,
            self_test: Vec::new(),
            devices: Vec::new(),
            differences: vec![
                Difference::NoShim,
                Difference::LogsByEngine,
                Difference::NoFinalStats,
                Difference::SignalsByCode,
                Difference::OomByEngine,
                Difference::EngineFilter,
                Difference::NoDevices,
            ],
        };
        if let Err(error) = self.measure_with(&mut found).await {
            let mut why = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(inner) = cause {
                why = format!("{why}: {inner}");
                cause = inner.source();
            }
            found.usable = Err(why);
        }
        Ok(found)
    }

    async fn measure_with(&self, found: &mut Capabilities) -> Result<()> {
        let docker = self.docker().await?;
        let told = docker.version().await;
        let told = told.map_err(super::engine("say its version"))?;
        let platform = told.platform.map_or_else(
            || {
                let parts = told.components.unwrap_or_default();
                parts
                    .first()
                    .map_or("engine".to_owned(), |c| c.name.clone())
            },
            |platform| platform.name,
        );
        let version = told.version.unwrap_or_default();
        let own = env!("CARGO_PKG_VERSION");
        found.version = format!("{own} ({platform} {version})")
            .chars()
            .take(100)
            .collect();
        if !self.has_init().await? {
            found.differences.push(Difference::CommandIsFirst);
        }
        let Some(program) = waiting_program() else {
            return Ok(());
        };
        let layout = self.root.join("tmp/selftest");
        let made = files::remove_tree(&layout)
            .and_then(|()| LayerBuilder::new().file(PROGRAM, 0o755, &program))
            .and_then(LayerBuilder::finish)
            .and_then(|layer| {
                let path = format!("/{PROGRAM}");
                let image = ImageBuilder::new().layer(layer).entrypoint([path.as_str()]);
                image.write(&layout, "v1")
            });
        made.map_err(io_error("write the self-test's image in", &layout))?;
        let image = ImageRef::Layout {
            path: layout,
            tag: Some("v1".to_owned()),
        };
        let prepared = self.prepare(&image).await;
        let layout = self.root.join("tmp/selftest");
        files::remove_tree(&layout).map_err(io_error("remove", &layout))?;
        let image = prepared?.digest;
        let name = format!("selftest_{}", std::process::id());
        let id = ContainerId::new(name).expect("a word and a number make an id");
        self.remove(&id).await?;
        let looked = self.look_at(&id, ContainerSpec::new(image, TEST_LIMITS), found);
        let looked = looked.await;
        self.remove(&id).await?;
        looked
    }

    async fn look_at(
        &self,
        id: &ContainerId,
        spec: ContainerSpec,
        found: &mut Capabilities,
    ) -> Result<()> {
        self.create(id, &spec).await?;
        self.start(id).await?;
        let deadline = Instant::now() + LOOK_DEADLINE;
        let pid = loop {
            let state = self.inspect(id).await?.and_then(|c| c.state);
            if let Some(pid) = state.and_then(|s| s.pid).and_then(process) {
                break pid;
            }
            if Instant::now() > deadline {
                return Err(Error::Deadline {
                    what:
                        "looking for the process of the self-test; is the engine on this machine?"
                            .to_owned(),
                    after: LOOK_DEADLINE,
                });
            }
            sleep(LOOK_AGAIN).await;
        };
        judge(pid, found);
        Ok(())
    }
}

/// Returns the test's process: `first` itself, or its child where an init program is first.
fn process(first: i64) -> Option<i64> {
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
    let children = children.unwrap_or_default();
    let children = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok());
    std::iter::once(first).chain(children).find(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.trim() == PROGRAM)
    })
}

/// Writes down what holds for process `pid`.
fn judge(pid: i64, found: &mut Capabilities) {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default()
            .trim_start_matches(':')
            .trim()
            .to_owned()
    };
    let mut check = |name: &str, passed: bool, seen: String| {
        found.self_test.push(Check {
            name: name.to_owned(),
            passed,
            seen,
        });
        passed
    };
    let seccomp = field("Seccomp");
    found.seccomp = check(
        "system_calls_are_filtered",
        seccomp == SECCOMP_FILTER,
        seccomp,
    );
    let no_new = field("NoNewPrivs");
    let no_new = check("no_new_privileges", no_new == "1", no_new);
    let map = read("uid_map");
    let outside = map.split_whitespace().nth(1).unwrap_or_default().to_owned();
    found.user_namespaces = check("own_user_ids", !matches!(&*outside, "" | "0"), outside);
    let groups = read("cgroup");
    let path = groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let memory = controllers.split(',').any(|c| c == "memory");
        let ours = memory || (controllers.is_empty() && found.cgroup_mode == CgroupMode::V2);
        ours.then_some(path)
    });
    if let Some(path) = path {
        let (cpu, memory, pids) = Cgroup::at(path).limits();
        found.limits = LimitsEnforced {
            cpu: cpu == Some(u64::from(TEST_LIMITS.cpu_milli)),
            memory: memory == Some(TEST_LIMITS.memory_bytes),
            pids: pids == Some(u64::from(TEST_LIMITS.pids)),
        };
    }
    if !found.user_namespaces {
        found.differences.push(Difference::SharedIds);
    }
    // Device rules can only be read where version 1 writes them down; without them no isolation is claimed.
    let rules = fs::read_to_string(format!(
        "/sys/fs/cgroup/devices{}/devices.list",
        path.unwrap_or_default()
    ));
    let rules = rules.unwrap_or_default();
    let listed = !rules.is_empty() && !rules.contains("a *:* rwm");
    found.device_rules = listed;
    let LimitsEnforced { cpu, memory, pids } = found.limits;
    let all = found.seccomp && no_new && found.user_namespaces && listed && cpu && memory && pids;
    if all {
        found.isolation = Isolation::Container;
    }
}

/// Returns a program that waits for a signal, over and over; none for processors it was not written for.
fn waiting_program() -> Option<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 34 (pause); syscall; jmp to the beginning
    const CODE: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    if std::env::consts::ARCH != "x86_64" {
        return None;
    }
    let length = HEADERS + CODE.len() as u64;
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, version 1.
    program.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Where it begins, where its one program header is, and that it has no sections.
    for number in [BASE + HEADERS, 64, 0] {
        program.extend(number.to_le_bytes());
    }
    program.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // Loaded whole, to be read and executed.
    program.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, BASE, BASE, length, length, 0x1000] {
        program.extend(number.to_le_bytes());
    }
    program.extend(CODE);
    Some(program)
}
