//! What can go wrong, and whose fault it is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::ContainerId;
use crate::image::{Digest, ImageError};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whose fault it was: only the first two end a lease, and they bill differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The image or the manifest cannot work anywhere.
    Tenant,
    /// This machine failed to do what it offered.
    Provider,
    /// Worth another try.
    Transient,
}

/// A runtime could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[expect(
    clippy::error_impl_error,
    reason = "used as `runtime::Error`, as `std::io::Error` is"
)]
pub enum Error {
    /// No such container here.
    #[error("no container {id} here")]
    NotFound {
        /// The one asked for.
        id: ContainerId,
    },
    /// The id is taken by a container with another spec.
    #[error("container {id} exists with another spec")]
    SpecDiffers {
        /// The one asked for.
        id: ContainerId,
    },
    /// The image was never prepared here.
    #[error("image {image} is not in the store")]
    NotPrepared {
        /// The one asked for.
        image: Digest,
    },
    /// The spec cannot be run by any runtime.
    #[error("the spec of container {id} is no good: {reason}")]
    BadSpec {
        /// The one asked for.
        id: ContainerId,
        /// What is wrong with it.
        reason: String,
    },
    /// A device that it asks for cannot be given.
    #[error("container {id} cannot get its devices")]
    Devices {
        /// The one asked for.
        id: ContainerId,
        /// Why not.
        #[source]
        source: crate::cdi::CdiError,
    },
    /// The image could not be prepared.
    #[error("could not prepare image {image}")]
    Image {
        /// The reference asked for.
        image: String,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// The container could not be started, through no fault of its command.
    #[error("could not start container {id}: {reason}")]
    StartFailed {
        /// The one asked for.
        id: ContainerId,
        /// Whose fault it was.
        blame: Blame,
        /// What went wrong, for people.
        reason: String,
    },
    /// Only what has exited can be started anew.
    #[error("container {id} has not exited, so it cannot be started anew")]
    NotEnded {
        /// The one asked for.
        id: ContainerId,
    },
    /// Something did not happen in time.
    #[error("gave up {what} after {after:?}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// Every uid range of this machine is taken.
    #[error("all {ranges} uid ranges of this machine are in use")]
    NoIdRange {
        /// How many there are.
        ranges: u32,
    },
    /// The container engine did not do what it was asked.
    #[error("the container engine could not {action}")]
    Engine {
        /// What was attempted.
        action: String,
        /// Whether it did not answer, rather than refuse.
        is_away: bool,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The machine failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A fault that a test put in.
    #[error("injected fault in {operation}")]
    Injected {
        /// Where it was put in.
        operation: &'static str,
        /// Whose fault it plays.
        blame: Blame,
    },
}

impl Error {
    /// Returns whose fault it was.
    pub fn blame(&self) -> Blame {
        match self {
            Self::NotFound { .. }
            | Self::SpecDiffers { .. }
            | Self::NotPrepared { .. }
            | Self::Devices { .. }
            | Self::NotEnded { .. }
            | Self::Engine { is_away: false, .. }
            | Self::Io { .. } => Blame::Provider,
            Self::BadSpec { .. } => Blame::Tenant,
            Self::Image { source, .. } => source.blame(),
            Self::StartFailed { blame, .. } | Self::Injected { blame, .. } => *blame,
            Self::Deadline { .. } | Self::NoIdRange { .. } | Self::Engine { is_away: true, .. } => {
                Blame::Transient
            }
        }
    }
}

/// Names what was attempted on which path, for `map_err`.
pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}
