//! Agents and shims that are killed.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use runtime::{
    ContainerId, ContainerSpec, EngineConfig, EngineRuntime, Error, ImageRef, LocalConfig,
    LocalRuntime, LogStream, Runtime, Status,
};
use tokio::time::timeout;

use crate::world::{CONTAINERS, DEADLINE, LIMITS, Podman, World, guest_image, id, is_root, skip};

/// The user that no files belong to.
const NOBODY: u32 = 65_534;

#[derive(Clone, Copy)]
enum Kind {
    Embedded,
    Runc,
    Process,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Runc => "runc",
            Self::Process => "process",
        }
    }

    async fn open(self, root: &Path) -> LocalRuntime {
        let config = LocalConfig::new(root, CONTAINERS);
        let runtime = match self {
            Self::Embedded => LocalRuntime::embedded(config).await,
            Self::Runc => LocalRuntime::runc(config, "/usr/sbin/runc").await,
            Self::Process => LocalRuntime::process(config).await,
        };
        runtime.unwrap()
    }
}

/// Starts a container from a process of its own, the agent, and returns that.
fn agent(root: &Path, kind: Kind, image: &ImageRef, name: &str, words: &[&str]) -> Child {
    let mut agent = Command::new(CONTAINERS)
        .args(["hold".as_ref(), root.as_os_str(), kind.word().as_ref()])
        .args([image.to_string().as_str(), name])
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(agent.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "started\n");
    agent
}

async fn agent_killed(kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runtime");
    let mut agent = agent(&root, kind, &guest_image(), "held", &["polite"]);
    agent.kill().unwrap();
    agent.wait().unwrap();

    let runtime = kind.open(&root).await;
    let id = id("held");
    let listed = runtime.list().await.unwrap();
    assert!(
        matches!(&listed[..], [(found, Status::Running { .. })] if *found == id),
        "{listed:?}"
    );
    // Adopting it starts nothing.
    runtime.start(&id).await.unwrap();
    assert_eq!(runtime.list().await.unwrap(), listed);
    let wait = async {
        while runtime
            .logs(&id, LogStream::Stdout, 0, 99)
            .await
            .unwrap()
            .bytes
            != b"ready\n"
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect("its log is read on");
    runtime.stop(&id, DEADLINE).await.unwrap();
    let status = runtime.wait(&id).await.unwrap();
    assert!(
        matches!(&status, Status::Exited(exit) if exit.code == 33),
        "{status:?}"
    );
    runtime.remove(&id).await.unwrap();
}

#[tokio::test]
async fn embedded_container_outlives_its_agent_and_is_adopted() {
    if World::embedded("faults::embedded_container_outlives_its_agent")
        .await
        .is_some()
    {
        agent_killed(Kind::Embedded).await;
    }
}

#[tokio::test]
async fn runc_container_outlives_its_agent_and_is_adopted() {
    if World::runc("faults::runc_container_outlives_its_agent")
        .await
        .is_some()
    {
        agent_killed(Kind::Runc).await;
    }
}

#[tokio::test]
async fn process_container_outlives_its_agent_and_is_adopted() {
    if World::process("faults::process_container_outlives_its_agent")
        .await
        .is_some()
    {
        agent_killed(Kind::Process).await;
    }
}

#[tokio::test]
async fn exit_code_survives_while_no_agent_is_there() {
    if World::process("faults::exit_code_survives").await.is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("runtime");
    let kind = if is_root() {
        Kind::Embedded
    } else {
        Kind::Process
    };
    let mut agent = agent(&root, kind, &guest_image(), "alone", &["sleep", "1"]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    let begin = Instant::now();
    while !root.join("containers/alone/end.json").exists() {
        assert!(begin.elapsed() < DEADLINE, "the shim writes down the end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let runtime = kind.open(&root).await;
    let status = runtime.status(&id("alone")).await.unwrap();
    let Status::Exited(exit) = status else {
        panic!("{status:?}")
    };
    assert_eq!(exit.code, 0);
    // The start is noted just after the process began to run: a little later on a busy machine, never earlier.
    assert!(exit.ended_at_ms - exit.started_at_ms >= 900, "{exit:?}");
}

async fn shim_killed(world: &World) {
    let id = world.start_ready("lost", &["ticks"]).await;
    let dir = world.container_dir(&id);
    let begun: serde_json::Value =
        serde_json::from_slice(&std::fs::read(dir.join("begun.json")).unwrap()).unwrap();
    let shim = begun["shim_pid"].to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &shim])
            .status()
            .unwrap()
            .success()
    );

    let status = timeout(DEADLINE, world.runtime.wait(&id))
        .await
        .unwrap()
        .unwrap();
    assert!(
        matches!(
            status,
            Status::Lost {
                alive: false,
                started_at_ms: Some(_)
            }
        ),
        "the container dies with its shim: {status:?}"
    );
    let again = world.runtime.start(&id).await;
    assert!(matches!(again, Err(Error::StartFailed { .. })), "{again:?}");
    // Killing what is dead is no error, and what it wrote is still there.
    world.runtime.kill(&id).await.unwrap();
    assert!(
        world
            .log(&id, LogStream::Stdout)
            .await
            .starts_with("tick 0\n")
    );
    world.runtime.remove(&id).await.unwrap();
    assert!(!dir.exists());
    crate::suite::remove_leaves_nothing(world).await;
}

#[tokio::test]
async fn embedded_container_of_a_killed_shim_is_lost_and_removed() {
    let world = World::embedded("faults::embedded_container_of_a_killed_shim").await;
    if let Some(world) = world {
        shim_killed(&world).await;
    }
}

#[tokio::test]
async fn runc_container_of_a_killed_shim_is_lost_and_removed() {
    if let Some(world) = World::runc("faults::runc_container_of_a_killed_shim").await {
        shim_killed(&world).await;
    }
}

#[tokio::test]
async fn process_container_of_a_killed_shim_is_lost_and_removed() {
    if let Some(world) = World::process("faults::process_container_of_a_killed_shim").await {
        shim_killed(&world).await;
    }
}

#[tokio::test]
async fn a_second_runtime_is_kept_out_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let config = LocalConfig::new(dir.path(), CONTAINERS);
    let _first = LocalRuntime::process(config.clone()).await.unwrap();
    assert!(LocalRuntime::process(config).await.is_err());
}

#[test]
fn an_ordinary_user_runs_containers() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    if !is_root() {
        return skip(
            "faults::an_ordinary_user_runs_containers",
            "the rest of the suite does it",
        );
    }
    // Everything it needs where it may read it.
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let program = dir.path().join("containers");
    std::fs::copy(CONTAINERS, &program).unwrap();
    let ImageRef::Layout { path, .. } = guest_image() else {
        panic!()
    };
    assert!(
        Command::new("cp")
            .arg("-r")
            .args([&path, dir.path()])
            .status()
            .unwrap()
            .success()
    );
    let image = dir.path().join(path.file_name().unwrap());
    assert!(
        Command::new("chmod")
            .args(["-R", "a+rX"])
            .arg(&image)
            .status()
            .unwrap()
            .success()
    );
    let as_nobody = |words: &[&str]| {
        Command::new(&program)
            .args(words)
            .current_dir(dir.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap()
    };
    let root = dir.path().join("runtime").display().to_string();
    let probed = as_nobody(&["probe", &root, "process"]);
    let found: serde_json::Value = serde_json::from_slice(&probed.stdout).unwrap();
    if let Some(reason) = found["usable"]["Err"].as_str() {
        return skip("faults::an_ordinary_user_runs_containers", reason);
    }
    assert_eq!(found["isolation"], "none");
    assert_eq!(found["seccomp"], true, "{found}");
    let image = format!("oci:{}:latest", image.display());
    let who = as_nobody(&["run", &root, "process", &image, "mine", "who"]);
    assert_eq!(
        String::from_utf8_lossy(&who.stdout),
        "uid=0 gid=0 parent=1 cwd=/\n",
        "{who:?}"
    );
    let left = as_nobody(&["run", &root, "process", &image, "mine", "exit", "7"]);
    assert_eq!(left.status.code(), Some(7), "{left:?}");
    // And the other runtime says plainly why it is not for them.
    let probed = as_nobody(&["probe", &format!("{root}2"), "embedded"]);
    let found: serde_json::Value = serde_json::from_slice(&probed.stdout).unwrap();
    assert!(
        found["usable"]["Err"].as_str().unwrap().contains("root"),
        "{found}"
    );
}

#[tokio::test]
async fn engine_container_outlives_its_agent_and_what_that_wrote_down() {
    let name = "faults::engine_container_outlives_its_agent";
    let dir = tempfile::tempdir().unwrap();
    let Some(podman) = Podman::start(dir.path(), name) else {
        return;
    };
    let root = dir.path().join("runtime");
    let open = async || {
        let config = EngineConfig::new(&root, &podman.socket);
        EngineRuntime::open(config).await.unwrap()
    };
    let first = open().await;
    if let Err(reason) = first.probe().await.unwrap().usable {
        return skip(name, &reason);
    }
    let image = first.prepare(&guest_image()).await.unwrap().digest;
    let start = async |id: &ContainerId, words: [&str; 2]| {
        let mut spec = ContainerSpec::new(image, LIMITS);
        spec.args = Some(words.map(str::to_owned).into());
        first.create(id, &spec).await.unwrap();
        first.start(id).await.unwrap();
    };
    let (held, brief) = (id("held"), id("brief"));
    start(&held, ["sleep", "600"]).await;
    start(&brief, ["sleep", "1"]).await;
    let held_at = first.status(&held).await.unwrap();
    drop(first);
    // All that it wrote down is lost, and one ends while no agent is there.
    std::fs::remove_dir_all(root.join("containers")).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;

    let second = open().await;
    let listed = second.list().await.unwrap();
    assert!(
        matches!(&listed[..], [(a, Status::Exited(exit)), (b, at)]
            if *a == brief && exit.code == 0 && *b == held && *at == held_at),
        "{listed:?}"
    );
    second.start(&held).await.unwrap();
    second.start(&brief).await.unwrap();
    assert_eq!(second.list().await.unwrap(), listed);
    second.kill(&held).await.unwrap();
    second.remove(&held).await.unwrap();
    second.remove(&brief).await.unwrap();
    assert_eq!(second.list().await.unwrap(), []);
}
