//! `tradewind notify`: notices of what happens to my jobs and leases, sent to an address of mine.

use api::hook::{HookCall, HookId, HookRequest};
use api::view::text::Text as _;
use api::{EventKindView, HookState, HookTestView, HookView, HooksView, Page};

use crate::context::Context;
use crate::error::{Failure, Result, exit, nearest};
use crate::output::Style;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};
use crate::wallet::Wallet;

/// What is sent where no kinds are named: what a tenant or a provider would want to wake up for.
const KINDS_DEFAULT: &str =
    "job-opened,job-ended,lease-awarded,lease-ready,lease-changed,lease-ended";

/// Notices of my jobs and leases, sent to an address of mine: add, list, remove, test
///
/// The node posts each event as signed JSON, in order and at least once, and tries again for hours while the receiver
/// fails. Receivers check notices with any library of Standard Webhooks and the secret that add prints.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Add(Add),
    /// List my hooks at this node
    #[command(visible_alias = "ls")]
    List,
    /// End a hook
    #[command(visible_alias = "rm")]
    Remove(One),
    /// Send a notice now and say what came of it; one that works sets a suspended hook going again
    Test(One),
}

/// Add a hook: an address to which notices are sent from now on
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind notify add https://ci.example.org/tradewind\n  \
    tradewind notify add https://pager.example.org/x --events job-ended,lease-ended"
)]
struct Add {
    /// Where to, as http:// or https://
    #[arg(value_name = "URL")]
    url: String,
    /// Of which kinds of events, with commas between or repeated
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_value = KINDS_DEFAULT, value_parser = kind)]
    events: Vec<u8>,
}

#[derive(Debug, clap::Args)]
struct One {
    /// Id, or a unique beginning of it
    #[arg(value_name = "HOOK")]
    hook: String,
}

const COLUMNS: &[Column] = &[
    text("HOOK", Keep::Always),
    text("STATE", Keep::Always),
    number("DELIVERED", Keep::Until(1)),
    number("GIVEN UP", Keep::Until(2)),
    text("ADDRESS", Keep::Always),
    text("FAILING", Keep::Until(3)),
    text("EVENTS", Keep::Wide),
    text("ADDED", Keep::Wide),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wallet = context.wallet()?;
    block_on(async {
        let session = Session::open(context).await?;
        match &args.verb {
            Verb::Add(args) => add(context, &session, &wallet, args).await,
            Verb::List => list(context, &session, &wallet).await,
            Verb::Remove(one) => {
                let hook = find(&session, &wallet, &one.hook).await?;
                let removed = ask(&session, &wallet, HookCall::Remove { hook }).await?;
                let view = first(removed)?;
                let mark = context.output.mark(Style::Good);
                context.output.say(&format!(
                    "{mark} {hook} is removed; nothing more goes to {}",
                    view.url
                ));
                context.output.result(&view, &hook.to_string())?;
                Ok(exit::DONE)
            }
            Verb::Test(one) => {
                let hook = find(&session, &wallet, &one.hook).await?;
                let tested = ask(&session, &wallet, HookCall::Test { hook }).await?;
                test(context, hook, &tested)
            }
        }
    })
}

async fn add(context: &Context, session: &Session, wallet: &Wallet, args: &Add) -> Result<u8> {
    let call = HookCall::Add {
        url: args.url.clone(),
        kinds: args.events.clone(),
    };
    let view = first(ask(session, wallet, call).await?)?;
    let output = &context.output;
    let mut rows = vec![
        ("hook", view.id.to_string()),
        ("address", view.url.clone()),
        ("events", view.events.join(", ")),
    ];
    rows.extend(view.secret.clone().map(|secret| ("secret", secret)));
    output.thing(&view, &view.id.to_string(), &pairs(&rows))?;
    output.say(
        "The secret is shown this once: give it to the receiver, which checks notices with it.",
    );
    output.say(&format!("try it: tradewind notify test {}", view.id));
    Ok(exit::DONE)
}

async fn list(context: &Context, session: &Session, wallet: &Wallet) -> Result<u8> {
    let page = Page::only(ask(session, wallet, HookCall::List).await?.items);
    let mut table = Table::new(
        COLUMNS,
        "no hooks at this node; add one: tradewind notify add URL",
    );
    for hook in &page.items {
        table.row(hook.id.to_string(), cells(hook));
    }
    context.output.list(&page, &page.items, &table)?;
    Ok(exit::DONE)
}

fn cells(hook: &HookView) -> Vec<String> {
    let failing = hook.failing.as_ref().map_or_else(
        || "–".to_owned(),
        |failing| {
            format!(
                "event {}, {} attempts: {}",
                failing.event, failing.attempts, failing.why
            )
        },
    );
    let state = match hook.state {
        HookState::Active => "active",
        HookState::Suspended => "suspended",
    };
    vec![
        hook.id.to_string(),
        state.to_owned(),
        hook.delivered.to_string(),
        hook.given_up.to_string(),
        hook.url.clone(),
        failing,
        hook.events.join(","),
        hook.added_at.to_string(),
    ]
}

fn test(context: &Context, hook: HookId, tested: &HooksView) -> Result<u8> {
    let Some(test) = &tested.test else {
        return Err(Failure::new(
            "bad-reply",
            "the node does not say what came of the test",
        ));
    };
    let HookTestView {
        delivered,
        took_ms,
        why,
    } = test;
    if !delivered {
        let why = why.as_deref().unwrap_or("no reason given");
        return Err(
            Failure::new("hook-failed", format!("the notice was not taken: {why}"))
                .detail(format!("after {took_ms} ms")),
        );
    }
    let output = &context.output;
    let mark = output.mark(Style::Good);
    output.say(&format!(
        "{mark} the receiver took a notice in {took_ms} ms"
    ));
    output.result(tested, &hook.to_string())?;
    Ok(exit::DONE)
}

/// Signs a request about my hooks, and returns the node's answer.
async fn ask(session: &Session, wallet: &Wallet, call: HookCall) -> Result<HooksView> {
    let request = HookRequest {
        signer: wallet.public(),
        at: crate::tail::now(),
        call,
    };
    let signed = request.sign(session.network(), wallet.key());
    Ok(session.client.hooks(&signed).await?)
}

fn first(view: HooksView) -> Result<HookView> {
    let hook = view.items.into_iter().next();
    hook.ok_or_else(|| Failure::new("bad-reply", "the node names no hook"))
}

async fn find(session: &Session, wallet: &Wallet, text: &str) -> Result<HookId> {
    if let Some(id) = HookId::from_text(text) {
        return Ok(id);
    }
    let all = ask(session, wallet, HookCall::List).await?.items;
    let ids = all.iter().map(|hook| hook.id);
    let fit: Vec<HookId> = ids.filter(|id| id.to_string().starts_with(text)).collect();
    match fit.as_slice() {
        [id] => Ok(*id),
        [] => Err(Failure::new(
            "no-hook",
            format!("you have no hook {text:?} at this node"),
        )),
        _ => {
            let what = format!("{} hooks begin like {text:?}", fit.len());
            Err(Failure::new("ambiguous-id", what))
        }
    }
}

/// Reads a kind of event: its place in the list of words.
fn kind(word: &str) -> Result<u8, String> {
    let words = EventKindView::WORDS;
    let place = words.iter().position(|known| *known == word);
    place
        .and_then(|place| u8::try_from(place).ok())
        .ok_or_else(|| match nearest(word, words) {
            Some(near) => format!("there is no such kind of event; did you mean {near}?"),
            None => format!(
                "there is no such kind of event; there are {}",
                words.join(", ")
            ),
        })
}
