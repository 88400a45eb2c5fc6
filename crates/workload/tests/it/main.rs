//! Runs the program as a container would.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

const DEMO: &str = env!("CARGO_BIN_EXE_tradewind-demo");

fn run(args: &[&str]) -> Output {
    Command::new(DEMO).args(args).output().unwrap()
}

/// Starts the program and waits for its first line, after which it is ready for signals.
fn start(args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = Command::new(DEMO)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    lines.read_line(&mut first).unwrap();
    assert!(first.ends_with('\n'), "{first:?}");
    (child, lines)
}

fn terminate(child: &Child) {
    let sent = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(sent.success());
}

#[test]
fn sleep_ends_on_sigterm() {
    let (mut child, _lines) = start(&["sleep", "60"]);
    terminate(&child);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

#[test]
fn polite_says_so_and_ends_well() {
    let (mut child, mut lines) = start(&["polite", "60"]);
    terminate(&child);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "asked to stop\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn deaf_sleeps_on_after_sigterm() {
    let (mut child, mut lines) = start(&["deaf", "0.3"]);
    terminate(&child);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "awake\n");
    assert!(child.wait().unwrap().success());
}

#[test]
fn exit_gives_its_code() {
    assert_eq!(run(&["exit", "0"]).status.code(), Some(0));
    assert_eq!(run(&["exit", "37"]).status.code(), Some(37));
    assert_eq!(run(&["exit", "300"]).status.code(), Some(2));
}

#[test]
fn spam_writes_exactly_so_many_bytes() {
    let output = run(&["spam", "1000"]).stdout;
    assert_eq!(output.len(), 1000);
    assert!(output[64..].starts_with(b"000000000001 ..."));
}

#[test]
fn streams_stay_apart() {
    let (said, complained) = (run(&["say", "hello", "there"]), run(&["complain", "no"]));
    assert_eq!(
        (said.stdout, said.stderr),
        (b"hello there\n".to_vec(), Vec::new())
    );
    assert_eq!(
        (complained.stdout, complained.stderr),
        (Vec::new(), b"no\n".to_vec())
    );
}

#[test]
fn chores_do_their_work() {
    assert_eq!(run(&["tasks", "20"]).stdout, b"had 20 tasks\n");
    assert_eq!(run(&["alloc", "3"]).stdout, b"holding 3 MiB\n");
    assert!(
        String::from_utf8(run(&["spin", "0.01"]).stdout)
            .unwrap()
            .contains("spun")
    );
    assert_eq!(run(&["cat", "/proc/self/comm"]).stdout, b"tradewind-demo\n");
    assert!(
        String::from_utf8(run(&["env"]).stdout)
            .unwrap()
            .contains("PATH=")
    );
    let missing = run(&["cat", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("could not open /nowhere/at/all")
    );
}

#[test]
fn picture_comes_with_its_fingerprint() {
    let folder = target_folder();
    let file = folder.join("picture.ppm");
    let arguments = [
        "--width",
        "40",
        "--height",
        "24",
        "--samples",
        "2",
        "--seconds",
        "0.01",
    ];
    let output = run(&[&arguments[..], &["--out", file.to_str().unwrap()]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(
        text.contains("picture  40x24, 2 samples a pixel, 1920 paths\n"),
        "{text}"
    );
    assert!(text.contains("pixels   fnv1a64:"), "{text}");
    assert_eq!(
        std::fs::read(&file).unwrap().len(),
        "P6\n40 24\n255\n".len() + 40 * 24 * 3
    );
}

/// Cargo's folder for what integration tests write; only this test writes there.
fn target_folder() -> std::path::PathBuf {
    std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}
