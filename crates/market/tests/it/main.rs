//! Tests of the exchange as a state machine: no clock, no IO.

mod ends;
mod world;
