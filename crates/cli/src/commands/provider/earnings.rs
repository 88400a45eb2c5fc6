//! `tradewind provider earnings`: what a provider's ended leases brought.

use std::collections::BTreeMap;

use api::{EventFilter, EventKindView, EventView};
use market::{Millis, Money, Timestamp};
use serde::Serialize;

use super::{Lender, Which};
use crate::context::Context;
use crate::error::{Result, exit};
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::words;

/// Pages of events that are read: at some hundred events each, several years of a busy machine.
const PAGES_MAX: usize = 1_000;

/// Show what ended leases brought, by day, machine or job
///
/// A lease counts on the day on which it ended, and in the time given. What is still locked until its audit counts too.
#[derive(Debug, clap::Args)]
pub(super) struct Earnings {
    #[command(flatten)]
    which: Which,
    /// What to add up by
    #[arg(long, value_enum, default_value_t = By::Day)]
    by: By,
    /// Only leases that ended in this time before now
    #[arg(long, value_name = "TIME", value_parser = words::duration, default_value = "30d")]
    since: Millis,
}

/// What is added up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Day,
    Machine,
    Job,
}

/// What some leases brought.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Sum {
    leases: u64,
    /// Device time charged.
    device_ms: u64,
    charged_micros: u64,
    fee_micros: u64,
    earned_micros: u64,
    /// Taken from the bond.
    forfeited_micros: u64,
}

#[derive(Debug, Serialize)]
struct Row {
    /// The day in UTC, the machine or the job.
    key: String,
    #[serde(flatten)]
    sum: Sum,
}

#[derive(Debug, Serialize)]
struct EarningsView {
    by: &'static str,
    items: Vec<Row>,
    total: Sum,
    /// Whether older leases were left out because there are too many.
    cut: bool,
}

pub(super) fn run(context: &Context, args: &Earnings) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let account = lender.provider(context).await?.account();
        let from = session.status.now.0.before(args.since);
        let filter = EventFilter {
            kinds: vec!["lease-ended".to_owned()],
            ..EventFilter::account(account)
        };
        let (mut sums, mut total) = (BTreeMap::<String, Sum>::new(), Sum::default());
        let (mut after, mut cut) = (None, true);
        for _page in 0..PAGES_MAX {
            let page = session.client.event_page(after, &filter).await?;
            for event in page.items {
                if let Some((key, sum)) = earned(&event, args.by, account, from) {
                    total.add(&sum);
                    sums.entry(key).or_default().add(&sum);
                }
            }
            after = page.next.and_then(|next| next.parse().ok());
            if after.is_none() {
                cut = false;
                break;
            }
        }
        let items = sums.into_iter().map(|(key, sum)| Row { key, sum });
        let view = EarningsView {
            by: args.by.word(),
            items: items.collect(),
            total,
            cut,
        };
        show(context, args.by, &view)
    })
}

fn show(context: &Context, by: By, view: &EarningsView) -> Result<u8> {
    let mut table = Table::new(by.columns(), "no lease has ended in this time");
    for row in &view.items {
        table.row(row.key.clone(), cells(&row.key, &row.sum));
    }
    if view.items.len() > 1 {
        table.row("total", cells("total", &view.total));
    }
    context.output.list(view, &view.items, &table)?;
    if view.cut {
        context
            .output
            .warn("there are more leases than could be read; ask for less: --since 7d");
    }
    Ok(exit::DONE)
}

/// Returns what an event adds, and to what.
fn earned(
    event: &EventView,
    by: By,
    account: market::AccountId,
    from: Timestamp,
) -> Option<(String, Sum)> {
    let EventKindView::LeaseEnded {
        job,
        provider,
        machine,
        bill,
        ..
    } = &event.kind
    else {
        return None;
    };
    // The account's own hirings are events of its too.
    if *provider != account || event.time.0 < from {
        return None;
    }
    let key = match by {
        By::Day => event
            .time
            .to_string()
            .chars()
            .take("2026-11-23".len())
            .collect(),
        By::Machine => machine.to_string(),
        By::Job => job.to_string(),
    };
    let sum = Sum {
        leases: 1,
        device_ms: bill.elapsed_ms,
        charged_micros: bill.charged.0.micros(),
        fee_micros: bill.fee.0.micros(),
        earned_micros: bill.to_provider.0.micros(),
        forfeited_micros: bill.forfeited.0.micros(),
    };
    Some((key, sum))
}

impl Sum {
    fn add(&mut self, other: &Self) {
        let pairs = [
            (&mut self.leases, other.leases),
            (&mut self.device_ms, other.device_ms),
            (&mut self.charged_micros, other.charged_micros),
            (&mut self.fee_micros, other.fee_micros),
            (&mut self.earned_micros, other.earned_micros),
            (&mut self.forfeited_micros, other.forfeited_micros),
        ];
        for (to, amount) in pairs {
            *to = to.saturating_add(amount);
        }
    }
}

fn cells(key: &str, sum: &Sum) -> Vec<String> {
    let dollars = |micros| Money::from_micros(micros).to_string();
    vec![
        key.to_owned(),
        sum.leases.to_string(),
        words::show_duration(Millis::from_millis(sum.device_ms)),
        dollars(sum.charged_micros),
        dollars(sum.fee_micros),
        dollars(sum.earned_micros),
        dollars(sum.forfeited_micros),
    ]
}

const fn columns(head: &'static str) -> [Column; 7] {
    [
        text(head, Keep::Always),
        number("LEASES", Keep::Until(1)),
        number("TIME", Keep::Until(2)),
        number("CHARGED", Keep::Until(3)),
        number("FEE", Keep::Until(4)),
        number("EARNED", Keep::Always),
        number("FORFEITED", Keep::Until(5)),
    ]
}

impl By {
    const fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Machine => "machine",
            Self::Job => "job",
        }
    }

    const fn columns(self) -> &'static [Column] {
        const DAY: &[Column] = &columns("DAY");
        const MACHINE: &[Column] = &columns("MACHINE");
        const JOB: &[Column] = &columns("JOB");
        match self {
            Self::Day => DAY,
            Self::Machine => MACHINE,
            Self::Job => JOB,
        }
    }
}
