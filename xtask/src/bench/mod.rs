//! Measurements: `cargo xtask bench NAME [--json]`.
//!
//! A bench is a module of this folder with a line in [`BENCHES`]. It gives a [`Report`], whose
//! names say the unit last (`submit_to_running_p50_ms`).

mod lease_start;

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::shop::{Shop, Usage, say};

/// One measurement: its name, what it measures, and how.
struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&Shop) -> Result<Report>,
}

/// Measured values by name, the unit at the name's end.
type Report = BTreeMap<&'static str, f64>;

const BENCHES: &[Bench] = &[Bench {
    name: "lease-start",
    about: "from the command line to a running container, warm image",
    run: lease_start::run,
}];

/// Runs the bench that the words name, and prints its report.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    let (name, as_json) = match words {
        [name] => (name, false),
        [name, "--json"] | ["--json", name] => (name, true),
        _ => return Err(Usage(format!("name one bench\n{}", list(BENCHES))).into()),
    };
    let Some(bench) = BENCHES.iter().find(|bench| bench.name == *name) else {
        return Err(Usage(format!("no such bench: {name}\n{}", list(BENCHES))).into());
    };
    let report = (bench.run)(shop)?;
    say(&if as_json {
        json_of(bench.name, &report).to_string()
    } else {
        text_of(&report)
    });
    Ok(())
}

fn list(benches: &[Bench]) -> String {
    let lines: Vec<String> = benches
        .iter()
        .map(|bench| format!("  {:<14}{}", bench.name, bench.about))
        .collect();
    if lines.is_empty() {
        "there are none yet".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Gives one flat object, so that a value is found by its name alone.
fn json_of(name: &str, report: &Report) -> Value {
    let mut object = json!({ "bench": name });
    for (name, value) in report {
        object[*name] = json!(value);
    }
    object
}

fn text_of(report: &Report) -> String {
    let lines: Vec<String> = report
        .iter()
        .map(|(name, value)| format!("{name:<40}{value:>14.3}"))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_one_flat_object() {
        let report = Report::from([("submit_to_running_p50_ms", 412.5)]);
        let expected = r#"{"bench":"lease-start","submit_to_running_p50_ms":412.5}"#;
        assert_eq!(json_of("lease-start", &report).to_string(), expected);
    }

    #[test]
    fn list_names_every_bench() {
        let bench = Bench {
            name: "b",
            about: "measures",
            run: |_| Ok(Report::new()),
        };
        assert!(list(&[bench]).contains("b             measures"));
    }
}
