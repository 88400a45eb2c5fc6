//! Fuzzing with coverage: `cargo xtask fuzz [TARGET] [--seconds N]`.
//!
//! The targets are in the crate `fuzz`; here its driver is built with the compiler's coverage counters, which stable Rust
//! can do, and libFuzzer runs each target in turn. What was learned stays in `target/fuzz/corpus/TARGET`, so that the next
//! run goes on from there; an input that crashes is written to `fuzz/crashes/TARGET`, where the ordinary tests run it for ever.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::shop::{Shop, Usage, output, say, step};
use crate::workload::host_triple;

/// What `cargo fuzz` passes, less the sanitizer, which needs a nightly compiler and finds little in safe code.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Time for each target where none is named.
const SECONDS: u32 = 60;
/// Longest input: twice the longest seed, so that counts and lengths can grow.
const BYTES_MAX: u32 = 8_192;
/// One input may not take longer; the slowest takes milliseconds.
const INPUT_SECONDS_MAX: u32 = 10;
/// One process may not take more memory: a parser that does is a finding.
const MEMORY_MIB_MAX: u32 = 1_024;

/// Runs one target, or all, each for so many seconds.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    let (name, seconds) = match words {
        [] => (None, Some(SECONDS)),
        ["--seconds", seconds] => (None, seconds.parse().ok()),
        [name] => (Some(*name), Some(SECONDS)),
        [name, "--seconds", seconds] => (Some(*name), seconds.parse().ok()),
        _ => (None, None),
    };
    let seconds = seconds.ok_or_else(|| Usage("fuzz takes TARGET and --seconds N".to_owned()))?;
    let folder = shop.target()?.join("fuzz");
    let triple = host_triple()?;
    step(
        // A named target keeps the counters out of build scripts, which nothing links libFuzzer to.
        shop.cargo(&["build", "--release", "--locked", "--target", &triple])
            .current_dir(shop.root.join("fuzz/driver"))
            .env("CARGO_TARGET_DIR", &folder)
            .env("RUSTFLAGS", COVERAGE),
    )?;
    let driver = folder.join(&triple).join("release/fuzz-driver");
    let targets = targets(shop, name)?;
    for target in &targets {
        one(shop, &driver, &folder, target, seconds)?;
    }
    say(&format!(
        "{} targets, {seconds} s each, no crash",
        targets.len()
    ));
    Ok(())
}

/// Gives the targets to run, after writing every target's seeds.
fn targets(shop: &Shop, name: Option<&str>) -> Result<Vec<String>> {
    let corpus = shop.target()?.join("fuzz/corpus");
    let listed = output(
        shop.cargo(&[
            "run",
            "--release",
            "--quiet",
            "--locked",
            "-p",
            "fuzz",
            "--",
            "--seeds",
        ])
        .arg(&corpus),
    )?;
    let all: Vec<String> = listed.lines().map(str::to_owned).collect();
    match name {
        None => Ok(all),
        Some(name) if all.iter().any(|target| target == name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            let what = format!("no such target: {name}\ntargets: {}", all.join(" "));
            Err(Usage(what).into())
        }
    }
}

fn one(shop: &Shop, driver: &Path, folder: &Path, target: &str, seconds: u32) -> Result<()> {
    let corpus = folder.join("corpus").join(target);
    let crashes = shop.root.join("fuzz/crashes").join(target);
    fs::create_dir_all(&crashes)
        .with_context(|| format!("could not create {}", crashes.display()))?;
    let result = step(
        Command::new(driver)
            .env("FUZZ_TARGET", target)
            .arg(&corpus)
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={BYTES_MAX}"))
            .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
            .arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"))
            .args(["-print_final_stats=1", "-verbosity=0"]),
    );
    // A folder without a crash is not worth keeping.
    drop(fs::remove_dir(&crashes));
    result.with_context(|| format!("{target} crashed; the input is in {}", crashes.display()))
}
