//! Every target on its seeds, on damaged ones, and on every crash that was ever found.

use std::path::Path;

use fuzz::mutate::{Dice, damaged};
use fuzz::{TARGETS, Target};

/// Most bits flipped and most lengths cut in one seed, spread over all of it.
const PLACES_MAX: usize = 4_096;
/// Random damages for each target; `FUZZ_CASES` says otherwise.
const CASES: usize = 20_000;
/// A slow target gets one in so many.
const SLOW: usize = 40;

/// Runs a target on one input; a panic names the input.
fn run(target: &Target, what: &str, bytes: &[u8]) {
    let caught = std::panic::catch_unwind(|| (target.run)(bytes));
    assert!(
        caught.is_ok(),
        "{} panics on {what}: {bytes:02x?}",
        target.name
    );
}

/// The exchange checks all its invariants after each step.
fn is_slow(target: &Target) -> bool {
    target.name == "ledger"
}

#[test]
fn seeds_and_their_damaged_forms_never_panic() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in &seeds {
            run(target, "a seed", seed);
            let most = if is_slow(target) { 64 } else { PLACES_MAX };
            for length in (0..seed.len()).step_by(seed.len().div_ceil(most).max(1)) {
                run(target, "a seed cut short", &seed[..length]);
            }
            let bits = seed.len() * 8;
            for bit in (0..bits).step_by(bits.div_ceil(most).max(1)) {
                let mut bytes = seed.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                run(target, "a seed with a flipped bit", &bytes);
            }
        }
    }
}

#[test]
fn random_damage_never_panics() {
    let told = std::env::var("FUZZ_CASES").ok();
    let told: Option<usize> = told.and_then(|text| text.parse().ok());
    for target in TARGETS {
        let seeds = (target.seeds)();
        let mut dice = Dice::new(1);
        let cases = told.unwrap_or(CASES) / if is_slow(target) { SLOW } else { 1 };
        for _ in 0..cases {
            let seed = &seeds[dice.below(seeds.len())];
            run(target, "random damage", &damaged(&mut dice, seed));
        }
    }
}

#[test]
fn crashes_that_were_found_are_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crashes");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let target = fuzz::target(name).unwrap_or_else(|| panic!("{name} is no target"));
        for file in std::fs::read_dir(&path).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            run(target, "a crash found before", &bytes);
        }
    }
}

#[test]
fn golden_seeds_are_accepted() {
    // A target that refuses its own seeds would test nothing but the refusal.
    let transactions = (fuzz::target("transaction").unwrap().seeds)();
    assert!(transactions.len() > 20);
    for bytes in transactions {
        market::SignedTx::decode(&bytes).unwrap();
    }
    for bytes in (fuzz::target("bundle").unwrap().seeds)() {
        light::Bundle::from_bytes(&bytes).unwrap();
    }
    for bytes in (fuzz::target("sealed-job").unwrap().seeds)() {
        api::envelope::SealedJob::decode(&bytes).unwrap();
    }
    let whole = (fuzz::target("ledger").unwrap().seeds)().swap_remove(0);
    assert!(
        whole.len() > 300,
        "a whole job has five steps: {}",
        whole.len()
    );
}
