//! `tradewind provider`: the agent on this machine.

mod check;
mod earnings;
mod machine;
mod maintenance;
mod price;
mod setup;
mod trial;
mod unit;

use std::sync::Arc;

use agent::setup::standing;
use agent::steward::read_closed;
use market::{Millis, Timestamp};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::daemon::{self, Daemon};
use crate::error::{Failure, Result, exit};
use crate::output::Style;
use crate::session::{Session, block_on};
use crate::table::pairs;
use crate::words;

pub(crate) use check::gpus;
pub(crate) use setup::{
    ImageArgs, ImageFolder, Init, Lender, PROCESS_LOSS, RuntimeKind, choose_runtime, image_folder,
    open_runtime,
};

/// Lend this machine: set it up, run its agent, price, test, watch and maintain it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(Box<Init>),
    Start(Start),
    Status(Status),
    Price(price::Price),
    Machine(machine::Machine),
    Test(check::Test),
    Earnings(earnings::Earnings),
    Maintenance(maintenance::Maintenance),
    Drain(Drain),
    Resume(Resume),
    Unit(unit::Unit),
}

/// Which of this machine's agents is meant.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// Which of this machine's agents, where several run
    #[arg(long = "as", value_name = "LABEL", default_value = "this", value_parser = label)]
    pub(crate) label: String,
}

/// Run the agent until stopped; workloads go on without it and are taken up again
#[derive(Debug, clap::Args)]
struct Start {
    #[command(flatten)]
    which: Which,
    /// Tell Prometheus' metrics at this address, under /metrics
    #[arg(long, value_name = "HOST:PORT")]
    metrics: Option<std::net::SocketAddr>,
    #[command(flatten)]
    daemon: daemon::Args,
}

/// Show how the machine, its offers and leases stand, and what it earned
#[derive(Debug, clap::Args)]
struct Status {
    #[command(flatten)]
    which: Which,
}

/// Take the machine out of matching
///
/// Its leases run to their end, or end as drained after the time that --evict-after gives.
#[derive(Debug, clap::Args)]
struct Drain {
    #[command(flatten)]
    which: Which,
    /// End what still runs after this long
    #[arg(long, value_name = "TIME", value_parser = words::duration)]
    evict_after: Option<Millis>,
}

/// Put a drained machine back into matching
#[derive(Debug, clap::Args)]
struct Resume {
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<u8> {
    match &args.verb {
        Verb::Init(args) => setup::run(context, args),
        Verb::Start(args) => start(context, args),
        Verb::Status(args) => status(context, args),
        Verb::Price(args) => price::run(context, args),
        Verb::Machine(args) => machine::run(context, args),
        Verb::Test(args) => check::run(context, args),
        Verb::Earnings(args) => earnings::run(context, args),
        Verb::Maintenance(args) => maintenance::run(context, args),
        Verb::Unit(args) => unit::run(context, args),
        Verb::Drain(args) => drain(context, args),
        Verb::Resume(args) => resume(context, args),
    }
}

fn label(text: &str) -> Result<String, String> {
    let plain = text
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    if (1..=32).contains(&text.len()) && plain {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no label; use 1 to 32 of a-z, 0-9 and -"
    ))
}

fn start(context: &Context, args: &Start) -> Result<u8> {
    let mut lender = Lender::find(context, &args.which.label)?;
    let daemon = Daemon::begin(context, &lender.service(), &args.daemon)?;
    daemon.run(async {
        let runtime = lender.open_runtime().await?;
        // The ledger may say something else of this machine than it has now; an outage is no reason to stay away.
        if let Err(failure) = lender.bring_up_to_date(context, runtime.as_ref()).await {
            if failure.code() != "unreachable" {
                return Err(failure);
            }
            tracing::warn!("the node does not answer; going on with what was registered before");
        }
        let (bidding, steward) = lender.duties()?;
        let config = agent::Config {
            folder: lender.folder.clone(),
            gateway: context.endpoint()?.to_owned(),
            runtime,
            bind: lender.stored.bind(),
            images: lender.stored.images.clone(),
            gpus: Arc::new(setup::gpu_probe()?),
            bidding: Some(bidding),
            steward: Some(steward),
            metrics: args.metrics,
        };
        context.output.say(&format!(
            "{} provider {} lends this machine by the {} runtime",
            context.output.mark(Style::Good),
            lender.stored.name,
            lender.stored.runtime.word(),
        ));
        let shutdown = async {
            if let Err(failure) = daemon::stop_signal().await {
                tracing::error!("{}", failure.what());
            }
        };
        agent::run(config, shutdown)
            .await
            .map_err(|error| Failure::new("died", "the agent could not run").causes(&error))?;
        Ok(exit::DONE)
    })
}

/// Where a machine stands, as JSON.
#[derive(Debug, Serialize, Deserialize)]
struct StatusView {
    machine: api::MachineView,
    offers: Vec<api::OfferView>,
    leases: Vec<api::LeaseView>,
    provider: api::ProviderView,
    account: api::AccountView,
    /// Why the machine took itself out of matching, if it did.
    closed: Option<String>,
}

fn status(context: &Context, args: &Status) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let machine = lender.machine(session.network())?;
        let stands = standing(&session.client, machine)
            .await
            .map_err(setup::failed)?;
        let view = StatusView {
            leases: stands.leases.into_iter().map(|work| work.lease).collect(),
            machine: stands.machine,
            offers: stands.offers,
            provider: stands.provider,
            account: stands.account,
            closed: read_closed(&lender.folder).map(|why| why.to_string()),
        };
        let process = match lender.service().running()? {
            Some(pid) => format!("pid {pid}, log {}", lender.service().log().display()),
            None => "not running; start it: tradewind provider start".to_owned(),
        };
        context.output.thing(
            &view,
            &machine.to_string(),
            &lines(&view, process, session.status.now.0),
        )?;
        Ok(exit::DONE)
    })
}

fn lines(view: &StatusView, process: String, now: Timestamp) -> String {
    let machine = &view.machine;
    let beat = machine
        .last_beat
        .map_or_else(|| "never".to_owned(), |at| words::show_age(at.0, now));
    let devices: Vec<&str> = machine
        .devices
        .iter()
        .map(|device| device.model.as_str())
        .collect();
    let mut text = pairs(&[
        (
            "provider",
            format!("{} ({})", view.provider.name, view.provider.account),
        ),
        ("machine", machine.id.to_string()),
        (
            "state",
            view.closed.as_ref().map_or_else(
                || machine.state.clone(),
                |why| format!("{}: {why}", machine.state),
            ),
        ),
        ("last beat", beat),
        ("devices", devices.join(", ")),
        (
            "runtime",
            format!(
                "{}, isolation {}",
                machine.runtime,
                api::view::text::Text::to_text(&machine.isolation)
            ),
        ),
        ("offers", view.offers.len().to_string()),
        (
            "leases",
            format!(
                "{} live, {} ended, {} of them failed",
                view.leases.len(),
                view.provider.leases_ended,
                view.provider.leases_failed
            ),
        ),
        (
            "bond",
            format!(
                "{}, {} reserved",
                view.account.bonded, view.provider.reserved
            ),
        ),
        ("available", view.account.available.to_string()),
        ("locked", view.account.locked.to_string()),
        ("process", process),
    ]);
    if !view.leases.is_empty() {
        text.push('\n');
        text.push_str(&super::lease::table(&view.leases).render(None, true));
    }
    text
}

fn drain(context: &Context, args: &Drain) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let machine = lender.machine(session.network())?;
        let evict_at = args
            .evict_after
            .map(|after| session.status.now.0.after(after));
        let mut provider = lender.provider(context).await?;
        provider
            .drain(machine, evict_at)
            .await
            .map_err(setup::failed)?;
        context.output.say(&format!(
            "{machine} takes no more leases; put it back: tradewind provider resume"
        ));
        Ok(exit::DONE)
    })
}

fn resume(context: &Context, args: &Resume) -> Result<u8> {
    let lender = Lender::find(context, &args.which.label)?;
    block_on(async {
        let session = Session::open(context).await?;
        let machine = lender.machine(session.network())?;
        let mut provider = lender.provider(context).await?;
        provider.resume(machine).await.map_err(setup::failed)?;
        context.output.say(&format!("{machine} takes leases again"));
        Ok(exit::DONE)
    })
}
