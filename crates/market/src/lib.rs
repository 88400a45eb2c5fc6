//! The exchange as a pure, deterministic state machine.
