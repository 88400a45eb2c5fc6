//! Moving dollars: sending them, and for treasurers bringing them in and paying them out.
//!
//! An outside payment is known to the ledger by the digest of its reference only, and a reference counts once: issuing
//! twice against one bank transfer is refused.

use api::{AccountView, EventFilter, EventKindView, Page, TxView};
use market::{AccountId, Digest, Money, PublicKey, RedemptionId, Tx};

use crate::commands::node;
use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::output::Style;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::wallet::Wallet;
use crate::words;

/// Domain of the digest of a payment's reference.
const REFERENCE_DOMAIN: &[u8] = b"tradewind/reference/v1/";
/// Domain of the salted digest of where a redemption is paid to.
const DESTINATION_DOMAIN: &[u8] = b"tradewind/destination/v1/";

/// Send dollars to another account
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind account send acc_0421… 25")]
pub(super) struct Send {
    /// Who receives them; a first deposit opens the account
    #[arg(value_name = "ACCOUNT")]
    to: AccountId,
    /// How much
    #[arg(value_name = "DOLLARS", value_parser = words::money)]
    amount: Money,
    /// Do it without being asked
    #[arg(short, long)]
    yes: bool,
}

/// Treasurer: create dollars against an outside payment
///
/// The payment's reference counts once on the whole network, whoever issues. The ledger learns its digest only.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind account issue acc_0421… 25 --reference 'wire 2026-11-23/17'"
)]
pub(super) struct Issue {
    /// Who receives them; a first deposit opens the account
    #[arg(value_name = "ACCOUNT")]
    to: AccountId,
    /// How much
    #[arg(value_name = "DOLLARS", value_parser = words::money)]
    amount: Money,
    /// The outside payment, as its books name it; counts once
    #[arg(long, value_name = "TEXT", value_parser = reference)]
    reference: String,
}

/// Ask a treasurer to pay dollars out
///
/// They are set aside at once. Tell the treasurer the destination and the code that is printed: the ledger holds only
/// their digest. They return after the network's release time, unless the treasurer has paid.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tradewind account redeem 25 --destination 'IBAN DE00 …'")]
pub(super) struct Redeem {
    /// How much
    #[arg(value_name = "DOLLARS", value_parser = words::money)]
    amount: Money,
    /// Where to
    #[arg(long, value_name = "TEXT", value_parser = reference)]
    destination: String,
    /// Which treasurer, where the network has several
    #[arg(long, value_name = "KEY", value_parser = public_key)]
    treasurer: Option<PublicKey>,
    /// Do it without being asked
    #[arg(short, long)]
    yes: bool,
}

/// Treasurer: the dollars of a redemption were paid out; destroy them
#[derive(Debug, clap::Args)]
pub(super) struct Paid {
    /// Which request
    #[arg(value_name = "REDEMPTION")]
    redemption: RedemptionId,
    /// The outside payment, as its books name it; counts once
    #[arg(long, value_name = "TEXT", value_parser = reference)]
    reference: String,
}

/// Treasurer: the dollars of a redemption cannot be paid out; return them
#[derive(Debug, clap::Args)]
pub(super) struct Refuse {
    /// Which request
    #[arg(value_name = "REDEMPTION")]
    redemption: RedemptionId,
}

fn reference(given: &str) -> Result<String, String> {
    /// Longer than what any bank prints; a digest hides a slip of the clipboard.
    const CHARS_MAX: usize = 200;
    let given = given.trim();
    if given.is_empty() || given.chars().count() > CHARS_MAX || given.chars().any(char::is_control)
    {
        return Err(format!("use 1 to {CHARS_MAX} printable characters"));
    }
    Ok(given.to_owned())
}

fn public_key(given: &str) -> Result<PublicKey, String> {
    api::view::text::Text::from_text(given)
        .ok_or_else(|| format!("{given:?} is no public key; use 64 hexadecimal digits"))
}

fn reference_digest(session: &Session, reference: &str) -> Digest {
    let network = session.network().as_str().as_bytes();
    Digest::of(&[REFERENCE_DOMAIN, network, b"/", reference.as_bytes()])
}

/// Asks, where somebody can be asked; else the command line must have agreed.
fn require_consent(context: &Context, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    if !context.output.can_ask() {
        return Err(
            Failure::new("needs-consent", "this moves money, and nobody can be asked")
                .hint("agree beforehand: -y"),
        );
    }
    if context.output.ask(question) {
        return Ok(());
    }
    Err(Failure::new("declined", "nothing was moved"))
}

pub(super) fn send(context: &Context, args: &Send) -> Result<u8> {
    let wallet = context.wallet()?;
    block_on(async {
        let session = Session::open(context).await?;
        let question = format!(
            "send {} to {} in {} (context {})?",
            args.amount,
            args.to,
            session.network(),
            context.name()
        );
        require_consent(context, args.yes, &question)?;
        let call = Tx::Transfer {
            to: args.to,
            amount: args.amount,
            memo: None,
        };
        session.submit(&wallet, call).await?;
        let mine = session.acting_for(&wallet).await?;
        let view = session.client.account(&mine).await?;
        say(
            context,
            &view,
            &format!("sent {} to {}", args.amount, args.to),
        )
    })
}

pub(super) fn issue(context: &Context, args: &Issue) -> Result<u8> {
    let treasurer = treasurer(context)?;
    block_on(async {
        let session = Session::open(context).await?;
        let call = Tx::Issue {
            to: args.to,
            amount: args.amount,
            reference: reference_digest(&session, &args.reference),
        };
        session.submit(&treasurer, call).await.map_err(once)?;
        let view = session.client.account(&args.to).await?;
        let what = format!("issued {} to {}", args.amount, args.to);
        say(context, &view, &what)
    })
}

pub(super) fn redeem(context: &Context, args: &Redeem) -> Result<u8> {
    let wallet = context.wallet()?;
    block_on(async {
        let session = Session::open(context).await?;
        let treasurer = match (args.treasurer, session.status.treasurers.as_slice()) {
            (Some(key), _) => key,
            (None, [only]) => *only,
            (None, all) => {
                let what = format!("the network has {} treasurers", all.len());
                let failure = Failure::new("usage", what);
                let name = |failure: Failure, key: &PublicKey| {
                    failure.hint(format!("say which: --treasurer {key}"))
                };
                return Err(all.iter().fold(failure, name));
            }
        };
        let question = format!(
            "set {} aside for treasurer {treasurer} to pay out (context {})?",
            args.amount,
            context.name()
        );
        require_consent(context, args.yes, &question)?;
        let salt: [u8; 16] = rand::random();
        let code = hex::encode(salt);
        let call = Tx::RequestRedemption {
            treasurer,
            amount: args.amount,
            destination: Digest::of(&[DESTINATION_DOMAIN, &salt, args.destination.as_bytes()]),
        };
        let mine = session.acting_for(&wallet).await?;
        let after = session.client.status().await?.next_event.checked_sub(1);
        let receipt = session.submit(&wallet, call).await?;
        let output = &context.output;
        output.say(&format!(
            "{} {} set aside",
            output.mark(Style::Good),
            args.amount
        ));
        if let Some(id) = redemption_of(&session, mine, after, &receipt).await? {
            output.say(&format!("  redemption   {id}"));
        }
        output.say(&format!("  treasurer    {treasurer}"));
        output.say(&format!(
            "  code         {code}; tell it the treasurer with the destination"
        ));
        let view = session.client.account(&mine).await?;
        output.result(&view, &mine.to_string())?;
        Ok(exit::DONE)
    })
}

/// Returns the redemption that a transaction made, by the account's events after `after`.
async fn redemption_of(
    session: &Session,
    account: AccountId,
    after: Option<u64>,
    receipt: &TxView,
) -> Result<Option<RedemptionId>> {
    let filter = EventFilter {
        kinds: vec!["redemption-requested".to_owned()],
        ..EventFilter::account(account)
    };
    let page = session.client.event_page(after, &filter).await?;
    let own = page.items.iter().find(|event| event.tx == Some(receipt.id));
    Ok(own.and_then(|event| match event.kind {
        EventKindView::RedemptionRequested { redemption, .. } => Some(redemption),
        _ => None,
    }))
}

const REDEMPTION_COLUMNS: &[Column] = &[
    text("REDEMPTION", Keep::Always),
    number("AMOUNT $", Keep::Always),
    text("RETURNS", Keep::Always),
    text("ASKED", Keep::Until(1)),
    text("ACCOUNT", Keep::Until(2)),
    text("TREASURER", Keep::Wide),
];

pub(super) fn redemptions(context: &Context) -> Result<u8> {
    // One who has neither key has nobody to list them for.
    let (own, treasurer) = match (context.wallet(), treasurer(context)) {
        (Err(why), Err(_)) => return Err(why),
        (own, treasurer) => (own.ok(), treasurer.ok()),
    };
    block_on(async {
        let session = Session::open(context).await?;
        let mut page = Page::only(Vec::new());
        if let Some(wallet) = &own {
            let account = session.acting_for(wallet).await?;
            let mine = session.client.redemptions(None, Some(&account), None);
            page.items.extend(mine.await?.items);
        }
        if let Some(wallet) = &treasurer {
            let key = wallet.public();
            let asked = session.client.redemptions(Some(&key), None, None);
            page.items.extend(asked.await?.items);
        }
        page.items
            .sort_by_key(|redemption| (redemption.returns_at.0, redemption.id));
        page.items.dedup();
        let mut table = Table::new(REDEMPTION_COLUMNS, "nothing waits to be paid out");
        for redemption in &page.items {
            let of_me = treasurer
                .as_ref()
                .is_some_and(|wallet| wallet.public() == redemption.treasurer);
            table.row(
                redemption.id.to_string(),
                vec![
                    redemption.id.to_string(),
                    words::show_amount(redemption.amount.0),
                    redemption.returns_at.to_string(),
                    if of_me { "of me" } else { "by me" }.to_owned(),
                    redemption.account.to_string(),
                    redemption.treasurer.to_string(),
                ],
            );
        }
        context.output.list(&page, &page.items, &table)?;
        Ok(exit::DONE)
    })
}

pub(super) fn paid(context: &Context, args: &Paid) -> Result<u8> {
    let treasurer = treasurer(context)?;
    block_on(async {
        let session = Session::open(context).await?;
        let call = Tx::ConfirmRedemption {
            redemption: args.redemption,
            reference: reference_digest(&session, &args.reference),
        };
        let receipt = session.submit(&treasurer, call).await.map_err(once)?;
        closed(
            context,
            &receipt,
            &format!("{} paid; its dollars are gone", args.redemption),
        )
    })
}

pub(super) fn refuse(context: &Context, args: &Refuse) -> Result<u8> {
    let treasurer = treasurer(context)?;
    block_on(async {
        let session = Session::open(context).await?;
        let redemption = args.redemption;
        let call = Tx::RefuseRedemption { redemption };
        let receipt = session.submit(&treasurer, call).await?;
        closed(
            context,
            &receipt,
            &format!("{redemption} refused; its dollars are back"),
        )
    })
}

fn closed(context: &Context, receipt: &TxView, what: &str) -> Result<u8> {
    let output = &context.output;
    output.say(&format!("{} {what}", output.mark(Style::Good)));
    output.result(receipt, &receipt.id.to_string())?;
    Ok(exit::DONE)
}

fn say(context: &Context, view: &AccountView, what: &str) -> Result<u8> {
    let output = &context.output;
    let mark = output.mark(Style::Good);
    output.say(&format!(
        "{mark} {what}; {} available there",
        view.available
    ));
    output.result(view, &view.id.to_string())?;
    Ok(exit::DONE)
}

/// Opens the treasurer's key: the one that was named, else the one of a network that this machine started.
fn treasurer(context: &Context) -> Result<Wallet> {
    let own = node::treasurer_file(context);
    match context.given_key_file() {
        Some(file) => Wallet::open(&file),
        None if own.exists() => Wallet::open(&own),
        None => Err(
            Failure::new("not-treasurer", "there is no treasurer's key here")
                .hint("name it: --key-file FILE"),
        ),
    }
}

/// Says what a used reference means.
fn once(failure: Failure) -> Failure {
    if failure.code() == api::Code::ReferenceUsed.as_str() {
        return Failure::new(
            "reference-used",
            "this payment was counted before; nothing was moved",
        )
        .hint("see what came in: tradewind account history ACCOUNT");
    }
    failure
}
