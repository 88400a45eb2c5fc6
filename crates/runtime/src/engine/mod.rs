//! Containers of a podman or Docker that runs on this machine, by its socket.
//!
//! ```text
//! <root>/store/             images, fetched and checked by us, then loaded into the engine
//! <root>/containers/<id>/   what is kept beside the engine's own record, see folder.rs
//! <root>/tmp/  trash/       work in progress and what is being removed; emptied at start
//! ```
//!
//! The engine holds the containers; each carries the id of its lease as a label, with what it was made from, so that an
//! agent finds them again even where its own folder is lost. Nothing starts twice: what has begun is never started
//! again, whatever the engine would allow. What it cannot do that the embedded runtime can is in
//! [`Capabilities::differences`].
//!
//! Map: `body` speaks the engine's language; `folder` is our record; `pump` copies output; `probe` looks what the engine
//! really does to a container.

mod body;
mod folder;
mod probe;
mod pump;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerInspectResponse;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ImportImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, StatsOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use self::folder::{Folder, SPEC};
use self::pump::Pump;
use crate::Runtime;
use crate::capabilities::Capabilities;
use crate::cdi::Edits;
use crate::error::{Blame, Error, Result, io as io_error};
use crate::files;
use crate::id::ContainerId;
use crate::image::{
    Credential, Digest, ImageLimits, ImageRef, InUse, LayerForm, PreparedImage, Registries, Store,
    StoreConfig,
};
use crate::local::{check_spec, compose};
use crate::logs::{self, LogChunk, LogStream};
use crate::root::{Root, images_of};
use crate::shim::job::LOGS;
use crate::spec::ContainerSpec;
use crate::status::{Exit, Stats, Status};
use crate::turns::Turns;

/// Where podman and Docker listen for root, in the order in which they are tried.
pub const USUAL_SOCKETS: [&str; 2] = ["/run/podman/podman.sock", "/var/run/docker.sock"];

/// For one answer of the engine, in seconds; loading images has its own.
const ANSWER_SECONDS: u64 = 60;
/// For the engine to take in an image: a disk under load, some ten gigabytes.
const LOAD_DEADLINE: Duration = Duration::from_mins(30);
/// After SIGKILL: a process that takes longer is stuck in the kernel.
const KILL_DEADLINE: Duration = Duration::from_secs(30);
/// For podman to clean up after a container that has ended.
const SETTLE_DEADLINE: Duration = Duration::from_secs(15);
/// For the rest of the output of a container that has ended.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
/// How often to ask where a container stands that is about to end, or to begin.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often to ask of one that runs.
const LOOK_WHILE_RUNNING: Duration = Duration::from_millis(250);
/// Nobody means to wait longer for a container that was told to end.
const GRACE_MAX: Duration = Duration::from_hours(1);
/// How much of an archive is read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// The name of our images in the engine; the tag is the manifest's digest.
const IMAGE_NAME: &str = "localhost/tradewind";

/// Where an engine is, and where its runtime keeps its own things.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The runtime's folder; made where it is missing. One runtime at a time may use it.
    pub root: PathBuf,
    /// The engine's socket.
    pub socket: PathBuf,
    /// What images may ask for.
    pub image_limits: ImageLimits,
    /// As [`crate::LocalConfig::image_bytes`]; the engine's own copies are not counted.
    pub image_bytes: Option<u64>,
    /// What is known about registries.
    pub registries: Registries,
}

impl EngineConfig {
    /// Returns a configuration for the engine at `socket`.
    pub fn new(root: impl Into<PathBuf>, socket: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            registries: Registries::in_dir(&root),
            root,
            socket: socket.into(),
            image_limits: ImageLimits::default(),
            image_bytes: None,
        }
    }

    /// Returns the usual socket that is there, else the first one.
    pub fn usual_socket() -> PathBuf {
        let mut all = USUAL_SOCKETS.iter().map(PathBuf::from);
        let found = all.find(|path| path.exists());
        found.unwrap_or_else(|| PathBuf::from(USUAL_SOCKETS[0]))
    }
}

/// Runs containers by an engine that is there already.
#[derive(Debug)]
pub struct EngineRuntime {
    root: Root,
    socket: PathBuf,
    store: Store,
    /// Tells our containers from those of another runtime on the same engine.
    scope: String,
    /// Connected at the first use that finds the engine there.
    docker: OnceCell<Docker>,
    has_init: OnceCell<bool>,
    changing: Turns,
    pumps: Mutex<BTreeMap<ContainerId, Pump>>,
    capabilities: OnceCell<Capabilities>,
}

impl EngineRuntime {
    /// Opens a runtime of the engine's containers. Where the engine does not answer, it opens, and [`Runtime::probe`] says
    /// that nothing can run.
    ///
    /// # Errors
    /// Where the folder cannot be used, or another runtime uses it.
    pub async fn open(config: EngineConfig) -> Result<Self> {
        let EngineConfig {
            root: config_root,
            socket,
            image_limits,
            image_bytes,
            registries,
        } = config;
        let failed = || io_error("open the runtime's folder", &config_root);
        let root = Root::open(&config_root).map_err(failed())?;
        root.sweep().map_err(failed())?;
        let containers = root.join("containers");
        let store = Store::open(StoreConfig {
            root: root.join("store"),
            // Packed layers stay in this form, and those are what the engine is given.
            form: LayerForm::Flat,
            limits: image_limits,
            bytes: image_bytes,
            registries,
            in_use: InUse::new(move || used(&containers)),
        })
        .map_err(failed())?;
        let runtime = Self {
            scope: root.short_name(),
            socket,
            store,
            docker: OnceCell::new(),
            has_init: OnceCell::new(),
            changing: Turns::default(),
            pumps: Mutex::default(),
            capabilities: OnceCell::new(),
            root,
        };
        // An engine that is away now is asked again by whatever needs it.
        if let Err(error) = runtime.adopt().await {
            tracing::warn!(%error, "the engine's containers are not known yet");
        }
        Ok(runtime)
    }

    /// Returns the engine, connecting to it where that has not been done.
    async fn docker(&self) -> Result<&Docker> {
        let connect = async || {
            let path = self.socket.to_string_lossy();
            let docker = Docker::connect_with_unix(&path, ANSWER_SECONDS, API_DEFAULT_VERSION)?;
            docker.negotiate_version().await
        };
        let reached = Box::pin(self.docker.get_or_try_init(connect)).await;
        reached.map_err(engine(format!("be reached at {}", self.socket.display())))
    }

    /// Tells whether the engine has a program that can be process 1.
    async fn has_init(&self) -> Result<bool> {
        let docker = self.docker().await?;
        let look = async || {
            let info = docker.info().await.map_err(engine("say what it is"))?;
            let named = info.init_binary.is_some_and(|program| !program.is_empty());
            // Podman does not say; this is where it looks.
            let usual = ["/usr/libexec/podman/catatonit", "/usr/bin/catatonit"];
            Ok(named || usual.iter().any(|path| Path::new(path).exists()))
        };
        self.has_init.get_or_try_init(look).await.copied()
    }

    /// Takes over what the engine holds of ours and this folder does not know.
    async fn adopt(&self) -> Result<()> {
        let wanted = format!("{}={}", body::SCOPE_LABEL, self.scope);
        let filters = HashMap::from([("label", vec![wanted.as_str()])]);
        let options = ListContainersOptionsBuilder::new().all(true);
        let found = self
            .docker()
            .await?
            .list_containers(Some(options.filters(&filters).build()))
            .await
            .map_err(engine("list its containers"))?;
        for container in found {
            let labels = container.labels.unwrap_or_default();
            let id = labels.get(body::ID_LABEL);
            let spec = labels.get(body::SPEC_LABEL);
            let (Some(Ok(id)), Some(Ok(spec))) = (
                id.map(ContainerId::new),
                spec.map(|text| serde_json::from_str(text)),
            ) else {
                continue;
            };
            let folder = self.folder(&id);
            if !folder.exists() {
                tracing::info!(%id, "adopting a container of the engine");
                folder.make(&self.root, &spec)?;
            }
        }
        Ok(())
    }

    fn folder(&self, id: &ContainerId) -> Folder {
        Folder::of(&self.root, id)
    }

    /// Returns the container's name in the engine.
    fn name(&self, id: &ContainerId) -> String {
        format!("tradewind-{}-{id}", self.scope)
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Option<ContainerInspectResponse>> {
        let docker = self.docker().await?;
        let begin = Instant::now();
        loop {
            let name = self.name(id);
            match Box::pin(docker.inspect_container(&name, None)).await {
                Ok(found) => return Ok(Some(found)),
                Err(error) if code(&error) == Some(404) => return Ok(None),
                // For a moment between running and exited podman calls it by a name that Docker does not have.
                Err(EngineError::JsonDataError { .. }) if begin.elapsed() < SETTLE_DEADLINE => {
                    sleep(LOOK_AGAIN).await;
                }
                Err(error) => return Err(engine(format!("look at container {id}"))(error)),
            }
        }
    }

    /// Finds out where `id` stands; an end is written down once all of its output is here.
    async fn look(&self, folder: &Folder) -> Result<Status> {
        if let Some(end) = folder.end()? {
            return Ok(end);
        }
        if !folder.exists() {
            return Err(folder.not_found());
        }
        let Some(found) = self.inspect(&folder.id).await? else {
            return Ok(if folder.has_begun() {
                Status::Lost {
                    alive: false,
                    started_at_ms: None,
                }
            } else {
                Status::Created
            });
        };
        let status = body::status(&found.state.unwrap_or_default());
        match status {
            // What it says is of the round before.
            Status::Exited(ref exit) if exit.started_at_ms <= folder.since()? => {
                return Ok(Status::Created);
            }
            Status::Running { .. } => {
                self.pump(folder).await?;
            }
            Status::Exited(_) => {
                self.drain(folder).await?;
                folder.put_end(&status)?;
            }
            _ => {}
        }
        Ok(status)
    }

    /// Sees to it that the container's output is being copied; tells when that is over.
    async fn pump(&self, folder: &Folder) -> Result<tokio::sync::watch::Receiver<bool>> {
        let docker = self.docker().await?;
        let mut pumps = self.pumps.lock().expect("no holder of this lock panics");
        let pump = pumps
            .entry(folder.id.clone())
            .or_insert_with(|| Pump::start(docker, self.name(&folder.id), folder.dir.join(LOGS)));
        Ok(pump.done.clone())
    }

    async fn drain(&self, folder: &Folder) -> Result<()> {
        let mut done = self.pump(folder).await?;
        let drained = timeout(DRAIN_DEADLINE, done.wait_for(|done| *done)).await;
        if drained.is_err() {
            tracing::warn!(id = %folder.id, "the rest of its output did not come");
        }
        let mut pumps = self.pumps.lock().expect("no holder of this lock panics");
        pumps.remove(&folder.id);
        Ok(())
    }

    async fn create_alone(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        let folder = self.folder(id);
        if let Some(known) = folder.spec()? {
            if known != *spec {
                return Err(Error::SpecDiffers { id: id.clone() });
            }
            let is_there = folder.end()?.is_some() || folder.has_begun();
            if is_there || self.inspect(id).await?.is_some() {
                return Ok(());
            }
        }
        let bad = |reason: String| Error::BadSpec {
            id: id.clone(),
            reason,
        };
        check_spec(spec).map_err(bad)?;
        if !spec.devices.is_empty() {
            let source = crate::cdi::CdiError::Bad {
                what: "the engine runtime".to_owned(),
                problem: "it has no devices to give".to_owned(),
            };
            return Err(Error::Devices {
                id: id.clone(),
                source,
            });
        }
        let stored = self.store.load(&spec.image).map_err(image(&spec.image))?;
        let stored = stored.ok_or(Error::NotPrepared { image: spec.image })?;
        let command = compose(spec, &stored.config, &Edits::default()).map_err(bad)?;
        self.load(&spec.image, &stored.config.diff_ids).await?;
        let request = body::Request {
            image: &image_name(&spec.image),
            scope: &self.scope,
            id: id.as_str(),
            spec,
            command,
            has_init: self.has_init().await?,
        };
        let body = request.body().map_err(|e| bad(e.to_string()))?;
        if !folder.exists() {
            folder.make(&self.root, spec)?;
        }
        let options = CreateContainerOptionsBuilder::new().name(&self.name(id));
        let docker = self.docker().await?;
        let made = docker.create_container(Some(options.build()), body).await;
        if let Err(error) = made {
            folder.wipe(&self.root)?;
            return Err(engine(format!("make container {id}"))(error));
        }
        Ok(())
    }

    /// Sees to it that the engine has the image, with just these layers.
    async fn load(&self, digest: &Digest, diff_ids: &[Digest]) -> Result<()> {
        let (docker, name) = (self.docker().await?, image_name(digest));
        let wanted: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
        if self.layers_of(&name).await?.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let path = self.root.join("tmp").join(format!("{}.tar", digest.hex()));
        let (store, to, of, tag) = (self.store.clone(), path.clone(), *digest, name.clone());
        let written = tokio::task::spawn_blocking(move || store.export(&of, &tag, &to))
            .await
            .expect("writing an image does not panic");
        if !written.map_err(image(digest))? {
            return Err(Error::NotPrepared { image: *digest });
        }
        let failed = || io_error("read the image in", &path);
        let file = tokio::fs::File::open(&path).await.map_err(failed())?;
        let pieces = futures::stream::try_unfold(file, async |mut file| {
            let mut piece = vec![0; PIECE_BYTES];
            let length = file.read(&mut piece).await?;
            piece.truncate(length);
            Ok((length > 0).then(|| (piece.into(), file)))
        });
        let options = ImportImageOptionsBuilder::new().quiet(true).build();
        let loader = docker.clone().with_timeout(LOAD_DEADLINE);
        let answers = loader.import_image(options, bollard::body_try_stream(pieces), None);
        let loaded = timeout(LOAD_DEADLINE, answers.try_collect::<Vec<_>>()).await;
        fs::remove_file(&path).map_err(failed())?;
        loaded
            .map_err(|_| Error::Deadline {
                what: format!("loading image {digest}"),
                after: LOAD_DEADLINE,
            })?
            .map_err(engine(format!("load image {digest}")))?;
        match self.layers_of(&name).await? {
            Some(layers) if layers == wanted => Ok(()),
            found => Err(Error::Engine {
                action: format!("load image {digest}"),
                is_away: false,
                source: format!("it has the layers {found:?}").into(),
            }),
        }
    }

    async fn layers_of(&self, name: &str) -> Result<Option<Vec<String>>> {
        let docker = self.docker().await?;
        match Box::pin(docker.inspect_image(name)).await {
            Ok(found) => Ok(Some(
                found.root_fs.and_then(|r| r.layers).unwrap_or_default(),
            )),
            Err(error) if code(&error) == Some(404) => Ok(None),
            Err(error) => Err(engine(format!("look at image {name}"))(error)),
        }
    }

    async fn start_alone(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        let failed = |blame, reason| Error::StartFailed {
            id: id.clone(),
            blame,
            reason,
        };
        match self.look(&folder).await? {
            Status::Running { .. } | Status::Exited(_) | Status::Starting => return Ok(()),
            Status::Failed { blame, reason } => return Err(failed(blame, reason)),
            Status::Lost { .. } => {
                return Err(failed(Blame::Provider, "the engine lost it".to_owned()));
            }
            Status::Created => {}
        }
        let docker = self.docker().await?;
        folder.mark_begun()?;
        let name = self.name(id);
        let Err(error) = Box::pin(docker.start_container(&name, None)).await else {
            self.pump(&folder).await?;
            return Ok(());
        };
        let EngineError::DockerResponseServerError { message, .. } = &error else {
            return Err(engine(format!("start container {id}"))(error));
        };
        if let Some(code) = unrunnable(message) {
            folder.put_end(&Status::Exited(never_ran(code, message)))?;
            return logs::LogWriter::create(&folder.dir.join(LOGS), LogStream::Stderr)
                .and_then(|mut log| log.append(format!("{message}\n").as_bytes()))
                .map_err(io_error("write the log in", &folder.dir));
        }
        let (blame, reason) = (Blame::Provider, message.clone());
        folder.put_end(&Status::Failed {
            blame,
            reason: reason.clone(),
        })?;
        Err(failed(blame, reason))
    }

    async fn restart_alone(&self, id: &ContainerId, round: u32) -> Result<()> {
        let folder = self.folder(id);
        // Writes the end down, where that has not been done.
        self.look(&folder).await?;
        folder.reopen(round)?;
        self.start_alone(id).await
    }

    async fn signal(&self, id: &ContainerId, signal: &str) -> Result<()> {
        let options = KillContainerOptionsBuilder::new().signal(signal).build();
        let docker = self.docker().await?;
        let name = self.name(id);
        match Box::pin(docker.kill_container(&name, Some(options))).await {
            // Gone or ended meanwhile.
            Err(error) if !matches!(code(&error), Some(404 | 409 | 500)) => {
                Err(engine(format!("signal container {id}"))(error))
            }
            _ => Ok(()),
        }
    }

    /// Looks until `id` has ended, for at most `patience`; tells whether it has.
    async fn ends_within(&self, folder: &Folder, patience: Duration) -> Result<bool> {
        let begin = Instant::now();
        while !self.look(folder).await?.is_final() {
            if begin.elapsed() >= patience {
                return Ok(false);
            }
            sleep(LOOK_AGAIN.min(patience)).await;
        }
        Ok(true)
    }

    async fn end(&self, id: &ContainerId, grace: Option<Duration>) -> Result<()> {
        let folder = self.folder(id);
        let cancelled = self.changing.alone(id, async {
            let status = self.look(&folder).await?;
            if status == Status::Created {
                folder.put_end(&files::stopped_before_start())?;
            }
            Ok(status == Status::Created || status.is_final())
        });
        if cancelled.await? {
            return Ok(());
        }
        if let Some(grace) = grace {
            self.signal(id, "SIGTERM").await?;
            if self.ends_within(&folder, grace.min(GRACE_MAX)).await? {
                return Ok(());
            }
        }
        self.signal(id, "SIGKILL").await?;
        if self.ends_within(&folder, KILL_DEADLINE).await? {
            return Ok(());
        }
        Err(Error::Deadline {
            what: format!("ending container {id}"),
            after: KILL_DEADLINE,
        })
    }

    async fn remove_alone(&self, id: &ContainerId) -> Result<()> {
        let folder = self.folder(id);
        if !folder.exists() {
            return Ok(());
        }
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
        let docker = self.docker().await?;
        let name = self.name(id);
        let removed = docker.remove_container(&name, Some(options.build()));
        match removed.await {
            Err(error) if code(&error) != Some(404) => {
                return Err(engine(format!("remove container {id}"))(error));
            }
            _ => {}
        }
        let mut pumps = self.pumps.lock().expect("no holder of this lock panics");
        pumps.remove(id);
        drop(pumps);
        folder.wipe(&self.root)
    }

    async fn forget_loaded(&self, keep: &[Digest]) -> Result<()> {
        let used = used(&self.root.join("containers"));
        let used = used.map_err(io_error("list the containers in", self.root.path()))?;
        let kept: Vec<String> = keep.iter().chain(&used).map(image_name).collect();
        let filters = HashMap::from([("reference", vec![IMAGE_NAME])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let docker = self.docker().await?;
        let found = docker.list_images(Some(options)).await;
        for tag in found
            .map_err(engine("list its images"))?
            .into_iter()
            .flat_map(|image| image.repo_tags)
            .filter(|tag| tag.starts_with(IMAGE_NAME) && !kept.contains(tag))
        {
            let options = RemoveImageOptionsBuilder::new().build();
            match docker.remove_image(&tag, Some(options), None).await {
                // Another runtime's containers may use it.
                Err(error) if !matches!(code(&error), Some(404 | 409)) => {
                    return Err(engine(format!("remove image {tag}"))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Returns the images that the containers in the folder `dir` were made from.
fn used(dir: &Path) -> io::Result<BTreeSet<Digest>> {
    images_of(dir, SPEC, |spec: ContainerSpec| spec.image)
}

fn image_name(digest: &Digest) -> String {
    format!("{IMAGE_NAME}:{}", digest.hex())
}

/// Returns the code for a command that the engine says cannot be executed.
fn unrunnable(message: &str) -> Option<u8> {
    let said = message.to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if any(&[
        "executable file not found",
        "no such file or directory",
        "executable file `",
    ]) {
        Some(127)
    } else if any(&["permission denied", "is a directory", "exec format error"]) {
        Some(126)
    } else {
        None
    }
}

fn never_ran(code: u8, message: &str) -> Exit {
    let now = files::now_ms();
    Exit {
        code,
        signal: None,
        oom: false,
        started_at_ms: now,
        ended_at_ms: now,
        reason: Some(message.to_owned()),
        stats: Stats::default(),
    }
}

fn image(digest: &Digest) -> impl FnOnce(crate::image::ImageError) -> Error {
    let image = digest.to_string();
    move |source| Error::Image {
        image,
        source: Box::new(source),
    }
}

/// Returns the code of an engine's refusal.
fn code(error: &EngineError) -> Option<u16> {
    match error {
        EngineError::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Names what was attempted, for `map_err`.
fn engine(action: impl Into<String>) -> impl FnOnce(EngineError) -> Error {
    let action = action.into();
    move |source| Error::Engine {
        action,
        is_away: code(&source).is_none(),
        source: Box::new(source),
    }
}

#[async_trait]
impl Runtime for EngineRuntime {
    async fn probe(&self) -> Result<Capabilities> {
        let found = self.capabilities.get_or_try_init(|| self.measure()).await;
        found.cloned()
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
        let prepared = self
            .store
            .prepare(image, credential)
            .await
            .map_err(failed)?;
        let stored = self.store.load(&prepared.digest).map_err(failed)?;
        if let Some(stored) = stored {
            self.load(&prepared.digest, &stored.config.diff_ids).await?;
        }
        Ok(prepared)
    }

    async fn forget_images(&self, keep: &[Digest]) -> Result<()> {
        self.forget_loaded(keep).await?;
        let (keep, store) = (keep.to_vec(), self.store.clone());
        tokio::task::spawn_blocking(move || store.forget_all_but(&keep))
            .await
            .expect("forgetting images does not panic")
            .map_err(io_error("forget images in", self.root.path()))
    }

    async fn create(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        let create = Box::pin(self.create_alone(id, spec));
        self.changing.alone(id, create).await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        let start = Box::pin(self.start_alone(id));
        self.changing.alone(id, start).await
    }

    async fn restart(&self, id: &ContainerId, round: u32) -> Result<()> {
        let restart = Box::pin(self.restart_alone(id, round));
        self.changing.alone(id, restart).await
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()> {
        self.end(id, Some(grace)).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.end(id, None).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        let remove = Box::pin(self.remove_alone(id));
        self.changing.alone(id, remove).await
    }

    async fn status(&self, id: &ContainerId) -> Result<Status> {
        self.look(&self.folder(id)).await
    }

    async fn list(&self) -> Result<Vec<(ContainerId, Status)>> {
        self.adopt().await?;
        let mut found = Vec::new();
        for id in self.root.containers()? {
            match self.look(&self.folder(&id)).await {
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
        match self.status(id).await? {
            Status::Exited(exit) => return Ok(exit.stats),
            Status::Running { .. } => {}
            _ => return Ok(Stats::default()),
        }
        let options = StatsOptionsBuilder::new().stream(false).one_shot(true);
        let docker = self.docker().await?;
        let mut told = std::pin::pin!(docker.stats(&self.name(id), Some(options.build())));
        match told.next().await {
            Some(Ok(found)) => Ok(body::stats(&found)),
            // It has just ended.
            Some(Err(error)) if matches!(code(&error), Some(404 | 409)) => Ok(Stats::default()),
            Some(Err(error)) => Err(engine(format!("count what container {id} uses"))(error)),
            None => Ok(Stats::default()),
        }
    }

    async fn wait(&self, id: &ContainerId) -> Result<Status> {
        let folder = self.folder(id);
        loop {
            match self.look(&folder).await {
                Ok(status) if status.is_final() => return Ok(status),
                Ok(Status::Running { .. }) | Err(Error::Engine { is_away: true, .. }) => {
                    sleep(LOOK_WHILE_RUNNING).await;
                }
                Ok(_) => sleep(LOOK_AGAIN).await,
                Err(error) => return Err(error),
            }
        }
    }
}
