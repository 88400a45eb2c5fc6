//! Providers killed with SIGKILL while a real container runs for a lease: nothing is lost, nothing runs twice.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, can_run_containers, until};

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
    let sleep = SLEEP_S.to_string();
    let job = world.hire(&["--budget", "0.01"], &["sleep", &sleep]);
    until("running", PATIENCE, || world.runs(&job));

    for provider in ["provider-a", "provider-b"] {
        let pid_file = world.home().join("run").join(format!("{provider}.pid"));
        let pid = std::fs::read_to_string(pid_file)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    assert_eq!(world.job(&job)["state"], "running");
    let again = world.run(&["up"]);
    assert_eq!(again.code, 0, "{}", again.stderr);

    let shown = world.ended(&job, PATIENCE);
    assert_eq!(shown["end"]["reason"]["code"], "completed", "{shown}");
    assert_eq!(shown["orders"], 1, "it was placed once: {shown}");
    let ran_ms = shown["ran_ms"].as_u64().unwrap();
    let asked_ms = SLEEP_S * 1_000;
    assert!(
        (asked_ms..asked_ms + 500).contains(&ran_ms),
        "the shim's clock counts: {shown}"
    );
    world.good(&["down"]);
    until("nothing left", PATIENCE, || world.left().is_empty());
}
