//! Tests of the exchange as a state machine: no clock, no IO.

mod auditor;
mod ends;
mod golden;
mod history;
mod matching;
mod rejects;
mod world;
