//! Keeps what the ledger says of a machine true while the agent runs: its devices, its offers, and whether it takes leases.
//!
//! Every [`LOOK_EVERY`], and at once when the provider's wishes change or a window begins or ends, the steward measures the
//! machine and decides with [`closed`] whether it shall take leases. It takes the machine out of matching for a reason,
//! remembers that it did, and puts it back when the reason is gone; a machine that a person drained stays drained.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use api::{Client, Code, MachineView};
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::SigningKey;
use market::{ByteSize, DeviceClass, MachineId, Millis, PublicKey, Timestamp};
use tokio::sync::watch;

use crate::{
    inventory::{HostError, Inventory},
    metrics::Metrics,
    pricing::Policy,
    setup::{Plan, Provider, SetupError},
    submit::now,
};

/// Between two looks: a measurement asks the driver, which is no work for every second.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// After a look that came to nothing, as while the ledger is silent.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Between two readings of the wishes: two small files.
const READ_EVERY: Duration = Duration::from_secs(2);
/// How far ahead of now an eviction is announced at least: the ledger takes none that is past.
const EVICT_AHEAD: Millis = Millis::from_secs(5);
/// Free space below which a machine takes no lease: one image and what its job writes would fill it.
pub const DISK_LOW: ByteSize = ByteSize::from_mib(256);
/// Free space above which it takes leases again; more, so that it does not come and go.
pub const DISK_ENOUGH: ByteSize = ByteSize::from_mib(512);
/// Where it is remembered that this machine was taken out of matching by itself.
const CLOSED_FILE: &str = "closed";
/// Most windows that are kept.
pub const WINDOWS_MAX: usize = 64;

/// A time in which the machine shall be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Window {
    /// When it begins.
    pub from: Timestamp,
    /// When the machine takes leases again.
    pub until: Timestamp,
    /// How long before it begins no lease is taken any more.
    pub drain_ahead: Millis,
    /// What becomes of leases that still run when it begins.
    pub running: Running,
}

/// What becomes of leases that run when a window begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Running {
    /// They run to their end.
    Stay,
    /// They end as drained, at the provider's cost.
    Evict,
}

/// Why a machine takes no leases.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Closed {
    /// Its disk is almost full.
    Disk {
        /// What is free.
        free: ByteSize,
    },
    /// It has GPUs, and their driver does not answer.
    Driver {
        /// What the driver said.
        why: String,
    },
    /// Devices or memory are gone that a lease still holds.
    Device,
    /// A maintenance window is near or in progress.
    Maintenance {
        /// When it begins.
        from: Timestamp,
        /// When it ends.
        until: Timestamp,
        /// What becomes of leases that run.
        running: Running,
    },
}

impl Closed {
    /// Returns the one word for it, as labels of metrics have it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Disk { .. } => "disk",
            Self::Driver { .. } => "driver",
            Self::Device => "device",
            Self::Maintenance { .. } => "maintenance",
        }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { free } => write!(f, "its disk has only {} MiB free", free.bytes() >> 20),
            Self::Driver { why } => write!(f, "its GPU driver does not answer: {why}"),
            Self::Device => f.write_str("devices or memory are gone that a lease holds"),
            Self::Maintenance { .. } => f.write_str("it is being maintained"),
        }
    }
}

/// What a look at the machine gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Free space on the disk that leases use.
    pub disk_free: ByteSize,
    /// What the driver said instead of naming GPUs.
    pub driver_error: Option<String>,
    /// Whether the ledger lists GPUs of this machine.
    pub lists_gpus: bool,
    /// Whether the ledger refused the new list of devices because a lease holds one of the old.
    pub device_held: bool,
}

/// Returns why the machine shall take no leases now; `was` is why it took none before.
pub fn closed(
    facts: &Facts,
    windows: &[Window],
    was: Option<&Closed>,
    now: Timestamp,
) -> Option<Closed> {
    if let Some(window) = window_now(windows, now) {
        return Some(Closed::Maintenance {
            from: window.from,
            until: window.until,
            running: window.running,
        });
    }
    if let (Some(why), true) = (&facts.driver_error, facts.lists_gpus) {
        return Some(Closed::Driver { why: why.clone() });
    }
    if facts.device_held {
        return Some(Closed::Device);
    }
    let wanted = match was {
        Some(Closed::Disk { .. }) => DISK_ENOUGH,
        _ => DISK_LOW,
    };
    let free = facts.disk_free;
    (free < wanted).then_some(Closed::Disk { free })
}

/// Returns the first window in which no leases are taken now.
pub fn window_now(windows: &[Window], now: Timestamp) -> Option<&Window> {
    let current =
        |window: &&Window| window.from.before(window.drain_ahead) <= now && now < window.until;
    windows.iter().filter(current).min_by_key(|w| w.from)
}

/// What a provider wishes for its machine; read anew all the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// As for [`Provider::init`].
    pub plan: Plan,
    /// When it shall be empty.
    pub windows: Vec<Window>,
}

/// Reads the wishes; blocks.
pub type ReadWishes = Arc<dyn Fn() -> Result<Wishes, String> + Send + Sync>;
/// Measures the machine; blocks for a bounded time.
pub type Measure = Arc<dyn Fn() -> Result<Inventory, HostError> + Send + Sync>;

/// What an agent needs to keep its listing true.
#[derive(Clone)]
pub struct Stewarding {
    /// Speaks for the provider: its owner key, or one with the provider's role.
    pub key: SigningKey,
    /// What the provider wishes.
    pub wishes: ReadWishes,
    /// What the machine has.
    pub measure: Measure,
    /// Told of prices that changed.
    pub prices: watch::Sender<Policy>,
    /// Between two looks; [`Stewarding::EVERY`] unless a test is in a hurry.
    pub every: Duration,
}

impl Stewarding {
    /// The usual time between two looks.
    pub const EVERY: Duration = LOOK_EVERY;
}

impl fmt::Debug for Stewarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stewarding").finish_non_exhaustive()
    }
}

/// Keeps one machine's listing true.
pub(crate) struct Steward {
    pub(crate) with: Stewarding,
    pub(crate) client: Client,
    pub(crate) machine: MachineId,
    pub(crate) sign: PublicKey,
    pub(crate) runtime: Arc<dyn runtime::Runtime>,
    /// The agent's folder.
    pub(crate) folder: PathBuf,
    pub(crate) metrics: Arc<Metrics>,
}

/// The last look that came to something.
struct Last {
    at: Instant,
    wishes: Wishes,
    shut: bool,
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("the provider's wishes cannot be read: {0}")]
    Wishes(String),
    #[error(transparent)]
    Measure(#[from] HostError),
    #[error("the runtime cannot be asked")]
    Runtime(#[source] runtime::Error),
    #[error(transparent)]
    Ledger(#[from] SetupError),
    #[error("could not write down why the machine takes no leases")]
    Write(#[source] io::Error),
    #[error("a look panicked")]
    Panicked,
}

impl Steward {
    /// Looks again and again, until it is dropped. Troubles are logged and tried again.
    pub(crate) async fn run(self) {
        let mut last: Option<Last> = None;
        let mut unread = None;
        let mut not_before = Instant::now();
        loop {
            tokio::time::sleep(self.with.every.min(READ_EVERY)).await;
            let wishes = match self.wishes().await {
                Ok(wishes) => {
                    unread = None;
                    wishes
                }
                Err(error) => {
                    // Said once: it stays so until a person mends the file. What they wished before still counts.
                    let said = Some(error.to_string());
                    if unread != said {
                        self.trouble(&error);
                        unread = said;
                    }
                    let Some(last) = &last else { continue };
                    last.wishes.clone()
                }
            };
            let shut = window_now(&wishes.windows, now()).is_some();
            let due = last.as_ref().is_none_or(|last| {
                last.at.elapsed() >= self.with.every || last.wishes != wishes || last.shut != shut
            });
            if !due || Instant::now() < not_before {
                continue;
            }
            if let Err(error) = self.look(&wishes).await {
                self.trouble(&error);
                not_before = Instant::now() + self.with.every.min(LOOK_AGAIN);
                continue;
            }
            last = Some(Last {
                at: Instant::now(),
                wishes,
                shut,
            });
        }
    }

    fn trouble(&self, error: &LookError) {
        self.metrics.look_failed();
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, "the listing could not be looked after");
    }

    async fn wishes(&self) -> Result<Wishes, LookError> {
        let read = Arc::clone(&self.with.wishes);
        let wishes = tokio::task::spawn_blocking(move || read()).await;
        let wishes = wishes.map_err(|_| LookError::Panicked)?;
        let wishes = wishes.map_err(LookError::Wishes)?;
        let policy = &wishes.plan.policy;
        self.with.prices.send_if_modified(|before| {
            let changed = before != policy;
            before.clone_from(policy);
            changed
        });
        Ok(wishes)
    }

    async fn look(&self, wishes: &Wishes) -> Result<(), LookError> {
        let measure = Arc::clone(&self.with.measure);
        let inventory = tokio::task::spawn_blocking(move || measure()).await;
        let inventory = inventory.map_err(|_| LookError::Panicked)??;
        self.metrics.measured(&inventory);
        let capabilities = self.runtime.probe().await.map_err(LookError::Runtime)?;
        let client = self.client.clone();
        let mut provider = Provider::of_key(client, self.with.key.clone()).await?;
        let view = provider.machine_view(self.machine).await?;
        let mut facts = Facts {
            disk_free: inventory.host.disk,
            driver_error: inventory.gpus.as_ref().err().cloned(),
            lists_gpus: view.devices.iter().any(|d| d.class != DeviceClass::Cpu),
            device_held: false,
        };
        // A driver that does not answer says nothing of the devices: they stay listed, and are not leased.
        if facts.driver_error.is_none() || !facts.lists_gpus {
            let plan = &wishes.plan;
            let refreshed = provider.refresh(&view, &self.sign, &inventory, &capabilities, plan);
            match refreshed.await {
                Ok(changed) => changed
                    .iter()
                    .for_each(|what| tracing::info!(what, "the listing")),
                Err(error) if error.refusal() == Some(Code::MachineBusy) => {
                    facts.device_held = true;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.open_or_close(&mut provider, &view, &facts, &wishes.windows)
            .await
    }

    async fn open_or_close(
        &self,
        provider: &mut Provider,
        view: &MachineView,
        facts: &Facts,
        windows: &[Window],
    ) -> Result<(), LookError> {
        let was = read_closed(&self.folder);
        let shall = closed(facts, windows, was.as_ref(), now());
        let draining = view.state == "draining";
        match (&shall, draining) {
            (Some(why), false) => {
                // First the reason: whoever finds the machine drained must know that it was not a person.
                write_closed(&self.folder, why).map_err(LookError::Write)?;
                tracing::warn!(%why, "the machine takes no leases");
                provider.drain(self.machine, evict_at(why)).await?;
            }
            (Some(why), true) if was.is_some() && was != shall => {
                write_closed(&self.folder, why).map_err(LookError::Write)?;
                let evict_at = evict_at(why);
                if evict_at.is_some() {
                    provider.drain(self.machine, evict_at).await?;
                }
            }
            (None, true) if was.is_some() => {
                provider.resume(self.machine).await?;
                tracing::info!("the machine takes leases again");
                forget_closed(&self.folder).map_err(LookError::Write)?;
            }
            (None, false) if was.is_some() => {
                forget_closed(&self.folder).map_err(LookError::Write)?;
            }
            _ => {}
        }
        self.metrics.closed(shall.as_ref());
        Ok(())
    }
}

/// Returns when leases that run shall end; `None` where they may stay.
fn evict_at(why: &Closed) -> Option<Timestamp> {
    match why {
        Closed::Maintenance {
            from,
            running: Running::Evict,
            ..
        } => Some((*from).max(now().after(EVICT_AHEAD))),
        Closed::Maintenance { .. }
        | Closed::Disk { .. }
        | Closed::Driver { .. }
        | Closed::Device => None,
    }
}

/// Returns why the machine whose agent has this folder took itself out of matching, if it did.
pub fn read_closed(folder: &Path) -> Option<Closed> {
    let bytes = fs::read(folder.join(CLOSED_FILE)).ok()?;
    borsh::from_slice(&bytes).ok()
}

fn write_closed(folder: &Path, why: &Closed) -> io::Result<()> {
    let (path, new) = (folder.join(CLOSED_FILE), folder.join(".closed.new"));
    fs::write(&new, market::codec::encode(why))?;
    fs::rename(new, path)
}

fn forget_closed(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(CLOSED_FILE)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_unix_millis(secs * 1_000)
    }

    fn well() -> Facts {
        Facts {
            disk_free: ByteSize::from_gib(9),
            driver_error: None,
            lists_gpus: true,
            device_held: false,
        }
    }

    #[test]
    fn a_disk_that_fills_closes_the_machine_until_there_is_room_again() {
        let with = |mib| Facts {
            disk_free: ByteSize::from_mib(mib),
            ..well()
        };
        let full = closed(&with(255), &[], None, at(0));
        let free = ByteSize::from_mib(255);
        assert_eq!(full, Some(Closed::Disk { free }));
        assert_eq!(closed(&with(256), &[], None, at(0)), None);
        assert!(closed(&with(511), &[], full.as_ref(), at(0)).is_some());
        assert_eq!(closed(&with(512), &[], full.as_ref(), at(0)), None);
        assert_eq!(full.unwrap().to_string(), "its disk has only 255 MiB free");
    }

    #[test]
    fn a_driver_that_hangs_closes_a_machine_that_lists_gpus_and_no_other() {
        let hangs = |lists_gpus| Facts {
            driver_error: Some("no answer".to_owned()),
            lists_gpus,
            ..well()
        };
        let why = "no answer".to_owned();
        assert_eq!(
            closed(&hangs(true), &[], None, at(0)),
            Some(Closed::Driver { why })
        );
        assert_eq!(closed(&hangs(false), &[], None, at(0)), None);
        let held = Facts {
            device_held: true,
            ..well()
        };
        assert_eq!(closed(&held, &[], None, at(0)), Some(Closed::Device));
    }

    #[test]
    fn a_window_closes_the_machine_from_before_its_beginning_to_its_end() {
        let window = Window {
            from: at(1_000),
            until: at(2_000),
            drain_ahead: Millis::from_secs(300),
            running: Running::Stay,
        };
        let is_closed = |secs| closed(&well(), &[window], None, at(secs)).is_some();
        let seen = [699, 700, 1_500, 1_999, 2_000].map(is_closed);
        assert_eq!(seen, [false, true, true, true, false]);
    }

    #[test]
    fn the_reason_survives_a_restart_and_is_forgotten_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_closed(dir.path()), None);
        write_closed(dir.path(), &Closed::Device).unwrap();
        assert_eq!(read_closed(dir.path()), Some(Closed::Device));
        forget_closed(dir.path()).unwrap();
        forget_closed(dir.path()).unwrap();
        assert_eq!(read_closed(dir.path()), None);
    }
}
