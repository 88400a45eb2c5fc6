//! One file a command, each with an `Args` struct whose docs are the help, and a function that runs it.

mod account;
mod checks;
mod completion;
mod config;
mod context;
mod doctor;
mod down;
mod gpus;
mod help;
mod job;
mod key;
mod lease;
mod logs;
mod man;
mod network;
mod node;
mod notify;
mod offers;
mod plan;
mod provider;
mod ps;
mod run;
mod stop;
mod up;
mod version;

use api::Page;
use api::view::text::Text as _;
use market::Tier;

pub(crate) use ps::state;

use crate::context::Context;
use crate::error::Result;
use crate::output::Format;

/// What can be done.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Run(Box<run::Args>),
    Plan(Box<plan::Args>),
    Ps(ps::Args),
    Logs(logs::Args),
    Stop(stop::Args),
    Offers(offers::Args),
    Gpus(gpus::Args),
    Job(job::Args),
    Lease(lease::Args),
    Account(account::Args),
    Notify(notify::Args),
    Provider(provider::Args),
    Up(up::Args),
    Down(down::Args),
    Node(node::Args),
    Network(network::Args),
    Doctor(doctor::Args),
    Key(key::Args),
    Context(context::Args),
    Config(config::Args),
    Completion(completion::Args),
    Man(man::Args),
    Help(help::Args),
    Version(version::Args),
}

/// Runs a command and returns its exit code.
pub(crate) fn dispatch(context: &mut Context, command: Command) -> Result<u8> {
    match command {
        Command::Run(args) => run::run(context, &args),
        Command::Plan(args) => plan::run(context, &args),
        Command::Ps(args) => ps::run(context, &args),
        Command::Logs(args) => logs::run(context, &args),
        Command::Stop(args) => stop::run(context, &args),
        Command::Offers(args) => offers::run(context, args),
        Command::Gpus(args) => gpus::run(context, &args),
        Command::Job(args) => job::run(context, &args),
        Command::Lease(args) => lease::run(context, &args),
        Command::Notify(args) => notify::run(context, &args),
        Command::Account(args) => account::run(context, &args),
        Command::Provider(args) => provider::run(context, &args),
        Command::Up(args) => up::run(context, &args),
        Command::Down(args) => down::run(context, &args),
        Command::Node(args) => node::run(context, &args),
        Command::Network(args) => network::run(context, &args),
        Command::Doctor(args) => doctor::run(context, &args),
        Command::Key(args) => key::run(context, &args),
        Command::Context(args) => context::run(context, &args),
        Command::Config(args) => config::run(context, &args),
        Command::Completion(args) => Ok(completion::run(context, &args)),
        Command::Man(args) => man::run(context, &args),
        Command::Help(args) => help::run(context, &args),
        Command::Version(_) => version::run(context),
    }
}

/// Pages that a table collects; beyond that it says how to go on.
const PAGES_MAX: usize = 20;

/// Fetches a list: one page, as the API gives it, for JSON, and all of it for people, up to a bound.
async fn collect<T>(
    context: &Context,
    after: Option<String>,
    fetch: impl AsyncFn(Option<String>) -> Result<Page<T>>,
) -> Result<Page<T>> {
    let mut page = fetch(after).await?;
    if matches!(context.output.format(), Format::Json | Format::Yaml) {
        return Ok(page);
    }
    for _page in 1..PAGES_MAX {
        let Some(cursor) = page.next.take() else {
            break;
        };
        let rest = fetch(Some(cursor)).await?;
        page.items.extend(rest.items);
        page.next = rest.next;
    }
    if let Some(cursor) = &page.next {
        context.output.say(&format!("more: --after {cursor}"));
    }
    Ok(page)
}

/// Reads a tier.
fn tier(text: &str) -> Result<Tier, String> {
    Tier::from_text(text)
        .ok_or_else(|| format!("{text:?} is no tier; use spot, on-demand or reserved"))
}

#[cfg(test)]
mod tests;
