//! The chores that a container runtime's tests have done inside a container.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::RwLock;
use std::time::{Duration, Instant};
use std::{hint, iter, thread};

use crate::{Failure, signals};

/// The most memory to ask for: 1 TiB, more than any machine that runs a test.
pub(crate) const MIB_MAX: usize = 1024 * 1024;
/// The most threads to start: beyond the kernel's default limit of 32,768 processes.
pub(crate) const TASKS_MAX: usize = 40_000;
/// The most bytes to write: 1 GiB, so that a mistyped number cannot fill a disk.
pub(crate) const SPAM_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Every line of [`spam`] has this length, its newline included.
const SPAM_LINE_BYTES: usize = 64;
/// How long a SIGTERM may go unseen by [`polite`].
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Sleeps; SIGTERM does what it does by default.
pub(crate) fn sleep(time: Duration) -> Result<(), Failure> {
    say(&format!("sleeping for {time:?}"))?;
    thread::sleep(time);
    say("awake")
}

/// Sleeps; on SIGTERM says so and returns.
pub(crate) fn polite(time: Duration) -> Result<(), Failure> {
    signals::catch_terminate().map_err(Failure::during("catch SIGTERM"))?;
    say(&format!("sleeping politely for {time:?}"))?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        if signals::terminated() {
            return say("asked to stop");
        }
        thread::sleep(LOOK_EVERY.min(end.saturating_duration_since(Instant::now())));
    }
    say("awake")
}

/// Sleeps; SIGTERM does nothing.
pub(crate) fn deaf(time: Duration) -> Result<(), Failure> {
    signals::ignore_terminate().map_err(Failure::during("ignore SIGTERM"))?;
    say(&format!("deaf for {time:?}"))?;
    thread::sleep(time);
    say("awake")
}

/// Keeps one core busy.
pub(crate) fn spin(time: Duration) -> Result<(), Failure> {
    say(&format!("spinning for {time:?}"))?;
    let end = Instant::now() + time;
    let mut rounds: u64 = 0;
    while Instant::now() < end {
        // Enough work between two looks at the clock that the work is what takes the time.
        for round in 0..10_000_u64 {
            rounds = hint::black_box(rounds.wrapping_add(round & 1));
        }
    }
    say(&format!("spun {rounds} rounds"))
}

/// Touches so many MiB, page by page, and holds them for a while.
pub(crate) fn alloc(mib: usize, hold: Duration) -> Result<(), Failure> {
    const MIB: usize = 1024 * 1024;
    let mut held: Vec<Vec<u8>> = Vec::new();
    for _ in 0..mib {
        let mut block = Vec::new();
        block.try_reserve_exact(MIB).map_err(|error| {
            Failure::System(
                format!("have more than {} MiB", held.len()),
                io::Error::other(error),
            )
        })?;
        // Other than zero, so that no page is shared with the kernel's zero page.
        block.resize(MIB, 0xa5);
        held.push(hint::black_box(block));
    }
    say(&format!("holding {mib} MiB"))?;
    thread::sleep(hold);
    drop(hint::black_box(held));
    Ok(())
}

/// Has so many threads at one time, or says how far it came.
pub(crate) fn tasks(count: usize) -> Result<(), Failure> {
    // A thread that waits needs little; the default stack would meet the memory limit first.
    const STACK_BYTES: usize = 64 * 1024;
    // Nobody passes before all have come.
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate
            .write()
            .expect("no thread panics with the gate in hand");
        for started in 0..count {
            let wait = || drop(gate.read());
            if let Err(error) = thread::Builder::new()
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, wait)
            {
                drop(closed);
                return Err(Failure::System(
                    format!("start more than {started} tasks"),
                    error,
                ));
            }
        }
        drop(closed);
        Ok(())
    })?;
    say(&format!("had {count} tasks"))
}

/// Writes exactly so many bytes, in numbered lines of 64, the last cut short.
pub(crate) fn spam(bytes: usize) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut write = || -> io::Result<()> {
        let mut left = bytes;
        let mut number: usize = 0;
        while left > 0 {
            let mut line = format!("{number:012} ");
            line.extend(iter::repeat_n('.', SPAM_LINE_BYTES - line.len() - 1));
            line.push('\n');
            let take = left.min(SPAM_LINE_BYTES);
            out.write_all(&line.as_bytes()[..take])?;
            left -= take;
            number += 1;
        }
        out.flush()
    };
    write().map_err(Failure::during("write to standard output"))
}

/// Writes one line to standard output, at once.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(Failure::during("write to standard output"))
}

/// Writes one line to standard error.
pub(crate) fn complain(line: &str) -> Result<(), Failure> {
    writeln!(io::stderr(), "{line}").map_err(Failure::during("write to standard error"))
}

/// Lists the environment, sorted by name.
pub(crate) fn env() -> Result<(), Failure> {
    let mut variables: Vec<_> = std::env::vars_os().collect();
    variables.sort();
    for (name, value) in variables {
        say(&format!(
            "{}={}",
            name.to_string_lossy(),
            value.to_string_lossy()
        ))?;
    }
    Ok(())
}

/// Copies a file to standard output.
pub(crate) fn cat(path: &str) -> Result<(), Failure> {
    let mut file = File::open(path).map_err(Failure::during(format!("open {path}")))?;
    let mut out = io::stdout().lock();
    io::copy(&mut file, &mut out)
        .and_then(|_copied| out.flush())
        .map_err(Failure::during(format!("copy {path}")))
}
