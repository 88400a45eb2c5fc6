//! Making this machine a provider's: what is stored of it, its runtime, and what the ledger shall say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::images::{Allowed, ImagePolicy};
use agent::inventory::{ChildProbe, Listing, Offered, measure};
use agent::journal::Journal;
use agent::pricing::{DeviceKind, Line, Policy, file};
use agent::setup::{Plan, Provider, Ready, SetupError};
use agent::steward::{Stewarding, Wishes};
use api::Client;
use market::{BasisPoints, MachineId, Money, Name, NetworkName, Rate, Tier};
use net::{BindOptions, Endpoint, Services};
use runtime::{Capabilities, EngineConfig, EngineRuntime, LocalConfig, LocalRuntime, Runtime};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Which, maintenance, price};
use crate::context::Context;
use crate::error::{Failure, Result, exit, io_failure};
use crate::files;
use crate::output::Style;
use crate::service::Service;
use crate::session::{Session, block_on};
use crate::wallet::Wallet;
use crate::words;

/// What runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RuntimeKind {
    /// Containers with limits, as root.
    Embedded,
    /// The same containers, made by the runc of this machine.
    Runc,
    /// Containers of a podman or Docker that runs here, by its socket.
    Engine,
    /// Plain namespaces without limits, for trying it out without root.
    Process,
}

impl RuntimeKind {
    /// Returns its word.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Runc => "runc",
            Self::Engine => "engine",
            Self::Process => "process",
        }
    }
}

/// Make this machine a provider's: measure it, post the bond, register it and place its offers
///
/// May be run again: only what differs changes. The account needs money for the bond first. Set --share and --slots
/// lower where others use the machine too.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tradewind provider init --name atlas --price 0.25\n  tradewind provider start"
)]
pub(crate) struct Init {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The name that tenants see
    #[arg(long, value_name = "NAME", value_parser = words::name)]
    pub(crate) name: Option<Name>,
    /// What runs containers; by default embedded as root, else process
    #[arg(long, value_name = "RUNTIME", value_enum)]
    pub(crate) runtime: Option<RuntimeKind>,
    /// How many leases a machine without GPUs takes side by side
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) slots: u8,
    /// Lend CPU slots only, for example where another agent of this machine lends the GPUs
    #[arg(long)]
    pub(crate) no_gpus: bool,
    /// Percent of processor, memory and disk that is for leases
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) share: u16,
    /// Dollars per device and hour; by default 0.10 for CPU slots, or what the pricing file says
    #[arg(long, value_name = "DOLLARS", value_parser = words::rate)]
    pub(crate) price: Option<Rate>,
    /// Least dollars per device and hour: orders that collect bids get one below the price, never below this
    ///
    /// By default the price itself, and then there are no bids.
    #[arg(long, value_name = "DOLLARS", value_parser = words::rate, requires = "price")]
    pub(crate) floor: Option<Rate>,
    /// Tiers that the price is for, repeatable; by default on-demand
    #[arg(long, value_name = "TIER", value_parser = crate::commands::tier, requires = "price")]
    pub(crate) tier: Vec<Tier>,
    /// Pricing file: prices by device and tier; replaces what was set before
    #[arg(long, value_name = "FILE", conflicts_with = "price")]
    pub(crate) pricing: Option<PathBuf>,
    /// Bond that it shall have at least: it answers for leases
    #[arg(long, value_name = "DOLLARS", default_value = "10", value_parser = words::money)]
    pub(crate) bond: Money,
    /// Region of the machine
    #[arg(long, value_name = "REGION", value_parser = words::name)]
    pub(crate) region: Option<Name>,
    /// UDP port where tenants reach it; 0 takes a free one and keeps it
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
    /// Reachable from this machine only
    #[arg(long)]
    pub(crate) loopback: bool,
    #[command(flatten)]
    pub(crate) images: ImageArgs,
    /// The account's key, whatever flags and environment say
    #[arg(skip)]
    pub(crate) key_file: Option<PathBuf>,
}

/// Which images tenants may name.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ImageArgs {
    /// Folder of this machine that tenants may name as oci:DIR, with all in it; repeatable; none by default
    ///
    /// The word any allows every folder, the word none takes back what was allowed before.
    #[arg(long = "image-folder", value_name = "DIR", value_parser = image_folder, help_heading = "Images")]
    pub(crate) folders: Vec<ImageFolder>,
    /// Registry that tenants may name although its address is private, repeatable; public ones are allowed by default
    #[arg(long = "registry", value_name = "HOST[:PORT]", value_parser = registry, help_heading = "Images")]
    pub(crate) registries: Vec<String>,
    /// Registry that tenants may not name, repeatable; the word all leaves only those of --registry
    #[arg(long = "deny-registry", value_name = "HOST[:PORT]", value_parser = registry, help_heading = "Images")]
    pub(crate) denied: Vec<String>,
    /// What counts where nothing is said and nothing is stored
    #[arg(skip)]
    pub(crate) otherwise: ImagePolicy,
}

/// What `--image-folder` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ImageFolder {
    /// Every folder.
    Any,
    /// None of them.
    None,
    /// This one.
    Dir(PathBuf),
}

/// Reads what `--image-folder` says.
pub(crate) fn image_folder(text: &str) -> std::result::Result<ImageFolder, String> {
    match text {
        "any" => Ok(ImageFolder::Any),
        "none" => Ok(ImageFolder::None),
        dir => {
            let path = Path::new(dir);
            let found = path
                .canonicalize()
                .map_err(|error| format!("{dir}: {error}"))?;
            if found.is_dir() {
                // The name that was given, so that tenants may use it; links in it are followed when it is used.
                std::path::absolute(path)
                    .map(ImageFolder::Dir)
                    .map_err(|error| format!("{dir}: {error}"))
            } else {
                Err(format!("{dir} is no folder"))
            }
        }
    }
}

fn registry(text: &str) -> std::result::Result<String, String> {
    let plain = text
        .bytes()
        .all(|c| c.is_ascii_alphanumeric() || b".:-[]".contains(&c));
    if (1..=255).contains(&text.len()) && plain {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no HOST[:PORT]"))
}

impl ImageArgs {
    /// Returns what shall be allowed: what is said here, else what was stored.
    fn policy(&self, before: Option<&ImagePolicy>) -> ImagePolicy {
        let mut policy = before.unwrap_or(&self.otherwise).clone();
        if !self.folders.is_empty() {
            let dirs = self.folders.iter().filter_map(|folder| match folder {
                ImageFolder::Dir(dir) => Some(dir.display().to_string()),
                ImageFolder::Any | ImageFolder::None => None,
            });
            policy.folders = if self.folders.contains(&ImageFolder::Any) {
                Allowed::Any
            } else {
                Allowed::Listed(dirs.collect())
            };
        }
        if !self.registries.is_empty() {
            policy.registries = Allowed::Listed(self.registries.clone());
        }
        if !self.denied.is_empty() {
            let (all, some): (Vec<&String>, Vec<&String>) =
                self.denied.iter().partition(|rule| *rule == "all");
            policy.only_listed_registries = !all.is_empty();
            policy.denied_registries = some.into_iter().cloned().collect();
        }
        policy
    }
}

/// What is stored of an agent of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stored {
    /// The name that tenants see.
    pub(crate) name: String,
    /// The account's key.
    pub(crate) key_file: PathBuf,
    /// What runs containers.
    pub(crate) runtime: RuntimeKind,
    slots: u8,
    #[serde(default)]
    no_gpus: bool,
    share_percent: u16,
    /// Prices of a time before the pricing file; read only where there is none.
    #[serde(default, skip_serializing)]
    price_micros_per_device_hour: Option<u64>,
    #[serde(default, skip_serializing)]
    floor_micros_per_device_hour: Option<u64>,
    #[serde(default, skip_serializing)]
    tiers: Vec<String>,
    /// Which images tenants may name.
    #[serde(default)]
    pub(crate) images: ImagePolicy,
    bond_micros: u64,
    region: Option<String>,
    port: u16,
    loopback: bool,
    /// The machine, once it is registered: its network and id.
    machine: Option<(String, String)>,
}

/// An agent of this machine.
#[derive(Clone, Debug)]
pub(crate) struct Lender {
    /// Where its data lies.
    pub(crate) folder: PathBuf,
    /// What is stored of it.
    pub(crate) stored: Stored,
    label: String,
    home: PathBuf,
}

pub(super) fn run(context: &Context, args: &Init) -> Result<u8> {
    block_on(async {
        let (lender, ready) = init(context, args).await?;
        let output = &context.output;
        for line in &ready.changed {
            output.say(&format!("{} {line}", output.mark(Style::Good)));
        }
        if ready.changed.is_empty() {
            output.say("everything stands already");
        }
        for (gpu, why) in &ready.offered.left_out {
            output.warn(&format!("{} is not offered: {why}", gpu.name));
        }
        for model in lender.unpriced(&ready.offered)? {
            output.warn(&format!(
                "{model} has no price and is not offered; name one: \
                 tradewind provider price set 1.80 --device {model}"
            ));
        }
        if lender.stored.runtime == RuntimeKind::Process {
            output.warn(PROCESS_LOSS);
        }
        output.say(&format!(
            "\nnext:  {}",
            output.paint(Style::Good, "tradewind provider start")
        ));
        output.say("try it:        tradewind provider test");
        output.say("keep it going: tradewind provider unit   (for systemd)");
        output.result(&ready.machine.to_string(), &ready.machine.to_string())?;
        Ok(exit::DONE)
    })
}

/// What is lost with the process runtime, in one line.
pub(crate) const PROCESS_LOSS: &str = "without root there are no limits and no isolation between a job and your files; \
     only jobs that allow --isolation none come here";

/// Stores what the arguments say and brings the ledger to it.
pub(crate) async fn init(context: &Context, args: &Init) -> Result<(Lender, Ready)> {
    let mut lender = Lender::store(context, args).await?;
    let runtime = lender.open_runtime().await?;
    let ready = lender.bring_up_to_date(context, runtime.as_ref()).await?;
    Ok((lender, ready))
}

impl Init {
    /// Runs it for another command.
    pub(crate) async fn apply(&self, context: &Context) -> Result<(Lender, Ready)> {
        init(context, self).await
    }
}

impl Stored {
    /// Returns how the data plane listens.
    pub(crate) fn bind(&self) -> BindOptions {
        let all = BindOptions::all_interfaces(self.port);
        if self.loopback {
            BindOptions {
                port: self.port,
                ..BindOptions::loopback()
            }
        } else {
            all
        }
    }

    fn plan(&self, dial: Vec<Name>, policy: Policy) -> Result<Plan> {
        let parse = |text: &String| Name::parse(text).ok_or_else(broken);
        Ok(Plan {
            name: parse(&self.name)?,
            bond: Money::from_micros(self.bond_micros),
            listing: Listing {
                slots: self.slots,
                gpus: !self.no_gpus,
                share: BasisPoints::from_bps(self.share_percent.saturating_mul(100)),
                region: self.region.as_ref().map(parse).transpose()?,
                dial,
                ..Listing::default()
            },
            policy,
        })
    }
}

impl Lender {
    /// Returns the agent that is stored under a label.
    pub(crate) fn find(context: &Context, label: &str) -> Result<Self> {
        let folder = folder(context, label);
        let path = folder.join("provider.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    "not-provider",
                    format!("no provider {label:?} is set up on this machine"),
                )
                .hint("set it up: tradewind provider init"));
            }
            Err(error) => return Err(io_failure("read", &path)(error)),
        };
        let stored = serde_json::from_slice(&text).map_err(|error| {
            Failure::new("bad-context", format!("could not read {}", path.display())).causes(&error)
        })?;
        Ok(Self {
            folder,
            stored,
            label: label.to_owned(),
            home: context.home.clone(),
        })
    }

    /// Returns the labels of all agents that are stored here.
    pub(crate) fn labels(context: &Context) -> Vec<String> {
        let entries = fs::read_dir(context.home.join("providers"))
            .into_iter()
            .flatten()
            .flatten();
        let mut labels: Vec<String> = entries
            .filter(|entry| entry.path().join("provider.json").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        labels.sort();
        labels
    }

    async fn store(context: &Context, args: &Init) -> Result<Self> {
        let label = args.which.label.as_str();
        let folder = folder(context, label);
        let service = Service::new(&context.home, format!("provider-{label}"));
        if service.running()?.is_some() {
            return Err(
                Failure::new("home-busy", format!("{} runs already", service.name()))
                    .hint("stop it first; it reads what is stored when it starts"),
            );
        }
        files::create_private_folder(&folder)?;
        let given = args.key_file.clone().or_else(|| context.given_key_file());
        let key_file =
            given.unwrap_or_else(|| context.keys().join(format!("provider-{label}.key")));
        Wallet::open_or_create(&key_file)?;
        let before = Self::find(context, label).ok().map(|lender| lender.stored);
        let kept_port = before
            .as_ref()
            .map(|stored| stored.port)
            .filter(|port| *port != 0);
        let port = match (args.port, kept_port) {
            (0, None) => free_port().await?,
            (0, Some(port)) | (port, _) => port,
        };
        let old_name = before.as_ref().map(|stored| stored.name.clone());
        let name = args.name.as_ref().map(ToString::to_string).or(old_name);
        let old = before.as_ref();
        let stored = Stored {
            name: name.unwrap_or_else(|| label.to_owned()),
            key_file,
            runtime: match args.runtime {
                Some(kind) => kind,
                None => choose_runtime(&folder).await?.0,
            },
            slots: args.slots,
            no_gpus: args.no_gpus,
            share_percent: args.share,
            price_micros_per_device_hour: old.and_then(|old| old.price_micros_per_device_hour),
            floor_micros_per_device_hour: old.and_then(|old| old.floor_micros_per_device_hour),
            tiers: old.map(|old| old.tiers.clone()).unwrap_or_default(),
            images: args
                .images
                .policy(before.as_ref().map(|stored| &stored.images)),
            bond_micros: args.bond.micros(),
            region: args.region.as_ref().map(ToString::to_string),
            port,
            loopback: args.loopback,
            machine: before.and_then(|stored| stored.machine),
        };
        let lender = Self {
            folder,
            stored,
            label: label.to_owned(),
            home: context.home.clone(),
        };
        lender.store_prices(args)?;
        lender.write()?;
        Ok(lender)
    }

    /// Returns the agent's process.
    pub(crate) fn service(&self) -> Service {
        Service::new(&self.home, format!("provider-{}", self.label))
    }

    /// Returns where the runtime keeps its things.
    pub(crate) fn runtime_folder(&self) -> PathBuf {
        self.folder.join("runtime")
    }

    /// Returns how many containers the runtime has a folder of, running or not.
    pub(crate) fn containers(&self) -> usize {
        fs::read_dir(self.runtime_folder().join("containers")).map_or(0, Iterator::count)
    }

    /// Returns the machine that the agent registered on a network.
    pub(crate) fn machine(&self, network: &NetworkName) -> Result<MachineId> {
        let on = self
            .stored
            .machine
            .as_ref()
            .filter(|(name, _)| name == network.as_str());
        on.and_then(|(_, id)| id.parse().ok()).ok_or_else(|| {
            Failure::new(
                "not-provider",
                format!("{} has no machine on {network}", self.stored.name),
            )
            .hint("register it: tradewind provider init")
        })
    }

    /// Returns the provider's key at work.
    pub(crate) async fn provider(&self, context: &Context) -> Result<Provider> {
        let wallet = Wallet::open(&self.stored.key_file)?;
        let client = Client::new(context.endpoint()?)?;
        Provider::of_key(client, wallet.key().clone())
            .await
            .map_err(failed)
    }

    /// Returns at what prices it lends.
    pub(crate) fn policy(&self) -> Result<Policy> {
        if let Some(policy) = price::read(&self.folder.join(price::FILE))? {
            return Ok(policy);
        }
        let Stored {
            price_micros_per_device_hour: target,
            floor_micros_per_device_hour: floor,
            tiers,
            ..
        } = &self.stored;
        let Some(target) = target.map(Rate::from_micros_per_hour) else {
            // Nobody's GPU goes for the price of a CPU slot because its owner said nothing.
            let line = Line::new(
                DeviceKind::Cpu,
                Tier::OnDemand,
                PRICE_DEFAULT,
                PRICE_DEFAULT,
            );
            return Ok(Policy::of_lines(vec![line]));
        };
        let floor = floor.map_or(target, Rate::from_micros_per_hour);
        let mut named = Vec::new();
        for text in tiers {
            named.push(crate::commands::tier(text).map_err(|_| broken())?);
        }
        Ok(all_devices(&named, target, floor))
    }

    /// Returns the models of devices that no price stands for.
    fn unpriced(&self, offered: &Offered) -> Result<BTreeSet<Name>> {
        let policy = self.policy()?;
        let devices = offered.spec.devices.iter();
        let without = devices.filter(|d| !policy.has_price(d.class, d.model.as_str()));
        Ok(without.map(|device| device.model.clone()).collect())
    }

    /// Writes down the prices that the arguments name; what they do not speak of stays.
    fn store_prices(&self, args: &Init) -> Result<()> {
        let path = self.folder.join(price::FILE);
        if let Some(given) = &args.pricing {
            price::read_given(given)?;
            let text = fs::read(given).map_err(io_failure("read", given))?;
            return files::write_private(&path, &text);
        }
        let before = price::read(&path)?;
        let (Some(target), Some(_)) = (args.price, &before) else {
            if before.is_some() {
                return Ok(());
            }
            let policy = match args.price {
                Some(target) => {
                    let floor = args.floor.map_or(target, |floor| floor.min(target));
                    all_devices(&args.tier, target, floor)
                }
                None => self.policy()?,
            };
            return files::write_private(&path, file::write(&policy).as_bytes());
        };
        let mut text = fs::read_to_string(&path).map_err(io_failure("read", &path))?;
        let floor = args.floor.map(|floor| floor.min(target));
        for tier in tiers_of(&args.tier) {
            text = file::set(&text, &DeviceKind::Any, tier, target, floor)
                .map_err(|error| price::bad_file(&path, &error))?;
        }
        files::write_private(&path, text.as_bytes())
    }

    /// Returns what is stored, for the agent to read anew while it runs.
    fn wishes(&self) -> Result<Wishes> {
        Ok(Wishes {
            plan: self.plan(Vec::new())?,
            windows: maintenance::windows(&self.folder)?,
        })
    }

    fn plan(&self, dial: Vec<Name>) -> Result<Plan> {
        let policy = self.policy()?;
        self.stored.plan(dial, policy)
    }

    /// Returns how it bids, and how it keeps its listing true.
    pub(crate) fn duties(&self) -> Result<(agent::Bidding, Stewarding)> {
        let key = Wallet::open(&self.stored.key_file)?.key().clone();
        let (prices, told) = watch::channel(self.policy()?);
        let probe = gpu_probe()?;
        let (lender, folder) = (self.clone(), self.folder.clone());
        let steward = Stewarding {
            key: key.clone(),
            wishes: Arc::new(move || lender.wishes().map_err(|failure| failure.what().to_owned())),
            measure: Arc::new(move || measure(&folder, &probe)),
            prices,
            every: Stewarding::EVERY,
        };
        Ok((agent::Bidding { key, policy: told }, steward))
    }

    /// Brings the ledger to what is stored and measured.
    pub(crate) async fn bring_up_to_date(
        &mut self,
        context: &Context,
        runtime: &dyn Runtime,
    ) -> Result<Ready> {
        let session = Session::open(context).await?;
        let capabilities = probe(runtime).await?;
        let mut provider = self.provider(context).await?;
        let plan = self.plan(self.dial().await?)?;
        let probe = gpu_probe()?;
        let folder = self.folder.clone();
        let inventory = tokio::task::spawn_blocking(move || measure(&folder, &probe)).await;
        let inventory = inventory
            .map_err(|error| Failure::new("bug", "measuring the machine panicked").causes(&error))?
            .map_err(|error| failed(error.into()))?;
        let mut journal = Journal::open(&self.folder).map_err(|error| failed(error.into()))?;
        let ready = provider
            .init(&mut journal, &inventory, &capabilities, &plan)
            .await
            .map_err(failed)?;
        self.stored.machine = Some((session.network().to_string(), ready.machine.to_string()));
        self.write()?;
        Ok(ready)
    }

    /// Opens its runtime; one process at a time may have it.
    pub(crate) async fn open_runtime(&self) -> Result<Arc<dyn Runtime>> {
        let folder = self.runtime_folder();
        open_runtime(self.stored.runtime, &folder, &self.stored.images).await
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.stored)
            .map_err(|error| Failure::new("bug", "could not write the provider").causes(&error))?;
        files::write_private(&self.folder.join("provider.json"), &text)
    }

    /// Returns where the data plane can be dialled, by binding it for a moment.
    async fn dial(&self) -> Result<Vec<Name>> {
        let secret = ed25519_dalek::SigningKey::from_bytes(&rand::random());
        let endpoint = Endpoint::bind(&secret, self.stored.bind(), Services::none())
            .await
            .map_err(|error| {
                Failure::new(
                    "port-taken",
                    format!("could not open UDP port {}", self.stored.port),
                )
                .causes(&error)
            })?;
        let hints = endpoint.dial_hints();
        endpoint.close().await;
        Ok(hints)
    }
}

/// What a CPU slot is lent for where nothing is said, per hour.
const PRICE_DEFAULT: Rate = Rate::from_micros_per_hour(100_000);

fn tiers_of(named: &[Tier]) -> Vec<Tier> {
    if named.is_empty() {
        return vec![Tier::OnDemand];
    }
    named.to_vec()
}

/// Returns one price for every device, in the tiers that are named.
fn all_devices(named: &[Tier], target: Rate, floor: Rate) -> Policy {
    let line = |tier| Line::new(DeviceKind::Any, tier, target, floor);
    Policy::of_lines(tiers_of(named).into_iter().map(line).collect())
}

fn broken() -> Failure {
    let what = "the stored provider has values that are none";
    Failure::new("bad-context", what)
}

fn folder(context: &Context, label: &str) -> PathBuf {
    context.home.join("providers").join(label)
}

async fn free_port() -> Result<u16> {
    let socket = tokio::net::UdpSocket::bind(("0.0.0.0", 0)).await;
    let port = socket
        .and_then(|socket| socket.local_addr())
        .map(|address| address.port());
    port.map_err(|error| Failure::new("port-taken", "there is no free UDP port").causes(&error))
}

/// Returns what asks the driver for GPUs.
pub(super) fn gpu_probe() -> Result<ChildProbe> {
    let program = own_program()?;
    Ok(ChildProbe { program })
}

/// Returns this very program.
pub(super) fn own_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(io_failure("find", Path::new("/proc/self/exe")))
}

/// Returns where the engine listens: where `DOCKER_HOST` says, else in the usual place that is there.
fn engine_socket() -> PathBuf {
    let told = std::env::var("DOCKER_HOST").ok();
    let told = told.and_then(|host| host.strip_prefix("unix://").map(PathBuf::from));
    told.unwrap_or_else(EngineConfig::usual_socket)
}

/// Returns where runc is; where it is not, a name that the runtime's probe fails on and says so.
fn runc_program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An ordinary user's path may lack these.
    let also = ["/usr/sbin", "/usr/local/sbin", "/usr/bin"].map(PathBuf::from);
    let mut all = std::env::split_paths(&path)
        .chain(also)
        .map(|folder| folder.join("runc"));
    let found = all.find(|program| program.is_file());
    found.unwrap_or_else(|| PathBuf::from("runc"))
}

/// Opens a runtime in a folder, for images within the reach of `images`; one at a time may have it.
pub(crate) async fn open_runtime(
    kind: RuntimeKind,
    folder: &Path,
    images: &ImagePolicy,
) -> Result<Arc<dyn Runtime>> {
    let mut config = LocalConfig::new(folder, own_program()?);
    config.registries.reach = images.reach();
    let opened = match kind {
        RuntimeKind::Engine => {
            let mut config = EngineConfig::new(folder, engine_socket());
            config.registries.reach = images.reach();
            let opened = EngineRuntime::open(config).await;
            let opened = opened.map_err(|error| {
                Failure::new("no-runtime", "could not open the runtime").causes(&error)
            })?;
            return Ok(Arc::new(opened));
        }
        RuntimeKind::Embedded => LocalRuntime::embedded(config).await,
        RuntimeKind::Runc => LocalRuntime::runc(config, runc_program()).await,
        RuntimeKind::Process => LocalRuntime::process(config).await,
    };
    let runtime = opened
        .map_err(|error| Failure::new("no-runtime", "could not open the runtime").causes(&error))?;
    Ok(Arc::new(runtime))
}

async fn probe(runtime: &dyn Runtime) -> Result<Capabilities> {
    let capabilities = runtime.probe().await.map_err(|error| {
        Failure::new("no-runtime", "could not probe the runtime").causes(&error)
    })?;
    match &capabilities.usable {
        Ok(()) => Ok(capabilities),
        Err(why) => Err(Failure::new(
            "no-runtime",
            format!(
                "the {} runtime does not work here: {why}",
                capabilities.name
            ),
        )),
    }
}

/// Returns the strongest runtime that works here, and why a stronger one does not.
pub(crate) async fn choose_runtime(folder: &Path) -> Result<(RuntimeKind, Option<String>)> {
    let mut lost = None;
    for kind in [RuntimeKind::Embedded, RuntimeKind::Process] {
        let runtime = open_runtime(kind, &folder.join("runtime"), &ImagePolicy::default()).await?;
        match probe(runtime.as_ref()).await {
            Ok(_) => return Ok((kind, lost)),
            Err(failure) => lost = Some(failure.what().to_owned()),
        }
    }
    let why = lost.unwrap_or_default();
    Err(Failure::new("no-runtime", "no container runtime works on this machine").detail(why))
}

/// Turns the agent's words into ours.
pub(super) fn failed(error: SetupError) -> Failure {
    match error {
        SetupError::Ask { source, .. } => source.into(),
        SetupError::Submit { what, source } => match source {
            agent::SubmitError::Refused(problem) => {
                Failure::from(*problem).detail(format!("could not {what}"))
            }
            agent::SubmitError::Unsent(error) => {
                Failure::from(error).detail(format!("could not {what}"))
            }
        },
        SetupError::UnknownKey { key } => {
            Failure::new("unknown-key", format!("the network does not know {key}"))
                .detail(format!(
                    "its account would be {}",
                    market::AccountId::of(key)
                ))
                .hint("ask a treasurer for a first deposit; the account needs its bond")
        }
        SetupError::NotRegistered => Failure::new("not-provider", error.to_string()),
        SetupError::Journal(_) | SetupError::Measure(_) => {
            Failure::new("io", "could not set up the provider").causes(&error)
        }
    }
}
