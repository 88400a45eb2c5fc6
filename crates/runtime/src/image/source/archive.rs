//! Images in a tar archive, as `docker save` and others write it.
//!
//! The archive is listed once, headers only, and stays where it is; layers are read from it when they are wanted.
//! Such an archive has no OCI manifest, so one is made here: the same archive gives the same bytes and so the same
//! digest, on every machine. A layer that is not packed is named by its diff-id, as it is the same bytes.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::layout::open;
use super::sink::copy_in;
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::limits::ImageLimits;
use crate::image::manifest::{
    CONFIG_TYPE, Descriptor, Document, ImageConfig, LAYER_TYPE, MANIFEST_TYPE, PLAIN_LAYER_TYPE,
    malformed,
};

const WHAT: &str = "the archive";
/// What lies in an archive of the most layers an image can have, each with a folder and two small files, several
/// times over: one archive may hold a family of images.
const ENTRIES_MAX: usize = 16_384;
/// Bytes of headers before one entry: long names.
const HEADER_BYTES: u64 = 64 << 10;
/// Images in one archive.
const IMAGES_MAX: usize = 256;

/// What an archive holds, by path: where each file lies.
pub(in crate::image) type Listing = BTreeMap<String, Place>;

/// Where a file lies in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::image) enum Place {
    /// Its bytes.
    At { offset: u64, size: u64 },
    /// It is the same as the file of this path.
    Link(String),
}

/// One image of an archive, ready to be read.
#[derive(Debug)]
pub(super) struct Archive {
    blobs: BTreeMap<Digest, (u64, u64)>,
}

/// One image, as `manifest.json` has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::image) struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Finds image `name` in the archive, and makes its manifest.
    pub(super) fn open(
        path: &Path,
        name: Option<&str>,
        limits: &ImageLimits,
    ) -> Result<(Self, Vec<u8>), ImageError> {
        let mut file = open(path)?;
        refuse_packed(&mut file, path)?;
        let listing = list(&mut file)?;
        let items = find(&listing, "manifest.json")?;
        let items = parse_items(&read(&mut file, items, limits)?)?;
        let item = choose(&items, name, path)?;
        let place = find(&listing, &item.config)?;
        let config = read(&mut file, place, limits)?;
        let mut archive = Self {
            blobs: BTreeMap::new(),
        };
        let config_at = archive.put(CONFIG_TYPE, Digest::of(&config), place);
        if item.layers.len() > limits.layers {
            let limit = limits.layers as u64;
            return Err(ImageError::TooMuch {
                what: "layers",
                limit,
            });
        }
        let config = ImageConfig::parse(&config, item.layers.len())?;
        let mut layers = Vec::new();
        for (layer, diff_id) in item.layers.iter().zip(&config.diff_ids) {
            let place = find(&listing, layer)?;
            let (kind, digest) = name_layer(&mut file, place, diff_id, limits)?;
            layers.push(archive.put(kind, digest, place));
        }
        let manifest = Document {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            manifests: None,
            config: Some(config_at),
            layers: Some(layers),
        };
        let bytes = serde_json::to_vec(&manifest).expect("a manifest of ours can be written");
        Ok((archive, bytes))
    }

    fn put(&mut self, media_type: &str, digest: Digest, place: (u64, u64)) -> Descriptor {
        self.blobs.insert(digest, place);
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: place.1,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn document(
        &self,
        path: &Path,
        digest: &Digest,
        limits: &ImageLimits,
    ) -> Result<Vec<u8>, ImageError> {
        read(&mut open(path)?, self.place(digest)?, limits)
    }

    pub(super) fn copy_blob(
        &self,
        path: &Path,
        descriptor: &Descriptor,
        to: &Path,
    ) -> Result<(), ImageError> {
        let mut file = open(path)?;
        let mut body = body(&mut file, self.place(&descriptor.digest)?)?;
        copy_in(&mut body, path, descriptor, to)
    }

    fn place(&self, digest: &Digest) -> Result<(u64, u64), ImageError> {
        let place = self.blobs.get(digest).copied();
        place.ok_or_else(|| ImageError::Missing {
            what: format!("{digest} in the archive"),
        })
    }
}

/// Lists an archive by its headers, without reading what is in between.
pub(in crate::image) fn list<R: Read + Seek>(reader: &mut R) -> Result<Listing, ImageError> {
    let failed = |e: io::Error| malformed(WHAT, e.to_string());
    let end = reader.seek(SeekFrom::End(0)).map_err(failed)?;
    reader.rewind().map_err(failed)?;
    let room = Cell::new(HEADER_BYTES);
    let metered = MeteredHeaders {
        inner: reader,
        room: &room,
    };
    let mut archive = tar::Archive::new(metered);
    let mut listing = Listing::new();
    let mut entries = archive.entries_with_seek().map_err(failed)?;
    loop {
        room.set(HEADER_BYTES);
        let Some(entry) = entries.next() else {
            return Ok(listing);
        };
        let entry = entry.map_err(failed)?;
        let (offset, size) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(size).is_none_or(|last| last > end) {
            return Err(malformed(WHAT, "it is cut short".to_owned()));
        }
        let Some(name) = plain(&entry.path().map_err(failed)?) else {
            continue; // Nothing that an image is made of has such a name.
        };
        let place = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => Place::At { offset, size },
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name().map_err(failed)?.unwrap_or_default();
                match link_target(&name, &target, kind) {
                    Some(target) => Place::Link(target),
                    None => continue,
                }
            }
            _ => continue,
        };
        if listing.len() >= ENTRIES_MAX {
            return Err(ImageError::TooMuch {
                what: "entries in its archive",
                limit: ENTRIES_MAX as u64,
            });
        }
        listing.insert(name, place);
    }
}

/// Reads of headers are bounded; what is skipped costs nothing.
struct MeteredHeaders<'a, R> {
    inner: &'a mut R,
    room: &'a Cell<u64>,
}

impl<R: Read> Read for MeteredHeaders<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        let left = self.room.get().checked_sub(got as u64);
        let over =
            || io::Error::other(format!("an entry has over {HEADER_BYTES} bytes of headers"));
        self.room.set(left.ok_or_else(over)?);
        Ok(got)
    }
}

impl<R: Seek> Seek for MeteredHeaders<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Writes a path the one way we look it up; `None` where it goes up or is no text.
fn plain(path: &Path) -> Option<String> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}

fn link_target(name: &str, target: &Path, kind: EntryType) -> Option<String> {
    if kind == EntryType::Link || target.is_absolute() {
        return plain(target);
    }
    let folder = Path::new(name).parent()?;
    plain(&folder.join(target))
}

/// Looks a file up, through one link at most: a layer that two images share is one.
fn find(listing: &Listing, name: &str) -> Result<(u64, u64), ImageError> {
    let missing = || {
        let name: String = name.chars().take(200).collect();
        malformed(WHAT, format!("{name} is not in it"))
    };
    let wanted = plain(Path::new(name)).ok_or_else(missing)?;
    let place = match listing.get(&wanted) {
        Some(Place::Link(target)) => listing.get(target),
        other => other,
    };
    match place {
        Some(Place::At { offset, size }) => Ok((*offset, *size)),
        _ => Err(missing()),
    }
}

pub(in crate::image) fn parse_items(bytes: &[u8]) -> Result<Vec<Item>, ImageError> {
    let items: Vec<Item> =
        serde_json::from_slice(bytes).map_err(|e| malformed("manifest.json", e.to_string()))?;
    if items.len() > IMAGES_MAX {
        return Err(ImageError::TooMuch {
            what: "images in its archive",
            limit: IMAGES_MAX as u64,
        });
    }
    Ok(items)
}

fn choose<'a>(items: &'a [Item], name: Option<&str>, path: &Path) -> Result<&'a Item, ImageError> {
    let Some(name) = name else {
        return match items {
            [only] => Ok(only),
            _ => Err(malformed(
                WHAT,
                format!("it holds {}: name one of them", names(items)),
            )),
        };
    };
    let wanted = full_name(name);
    let has = |item: &&Item| {
        let tags = item.repo_tags.iter().flatten();
        tags.map(|tag| full_name(tag)).any(|tag| tag == wanted)
    };
    items.iter().find(has).ok_or_else(|| ImageError::Missing {
        what: format!(
            "{name} in {}, which holds {},",
            path.display(),
            names(items)
        ),
    })
}

/// Names what an archive holds, for an error.
fn names(items: &[Item]) -> String {
    const NAMED: usize = 8;
    let tags = items.iter().flat_map(|i| i.repo_tags.iter().flatten());
    let named: Vec<String> = tags
        .take(NAMED)
        .map(|tag| tag.chars().take(80).collect())
        .collect();
    if named.is_empty() {
        format!("{} images without names", items.len())
    } else {
        named.join(", ")
    }
}

/// Writes a name in full, as engines shorten those of Docker Hub.
fn full_name(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') {
        name.to_owned()
    } else {
        format!("{name}:latest")
    }
}

fn refuse_packed(file: &mut File, path: &Path) -> Result<(), ImageError> {
    let start = start_of(file, (0, 4)).map_err(io_error("read", path))?;
    if is_packed(&start) {
        let what = format!(
            "{}, an archive that is packed: unpack it first,",
            path.display()
        );
        return Err(ImageError::Unsupported { what });
    }
    Ok(())
}

fn is_packed(start: &[u8]) -> bool {
    start.starts_with(&[0x1f, 0x8b]) || start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
}

fn start_of(file: &mut File, (offset, size): (u64, u64)) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(offset))?;
    let mut start = Vec::new();
    file.take(size.min(4)).read_to_end(&mut start)?;
    Ok(start)
}

/// Returns the media type and the digest of a layer.
fn name_layer(
    file: &mut File,
    place: (u64, u64),
    diff_id: &Digest,
    limits: &ImageLimits,
) -> Result<(&'static str, Digest), ImageError> {
    let path = Path::new(WHAT);
    if place.1 > limits.blob_bytes {
        return Err(ImageError::TooMuch {
            what: "bytes in a layer",
            limit: limits.blob_bytes,
        });
    }
    if !is_packed(&start_of(file, place).map_err(io_error("read", path))?) {
        return Ok((PLAIN_LAYER_TYPE, *diff_id));
    }
    let mut hash = Sha256::new();
    let mut body = body(file, place)?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let got = body.read(&mut buffer).map_err(io_error("read", path))?;
        if got == 0 {
            return Ok((LAYER_TYPE, Digest::from_bytes(hash.finalize().into())));
        }
        hash.update(buffer.get(..got).unwrap_or_default());
    }
}

fn body(file: &mut File, (offset, size): (u64, u64)) -> Result<impl Read, ImageError> {
    let moved = file.seek(SeekFrom::Start(offset));
    moved.map_err(io_error("read", Path::new(WHAT)))?;
    Ok(file.take(size))
}

fn read(file: &mut File, place: (u64, u64), limits: &ImageLimits) -> Result<Vec<u8>, ImageError> {
    let limit = limits.document_bytes;
    if place.1 > limit {
        return Err(ImageError::TooMuch {
            what: "bytes in a document",
            limit,
        });
    }
    let mut bytes = Vec::new();
    let read = body(file, place)?.read_to_end(&mut bytes);
    read.map_err(io_error("read", Path::new(WHAT)))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{Place, full_name, link_target, list, plain};
    use std::path::Path;
    use tar::EntryType;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn files_are_found_where_they_lie() {
        let long = format!("{}/file", "folder".repeat(30));
        let bytes = archive(&[("one", b"first"), (&long, b"second")]);
        let listing = list(&mut Cursor::new(&bytes)).unwrap();
        let Some(Place::At { offset, size }) = listing.get(&long) else {
            panic!("{listing:?}")
        };
        let at = usize::try_from(*offset).unwrap();
        let end = at + usize::try_from(*size).unwrap();
        assert_eq!(&bytes[at..end], b"second");
    }

    #[test]
    fn what_is_cut_short_or_damaged_is_refused_or_listed_but_never_panics() {
        let sound = archive(&[("one", &[1; 3000]), ("two", &[2; 3000])]);
        let cut = list(&mut Cursor::new(&sound[..5000]));
        assert!(cut.is_err(), "{cut:?}");
        for at in (0..sound.len()).step_by(7) {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x55;
            drop(list(&mut Cursor::new(&damaged)));
        }
    }

    #[test]
    fn names_are_compared_in_full() {
        for (short, full) in [
            ("app", "app:latest"),
            ("docker.io/library/app:1", "app:1"),
            ("host:5000/app", "host:5000/app:latest"),
        ] {
            assert_eq!(full_name(short), full);
        }
        let link = |name, target| link_target(name, Path::new(target), EntryType::Symlink);
        assert_eq!(
            link("a/layer.tar", "../b/layer.tar").unwrap(),
            "b/layer.tar"
        );
        assert_eq!(link("a", "../../etc/shadow"), None);
        assert_eq!(plain(Path::new("./x/y")).unwrap(), "x/y");
    }
}
