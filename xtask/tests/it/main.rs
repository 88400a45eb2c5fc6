//! The repository itself obeys the rules, and the command line answers as it says.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

use std::process::{Command, Output};

fn xtask(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask"))
        .args(words)
        .output()
        .unwrap()
}

#[test]
fn repository_is_tidy() {
    let (_warnings, failures) = xtask::tidy::check_here().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn wrong_command_lines_end_with_two_and_say_how() {
    for words in [
        &[][..],
        &["dance"],
        &["fmt", "everything"],
        &["bench"],
        &["bench", "none"],
    ] {
        let output = xtask(words);
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(complaint.starts_with("error: "), "{complaint}");
        assert!(
            complaint.contains("usage: cargo xtask CHORE"),
            "{complaint}"
        );
    }
}

#[test]
fn help_names_every_chore() {
    let output = xtask(&["help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for chore in [
        "fmt", "lint", "tidy", "test", "bench", "soak", "docs", "workload", "dist",
    ] {
        assert!(
            text.contains(&format!("\n  {chore} ")),
            "{chore} is missing in {text}"
        );
    }
}
