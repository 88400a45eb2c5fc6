//! `tradewind plan`: what `run` would do, and what it would cost.

use api::{AccountView, MoneyView};
use market::{AccountId, ByteSize, Money, PublicKey};

use crate::commands::run::{self, Wanted};
use crate::context::Context;
use crate::error::{Result, exit};
use crate::explain;
use crate::session::{Session, block_on};
use crate::words;

/// Matches shown: all that the node tells.
const SHOWN: usize = 20;
/// Without a key nobody's balance is known: then a plan may cost this much, more than any job.
const NOBODYS_BALANCE: Money = Money::from_dollars(1_000_000_000);

/// Show what run would take and cost, or why nothing matches
///
/// It takes the arguments of run, asks the network and changes nothing. The price is per device and hour; AT MOST is
/// what the whole duration would cost, and never more than the budget. The image is not looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    tradewind plan --gpu h100:8 --max-price 1.80 --for 6h\n  \
    tradewind plan -f job.yaml\n  \
    tradewind plan --cpu 4 --for 30m -o json")]
pub(crate) struct Args {
    #[command(flatten)]
    wanted: Wanted,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    let wanted = args.wanted.job()?;
    let own = context.wallet().ok();
    block_on(async {
        let session = Session::open(context).await?;
        let account = match own {
            Some(wallet) => {
                let id = session.acting_for(&wallet).await?;
                let account = session.client.account(&id).await;
                account.unwrap_or_else(|_| stranger())
            }
            None => stranger(),
        };
        let mut spec = run::spec(&wanted, ByteSize::ZERO);
        let plan = run::match_offers(&session, &mut spec, &account).await?;
        let output = &context.output;
        if plan.matching == 0 && !output.is_json() {
            return Err(run::no_match(&session, &spec, &plan).await);
        }
        let table = explain::plan_table(&plan, SHOWN, output.arrow());
        output.view(&plan, &table)?;
        if plan.matching == 0 {
            return Ok(exit::NO_MATCH);
        }
        output.say(&format!(
            "{} of {} offers match in {} (context {}); the first is taken: ×{}, at most {} for {}",
            plan.matching,
            plan.offers,
            session.network(),
            context.name(),
            spec.needs.count,
            spec.budget,
            words::show_duration(spec.duration_max),
        ));
        if account.available.0 < spec.budget {
            output.warn(&format!("only {} is available", account.available));
        }
        Ok(exit::DONE)
    })
}

/// Returns an account that stands for whoever has none.
fn stranger() -> AccountView {
    AccountView {
        id: AccountId::of(PublicKey::from_bytes([0; 32])),
        available: MoneyView(NOBODYS_BALANCE),
        held: MoneyView::default(),
        bonded: MoneyView::default(),
        locked: MoneyView::default(),
        opened_at: market::Timestamp::ZERO.into(),
        is_provider: false,
    }
}
