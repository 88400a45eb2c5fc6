//! Why an image could not be prepared.

use std::io;
use std::path::PathBuf;

use super::digest::Digest;
use crate::error::Blame;

/// Why an image could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image, tag or blob.
    #[error("{what} is not there")]
    Missing {
        /// What was looked for.
        what: String,
    },
    /// The bytes are not those that the digest names: damaged, cut short, or somebody else's.
    #[error("{what} has digest {found}, want {wanted}")]
    DigestMismatch {
        /// Which blob or layer.
        what: &'static str,
        /// The digest asked for.
        wanted: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// A blob has another length than its descriptor says.
    #[error("blob {digest} has {found} bytes, want {wanted}")]
    SizeMismatch {
        /// Which blob.
        digest: Digest,
        /// The length promised.
        wanted: u64,
        /// The length seen; where more came than promised, how much had come when it was refused.
        found: u64,
    },
    /// A document or a layer cannot be understood.
    #[error("{what} is malformed: {problem}")]
    Malformed {
        /// Which one.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// It is well-formed, but this build cannot take it.
    #[error("{what} is not supported")]
    Unsupported {
        /// What it is.
        what: String,
    },
    /// It has no variant for this machine.
    #[error("image has no variant for {platform}, only for {}", available.join(", "))]
    NoPlatform {
        /// This machine, as `os/architecture`.
        platform: String,
        /// What it has variants for, in the same words; at most a few.
        available: Vec<String>,
    },
    /// It asks for more than [`super::ImageLimits`] allows.
    #[error("image has more than {limit} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A layer tries to write outside itself.
    #[error("layer entry {path:?} leaves the layer: {problem}")]
    Escape {
        /// The entry.
        path: PathBuf,
        /// How.
        problem: &'static str,
    },
    /// The registry answered, but not with what was asked for.
    #[error("registry answered {status} to {url}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What was asked for.
        url: String,
    },
    /// The registry did not answer, or broke off.
    #[error("could not fetch {url}")]
    Fetch {
        /// What was asked for.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The registry wants to know who asks, and does not take the answer.
    #[error("registry {host} does not let us read {repository}: {reason}")]
    Denied {
        /// The registry.
        host: String,
        /// What was asked for.
        repository: String,
        /// What it wants, or said.
        reason: String,
    },
    /// The registry, or where it sends us, is at an address that images are not fetched from.
    #[error("{host} is at an address that images are not fetched from here")]
    OutOfReach {
        /// The host.
        host: String,
    },
    /// What this machine knows about registries, credentials or certificates, cannot be used.
    #[error("could not use {what}: {problem}")]
    Access {
        /// Which file, or which part of it.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The images that are in use leave no room for this one.
    #[error(
        "no room for {wanted} bytes of this image: of {budget} for images, {used} are taken by images in use"
    )]
    NoRoom {
        /// Bytes that were wanted on top.
        wanted: u64,
        /// Bytes of the disk that images may take.
        budget: u64,
        /// Bytes that could not be freed.
        used: u64,
    },
    /// The disk failed.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl ImageError {
    /// Returns whose fault it was.
    pub fn blame(&self) -> Blame {
        match self {
            // A registry that serves other bytes than it promised, or none, may do better next time.
            Self::DigestMismatch { .. } | Self::SizeMismatch { .. } | Self::Fetch { .. } => {
                Blame::Transient
            }
            Self::Refused { status, .. } if *status >= 500 || *status == 429 => Blame::Transient,
            Self::Missing { .. }
            | Self::Malformed { .. }
            | Self::Unsupported { .. }
            | Self::NoPlatform { .. }
            | Self::TooMuch { .. }
            | Self::Escape { .. }
            | Self::Refused { .. }
            | Self::OutOfReach { .. }
            | Self::Denied { .. } => Blame::Tenant,
            // Where the whole budget would not do, it never will; else leases end.
            Self::NoRoom { wanted, budget, .. } if wanted < budget => Blame::Transient,
            Self::NoRoom { .. } | Self::Access { .. } | Self::Io { .. } => Blame::Provider,
        }
    }
}

/// Names what was attempted on which path, for `map_err`.
pub(super) fn io(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::Io {
        action,
        path,
        source,
    }
}
