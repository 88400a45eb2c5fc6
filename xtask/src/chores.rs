//! Formatting, linting, testing, documenting: the chores that run other tools in our order.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::shop::{Shop, Usage, is_installed, say, step};
use crate::{tidy, workload};

/// Options that stable rustfmt takes on the command line only.
const IMPORT_STYLE: &str =
    "unstable_features=true,imports_granularity=Module,group_imports=StdExternalCrate";

/// Warnings are errors in documentation too. Links to private items are sound: we show those.
const DOC_FLAGS: (&str, &str) = (
    "RUSTDOCFLAGS",
    "-D warnings -A rustdoc::private_intra_doc_links",
);

/// What tests take more of in each round of a soak: random cases for a property (an ordinary run takes a few hundred),
/// damaged inputs for each parser, kills in one run, seconds that the node stays away.
const SOAK: [(&str, &str); 4] = [
    ("PROPTEST_CASES", "5000"),
    ("FUZZ_CASES", "500000"),
    ("KILLS", "200"),
    ("HALT_SECONDS", "900"),
];

/// Formats the code, or checks that it is formatted.
///
/// The check leaves imports alone, so that plain `cargo fmt` is always enough to pass it.
pub(crate) fn fmt(shop: &Shop, words: &[&str]) -> Result<()> {
    match words {
        [] => step(&mut shop.cargo(&["fmt", "--all", "--", "--config", IMPORT_STYLE])),
        ["--check"] => step(&mut shop.cargo(&["fmt", "--all", "--check"])),
        _ => Err(Usage("fmt takes --check or nothing".to_owned()).into()),
    }
}

/// Runs clippy on everything, and cargo-deny where it is installed.
pub(crate) fn lint(shop: &Shop, words: &[&str]) -> Result<()> {
    no_words("lint", words)?;
    step(&mut shop.cargo(&[
        "clippy",
        "--release",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "-D",
        "warnings",
    ]))?;
    if is_installed("cargo-deny") {
        // Advisories need a database from outside; the other checks need nothing.
        return step(&mut shop.cargo(&["deny", "check", "bans", "licenses", "sources"]));
    }
    say("SKIPPED cargo deny: not installed; licences and banned crates are not checked");
    Ok(())
}

/// Runs everything that a submission must pass, quick checks first.
///
/// nextest comes last, so that its summary closes the output.
pub(crate) fn test(shop: &Shop, words: &[&str]) -> Result<()> {
    no_words("test", words)?;
    let start = Instant::now();
    fmt(shop, &["--check"])?;
    tidy::run(shop, &[])?;
    lint(shop, &[])?;
    docs(shop, &[])?;
    step(&mut shop.cargo(&[
        "build",
        "--release",
        "--workspace",
        "--all-targets",
        "--locked",
    ]))?;
    workload::run(shop, &[])?;
    if tidy::has_doc_tests(shop)? {
        step(&mut shop.cargo(&["test", "--release", "--workspace", "--doc", "--locked"]))?;
    }
    say(&format!(
        "built after {:.0} s; now the tests",
        start.elapsed().as_secs_f64()
    ));
    step(&mut all_tests(shop))
}

/// Runs all tests again and again, with more cases, until the time is over or one fails.
pub(crate) fn soak(shop: &Shop, words: &[&str]) -> Result<()> {
    let minutes = match words {
        [] => Some(60),
        ["--minutes", minutes] => minutes.parse().ok(),
        _ => None,
    };
    let Some(minutes) = minutes else {
        return Err(Usage("soak takes --minutes N or nothing".to_owned()).into());
    };
    let start = Instant::now();
    let mut rounds = 0_u32;
    // One round at least, whatever the time.
    while rounds == 0 || start.elapsed() < Duration::from_mins(minutes) {
        let mut tests = all_tests(shop);
        if is_installed("cargo-nextest") {
            tests.args(["--run-ignored", "all", "--profile", "soak"]);
        }
        rounds += 1;
        // Each round kills in another order; the test says which, so that a failure can be repeated.
        tests.envs(SOAK).env("KILL_SEED", rounds.to_string());
        step(&mut tests)?;
        let minutes = start.elapsed().as_secs() / 60;
        say(&format!("round {rounds} passed, {minutes} minutes so far"));
    }
    Ok(())
}

/// Writes the reference that is made from the code.
pub(crate) fn openapi(shop: &Shop, words: &[&str]) -> Result<()> {
    no_words("openapi", words)?;
    // The test that compares the pages with the code writes them instead.
    let test = [
        "test",
        "--release",
        "--locked",
        "-p",
        "gateway",
        "--test",
        "it",
        "the_committed_reference",
    ];
    step(shop.cargo(&test).env("DOCS_WRITE", "1"))
}

/// Builds the documentation of our own crates.
///
/// Private items are in it: whoever reads it works on the code, and links may lead to them.
pub(crate) fn docs(shop: &Shop, words: &[&str]) -> Result<()> {
    no_words("docs", words)?;
    let (name, flags) = DOC_FLAGS;
    let words = ["doc", "--release", "--workspace", "--no-deps", "--locked"];
    step(
        shop.cargo(&words)
            .arg("--document-private-items")
            .env(name, flags),
    )
}

/// Gives the call that runs all tests but those in documentation.
fn all_tests(shop: &Shop) -> Command {
    if is_installed("cargo-nextest") {
        return shop.cargo(&["nextest", "run", "--release", "--workspace", "--locked"]);
    }
    say("cargo-nextest is not installed: one test at a time, without a limit on their time");
    // nextest's groups keep apart what must not run together; here only taking turns does.
    let words = [
        "test",
        "--release",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--locked",
    ];
    let mut tests = shop.cargo(&words);
    tests.args(["--", "--test-threads=1"]);
    tests
}

fn no_words(chore: &str, words: &[&str]) -> Result<()> {
    if words.is_empty() {
        Ok(())
    } else {
        Err(Usage(format!("{chore} takes nothing")).into())
    }
}
