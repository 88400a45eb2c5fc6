//! `tradewind offers`: what is for hire.

use api::{OfferFilter, OfferView, view::text::Text as _};
use market::{DeviceClass, Name};

use crate::commands::collect;
use crate::context::Context;
use crate::error::{Result, exit};
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, text};
use crate::words::{self, GpuNeed};

/// List what is for hire, cheapest first
///
/// Prices are per device and hour; a CPU slot is a device too. What a provider says of its machine is its own claim
/// until verification exists.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind offers\n  tradewind offers --gpu h100 --available -o wide"
)]
pub(crate) struct Args {
    /// Only this GPU model
    #[arg(long, value_name = "MODEL", value_parser = words::gpu)]
    gpu: Option<GpuNeed>,
    /// Only this tier: spot, on-demand or reserved
    #[arg(long, value_name = "TIER", value_parser = super::tier)]
    tier: Option<market::Tier>,
    /// Only this region
    #[arg(long, value_name = "REGION", value_parser = words::name)]
    region: Option<Name>,
    /// Only what can be had now
    #[arg(long)]
    available: bool,
    /// Go on after this cursor
    #[arg(long, value_name = "CURSOR", hide_short_help = true)]
    after: Option<String>,
}

const COLUMNS: &[Column] = &[
    text("OFFER", Keep::Always),
    text("DEVICE", Keep::Always),
    number("FREE", Keep::Always),
    number("$/DEVICE·H", Keep::Always),
    text("TIER", Keep::Until(3)),
    number("CORES", Keep::Until(5)),
    text("MEMORY", Keep::Until(4)),
    text("ISOLATION", Keep::Until(2)),
    text("PROVIDER", Keep::Until(1)),
    text("REGION", Keep::Until(6)),
    text("STATE", Keep::Until(7)),
    text("MACHINE", Keep::Wide),
    text("DISK", Keep::Wide),
    text("LONGEST", Keep::Wide),
    number("$/GIB·H", Keep::Wide),
    number("$/GIB OUT", Keep::Wide),
];

pub(crate) fn run(context: &Context, args: Args) -> Result<u8> {
    let filter = OfferFilter {
        model: args.gpu.and_then(|gpu| gpu.model),
        tier: args.tier,
        region: args.region,
        available: args.available,
        limit: page_limit(context),
        ..OfferFilter::default()
    };
    block_on(async {
        let session = Session::open(context).await?;
        let page = collect(context, args.after, async |after| {
            Ok(session
                .client
                .offers(&OfferFilter {
                    after,
                    ..filter.clone()
                })
                .await?)
        });
        let page = page.await?;
        context
            .output
            .list(&page, &page.items, &table(&page.items))?;
        Ok(exit::DONE)
    })
}

/// Asks the node for no more than is shown, unless all are sorted first.
fn page_limit(context: &Context) -> Option<u32> {
    let limit = context.output.limit().filter(|_| !context.output.sorts())?;
    u32::try_from(limit).ok()
}

/// Returns the offers as a table.
pub(crate) fn table(offers: &[OfferView]) -> Table {
    let mut table = Table::new(
        COLUMNS,
        "nothing is for hire; lend this machine: tradewind provider init",
    );
    for offer in offers {
        let prices = &offer.prices;
        table.row(
            offer.id.to_string(),
            vec![
                offer.id.to_string(),
                device(offer),
                format!("{}/{}", offer.devices_free, offer.devices.len()),
                words::show_amount(prices.per_device_hour.0),
                offer.tier.to_text(),
                words::show_cores(offer.cpu_milli),
                words::show_size(offer.memory_bytes),
                offer.isolation.to_text(),
                offer
                    .provider_name
                    .as_ref()
                    .map_or_else(|| offer.provider.to_string(), ToString::to_string),
                offer
                    .region
                    .as_ref()
                    .map_or_else(|| "–".to_owned(), ToString::to_string),
                offer.machine_state.clone(),
                offer.machine.to_string(),
                words::show_size(offer.disk_bytes),
                words::show_duration(market::Millis::from_millis(offer.term_max_ms)),
                words::show_amount(prices.per_gib_hour.0),
                words::show_amount(prices.per_gib_out.0),
            ],
        );
    }
    table
}

fn device(offer: &OfferView) -> String {
    match offer.class {
        DeviceClass::Cpu => "CPU slot".to_owned(),
        DeviceClass::Nvidia | DeviceClass::Amd | DeviceClass::Intel => {
            format!("{} {}", offer.model, words::show_size(offer.vram_bytes))
        }
    }
}
