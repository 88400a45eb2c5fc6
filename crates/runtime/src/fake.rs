//! A runtime in memory, with faults: for tests of what drives a runtime.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::capabilities::{Capabilities, CgroupMode, Isolation, LimitsEnforced};
use crate::error::{Blame, Error, Result};
use crate::id::ContainerId;
use crate::image::{Credential, Digest, ImageRef, PreparedImage};
use crate::logs::{LogChunk, LogStream};
use crate::spec::ContainerSpec;
use crate::status::{Exit, Stats, Status};
use crate::{Runtime, files};

/// A runtime in memory. Clones share their containers, as an agent that restarts would see them.
///
/// Containers run until the test ends them with [`Fake::exit`] or [`Fake::lose`], or the caller stops them.
#[derive(Clone, Debug, Default)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct World {
    containers: BTreeMap<ContainerId, FakeContainer>,
    faults: BTreeMap<Operation, VecDeque<Fault>>,
    starts: BTreeMap<ContainerId, u32>,
    devices: Vec<String>,
}

#[derive(Debug)]
struct FakeContainer {
    spec: ContainerSpec,
    status: Status,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    stats: Stats,
    rounds: u32,
}

/// A call of [`Runtime`] that a fault can be put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named for its call")]
pub enum Operation {
    Prepare,
    Create,
    Start,
    Restart,
    Stop,
    Remove,
    Status,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Create => "create",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Status => "status",
        }
    }
}

/// What goes wrong, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Fails(Blame),
    /// The call does its work, then fails: the answer was lost.
    FailsAfter(Blame),
    /// The call never returns.
    Hangs,
}

impl Fake {
    /// Returns an empty one without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next call of `operation` without a fault go wrong.
    pub fn put_fault(&self, operation: Operation, fault: Fault) {
        self.world()
            .faults
            .entry(operation)
            .or_default()
            .push_back(fault);
    }

    /// Ends a running container with `code`; does nothing to any other.
    pub fn exit(&self, id: &ContainerId, code: u8) {
        self.end(id, |started_at_ms, stats| {
            Status::Exited(Exit {
                code,
                signal: None,
                oom: false,
                started_at_ms,
                ended_at_ms: files::now_ms().max(started_at_ms),
                reason: None,
                stats,
            })
        });
    }

    /// Makes a running container's shim die without a word; does nothing to any other.
    pub fn lose(&self, id: &ContainerId) {
        self.end(id, |started, _| Status::Lost {
            alive: false,
            started_at_ms: Some(started),
        });
    }

    /// Appends to what a container wrote.
    pub fn write(&self, id: &ContainerId, stream: LogStream, bytes: &[u8]) {
        if let Some(container) = self.world().containers.get_mut(id) {
            match stream {
                LogStream::Stdout => container.stdout.extend_from_slice(bytes),
                LogStream::Stderr => container.stderr.extend_from_slice(bytes),
            }
        }
    }

    /// Sets a container's counters.
    pub fn set_stats(&self, id: &ContainerId, stats: Stats) {
        if let Some(container) = self.world().containers.get_mut(id) {
            container.stats = stats;
        }
    }

    /// Sets which devices are described, by name.
    pub fn set_devices(&self, names: &[&str]) {
        self.world().devices = names.iter().map(|&name| name.to_owned()).collect();
    }

    /// Returns the devices that a container was laid out with; none where there is no such container.
    pub fn devices(&self, id: &ContainerId) -> Vec<String> {
        let world = self.world();
        let container = world.containers.get(id);
        container.map_or_else(Vec::new, |container| container.spec.devices.clone())
    }

    /// Returns how often a container's command really began: more than once is a bug in its driver or here.
    pub fn starts(&self, id: &ContainerId) -> u32 {
        self.world().starts.get(id).copied().unwrap_or(0)
    }

    fn end(&self, id: &ContainerId, status: impl FnOnce(u64, Stats) -> Status) {
        if let Some(container) = self.world().containers.get_mut(id)
            && let Status::Running { started_at_ms } = container.status
        {
            container.status = status(started_at_ms, container.stats);
        }
        self.changed.notify_waiters();
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().expect("no holder of this lock panics")
    }

    /// Runs `work` with whatever fault is due for `operation`.
    async fn call<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut World) -> Result<T>,
    ) -> Result<T> {
        let fault = self
            .world()
            .faults
            .get_mut(&operation)
            .and_then(VecDeque::pop_front);
        let injected = |blame| Error::Injected {
            operation: operation.name(),
            blame,
        };
        match fault {
            Some(Fault::Fails(blame)) => return Err(injected(blame)),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::FailsAfter(_)) | None => {}
        }
        let result = work(&mut self.world());
        self.changed.notify_waiters();
        match fault {
            Some(Fault::FailsAfter(blame)) => Err(injected(blame)),
            _ => result,
        }
    }

    async fn end_by_signal(&self, id: &ContainerId, signal: i32) -> Result<()> {
        self.call(Operation::Stop, |world| {
            let container = world.get(id)?;
            let now = files::now_ms();
            match container.status {
                Status::Running { started_at_ms } => {
                    container.status = Status::Exited(Exit {
                        code: u8::try_from(128 + signal).unwrap_or(u8::MAX),
                        signal: Some(signal),
                        oom: false,
                        started_at_ms,
                        ended_at_ms: now.max(started_at_ms),
                        reason: None,
                        stats: container.stats,
                    });
                }
                Status::Created => container.status = files::stopped_before_start(),
                _ => {}
            }
            Ok(())
        })
        .await
    }
}

impl World {
    fn get(&mut self, id: &ContainerId) -> Result<&mut FakeContainer> {
        self.containers
            .get_mut(id)
            .ok_or_else(|| Error::NotFound { id: id.clone() })
    }
}

#[async_trait]
impl Runtime for Fake {
    async fn probe(&self) -> Result<Capabilities> {
        Ok(Capabilities {
            name: "fake".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            usable: Ok(()),
            isolation: Isolation::None,
            cgroup_mode: CgroupMode::None,
            limits: LimitsEnforced::default(),
            seccomp: false,
            device_rules: false,
            user_namespaces: false,
            self_test: Vec::new(),
            devices: self.world().devices.clone(),
            differences: Vec::new(),
        })
    }

    async fn prepare_as(
        &self,
        image: &ImageRef,
        _credential: Option<&Credential>,
    ) -> Result<PreparedImage> {
        let digest = Digest::of(image.to_string().as_bytes());
        self.call(Operation::Prepare, |_| {
            Ok(PreparedImage {
                digest,
                layers: 1,
                bytes_fetched: 0,
                bytes_cached: 0,
            })
        })
        .await
    }

    async fn forget_images(&self, _keep: &[Digest]) -> Result<()> {
        Ok(())
    }

    async fn create(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()> {
        self.call(Operation::Create, |world| {
            if let Some(known) = world.containers.get(id) {
                if known.spec == *spec {
                    return Ok(());
                }
                return Err(Error::SpecDiffers { id: id.clone() });
            }
            if let Some(name) = spec.devices.iter().find(|&d| !world.devices.contains(d)) {
                let source = crate::cdi::CdiError::Unknown {
                    name: name.clone(),
                    dirs: Vec::new(),
                };
                return Err(Error::Devices {
                    id: id.clone(),
                    source,
                });
            }
            let container = FakeContainer {
                spec: spec.clone(),
                status: Status::Created,
                stdout: Vec::new(),
                stderr: Vec::new(),
                stats: Stats::default(),
                rounds: 0,
            };
            world.containers.insert(id.clone(), container);
            Ok(())
        })
        .await
    }

    async fn start(&self, id: &ContainerId) -> Result<()> {
        self.call(Operation::Start, |world| {
            let container = world.get(id)?;
            if container.status == Status::Created {
                container.status = Status::Running {
                    started_at_ms: files::now_ms(),
                };
                *world.starts.entry(id.clone()).or_default() += 1;
            }
            Ok(())
        })
        .await
    }

    async fn restart(&self, id: &ContainerId, round: u32) -> Result<()> {
        let result = self
            .call(Operation::Restart, |world| {
                let container = world.get(id)?;
                if container.rounds >= round {
                    return Ok(());
                }
                if !matches!(container.status, Status::Exited(_)) {
                    return Err(Error::NotEnded { id: id.clone() });
                }
                container.rounds = round;
                container.status = Status::Running {
                    started_at_ms: files::now_ms(),
                };
                *world.starts.entry(id.clone()).or_default() += 1;
                Ok(())
            })
            .await;
        self.changed.notify_waiters();
        result
    }

    async fn stop(&self, id: &ContainerId, _grace: Duration) -> Result<()> {
        self.end_by_signal(id, 15).await
    }

    async fn kill(&self, id: &ContainerId) -> Result<()> {
        self.end_by_signal(id, 9).await
    }

    async fn remove(&self, id: &ContainerId) -> Result<()> {
        self.call(Operation::Remove, |world| {
            world.containers.remove(id);
            Ok(())
        })
        .await
    }

    async fn status(&self, id: &ContainerId) -> Result<Status> {
        self.call(Operation::Status, |world| Ok(world.get(id)?.status.clone()))
            .await
    }

    async fn list(&self) -> Result<Vec<(ContainerId, Status)>> {
        let world = self.world();
        Ok(world
            .containers
            .iter()
            .map(|(id, c)| (id.clone(), c.status.clone()))
            .collect())
    }

    async fn logs(
        &self,
        id: &ContainerId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk> {
        let mut world = self.world();
        let container = world.get(id)?;
        let all = match stream {
            LogStream::Stdout => &container.stdout,
            LogStream::Stderr => &container.stderr,
        };
        let end = all.len() as u64;
        let offset = offset.min(end);
        let from = usize::try_from(offset).expect("an offset within a vector");
        let bytes: Vec<u8> = all.iter().skip(from).take(max).copied().collect();
        let next = offset + bytes.len() as u64;
        Ok(LogChunk {
            offset,
            bytes,
            next,
            end,
            dropped: 0,
        })
    }

    async fn stats(&self, id: &ContainerId) -> Result<Stats> {
        Ok(self.world().get(id)?.stats)
    }

    async fn wait(&self, id: &ContainerId) -> Result<Status> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let status = self.world().get(id)?.status.clone();
            if status.is_final() {
                return Ok(status);
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Limits;

    fn spec() -> ContainerSpec {
        let limits = Limits {
            cpu_milli: 1000,
            memory_bytes: 1 << 30,
            pids: 10,
        };
        ContainerSpec::new(Digest::of(b"image"), limits)
    }

    #[tokio::test]
    async fn a_lost_answer_changes_the_world_and_a_failure_does_not() {
        let fake = Fake::new();
        let id = ContainerId::new("a").unwrap();
        fake.put_fault(Operation::Create, Fault::Fails(Blame::Transient));
        fake.put_fault(Operation::Create, Fault::FailsAfter(Blame::Provider));
        assert_eq!(
            fake.create(&id, &spec()).await.unwrap_err().blame(),
            Blame::Transient
        );
        assert!(fake.status(&id).await.is_err());
        assert_eq!(
            fake.create(&id, &spec()).await.unwrap_err().blame(),
            Blame::Provider
        );
        assert_eq!(fake.status(&id).await.unwrap(), Status::Created);

        fake.put_fault(Operation::Start, Fault::FailsAfter(Blame::Transient));
        assert!(fake.start(&id).await.is_err());
        fake.start(&id).await.unwrap();
        assert_eq!(fake.starts(&id), 1);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_container() {
        let fake = Fake::new();
        let id = ContainerId::new("a").unwrap();
        fake.create(&id, &spec()).await.unwrap();
        fake.start(&id).await.unwrap();
        let waiter = tokio::spawn({
            let (fake, id) = (fake.clone(), id.clone());
            async move { fake.wait(&id).await }
        });
        tokio::task::yield_now().await;
        fake.write(&id, LogStream::Stdout, b"hello");
        fake.exit(&id, 3);
        let status = waiter.await.unwrap().unwrap();
        assert!(matches!(status, Status::Exited(exit) if exit.code == 3));
        assert_eq!(
            fake.logs(&id, LogStream::Stdout, 1, 3).await.unwrap().bytes,
            b"ell"
        );
        fake.exit(&id, 4);
        assert!(matches!(fake.status(&id).await.unwrap(), Status::Exited(e) if e.code == 3));
    }
}
