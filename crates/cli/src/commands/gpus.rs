//! `tradewind gpus`: which GPU models are for hire, at what prices.

use std::collections::{BTreeMap, BTreeSet};

use api::{MoneyView, OfferFilter, OfferView, Page};
use market::DeviceClass;
use serde::Serialize;

use crate::context::Context;
use crate::error::{Failure, Result, exit, nearest};
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::words;

/// Pages of offers looked at: ten thousand offers tell the range of prices.
const PAGES_MAX: usize = 100;

/// List GPU models for hire, with prices and how many are free
///
/// One row a model and memory size. Prices are per device and hour, over all tiers.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind gpus\n  tradewind gpus h100\n  tradewind gpus -o json"
)]
pub(crate) struct Args {
    /// Only this model
    #[arg(value_name = "MODEL")]
    model: Option<String>,
}

/// A GPU model for hire; `-o json` prints a page of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct ModelView {
    model: String,
    vram_bytes: u64,
    devices: u64,
    free: u64,
    machines: usize,
    providers: usize,
    price_min: MoneyView,
    price_max: MoneyView,
}

const COLUMNS: &[Column] = &[
    text("MODEL", Keep::Always),
    text("MEMORY", Keep::Always),
    number("FREE", Keep::Always),
    number("OFFERED", Keep::Until(3)),
    number("FROM $/DEVICE·H", Keep::Always),
    number("TO $/DEVICE·H", Keep::Until(2)),
    number("MACHINES", Keep::Until(4)),
    number("PROVIDERS", Keep::Until(1)),
];

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    block_on(async {
        let session = Session::open(context).await?;
        let mut models = models(&offers(&session).await?);
        if let Some(wanted) = &args.model {
            let wanted = words::canonical_model(wanted);
            let known: BTreeSet<String> = models.iter().map(|row| row.model.clone()).collect();
            models.retain(|row| row.model == wanted);
            if models.is_empty() {
                return Err(unknown(&wanted, &known));
            }
        }
        let page = Page::only(models);
        context
            .output
            .list(&page, &page.items, &table(&page.items))?;
        Ok(exit::DONE)
    })
}

fn unknown(wanted: &str, known: &BTreeSet<String>) -> Failure {
    let failure = Failure::new("no-match", format!("no {wanted} is for hire"));
    match nearest(wanted, known.iter().map(String::as_str)) {
        Some(model) => failure.hint(format!("did you mean: tradewind gpus {model}")),
        None => failure.hint("see all models: tradewind gpus"),
    }
}

async fn offers(session: &Session) -> Result<Vec<OfferView>> {
    let mut all = Vec::new();
    let mut filter = OfferFilter::default();
    for _page in 0..PAGES_MAX {
        let page = session.client.offers(&filter).await?;
        all.extend(page.items);
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    Ok(all)
}

/// Sums up offers by model and memory. A device that stands in two offers is counted in both: how many are free is
/// asked of each machine only once.
fn models(offers: &[OfferView]) -> Vec<ModelView> {
    let mut groups: BTreeMap<(&str, u64), Vec<&OfferView>> = BTreeMap::new();
    for offer in offers.iter().filter(|o| o.class != DeviceClass::Cpu) {
        let key = (offer.model.as_str(), offer.vram_bytes);
        groups.entry(key).or_default().push(offer);
    }
    let rows = groups.into_iter().map(|((model, vram_bytes), offers)| {
        let mut by_machine: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for offer in &offers {
            let (devices, free) = by_machine.entry(offer.machine).or_default();
            *devices = (*devices).max(u64::try_from(offer.devices.len()).unwrap_or(u64::MAX));
            let takes = offer.machine_state == "active";
            *free = (*free).max(if takes {
                u64::from(offer.devices_free)
            } else {
                0
            });
        }
        let price = |offer: &&OfferView| offer.prices.per_device_hour;
        let providers: BTreeSet<_> = offers.iter().map(|offer| offer.provider).collect();
        ModelView {
            model: model.to_owned(),
            vram_bytes,
            devices: by_machine.values().map(|(devices, _)| devices).sum(),
            free: by_machine.values().map(|(_, free)| free).sum(),
            machines: by_machine.len(),
            providers: providers.len(),
            price_min: offers.iter().map(price).min().unwrap_or_default(),
            price_max: offers.iter().map(price).max().unwrap_or_default(),
        }
    });
    rows.collect()
}

fn table(models: &[ModelView]) -> Table {
    let mut table = Table::new(COLUMNS, "no GPU is for hire; see what is: tradewind offers");
    for row in models {
        table.row(
            row.model.clone(),
            vec![
                row.model.clone(),
                words::show_size(row.vram_bytes),
                row.free.to_string(),
                row.devices.to_string(),
                words::show_amount(row.price_min.0),
                words::show_amount(row.price_max.0),
                row.machines.to_string(),
                row.providers.to_string(),
            ],
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_summed_up_without_counting_a_machine_twice() {
        let page: Page<OfferView> =
            serde_json::from_str(include_str!("../../tests/fixtures/offers.json")).unwrap();
        assert!(models(&page.items).is_empty(), "CPU slots are no GPUs");
        let mut offers = page.items;
        for offer in &mut offers {
            offer.class = DeviceClass::Nvidia;
            offer.model = market::Name::parse("h100").unwrap();
            offer.vram_bytes = 80 << 30;
            "active".clone_into(&mut offer.machine_state);
        }
        let mut spot = offers[0].clone();
        spot.prices.per_device_hour = MoneyView(market::Money::from_micros(1));
        offers.push(spot);
        let rows = models(&offers);
        assert_eq!(rows.len(), 1);
        let machines: BTreeSet<_> = offers.iter().map(|offer| offer.machine).collect();
        assert_eq!(rows[0].machines, machines.len());
        assert_eq!(rows[0].price_min.0.micros(), 1);
        assert!(rows[0].free <= rows[0].devices);
        let text = table(&rows).render(None, true);
        assert!(text.contains("h100") && text.contains("80 GiB"), "{text}");
    }
}
