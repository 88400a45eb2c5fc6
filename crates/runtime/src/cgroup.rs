//! Control groups, both versions: reading what a container uses, and ending it.
//!
//! libcontainer makes the groups and sets the limits. This side finds them again by path alone, so that an
//! agent can read, kill and clean up without the shim.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::capabilities::CgroupMode;
use crate::status::Stats;

/// What the groups of our runtimes begin with; each goes on with its own word.
pub(crate) const PREFIX: &str = "/tradewind-";
const MOUNT: &str = "/sys/fs/cgroup";
/// A killed process is gone in milliseconds; one stuck in a driver never goes.
const KILL_DEADLINE: Duration = Duration::from_secs(10);
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// How the kernel groups processes here.
pub(crate) fn mode() -> CgroupMode {
    let mount = Path::new(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        CgroupMode::V2
    } else if mount.join("unified/cgroup.controllers").exists() {
        CgroupMode::Hybrid
    } else if mount.join("memory").exists() {
        CgroupMode::V1
    } else {
        CgroupMode::None
    }
}

/// Tells whether a control group, by its path from the root of the hierarchy, is of a container of a runtime of ours. An
/// engine's containers are not told apart from others of that engine.
pub fn is_container_cgroup(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// One control group, in every hierarchy that has it.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    dirs: Vec<PathBuf>,
}

impl Cgroup {
    /// Names the group at the absolute `path`, which need not exist.
    pub(crate) fn at(path: &str) -> Self {
        let below = path.trim_start_matches('/');
        let mount = Path::new(MOUNT);
        if mode() == CgroupMode::V2 {
            return Self {
                dirs: vec![mount.join(below)],
            };
        }
        let hierarchies = fs::read_dir(mount)
            .into_iter()
            .flatten()
            .filter_map(Result::ok);
        // Links, like cpu to cpu,cpuacct, name a hierarchy a second time.
        let dirs = hierarchies.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
        let mut mounts: Vec<PathBuf> = dirs.map(|e| e.path()).collect();
        // The version 2 tree last: where it lies beside the others it has files of the same names that say less.
        mounts.sort_by_key(|mount| mount.ends_with("unified"));
        Self {
            dirs: mounts.iter().map(|mount| mount.join(below)).collect(),
        }
    }

    /// Tells whether anything runs in it.
    pub(crate) fn is_alive(&self) -> bool {
        !self.pids().is_empty()
    }

    fn pids(&self) -> Vec<Pid> {
        let mut pids = Vec::new();
        for dir in &self.dirs {
            let listed = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
            pids.extend(
                listed
                    .lines()
                    .filter_map(|l| l.parse().ok())
                    .filter_map(Pid::from_raw),
            );
        }
        pids.sort_unstable_by_key(|p| p.as_raw_nonzero());
        pids.dedup();
        pids
    }

    /// Sends SIGKILL to all in it, without waiting.
    pub(crate) fn kill(&self) {
        for dir in &self.dirs {
            // Version 2 only; elsewhere there is no such file, and its lack is no failure.
            let file = dir.join("cgroup.kill");
            if file.exists() {
                let _ignored = fs::write(file, "1");
            }
        }
        for pid in self.pids() {
            // Gone already is as good.
            let _ignored = kill_process(pid, Signal::KILL);
        }
    }

    /// Kills all in it and removes it. Blocks until done.
    ///
    /// # Errors
    /// Where something cannot be killed in time, or the group not removed.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let deadline = Instant::now() + KILL_DEADLINE;
        while self.is_alive() {
            self.kill();
            if Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "it cannot be killed",
                ));
            }
            std::thread::sleep(KILL_PAUSE);
        }
        for dir in &self.dirs {
            // A group stays busy for a moment after its last process.
            loop {
                match remove_group(dir) {
                    Err(e) if e.kind() == io::ErrorKind::ResourceBusy => {
                        if Instant::now() > deadline {
                            return Err(e);
                        }
                        std::thread::sleep(KILL_PAUSE);
                    }
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Removes it where it is empty of processes and groups; leaves it alone otherwise.
    pub(crate) fn remove_if_empty(&self) {
        for dir in &self.dirs {
            let _ignored = fs::remove_dir(dir);
        }
    }

    /// Returns the counters; zero where a controller is missing.
    pub(crate) fn stats(&self) -> Stats {
        let cpu_stat = self.read(&["cpu.stat"]);
        let events = self.read(&["memory.events", "memory.oom_control"]);
        let thousandfold = |v: u64| v.saturating_mul(1000);
        Stats {
            cpu_ns: self
                .number(&["cpuacct.usage"])
                .or_else(|| field(&cpu_stat, "usage_usec").map(thousandfold))
                .unwrap_or(0),
            memory_bytes: self
                .number(&["memory.current", "memory.usage_in_bytes"])
                .unwrap_or(0),
            memory_bytes_max: self
                .number(&["memory.peak", "memory.max_usage_in_bytes"])
                .unwrap_or(0),
            pids: self.number(&["pids.current"]).unwrap_or(0),
            oom_kills: field(&events, "oom_kill").unwrap_or(0),
            throttled_ns: field(&cpu_stat, "throttled_time")
                .or_else(|| field(&cpu_stat, "throttled_usec").map(thousandfold))
                .unwrap_or(0),
        }
    }

    /// Returns the limits as the kernel has them: processor in thousandths, memory in bytes, processes.
    pub(crate) fn limits(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let v2 = self.read(&["cpu.max"]);
        let mut words = v2.split_whitespace().map(str::parse::<u64>);
        let cpu = match (words.next(), words.next()) {
            (Some(Ok(quota)), Some(Ok(period))) => Some((quota, period)),
            _ => self
                .number(&["cpu.cfs_quota_us"])
                .zip(self.number(&["cpu.cfs_period_us"])),
        };
        let milli = cpu.map(|(quota, period)| quota.saturating_mul(1000) / period.max(1));
        let memory = self.number(&["memory.max", "memory.limit_in_bytes"]);
        (milli, memory, self.number(&["pids.max"]))
    }

    fn read(&self, names: &[&str]) -> String {
        let files = self
            .dirs
            .iter()
            .flat_map(|dir| names.iter().map(move |n| dir.join(n)));
        files
            .map(fs::read_to_string)
            .find_map(Result::ok)
            .unwrap_or_default()
    }

    fn number(&self, names: &[&str]) -> Option<u64> {
        self.read(names).trim().parse().ok()
    }
}

/// Returns the number that follows `name` in a file of one pair a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
    };
    text.lines()
        .filter_map(pair)
        .find(|(n, _)| n == name)?
        .1
        .trim()
        .parse()
        .ok()
}

/// Removes a group and those below it: nobody puts groups there, but a privileged workload might.
fn remove_group(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// Tells whether the kernel counts swap.
pub(crate) fn can_limit_swap() -> bool {
    match mode() {
        CgroupMode::V2 => fs::read_to_string("/proc/swaps").is_ok(),
        _ => Path::new(MOUNT)
            .join("memory/memory.memsw.limit_in_bytes")
            .exists(),
    }
}
