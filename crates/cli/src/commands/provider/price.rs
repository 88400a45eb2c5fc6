//! `tradewind provider price`: what this machine is lent for.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use agent::pricing::{DeviceKind, Line, Policy, file};
use agent::setup::standing;
use market::{Rate, Tier};
use serde::{Deserialize, Serialize};

use super::{Lender, Which, setup};
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::files;
use crate::output::Style;
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::words;

/// Its name in the agent's folder.
pub(super) const FILE: &str = "pricing.yaml";

/// What this machine is lent for: show, check, set
///
/// Prices are in a YAML file that may also be edited by hand; a running agent takes a change within half a minute.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The file, which `tradewind provider price show` names:\n  \
    prices:\n    \
    - device: any         # any, cpu, gpu, or a model such as h100; the most specific counts\n      \
    tier: on-demand     # spot, on-demand or reserved\n      \
    target: 0.10        # dollars per device and hour that the standing offer asks for\n      \
    floor: 0.08         # never less; left out, the target, and then there are no bids\n      \
    undercut: 10%       # how far below the target it bids\n      \
    storage: 0.0001     # dollars per GiB kept and hour\n      \
    egress: 0.01        # dollars per GiB sent out"
)]
pub(super) struct Price {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Show(Show),
    Check(Check),
    Set(Set),
}

/// Show the prices, what it would bid, and the offers that stand
#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    which: Which,
}

/// Read a pricing file and say what is wrong with it, at which line and column
#[derive(Debug, clap::Args)]
struct Check {
    #[command(flatten)]
    which: Which,
    /// The file; by default the one that the agent reads
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Set the price of a kind of device in a tier; the rest of the file stays as it is
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind provider price set 0.12 --floor 0.09\n  \
    tradewind provider price set 1.90 --floor 1.40 --device h100 --tier spot"
)]
struct Set {
    /// Dollars per device and hour that the standing offer asks for
    #[arg(value_name = "DOLLARS", value_parser = words::rate)]
    target: Rate,
    /// Least dollars per device and hour; without it there are no bids below the target
    #[arg(long, value_name = "DOLLARS", value_parser = words::rate)]
    floor: Option<Rate>,
    /// any, cpu, gpu, or a model such as h100; of several prices the most specific counts
    #[arg(long, value_name = "KIND", default_value = "any", value_parser = device)]
    device: DeviceKind,
    /// In which tier
    #[arg(long, value_name = "TIER", default_value = "on-demand", value_parser = crate::commands::tier)]
    tier: Tier,
    #[command(flatten)]
    which: Which,
}

fn device(text: &str) -> std::result::Result<DeviceKind, String> {
    DeviceKind::parse(text)
        .ok_or_else(|| format!("{text:?} is no kind of device; use any, cpu, gpu or a model"))
}

pub(super) fn run(context: &Context, args: &Price) -> Result<u8> {
    match &args.verb {
        Verb::Show(args) => show(context, &args.which.label),
        Verb::Check(args) => check(context, args),
        Verb::Set(args) => set_price(context, args),
    }
}

/// One price, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct PriceView {
    device: String,
    tier: String,
    target_micros_per_device_hour: u64,
    floor_micros_per_device_hour: u64,
    /// What it bids; null where it does not.
    bid_micros_per_device_hour: Option<u64>,
    /// The standing offer that asks for it, where one does.
    offer: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PricesView {
    file: String,
    items: Vec<PriceView>,
}

const COLUMNS: &[Column] = &[
    text("DEVICE", Keep::Always),
    text("TIER", Keep::Always),
    number("TARGET", Keep::Always),
    number("FLOOR", Keep::Always),
    number("BID", Keep::Until(2)),
    text("OFFER", Keep::Until(1)),
];

fn show(context: &Context, label: &str) -> Result<u8> {
    let lender = Lender::find(context, label)?;
    let policy = lender.policy()?;
    let offers = block_on(offers(context, &lender));
    if let Err(failure) = &offers {
        context
            .output
            .warn(&format!("its offers cannot be shown: {}", failure.what()));
    }
    let offers = offers.unwrap_or_default();
    let items: Vec<PriceView> = policy
        .lines
        .iter()
        .map(|line| view(line, &offers))
        .collect();
    let view = PricesView {
        file: lender.folder.join(FILE).display().to_string(),
        items,
    };
    let mut table = Table::new(
        COLUMNS,
        "no price is set: tradewind provider price set 0.10",
    );
    for item in &view.items {
        let show = |micros: u64| words::show_amount(market::Money::from_micros(micros));
        let none = || "–".to_owned();
        table.row(
            format!("{} {}", item.device, item.tier),
            vec![
                item.device.clone(),
                item.tier.clone(),
                show(item.target_micros_per_device_hour),
                show(item.floor_micros_per_device_hour),
                item.bid_micros_per_device_hour.map_or_else(none, show),
                item.offer.clone().unwrap_or_else(none),
            ],
        );
    }
    context.output.list(&view, &view.items, &table)?;
    Ok(exit::DONE)
}

fn view(line: &Line, offers: &[api::OfferView]) -> PriceView {
    let asks = |offer: &&api::OfferView| {
        offer.tier == line.tier
            && offer.prices.per_device_hour.0.micros() == line.target.micros_per_hour()
    };
    PriceView {
        device: line.device.to_string(),
        tier: file::tier_word(line.tier),
        target_micros_per_device_hour: line.target.micros_per_hour(),
        floor_micros_per_device_hour: line.floor.micros_per_hour(),
        bid_micros_per_device_hour: line.bid().map(Rate::micros_per_hour),
        offer: offers.iter().find(asks).map(|offer| offer.id.to_string()),
    }
}

async fn offers(context: &Context, lender: &Lender) -> Result<Vec<api::OfferView>> {
    let session = Session::open(context).await?;
    let machine = lender.machine(session.network())?;
    Ok(standing(&session.client, machine)
        .await
        .map_err(setup::failed)?
        .offers)
}

fn check(context: &Context, args: &Check) -> Result<u8> {
    let path = match &args.file {
        Some(path) => path.clone(),
        None => Lender::find(context, &args.which.label)?.folder.join(FILE),
    };
    let policy = read_given(&path)?;
    let output = &context.output;
    let bids = policy.lines.iter().filter(|line| line.bid().is_some());
    output.say(&format!(
        "{} {} is well: {} prices, {} of them with bids below the target",
        output.mark(Style::Good),
        path.display(),
        policy.lines.len(),
        bids.count(),
    ));
    Ok(exit::DONE)
}

/// Reads a pricing file that must be there.
pub(super) fn read_given(path: &Path) -> Result<Policy> {
    read(path)?.ok_or_else(|| {
        Failure::new(
            "bad-pricing-file",
            format!("there is no {}", path.display()),
        )
    })
}

fn set_price(context: &Context, args: &Set) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    let path = lender.folder.join(FILE);
    let before = match read_text(&path)? {
        Some(text) => text,
        None => file::write(&lender.policy()?),
    };
    let changed = file::set(&before, &args.device, args.tier, args.target, args.floor);
    let changed = changed.map_err(|error| bad_file(&path, &error))?;
    files::write_private(&path, changed.as_bytes())?;
    let output = &context.output;
    let price = words::show_amount(market::Money::from_micros(args.target.micros_per_hour()));
    output.say(&format!(
        "{} {} in {} is lent for ${price}/h",
        output.mark(Style::Good),
        args.device,
        file::tier_word(args.tier),
    ));
    let hint = if lender.service().running()?.is_some() {
        "the running agent takes it within half a minute"
    } else {
        "it counts from the next start: tradewind provider start"
    };
    output.say(hint);
    Ok(exit::DONE)
}

/// Reads a pricing file; `None` where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Policy>> {
    match read_text(path)? {
        Some(text) => {
            let policy = file::parse(&text).map_err(|error| bad_file(path, &error))?;
            Ok(Some(policy))
        }
        None => Ok(None),
    }
}

/// Reads the file's text, no more of it than can be one; `None` where there is none.
pub(super) fn read_text(path: &Path) -> Result<Option<String>> {
    let limit = u64::try_from(file::FILE_BYTES_MAX).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(io_failure("read", path))?,
    };
    String::from_utf8(bytes).map(Some).map_err(|_| {
        let what = format!("{} is no text in UTF-8", path.display());
        Failure::new("bad-pricing-file", what)
    })
}

/// Says what is wrong with the file, and where.
pub(super) fn bad_file(path: &Path, error: &file::BadPricing) -> Failure {
    let mut failure = Failure::new("bad-pricing-file", format!("{}:{error}", path.display()));
    for line in error.excerpt.lines() {
        failure = failure.detail(line);
    }
    match &error.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
