//! What this process has used so far, as Linux counts it.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// What was used.
pub(crate) struct Usage {
    at: Instant,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) resident: u64,
    /// Bytes of the node's folder.
    pub(crate) disk: u64,
    /// Calls that write, and bytes that they wrote.
    pub(crate) writes: u64,
    pub(crate) written: u64,
}

impl Usage {
    /// Returns what was used until now.
    pub(crate) fn now(folder: &Path) -> Self {
        Self {
            at: Instant::now(),
            wall: Duration::ZERO,
            cpu: cpu(),
            resident: super::figures::resident(),
            disk: bytes_below(folder),
            writes: io("syscw"),
            written: io("wchar"),
        }
    }

    /// Returns what was used since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            at: self.at,
            wall: self.at.duration_since(before.at),
            cpu: self.cpu.saturating_sub(before.cpu),
            resident: self.resident.saturating_sub(before.resident),
            disk: self.disk.saturating_sub(before.disk),
            writes: self.writes - before.writes,
            written: self.written - before.written,
        }
    }
}

/// Returns the processor time of all threads, those that ended too.
fn cpu() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|word| word.parse::<u64>().ok()).sum();
    // Linux counts these in hundredths of a second, whatever its own clock.
    Duration::from_millis(ticks * 10)
}

fn io(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}
