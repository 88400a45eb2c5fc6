//! Starting the parts in order, each only where it does not run; every step may be repeated.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use agent::images::ImagePolicy;
use api::{Client, Code, OfferFilter, StatusView};
use market::{AccountId, Digest, Money, NetworkName, Rate, Tier, Tx};

use crate::commands::provider::{
    ImageArgs, ImageFolder, Init, Lender, PROCESS_LOSS, RuntimeKind, Which, choose_runtime,
};
use crate::commands::{self, node};
use crate::context::{Context, Stored};
use crate::error::{Failure, Result};
use crate::progress::Progress;
use crate::service::Service;
use crate::session::Session;
use crate::wallet::Wallet;

/// The labels of the two providers.
const PROVIDERS: [&str; 2] = ["a", "b"];
/// Port of the gateway where none is given or known.
const PORT_DEFAULT: u16 = 7070;
/// Free space below which nothing is started: ledger, logs, two copies of an image and what jobs write.
const ROOM_MIN: u64 = 512 << 20;
/// For the node to load its state and answer; a big history on a slow disk takes a while.
const NODE_DEADLINE: Duration = Duration::from_mins(1);
/// For a machine to beat and stand in the book.
const PROVIDER_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at something that cannot be waited on.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the demo's account starts with.
const DEMO_MONEY: Money = Money::from_dollars(1_000);
/// What each provider starts with: its bond and something to spend.
const PROVIDER_MONEY: Money = Money::from_dollars(100);
/// Bond of each provider: many times what a lease of one slot reserves.
const BOND: Money = Money::from_dollars(10);
/// What the providers ask for per slot and hour; different, so that there is a best offer.
const PRICES_MICROS: [u64; 2] = [90_000, 120_000];
/// How far below its price each provider goes for an order that collects bids, as a percentage of the price.
const FLOOR_PERCENT: u64 = 75;
/// Percent of this machine that each provider lends: together most of it, with room for the node.
const SHARE_PERCENT: u16 = 40;

/// What is to be started.
pub(super) struct Network<'a> {
    pub(super) context: &'a mut Context,
    pub(super) port: Option<u16>,
    pub(super) validators: Option<u16>,
    pub(super) runtime: Option<RuntimeKind>,
    /// Whether the first provider lends this machine's GPUs.
    pub(super) gpus: bool,
    pub(super) image_folders: &'a [ImageFolder],
    pub(super) progress: &'a Progress,
}

impl Network<'_> {
    /// Starts what does not run, and returns what runs containers.
    pub(super) async fn start(mut self) -> Result<RuntimeKind> {
        require_room(&self.context.home)?;
        let treasurer = Wallet::open_or_create(&node::treasurer_file(self.context))?;
        let demo_file = self.context.keys().join("demo.key");
        let demo = Wallet::open_or_create(&demo_file)?;
        let others = self.validators(&treasurer)?;
        let status = self.node(&others).await?;
        self.context.store(Stored {
            network: status.network.to_string(),
            group_key: Some(status.group_key.clone()),
            endpoint: self.context.endpoint()?.to_owned(),
            key_file: demo_file,
        })?;
        let session = Session::open(self.context).await?;
        fund(&session, &treasurer, demo.account(), DEMO_MONEY, "demo").await?;
        let account = session.client.account(&demo.account()).await?;
        self.progress.done(
            "account",
            &format!("{} available for {}", account.available, demo.account()),
        );
        let kind = self.runtime_kind().await?;
        let mut waiting = Vec::new();
        for (label, price) in PROVIDERS.into_iter().zip(PRICES_MICROS) {
            waiting.push(
                self.provider(&session, &treasurer, kind, label, price)
                    .await?,
            );
        }
        for (lender, child) in waiting {
            self.await_provider(&session, &lender, child).await?;
        }
        Ok(kind)
    }

    /// Starts the node where it does not run, and returns what it says of itself once it answers.
    async fn node(&mut self, validators: &[PathBuf]) -> Result<StatusView> {
        let service = node::service(&self.context.home);
        let running = service.running()?.is_some();
        let listen = self.listen(running)?;
        self.context.use_endpoint(format!("http://{listen}"));
        let mut child = None;
        if !running {
            require_free(listen)?;
            let mut words = words(self.context, &["node", "start", "--detached"]);
            words.extend(["--listen".to_owned(), listen.to_string()]);
            match validators.first() {
                Some(folder) => words.extend(["--data".to_owned(), folder.display().to_string()]),
                None => words.extend(["--network".to_owned(), network_name()]),
            }
            // Only processes of this machine reach the gateway, and so their receivers may be here too.
            words.push("--private-hooks".to_owned());
            self.progress.phase("node", "starting");
            child = Some(service.start(&words)?);
        }
        self.other_nodes(validators, listen)?;
        let client = Client::new(&listen.to_string())?;
        let begun = Instant::now();
        loop {
            require_alive(&service, child.as_mut())?;
            match client.status().await {
                Ok(status) if status.ready => {
                    let again = if running {
                        "was running".to_owned()
                    } else {
                        match validators.len() {
                            0 => "1 validator".to_owned(),
                            many => format!("{many} validators"),
                        }
                    };
                    let text = format!(
                        "{again}, network {}, block {}",
                        status.network, status.height
                    );
                    self.progress.done("node", &text);
                    self.progress.done("gateway", &format!("http://{listen}"));
                    return Ok(status);
                }
                Ok(_) | Err(_) if begun.elapsed() < NODE_DEADLINE => {
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Ok(status) => {
                    let why = status.not_ready.unwrap_or_default();
                    return Err(
                        Failure::new("timed-out", format!("the node is not ready: {why}"))
                            .detail(format!("log: {}", service.log().display())),
                    );
                }
                Err(error) => {
                    return Err(Failure::new(
                        "timed-out",
                        format!("the node does not answer at {listen}"),
                    )
                    .detail(error.to_string())
                    .detail(format!("log: {}", service.log().display())));
                }
            }
        }
    }

    /// Returns the folders of the validators, made now if several are wanted for the first time; none for a network of one.
    fn validators(&self, treasurer: &Wallet) -> Result<Vec<PathBuf>> {
        let home = self.context.home.join(node::VALIDATORS);
        let found = node::validator_folders(&self.context.home);
        let wanted = self.validators.map(usize::from);
        if !found.is_empty() || wanted.is_none() {
            if wanted.is_some_and(|wanted| wanted != found.len()) {
                let what = format!("this home folder has a network of {}", found.len());
                return Err(Failure::new("exists", what)
                    .hint("begin a new one: tradewind down --purge, then this again"));
            }
            return Ok(found);
        }
        if self.context.home.join("node").exists() {
            return Err(
                Failure::new("exists", "this home folder has a network of one validator")
                    .hint("begin a new one: tradewind down --purge, then this again"),
            );
        }
        let count = self.validators.unwrap_or(1);
        let name = network_name();
        let name = NetworkName::parse(&name)
            .ok_or_else(|| Failure::new("bug", format!("{name:?} is no network's name")))?;
        let addresses = free_addresses(count)?;
        let (_members, folders) =
            commands::network::deal(&home, name, vec![treasurer.public()], &addresses)?;
        Ok(folders)
    }

    /// Starts the validators after the first where they do not run; their gateways listen on the ports after the first's.
    fn other_nodes(&self, validators: &[PathBuf], first: SocketAddr) -> Result<()> {
        for (folder, number) in validators.iter().zip(1..).skip(1) {
            let service = node::service_of(&self.context.home, number);
            if service.running()?.is_some() {
                continue;
            }
            let step = number - 1;
            let port = first.port().checked_add(step).ok_or_else(|| {
                Failure::new("port-taken", "there are no ports after the gateway's")
            })?;
            let listen = SocketAddr::new(first.ip(), port);
            require_free(listen)?;
            let mut words = words(self.context, &["node", "start", "--detached"]);
            words.extend(["--listen".to_owned(), listen.to_string()]);
            words.extend(["--data".to_owned(), folder.display().to_string()]);
            words.extend(["--service".to_owned(), service.name().to_owned()]);
            words.push("--private-hooks".to_owned());
            // Watched by its own log and by `node status`; the first one says whether the network works.
            drop(service.start(&words)?);
        }
        Ok(())
    }

    /// Returns where the gateway listens: as told, as before, or at the usual port.
    fn listen(&self, running: bool) -> Result<SocketAddr> {
        let stored = self
            .context
            .stored()
            .map(|stored| stored.endpoint.trim_start_matches("http://").to_owned());
        let stored: Option<SocketAddr> = stored.and_then(|address| address.parse().ok());
        let told = self
            .port
            .map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        if let (true, Some(told), Some(stored)) = (running, told, stored)
            && told != stored
        {
            return Err(
                Failure::new("home-busy", format!("the node listens at {stored} already"))
                    .hint("stop it first: tradewind down"),
            );
        }
        Ok(told
            .or(stored)
            .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, PORT_DEFAULT))))
    }

    /// Decides what runs containers; what was stored before stays.
    async fn runtime_kind(&self) -> Result<RuntimeKind> {
        if let Some(kind) = self.runtime {
            return Ok(kind);
        }
        if let Ok(lender) = Lender::find(self.context, PROVIDERS[0]) {
            return Ok(lender.stored.runtime);
        }
        self.progress.phase("runtime", "trying what works here");
        let folder = self.context.home.join("providers").join(PROVIDERS[0]);
        crate::files::create_private_folder(&folder)?;
        let (kind, lost) = choose_runtime(&folder).await?;
        match lost {
            None => self
                .progress
                .done("runtime", "embedded: containers with limits and isolation"),
            Some(_) if !nix::unistd::geteuid().is_root() => {
                self.progress
                    .note("runtime", &format!("process: {PROCESS_LOSS}"));
            }
            Some(why) => {
                self.progress.note(
                    "runtime",
                    &format!("process, because {why}: {PROCESS_LOSS}"),
                );
            }
        }
        Ok(kind)
    }

    /// Starts a provider where it does not run.
    async fn provider(
        &self,
        session: &Session,
        treasurer: &Wallet,
        kind: RuntimeKind,
        label: &str,
        price_micros: u64,
    ) -> Result<(Lender, Option<Child>)> {
        let service = Service::new(&self.context.home, format!("provider-{label}"));
        if service.running()?.is_some() {
            if self.image_folders.is_empty() {
                return Ok((Lender::find(self.context, label)?, None));
            }
            let what =
                format!("provider-{label} runs already, with the folders it was started with");
            return Err(Failure::new("home-busy", what).hint("stop it first: tradewind down"));
        }
        self.progress
            .phase("provider", format!("{label} measures this machine"));
        let key_file = self.context.keys().join(format!("provider-{label}.key"));
        let wallet = Wallet::open_or_create(&key_file)?;
        fund(session, treasurer, wallet.account(), PROVIDER_MONEY, label).await?;
        // What a person priced in between stays.
        let price = Lender::find(self.context, label)
            .is_err()
            .then(|| Rate::from_micros_per_hour(price_micros));
        let init = Init {
            which: Which {
                label: label.to_owned(),
            },
            name: market::Name::parse(&format!("provider-{label}")),
            runtime: Some(kind),
            slots: 1,
            // One card is one provider's; the other one is there to take over jobs of CPU slots.
            no_gpus: !(self.gpus && label == PROVIDERS[0]),
            share: SHARE_PERCENT,
            floor: price.map(|_| Rate::from_micros_per_hour(price_micros / 100 * FLOOR_PERCENT)),
            price,
            tier: vec![Tier::OnDemand],
            pricing: None,
            bond: BOND,
            region: None,
            port: 0,
            loopback: true,
            images: self.images(),
            key_file: Some(key_file),
        };
        let (lender, _ready) = init.apply(self.context).await?;
        let mut words = words(
            self.context,
            &["provider", "start", "--detached", "--as", label],
        );
        words.extend(["--endpoint".to_owned(), self.context.endpoint()?.to_owned()]);
        let child = service.start(&words)?;
        Ok((lender, Some(child)))
    }

    /// Returns which images jobs may name. The network is reached from this machine only, and only accounts that its own
    /// treasurer funded can hire: so every folder is open, unless the person says which.
    fn images(&self) -> ImageArgs {
        let mut folders = self.image_folders.to_vec();
        if folders
            .iter()
            .any(|folder| matches!(folder, ImageFolder::Dir(_)))
        {
            folders.push(ImageFolder::Dir(self.context.home.join("images")));
        }
        ImageArgs {
            folders,
            otherwise: ImagePolicy::any(),
            ..ImageArgs::default()
        }
    }

    /// Waits until a machine beats and its offer can be taken.
    async fn await_provider(
        &self,
        session: &Session,
        lender: &Lender,
        mut child: Option<Child>,
    ) -> Result<()> {
        let machine = lender.machine(session.network())?;
        let service = lender.service();
        let was = if child.is_some() {
            ""
        } else {
            " (was running)"
        };
        let begun = Instant::now();
        self.progress.phase(
            "provider",
            format!("{} waits for its first beat", lender.stored.name),
        );
        let filter = OfferFilter {
            machine: Some(machine),
            ..OfferFilter::default()
        };
        loop {
            require_alive(&service, child.as_mut())?;
            let view = session.client.machine(&machine).await?;
            if view.state == "draining" {
                let mut provider = lender.provider(self.context).await?;
                provider.resume(machine).await.map_err(|error| {
                    Failure::new("machine-state", format!("could not put {machine} back"))
                        .causes(&error)
                })?;
            }
            let offer = session
                .client
                .offers(&filter)
                .await?
                .items
                .into_iter()
                .next();
            match offer {
                Some(offer) if view.state == "active" && view.last_beat.is_some() => {
                    let text = format!(
                        "{}{was}: {} CPU slot at ${}/h, {} runtime",
                        lender.stored.name,
                        offer.devices.len(),
                        crate::words::show_amount(offer.prices.per_device_hour.0),
                        lender.stored.runtime.word(),
                    );
                    self.progress.done("provider", &text);
                    return Ok(());
                }
                _ if begun.elapsed() >= PROVIDER_DEADLINE => {
                    return Err(Failure::new(
                        "timed-out",
                        format!(
                            "{} does not come online: it is {}",
                            lender.stored.name, view.state
                        ),
                    )
                    .detail(format!("log: {}", service.log().display())));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }
}

/// Issues money to an account once per network: the reference can be used only once.
async fn fund(
    session: &Session,
    treasurer: &Wallet,
    to: AccountId,
    amount: Money,
    purpose: &str,
) -> Result<()> {
    let reference = Digest::of(&[
        b"tradewind/up/",
        session.network().as_str().as_bytes(),
        b"/",
        purpose.as_bytes(),
    ]);
    match session
        .submit(
            treasurer,
            Tx::Issue {
                to,
                amount,
                reference,
            },
        )
        .await
    {
        Ok(_) => Ok(()),
        Err(failure) if failure.code() == Code::ReferenceUsed.as_str() => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Returns the words for a process of this home folder.
fn words(context: &Context, command: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    words.extend([
        "--context".to_owned(),
        context.name().to_owned(),
        "--color".to_owned(),
        "never".to_owned(),
    ]);
    words
}

/// Returns addresses of this machine that nobody listens at now.
fn free_addresses(count: u16) -> Result<Vec<SocketAddr>> {
    let listeners: std::io::Result<Vec<TcpListener>> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect();
    let addresses: std::io::Result<Vec<SocketAddr>> =
        listeners.and_then(|all| all.iter().map(TcpListener::local_addr).collect());
    addresses.map_err(|error| {
        Failure::new("port-taken", "there are no free ports for the validators").causes(&error)
    })
}

/// Returns a network's name that no other network has: what is signed for one is void in another.
fn network_name() -> String {
    let random: [u8; 5] = rand::random();
    format!("local-{}", market::ids::to_base32(&random))
}

/// Fails early, with a clear word, where the ledger would soon fail without one.
fn require_room(home: &Path) -> Result<()> {
    let stat = nix::sys::statvfs::statvfs(home).map_err(|error| {
        Failure::new(
            "io",
            format!("could not look at the disk of {}", home.display()),
        )
        .causes(&error)
    })?;
    let free = stat.blocks_available().saturating_mul(stat.fragment_size());
    if free >= ROOM_MIN {
        return Ok(());
    }
    let what = format!(
        "{} has {} free",
        home.display(),
        crate::words::show_size(free)
    );
    Err(Failure::new("disk-full", what).detail(format!(
        "a network wants {}",
        crate::words::show_size(ROOM_MIN)
    )))
}

fn require_free(listen: SocketAddr) -> Result<()> {
    match TcpListener::bind(listen) {
        Ok(_listener) => Ok(()),
        Err(error) => {
            let other = if listen.port() == PORT_DEFAULT {
                7171
            } else {
                PORT_DEFAULT
            };
            Err(
                Failure::new("port-taken", format!("cannot listen on {listen}"))
                    .causes(&error)
                    .hint(format!("choose another: tradewind up --port {other}"))
                    .hint(format!(
                        "see who has it: ss -ltnp 'sport = :{}'",
                        listen.port()
                    )),
            )
        }
    }
}

/// Fails where a process that was started has ended.
fn require_alive(service: &Service, child: Option<&mut Child>) -> Result<()> {
    let Some(child) = child else { return Ok(()) };
    match child.try_wait() {
        Ok(None) => Ok(()),
        Ok(Some(status)) => Err(service.died(&status.to_string())),
        Err(error) => {
            Err(Failure::new("io", format!("could not look at {}", service.name())).causes(&error))
        }
    }
}
