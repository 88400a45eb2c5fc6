//! Images in a folder in OCI layout.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::sink::copy_in;
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::limits::ImageLimits;
use crate::image::manifest::{Descriptor, Document, TAG_ANNOTATION, choose_platform};

pub(super) fn document(
    dir: &Path,
    digest: &Digest,
    limits: &ImageLimits,
) -> Result<Vec<u8>, ImageError> {
    read_bounded(&blob_path(dir, digest), limits)
}

pub(super) fn copy_blob(dir: &Path, descriptor: &Descriptor, to: &Path) -> Result<(), ImageError> {
    let from = blob_path(dir, &descriptor.digest);
    copy_in(&mut open(&from)?, &from, descriptor, to)
}

/// Finds what `tag` names in the layout's index.
pub(super) fn choose(
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

fn blob_path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("blobs/sha256").join(digest.hex())
}

/// Opens a file that a reference names: a regular one, not through a link and without waiting. Whoever writes there
/// could otherwise have it point to a pipe or a device that never answers, or to a file that is not theirs.
pub(super) fn open(path: &Path) -> Result<File, ImageError> {
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
