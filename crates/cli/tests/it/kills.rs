//! Twenty random kills of node, providers, shims and containers while jobs run.
//!
//! Whatever dies, every job ends with one reason, the tenant pays for delivered time only, every micro-dollar is
//! accounted for, and nothing is left behind. The order is drawn from `KILL_SEED`, printed at the start; `KILLS` sets how
//! many there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::{World, can_run_containers, job_id, micros, processes, until};

/// Kills in an ordinary run.
const KILLS: u64 = 20;
/// Jobs that are under way at most: two run, the rest wait in the book.
const JOBS_LIVE_MAX: usize = 4;
/// Longest wait for the last job to end: silence ends a lease after a minute, and its job is placed once more.
const SETTLE_MAX: Duration = Duration::from_secs(200);
/// How an end may be reached here: done; killed (128 + 9); or, where both machines lost it, no other was there in time.
const REASONS: [&str; 3] = ["completed", "failed", "no-match"];
/// What a workload may have been charged beyond its own time, which the shim's clock measures to the millisecond.
const OVERRUN_MS: u64 = 500;

#[test]
fn random_kills_lose_no_job_and_no_money() {
    let name = "random_kills_lose_no_job_and_no_money";
    if !can_run_containers(name) {
        return;
    }
    let told = |name| std::env::var(name).ok()?.parse::<u64>().ok();
    let seed = told("KILL_SEED").unwrap_or(1);
    let kills = told("KILLS").unwrap_or(KILLS);
    eprintln!("KILL_SEED={seed} KILLS={kills}");
    let mut dice = Dice(seed);
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let before = world.balance();
    let mut jobs = BTreeMap::new();
    for _ in 0..kills {
        if live(&world, &jobs) < JOBS_LIVE_MAX {
            submit(&world, &mut dice, &mut jobs);
        }
        std::thread::sleep(Duration::from_millis(dice.up_to(2_500)));
        kill_one(&world, &mut dice);
    }
    let ended = settle(&world, &jobs);
    let mut charged = 0;
    for (job, shown) in &ended {
        charged += check_end(job, jobs[job], shown);
    }
    let after = world.balance();
    assert_eq!(
        after,
        (before.0 - charged, 0),
        "what was charged is all that is missing, and nothing is held"
    );
    world.good(&["down"]);
    until("nothing left", Duration::from_secs(30), || {
        world.left().is_empty()
    });
}

/// A small generator of its own, so that a seed means the same for ever (SplitMix64).
struct Dice(u64);

impl Dice {
    fn up_to(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let bound = u64::try_from(from.len()).unwrap();
        (bound > 0).then(|| &from[usize::try_from(self.up_to(bound)).unwrap()])
    }
}

fn submit(world: &World, dice: &mut Dice, jobs: &mut BTreeMap<String, u64>) {
    let seconds = [3, 6, 9][usize::try_from(dice.up_to(3)).unwrap()];
    let image = world.demo_image();
    let class = world.isolation();
    let ran = world.run(&[
        "run",
        "-d",
        "-y",
        "--budget",
        "0.01",
        "--for",
        "2m",
        "--wait",
        "1m",
        "--isolation",
        &class,
        &image,
        "--",
        "sleep",
        &seconds.to_string(),
    ]);
    // A machine that has just died may match no more; a refusal is a proper answer, and costs nothing.
    if ran.code == 0 {
        jobs.insert(job_id(&ran.stdout), seconds);
    }
}

fn live(world: &World, jobs: &BTreeMap<String, u64>) -> usize {
    jobs.keys()
        .filter(|job| world.job(job)["state"] != "ended")
        .count()
}

/// Kills one process of those that are there, and starts again whatever does not come back by itself.
fn kill_one(world: &World, dice: &mut Dice) {
    let mut targets = Vec::new();
    for role in ["node", "provider-a", "provider-b"] {
        let pid = fs::read_to_string(world.home().join("run").join(format!("{role}.pid")));
        if let Some(pid) = pid.ok().and_then(|text| text.trim().parse::<i32>().ok()) {
            targets.push((role, pid));
        }
    }
    for shim in shims(world.home()) {
        targets.push(("shim", shim));
        targets.extend(children(shim).into_iter().map(|pid| ("container", pid)));
    }
    let kinds: Vec<&str> = targets.iter().map(|(kind, _)| *kind).collect();
    let kind = *dice.pick(&kinds).expect("the node runs");
    let of_kind: Vec<i32> = targets
        .iter()
        .filter(|t| t.0 == kind)
        .map(|t| t.1)
        .collect();
    let pid = *dice.pick(&of_kind).unwrap();
    eprintln!("kills {kind} {pid}");
    let killed = kill(Pid::from_raw(pid), Signal::SIGKILL);
    assert!(
        matches!(killed, Ok(()) | Err(nix::errno::Errno::ESRCH)),
        "{killed:?}"
    );
    if kind == "node" || kind.starts_with("provider") {
        std::thread::sleep(Duration::from_millis(dice.up_to(2_000)));
        world.good(&["up", "--port", &world.port.to_string()]);
    }
}

/// Returns the shims of this home's containers.
fn shims(home: &Path) -> Vec<i32> {
    let home = home.to_str().unwrap().as_bytes();
    let of_home = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0).skip(1);
        words.next() == Some(b"shim") && words.any(|word| word.starts_with(home))
    };
    processes()
        .into_iter()
        .filter(of_home)
        .filter(|pid| parent_is_no_shim(*pid, home))
        .collect()
}

/// A container's first process is a copy of its shim until it runs something else.
fn parent_is_no_shim(pid: i32, home: &[u8]) -> bool {
    let line = fs::read(format!("/proc/{}/cmdline", parent(pid).unwrap_or(1))).unwrap_or_default();
    let mut words = line.split(|byte| *byte == 0).skip(1);
    !(words.next() == Some(b"shim") && words.any(|word| word.starts_with(home)))
}

fn children(of: i32) -> Vec<i32> {
    processes()
        .into_iter()
        .filter(|pid| parent(*pid) == Some(of))
        .collect()
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Waits until every job has ended, and returns them as shown then.
fn settle(world: &World, jobs: &BTreeMap<String, u64>) -> BTreeMap<String, Value> {
    let give_up = Instant::now() + SETTLE_MAX;
    loop {
        let all: BTreeMap<String, Value> = jobs
            .keys()
            .map(|job| (job.clone(), world.job(job)))
            .collect();
        let open: Vec<&String> = all
            .iter()
            .filter(|(_, job)| job["state"] != "ended")
            .map(|(id, _)| id)
            .collect();
        if open.is_empty() {
            return all;
        }
        assert!(Instant::now() < give_up, "these never ended: {open:?}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Checks one job's end, and returns what it was charged in micro-dollars.
fn check_end(job: &str, seconds: u64, shown: &Value) -> u64 {
    let reason = shown["end"]["reason"]["code"].as_str().unwrap();
    assert!(REASONS.contains(&reason), "{job} ended as {shown}");
    let charged = micros(&shown["charged"]);
    assert!(charged <= micros(&shown["budget"]), "{shown}");
    let (ran, asked) = (shown["ran_ms"].as_u64().unwrap(), seconds * 1_000);
    if reason == "completed" && shown["orders"] == 1 {
        assert!(
            (asked..=asked + OVERRUN_MS).contains(&ran),
            "asked for {asked} ms: {shown}"
        );
    }
    charged
}
