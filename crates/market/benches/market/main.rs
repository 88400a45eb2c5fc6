//! What the state machine does in a second, signatures aside: `cargo xtask bench market`.
//!
//! ```text
//! --only NAME     transfers | placements | growth | replay (all by default)
//! --seconds N     how long placements are measured (20)
//! --offers N      offers in the book (100000)
//! --ops N         operations that are replayed (1000000)
//! ```
//! The last line is a JSON object. Every figure is taken twice: `…_per_s` by the clock on the wall, `…_per_cpu_s` by
//! the processor time of this process, which other programs of a busy machine disturb less.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::wildcard_imports,
    reason = "a measurement reads the clock and the command line, and counts in floats"
)]

mod crowd;
mod figures;
mod life;
mod placements;
mod replay;
mod transfers;

use std::{env, process::ExitCode};

use figures::Figures;

/// What is measured, and how much of it.
struct Plan {
    only: Option<String>,
    seconds: u64,
    offers: usize,
    ops: usize,
}

fn main() -> ExitCode {
    let plan = match plan(env::args().skip(1)) {
        Ok(plan) => plan,
        Err(why) => {
            figures::note(&why);
            return ExitCode::from(2);
        }
    };
    let mut figures = Figures::default();
    let wanted = |name: &str| plan.only.as_ref().is_none_or(|only| only == name);
    if wanted("transfers") {
        transfers::measure(&mut figures);
    }
    if wanted("placements") {
        placements::measure(&mut figures, plan.offers, plan.seconds);
    }
    if wanted("growth") {
        placements::measure_growth(&mut figures);
    }
    if wanted("replay") {
        replay::measure(&mut figures, plan.ops);
    }
    figures.print();
    ExitCode::SUCCESS
}

fn plan(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let mut plan = Plan {
        only: None,
        seconds: 20,
        offers: 100_000,
        ops: 1_000_000,
    };
    while let Some(word) = words.next() {
        // Cargo says that this is a bench; we know.
        if word == "--bench" {
            continue;
        }
        let value = words.next().ok_or(format!("{word} needs a value"))?;
        let number = || {
            let number = value.parse().ok().filter(|number| *number > 0);
            number.ok_or(format!("{word} needs a number, not {value}"))
        };
        match word.as_str() {
            "--only" => plan.only = Some(value),
            "--seconds" => plan.seconds = number()? as u64,
            "--offers" => plan.offers = number()?,
            "--ops" => plan.ops = number()?,
            _ => return Err(format!("no such option: {word}")),
        }
    }
    Ok(plan)
}
