//! Where images come from: folders in OCI layout, and registries.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::error::{ImageError, io as io_error};
use super::limits::ImageLimits;
use super::manifest::{
    DOCKER_LIST_TYPE, DOCKER_MANIFEST_TYPE, Descriptor, Document, INDEX_TYPE, MANIFEST_TYPE,
    Manifest, Platform, TAG_ANNOTATION, malformed,
};
use super::reference::{ImageRef, Version};

/// A registry on this machine answers at once; one that does not is not there.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a transfer may stand still: a disk under load stalls for seconds, not for a minute.
const READ_DEADLINE: Duration = Duration::from_mins(1);
/// An index may point to an index, once; more is a mistake.
const INDEX_DEPTH: usize = 2;
/// The copy buffer: large enough that system calls are no cost.
const COPY_BYTES: usize = 256 << 10;

/// A place that has blobs.
#[derive(Debug)]
pub(super) enum Source {
    Layout {
        dir: PathBuf,
    },
    Registry {
        client: reqwest::Client,
        repository: String,
    },
}

/// A manifest and the bytes its digest is of.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) digest: Digest,
    pub(super) bytes: Vec<u8>,
    pub(super) manifest: Manifest,
}

impl Source {
    /// Returns the place that `image` names.
    pub(super) fn of(image: &ImageRef) -> Result<Self, ImageError> {
        match image {
            ImageRef::Layout { path, .. } => Ok(Self::Layout { dir: path.clone() }),
            ImageRef::Registry { host, name, .. } => {
                if !is_loopback(host) {
                    let what = format!("registry {host}, which is not on this machine,");
                    return Err(ImageError::Unsupported { what });
                }
                name_tls_provider();
                let client = reqwest::Client::builder()
                    .connect_timeout(CONNECT_DEADLINE)
                    .read_timeout(READ_DEADLINE)
                    .redirect(reqwest::redirect::Policy::none())
                    .no_proxy()
                    .build()
                    .map_err(|source| ImageError::Fetch {
                        url: host.clone(),
                        source,
                    })?;
                Ok(Self::Registry {
                    client,
                    repository: format!("http://{host}/v2/{name}"),
                })
            }
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
                let chosen = choose_from_layout(dir, tag.as_deref(), limits)?;
                (self.document(&chosen, limits).await?, chosen.digest)
            }
            (Self::Registry { .. }, ImageRef::Registry { version, .. }) => {
                let name = match version {
                    Version::Tag(tag) => tag.clone(),
                    Version::Digest(digest) => digest.to_string(),
                };
                let bytes = self.manifest_by_name(&name, limits).await?;
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
                return Ok(Resolved {
                    digest: wanted,
                    bytes,
                    manifest,
                });
            };
            let chosen = choose_platform(manifests)?;
            wanted = chosen.digest;
            bytes = self.document(chosen, limits).await?;
        }
        Err(malformed(
            "the index",
            "it points to indexes only".to_owned(),
        ))
    }

    /// Reads a small blob whole and checks it.
    pub(super) async fn document(
        &self,
        descriptor: &Descriptor,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let bytes = match self {
            Self::Layout { dir } => read_bounded(&blob_path(dir, &descriptor.digest), limits)?,
            Self::Registry { .. } if is_manifest(&descriptor.media_type) => {
                self.manifest_by_name(&descriptor.digest.to_string(), limits)
                    .await?
            }
            Self::Registry { client, repository } => {
                let url = format!("{repository}/blobs/{}", descriptor.digest);
                get_bounded(client, &url, None, limits).await?
            }
        };
        check_digest("a document", descriptor.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    async fn manifest_by_name(
        &self,
        name: &str,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        let Self::Registry { client, repository } = self else {
            unreachable!("only registries know names")
        };
        let accept = [
            MANIFEST_TYPE,
            INDEX_TYPE,
            DOCKER_MANIFEST_TYPE,
            DOCKER_LIST_TYPE,
        ]
        .join(", ");
        get_bounded(
            client,
            &format!("{repository}/manifests/{name}"),
            Some(accept),
            limits,
        )
        .await
    }

    /// Writes a blob to `path` and checks its length and digest on the way.
    pub(super) async fn blob(
        &self,
        descriptor: &Descriptor,
        path: &Path,
    ) -> Result<(), ImageError> {
        match self {
            Self::Layout { dir } => {
                let from = blob_path(dir, &descriptor.digest);
                let (descriptor, path) = (descriptor.clone(), path.to_owned());
                tokio::task::spawn_blocking(move || copy_blob(&from, &descriptor, &path))
                    .await
                    .expect("copying a blob does not panic")
            }
            Self::Registry { client, repository } => {
                download(
                    client,
                    &format!("{repository}/blobs/{}", descriptor.digest),
                    descriptor,
                    path,
                )
                .await
            }
        }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_manifest(media_type: &str) -> bool {
    [
        MANIFEST_TYPE,
        INDEX_TYPE,
        DOCKER_MANIFEST_TYPE,
        DOCKER_LIST_TYPE,
    ]
    .contains(&media_type)
}

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

fn choose_from_layout(
    dir: &Path,
    tag: Option<&str>,
    limits: &ImageLimits,
) -> Result<Descriptor, ImageError> {
    let index = Document::parse(
        "index.json",
        &read_bounded(&dir.join("index.json"), limits)?,
    )?;
    let all = index.manifests.unwrap_or_default();
    let found = match tag {
        Some(tag) => all
            .iter()
            .find(|d| d.annotations.get(TAG_ANNOTATION).is_some_and(|t| t == tag)),
        None => match all.as_slice() {
            [only] => Some(only),
            _ => choose_platform(&all).ok(),
        },
    };
    let name = tag.unwrap_or("the only image");
    let missing = || ImageError::Missing {
        what: format!("{name} in layout {}", dir.display()),
    };
    found.cloned().ok_or_else(missing)
}

fn choose_platform(all: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let here = Platform::here();
    all.iter()
        .find(|d| d.platform.as_ref() == Some(&here))
        .ok_or_else(|| ImageError::NoPlatform {
            platform: format!("{}/{}", here.os, here.architecture),
        })
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

/// Names the process's TLS provider, unless something did before: where the data plane is linked in, it switches on TLS in
/// the HTTP library that both share, and a client of that library is then not made before a provider is named.
fn name_tls_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Two threads may come here at once; the second is refused, and either is the same.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
}

/// Opens a file of a layout: a regular one, not through a link and without waiting. Whoever writes into a layout could
/// otherwise have it point to a pipe or a device that never answers, or to a file that is not theirs.
fn open(path: &Path) -> Result<File, ImageError> {
    let missing = || ImageError::Missing {
        what: path.display().to_string(),
    };
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = match opened {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(e) if e.raw_os_error() == Some(nix::libc::ELOOP) => return Err(missing()),
        other => other.map_err(io_error("open", path))?,
    };
    let about = file.metadata().map_err(io_error("look at", path))?;
    if about.is_file() {
        Ok(file)
    } else {
        Err(missing())
    }
}

fn read_bounded(path: &Path, limits: &ImageLimits) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let limit = limits.document_bytes;
    open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(ImageError::TooMuch {
            what: "bytes in a document",
            limit,
        });
    }
    Ok(bytes)
}

fn copy_blob(from: &Path, descriptor: &Descriptor, to: &Path) -> Result<(), ImageError> {
    let mut source = open(from)?;
    let mut sink = BlobSink::create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let got = source.read(&mut buffer).map_err(io_error("read", from))?;
        if got == 0 {
            return sink.finish(descriptor);
        }
        sink.write(buffer.get(..got).unwrap_or_default(), descriptor)?;
    }
}

async fn get(
    client: &reqwest::Client,
    url: &str,
    accept: Option<String>,
) -> Result<reqwest::Response, ImageError> {
    let mut request = client.get(url);
    if let Some(accept) = accept {
        request = request.header("accept", accept);
    }
    let failed = |source| ImageError::Fetch {
        url: url.to_owned(),
        source,
    };
    let response = request.send().await.map_err(failed)?;
    match response.status().as_u16() {
        200 => Ok(response),
        404 => Err(ImageError::Missing {
            what: url.to_owned(),
        }),
        status => Err(ImageError::Refused {
            status,
            url: url.to_owned(),
        }),
    }
}

async fn get_bounded(
    client: &reqwest::Client,
    url: &str,
    accept: Option<String>,
    limits: &ImageLimits,
) -> Result<Vec<u8>, ImageError> {
    let mut response = get(client, url, accept).await?;
    let limit = limits.document_bytes;
    let mut bytes = Vec::new();
    let failed = |source| ImageError::Fetch {
        url: url.to_owned(),
        source,
    };
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ImageError::TooMuch {
                what: "bytes in a document",
                limit,
            });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

async fn download(
    client: &reqwest::Client,
    url: &str,
    descriptor: &Descriptor,
    path: &Path,
) -> Result<(), ImageError> {
    let mut response = get(client, url, None).await?;
    let mut sink = BlobSink::create(path)?;
    let failed = |source| ImageError::Fetch {
        url: url.to_owned(),
        source,
    };
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        sink.write(&chunk, descriptor)?;
    }
    sink.finish(descriptor)
}

/// A file that is hashed while it is written.
struct BlobSink {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
}

impl BlobSink {
    fn create(path: &Path) -> Result<Self, ImageError> {
        let file = File::create(path).map_err(io_error("create", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            hash: Sha256::new(),
            length: 0,
        })
    }

    fn write(&mut self, bytes: &[u8], promised: &Descriptor) -> Result<(), ImageError> {
        self.length += bytes.len() as u64;
        if self.length > promised.size {
            return Err(self.wrong_size(promised));
        }
        self.hash.update(bytes);
        self.file
            .write_all(bytes)
            .map_err(io_error("write", &self.path))
    }

    fn finish(self, promised: &Descriptor) -> Result<(), ImageError> {
        if self.length != promised.size {
            return Err(self.wrong_size(promised));
        }
        let found = Digest::from_bytes(self.hash.finalize().into());
        check_digest("a blob", promised.digest, found)
    }

    fn wrong_size(&self, promised: &Descriptor) -> ImageError {
        let Descriptor { digest, size, .. } = *promised;
        ImageError::SizeMismatch {
            digest,
            wanted: size,
            found: self.length,
        }
    }
}
