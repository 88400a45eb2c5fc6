//! Devices by the Container Device Interface, with a made-up vendor.

use std::path::Path;

use runtime::{Blame, Error, LocalConfig, LocalRuntime, Status};

use crate::world::{CONTAINERS, DEADLINE, World, find, id, is_root, skip};

/// A device like /dev/zero under a name of its own, and one that has no driver behind it.
const SPEC: &str = r#"
cdiVersion: "0.6.0"
kind: tradewind.example/test
devices:
- name: zero
  containerEdits:
    env: [TW_DEVICE=zero]
    deviceNodes:
    - {path: /dev/tw0, type: c, major: 1, minor: 5, fileMode: 432, gid: 7}
    mounts:
    - {hostPath: FOLDER/driver, containerPath: /usr/lib/driver, options: [ro, bind]}
- name: gone
  containerEdits:
    deviceNodes:
    - {path: /dev/tw1, type: c, major: 240, minor: 77}
- name: hooked
  containerEdits:
    hooks:
    - {hookName: createContainer, path: /bin/sh}
containerEdits:
  env: [TW_VENDOR=made-up]
"#;

async fn worlds(name: &'static str, cdi: &Path) -> Vec<World> {
    if !is_root() {
        skip(name, "devices need root");
        return Vec::new();
    }
    std::fs::write(cdi.join("driver"), "the driver").unwrap();
    let spec = SPEC.replace("FOLDER", &cdi.display().to_string());
    std::fs::write(cdi.join("made-up.yaml"), spec).unwrap();
    let mut worlds = Vec::new();
    for program in [None, find("runc", name)] {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("runtime");
        let mut config = LocalConfig::new(&root, CONTAINERS);
        config.cdi_dirs = vec![cdi.to_owned()];
        let runtime = match program {
            None if worlds.is_empty() => LocalRuntime::embedded(config).await,
            None => continue,
            Some(program) => LocalRuntime::runc(config, program).await,
        };
        worlds.extend(World::with(name, dir, root, runtime.unwrap()).await);
    }
    worlds
}

fn device(name: &str) -> Vec<String> {
    vec![format!("tradewind.example/test={name}")]
}

#[tokio::test]
async fn a_described_device_is_there_with_all_it_needs() {
    let cdi = tempfile::tempdir().unwrap();
    let worlds = worlds("devices::a_described_device", cdi.path()).await;
    for world in &worlds {
        let names = ["gone", "hooked", "zero"].map(|name| format!("tradewind.example/test={name}"));
        assert_eq!(world.capabilities.devices, names);
        let run = async |words: &[&str], with: bool| {
            let mut spec = world.spec(words);
            spec.devices = if with { device("zero") } else { Vec::new() };
            world.run_spec(&spec).await.stdout
        };
        assert_eq!(run(&["open", "/dev/tw0"], true).await, "ok\n");
        let listed = run(&["ls", "/dev"], true).await;
        assert!(listed.contains("tw0 20660 0:7"), "{listed}");
        let env = run(&["env"], true).await;
        assert!(
            env.contains("TW_DEVICE=zero\n") && env.contains("TW_VENDOR=made-up\n"),
            "{env}"
        );
        assert_eq!(run(&["cat", "/usr/lib/driver"], true).await, "the driver");
        let write = run(&["write", "/usr/lib/driver", "x"], true).await;
        assert!(
            ["errno 1\n", "errno 13\n", "errno 30\n"].contains(&&*write),
            "{write}"
        );
        // Nobody else gets it.
        assert_eq!(run(&["open", "/dev/tw0"], false).await, "errno 2\n");
        assert!(!run(&["env"], false).await.contains("TW_"));
    }
}

#[tokio::test]
async fn a_device_that_does_not_work_is_found_before_the_command_runs() {
    let cdi = tempfile::tempdir().unwrap();
    let worlds = worlds("devices::a_device_that_does_not_work", cdi.path()).await;
    for world in &worlds {
        let mut spec = world.spec(&["say", "paid for"]);
        spec.devices = device("gone");
        let broken = id("broken");
        world.runtime.create(&broken, &spec).await.unwrap();
        let error = world.runtime.start(&broken).await.unwrap_err();
        assert_eq!(error.blame(), Blame::Provider);
        assert!(
            error.to_string().contains("/dev/tw1 does not open"),
            "{error}"
        );
        let status = tokio::time::timeout(DEADLINE, world.runtime.wait(&broken)).await;
        let status = status.unwrap().unwrap();
        assert!(matches!(status, Status::Failed { .. }), "{status:?}");
        let said = world.log(&broken, runtime::LogStream::Stdout).await;
        assert_eq!(said, "");
        world.runtime.remove(&broken).await.unwrap();

        for (name, word) in [("none", "no device"), ("hooked", "/bin/sh")] {
            let mut spec = world.spec(&["say", "no"]);
            spec.devices = device(name);
            let error = world.runtime.create(&id("no"), &spec).await.unwrap_err();
            let Error::Devices { source, .. } = &error else {
                panic!("{error:?}")
            };
            assert!(source.to_string().contains(word), "{source}");
            assert_eq!(error.blame(), Blame::Provider);
        }
    }
}
