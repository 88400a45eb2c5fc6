//! The binary `tradewind`: every role, and the only place that wires the parts together.
//!
//! # Map
//! - [`app`]: the command tree; `commands/`: one file a command, each with its arguments, whose docs are the help
//! - [`complete`]: what the shell asks when somebody presses TAB
//! - [`context`]: where things are; the only place that reads the environment
//! - [`output`], [`table`], [`shape`], [`progress`]: the only way to the terminal
//! - [`error`]: what went wrong; the only place with exit codes and hints
//! - [`labels`]: what jobs are called here
//! - [`wallet`], [`files`], [`service`]: keys, private files, detached processes
//! - [`words`]: quantities as people type and read them

mod app;
mod commands;
mod complete;
mod context;
mod daemon;
mod error;
mod explain;
mod files;
mod labels;
mod output;
mod progress;
mod proof;
mod service;
mod session;
mod shape;
mod table;
mod tail;
mod wallet;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // A shim owns a container: it must fork before any thread exists, so nothing may come before this.
    if words
        .get(1)
        .is_some_and(|word| word == runtime::SHIM_ARGUMENT)
    {
        return runtime::shim_main(words.into_iter().skip(2));
    }
    // The agent asks for GPUs in a child, because a broken driver may take the process down.
    if words.get(1).is_some_and(|word| word == "probe-gpus") {
        return agent::probe_gpus_main();
    }
    app::run(words)
}
