//! What holds for every runtime of containers.

use std::time::{Duration, Instant};

use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::{Blame, ContainerSpec, Difference, Digest, Error, LogStream, Status};

use crate::world::{DEADLINE, LIMITS, World, guest, id, layout_ref, skip};

const EPERM: &str = "errno 1\n";
const ENOSYS: &str = "errno 38\n";

pub(crate) async fn exit_code_and_both_streams_come_back(world: &World) {
    let said = world.run(&["say", "hello"]).await;
    assert_eq!(
        (said.code(), said.stdout.as_str(), said.stderr.as_str()),
        (0, "hello\n", "")
    );
    let complained = world.run(&["complain", "oh"]).await;
    assert_eq!(
        (complained.stdout.as_str(), complained.stderr.as_str()),
        ("", "oh\n")
    );
    let left = world.run(&["exit", "42"]).await;
    assert_eq!(left.code(), 42);
    let Status::Exited(exit) = left.status else {
        panic!("{left:?}")
    };
    assert!(exit.ended_at_ms >= exit.started_at_ms && exit.started_at_ms > 1_700_000_000_000);
    assert_eq!((exit.signal, exit.oom, exit.reason), (None, false, None));
}

pub(crate) async fn a_missing_command_is_127_and_an_unfit_one_126(world: &World) {
    for (command, code) in [
        ("no-such-program", 127),
        ("/nowhere/at-all", 127),
        ("/etc", 126),
    ] {
        let mut spec = world.spec(&[]);
        spec.command = Some(vec![command.to_owned()]);
        spec.workdir = Some("/etc".to_owned());
        let outcome = world.run_spec(&spec).await;
        assert_eq!(outcome.code(), code, "{command}: {outcome:?}");
        assert!(outcome.stderr.contains(command), "{outcome:?}");
        let Status::Exited(exit) = outcome.status else {
            panic!()
        };
        assert!(exit.reason.is_some_and(|r| r.contains(command)));
    }
}

pub(crate) async fn a_signal_that_ends_the_command_is_told(world: &World) {
    let outcome = world.run(&["abort"]).await;
    if world.capabilities.differs(Difference::CommandIsFirst) {
        // Process 1 cannot abort: the library then does what no process outlives.
        assert!(matches!(outcome.status, Status::Exited(exit) if exit.signal == Some(11)));
        return;
    }
    assert_eq!(outcome.code(), 134);
    assert!(matches!(outcome.status, Status::Exited(exit) if exit.signal == Some(6)));
}

pub(crate) async fn sigterm_reaches_the_command(world: &World) {
    let polite = world.start_ready("polite", &["polite"]).await;
    world.runtime.stop(&polite, DEADLINE).await.unwrap();
    assert_eq!(world.outcome(&polite).await.code(), 33);
    if world.capabilities.differs(Difference::CommandIsFirst) {
        return skip(world.name, "the engine has no init program");
    }
    // One that sets no handler is ended as well: it is not process 1.
    let plain = world.start_ready("plain", &["ticks"]).await;
    world.runtime.stop(&plain, DEADLINE).await.unwrap();
    assert_eq!(world.outcome(&plain).await.code(), 143);
}

pub(crate) async fn a_deaf_command_is_killed_after_the_grace(world: &World) {
    let deaf = world.start_ready("deaf", &["deaf"]).await;
    let grace = Duration::from_millis(300);
    let begin = Instant::now();
    world.runtime.stop(&deaf, grace).await.unwrap();
    assert!(begin.elapsed() >= grace);
    let outcome = world.outcome(&deaf).await;
    assert_eq!(outcome.code(), 137);
    assert!(matches!(outcome.status, Status::Exited(e) if e.signal == Some(9) && !e.oom));
}

pub(crate) async fn kill_ends_it_at_once(world: &World) {
    let deaf = world.start_ready("deaf", &["deaf"]).await;
    world.runtime.kill(&deaf).await.unwrap();
    assert_eq!(world.outcome(&deaf).await.code(), 137);
    // Again is no error.
    world.runtime.kill(&deaf).await.unwrap();
    world.runtime.stop(&deaf, Duration::ZERO).await.unwrap();
}

pub(crate) async fn a_restart_goes_on_with_disk_and_output_and_is_made_once(world: &World) {
    let id = id("again");
    let spec = world.spec(&["count", "/runs"]);
    world.runtime.create(&id, &spec).await.unwrap();
    let early = world.runtime.restart(&id, 1).await;
    assert!(matches!(early, Err(Error::NotEnded { .. })), "{early:?}");
    world.runtime.start(&id).await.unwrap();
    assert_eq!(world.outcome(&id).await.code(), 1);
    for (round, runs) in [(1, 2), (1, 2), (2, 3), (1, 3)] {
        world.runtime.restart(&id, round).await.unwrap();
        let outcome = world.outcome(&id).await;
        assert_eq!(outcome.code(), runs, "round {round}: {outcome:?}");
        let said = "run 1\nrun 2\nrun 3\n";
        let said = said.get(..usize::from(runs) * "run 1\n".len()).unwrap();
        assert_eq!(outcome.stdout, said);
    }
    // One that runs is left alone.
    let deaf = world.start_ready("deaf", &["deaf"]).await;
    let refused = world.runtime.restart(&deaf, 1).await;
    assert!(
        matches!(refused, Err(Error::NotEnded { .. })),
        "{refused:?}"
    );
    world.runtime.kill(&deaf).await.unwrap();
    world.runtime.remove(&id).await.unwrap();
    let gone = world.runtime.restart(&id, 3).await;
    assert!(matches!(gone, Err(Error::NotFound { .. })), "{gone:?}");
}

pub(crate) async fn stopped_before_start_it_never_starts(world: &World) {
    let id = id("never");
    world
        .runtime
        .create(&id, &world.spec(&["say", "no"]))
        .await
        .unwrap();
    world.runtime.stop(&id, Duration::ZERO).await.unwrap();
    assert!(world.runtime.start(&id).await.is_err());
    let outcome = world.outcome(&id).await;
    assert!(matches!(
        outcome.status,
        Status::Failed {
            blame: Blame::Tenant,
            ..
        }
    ));
    assert_eq!(outcome.stdout, "");
}

pub(crate) async fn environment_workdir_and_user_are_as_asked(world: &World) {
    let mut spec = world.spec(&["env"]);
    spec.env.insert("MINE".to_owned(), "a b=c".to_owned());
    spec.limits.cpu_milli = 2500;
    let env = world.run_spec(&spec).await.stdout;
    for line in [
        "MINE=a b=c",
        "FROM_IMAGE=yes",
        "TRADEWIND_CPUS=3",
        "OMP_NUM_THREADS=3",
        "GOMAXPROCS=3",
        "RAYON_NUM_THREADS=3",
        // Podman looks into the image for it; this one knows no users.
        if world.capabilities.name == "engine" {
            "HOME=/"
        } else {
            "HOME=/root"
        },
    ] {
        assert!(env.lines().any(|l| l == line), "{line} is not in {env}");
    }
    assert!(
        !env.contains("CARGO"),
        "the host's environment leaks: {env}"
    );

    let mut spec = world.spec(&["who"]);
    spec.workdir = Some("/made/on/the/way".to_owned());
    let who = world.run_spec(&spec).await;
    let parent = u8::from(!world.capabilities.differs(Difference::CommandIsFirst));
    assert_eq!(
        who.stdout,
        format!("uid=0 gid=0 parent={parent} cwd=/made/on/the/way\n"),
        "{who:?}"
    );

    let layout = tempfile::tempdir().unwrap();
    let layer = LayerBuilder::new()
        .file("etc/passwd", 0o644, b"app:x:1000:1001::/home/app:/bin/sh\n")
        .unwrap()
        .file("guest", 0o755, guest())
        .unwrap();
    ImageBuilder::new()
        .layer(layer.finish().unwrap())
        .entrypoint(["guest"])
        .env("PATH", "/bin:/")
        .args(["who"])
        .user("app")
        .write(layout.path(), "latest")
        .unwrap();
    let image = world
        .runtime
        .prepare(&layout_ref(layout.path()))
        .await
        .unwrap();
    let who = world
        .run_spec(&ContainerSpec::new(image.digest, LIMITS))
        .await
        .stdout;
    if world.capabilities.user_namespaces || world.capabilities.name == "engine" {
        assert_eq!(who, format!("uid=1000 gid=1001 parent={parent} cwd=/\n"));
    } else {
        assert_eq!(who, "uid=0 gid=0 parent=1 cwd=/\n");
    }
}

pub(crate) async fn create_adopts_the_same_spec_and_refuses_another(world: &World) {
    let id = id("adopted");
    let spec = world.spec(&["say", "one"]);
    world.runtime.create(&id, &spec).await.unwrap();
    world.runtime.create(&id, &spec).await.unwrap();
    let other = world
        .runtime
        .create(&id, &world.spec(&["say", "two"]))
        .await;
    assert!(matches!(other, Err(Error::SpecDiffers { .. })), "{other:?}");
    assert_eq!(
        world.runtime.list().await.unwrap(),
        [(id.clone(), Status::Created)]
    );
    world.runtime.start(&id).await.unwrap();
    world.outcome(&id).await;
    // After its end too: the same answer.
    world.runtime.create(&id, &spec).await.unwrap();
    world.runtime.remove(&id).await.unwrap();
    world.runtime.remove(&id).await.unwrap();
    assert!(matches!(
        world.runtime.status(&id).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        world.runtime.start(&id).await,
        Err(Error::NotFound { .. })
    ));
    assert!(matches!(
        world.runtime.logs(&id, LogStream::Stdout, 0, 9).await,
        Err(Error::NotFound { .. })
    ));
    assert_eq!(world.runtime.list().await.unwrap(), []);
}

pub(crate) async fn a_spec_that_cannot_run_is_the_tenants_fault(world: &World) {
    let mut small = world.spec(&["say", "x"]);
    small.limits.memory_bytes = 4096;
    let mut relative = world.spec(&["say", "x"]);
    relative.workdir = Some("here".to_owned());
    let mut nothing = world.spec(&[]);
    nothing.command = Some(Vec::new());
    for spec in [small, relative, nothing] {
        let refused = world.runtime.create(&id("bad"), &spec).await.unwrap_err();
        assert_eq!(refused.blame(), Blame::Tenant, "{refused}");
    }
    let unknown = ContainerSpec::new(Digest::of(b"nothing"), LIMITS);
    let refused = world.runtime.create(&id("bad"), &unknown).await;
    assert!(
        matches!(refused, Err(Error::NotPrepared { .. })),
        "{refused:?}"
    );
}

pub(crate) async fn start_again_does_nothing(world: &World) {
    let id = world.start_ready("once", &["ticks"]).await;
    let before = world.runtime.status(&id).await.unwrap();
    let (a, b, c) = tokio::join!(
        world.runtime.start(&id),
        world.runtime.start(&id),
        world.runtime.start(&id)
    );
    a.and(b).and(c).unwrap();
    assert_eq!(world.runtime.status(&id).await.unwrap(), before);
    world.runtime.kill(&id).await.unwrap();
    world.runtime.start(&id).await.unwrap();
    let outcome = world.outcome(&id).await;
    assert_eq!(outcome.stdout.matches("tick 0\n").count(), 1);
}

pub(crate) async fn logs_are_bounded_and_keep_head_and_tail(world: &World) {
    const WRITTEN: u64 = 40 << 20;
    let id = id("spam");
    world
        .runtime
        .create(&id, &world.spec(&["spam", &WRITTEN.to_string()]))
        .await
        .unwrap();
    world.runtime.start(&id).await.unwrap();
    assert_eq!(world.outcome(&id).await.code(), 0);

    let head = world
        .runtime
        .logs(&id, LogStream::Stdout, 10, 100)
        .await
        .unwrap();
    assert_eq!(
        (head.offset, head.bytes.len(), head.end),
        (10, 100, WRITTEN)
    );
    let gap = world
        .runtime
        .logs(&id, LogStream::Stdout, 8 << 20, 100)
        .await
        .unwrap();
    assert!(
        gap.dropped > 0 && gap.offset == (8 << 20) + gap.dropped,
        "{gap:?}"
    );
    let tail = world
        .runtime
        .logs(&id, LogStream::Stdout, WRITTEN - 5, 100)
        .await
        .unwrap();
    assert_eq!((tail.bytes.len(), tail.next), (5, WRITTEN));
    let kept: u64 = std::fs::read_dir(world.container_dir(&id).join("logs"))
        .unwrap()
        .map(|e| e.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept <= 16 << 20, "{kept} bytes are kept");
}

pub(crate) async fn what_the_command_leaves_behind_ends_with_it(world: &World) {
    let begin = Instant::now();
    let outcome = world.run(&["orphan"]).await;
    assert_eq!((outcome.code(), outcome.stdout.as_str()), (0, "left\n"));
    assert!(begin.elapsed() < Duration::from_secs(30));
}

pub(crate) async fn remove_leaves_nothing(world: &World) {
    let id = world.start_ready("gone", &["deaf"]).await;
    let dir = world.container_dir(&id);
    assert!(dir.exists());
    world.runtime.remove(&id).await.unwrap();

    assert!(!dir.exists());
    for name in ["tmp", "trash", "containers"] {
        let left = std::fs::read_dir(world.root.join(name)).unwrap().count();
        assert_eq!(left, 0, "{name} is not empty");
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(&world.root.display().to_string()),
        "{mounts}"
    );
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten() {
        let Ok(groups) = std::fs::read_dir(hierarchy.unwrap().path()) else {
            continue;
        };
        for group in groups.filter_map(Result::ok) {
            let path = group.path();
            let ours = path.display().to_string().contains("/tradewind-");
            assert!(
                !(ours && path.join(id.as_str()).exists()),
                "{} is left",
                path.display()
            );
        }
    }
    for range in std::fs::read_dir("/run/tradewind/ids")
        .into_iter()
        .flatten()
    {
        let owner = std::fs::read_to_string(range.unwrap().path()).unwrap_or_default();
        assert!(
            !owner.contains(&dir.display().to_string()),
            "its ids are not free"
        );
    }
}

pub(crate) async fn many_start_side_by_side(world: &World) {
    let runs = (0..8).map(|n| async move {
        let id = id(&format!("side_{n}"));
        let text = format!("number {n}");
        world
            .runtime
            .create(&id, &world.spec(&["say", &text]))
            .await
            .unwrap();
        world.runtime.start(&id).await.unwrap();
        assert_eq!(world.outcome(&id).await.stdout, format!("{text}\n"));
        world.runtime.remove(&id).await.unwrap();
    });
    futures::future::join_all(runs).await;
}

pub(crate) async fn memory_limit_kills_and_tells(world: &World) {
    if !world.capabilities.limits.memory {
        return skip(world.name, "memory limits are not enforced");
    }
    let mut spec = world.spec(&["alloc", "400"]);
    spec.limits.memory_bytes = 64 << 20;
    let outcome = world.run_spec(&spec).await;
    assert_eq!(outcome.code(), 137, "{outcome:?}");
    let Status::Exited(exit) = outcome.status else {
        panic!()
    };
    let told = exit.oom && exit.stats.oom_kills > 0;
    let may_be_silent = world.capabilities.differs(Difference::OomByEngine);
    assert!(told || may_be_silent, "{exit:?}");
    assert!(exit.stats.memory_bytes_max <= 64 << 20, "{exit:?}");
    // What fits is let through.
    let fits = world.run(&["alloc", "40"]).await;
    assert_eq!((fits.code(), fits.stdout.as_str()), (0, "held 40\n"));
}

pub(crate) async fn pids_limit_holds(world: &World) {
    if !world.capabilities.limits.pids {
        return skip(world.name, "limits of processes are not enforced");
    }
    let mut spec = world.spec(&["tasks", "200"]);
    spec.limits.pids = 20;
    let outcome = world.run_spec(&spec).await;
    let made: u32 = outcome
        .stdout
        .trim()
        .strip_prefix("made ")
        .unwrap()
        .parse()
        .unwrap();
    assert!((10..=20).contains(&made), "{made}");
}

pub(crate) async fn cpu_quota_throttles(world: &World) {
    if !world.capabilities.limits.cpu {
        return skip(world.name, "the CPU quota is not enforced");
    }
    let mut spec = world.spec(&["spin", "1000"]);
    spec.limits.cpu_milli = 200;
    let Status::Exited(exit) = world.run_spec(&spec).await.status else {
        panic!()
    };
    if world.capabilities.differs(Difference::NoFinalStats) {
        let wall_ms = exit.ended_at_ms - exit.started_at_ms;
        // Its own clock began a little before the engine noted the start.
        assert!(wall_ms >= 900, "{exit:?}");
        return skip(world.name, "what it used is not known at its end");
    }
    let wall_ns = (exit.ended_at_ms - exit.started_at_ms) * 1_000_000;
    assert!(exit.stats.throttled_ns > 0, "{exit:?}");
    // A fifth, and what its start took.
    assert!(exit.stats.cpu_ns < wall_ns / 5 + 200_000_000, "{exit:?}");
}

pub(crate) async fn writes_stay_in_the_container(world: &World) {
    let first = world.run(&["write", "/note", "mine"]).await;
    assert_eq!(first.stdout, "ok\n");
    // The layers are shared; another container must see them untouched.
    let listed = world.run(&["ls", "/"]).await.stdout;
    assert!(
        listed.contains("guest ") && !listed.contains("note"),
        "{listed}"
    );
    let over = world.run(&["write", "/guest", "gone"]).await;
    assert!(
        over.stdout == "ok\n" || over.stdout == "errno 26\n",
        "{over:?}"
    );
    assert_eq!(
        world.run(&["say", "still here"]).await.stdout,
        "still here\n"
    );
}

pub(crate) async fn dangerous_calls_are_denied(world: &World) {
    const NEW_USER: &str = "268435456";
    const NEW_NET: &str = "1073741824";
    if world.capabilities.differs(Difference::EngineFilter) {
        for words in [&["mknod"][..], &["unshare", NEW_NET]] {
            let outcome = world.run(words).await;
            assert_eq!(outcome.stdout, EPERM, "{words:?}: {outcome:?}");
        }
        return skip(world.name, "the engine has its own list of calls");
    }
    for words in [
        &["unshare", NEW_USER][..],
        &["unshare", NEW_NET],
        &["mount"],
        &["mknod"],
        &["syscall", "101"], // ptrace
        &["syscall", "161"], // chroot
        &["syscall", "175"], // init_module
        &["syscall", "246"], // kexec_load
        &["syscall", "250"], // keyctl
        &["syscall", "298"], // perf_event_open
        &["syscall", "308"], // setns
        &["syscall", "321"], // bpf
        &["syscall", "323"], // userfaultfd
        &["syscall", "425"], // io_uring_setup
    ] {
        let outcome = world.run(words).await;
        assert_eq!(outcome.stdout, EPERM, "{words:?}: {outcome:?}");
    }
    // Unknown to the filter: as on a kernel without it.
    for words in [
        &["clone", NEW_USER][..],
        &["clone", NEW_NET],
        &["syscall", "435"],
    ] {
        assert_eq!(world.run(words).await.stdout, ENOSYS, "{words:?}");
    }
    // And what every program needs is let through.
    assert_eq!(world.run(&["clone", "0"]).await.stdout, "ok\n");
}

pub(crate) async fn the_host_is_out_of_sight(world: &World) {
    // The first process and the guest.
    let first = world.capabilities.differs(Difference::CommandIsFirst);
    let seen = world.run(&["pids"]).await.stdout;
    assert_eq!(seen, if first { "1\n" } else { "2\n" });
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/panic_on_oom",
        "/proc/sysrq-trigger",
    ] {
        let tried = world.run(&["write", path, "x"]).await.stdout;
        assert!(
            // Not every kernel has each of them.
            ["errno 1\n", "errno 2\n", "errno 13\n", "errno 30\n"].contains(&&*tried),
            "{path}: {tried}"
        );
    }
    let devices = world.run(&["ls", "/dev"]).await.stdout;
    for line in devices.lines() {
        let name = line.split(' ').next().unwrap();
        let known = [
            "null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "mqueue",
            "fd", "stdin", "stdout", "stderr", "core",
        ];
        // runc executes our first process where the container sees it.
        let ours = world.capabilities.name == "runc" && name == ".tradewind";
        assert!(ours || known.contains(&name), "/dev/{name} is there");
    }
    if world.isolates() {
        // Masked: there, and empty.
        assert_eq!(world.run(&["cat", "/proc/timer_list"]).await.stdout, "");
        assert_eq!(world.run(&["cat", "/proc/keys"]).await.stdout, "");
        assert_eq!(world.run(&["ls", "/sys/firmware"]).await.stdout.trim(), "");
    }
    let device_kmsg = world.run(&["open", "/proc/kmsg"]).await.stdout;
    assert!(device_kmsg.starts_with("errno"), "{device_kmsg}");
    let root = world.run(&["ls", "/"]).await.stdout;
    assert!(!root.contains("home") && !root.contains("boot"), "{root}");
}

pub(crate) async fn only_loopback_is_there(world: &World) {
    // Itself it can reach; anything else has no route.
    assert_eq!(world.run(&["loopback"]).await.stdout, "ok\nerrno 101\n");
}

pub(crate) async fn forgetting_spares_what_is_kept_and_used(world: &World) {
    let image = async |name: &str| {
        let layout = tempfile::tempdir().unwrap();
        let own = LayerBuilder::new()
            .file(name, 0o644, name.as_bytes())
            .unwrap();
        let base = LayerBuilder::new().file("guest", 0o755, guest()).unwrap();
        ImageBuilder::new()
            .layer(base.finish().unwrap())
            .layer(own.finish().unwrap())
            .entrypoint(["/guest"])
            .write(layout.path(), "latest")
            .unwrap();
        world
            .runtime
            .prepare(&layout_ref(layout.path()))
            .await
            .unwrap()
            .digest
    };
    let (kept, gone) = (image("kept").await, image("gone").await);
    let used = id("used");
    world
        .runtime
        .create(&used, &world.spec(&["say", "used"]))
        .await
        .unwrap();
    world.runtime.forget_images(&[kept]).await.unwrap();

    let mut spec = ContainerSpec::new(kept, LIMITS);
    spec.args = Some(vec!["cat".to_owned(), "/kept".to_owned()]);
    assert_eq!(world.run_spec(&spec).await.stdout, "kept");
    let refused = world
        .runtime
        .create(&id("no"), &ContainerSpec::new(gone, LIMITS))
        .await;
    assert!(
        matches!(refused, Err(Error::NotPrepared { .. })),
        "{refused:?}"
    );
    world.runtime.start(&used).await.unwrap();
    assert_eq!(world.outcome(&used).await.stdout, "used\n");
    world.runtime.remove(&used).await.unwrap();

    world.runtime.forget_images(&[]).await.unwrap();
    let store = world.root.join("store");
    for name in ["blobs", "layers", "flat", "trusted"] {
        assert_eq!(
            std::fs::read_dir(store.join(name)).unwrap().count(),
            0,
            "{name}"
        );
    }
}

pub(crate) async fn layers_are_stacked_with_their_deletions(world: &World) {
    let layout = tempfile::tempdir().unwrap();
    let bottom = LayerBuilder::new()
        .file("guest", 0o755, guest())
        .and_then(|l| l.file("d/kept", 0o640, b"kept"))
        .and_then(|l| l.file("d/gone", 0o644, b"gone"))
        .and_then(|l| l.file("d/sub/deep", 0o644, b"deep"))
        .and_then(|l| l.file("closed/old", 0o644, b"old"))
        .and_then(|l| l.file("again/old", 0o644, b"old"))
        .and_then(|l| l.file("turned", 0o644, b"a file"))
        .and_then(|l| l.owner(7, 8).file("d/owned", 0o4755, b"x"))
        .unwrap();
    let middle = LayerBuilder::new()
        .whiteout("d/gone")
        .and_then(|l| l.whiteout("d/sub"))
        .and_then(|l| l.file("closed/new", 0o644, b"new"))
        .and_then(|l| l.opaque("closed"))
        // Deleted and made anew in one layer, the mark after the folder and before it.
        .and_then(|l| l.dir("again", 0o755))
        .and_then(|l| l.whiteout("again"))
        .and_then(|l| l.file("again/new", 0o644, b"new"))
        .and_then(|l| l.dir("turned", 0o700))
        .and_then(|l| l.hard_link("d/linked", "closed/new"))
        .and_then(|l| l.symlink("d/outside", "/etc/shadow"))
        .unwrap();
    let top = LayerBuilder::new().file("d/gone", 0o600, b"back").unwrap();
    ImageBuilder::new()
        .layer(bottom.finish().unwrap())
        .layer(middle.finish().unwrap())
        .layer(top.finish().unwrap())
        .entrypoint(["/guest"])
        .write(layout.path(), "latest")
        .unwrap();
    let image = world
        .runtime
        .prepare(&layout_ref(layout.path()))
        .await
        .unwrap();
    let run = async |words: [&str; 2]| {
        let mut spec = ContainerSpec::new(image.digest, LIMITS);
        spec.args = Some(words.map(str::to_owned).to_vec());
        world.run_spec(&spec).await.stdout
    };
    let listed = run(["ls", "/d"]).await;
    let names: Vec<_> = listed
        .lines()
        .map(|l| l.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        names,
        ["gone", "kept", "linked", "outside", "owned"],
        "{listed}"
    );
    assert_eq!(run(["cat", "/d/gone"]).await, "back");
    assert_eq!(run(["cat", "/d/linked"]).await, "new");
    assert!(run(["ls", "/closed"]).await.starts_with("new 100644 0:0\n"));
    assert_eq!(run(["ls", "/closed"]).await.lines().count(), 1);
    assert!(run(["ls", "/again"]).await.starts_with("new "));
    assert_eq!(run(["ls", "/again"]).await.lines().count(), 1);
    assert_eq!(run(["ls", "/turned"]).await, "\n");
    if world.capabilities.user_namespaces {
        assert!(listed.contains("kept 100640 0:0"), "{listed}");
        assert!(listed.contains("owned 104755 7:8"), "{listed}");
    }
}
