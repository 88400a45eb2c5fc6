//! Tests of the exchange as a state machine: no clock, no IO.
#![expect(clippy::too_many_lines, reason = "a table of cases is clearer whole")]
#![expect(
    clippy::redundant_clone,
    reason = "every case of a table is made alike"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "calls and reasons are written in place"
)]

mod auditor;
mod ends;
mod golden;
mod halts;
mod history;
mod matching;
mod rejects;
mod units;
mod world;
