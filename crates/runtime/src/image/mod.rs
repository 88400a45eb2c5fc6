//! Images: references, the content store, unpacking, and writing small ones.
//!
//! An image comes from a folder in OCI layout or from a registry. Every blob is checked against its digest
//! while it is fetched and every layer against its diff-id while it is unpacked; nothing becomes visible in
//! the store before both hold.

pub mod build;
mod digest;
mod error;
mod limits;
mod manifest;
mod reference;
mod source;
mod store;
mod unpack;

use serde::{Deserialize, Serialize};

pub use digest::{Digest, InvalidDigest};
pub use error::ImageError;
pub use limits::ImageLimits;
pub(crate) use manifest::ImageConfig;
pub use reference::{ImageRef, InvalidImageRef, Version};
pub(crate) use store::{LayerForm, Store, StoredImage};

/// An image that is in the store, checked and unpacked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedImage {
    /// The digest of its manifest: what [`crate::ContainerSpec::image`] wants.
    pub digest: Digest,
    /// How many layers it has.
    pub layers: usize,
    /// Bytes that had to be fetched now.
    pub bytes_fetched: u64,
    /// Bytes of it that were in the store already.
    pub bytes_cached: u64,
}
