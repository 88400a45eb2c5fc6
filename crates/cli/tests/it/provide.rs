//! What a provider has to keep an eye on: prices, machines, earnings, maintenance, and whether all of it works.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, can_run_containers, json, micros, until};

/// The agent looks at prices and windows every two seconds; blocks and two busy cores come on top.
const PATIENCE: Duration = Duration::from_secs(30);

fn until_soon(what: &str, look: impl FnMut() -> bool) {
    until(what, PATIENCE, look);
}

fn shown(world: &World, words: &[&str]) -> Value {
    let mut words = words.to_vec();
    words.extend(["--as", "a", "-o", "json"]);
    json(&world.good(&words))
}

#[test]
fn a_provider_prices_maintains_and_counts_while_its_agent_runs() {
    if !can_run_containers("a_provider_prices_maintains_and_counts_while_its_agent_runs") {
        return;
    }
    let world = World::new();
    let port = world.port.to_string();
    world.good(&["up", "--demo", "--port", &port]);
    prices_reach_the_book(&world);
    a_test_passes_and_fails_without_the_agent(&world);
    a_window_keeps_leases_away(&world);
    earnings_are_what_was_paid(&world);
    machines_are_shown(&world);
    // What a person priced stays through another `up`.
    world.good(&["down"]);
    world.good(&["up"]);
    let prices = shown(&world, &["provider", "price", "show"]);
    assert_eq!(
        prices["items"][0]["target_micros_per_device_hour"], 150_000,
        "{prices}"
    );
    world.good(&["down"]);
    assert_eq!(world.left(), Vec::<String>::new());
}

fn prices_reach_the_book(world: &World) {
    world.good(&[
        "provider", "price", "set", "0.15", "--floor", "0.14", "--as", "a",
    ]);
    until_soon("the offer asks for the new price", || {
        let view = shown(world, &["provider", "machine", "show"]);
        let offers = view["offers"].as_array().unwrap();
        offers.len() == 1 && micros(&offers[0]["prices"]["per_device_hour"]) == 150_000
    });
    let prices = shown(world, &["provider", "price", "show"]);
    assert!(
        prices["items"][0]["offer"]
            .as_str()
            .unwrap()
            .starts_with("off_"),
        "{prices}"
    );
    let file = prices["file"].as_str().unwrap().to_owned();
    world.good(&["provider", "price", "check", "--as", "a"]);
    let good = std::fs::read_to_string(&file).unwrap();
    let bad = world.home().join("bad.yaml");
    std::fs::write(&bad, good.replace("target:", "targte:")).unwrap();
    let bad = bad.to_str().unwrap();
    let ran = world.run(&["provider", "price", "check", bad]);
    assert_ne!(ran.code, 0);
    assert!(
        ran.stderr
            .contains("bad.yaml:7:5: a price has no key \"targte\""),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("did you mean: target"),
        "{}",
        ran.stderr
    );
}

fn failed_checks(report: &Value) -> Vec<&str> {
    let items = report["items"].as_array().unwrap().iter();
    let failed = items.filter(|item| item["passed"] == false);
    failed.map(|item| item["name"].as_str().unwrap()).collect()
}

fn a_test_passes_and_fails_without_the_agent(world: &World) {
    let report = shown(world, &["provider", "test"]);
    assert_eq!(failed_checks(&report), Vec::<&str>::new(), "{report}");
    assert!(report["items"].as_array().unwrap().len() >= 8, "{report}");
    world.kill("provider-a");
    let ran = world.run(&["provider", "test", "--as", "a", "-o", "json"]);
    assert_ne!(ran.code, 0, "{}", ran.stdout);
    let report = json(&ran.stdout);
    assert_eq!(failed_checks(&report), ["reached by tenants"], "{report}");
    world.good(&["up"]);
}

fn a_window_keeps_leases_away(world: &World) {
    world.good(&[
        "provider",
        "maintenance",
        "start",
        "--for",
        "2h",
        "--as",
        "a",
    ]);
    until_soon("the machine takes no leases", || {
        shown(world, &["provider", "machine", "show"])["machine"]["state"] == "draining"
    });
    let view = shown(world, &["provider", "machine", "show"]);
    assert_eq!(view["closed"], "it is being maintained", "{view}");
    let list = shown(world, &["provider", "maintenance", "list"]);
    assert_eq!(list["items"].as_array().unwrap().len(), 1, "{list}");
    world.good(&["provider", "maintenance", "end", "--as", "a"]);
    until_soon("the machine takes leases again", || {
        shown(world, &["provider", "machine", "show"])["machine"]["state"] == "active"
    });
    let ran = world.run(&["provider", "maintenance", "end", "--as", "a"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

fn earnings_are_what_was_paid(world: &World) {
    world.good(&["provider", "drain", "--as", "b"]);
    let job = world.hire(&["--budget", "0.05"], &["sleep", "2"]);
    let ended = world.ended(&job, PATIENCE);
    world.good(&["provider", "resume", "--as", "b"]);
    let by_job = shown(world, &["provider", "earnings", "--by", "job"]);
    let items = by_job["items"].as_array().unwrap();
    let row = items
        .iter()
        .find(|row| row["key"] == job.as_str())
        .expect("the job's row");
    let charged = micros(&ended["charged"]);
    assert!(charged > 0, "{ended}");
    assert_eq!(row["charged_micros"], charged, "{by_job}");
    let sum = |name: &str| -> u64 { items.iter().map(|row| row[name].as_u64().unwrap()).sum() };
    assert_eq!(
        by_job["total"]["charged_micros"],
        sum("charged_micros"),
        "{by_job}"
    );
    let row = |name: &str| row[name].as_u64().unwrap();
    assert_eq!(
        row("charged_micros"),
        row("earned_micros") + row("fee_micros"),
        "{by_job}"
    );
    for by in ["day", "machine"] {
        let view = shown(world, &["provider", "earnings", "--by", by]);
        assert_eq!(view["total"], by_job["total"], "{by}");
        assert_eq!(view["items"].as_array().unwrap().len(), 1, "{view}");
    }
}

fn machines_are_shown(world: &World) {
    let list = shown(world, &["provider", "machine", "list"]);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{list}");
    let shown = world.good(&["provider", "machine", "show", "--as", "a"]);
    assert!(shown.contains(items[0]["id"].as_str().unwrap()), "{shown}");
}

#[test]
fn systemd_accepts_the_unit_of_a_provider() {
    let world = World::new();
    let unit = world.good(&["provider", "unit", "--as", "mine"]);
    assert!(unit.contains(" provider start --as mine\n"), "{unit}");
    let path = world.home().join("tradewind-provider.service");
    std::fs::write(&path, unit).unwrap();
    let verified = Command::new("systemd-analyze")
        .arg("verify")
        .arg(&path)
        .output();
    let Ok(verified) = verified else {
        eprintln!("skipped systemd_accepts_the_unit_of_a_provider: there is no systemd-analyze");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    // What it says of other units of this machine is not about ours.
    let ours: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("tradewind"))
        .collect();
    assert_eq!(ours, Vec::<&str>::new(), "{said}");
}
