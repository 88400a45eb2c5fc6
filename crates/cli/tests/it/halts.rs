//! The only node dies and stays away, longer than the silence that ends a lease, while containers run.
//!
//! Nobody could beat to it, so nobody is blamed: no lease ends by it, and the time is charged once. `HALT_SECONDS`
//! sets how long it stays away.

use std::time::Duration;

use serde_json::Value;

use crate::world::{World, can_run_containers, job_id, json, micros, until};

/// How long the node is away: beyond the minute of silence after which a lease is lost.
const HALT_S: u64 = 75;
/// How long the job that outlives the stop goes on after it, at the least.
const REST_S: u64 = 15;
/// For anything here that is no workload.
const PATIENCE: Duration = Duration::from_secs(40);
/// What a workload's time may differ from what it was asked to sleep, in milliseconds or one in so many of it.
const DRIFT_MS: u64 = 100;
const DRIFT_SHARE: u64 = 1_000;

#[test]
fn a_node_that_was_away_ends_no_lease_and_charges_the_time_once() {
    if !can_run_containers("a_node_that_was_away_ends_no_lease_and_charges_the_time_once") {
        return;
    }
    let told = std::env::var("HALT_SECONDS").ok();
    let halt = told.and_then(|text| text.parse().ok()).unwrap_or(HALT_S);
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let before = world.balance();
    let (long, short) = (halt + REST_S, halt / 2);
    let outlives = submit(&world, long);
    let ends_meanwhile = submit(&world, short);
    for job in [&outlives, &ends_meanwhile] {
        until("running", PATIENCE, || world.runs(job));
    }

    world.kill("node");
    std::thread::sleep(Duration::from_secs(halt));
    world.good(&["up", "--port", &world.port.to_string()]);

    let ended = world.ended(&ends_meanwhile, PATIENCE);
    let mut charged = check(&ended, short);
    assert_eq!(world.job(&outlives)["state"], "running");
    let ended = world.ended(&outlives, PATIENCE + Duration::from_secs(REST_S));
    charged += check(&ended, long);
    let leases = json(&world.good(&["lease", "list", &outlives, "-o", "json"]));
    assert_eq!(leases["items"].as_array().unwrap().len(), 1, "{leases}");
    assert_eq!(world.balance(), (before.0 - charged, 0));
    world.good(&["down"]);
    until("nothing left", PATIENCE, || world.left().is_empty());
}

fn submit(world: &World, seconds: u64) -> String {
    let (class, image, seconds) = (world.isolation(), world.demo_image(), seconds.to_string());
    let words = ["run", "-d", "-y", "--budget", "0.20", "--for", "40m"];
    let what = ["--isolation", &class, &image, "--", "sleep", &seconds];
    job_id(&world.good(&[&words[..], &what[..]].concat()))
}

/// Checks that a job slept as long as it was told to and was charged for that, and returns the charge.
fn check(job: &Value, seconds: u64) -> u64 {
    assert_eq!(job["end"]["reason"]["code"], "completed", "{job}");
    assert_eq!(job["orders"], 1, "it was placed once: {job}");
    let (ran, asked) = (job["ran_ms"].as_u64().unwrap(), seconds * 1_000);
    let drift = DRIFT_MS.max(asked / DRIFT_SHARE);
    assert!(
        (asked..=asked + drift).contains(&ran),
        "asked for {asked} ms: {job}"
    );
    micros(&job["charged"])
}
