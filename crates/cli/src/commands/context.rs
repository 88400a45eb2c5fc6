//! `tradewind context`: networks under names.

use std::path::PathBuf;

use api::{Client, Page};
use serde::Serialize;

use crate::context::{self, Context, LOCAL, Stored};
use crate::error::{Failure, Result, exit, nearest};
use crate::output::Style;
use crate::session::block_on;
use crate::table::{Column, Keep, Table, text};
use crate::wallet::Wallet;

/// Networks under names: list, use, add, remove
///
/// A context is a network, a node's address and a key. --context or TRADEWIND_CONTEXT names another for one command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List contexts; an arrow marks the one in use
    #[command(visible_alias = "ls")]
    List,
    /// Use a context from now on
    Use(Named),
    Add(Add),
    /// Forget a context; its key stays
    #[command(visible_alias = "rm")]
    Remove(Named),
}

#[derive(Debug, clap::Args)]
struct Named {
    /// The context
    #[arg(value_name = "CONTEXT")]
    name: String,
}

/// Add a network, by the address of one of its nodes
///
/// The node is asked for the network's name and its group key, which proofs are checked against from then on. Compare
/// the key with what the network publishes, or name it, so that a wrong node is found out at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind context add prod --endpoint http://10.0.0.7:7070\n  \
    tradewind context add prod --endpoint http://10.0.0.7:7070 --key-file ci.key --group-key 8f1c…")]
struct Add {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// The group key that the network publishes; another one is refused
    #[arg(long, value_name = "HEX")]
    group_key: Option<String>,
    /// Replace the context that is there
    #[arg(long)]
    force: bool,
}

/// A stored context; `-o json` prints a page of these.
#[derive(Clone, Debug, Serialize)]
struct Row {
    name: String,
    current: bool,
    #[serde(flatten)]
    stored: Stored,
}

const COLUMNS: &[Column] = &[
    text("", Keep::Always),
    text("CONTEXT", Keep::Always),
    text("NETWORK", Keep::Always),
    text("ENDPOINT", Keep::Always),
    text("KEY FILE", Keep::Until(1)),
    text("GROUP KEY", Keep::Wide),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::List => list(context),
        Verb::Use(named) => use_from_now_on(context, &named.name),
        Verb::Add(args) => add(context, args),
        Verb::Remove(named) => remove(context, &named.name),
    }
}

fn list(context: &Context) -> Result<u8> {
    let stored = context::list(&context.home)?.into_iter();
    let rows = stored.map(|(name, stored)| Row {
        current: name == context.name(),
        name,
        stored,
    });
    let page = Page::only(rows.collect());
    let table = table(&page.items, context.output.arrow());
    context.output.list(&page, &page.items, &table)?;
    Ok(exit::DONE)
}

fn table(rows: &[Row], arrow: &str) -> Table {
    let empty = "no contexts; start a network: tradewind up --demo, or add one: tradewind context add NAME --endpoint URL";
    let mut table = Table::new(COLUMNS, empty);
    for Row {
        name,
        current,
        stored,
    } in rows
    {
        let group_key = stored.group_key.clone();
        table.row(
            name.clone(),
            vec![
                if *current { arrow } else { "" }.to_owned(),
                name.clone(),
                stored.network.clone(),
                stored.endpoint.clone(),
                stored.key_file.display().to_string(),
                group_key.unwrap_or_else(|| "–".to_owned()),
            ],
        );
    }
    table
}

/// Returns the stored context of this name, or says which may have been meant.
fn find(context: &Context, name: &str) -> Result<Stored> {
    let all = context::list(&context.home)?;
    let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    if let Some((_, stored)) = all.iter().find(|(other, _)| other == name) {
        return Ok(stored.clone());
    }
    let failure = Failure::new("no-context", format!("there is no context {name:?}"));
    Err(match nearest(name, names.iter().copied()) {
        Some(near) => failure.hint(format!("did you mean: {near}")),
        None => failure.hint("see all: tradewind context list"),
    })
}

fn use_from_now_on(context: &Context, name: &str) -> Result<u8> {
    let stored = find(context, name)?;
    context::set_current(&context.home, name)?;
    said(
        context,
        name,
        &stored,
        &format!("{name} is used from now on"),
    )
}

fn said(context: &Context, name: &str, stored: &Stored, what: &str) -> Result<u8> {
    let output = &context.output;
    output.say(&format!("{} {what}", output.mark(Style::Good)));
    output.say(&format!("  network      {}", stored.network));
    output.say(&format!("  endpoint     {}", stored.endpoint));
    output.result(stored, name)?;
    Ok(exit::DONE)
}

fn add(context: &Context, args: &Add) -> Result<u8> {
    let endpoint = context.given_endpoint().ok_or_else(|| {
        Failure::new("usage", "no node of the network is named")
            .hint("name one: --endpoint http://HOST:PORT")
    })?;
    if !args.force && context::exists(&context.home, &args.name)? {
        return Err(Failure::new(
            "file-exists",
            format!("there is a context {:?} already", args.name),
        ));
    }
    let client = Client::new(endpoint)?;
    let status = block_on(async { Ok(client.status().await?) })?;
    let wanted = args.group_key.as_ref().map(|key| key.to_ascii_lowercase());
    if wanted.is_some_and(|key| key != status.group_key) {
        return Err(Failure::new(
            "wrong-network",
            "the node proves by another group key than the one named",
        )
        .detail(format!("it says: {}", status.group_key)));
    }
    let key_file: PathBuf = match context.given_key_file() {
        Some(file) => {
            std::path::absolute(&file).map_err(crate::error::io_failure("resolve", &file))?
        }
        None => context.keys().join(format!("{}.key", args.name)),
    };
    let made = !key_file.exists();
    let wallet = Wallet::open_or_create(&key_file)?;
    let stored = Stored {
        network: status.network.to_string(),
        group_key: Some(status.group_key),
        endpoint: client.endpoint().to_owned(),
        key_file,
    };
    context::store(&context.home, &args.name, &stored)?;
    said(
        context,
        &args.name,
        &stored,
        &format!("{} added", args.name),
    )?;
    let output = &context.output;
    let group_key = stored.group_key.as_deref().unwrap_or_default();
    output.say(&format!("  group key    {group_key}"));
    let state = if made { "made" } else { "was there" };
    output.say(&format!(
        "  key          {} {state}: {}",
        stored.key_file.display(),
        wallet.account()
    ));
    let next = format!("tradewind context use {}", args.name);
    output.say(&format!(
        "  use it:      {}",
        output.paint(Style::Good, &next)
    ));
    Ok(exit::DONE)
}

fn remove(context: &Context, name: &str) -> Result<u8> {
    let stored = find(context, name)?;
    context::remove(&context.home, name)?;
    if context.name() == name {
        context.output.say(&format!("{LOCAL} is used from now on"));
    }
    said(
        context,
        name,
        &stored,
        &format!("{name} forgotten; its key stays"),
    )
}
