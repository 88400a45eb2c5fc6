//! One file a command, each with an `Args` struct whose docs are the help, and a function that runs it.

mod account;
mod doctor;
mod down;
mod help;
mod job;
mod lease;
mod logs;
mod node;
mod offers;
mod provider;
mod ps;
mod run;
mod stop;
mod up;
mod version;

use api::view::text::Text as _;
use market::Tier;

use crate::context::Context;
use crate::error::Result;

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Args>),
    Ps(ps::Args),
    Logs(logs::Args),
    Stop(stop::Args),
    Offers(offers::Args),
    Job(job::Args),
    Lease(lease::Args),
    Account(account::Args),
    Provider(provider::Args),
    Up(up::Args),
    Down(down::Args),
    Node(node::Args),
    Doctor(doctor::Args),
    Help(help::Args),
    Version(version::Args),
}

/// Runs a command and returns its exit code.
pub(crate) fn dispatch(context: &mut Context, command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(context, &args),
        Command::Ps(args) => ps::run(context, &args),
        Command::Logs(args) => logs::run(context, &args),
        Command::Stop(args) => stop::run(context, &args),
        Command::Offers(args) => offers::run(context, args),
        Command::Job(args) => job::run(context, &args),
        Command::Lease(args) => lease::run(context, &args),
        Command::Account(args) => account::run(context, &args),
        Command::Provider(args) => provider::run(context, &args),
        Command::Up(args) => up::run(context, &args),
        Command::Down(args) => down::run(context, &args),
        Command::Node(args) => node::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Help(args) => help::run(context, &args),
        Command::Version(_) => version::run(context),
    }
}

/// Says that a list goes on.
fn more(context: &Context, next: Option<&str>) {
    if let Some(cursor) = next {
        context.output.say(&format!("more: --after {cursor}"));
    }
}

/// Reads a tier.
fn tier(text: &str) -> Result<Tier, String> {
    Tier::from_text(text).ok_or_else(|| format!("{text:?} is no tier; use spot, on-demand or reserved"))
}
