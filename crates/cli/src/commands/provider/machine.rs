//! `tradewind provider machine`: a provider's machines, as the ledger has them.

use agent::steward::{Closed, read_closed};
use api::MachineView;
use api::view::text::Text as _;
use market::{AccountId, MachineId, Timestamp};
use serde::Serialize;

use super::{Lender, Which, setup};
use crate::context::Context;
use crate::error::{Failure, Result, exit};
use crate::session::{Session, block_on};
use crate::table::{Column, Keep, Table, number, pairs, text};
use crate::words;

/// Pages of machines that are read; a provider has at most some thousands.
const PAGES_MAX: usize = 64;

/// Show a provider's machines: list, show
#[derive(Debug, clap::Args)]
pub(super) struct Machine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    List(List),
    Show(Show),
}

/// List every machine of the account that an agent of this machine lends for
#[derive(Debug, clap::Args)]
struct List {
    #[command(flatten)]
    which: Which,
}

/// Show one machine with its devices, offers and leases
#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    which: Which,
    /// Its id; by default that of the agent
    #[arg(value_name = "MACHINE")]
    machine: Option<MachineId>,
}

pub(super) fn run(context: &Context, args: &Machine) -> Result<u8> {
    match &args.verb {
        Verb::List(args) => list(context, args),
        Verb::Show(args) => show(context, args),
    }
}

const COLUMNS: &[Column] = &[
    text("MACHINE", Keep::Always),
    text("STATE", Keep::Always),
    text("DEVICES", Keep::Always),
    text("LAST BEAT", Keep::Until(3)),
    number("CORES", Keep::Until(5)),
    text("MEMORY", Keep::Until(4)),
    text("RUNTIME", Keep::Until(2)),
    text("REGION", Keep::Until(6)),
    text("HERE", Keep::Until(1)),
];

#[derive(Debug, Serialize)]
struct ListView<'a> {
    items: &'a [MachineView],
}

fn list(context: &Context, args: &List) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let account = lender.provider(context).await?.account();
        let machines = all(&session, &account).await?;
        let here = here(context, &session);
        let now = session.status.now.0;
        let mut table = Table::new(COLUMNS, "no machine yet: tradewind provider init");
        for machine in &machines {
            let label = here.iter().find(|(id, _)| *id == machine.id);
            table.row(
                machine.id.to_string(),
                row(machine, label.map(|(_, label)| label), now),
            );
        }
        context
            .output
            .list(&ListView { items: &machines }, &machines, &table)?;
        Ok(exit::DONE)
    })
}

/// Returns the machines of this computer's agents, with their labels.
fn here(context: &Context, session: &Session) -> Vec<(MachineId, String)> {
    let labels = Lender::labels(context).into_iter();
    let found = labels.filter_map(|label| {
        let lender = Lender::find(context, &label).ok()?;
        Some((lender.machine(session.network()).ok()?, label))
    });
    found.collect()
}

async fn all(session: &Session, account: &AccountId) -> Result<Vec<MachineView>> {
    let (mut all, mut after) = (Vec::new(), None);
    for _page in 0..PAGES_MAX {
        let page = session
            .client
            .machines(Some(account), after.as_deref())
            .await?;
        all.extend(page.items);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(all)
}

fn row(machine: &MachineView, label: Option<&String>, now: Timestamp) -> Vec<String> {
    let none = || "–".to_owned();
    vec![
        machine.id.to_string(),
        machine.state.clone(),
        devices(machine),
        machine
            .last_beat
            .map_or_else(|| "never".to_owned(), |at| words::show_age(at.0, now)),
        words::show_cores(machine.cpu_milli),
        words::show_size(machine.memory_bytes),
        machine.runtime.to_string(),
        machine
            .region
            .as_ref()
            .map_or_else(none, ToString::to_string),
        label.cloned().unwrap_or_else(none),
    ]
}

/// Names devices by model and number: `h100 ×8`, `cpu ×2`.
fn devices(machine: &MachineView) -> String {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for device in &machine.devices {
        *counts.entry(device.model.as_str()).or_default() += 1;
    }
    let words: Vec<String> = counts
        .into_iter()
        .map(|(model, count)| format!("{model} ×{count}"))
        .collect();
    words.join(", ")
}

#[derive(Debug, Serialize)]
struct ShowView {
    machine: MachineView,
    offers: Vec<api::OfferView>,
    leases: Vec<api::LeaseView>,
    /// Why the machine took itself out of matching, if it did and is this computer.
    closed: Option<String>,
    /// Whether the driver of its GPUs does not answer, so that nobody can say how they are.
    suspect: bool,
}

fn show(context: &Context, args: &Show) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let machine = match args.machine {
            Some(machine) => machine,
            None => lender.machine(session.network())?,
        };
        let stands = agent::setup::standing(&session.client, machine)
            .await
            .map_err(setup::failed)?;
        if stands.machine.provider != lender.provider(context).await?.account() {
            let what = format!("{machine} is another provider's");
            return Err(Failure::new("not-provider", what)
                .hint("see yours: tradewind provider machine list"));
        }
        let label = here(context, &session)
            .into_iter()
            .find(|(id, _)| *id == machine);
        let closed = label
            .and_then(|(_, label)| Lender::find(context, &label).ok())
            .and_then(|lender| read_closed(&lender.folder));
        let view = ShowView {
            suspect: matches!(closed, Some(Closed::Driver { .. })),
            closed: closed.map(|why| why.to_string()),
            machine: stands.machine,
            offers: stands.offers,
            leases: stands.leases.into_iter().map(|work| work.lease).collect(),
        };
        let text = lines(&view, session.status.now.0);
        context.output.thing(&view, &machine.to_string(), &text)?;
        Ok(exit::DONE)
    })
}

fn lines(view: &ShowView, now: Timestamp) -> String {
    let machine = &view.machine;
    let none = || "–".to_owned();
    let mut rows = vec![
        ("machine", machine.id.to_string()),
        (
            "state",
            view.closed.as_ref().map_or_else(
                || machine.state.clone(),
                |why| format!("{}: {why}", machine.state),
            ),
        ),
        (
            "last beat",
            machine
                .last_beat
                .map_or_else(|| "never".to_owned(), |at| words::show_age(at.0, now)),
        ),
        (
            "for leases",
            format!(
                "{} cores, {} memory, {} disk",
                words::show_cores(machine.cpu_milli),
                words::show_size(machine.memory_bytes),
                words::show_size(machine.disk_bytes),
            ),
        ),
        (
            "runtime",
            format!(
                "{}, isolation {}",
                machine.runtime,
                machine.isolation.to_text()
            ),
        ),
        (
            "region",
            machine
                .region
                .as_ref()
                .map_or_else(none, ToString::to_string),
        ),
        ("fails with", machine.failure_domain.to_string()),
        (
            "reached at",
            machine
                .dial
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        ),
    ];
    rows.extend(devices_in_use(view));
    let mut text = pairs(&rows);
    text.push('\n');
    text.push_str(&crate::commands::offers::table(&view.offers).render(None, true));
    if !view.leases.is_empty() {
        text.push('\n');
        text.push_str(&crate::commands::lease::table(&view.leases).render(None, true));
    }
    text
}

fn devices_in_use(view: &ShowView) -> Vec<(&'static str, String)> {
    let row = |device: &api::DeviceView| {
        let memory = if device.vram_bytes == 0 {
            String::new()
        } else {
            format!(", {}", words::show_size(device.vram_bytes))
        };
        let busy = view
            .leases
            .iter()
            .find(|lease| lease.devices.contains(&device.index));
        let suspect = view.suspect && device.class != market::DeviceClass::Cpu;
        let use_ = busy.map_or_else(
            || if suspect { "suspect" } else { "free" }.to_owned(),
            |lease| lease.id.to_string(),
        );
        (
            "device",
            format!("{} {}{memory}: {use_}", device.index, device.model),
        )
    };
    view.machine.devices.iter().map(row).collect()
}
