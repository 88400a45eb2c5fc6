//! A network of four validators on one machine: four processes, one killed, and a job that does not notice.

use std::time::Duration;

use crate::world::{World, can_run_containers, http_get, json, until};

/// What takes milliseconds on an idle machine is given this long on a busy one.
const WAIT_MAX: Duration = Duration::from_mins(1);
/// Validators.
const COUNT: u16 = 4;

#[test]
fn four_validators_serve_one_ledger_and_one_may_die() {
    if !can_run_containers("four_validators_serve_one_ledger_and_one_may_die") {
        return;
    }
    let world = World::new();
    let port = world.port.to_string();
    world.good(&["up", "--validators", "4", "--port", &port]);
    let again = world.run(&["up", "--validators", "3"]);
    assert_eq!(again.code, 6, "{}", again.stderr);
    let statuses: Vec<_> = (0..COUNT).map(|at| status(&world, at)).collect();
    for one in &statuses {
        assert_eq!(one["group_key"], statuses[0]["group_key"]);
        assert_eq!(one["network"], statuses[0]["network"]);
    }

    world.good(&["up", "--demo"]);
    world.kill("node-3");
    let flags = ["--budget", "0.05", "--cpu", "0.1", "--disk", "100M"];
    let job = world.hire(&flags, &["sleep", "1"]);
    assert_eq!(
        world.ended(&job, WAIT_MAX)["end"]["reason"]["code"],
        "completed"
    );

    world.good(&["up"]);
    let endpoint = format!("http://127.0.0.1:{}", world.port + 2);
    until("the third has caught up", WAIT_MAX, || {
        // Its gateway may not listen yet.
        let shown = world.run(&["job", "show", &job, "-o", "json", "--endpoint", &endpoint]);
        shown.code == 0 && json(&shown.stdout)["state"] == "ended"
    });
    let shown = world.good(&["account", "show", "--verify", "--endpoint", &endpoint]);
    assert!(shown.contains("available"), "{shown}");
    let charged = |at| view(&world, at, &job)["charged"].clone();
    for at in 0..COUNT {
        assert_eq!(charged(at), charged(0), "validator {at}");
    }
    world.good(&["down"]);
    assert_eq!(world.left(), Vec::<String>::new());
    world.good(&["down", "--purge"]);
}

fn status(world: &World, at: u16) -> serde_json::Value {
    json(&http_get(world.port + at, "/api/v1/status"))
}

fn view(world: &World, at: u16, job: &str) -> serde_json::Value {
    json(&http_get(world.port + at, &format!("/api/v1/jobs/{job}")))
}
