//! Where a container stands, and what it used.

use serde::{Deserialize, Serialize};

use crate::error::Blame;

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Status {
    /// Laid out, never started.
    Created,
    /// Its shim has begun, its command does not run yet.
    Starting,
    /// Its command runs.
    Running {
        /// When the command began, milliseconds since the Unix epoch.
        started_at_ms: u64,
    },
    /// Its command has ended.
    Exited(Exit),
    /// Its command could not be run at all, and not through a fault of the image's command.
    Failed {
        /// Whose fault it was.
        blame: Blame,
        /// What went wrong, for people.
        reason: String,
    },
    /// Its shim has died without a word: nobody knows how the command ended.
    Lost {
        /// Whether something of it still runs; [`crate::Runtime::kill`] and `remove` end that.
        alive: bool,
        /// When the command began, if it did.
        started_at_ms: Option<u64>,
    },
}

impl Status {
    /// Tells whether nothing of the container will run again.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Exited(_) | Self::Failed { .. } | Self::Lost { alive: false, .. }
        )
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 and the signal's number where a signal ended it; 127 where the command is missing,
    /// 126 where it cannot be executed.
    pub code: u8,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed something in it for want of memory.
    pub oom: bool,
    /// When the command began, milliseconds since the Unix epoch.
    pub started_at_ms: u64,
    /// When it ended, milliseconds since the Unix epoch; never before `started_at_ms`.
    pub ended_at_ms: u64,
    /// Why the command could not be executed, for people; only with 126 and 127.
    pub reason: Option<String>,
    /// What it used in all.
    pub stats: Stats,
}

/// Counters of what a container used. Zero where the runtime does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time, nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use now.
    pub memory_bytes: u64,
    /// Most memory in use so far.
    pub memory_bytes_max: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Processes the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Time that the CPU quota held it back, nanoseconds.
    pub throttled_ns: u64,
}
