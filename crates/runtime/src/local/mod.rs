//! The agent's side of containers on this machine: the same for both kinds.
//!
//! ```text
//! <root>/store/             images
//! <root>/containers/<id>/   one container, see shim/job.rs
//! <root>/tmp/  trash/       work in progress and what is being removed; emptied at start
//! ```
//!
//! Nothing about a container is kept in memory: its folder says everything, so adopting it after a restart is
//! reading it like at any other time.
//!
//! Map: `container` is one folder; `create` lays it out; `copy` copies trees; `ids` hands out uid ranges;
//! `probe` finds out what works here.

mod container;
mod copy;
mod create;
mod ids;
mod probe;

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::io::AsyncReadExt as _;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OnceCell, RwLock};
use tokio::time::{sleep, timeout};

use self::container::Container;
use self::ids::IdRanges;
use crate::Runtime;
use crate::capabilities::Capabilities;
use crate::cdi::USUAL_DIRS;
use crate::cgroup::{Cgroup, PREFIX as CGROUP_PREFIX};
use crate::error::{Blame, Error, Result, io as io_error};
use crate::id::ContainerId;
use crate::image::{
    Credential, Digest, ImageLimits, ImageRef, InUse, LayerForm, PreparedImage, Registries, Store,
    StoreConfig,
};
use crate::logs::{LogChunk, LogStream};
use crate::root::{Root, images_of};
use crate::shim::SHIM_ARGUMENT;
use crate::shim::job::{GRACE_MS_MAX, JOB, Job, Request, SHIM_LOG};
use crate::spec::ContainerSpec;
use crate::status::{Stats, Status};
use crate::turns::Turns;

pub(crate) use self::create::{check_spec, compose};
pub(crate) use self::ids::PROBE_BASE;

/// From the shim's first instruction to the command's: tens of milliseconds, more on a machine that swaps.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// After SIGKILL: a process that takes longer is stuck in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(15);
/// How often to look where there is nothing to wait on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How often to look whether somebody starts a container that nobody has started.
const LOOK_FOR_START: Duration = Duration::from_millis(100);
/// How long the first process of a lost shim may take to die of it.
const LOST_SETTLE: Duration = Duration::from_secs(2);
/// A shim that fails writes one line.
const SHIM_LOG_BYTES: usize = 4096;

/// Where a runtime keeps its things, and what it runs as shims.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Its folder; made where it is missing. One runtime at a time may use it.
    pub root: PathBuf,
    /// The program that calls [`crate::shim_main`] when its first argument is [`SHIM_ARGUMENT`]; most often
    /// [`std::env::current_exe`].
    pub shim: PathBuf,
    /// What images may ask for.
    pub image_limits: ImageLimits,
    /// Bytes of the disk that images may take together; where there are more, those that were not used for longest go.
    /// `None` is what the disk has free at the start, less a tenth of it.
    pub image_bytes: Option<u64>,
    /// What is known about registries.
    pub registries: Registries,
    /// How containers get their images.
    pub layers: LayerUse,
    /// Where devices are described; what lies in a later folder wins.
    pub cdi_dirs: Vec<PathBuf>,
}

/// How containers get their images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerUse {
    /// Layers shared between containers, where this machine can stack them; else copies.
    StackIfPossible,
    /// A copy for each container, also where layers could be stacked.
    Copy,
}

impl LocalConfig {
    /// Returns a configuration with the usual limits, and with what is known about registries in the same folder.
    pub fn new(root: impl Into<PathBuf>, shim: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            registries: Registries::in_dir(&root),
            root,
            shim: shim.into(),
            image_limits: ImageLimits::default(),
            image_bytes: None,
            layers: LayerUse::StackIfPossible,
            cdi_dirs: USUAL_DIRS.map(PathBuf::from).to_vec(),
        }
    }
}

/// Runs containers on this machine, each held by a shim of its own.
#[derive(Debug)]
pub struct LocalRuntime {
    kind: Kind,
    root: Root,
    shim: PathBuf,
    store: Store,
    /// Why layers cannot be stacked here, where they cannot.
    flat_because: Option<String>,
    cdi_dirs: Vec<PathBuf>,
    ids: Option<IdRanges>,
    cgroup_parent: String,
    changing: Turns,
    /// Shared by starts, exclusive for removing the parent control group.
    starting: RwLock<()>,
    capabilities: OnceCell<Capabilities>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Embedded,
    Runc { program: PathBuf },
    Process,
}

impl Kind {
    /// Tells whether its containers are isolated, which takes root and control groups.
    fn isolates(&self) -> bool {
        *self != Self::Process
    }
}

impl LocalRuntime {
    /// Opens a runtime of libcontainer's containers. Needs root; without, it opens, and
    /// [`Runtime::probe`] says that nothing can run.
    ///
    /// # Errors
    /// Where the folder cannot be used, or another runtime uses it.
    pub async fn embedded(config: LocalConfig) -> Result<Self> {
        Self::open(config, Kind::Embedded).await
    }

    /// Opens a runtime of containers that the runc at `program` makes. Needs root, as the embedded one does, and enforces
    /// the same.
    ///
    /// # Errors
    /// Where the folder cannot be used, or another runtime uses it.
    pub async fn runc(config: LocalConfig, program: impl Into<PathBuf>) -> Result<Self> {
        let program = program.into();
        Self::open(config, Kind::Runc { program }).await
    }

    /// Opens a runtime of plain namespaces, for use without root.
    ///
    /// # Errors
    /// Where the folder cannot be used, or another runtime uses it.
    pub async fn process(config: LocalConfig) -> Result<Self> {
        Self::open(config, Kind::Process).await
    }

    async fn open(config: LocalConfig, kind: Kind) -> Result<Self> {
        let LocalConfig {
            root: config_root,
            shim,
            image_limits,
            image_bytes,
            registries,
            layers,
            cdi_dirs,
        } = config;
        let failed = || io_error("open the runtime's folder", &config_root);
        let root = Root::open(&config_root).map_err(failed())?;
        let is_root = rustix::process::geteuid().is_root();
        let flat_because = if !kind.isolates() {
            Some("the process runtime copies images".to_owned())
        } else if !is_root {
            Some("stacking layers needs root".to_owned())
        } else if layers == LayerUse::Copy {
            Some("as configured".to_owned())
        } else {
            probe::layers(root.path(), &shim).await?.err()
        };
        let form = if flat_because.is_some() {
            LayerForm::Flat
        } else {
            LayerForm::Overlay
        };
        let containers = root.join("containers");
        let store = Store::open(StoreConfig {
            root: root.join("store"),
            form,
            limits: image_limits,
            bytes: image_bytes,
            registries,
            in_use: InUse::new(move || images_of(&containers, JOB, |job: Job| job.spec.image)),
        })
        .map_err(failed())?;
        let ids = if is_root {
            Some(IdRanges::open(root.path()).map_err(failed())?)
        } else {
            None
        };
        let runtime = Self {
            kind,
            shim,
            store,
            flat_because,
            cdi_dirs,
            ids,
            // One for each runtime on the machine, named for its folder.
            cgroup_parent: format!("{CGROUP_PREFIX}{}", root.short_name()),
            changing: Turns::default(),
            starting: RwLock::default(),
            capabilities: OnceCell::new(),
            root,
        };
        runtime
            .root
            .sweep()
            .map_err(io_error("clean up in", runtime.root.path()))?;
        Ok(runtime)
    }

    fn container(&self, id: &ContainerId) -> Container {
        let cgroup = self.kind.isolates();
        let cgroup = cgroup.then(|| Cgroup::at(&self.cgroup_path(id)));
        Container::new(id.clone(), self.root.container(id), cgroup)
    }

    fn cgroup_path(&self, id: &ContainerId) -> String {
        format!("{}/{id}", self.cgroup_parent)
    }

    /// Runs `work` while nobody else changes container `id`.
    async fn alone<T>(&self, id: &ContainerId, work: impl Future<Output = T>) -> T {
        self.changing.alone(id, work).await
    }

    async fn start_alone(&self, id: &ContainerId) -> Result<()> {
        let container = self.container(id);
        let _starting = self.starting.read().await;
        let mut status = container.status()?;
        if status == Status::Created {
            self.run_shim(&container).await?;
            status = container.status()?;
        }
        let deadline = Instant::now() + START_DEADLINE;
        while status == Status::Starting {
            // Somebody before us ran its shim.
            if Instant::now() > deadline {
                let what = format!("waiting for container {id} to start");
                return Err(Error::Deadline {
                    what,
                    after: START_DEADLINE,
                });
            }
            sleep(LOOK_AGAIN).await;
            status = container.status()?;
        }
        let failed = |blame, reason| {
            Err(Error::StartFailed {
                id: id.clone(),
                blame,
                reason,
            })
        };
        match status {
            Status::Running { .. } | Status::Exited(_) => Ok(()),
            Status::Failed { blame, reason } => failed(blame, reason),
            Status::Lost { .. } => failed(Blame::Provider, "its shim died".to_owned()),
            Status::Created | Status::Starting => failed(
                Blame::Provider,
                format!("its shim did not begin: {}", container.shim_log()),
            ),
        }
    }

    async fn restart_alone(&self, id: &ContainerId, round: u32) -> Result<()> {
        let container = self.container(id);
        if let Status::Exited(_) = container.status()? {
            // The shim writes the end down a moment before its own, and keeps the container until then.
            container.shim_end(LOST_SETTLE).await?;
        }
        tokio::task::spawn_blocking(move || container.reopen(round))
            .await
            .expect("reopening a container does not panic")?;
        self.start_alone(id).await
    }

    /// Runs the shim, and returns once it has something to say: the command runs, or it is over.
    async fn run_shim(&self, container: &Container) -> Result<()> {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(container.dir().join(SHIM_LOG))
            .map_err(io_error("open the shim's log in", container.dir()))?;
        let mut child = tokio::process::Command::new(&self.shim)
            .arg(SHIM_ARGUMENT)
            .arg(container.dir())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(io_error("run the shim", &self.shim))?;
        let mut word = child.stdout.take().expect("its output was asked for");
        let mut nothing = Vec::new();
        let told = timeout(START_DEADLINE, word.read_to_end(&mut nothing)).await;
        if matches!(container.status()?, Status::Created | Status::Failed { .. }) {
            // It is ending: collect it. One that stays is collected by the runtime's own reaper.
            let _ignored = timeout(KILL_DEADLINE, child.wait()).await;
        }
        told.map_err(|_| Error::Deadline {
            what: format!("waiting for container {} to start", container.id()),
            after: START_DEADLINE,
        })?
        .map_err(io_error("hear from the shim", &self.shim))?;
        Ok(())
    }

    /// Brings `id` to an end by `request`, which leaves it `patience` to obey.
    async fn end(&self, id: &ContainerId, request: Request, patience: Duration) -> Result<()> {
        let container = self.container(id);
        let begin = Instant::now();
        let mut sent = false;
        loop {
            match container.status()? {
                Status::Created => {
                    let cancel = async { container.cancel() };
                    self.alone(id, cancel).await?;
                    continue;
                }
                Status::Lost { alive: true, .. } => return kill_lost(container).await,
                status if status.is_final() => return Ok(()),
                _ => {}
            }
            if begin.elapsed() > patience + KILL_DEADLINE {
                let what = format!("ending container {id}");
                return Err(Error::Deadline {
                    what,
                    after: begin.elapsed(),
                });
            }
            // It may be so young that its shim does not listen yet.
            if !sent {
                sent = request
                    .send(container.dir())
                    .map_err(io_error("reach the shim in", container.dir()))?;
            }
            if sent {
                container.shim_end(LOST_SETTLE.min(KILL_DEADLINE)).await?;
            } else {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    async fn remove_alone(&self, id: &ContainerId) -> Result<()> {
        let container = self.container(id);
        if !container.exists() {
            return Ok(());
        }
        match self.end_alone(&container).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            // A shim that does not obey is killed; its control group is, below.
            Err(Error::Deadline { .. }) => container.kill_shim(),
            Err(e) => return Err(e),
        }
        let trash = self.root.join("trash");
        let ids = self.ids.clone();
        tokio::task::spawn_blocking(move || container.wipe(&trash, ids.as_ref()))
            .await
            .expect("wiping a container does not panic")?;
        if self.kind.isolates()
            && let Ok(_nobody_starts) = self.starting.try_write()
        {
            Cgroup::at(&self.cgroup_parent).remove_if_empty();
        }
        Ok(())
    }

    /// As [`Self::end`] with a kill, for a caller that holds the container's lock already.
    async fn end_alone(&self, container: &Container) -> Result<()> {
        if container.status()? == Status::Created {
            return container.cancel();
        }
        self.end(container.id(), Request::Kill, Duration::ZERO)
            .await
    }
}

impl Drop for LocalRuntime {
    fn drop(&mut self) {
        // Where nothing of ours runs on, nothing of ours stays in the host's tree.
        if self.kind.isolates() {
            Cgroup::at(&self.cgroup_parent).remove_if_empty();
        }
    }
}

async fn kill_lost(container: Container) -> Result<()> {
    tokio::task::spawn_blocking(move || container.kill_lost())
        .await
        .expect("killing a lost container does not panic")
}

#[async_trait]
impl Runtime for LocalRuntime {
    async fn probe(&self) -> Result<Capabilities> {
        let found = self.capabilities.get_or_try_init(|| self.measure()).await;
        let mut found = found.cloned()?;
        self.find_devices(&mut found);
        Ok(found)
    }

    async fn prepare_as(
        &self,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<PreparedImage> {
        let failed = |source| Error::Image {
            image: image.to_string(),
            source: Box::new(source),
        };
        self.store.prepare(image, credential).await.map_err(failed)
    }

    async fn forget_images(&self, keep: &[Digest]) -> Result<()> {
        let (keep, store) = (keep.to_vec(), self.store.clone());
        tokio::task::spawn_blocking(move || store.forget_all_but(&keep))
            .await
            .expect("forgetting images does not panic")
            .map_err(io_error("forget images in", self.root.path()))
    }

    async fn create(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        self.alone(id, self.create_alone(id, spec)).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.alone(id, self.start_alone(id)).await
    }

    async fn restart(&self, id: &ContainerId, round: u32) -> Result<()> {
        self.alone(id, self.restart_alone(id, round)).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        let grace_ms = u64::try_from(grace.as_millis())
            .unwrap_or(u64::MAX)
            .min(GRACE_MS_MAX);
        let patience = Duration::from_millis(grace_ms);
        self.end(id, Request::Stop { grace_ms }, patience).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.end(id, Request::Kill, Duration::ZERO).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.alone(id, self.remove_alone(id)).await
    }

    async fn status(&self, id: &ContainerId) -> Result<Status> {
        self.container(id).status()
    }

    async fn list(&self) -> Result<Vec<(ContainerId, Status)>> {
        let mut found = Vec::new();
        for id in self.root.containers()? {
            match self.container(&id).status() {
                Ok(status) => found.push((id, status)),
                Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found)
    }

    async fn logs(
        &self,
        id: &ContainerId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk> {
        self.root.logs(id, stream, offset, max).await
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        let container = self.container(id);
        Ok(match container.status()? {
            Status::Exited(exit) => exit.stats,
            _ => container.stats(),
        })
    }

    async fn wait(&self, id: &ContainerId) -> Result<Status> {
        let container = self.container(id);
        let mut lost_since = None;
        loop {
            match container.status()? {
                Status::Created => sleep(LOOK_FOR_START).await,
                status @ Status::Lost { alive: true, .. } => {
                    let since = *lost_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > LOST_SETTLE {
                        return Ok(status);
                    }
                    sleep(LOOK_AGAIN).await;
                }
                status if status.is_final() => return Ok(status),
                _ => container.shim_end(Duration::MAX).await?,
            }
        }
    }
}

/// Waits until the process behind `watch` has ended, or `patience` is over.
#[expect(
    deprecated,
    reason = "its successor is unsafe, for descriptors closed early; this one is owned"
)]
async fn process_end(watch: std::os::fd::OwnedFd, patience: Duration) -> io::Result<()> {
    let watch = AsyncFd::new(watch)?;
    if let Ok(ready) = timeout(patience, watch.readable()).await {
        ready?.retain_ready();
    }
    Ok(())
}
