//! Two commands to a paid job, and everything that people do next.

use std::time::Duration;

use crate::world::{World, can_run_containers, http_get, job_id, until};

/// Two commands to a paid job in less than this: the promise of the quickstart, with room for two busy cores.
const DEMO_MAX: Duration = Duration::from_mins(2);

/// What takes milliseconds on an idle machine is given this long on a busy one.
const WAIT_MAX: Duration = Duration::from_secs(30);

#[test]
fn two_commands_to_a_paid_job_and_nothing_left_behind() {
    if !can_run_containers("two_commands_to_a_paid_job_and_nothing_left_behind") {
        return;
    }
    let world = World::new();
    demo_runs_a_paid_job_with_a_proof(&world);
    demo_again_goes_on_where_it_was(&world);
    let isolation = isolation(&world);
    run_passes_output_and_exit_code_through(&world, &isolation);
    detached_job_is_listed_read_and_stopped(&world, &isolation);
    no_match_says_what_emptied_the_list(&world, &isolation);
    job_file_is_planned_and_run(&world, &isolation);
    what_is_shown_is_what_the_api_says_and_what_was_proved(&world);
    world.good(&["down"]);
    assert_eq!(world.left(), Vec::<String>::new());
    world.good(&["down", "--purge"]);
    let rest: Vec<_> = std::fs::read_dir(world.home())
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert!(rest.is_empty(), "{rest:?}");
}

#[test]
fn killed_processes_lose_nothing_and_are_started_again() {
    if !can_run_containers("killed_processes_lose_nothing_and_are_started_again") {
        return;
    }
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let image = isolation(&world);
    let options = ["-d", "-y", "--budget", "0.05", "--name", "survivor"];
    let job = job_id(&world.good(&run_words(&options, &image, &["sleep", "6"])));
    until("running", WAIT_MAX, || world.runs(&job));
    for name in ["node", "provider-a", "provider-b"] {
        world.kill(name);
    }
    assert_eq!(world.run(&["ps"]).code, 9, "nobody answers");
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("was running"), "{}", ran.stderr);
    assert!(world.good(&["logs", "-f", &job]).ends_with("awake\n"));
    let view = world.ended(&job, WAIT_MAX);
    assert_eq!(view["end"]["reason"]["code"], "completed", "{view}");
    assert_eq!(view["orders"], 1, "it was never placed anew: {view}");
    // It slept for six seconds on a slot at nine cents an hour: 150 micro-dollars, and a little for starting and ending.
    let charged: u64 = view["charged"]["micros"].as_str().unwrap().parse().unwrap();
    assert!((150..=170).contains(&charged), "{view}");
    world.good(&["down"]);
    assert_eq!(world.left(), Vec::<String>::new());
}

fn job_file_is_planned_and_run(world: &World, isolation: &[String]) {
    let [_, class, image] = isolation else {
        panic!("{isolation:?}");
    };
    let file = world.home().join("job.yaml");
    let file = file.to_str().unwrap();
    let words = [
        "job", "init", "--to", file, "--cpu", "0.1", "--disk", "100M",
    ];
    let mut words = words.to_vec();
    words.extend([
        "--isolation",
        class,
        "--budget",
        "0.01",
        "--label",
        "kind=file",
    ]);
    words.extend([image, "--", "env"]);
    world.good(&words);
    assert_eq!(world.run(&words).code, 1, "it is not replaced unasked");
    let written = std::fs::read_to_string(file).unwrap();
    assert!(
        written.starts_with("# yaml-language-server: $schema=http://127.0.0.1:"),
        "{written}"
    );
    std::fs::write(file, written + "secrets: [HUSH]\n").unwrap();

    let plan = world.good(&["plan", "-f", file, "--for", "30m"]);
    assert!(plan.starts_with("  #  OFFER"), "{plan}");
    assert!(
        plan.contains("\n→ 1  off_") && plan.contains("6 m 40 s"),
        "{plan}"
    );
    let dear = world.run(&["plan", "-f", file, "--max-price", "0.001"]);
    assert_eq!(dear.code, 7);
    assert!(
        dear.stderr.contains("turned away, dearer than the cap"),
        "{}",
        dear.stderr
    );
    assert!(
        dear.stderr.contains(": --max-price 0.09"),
        "{}",
        dear.stderr
    );

    job_file_is_run_with_its_secret(world, file);
    std::fs::remove_file(file).unwrap();
}

fn job_file_is_run_with_its_secret(world: &World, file: &str) {
    assert!(
        world
            .run(&["run", "-f", file])
            .stderr
            .contains("[no-secret]")
    );
    let ran = world
        .command(&["run", "-f", file])
        .env("HUSH", "hush")
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && stdout.contains("HUSH=hush\n"),
        "{ran:?}"
    );
    assert_eq!(
        world
            .good(&["ps", "-a", "--label", "kind=file", "-q"])
            .lines()
            .count(),
        1
    );
    assert_eq!(world.good(&["ps", "-a", "--label", "kind=other", "-q"]), "");

    std::fs::write(file, "image: x\nlimits: { bugdet: 5 }\n").unwrap();
    let wrong = world.run(&["run", "-f", file]);
    assert_eq!(wrong.code, 6);
    let want = ":2:11: limits has no key \"bugdet\"  [bad-job-file]\n  2 | limits: { bugdet: 5 }\n    |           ^^^^^^\n\nhint: did you mean: budget\n";
    assert!(wrong.stderr.ends_with(want), "{}", wrong.stderr);
    let schema = http_get(world.port, "/api/v1/schema/job");
    assert_eq!(schema, api::jobfile::schema());
}

fn demo_runs_a_paid_job_with_a_proof(world: &World) {
    let ran = world.run(&["up", "--demo", "--port", &world.port.to_string()]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.took < DEMO_MAX, "took {:?}", ran.took);
    assert!(
        ran.stdout.contains("CPU slot") && ran.stdout.contains("provider-b"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stderr.contains("✓ done") && ran.stderr.contains("charged $0.0000"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("✓ verified"), "{}", ran.stderr);
}

fn demo_again_goes_on_where_it_was(world: &World) {
    let before = world.good(&["account", "show", "-o", "json"]);
    let ran = world.run(&["up"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        ran.stderr.matches("was running").count(),
        3,
        "{}",
        ran.stderr
    );
    assert_eq!(
        world.good(&["account", "show", "-o", "json"]),
        before,
        "nothing is funded twice"
    );
}

fn isolation(world: &World) -> Vec<String> {
    vec![
        "--isolation".to_owned(),
        world.isolation(),
        world.demo_image(),
    ]
}

/// Returns the words of a run of the demo's image.
fn run_words<'a>(options: &[&'a str], image: &'a [String], command: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["run"];
    words.extend(options);
    words.extend(image.iter().map(String::as_str));
    words.push("--");
    words.extend(command);
    words
}

fn run_passes_output_and_exit_code_through(world: &World, image: &[String]) {
    let ran = world.run(&run_words(
        &["--budget", "0.01"],
        image,
        &["say", "6", "times", "7"],
    ));
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (0, "6 times 7\n"),
        "{}",
        ran.stderr
    );
    let ran = world.run(&run_words(&["--budget", "0.01"], image, &["exit", "7"]));
    assert_eq!((ran.code, ran.stdout.as_str()), (7, ""), "{}", ran.stderr);
    let ran = world.run(&run_words(
        &["--budget", "0.01"],
        image,
        &["complain", "aloud"],
    ));
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    assert!(
        ran.stderr.lines().any(|line| line == "aloud"),
        "{}",
        ran.stderr
    );
    // A megabyte in lines: nothing is lost at the end.
    let ran = world.run(&run_words(
        &["--budget", "0.01"],
        image,
        &["spam", "1048576"],
    ));
    assert_eq!(
        (ran.code, ran.stdout.len()),
        (0, 1_048_576),
        "{}",
        ran.stderr
    );
    let missing = ["--budget", "0.01", "--entrypoint", "/no/such/program"];
    let ran = world.run(&run_words(&missing, image, &[]));
    assert_eq!(ran.code, 127, "{}", ran.stderr);
}

fn detached_job_is_listed_read_and_stopped(world: &World, image: &[String]) {
    let options = [
        "-d",
        "-y",
        "--budget",
        "0.01",
        "--name",
        "nap",
        "-e",
        "GREETING=hello",
    ];
    let job = job_id(&world.good(&run_words(&options, image, &["sleep", "600"])));
    assert_eq!(world.good(&["ps", "-q"]).trim(), job);
    assert!(world.good(&["ps"]).contains("nap"));
    let stopped = world.run(&["stop", "nap"]);
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("charged $"), "{}", stopped.stderr);
    assert_eq!(world.good(&["ps", "-q"]), "");
    let again = world.run(&["stop", &job]);
    assert_eq!(again.code, 5, "{}", again.stderr);
    assert_eq!(world.run(&["logs", "no-such-job"]).code, 3);
    let options = ["-d", "-y", "--budget", "0.01", "--name", "speech"];
    world.good(&run_words(&options, image, &["say", "read", "me", "later"]));
    assert_eq!(world.good(&["logs", "-f", "speech"]), "read me later\n");
    assert_eq!(world.good(&["logs", "speech"]), "read me later\n");
}

fn no_match_says_what_emptied_the_list(world: &World, image: &[String]) {
    let ran = world.run(&run_words(
        &["--budget", "5", "--gpu", "h100"],
        image,
        &["say", "no"],
    ));
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("[no-match]") && ran.stderr.contains("other device model"),
        "{}",
        ran.stderr
    );
    let ran = world.run(&run_words(
        &["--budget", "5", "--max-price", "0.000001"],
        image,
        &["say", "no"],
    ));
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert!(ran.stderr.contains("dearer than the cap"), "{}", ran.stderr);
    let ran = world.run(&run_words(&["--budget", "5000"], image, &["say", "no"]));
    assert_eq!(ran.code, 8, "{}", ran.stderr);
}

fn what_is_shown_is_what_the_api_says_and_what_was_proved(world: &World) {
    let shown = world.good(&["offers", "-o", "json"]);
    assert_eq!(shown.trim_end(), http_get(world.port, "/api/v1/offers"));
    let jobs: serde_json::Value =
        serde_json::from_str(&world.good(&["ps", "-a", "-o", "json"])).unwrap();
    let jobs = jobs["items"].as_array().unwrap();
    assert!(jobs.len() >= 7, "{jobs:?}");
    let leases = world.good(&["lease", "list", "-q"]);
    let lease = leases.lines().next().unwrap();
    assert!(
        world
            .run(&["lease", "show", lease, "--verify"])
            .stderr
            .contains("verified")
    );
    let history = world.run(&["account", "history", "--verify"]);
    assert_eq!(history.code, 0, "{}", history.stderr);
    assert!(history.stderr.contains("verified"), "{}", history.stderr);
    for words in [
        &["job", "show", "hello"][..],
        &["job", "events", "hello", "--money"],
        &["account", "history"],
        &["provider", "status", "--as", "a"],
        &["node", "status"],
        &["doctor"],
        &["offers", "-o", "wide"],
    ] {
        assert!(!world.good(words).is_empty(), "{words:?}");
    }
}
