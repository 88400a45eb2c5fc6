//! Images: references, the content store, unpacking, and writing small ones.
//!
//! An image comes from a registry, from a folder in OCI layout or from an archive. Every blob is checked against its digest
//! while it is fetched and every layer against its diff-id while it is unpacked; nothing becomes visible in
//! the store before both hold.

pub mod build;
mod digest;
mod error;
pub mod foreign;
mod limits;
mod manifest;
mod reference;
pub mod registry;
mod source;
mod store;
mod unpack;

use serde::{Deserialize, Serialize};

pub use digest::{Digest, InvalidDigest};
pub use error::ImageError;
pub use limits::ImageLimits;
pub(crate) use manifest::ImageConfig;
pub use reference::{ImageRef, InvalidImageRef, Version};
pub use registry::{Credential, Reach, Registries, is_local_name, is_public};
pub(crate) use store::{InUse, LayerForm, Store, StoreConfig, StoredImage};

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

/// What an image reference leads to, on this machine's platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Bytes to fetch for it: its layers as they are packed, and its configuration.
    pub compressed_bytes: u64,
}

/// Finds out what `image` leads to, without fetching more than its manifest, where no credentials are needed.
///
/// # Errors
/// Where it is not there, is malformed, or is over the usual limits.
pub async fn resolve(image: &ImageRef) -> Result<ResolvedImage, ImageError> {
    resolve_as(image, &Registries::default(), None).await
}

/// Finds out what `image` leads to, with what `registries` knows, or for whoever `credential` stands for.
///
/// # Errors
/// As [`resolve`], and where the registry does not let us read it.
pub async fn resolve_as(
    image: &ImageRef,
    registries: &Registries,
    credential: Option<&Credential>,
) -> Result<ResolvedImage, ImageError> {
    let resolved = source::Source::of(image, registries, credential)?
        .resolve(image, &ImageLimits::default())
        .await?;
    let layers = resolved.manifest.layers.iter().map(|layer| layer.size);
    let compressed_bytes = layers.fold(resolved.manifest.config.size, u64::saturating_add);
    Ok(ResolvedImage {
        digest: resolved.digest,
        compressed_bytes,
    })
}
