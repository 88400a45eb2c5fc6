//! From the command line to a running container: `cargo xtask bench lease-start`.
//!
//! A network of one validator and two providers runs in a folder of its own; each round is a whole `tradewind run
//! --detach`, timed from before its process starts until a subscriber of the ledger's events hears `lease-ready`. So the
//! figure holds everything that a user waits for: plan, sealing, upload, signature, finality, award, manifest over the
//! data plane, container start, the report's finality and the event's way back. Compared with the target of DESIGN
//! section 12 (p50 ≤ 1 s) and the container's own floor (0.02–0.04 s).

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::Report;
use crate::shop::Shop;

/// Jobs that are timed; the first ones, which fetch the image, are not.
const ROUNDS: usize = 40;
/// Jobs before the timing: one for each provider's image store, and some.
const WARM_UP: usize = 4;
/// Longest wait for one job; far beyond any target, so that a slow run is a figure and a stuck one an error.
const ROUND_MAX: Duration = Duration::from_mins(1);

/// Runs the bench.
pub(super) fn run(shop: &Shop) -> Result<Report> {
    shop.build_programs()?;
    crate::workload::build(shop)?;
    let bed = TestBed::up(&shop.target()?.join("release/tradewind"))?;
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP.saturating_add(ROUNDS) {
        let took = bed.round(&format!("bench-{round}"))?;
        if round >= WARM_UP {
            times.push(took);
        }
    }
    times.sort();
    let figures = [
        ("submit_to_running_p50_ms", quantile(&times, 50)),
        ("submit_to_running_p95_ms", quantile(&times, 95)),
        ("submit_to_running_max_ms", quantile(&times, 100)),
        ("rounds", f64::from(u32::try_from(times.len())?)),
    ];
    let figures = figures.map(|(name, value)| (name.to_owned(), value));
    Ok(Report::from(figures))
}

/// Gives the smallest time that `percent` of all do not exceed, in milliseconds.
fn quantile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = sorted.len().saturating_mul(percent).div_ceil(100).max(1);
    sorted
        .get(rank.saturating_sub(1))
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1_000.0)
}

/// A network in a folder of its own, taken down when dropped.
struct TestBed {
    tradewind: PathBuf,
    home: PathBuf,
    port: u16,
    image: String,
    isolation: &'static str,
}

impl TestBed {
    fn up(tradewind: &Path) -> Result<Self> {
        let home = std::env::temp_dir().join(format!("tradewind-bench-{}", std::process::id()));
        fs::create_dir_all(&home)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut bed = Self {
            tradewind: tradewind.to_path_buf(),
            image: String::new(),
            isolation: "container",
            home,
            port,
        };
        // The demo builds the image; its job is the first warm-up.
        let port = port.to_string();
        let output = bed.tradewind(&["up", "--demo", "--port", &port]).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "tradewind up --demo failed:\n{said}"
        );
        let command = said
            .lines()
            .find(|line| line.starts_with("$ tradewind run "));
        let command = command.context("the demo did not say how it ran its job")?;
        let image = command
            .split_whitespace()
            .find(|word| word.starts_with("oci:"));
        image
            .context("the demo's command names no image")?
            .clone_into(&mut bed.image);
        if command.contains("--isolation none") {
            bed.isolation = "none";
        }
        Ok(bed)
    }

    fn tradewind(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.tradewind);
        command
            .args(words)
            .env("TRADEWIND_HOME", &self.home)
            .env("NO_COLOR", "1");
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        command
    }

    /// Times one job from before its command starts until its readiness is heard.
    fn round(&self, name: &str) -> Result<Duration> {
        let ready = self.listen()?;
        let start = Instant::now();
        let output = self
            .tradewind(&[
                "run", "-d", "-y", "--budget", "0.01", "--for", "1m", "--name", name,
            ])
            .args([
                "--isolation",
                self.isolation,
                &self.image,
                "--",
                "sleep",
                "0",
            ])
            .output()?;
        ensure!(
            output.status.success(),
            "tradewind run failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let job = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let is_ready = |line: &str| line.contains("\"lease-ready\"") && line.contains(&job);
        let heard = wait_for(&ready, start, is_ready)?;
        wait_for(&ready, start, |line| {
            line.contains("\"job-ended\"") && line.contains(&job)
        })?;
        Ok(heard)
    }

    /// Subscribes to the ledger's events, and gives each line with the instant at which it came.
    fn listen(&self) -> Result<Receiver<(Instant, String)>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(ROUND_MAX))?;
        let after = self.next_event()?;
        write!(
            stream,
            "GET /api/v1/events?after={after} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )?;
        let (sender, receiver) = mpsc::channel();
        // The thread ends with the receiver: the next line cannot be delivered then, and the read has a deadline.
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    fn next_event(&self) -> Result<u64> {
        let output = self.tradewind(&["node", "status", "-o", "json"]).output()?;
        let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let next = status["next_event"]
            .as_u64()
            .context("the status names no next event")?;
        Ok(next.saturating_sub(1))
    }
}

impl Drop for TestBed {
    fn drop(&mut self) {
        let down = self.tradewind(&["down", "--purge"]).output();
        drop(down);
        drop(fs::remove_dir_all(&self.home));
    }
}

fn wait_for(
    lines: &Receiver<(Instant, String)>,
    start: Instant,
    wanted: impl Fn(&str) -> bool,
) -> Result<Duration> {
    loop {
        let left = ROUND_MAX.saturating_sub(start.elapsed());
        let Ok((at, line)) = lines.recv_timeout(left) else {
            bail!("the job was not heard of within {} s", ROUND_MAX.as_secs());
        };
        if wanted(&line) {
            return Ok(at.saturating_duration_since(start));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_a_measured_value() {
        let times: Vec<Duration> = (1..=20).map(Duration::from_millis).collect();
        assert!((quantile(&times, 50) - 10.0).abs() < 1e-9);
        assert!((quantile(&times, 95) - 19.0).abs() < 1e-9);
        assert!((quantile(&times, 100) - 20.0).abs() < 1e-9);
        assert!(quantile(&[], 50).is_nan());
    }
}
