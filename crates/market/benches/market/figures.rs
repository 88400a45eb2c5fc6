//! Figures by name, the time they took, and the line that says them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    time::{Duration, Instant},
};

/// Named figures; the unit ends the name.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Notes one figure.
    pub(crate) fn put(&mut self, name: &str, value: f64) {
        note(&format!("{name:<40}{value:>16.3}"));
        self.0.insert(name.to_owned(), value);
    }

    /// Notes how many per second of either clock.
    pub(crate) fn put_rate(&mut self, name: &str, count: usize, took: Took) {
        self.put(
            &format!("{name}_per_s"),
            count as f64 / took.wall.as_secs_f64(),
        );
        self.put(
            &format!("{name}_per_cpu_s"),
            count as f64 / took.cpu.as_secs_f64(),
        );
    }

    /// Writes all of them as one JSON object.
    pub(crate) fn print(&self) {
        let mut line = String::new();
        for (name, value) in &self.0 {
            let comma = if line.is_empty() { "" } else { "," };
            // Writing to a string does not fail.
            let _ = write!(line, "{comma}\"{name}\":{value}");
        }
        let _written = writeln!(io::stdout(), "{{{line}}}");
    }
}

/// Says something while it goes on.
pub(crate) fn note(line: &str) {
    let _written = writeln!(io::stderr(), "{line}");
}

/// How long something took, by either clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Took {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl std::ops::AddAssign for Took {
    fn add_assign(&mut self, other: Self) {
        self.wall += other.wall;
        self.cpu += other.cpu;
    }
}

/// Runs something and says how long it took.
pub(crate) fn time<T>(work: impl FnOnce() -> T) -> (T, Took) {
    let (wall, cpu) = (Instant::now(), cpu_now());
    let result = work();
    let took = Took {
        wall: wall.elapsed(),
        cpu: cpu_now().saturating_sub(cpu),
    };
    (result, took)
}

/// Returns the processor time of this thread.
fn cpu_now() -> Duration {
    // Its first number is the time on a processor, in nanoseconds.
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Returns the memory of this process that is resident, in bytes.
pub(crate) fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or(0);
    pages * 4096
}

/// Returns the smallest value that `percent` of all do not exceed, in microseconds; sorts them.
pub(crate) fn quantile_us(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times
        .get(rank - 1)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}
