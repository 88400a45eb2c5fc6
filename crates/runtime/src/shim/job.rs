//! The folder of one container: what the agent's side writes there, and what the shim answers.
//!
//! ```text
//! job.json       what to run; written once, with the folder
//! lock           locked by the shim for as long as it lives
//! control        a pipe: stop and kill
//! begun.json     the shim has begun; from here on nothing may start again
//! running.json   the command runs
//! end.json       how it ended
//! end.json.N     how it ended before it was started anew for the Nth time
//! logs/          what it wrote
//! upper/ work/   the writable layer, or
//! rootfs/        the whole tree, where overlayfs cannot be used
//! shim.log       what the shim itself has to say; empty unless it is broken
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use serde::{Deserialize, Serialize};

use crate::cdi::{Edits, Node};
use crate::id::ContainerId;
use crate::spec::ContainerSpec;

pub(crate) const JOB: &str = "job.json";
pub(crate) const LOCK: &str = "lock";
pub(crate) const CONTROL: &str = "control";
pub(crate) const BEGUN: &str = "begun.json";
pub(crate) const RUNNING: &str = "running.json";
pub(crate) const END: &str = "end.json";
pub(crate) const LOGS: &str = "logs";
pub(crate) const UPPER: &str = "upper";
pub(crate) const WORK: &str = "work";
pub(crate) const ROOTFS: &str = "rootfs";
pub(crate) const SHIM_LOG: &str = "shim.log";

/// What a shim is to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) id: ContainerId,
    pub(crate) spec: ContainerSpec,
    pub(crate) backend: Backend,
    pub(crate) root: Root,
    pub(crate) command: Command,
    pub(crate) id_range: Option<IdRange>,
    /// What its devices need.
    #[serde(default)]
    pub(crate) edits: Edits,
}

/// How it is to be held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backend {
    /// By libcontainer, in the control group at this path.
    Embedded { cgroup: String },
    /// By this runc, in the control group at this path.
    Runc { cgroup: String, program: PathBuf },
    /// By namespaces alone.
    Process,
}

impl Backend {
    /// Returns the path of its control group.
    pub(crate) fn cgroup(&self) -> Option<&str> {
        match self {
            Self::Embedded { cgroup } | Self::Runc { cgroup, .. } => Some(cgroup),
            Self::Process => None,
        }
    }
}

/// Where its files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Root {
    /// Layers in the folder `dir`, lowest first, under a writable one.
    Layers { dir: PathBuf, names: Vec<String> },
    /// The tree in the container's own folder.
    Flat,
}

/// What its first process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command {
    pub(crate) work: Work,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: String,
    pub(crate) user: Option<String>,
    /// Devices that must be there, and open, before the command runs.
    #[serde(default)]
    pub(crate) devices: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// Run these words.
    Run(Vec<String>),
    /// Try what must not work, and write down how it went.
    SelfTest,
}

/// The host's ids that a container's ids 0 to 65535 are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    pub(crate) base: u32,
}

impl IdRange {
    /// What every image can count on having.
    pub(crate) const LEN: u32 = 65_536;
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Begun {
    pub(crate) shim_pid: i32,
    pub(crate) begun_at_ms: u64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) started_at_ms: u64,
    pub(crate) init_pid: i32,
    /// When the kernel says that process began; tells it from a later one with the same number.
    pub(crate) init_birth: u64,
}

/// Returns when process `pid` began, in the kernel's ticks; `None` where it is gone or a zombie.
pub(crate) fn birth_of(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, brackets too: what follows the last one is safe to split.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    // Field 22 of the whole line; 3 is the state.
    fields.nth(18)?.parse().ok()
}

/// A lock that ends with its holder, however that ends. Locks of this kind are not handed to children.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(kind).expect("lock kinds are small"),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).expect("it is zero"),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl Lock {
    /// Takes the lock of the container in `dir`; `None` where another process has it.
    pub(crate) fn try_take(dir: &Path) -> io::Result<Option<Self>> {
        let file = open_lock(dir)?;
        match fcntl(&file, FcntlArg::F_SETLK(&whole_file(libc::F_WRLCK))) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Returns the process that holds the lock of the container in `dir`; never the caller itself.
    pub(crate) fn holder(dir: &Path) -> io::Result<Option<i32>> {
        let file = open_lock(dir)?;
        let mut lock = whole_file(libc::F_WRLCK);
        fcntl(&file, FcntlArg::F_GETLK(&mut lock))?;
        let free = i32::from(lock.l_type) == libc::F_UNLCK;
        Ok((!free).then_some(lock.l_pid))
    }
}

fn open_lock(dir: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join(LOCK))
}

/// Nobody means to wait longer for a container that was told to end.
pub(crate) const GRACE_MS_MAX: u64 = 3_600_000;

/// What an agent asks of a running shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// SIGTERM now, SIGKILL after so long.
    Stop { grace_ms: u64 },
    /// SIGKILL now.
    Kill,
}

impl Request {
    /// Sends it; `false` where nobody listens any more.
    pub(crate) fn send(self, dir: &Path) -> io::Result<bool> {
        let pipe = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(dir.join(CONTROL));
        let mut pipe = match pipe {
            Ok(pipe) => pipe,
            Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Ok(false),
            Err(e) => return Err(e),
        };
        let line = match self {
            Self::Stop { grace_ms } => format!("stop {grace_ms}\n"),
            Self::Kill => "kill\n".to_owned(),
        };
        match io::Write::write_all(&mut pipe, line.as_bytes()) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(e) => Err(e),
        }
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        match line.split_once(' ') {
            Some(("stop", grace)) => {
                let grace_ms = grace.parse::<u64>().ok()?.min(GRACE_MS_MAX);
                Some(Self::Stop { grace_ms })
            }
            None if line == "kill" => Some(Self::Kill),
            _ => None,
        }
    }
}
