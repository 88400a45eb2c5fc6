//! What was tried of a machine, how it went, and what to do: the report of `doctor` and of `provider test`.

use serde::Serialize;

use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::output::Style;
use crate::table::push_line;

/// Clocks further apart than the ledger tolerates make ready and end instants be moved.
pub(super) const CLOCK_APART_MS: u64 = 2_000;

/// One thing that was tried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: String,
    pub(super) passed: bool,
    pub(super) seen: String,
    pub(super) hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    items: Vec<Check>,
}

/// Prints the checks, with names in a column of `width`, and fails where one did.
pub(super) fn report(context: &Context, name: &str, width: usize, items: Vec<Check>) -> Result<u8> {
    let report = Report { items };
    let output = &context.output;
    let mut text = String::new();
    for check in &report.items {
        let mark = output.mark(if check.passed {
            Style::Good
        } else {
            Style::Bad
        });
        push_line(
            &mut text,
            &format!("{mark} {:width$} {}", check.name, check.seen),
        );
        if let (false, Some(hint)) = (check.passed, &check.hint) {
            push_line(&mut text, &format!("  {:width$} {hint}", ""));
        }
    }
    output.thing(&report, name, &text)?;
    let failed = report.items.iter().filter(|check| !check.passed).count();
    if failed == 0 {
        return Ok(exit::DONE);
    }
    Err(Failure::new(
        "unhealthy",
        format!("{failed} of {} checks failed", report.items.len()),
    ))
}
