//! Containers on one machine: images, shims, runtimes.
//!
//! An agent holds one [`Runtime`] and names every container by a [`ContainerId`]. All but the last are checked by one
//! suite of tests:
//!
//! | type | what | role |
//! |---|---|---|
//! | [`LocalRuntime::embedded`] | libcontainer, cgroup limits, seccomp, a user namespace for each container | default, needs root |
//! | [`LocalRuntime::runc`] | the same containers, made by the operator's runc | for operators who trust theirs; shows where ours differs |
//! | [`EngineRuntime`] | containers of a podman or Docker that is there, by its socket | for operators who have one; differences are named |
//! | [`LocalRuntime::process`] | namespaces and a private root only; no limits, isolation class `none` | without root |
//! | [`Fake`] | in memory, with faults put in by the caller | tests of what drives a runtime |
//!
//! Map: `image` fetches, checks, unpacks and writes images; `shim` is the process that owns one container
//! and outlives the agent; `local` is the agent's side of it: the folder, adoption, status and logs; `engine` speaks to podman and Docker.
//! A program that starts containers must call [`shim_main`] first thing in `main` when it is run as
//! `<exe> shim …`.

mod capabilities;
pub mod cdi;
mod cgroup;
mod engine;
mod error;
mod fake;
mod files;
mod id;
pub mod image;
mod local;
mod logs;
mod root;
mod shim;
mod spec;
mod status;
mod sys;
mod turns;

use std::time::Duration;

pub use capabilities::{Capabilities, CgroupMode, Check, Difference, Isolation, LimitsEnforced};
pub use cgroup::is_container_cgroup;
pub use engine::{EngineConfig, EngineRuntime, USUAL_SOCKETS};
pub use error::{Blame, Error, Result};
pub use fake::{Fake, Fault, Operation};
pub use id::{ContainerId, InvalidContainerId};
pub use image::{Credential, Digest, ImageRef, PreparedImage, Reach, Registries};
pub use local::{LayerUse, LocalConfig, LocalRuntime};
pub use logs::{LogChunk, LogStream};
pub use shim::{SHIM_ARGUMENT, shim_main};
pub use spec::{ContainerSpec, Limits};
pub use status::{Exit, Stats, Status};

/// Runs containers on this machine.
///
/// Every call may be repeated: an agent that was killed asks again and gets the same answer. Calls on one
/// container are put in order by the runtime; calls on different containers run side by side.
///
/// A container goes through [`Status::Created`], [`Status::Running`] and one of the ends
/// [`Status::Exited`], [`Status::Failed`], [`Status::Lost`], and stays there until [`Runtime::remove`].
#[async_trait::async_trait]
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// Returns what this runtime can do here, measured, not configured. The first call runs the self-test;
    /// later ones return the same answer, but for the devices, which are looked for anew.
    ///
    /// # Errors
    /// Only where the runtime's own folder cannot be used; a machine that lacks something says so in
    /// [`Capabilities`].
    async fn probe(&self) -> Result<Capabilities>;

    /// Fetches, checks and unpacks `image`, or finds it in the store.
    ///
    /// # Errors
    /// The tenant's fault where the image is missing, malformed, or over the limits; the provider's where
    /// the disk fails; transient where the registry does not answer.
    async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage> {
        self.prepare_as(image, None).await
    }

    /// As [`Runtime::prepare`], for whoever `credential` stands for to the image's registry; without one, for this
    /// machine.
    ///
    /// # Errors
    /// As [`Runtime::prepare`], and the tenant's fault where the registry does not let them read it.
    async fn prepare_as(
        &self,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<PreparedImage>;

    /// Removes every image from the store that is neither in `keep` nor used by a container here. Layers that
    /// a kept image shares stay.
    ///
    /// # Errors
    /// Where something could not be removed; call again.
    async fn forget_images(&self, keep: &[Digest]) -> Result<()>;

    /// Lays out container `id`; adopts it where it exists with the same `spec`.
    ///
    /// # Errors
    /// [`Error::SpecDiffers`] where `id` exists with another spec; [`Error::NotPrepared`] where the image is
    /// not in the store.
    async fn create(&self, id: &ContainerId, spec: &ContainerSpec) -> Result<()>;

    /// Starts `id`, and returns once its command runs or has failed to. Does nothing where it was started
    /// before: nothing ever starts twice.
    ///
    /// # Errors
    /// [`Error::StartFailed`] with whom to blame. A command that is missing (127) or cannot be executed (126)
    /// is no error: the container has then exited with that code.
    async fn start(&self, id: &ContainerId) -> Result<()>;

    /// Starts the ended container `id` anew on the disk that it left, and returns once its command runs or has failed
    /// to. `round` counts from 1; each is made once, however often it is asked for. Its output goes on where it was.
    ///
    /// # Errors
    /// [`Error::NotEnded`] where it has not exited; else as [`Runtime::start`].
    async fn restart(&self, id: &ContainerId, round: u32) -> Result<()>;

    /// Asks `id` to end (SIGTERM), kills everything in it after `grace`, at most an hour, and returns once it
    /// has ended.
    /// Does nothing where it has ended; one that never started will not start afterwards.
    ///
    /// # Errors
    /// [`Error::NotFound`], or [`Error::Deadline`] where it cannot be killed.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<()>;

    /// Kills everything in `id` at once, and returns once it has ended.
    ///
    /// # Errors
    /// As [`Runtime::stop`].
    async fn kill(&self, id: &ContainerId) -> Result<()>;

    /// Kills what is left of `id` and wipes its writable layer, logs, cgroups and uid range. Does nothing
    /// where it is gone already.
    ///
    /// # Errors
    /// Where something of it could not be removed; call again.
    async fn remove(&self, id: &ContainerId) -> Result<()>;

    /// Returns where `id` stands.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn status(&self, id: &ContainerId) -> Result<Status>;

    /// Returns every container this runtime knows, sorted by id: what an agent reconciles with at start.
    ///
    /// # Errors
    /// Where the runtime's own folder cannot be read.
    async fn list(&self) -> Result<Vec<(ContainerId, Status)>>;

    /// Returns up to `max` bytes that `id` wrote to `stream`, from byte `offset` on. Bytes are kept after the
    /// end, up to a bound: the beginning and the latest part. Where `offset` lies in what was dropped, the
    /// chunk starts later and says so.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn logs(
        &self,
        id: &ContainerId,
        stream: LogStream,
        offset: u64,
        max: usize,
    ) -> Result<LogChunk>;

    /// Returns counters of what `id` used so far; the last ones where it has ended.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    async fn stats(&self, id: &ContainerId) -> Result<Stats>;

    /// Returns the final status once `id` has ended; pends until then. Dropping the future is safe.
    ///
    /// # Errors
    /// [`Error::NotFound`], also where it is removed meanwhile.
    async fn wait(&self, id: &ContainerId) -> Result<Status>;
}
