//! What a tenant sets up beside jobs: keys that act for an account, contexts, money, formats.

use crate::world::{World, can_run_containers};

#[test]
fn keys_contexts_money_and_formats_of_a_tenant() {
    if !can_run_containers("keys_contexts_money_and_formats_of_a_tenant") {
        return;
    }
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    authorized_key_acts_within_its_budget(&world);
    treasurer_counts_a_reference_once(&world);
    redemption_is_paid_or_refused(&world);
    context_is_added_used_and_removed(&world);
    lists_come_in_every_format(&world);
    attached_run_is_readable_by_programs(&world);
    running_job_is_extended_and_cancelled(&world);
    world.good(&["down", "--purge"]);
}

fn json(world: &World, words: &[&str]) -> serde_json::Value {
    let mut all = words.to_vec();
    all.extend(["-o", "json"]);
    serde_json::from_str(&world.good(&all)).unwrap()
}

fn authorized_key_acts_within_its_budget(world: &World) {
    let made = json(world, &["key", "create", "ci"]);
    let key = made["key"].as_str().unwrap().to_owned();
    let file = made["file"].as_str().unwrap().to_owned();
    assert_eq!(
        world.run(&["key", "create", "ci"]).code,
        1,
        "never made twice"
    );
    let demo = json(world, &["account", "show"])["id"].clone();
    let words = [
        "key",
        "authorize",
        "ci",
        "--role",
        "tenant",
        "--budget",
        "0.02",
    ];
    let mut words = words.to_vec();
    words.extend(["--for", "1d"]);
    let view = json(world, &words);
    assert_eq!((&view["role"], &view["account"]), (&"tenant".into(), &demo));
    assert!(world.good(&["key", "list"]).contains(&key));
    assert!(
        world
            .good(&["key", "show", "ci"])
            .contains("of $0.020000 used")
    );

    let run = |budget: &str| {
        let image = format!("oci:{}", world.home().join("images/demo").display());
        let words = [
            "run",
            "--key-file",
            &file,
            "--budget",
            budget,
            "--disk",
            "100M",
        ];
        let mut words = words.to_vec();
        let class = json(world, &["offers"])["items"][0]["isolation"].clone();
        let class = class.as_str().unwrap();
        words.extend(["--isolation", class, "--name", "by-ci", &image, "--", "env"]);
        world.run(&words)
    };
    let ran = run("0.01");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let dear = run("0.02");
    assert!(dear.stderr.contains("[key-budget]"), "{}", dear.stderr);
    let job = json(world, &["job", "show", "by-c"]);
    assert_eq!(
        (&job["tenant"], &job["opened_by"]),
        (&demo, &key.as_str().into())
    );

    world.good(&["key", "revoke", "ci"]);
    assert!(world.good(&["key", "show", &key]).contains("revoked"));
    assert_eq!(run("0.01").code, 4, "a revoked key may do nothing");
}

fn treasurer_counts_a_reference_once(world: &World) {
    let me = json(world, &["account", "show"]);
    let id = me["id"].as_str().unwrap();
    let words = ["account", "issue", id, "5", "--reference", "wire 17"];
    let after = json(world, &words);
    let micros = |view: &serde_json::Value| -> u64 {
        view["available"]["micros"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!(micros(&after), micros(&me) + 5_000_000);
    let again = world.run(&words);
    assert_eq!(again.code, 5);
    assert!(
        again.stderr.contains("[reference-used]"),
        "{}",
        again.stderr
    );
    assert_eq!(micros(&json(world, &["account", "show"])), micros(&after));
    let demo_key = world.home().join("keys/demo.key");
    let own = [
        "account",
        "issue",
        id,
        "5",
        "--reference",
        "x",
        "--key-file",
    ];
    let mut own = own.to_vec();
    own.push(demo_key.to_str().unwrap());
    assert!(world.run(&own).stderr.contains("[not-treasurer]"));
}

fn redemption_is_paid_or_refused(world: &World) {
    let ask = ["account", "redeem", "1", "--destination", "IBAN X", "-y"];
    let without = world.run(&ask[..5]);
    assert!(
        without.stderr.contains("[needs-consent]"),
        "{}",
        without.stderr
    );
    let ran = world.run(&ask);
    let line = ran
        .stderr
        .lines()
        .find_map(|line| line.trim().strip_prefix("redemption"));
    let id = line.unwrap().trim().to_owned();
    let words = ["account", "paid", &id, "--reference", "out 1"];
    world.good(&words);
    assert!(world.run(&words).stderr.contains("[no-redemption]"));
    let ran = world.run(&ask);
    let line = ran
        .stderr
        .lines()
        .find_map(|line| line.trim().strip_prefix("redemption"));
    world.good(&["account", "refuse", line.unwrap().trim()]);
}

fn context_is_added_used_and_removed(world: &World) {
    let endpoint = format!("http://127.0.0.1:{}", world.port);
    world.good(&["context", "add", "other", "--endpoint", &endpoint]);
    let wrong = [
        "context",
        "add",
        "bad",
        "--group-key",
        "00",
        "--endpoint",
        &endpoint,
    ];
    assert!(world.run(&wrong).stderr.contains("[wrong-network]"));
    world.good(&["context", "use", "other"]);
    let shown = world.good(&["config", "show", "--origin"]);
    assert!(shown.contains("contexts/current"), "{shown}");
    assert!(shown.contains("other.json"), "{shown}");
    let typo = world.run(&["context", "use", "othr"]);
    assert_eq!(typo.code, 3);
    assert!(
        typo.stderr.contains("did you mean: other"),
        "{}",
        typo.stderr
    );
    world.good(&["context", "remove", "other"]);
    let left = world.good(&["context", "list", "-o", "name"]);
    assert_eq!(left, "local\n");
    assert!(
        json(world, &["account", "show"])["id"].is_string(),
        "the local one is used again"
    );
}

fn lists_come_in_every_format(world: &World) {
    let csv = world.good(&[
        "offers",
        "-o",
        "csv",
        "--fields",
        "device,device-h",
        "--sort",
        "-device-h",
    ]);
    assert_eq!(csv, "device,device-h\nCPU slot,0.1200\nCPU slot,0.09000\n");
    let yaml = world.good(&["offers", "-o", "yaml", "--fields", "tier", "--limit", "1"]);
    assert!(
        yaml.starts_with("items:\n  - tier: on-demand\nnext: "),
        "{yaml}"
    );
    let lines = world.good(&["offers", "-o", "jsonl", "--fields", "tier,class"]);
    assert_eq!(
        lines,
        "{\"class\":\"cpu\",\"tier\":\"on-demand\"}\n".repeat(2)
    );
    let typo = world.run(&["offers", "--sort", "devce"]);
    assert_eq!(typo.code, 2);
    assert!(
        typo.stderr.contains("did you mean: device"),
        "{}",
        typo.stderr
    );
    let csv = world.good(&[
        "account",
        "show",
        "-o",
        "csv",
        "--fields",
        "is_provider,locked",
    ]);
    assert_eq!(csv, "is_provider,locked\nfalse,0.000000\n");
}

fn attached_run_is_readable_by_programs(world: &World) {
    let image = format!("oci:{}", world.home().join("images/demo").display());
    let class = json(world, &["offers"])["items"][0]["isolation"].clone();
    let run = |format: &str| {
        let class = class.as_str().unwrap();
        let words = ["run", "-o", format, "--budget", "0.01", "--disk", "100M"];
        let mut words = words.to_vec();
        words.extend([
            "--isolation",
            class,
            "-e",
            "GREETING=hello",
            &image,
            "--",
            "env",
        ]);
        world.run(&words)
    };
    let ran = run("json");
    let view: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(view["end"]["reason"]["code"], "completed");
    assert!(ran.stderr.contains("GREETING=hello\n"), "{}", ran.stderr);
    let ran = run("jsonl");
    let lines: Vec<serde_json::Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let kinds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["kind"].as_str())
        .collect();
    assert!(
        kinds.contains(&"lease-awarded") && kinds.contains(&"job-ended"),
        "{kinds:?}"
    );
    let output = lines.iter().filter(|line| line["kind"] == "output");
    let text: String = output.map(|line| line["text"].as_str().unwrap()).collect();
    assert!(text.contains("GREETING=hello\n"), "{text}");
    assert_eq!(lines.last().unwrap()["state"], "ended");
}

fn running_job_is_extended_and_cancelled(world: &World) {
    let image = format!("oci:{}", world.home().join("images/demo").display());
    let class = json(world, &["offers"])["items"][0]["isolation"].clone();
    let words = [
        "run", "-d", "--name", "long", "--budget", "0.01", "--disk", "100M",
    ];
    let mut words = words.to_vec();
    words.extend([
        "--isolation",
        class.as_str().unwrap(),
        &image,
        "--",
        "sleep",
        "60",
    ]);
    world.good(&words);
    let view = json(world, &["job", "extend", "lon", "--budget", "0.02"]);
    assert_eq!(view["budget"]["micros"], "30000");
    let view = json(world, &["job", "cancel", "long"]);
    assert_eq!(view["end"]["reason"]["code"], "cancelled", "{view}");
    let late = world.run(&["job", "extend", "long", "--budget", "0.02"]);
    assert!(late.stderr.contains("[job-ended]"), "{}", late.stderr);
}
