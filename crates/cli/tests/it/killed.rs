//! Providers killed with SIGKILL while a real container runs for a lease: nothing is lost, nothing runs twice.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, can_run_containers, job_id};

/// How long the workload sleeps: longer than two providers need to come back, shorter than the silence that ends a lease.
const SLEEP_S: u64 = 6;
/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_secs(40);

#[test]
fn providers_killed_in_mid_lease_take_their_containers_up_again() {
    if !can_run_containers("providers_killed_in_mid_lease_take_their_containers_up_again") {
        return;
    }
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let offers = json(&world.good(&["offers", "-o", "json"]));
    let class = offers["items"][0]["isolation"].as_str().unwrap().to_owned();
    let image = format!("oci:{}", world.home().join("images/demo").display());
    let sleep = SLEEP_S.to_string();
    let words = [
        "run",
        "-d",
        "-y",
        "--budget",
        "0.01",
        "--isolation",
        &class,
        &image,
        "--",
        "sleep",
        &sleep,
    ];
    let job = job_id(&world.good(&words));
    until("running", || {
        job_state(&world, &job) == "running" && ready(&world, &job)
    });

    for provider in ["provider-a", "provider-b"] {
        let pid_file = world.home().join("run").join(format!("{provider}.pid"));
        let pid = std::fs::read_to_string(pid_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert_eq!(job_state(&world, &job), "running");
    let again = world.run(&["up"]);
    assert_eq!(again.code, 0, "{}", again.stderr);

    until("ended", || job_state(&world, &job) == "ended");
    let shown = json(&world.good(&["job", "show", &job, "-o", "json"]));
    assert_eq!(shown["end"]["reason"]["code"], "completed", "{shown}");
    assert_eq!(shown["orders"], 1, "it was placed once: {shown}");
    let ran_ms = shown["ran_ms"].as_u64().unwrap();
    let asked_ms = SLEEP_S * 1_000;
    assert!(
        (asked_ms..asked_ms + 500).contains(&ran_ms),
        "the shim's clock counts: {shown}"
    );
    world.good(&["down"]);
    until("nothing left", || world.left().is_empty());
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn job_state(world: &World, job: &str) -> String {
    let shown = json(&world.good(&["job", "show", job, "-o", "json"]));
    shown["state"].as_str().unwrap().to_owned()
}

/// Tells whether the container runs: charging begins when it is ready.
fn ready(world: &World, job: &str) -> bool {
    let leases = json(&crate::world::http_get(
        world.port,
        &format!("/api/v1/jobs/{job}/leases"),
    ));
    leases["items"][0]["state"] == "running"
}

fn until(what: &str, mut look: impl FnMut() -> bool) {
    let give_up = Instant::now() + PATIENCE;
    while !look() {
        assert!(Instant::now() < give_up, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
