//! What hands do at a terminal: TAB, a question answered, a job that is given more time.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::world::{World, can_run_containers, json, until};

/// Longest wait for anything here.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn a_job_lives_on_to_the_end_that_it_was_given_and_tab_knows_its_name() {
    if !can_run_containers("a_job_lives_on_to_the_end_that_it_was_given_and_tab_knows_its_name") {
        return;
    }
    let world = World::new();
    world.good(&["up", "--demo", "--port", &world.port.to_string()]);
    let before = world.balance();
    let (class, image) = (world.isolation(), world.demo_image());
    let flags = ["-q", "--name", "longer", "--budget", "0.02", "--for", "8s"];
    let job = world.hire(&flags, &["sleep", "14"]);
    until("running", PATIENCE, || world.runs(&job));
    let extended = json(&world.good(&["job", "extend", "longer", "--for", "1m", "-o", "json"]));
    assert_eq!(extended["duration_max_ms"], 68_000);
    let refused = world.run(&["job", "extend", "longer", "--for", "300d"]);
    assert_eq!(refused.code, 6, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("[term-too-long]"),
        "{}",
        refused.stderr
    );
    let none = world.run(&["job", "extend", "longer"]);
    assert_eq!(none.code, 2, "{}", none.stderr);

    assert_eq!(
        tab(&world, &["tradewind", "job", "show", "lon"]),
        ["longer"]
    );
    assert_eq!(tab(&world, &["tradewind", "job", "ext"]), ["extend"]);
    let leases = tab(&world, &["tradewind", "lease", "show", "lse_"]);
    assert!(leases.iter().any(|lease| lease.len() == 30), "{leases:?}");

    let shown = world.ended(&job, PATIENCE);
    assert_eq!(shown["end"]["reason"]["code"], "completed", "{shown}");
    assert!(shown["ran_ms"].as_u64().unwrap() >= 14_000, "{shown}");
    let charged: u64 = shown["charged"]["micros"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let after = world.balance();
    assert_eq!(after, (before.0 - charged, before.1), "the rest came back");

    world.kill("node");
    let begun = std::time::Instant::now();
    assert_eq!(tab(&world, &["tradewind", "job", "show", "lon"]), [""; 0]);
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    world.good(&["up"]);
    a_question_is_asked_at_a_terminal(&world, &class, &image);
}

/// Presses TAB after these words in a real bash, and returns what it offers.
fn tab(world: &World, words: &[&str]) -> Vec<String> {
    let program = world.command(&[]).get_program().to_owned();
    let folder = std::path::Path::new(&program).parent().unwrap().to_owned();
    let script = world.good(&["completion", "bash"]);
    let list = words.iter().map(|word| format!("'{word}'"));
    let list: Vec<String> = list.collect();
    let text = format!(
        "{script}\nCOMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9\n\
         fn=$(complete -p tradewind | sed 's/.*-F \\([^ ]*\\).*/\\1/')\n$fn tradewind '{}' ''\n\
         for found in \"${{COMPREPLY[@]}}\"; do echo \"$found\"; done\n",
        list.join(" "),
        words.len() - 1,
        words.last().unwrap(),
    );
    let path = std::env::var("PATH").unwrap();
    let out = Command::new("bash")
        .args(["--noprofile", "--norc", "-c", &text])
        .env_clear()
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("TRADEWIND_HOME", world.home())
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(said.is_empty(), "{said}");
    let found = String::from_utf8(out.stdout).unwrap();
    found.lines().map(|line| line.trim().to_owned()).collect()
}

/// Runs the program at a terminal of its own and types an answer.
fn at_a_terminal(world: &World, words: &[&str], answer: &str) -> (i32, String) {
    let program = world.command(&[]).get_program().to_owned();
    let mut line = program.to_str().unwrap().to_owned();
    for word in words {
        line = format!("{line} '{word}'");
    }
    let mut child = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TRADEWIND_HOME", world.home())
        .env("LANG", "C.UTF-8")
        .env("TERM", "dumb")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{answer}").unwrap();
    let out = child.wait_with_output().unwrap();
    drop(stdin);
    (
        out.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&out.stdout).into_owned(),
    )
}

fn a_question_is_asked_at_a_terminal(world: &World, class: &str, image: &str) {
    if Command::new("script").arg("--version").output().is_err() {
        eprintln!("SKIPPED a_question_is_asked_at_a_terminal: there is no script(1)");
        return;
    }
    let words = [
        "run",
        "-d",
        "--name",
        "asked",
        "--budget",
        "0.01",
        "--isolation",
        class,
        image,
        "--",
        "sleep",
        "1",
    ];
    let jobs = || {
        let all: Value = json(&world.good(&["ps", "-a", "-o", "json"]));
        let named = all["items"].as_array().unwrap().iter();
        named.filter(|job| job["name"] == "asked").count()
    };
    let (code, said) = at_a_terminal(world, &words, "n");
    assert!(said.contains("AT MOST $"), "the plan comes first: {said}");
    assert!(said.contains("[declined]"), "{said}");
    assert_ne!(code, 0, "{said}");
    assert_eq!(jobs(), 0, "nothing was opened");
    let (code, said) = at_a_terminal(world, &words, "y");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("0.01"), "it says what it may cost: {said}");
    assert_eq!(jobs(), 1);
}
