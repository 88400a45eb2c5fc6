//! Where images come from: folders in OCI layout, archives, and registries.

mod archive;
mod layout;
mod pull;
mod sink;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::archive::Archive;
pub(super) use self::archive::{list as list_archive, parse_items as parse_archive_items};
use self::pull::Repository;
use super::digest::Digest;
use super::error::ImageError;
use super::limits::ImageLimits;
use super::manifest::{Descriptor, Document, Manifest, choose_platform, malformed};
use super::reference::{ImageRef, Version};
use super::registry::{Credential, Registries};

/// An index may point to an index, once; more is a mistake.
const INDEX_DEPTH: usize = 2;

/// A place that has blobs.
#[derive(Debug)]
pub(super) enum Source {
    Layout { dir: PathBuf },
    Archive { path: PathBuf },
    Registry(Repository),
}

/// Who may use what a source gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Everybody: it came to nobody in particular.
    Public,
    /// Who is let into the place of this name: one repository, or one folder or archive of this machine.
    Of(Digest),
}

impl Scope {
    fn of(kind: &str, name: &str) -> Self {
        Self::Of(Digest::of(format!("{kind}\n{name}").as_bytes()))
    }

    fn of_path(path: &Path) -> Self {
        let mut name = b"path\n".to_vec();
        name.extend_from_slice(path.as_os_str().as_bytes());
        Self::Of(Digest::of(&name))
    }
}

/// A manifest and the bytes its digest is of.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
    /// Where the blobs lie in an archive.
    archive: Option<Arc<Archive>>,
}

impl Resolved {
    pub(super) fn new(digest: Digest, bytes: Vec<u8>, manifest: Manifest) -> Self {
        Self {
            digest,
            bytes,
            manifest,
            archive: None,
        }
    }
}

impl Source {
    /// Returns the place that `image` names.
    pub(super) fn of(
        image: &ImageRef,
        registries: &Registries,
        credential: Option<&Credential>,
    ) -> Result<Self, ImageError> {
        match image {
            ImageRef::Layout { path, .. } => Ok(Self::Layout { dir: path.clone() }),
            ImageRef::Archive { path, .. } => Ok(Self::Archive { path: path.clone() }),
            ImageRef::Registry { host, name, .. } => {
                Repository::open(host, name, registries, credential).map(Self::Registry)
            }
        }
    }

    /// Returns who may use what came from here so far. Of a registry that wants to know who asks, only what it let us
    /// read: before it took our word, we share nothing with those whose word it took.
    pub(super) fn scope(&self) -> Scope {
        match self {
            Self::Registry(repository) if repository.knows_us() => repository.scope(),
            Self::Registry(_) => Scope::Public,
            Self::Layout { dir: path } | Self::Archive { path } => Scope::of_path(path),
        }
    }

    /// Returns who may use what is about to come: a registry may ask who we are in the middle of it.
    pub(super) fn scope_at_most(&self) -> Scope {
        match self {
            Self::Registry(repository) if repository.may_know_us() => repository.scope(),
            _ => self.scope(),
        }
    }

    /// Finds the manifest for this machine that `image` names.
    pub(super) async fn resolve(
        &self,
        image: &ImageRef,
        limits: &ImageLimits,
    ) -> Result<Resolved, ImageError> {
        let (mut bytes, mut wanted) = match (self, image) {
            (Self::Layout { dir }, ImageRef::Layout { tag, .. }) => {
                let chosen = layout::choose(dir, tag.as_deref(), limits)?;
                let bytes = layout::document(dir, &chosen.digest, limits)?;
                (bytes, chosen.digest)
            }
            (Self::Archive { path }, ImageRef::Archive { name, .. }) => {
                return resolve_archive(path.clone(), name.clone(), *limits).await;
            }
            (Self::Registry(repository), ImageRef::Registry { version, .. }) => {
                let name = match version {
                    Version::Tag(tag) => tag.clone(),
                    Version::Digest(digest) => digest.to_string(),
                };
                let bytes = repository.manifest(&name, limits).await?;
                let wanted = match version {
                    Version::Digest(digest) => *digest,
                    Version::Tag(_) => Digest::of(&bytes),
                };
                (bytes, wanted)
            }
            _ => unreachable!("a source is made from the reference it resolves"),
        };
        for _ in 0..=INDEX_DEPTH {
            check_digest("the manifest", wanted, Digest::of(&bytes))?;
            let document = Document::parse("the manifest", &bytes)?;
            let Some(manifests) = &document.manifests else {
                let manifest = document.into_manifest(limits)?;
                return Ok(Resolved::new(wanted, bytes, manifest));
            };
            let chosen = choose_platform(manifests)?;
            wanted = chosen.digest;
            bytes = match self {
                Self::Registry(repository) => {
                    repository.manifest(&wanted.to_string(), limits).await?
                }
                Self::Layout { dir } | Self::Archive { path: dir } => {
                    layout::document(dir, &wanted, limits)?
                }
            };
        }
        Err(malformed(
            "the index",
            "it points to indexes only".to_owned(),
        ))
    }

    /// Reads the configuration that `resolved` names whole, and checks it.
    pub(super) async fn config(
        &self,
        resolved: &Resolved,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let digest = &resolved.manifest.config.digest;
        let bytes = match self {
            Self::Layout { dir } => layout::document(dir, digest, limits)?,
            Self::Archive { path } => archive_of(resolved).document(path, digest, limits)?,
            Self::Registry(repository) => repository.document(digest, limits).await?,
        };
        check_digest("a document", *digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Writes a blob of `resolved` to `path` and checks its length and digest on the way. Where a registry broke off,
    /// `path` keeps what came and the next call goes on from there.
    pub(super) async fn blob(
        &self,
        resolved: &Resolved,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<(), ImageError> {
        let (wanted, to) = (descriptor.clone(), path.to_owned());
        match self {
            Self::Layout { dir } => {
                let dir = dir.clone();
                blocking(move || layout::copy_blob(&dir, &wanted, &to)).await
            }
            Self::Archive { path } => {
                let (path, archive) = (path.clone(), Arc::clone(archive_of(resolved)));
                blocking(move || archive.copy_blob(&path, &wanted, &to)).await
            }
            Self::Registry(repository) => repository.blob(descriptor, path).await,
        }
    }
}

fn archive_of(resolved: &Resolved) -> &Arc<Archive> {
    let archive = resolved.archive.as_ref();
    archive.expect("what an archive resolves to knows the archive")
}

async fn resolve_archive(
    path: PathBuf,
    name: Option<String>,
    limits: ImageLimits,
) -> Result<Resolved, ImageError> {
    let (archive, bytes) = blocking(move || Archive::open(&path, name.as_deref(), &limits)).await?;
    let manifest = Document::parse("the manifest", &bytes)?.into_manifest(&limits)?;
    let mut resolved = Resolved::new(Digest::of(&bytes), bytes, manifest);
    resolved.archive = Some(Arc::new(archive));
    Ok(resolved)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("reading an image does not panic")
}

fn check_digest(what: &'static str, wanted: Digest, found: Digest) -> Result<(), ImageError> {
    if wanted == found {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch {
            what,
            wanted,
            found,
        })
    }
}
