//! What the demo runs.
fn main() {}
