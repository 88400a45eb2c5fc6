//! `tradewind key`: keys that sign, and what they may do for an account.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use api::view::text::Text as _;
use api::{EventFilter, EventKindView, KeyView, Page};
use market::{KeyRole, Millis, Money, PublicKey, Tx};
use serde::Serialize;

use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::output::Style;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};
use crate::wallet::Wallet;
use crate::words;

/// Key files looked at: who has more keeps them elsewhere.
const FILES_MAX: usize = 200;
/// Pages of events read for the keys that an account let act for it.
const PAGES_MAX: usize = 50;

/// Keys that sign: create, list, show, authorize, revoke
///
/// A key's first deposit opens an account that it owns. An account can let other keys act for it: to run jobs up to a
/// budget, to lend, or only to look. No command prints a secret.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Create(Create),
    /// List the keys of this machine, and those that act for my account
    #[command(visible_alias = "ls")]
    List,
    Show(Show),
    Authorize(Authorize),
    Revoke(Revoke),
}

/// Make a key in a file that only its owner can read
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind key create ci\n  tradewind key create --to /run/secrets/ci.key ci"
)]
struct Create {
    /// What to call it
    #[arg(value_name = "NAME")]
    name: String,
    /// Where to write it, else among the keys of the home folder
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// Show a key, its account and what it may do
#[derive(Debug, clap::Args)]
struct Show {
    /// Name or file of a key of this machine, or a public key; mine by default
    #[arg(value_name = "KEY")]
    key: Option<String>,
}

/// Let a key act for my account
///
/// Authorizing a key again replaces what it may do, and its budget starts anew.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind key authorize ci --role tenant --budget 25 --for 30d\n  \
    tradewind key authorize 4f0c…e1 --role viewer"
)]
struct Authorize {
    /// Name or file of a key of this machine, or a public key
    #[arg(value_name = "KEY")]
    key: String,
    /// What it may do: tenant (run jobs), provider (lend) or viewer (read output)
    #[arg(long, value_name = "ROLE", value_parser = role)]
    role: KeyRole,
    /// Most that it may commit to jobs in all; without limit by default
    #[arg(long, value_name = "DOLLARS", value_parser = words::money)]
    budget: Option<Money>,
    /// How long; without end by default
    #[arg(long = "for", value_name = "TIME", value_parser = words::duration)]
    duration: Option<Millis>,
}

/// End what a key may do for my account
#[derive(Debug, clap::Args)]
struct Revoke {
    /// Name or file of a key of this machine, or a public key
    #[arg(value_name = "KEY")]
    key: String,
}

/// A key with what it is called here; `-o json` prints these.
#[derive(Clone, Debug, Serialize)]
struct Known {
    name: Option<String>,
    file: Option<PathBuf>,
    #[serde(flatten)]
    view: KeyView,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Create(args) => create(context, args),
        Verb::List => list(context),
        Verb::Show(args) => show(context, args),
        Verb::Authorize(args) => authorize(context, args),
        Verb::Revoke(args) => revoke(context, args),
    }
}

fn create(context: &Context, args: &Create) -> Result<u8> {
    let path = match &args.to {
        Some(path) => std::path::absolute(path).map_err(io_failure("resolve", path))?,
        None => file_of(context, &args.name)?,
    };
    if path.exists() {
        return Err(Failure::new(
            "file-exists",
            format!("{} is there already", path.display()),
        )
        .hint(format!("see it: tradewind key show {}", path.display())));
    }
    let wallet = Wallet::open_or_create(&path)?;
    let known = Known {
        name: Some(args.name.clone()),
        file: Some(path.clone()),
        view: KeyView::unknown(wallet.public()),
    };
    context.output.thing(
        &known,
        &wallet.public().to_string(),
        &pairs(&[
            ("key", wallet.public().to_string()),
            (
                "account",
                format!("{}, once it is paid into", wallet.account()),
            ),
            ("file", path.display().to_string()),
        ]),
    )?;
    let output = &context.output;
    output.say(&format!(
        "{} made; keep the file, nobody can make it again",
        output.mark(Style::Good)
    ));
    output.say(&format!(
        "  let it act for your account:  {}",
        output.paint(
            Style::Good,
            &format!(
                "tradewind key authorize {} --role tenant --budget 5",
                args.name
            )
        )
    ));
    Ok(exit::DONE)
}

/// Returns where the key of this name lies.
fn file_of(context: &Context, name: &str) -> Result<PathBuf> {
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    if name.is_empty() || name.len() > 48 || !name.bytes().all(plain) {
        return Err(Failure::new("usage", format!("{name:?} is no key's name"))
            .hint("use letters, digits, - and _"));
    }
    Ok(context.keys().join(format!("{name}.key")))
}

/// Returns the key that a text names, with its name and file where it lies on this machine.
fn find(context: &Context, text: &str) -> Result<(PublicKey, Option<PathBuf>)> {
    if let Some(key) = PublicKey::from_text(text) {
        return Ok((key, None));
    }
    let path = Path::new(text);
    let path = if text.contains('/') {
        path.to_owned()
    } else {
        file_of(context, text)?
    };
    if !path.exists() {
        return Err(
            Failure::new("no-key-file", format!("there is no key {text:?} here"))
                .detail(format!("looked for {}", path.display()))
                .hint("see all: tradewind key list")
                .hint("or name it by its public half: 64 hexadecimal digits"),
        );
    }
    Ok((Wallet::open(&path)?.public(), Some(path)))
}

fn name_of(path: &Path) -> Option<String> {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
}

/// Returns the keys of the home folder, by name; files that are no keys are passed over.
fn files(context: &Context) -> Result<Vec<(PathBuf, PublicKey)>> {
    let folder = context.keys();
    let entries = match std::fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_failure("read", &folder)(error)),
    };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "key"))
        .take(FILES_MAX)
        .collect();
    paths.sort();
    let keys = paths
        .into_iter()
        .filter_map(|path| Some((path.clone(), Wallet::open(&path).ok()?.public())));
    Ok(keys.collect())
}

const COLUMNS: &[Column] = &[
    text("NAME", Keep::Always),
    text("KEY", Keep::Always),
    text("ROLE", Keep::Always),
    number("BUDGET $", Keep::Until(2)),
    number("USED $", Keep::Until(2)),
    text("ENDS", Keep::Until(3)),
    text("ACCOUNT", Keep::Until(1)),
    number("NONCE", Keep::Wide),
    text("FILE", Keep::Wide),
];

fn list(context: &Context) -> Result<u8> {
    let here = files(context)?;
    let own = context.wallet().ok();
    block_on(async {
        let session = Session::open(context).await?;
        let mut known = Vec::new();
        let mut seen: BTreeSet<PublicKey> = BTreeSet::new();
        for (path, key) in here {
            seen.insert(key);
            known.push(Known {
                name: name_of(&path),
                file: Some(path),
                view: session.client.key(&key).await?,
            });
        }
        if let Some(own) = own {
            let account = session.acting_for(&own).await?;
            for key in granted(&session, account).await? {
                if seen.insert(key) {
                    let view = session.client.key(&key).await?;
                    known.push(Known {
                        name: None,
                        file: None,
                        view,
                    });
                }
            }
        }
        let page = Page::only(known);
        context
            .output
            .list(&page, &page.items, &table(&page.items))?;
        Ok(exit::DONE)
    })
}

/// Returns the keys that an account ever let act for it, by its events.
async fn granted(session: &Session, account: market::AccountId) -> Result<Vec<PublicKey>> {
    let filter = EventFilter {
        kinds: vec!["key-authorized".to_owned()],
        ..EventFilter::account(account)
    };
    let mut keys = Vec::new();
    let mut after = None;
    for _page in 0..PAGES_MAX {
        let page = session.client.event_page(after, &filter).await?;
        keys.extend(page.items.iter().filter_map(|event| match &event.kind {
            EventKindView::KeyAuthorized { key, .. } => Some(*key),
            _ => None,
        }));
        after = page.next.and_then(|text| text.parse().ok());
        if after.is_none() {
            break;
        }
    }
    Ok(keys)
}

fn table(known: &[Known]) -> Table {
    let mut table = Table::new(COLUMNS, "no keys here; make one: tradewind key create NAME");
    let dash = || "–".to_owned();
    for Known { name, file, view } in known {
        table.row(
            view.key.to_string(),
            vec![
                name.clone().unwrap_or_else(dash),
                view.key.to_string(),
                role_of(view),
                view.budget
                    .map_or_else(dash, |budget| words::show_amount(budget.0)),
                words::show_amount(view.committed.0),
                view.expires_at.map_or_else(dash, |at| at.to_string()),
                view.account
                    .map_or_else(dash, |account| account.to_string()),
                view.next_nonce.to_string(),
                file.as_ref()
                    .map_or_else(dash, |file| file.display().to_string()),
            ],
        );
    }
    table
}

/// Returns what a key may do, in a word.
fn role_of(view: &KeyView) -> String {
    match (&view.role, view.revoked) {
        (_, true) => "revoked".to_owned(),
        (Some(role), false) => role.clone(),
        (None, false) => "unknown".to_owned(),
    }
}

fn show(context: &Context, args: &Show) -> Result<u8> {
    let (key, file) = match &args.key {
        Some(text) => find(context, text)?,
        None => (context.wallet()?.public(), None),
    };
    block_on(async {
        let session = Session::open(context).await?;
        let view = session.client.key(&key).await?;
        let known = Known {
            name: file.as_deref().and_then(name_of),
            file,
            view,
        };
        let view = &known.view;
        let limit = view.budget.map_or_else(
            || "without limit".to_owned(),
            |budget| format!("{} of {budget} used", view.committed),
        );
        let account = match view.account {
            Some(account) => account.to_string(),
            None => "none; the network does not know it".to_owned(),
        };
        let lines = pairs(&[
            ("key", view.key.to_string()),
            ("role", role_of(view)),
            ("account", account),
            ("budget", limit),
            (
                "ends",
                view.expires_at
                    .map_or_else(|| "never".to_owned(), |at| at.to_string()),
            ),
            ("next nonce", view.next_nonce.to_string()),
        ]);
        context.output.thing(&known, &key.to_string(), &lines)?;
        Ok(exit::DONE)
    })
}

fn authorize(context: &Context, args: &Authorize) -> Result<u8> {
    let wallet = context.wallet()?;
    let (key, _) = find(context, &args.key)?;
    block_on(async {
        let session = Session::open(context).await?;
        let call = Tx::AuthorizeKey {
            key,
            role: args.role,
            budget: args.budget,
            expires_at: args.duration.map(|time| session.status.now.0.after(time)),
        };
        session.submit(&wallet, call).await?;
        let view = session.client.key(&key).await?;
        let output = &context.output;
        output.say(&format!(
            "{} {key} may act as {} for {}",
            output.mark(Style::Good),
            role_of(&view),
            wallet.account(),
        ));
        output.result(&view, &key.to_string())?;
        Ok(exit::DONE)
    })
}

fn revoke(context: &Context, args: &Revoke) -> Result<u8> {
    let wallet = context.wallet()?;
    let (key, _) = find(context, &args.key)?;
    block_on(async {
        let session = Session::open(context).await?;
        session.submit(&wallet, Tx::RevokeKey { key }).await?;
        let view = session.client.key(&key).await?;
        let output = &context.output;
        output.say(&format!(
            "{} {key} may do nothing any more",
            output.mark(Style::Good)
        ));
        output.result(&view, &key.to_string())?;
        Ok(exit::DONE)
    })
}

fn role(text: &str) -> Result<KeyRole, String> {
    match text {
        "tenant" => Ok(KeyRole::Tenant),
        "provider" => Ok(KeyRole::Provider),
        "viewer" => Ok(KeyRole::Viewer),
        _ => Err(format!(
            "{text:?} is no role that can be given; use tenant, provider or viewer"
        )),
    }
}
