//! `tradewind account`: balances and every movement of them.

mod money;

use api::{AccountView, MoneyView, PostingView, view::text::Text as _};
use market::{AccountId, Money, Record, RecordId};

use crate::commands::collect;
use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::proof;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};

/// Balances, every movement of them, and moving them
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Show(Show),
    History(History),
    Send(money::Send),
    Redeem(money::Redeem),
    /// List redemptions that are not paid yet: those that I ask for, and those that I am asked for as a treasurer
    Redemptions,
    Issue(money::Issue),
    Paid(money::Paid),
    Refuse(money::Refuse),
}

/// Show what is available, held, bonded and locked
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind account show\n  tradewind account show --verify")]
struct Show {
    /// Another account than mine
    #[arg(value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// Check the balances by proof, without trusting the node
    #[arg(long)]
    verify: bool,
}

/// List every movement of the balances, oldest first
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind account history\n  tradewind account history --verify"
)]
struct History {
    /// Another account than mine
    #[arg(value_name = "ACCOUNT")]
    account: Option<AccountId>,
    /// Sum all movements and compare with the proved balance
    #[arg(long)]
    verify: bool,
    /// Go on after this cursor
    #[arg(
        long,
        value_name = "CURSOR",
        hide_short_help = true,
        conflicts_with = "verify"
    )]
    after: Option<String>,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Show(args) => show(context, args),
        Verb::History(args) => history(context, args),
        Verb::Send(args) => money::send(context, args),
        Verb::Redemptions => money::redemptions(context),
        Verb::Redeem(args) => money::redeem(context, args),
        Verb::Issue(args) => money::issue(context, args),
        Verb::Paid(args) => money::paid(context, args),
        Verb::Refuse(args) => money::refuse(context, args),
    }
}

/// Says that a key is missing before the node is asked.
fn require_wallet(context: &Context, given: Option<AccountId>) -> Result<()> {
    if given.is_none() {
        context.wallet()?;
    }
    Ok(())
}

/// Returns the account that was named, else the one that my key acts for.
async fn whose(
    context: &Context,
    session: &Session,
    given: Option<AccountId>,
) -> Result<AccountId> {
    match given {
        Some(id) => Ok(id),
        None => session.acting_for(&context.wallet()?).await,
    }
}

fn show(context: &Context, args: &Show) -> Result<u8> {
    require_wallet(context, args.account)?;
    block_on(async {
        let session = Session::open(context).await?;
        let id = whose(context, &session, args.account).await?;
        let view = session.client.account(&id).await?;
        context
            .output
            .thing(&view, &id.to_string(), &lines(&view))?;
        if args.verify {
            let proved = proof::record(context, &session, RecordId::Account(id)).await?;
            let Some(Record::Account(account)) = proved.record else {
                return Err(Failure::new(
                    "bad-proof",
                    format!("account {id} is proved not to exist"),
                ));
            };
            require_equal("available", view.available, account.available)?;
            require_equal("held", view.held, account.held)?;
            require_equal("bonded", view.bonded, account.bonded)?;
            require_equal("locked", view.locked, account.locked)?;
            context.output.say(&proved.summary);
        }
        Ok(exit::DONE)
    })
}

fn lines(view: &AccountView) -> String {
    pairs(&[
        ("account", view.id.to_string()),
        ("available", view.available.to_string()),
        ("held", format!("{} in escrow of open jobs", view.held)),
        ("bonded", view.bonded.to_string()),
        ("locked", format!("{} earned, payable later", view.locked)),
        ("opened", view.opened_at.to_string()),
        (
            "provider",
            if view.is_provider { "yes" } else { "no" }.to_owned(),
        ),
    ])
}

fn require_equal(what: &str, shown: MoneyView, proved: Money) -> Result<()> {
    if shown.0 == proved {
        return Ok(());
    }
    Err(Failure::new(
        "bad-proof",
        format!("the node shows {shown} {what}, the proof says {proved}"),
    )
    .detail("a block in between changes balances; it is wrong only if it stays so"))
}

const COLUMNS: &[Column] = &[
    text("TIME", Keep::Always),
    text("PURPOSE", Keep::Always),
    number("AMOUNT $", Keep::Always),
    text("FROM", Keep::Until(2)),
    text("TO", Keep::Until(1)),
    number("EVENT", Keep::Wide),
    text("TRANSACTION", Keep::Wide),
];

fn history(context: &Context, args: &History) -> Result<u8> {
    require_wallet(context, args.account)?;
    block_on(async {
        let session = Session::open(context).await?;
        let id = whose(context, &session, args.account).await?;
        if args.verify {
            return verify_history(context, &session, id).await;
        }
        let page = collect(context, args.after.clone(), async |after| {
            Ok(session.client.postings(&id, after.as_deref()).await?)
        });
        let page = page.await?;
        context
            .output
            .list(&page, &page.items, &table(&page.items, id))?;
        Ok(exit::DONE)
    })
}

pub(super) fn table(postings: &[PostingView], own: AccountId) -> Table {
    let mut table = Table::new(COLUMNS, "no movements yet");
    for posting in postings {
        let out = touches(&posting.from, own);
        let sign = if out && !touches(&posting.to, own) {
            "-"
        } else {
            ""
        };
        let micros = posting.amount.0.micros();
        table.row(
            posting.seq.to_string(),
            vec![
                posting.time.to_string(),
                posting.purpose.to_text(),
                format!("{sign}{}.{:06}", micros / 1_000_000, micros % 1_000_000),
                posting.from.to_text(),
                posting.to.to_text(),
                posting.seq.to_string(),
                posting
                    .tx
                    .map_or_else(|| "–".to_owned(), |tx| tx.to_string()),
            ],
        );
    }
    table
}

fn touches(slot: &market::event::Slot, own: AccountId) -> bool {
    matches!(slot, market::event::Slot::Available(id) | market::event::Slot::Bond(id) if *id == own)
}

/// Adds up all movements of the available balance and compares with the balance that the network signed.
async fn verify_history(context: &Context, session: &Session, id: AccountId) -> Result<u8> {
    let mut sum = 0_i128;
    let mut count = 0_u64;
    let mut after: Option<String> = None;
    loop {
        let page = session.client.postings(&id, after.as_deref()).await?;
        for posting in &page.items {
            let amount = i128::from(posting.amount.0.micros());
            let available = market::event::Slot::Available(id);
            sum += if posting.to == available { amount } else { 0 };
            sum -= if posting.from == available { amount } else { 0 };
            count += 1;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let proved = proof::record(context, session, RecordId::Account(id)).await?;
    let balance = match &proved.record {
        Some(Record::Account(account)) => account.available,
        _ => Money::ZERO,
    };
    if i128::from(balance.micros()) != sum {
        let what =
            format!("{count} movements sum to {sum} micro-dollars, the proof says {balance}");
        return Err(Failure::new("bad-proof", what)
            .detail("a block in between changes balances; it is wrong only if it stays so"));
    }
    let view = session.client.account(&id).await?;
    let line = format!("{count} movements sum to {balance}, the proved available balance\n");
    context.output.thing(&view, &id.to_string(), &line)?;
    context.output.say(&proved.summary);
    Ok(exit::DONE)
}
