//! Measurements: `cargo xtask bench NAME [--json]`.
//!
//! A bench is a line in [`BENCHES`]: a module of this folder that measures from outside, or a bench program of the crate
//! that it measures. It gives a [`Report`], whose names say the unit last (`submit_to_running_p50_ms`). Beside a figure
//! with a target stands the target.

mod lease_start;
mod program;

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::shop::{Shop, Usage, say};

/// One measurement: its name, what it measures, how, and what its figures shall be.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: Run,
    targets: &'static [Target],
}

/// How a bench is run.
enum Run {
    /// By this program.
    Here(fn(&Shop) -> Result<Report>),
    /// By a bench program of a crate, which takes the rest of the command line.
    Program(program::Program),
}

/// What a figure shall be.
enum Target {
    AtLeast(&'static str, f64),
    AtMost(&'static str, f64),
}

/// Measured values by name, the unit at the name's end.
type Report = BTreeMap<String, f64>;

const BENCHES: &[Bench] = &[
    Bench {
        name: "lease-start",
        about: "from the command line to a running container, warm image",
        run: Run::Here(lease_start::run),
        targets: &[
            Target::AtMost("submit_to_running_p50_ms", 1_000.0),
            Target::AtMost("submit_to_running_p95_ms", 2_000.0),
        ],
    },
    Bench {
        name: "market",
        about: "the state machine: transfers, placements, growth, replay",
        run: Run::Program(program::MARKET),
        targets: &[
            Target::AtLeast("transfers_per_s", 500_000.0),
            Target::AtLeast("placements_per_s", 10_000.0),
            Target::AtMost("placement_p99_us", 5_000.0),
            Target::AtMost("replay_10m_ops_s", 60.0),
        ],
    },
    Bench {
        name: "ledger",
        about: "a node of one validator: load, finality, idling, memory, disk",
        run: Run::Program(program::LEDGER),
        targets: &[
            Target::AtLeast("tx_per_s", 20_000.0),
            Target::AtMost("finality_p50_ms", 50.0),
            Target::AtMost("idle_cpu_ratio", 0.02),
            Target::AtMost("rss_mib", 250.0),
        ],
    },
    Bench {
        name: "network",
        about: "four validators, each a process: load, finality, idling, memory, proofs",
        run: Run::Program(program::NETWORK),
        targets: &[
            Target::AtLeast("tx_per_s", 8_000.0),
            Target::AtLeast("mix_tx_per_s", 4_000.0),
            Target::AtMost("finality_p50_ms", 150.0),
            Target::AtMost("tx_latency_p99_ms", 600.0),
            Target::AtMost("cpu_us_per_tx", 30.0),
            Target::AtMost("rss_mib", 300.0),
            Target::AtMost("idle_cpu_ratio", 0.02),
            Target::AtMost("verify_ms", 5.0),
        ],
    },
];

/// Runs the bench that the words name, and prints its report.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    let as_json = words.contains(&"--json");
    let mut words = words.iter().filter(|word| **word != "--json");
    let Some(name) = words.next() else {
        return Err(Usage(format!("name one bench\n{}", list(BENCHES))).into());
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == *name) else {
        return Err(Usage(format!("no such bench: {name}\n{}", list(BENCHES))).into());
    };
    let rest: Vec<&str> = words.copied().collect();
    let report = match &bench.run {
        Run::Here(run) if rest.is_empty() => run(shop)?,
        Run::Here(_) => return Err(Usage(format!("{name} takes no options")).into()),
        Run::Program(program) => program.run(shop, &rest)?,
    };
    say(&if as_json {
        json_of(bench, &report).to_string()
    } else {
        text_of(bench, &report)
    });
    Ok(())
}

fn list(benches: &[Bench]) -> String {
    let lines: Vec<String> = benches
        .iter()
        .map(|bench| format!("  {:<14}{}", bench.name, bench.about))
        .collect();
    lines.join("\n")
}

impl Target {
    const fn name(&self) -> &'static str {
        match self {
            Self::AtLeast(name, _) | Self::AtMost(name, _) => name,
        }
    }

    const fn value(&self) -> f64 {
        match self {
            Self::AtLeast(_, value) | Self::AtMost(_, value) => *value,
        }
    }

    /// Says the target beside the value, and whether the value is worse.
    fn beside(&self, value: f64) -> String {
        let (sign, met) = match self {
            Self::AtLeast(_, target) => ("≥", value >= *target),
            Self::AtMost(_, target) => ("≤", value <= *target),
        };
        let missed = if met { "" } else { "  missed" };
        format!("  target {sign} {}{missed}", self.value())
    }
}

/// Gives one flat object, so that a value is found by its name alone, and its target by `target_` and its name.
fn json_of(bench: &Bench, report: &Report) -> Value {
    let mut object = json!({ "bench": bench.name });
    for (name, value) in report {
        object[name] = json!(value);
    }
    for target in bench.targets {
        if report.contains_key(target.name()) {
            object[format!("target_{}", target.name())] = json!(target.value());
        }
    }
    object
}

fn text_of(bench: &Bench, report: &Report) -> String {
    let lines: Vec<String> = report
        .iter()
        .map(|(name, value)| {
            let target = bench.targets.iter().find(|target| target.name() == name);
            let target = target.map_or(String::new(), |target| target.beside(*value));
            format!("{name:<40}{value:>14.3}{target}")
        })
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const BENCH: Bench = Bench {
        name: "b",
        about: "measures",
        run: Run::Program(program::MARKET),
        targets: &[Target::AtMost("p50_ms", 400.0)],
    };

    #[test]
    fn report_is_one_flat_object() {
        let report = Report::from([("p50_ms".to_owned(), 412.5)]);
        let expected = r#"{"bench":"b","p50_ms":412.5,"target_p50_ms":400.0}"#;
        assert_eq!(json_of(&BENCH, &report).to_string(), expected);
    }

    #[test]
    fn missed_target_is_named() {
        let report = Report::from([("p50_ms".to_owned(), 412.5)]);
        assert!(text_of(&BENCH, &report).ends_with("412.500  target ≤ 400  missed"));
        assert!(!BENCH.targets[0].beside(400.0).contains("missed"));
        assert!(Target::AtLeast("x", 2.0).beside(1.0).contains("missed"));
    }

    #[test]
    fn list_names_every_bench() {
        assert!(list(&[BENCH]).contains("b             measures"));
        assert!(list(BENCHES).contains("lease-start"));
    }
}
