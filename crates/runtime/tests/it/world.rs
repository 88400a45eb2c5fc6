//! What a test needs: a guest program, an image of it, and a runtime in a folder of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::{
    Capabilities, ContainerId, ContainerSpec, Digest, EngineConfig, EngineRuntime, ImageRef,
    LayerUse, Limits, LocalConfig, LocalRuntime, LogStream, Runtime, Status,
};
use tempfile::TempDir;
use tokio::time::timeout;

/// The program that is a shim and, in some tests, the agent that is killed.
pub(crate) const CONTAINERS: &str = env!("CARGO_BIN_EXE_containers");
/// No test's container runs for longer, however loaded the machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);
pub(crate) const LIMITS: Limits = Limits {
    cpu_milli: 1000,
    memory_bytes: 128 << 20,
    pids: 64,
};

pub(crate) struct World {
    pub(crate) runtime: Box<dyn Runtime>,
    pub(crate) root: PathBuf,
    pub(crate) image: Digest,
    pub(crate) capabilities: Capabilities,
    pub(crate) name: &'static str,
    // Before the folder that it works in.
    _engine: Option<Podman>,
    _dir: TempDir,
}

/// How a container went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: Status,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn code(&self) -> u8 {
        match &self.status {
            Status::Exited(exit) => exit.code,
            other => panic!("it did not exit: {other:?}, {self:?}"),
        }
    }
}

pub(crate) fn skip(name: &str, reason: &str) {
    // Past the test harness's capture, so that nobody takes it for a pass.
    let _ignored = writeln!(std::io::stderr(), "SKIPPED {name}: {reason}");
}

/// Tells whether `program` is installed; where it is not, says that test `name` is skipped.
pub(crate) fn has(program: &str, name: &str) -> bool {
    find(program, name).is_some()
}

/// Returns where `program` is; where it is not, says that test `name` is skipped.
pub(crate) fn find(program: &str, name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let also = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&paths)
        .chain(also)
        .map(|dir| dir.join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        skip(name, &format!("{program} is not installed"));
    }
    found
}

/// Runs a program to its end, which must be good.
pub(crate) fn tool(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {words:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn is_root() -> bool {
    rustix_geteuid() == 0
}

fn rustix_geteuid() -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap())
}

impl World {
    pub(crate) async fn embedded(name: &'static str) -> Option<Self> {
        if !is_root() {
            skip(name, "the embedded runtime needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runtime");
        let runtime = LocalRuntime::embedded(LocalConfig::new(&root, CONTAINERS))
            .await
            .unwrap();
        Self::with(name, dir, root, runtime).await
    }

    pub(crate) async fn runc(name: &'static str) -> Option<Self> {
        if !is_root() {
            skip(name, "the runc runtime needs root");
            return None;
        }
        let program = find("runc", name)?;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runtime");
        let runtime = LocalRuntime::runc(LocalConfig::new(&root, CONTAINERS), program)
            .await
            .unwrap();
        Self::with(name, dir, root, runtime).await
    }

    /// Embedded, with a copy of the image for each container.
    pub(crate) async fn copying(name: &'static str) -> Option<Self> {
        if !is_root() {
            skip(name, "the embedded runtime needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runtime");
        let mut config = LocalConfig::new(&root, CONTAINERS);
        config.layers = LayerUse::Copy;
        let runtime = LocalRuntime::embedded(config).await.unwrap();
        Self::with(name, dir, root, runtime).await
    }

    pub(crate) async fn process(name: &'static str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runtime");
        let runtime = LocalRuntime::process(LocalConfig::new(&root, CONTAINERS))
            .await
            .unwrap();
        Self::with(name, dir, root, runtime).await
    }

    /// By a podman of its own, with everything in the test's folder.
    pub(crate) async fn engine(name: &'static str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let podman = Podman::start(dir.path(), name)?;
        let root = dir.path().join("runtime");
        let runtime = EngineRuntime::open(EngineConfig::new(&root, &podman.socket));
        let runtime = Box::new(runtime.await.unwrap());
        Self::with_engine(name, dir, root, runtime, Some(podman)).await
    }

    pub(crate) async fn with(
        name: &'static str,
        dir: TempDir,
        root: PathBuf,
        runtime: LocalRuntime,
    ) -> Option<Self> {
        Self::with_engine(name, dir, root, Box::new(runtime), None).await
    }

    async fn with_engine(
        name: &'static str,
        dir: TempDir,
        root: PathBuf,
        runtime: Box<dyn Runtime>,
        engine: Option<Podman>,
    ) -> Option<Self> {
        let capabilities = runtime.probe().await.unwrap();
        if let Err(reason) = &capabilities.usable {
            skip(name, reason);
            return None;
        }
        let image = runtime.prepare(&guest_image()).await.unwrap().digest;
        Some(Self {
            runtime,
            root,
            image,
            capabilities,
            name,
            _engine: engine,
            _dir: dir,
        })
    }

    pub(crate) fn spec(&self, words: &[&str]) -> ContainerSpec {
        let mut spec = ContainerSpec::new(self.image, LIMITS);
        spec.args = Some(words.iter().map(|&w| w.to_owned()).collect());
        spec
    }

    /// Runs `words` to the end, and removes the container.
    pub(crate) async fn run(&self, words: &[&str]) -> Outcome {
        self.run_spec(&self.spec(words)).await
    }

    pub(crate) async fn run_spec(&self, spec: &ContainerSpec) -> Outcome {
        let id = id("run");
        self.runtime.create(&id, spec).await.unwrap();
        self.runtime.start(&id).await.unwrap();
        let outcome = self.outcome(&id).await;
        self.runtime.remove(&id).await.unwrap();
        outcome
    }

    /// Starts `words` and waits until they have written a line.
    pub(crate) async fn start_ready(&self, name: &str, words: &[&str]) -> ContainerId {
        let id = id(name);
        self.runtime.create(&id, &self.spec(words)).await.unwrap();
        self.runtime.start(&id).await.unwrap();
        self.line(&id).await;
        id
    }

    /// Waits until the container has written a line.
    pub(crate) async fn line(&self, id: &ContainerId) {
        let wait = async {
            while self.log(id, LogStream::Stdout).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(DEADLINE, wait)
            .await
            .expect("the container writes a line");
    }

    pub(crate) async fn outcome(&self, id: &ContainerId) -> Outcome {
        let status = timeout(DEADLINE, self.runtime.wait(id))
            .await
            .expect("it ends")
            .unwrap();
        Outcome {
            status,
            stdout: self.log(id, LogStream::Stdout).await,
            stderr: self.log(id, LogStream::Stderr).await,
        }
    }

    pub(crate) async fn log(&self, id: &ContainerId, stream: LogStream) -> String {
        let chunk = self.runtime.logs(id, stream, 0, 1 << 20).await.unwrap();
        String::from_utf8(chunk.bytes).unwrap()
    }

    pub(crate) fn container_dir(&self, id: &ContainerId) -> PathBuf {
        self.root.join("containers").join(id.as_str())
    }

    /// Tells whether it isolates, and does not only run.
    pub(crate) fn isolates(&self) -> bool {
        self.capabilities.name != "process"
    }
}

pub(crate) fn id(name: &str) -> ContainerId {
    ContainerId::new(name).unwrap()
}

/// Returns the image that holds the guest and nothing else.
pub(crate) fn guest_image() -> ImageRef {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    let layout = LAYOUT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("layout-{}", Digest::of(guest()).hex()));
        let layer = LayerBuilder::new().file("guest", 0o755, guest()).unwrap();
        // The same files each time, put in one step: another test process may be reading them.
        ImageBuilder::new()
            .layer(layer.finish().unwrap())
            .entrypoint(["/guest"])
            .env("FROM_IMAGE", "yes")
            .write(&dir, "latest")
            .unwrap();
        dir
    });
    layout_ref(layout)
}

pub(crate) fn layout_ref(dir: &Path) -> ImageRef {
    format!("oci:{}:latest", dir.display()).parse().unwrap()
}

/// Returns the guest program, built once for each version of its source.
pub(crate) fn guest() -> &'static [u8] {
    static GUEST: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/guest.rs");
        let version = Digest::of(&std::fs::read(&source).unwrap()).hex();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let built = folder.join(format!("guest-{version}"));
        if !built.exists() {
            let temporary = folder.join(format!("guest-{}", std::process::id()));
            let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
            let status = Command::new(compiler)
                .args([
                    "--edition",
                    "2024",
                    "-O",
                    "-C",
                    "target-feature=+crt-static",
                    "-o",
                ])
                .arg(&temporary)
                .arg(&source)
                .status()
                .expect("tests are run where rustc is");
            assert!(status.success(), "the guest program does not build");
            std::fs::rename(&temporary, &built).unwrap();
        }
        std::fs::read(built).unwrap()
    })
}

/// A podman that serves one test, and is gone with all its containers afterwards.
pub(crate) struct Podman {
    pub(crate) socket: PathBuf,
    words: Vec<String>,
    config: PathBuf,
    service: std::process::Child,
}

impl Podman {
    /// Starts it in `dir`; where that cannot be, says that test `name` is skipped.
    pub(crate) fn start(dir: &Path, name: &str) -> Option<Self> {
        // What Debian's podman needs here: its own default runtime refuses hybrid control groups, its own default limits
        // are more than some machines let it set, and there may be no journal.
        const CONFIG: &str = "[containers]\ndefault_ulimits = [\"nofile=4096:4096\", \"nproc=4096:4096\"]\n\
            [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n";
        if !is_root() {
            skip(name, "podman's service is tested as root");
            return None;
        }
        let program = find("podman", name)?;
        find("runc", name)?;
        let config = dir.join("containers.conf");
        std::fs::write(&config, CONFIG).unwrap();
        let within = |name: &str| dir.join(name).display().to_string();
        let words = ["--root", &within("storage"), "--runroot", &within("run")];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        words.extend(["--storage-driver", "vfs"].map(str::to_owned));
        let socket = dir.join("podman.sock");
        let service = Command::new(program)
            .args(&words)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()))
            .env("CONTAINERS_CONF", &config)
            // Podman's monitor leaves a note here where memory ran out.
            .current_dir(dir)
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(dir.join("podman.log")).unwrap())
            .spawn()
            .unwrap();
        let mut podman = Self {
            socket,
            words,
            config,
            service,
        };
        let begin = std::time::Instant::now();
        while std::os::unix::net::UnixStream::connect(&podman.socket).is_err() {
            if podman.service.try_wait().unwrap().is_some() || begin.elapsed() > DEADLINE {
                let said = std::fs::read_to_string(dir.join("podman.log")).unwrap_or_default();
                skip(name, &format!("podman does not serve: {said}"));
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(podman)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ignored = Command::new("podman")
            .args(&self.words)
            .args(["rm", "--all", "--force", "--time=0"])
            .env("CONTAINERS_CONF", &self.config)
            .output();
        let _ignored = self.service.kill();
        let _ignored = self.service.wait();
    }
}
