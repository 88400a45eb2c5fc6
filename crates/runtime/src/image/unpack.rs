//! Unpacking a layer: the one place where bytes that a stranger made become files.
//!
//! Every path is walked from the layer's root, one component at a time, never through a symbolic link, so an
//! entry cannot leave the layer however the archive is put together. Everything counted in
//! [`ImageLimits`] is counted while it is read, before it reaches the disk.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use rustix::fs::{self as fs, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use super::digest::Digest;
use super::error::{ImageError, io as io_error};
use super::limits::ImageLimits;
use super::manifest::malformed;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that aufs kept its own business under.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// A container's user ids are 0 to 65535; a file of anybody else could not be shown to it.
const IDS: u64 = 65_536;
const COPY_BYTES: usize = 128 << 10;
/// Unpacking holds this window, 128 MiB, in memory: what zstd packs without being told otherwise never needs more.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// The least that a file, folder or link takes on a disk.
const ENTRY_BYTES: u64 = 4096;

/// Who owns what is unpacked or copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// Whoever the archive says. Needs root.
    Keep,
    /// Whoever runs this, as without root nobody else can.
    Squash,
}

impl Ownership {
    /// Returns what this process is able to do.
    pub(crate) fn able() -> Self {
        if rustix::process::geteuid().is_root() {
            Self::Keep
        } else {
            Self::Squash
        }
    }
}

/// How deletions are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As overlayfs marks them. Needs root.
    Overlay,
    /// Done at once, on the layers below in the same folder.
    Flat,
}

/// What is left of an image's limits.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    limits: ImageLimits,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(limits: ImageLimits) -> Self {
        Self { limits, bytes: 0 }
    }
}

/// Is told how much of the disk the layer takes so far, before it takes it; its error ends the unpacking.
pub(super) type Taken<'a> = &'a dyn Fn(u64) -> Result<(), ImageError>;

/// Unpacks the packed layer `blob` into the folder `tree` and checks that it is the one `diff_id` names.
pub(super) fn unpack(
    blob: &Path,
    tree: &Path,
    form: Form,
    diff_id: &Digest,
    budget: &mut Budget,
    taken: Taken<'_>,
) -> Result<(), ImageError> {
    if form == Form::Flat {
        // What this layer deletes goes first, as the archive may delete a folder after filling it anew.
        let mut reading = budget.clone();
        let nothing = |_| Ok(());
        read_layer(blob, &mut reading, &nothing, |entry, _| {
            delete_marked(tree, entry)
        })?;
    }
    let mut writer = Writer::open(tree, form)?;
    let found = read_layer(blob, budget, taken, |entry, body| writer.write(entry, body))?;
    if found == *diff_id {
        Ok(())
    } else {
        Err(ImageError::DigestMismatch {
            what: "a layer",
            wanted: *diff_id,
            found,
        })
    }
}

/// One entry of an archive, without its bytes.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
    kind: EntryType,
    mode: u32,
    uid: u64,
    gid: u64,
    mtime: u64,
    size: u64,
    link: Option<PathBuf>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads all of a layer, hands each entry to `take`, and returns the diff-id.
fn read_layer(
    blob: &Path,
    budget: &mut Budget,
    taken: Taken<'_>,
    take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<Digest, ImageError> {
    let file = File::open(blob).map_err(io_error("open", blob))?;
    let packed = file.metadata().map_err(io_error("look at", blob))?.len();
    read_entries(file, packed, blob, budget, taken, take)
}

/// Reads a layer without making files of it: what a stranger's bytes can reach before the first file is made.
pub(super) fn read_only(bytes: &[u8], budget: &mut Budget) -> Result<(), ImageError> {
    let (packed, name) = (bytes.len() as u64, Path::new("in memory"));
    let reader = io::Cursor::new(bytes.to_vec());
    let take = |entry: &Entry, _: &mut dyn Read| split(&entry.path).map(drop);
    read_entries(reader, packed, name, budget, &|_| Ok(()), take).map(drop)
}

fn read_entries(
    packed_bytes: impl Read + 'static,
    packed: u64,
    blob: &Path,
    budget: &mut Budget,
    taken: Taken<'_>,
    mut take: impl FnMut(&Entry, &mut dyn Read) -> Result<(), ImageError>,
) -> Result<Digest, ImageError> {
    let meter = Rc::new(Meter::new(budget, packed));
    let mut stream = Metered {
        inner: decompress(packed_bytes).map_err(|e| read_error(blob, e))?,
        hash: Sha256::new(),
        meter: Rc::clone(&meter),
    };
    let mut archive = tar::Archive::new(&mut stream);
    let mut entries = archive.entries().map_err(|e| read_error(blob, e))?;
    let (mut count, mut disk) = (0, 0_u64);
    loop {
        meter.header_room.set(ImageLimits::HEADER_BYTES);
        let Some(item) = entries.next() else { break };
        let mut item = item.map_err(|e| read_error(blob, e))?;
        count += 1;
        if count > budget.limits.entries {
            let limit = budget.limits.entries;
            return Err(ImageError::TooMuch {
                what: "entries in a layer",
                limit,
            });
        }
        let entry = describe(&mut item).map_err(|e| read_error(blob, e))?;
        meter.header_room.set(u64::MAX);
        let bytes = entry.size.min(budget.limits.unpacked_bytes);
        disk = disk.saturating_add(bytes).saturating_add(ENTRY_BYTES);
        taken(disk)?;
        take(&entry, &mut item)?;
        // What nobody wanted is read here, where it is counted as a body and not as a header.
        io::copy(&mut item, &mut io::sink()).map_err(|e| read_error(blob, e))?;
    }
    meter.header_room.set(u64::MAX);
    io::copy(&mut stream, &mut io::sink()).map_err(|e| read_error(blob, e))?;
    budget.bytes = meter.bytes.get();
    Ok(Digest::from_bytes(stream.hash.finalize().into()))
}

fn describe(item: &mut tar::Entry<'_, impl Read>) -> io::Result<Entry> {
    let mut attributes = Vec::new();
    if let Some(extensions) = item.pax_extensions()? {
        for extension in extensions {
            let extension = extension?;
            if let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") {
                attributes.push((name.to_vec(), extension.value_bytes().to_vec()));
            }
        }
    }
    let size = item.size();
    let header = item.header();
    Ok(Entry {
        kind: header.entry_type(),
        mode: header.mode()?,
        uid: header.uid()?,
        gid: header.gid()?,
        mtime: header.mtime()?,
        size,
        path: item.path()?.into_owned(),
        link: item.link_name()?.map(std::borrow::Cow::into_owned),
        attributes,
    })
}

/// Returns the unpacked bytes of `packed`, whatever it is packed with.
fn decompress(packed: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut reader = BufReader::with_capacity(COPY_BYTES, DiskRead(packed));
    let start = io::BufRead::fill_buf(&mut reader)?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(MultiGzDecoder::new(reader)));
    }
    // A frame, or one of those that are skipped and hold an index for other readers.
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable_frame(start) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        return Ok(Box::new(decoder));
    }
    Ok(Box::new(reader))
}

fn is_skippable_frame(start: &[u8]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// Keeps a failing disk apart from a malformed archive.
struct DiskRead<R>(R);

impl<R: Read> Read for DiskRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|source| {
            let path = PathBuf::from("a packed layer");
            io::Error::other(ImageError::Io {
                action: "read",
                path,
                source,
            })
        })
    }
}

/// Counts what a layer unpacks to.
struct Meter {
    bytes: Cell<u64>,
    start: u64,
    limit: u64,
    ratio_limit: u64,
    header_room: Cell<u64>,
}

impl Meter {
    fn new(budget: &Budget, packed: u64) -> Self {
        let limits = &budget.limits;
        let by_ratio = packed.saturating_mul(limits.ratio);
        Self {
            bytes: Cell::new(budget.bytes),
            start: budget.bytes,
            limit: limits.unpacked_bytes,
            ratio_limit: by_ratio.max(ImageLimits::RATIO_FREE_BYTES),
            header_room: Cell::new(u64::MAX),
        }
    }

    fn count(&self, bytes: u64) -> Result<(), ImageError> {
        let total = self.bytes.get().saturating_add(bytes);
        self.bytes.set(total);
        if total > self.limit {
            return Err(ImageError::TooMuch {
                what: "unpacked bytes",
                limit: self.limit,
            });
        }
        if total - self.start > self.ratio_limit {
            let limit = self.ratio_limit;
            return Err(ImageError::TooMuch {
                what: "unpacked bytes for its packed size",
                limit,
            });
        }
        let room = self.header_room.get();
        let Some(left) = room.checked_sub(bytes) else {
            let limit = ImageLimits::HEADER_BYTES;
            return Err(ImageError::TooMuch {
                what: "bytes of headers for one file",
                limit,
            });
        };
        if room != u64::MAX {
            self.header_room.set(left);
        }
        Ok(())
    }
}

struct Metered {
    inner: Box<dyn Read>,
    hash: Sha256,
    meter: Rc<Meter>,
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.meter.count(got as u64).map_err(io::Error::other)?;
        self.hash.update(buffer.get(..got).unwrap_or_default());
        Ok(got)
    }
}

/// Gives back the error that a reader of ours wrapped; anything else is the archive's fault.
fn read_error(blob: &Path, error: io::Error) -> ImageError {
    let problem = error.to_string();
    // The tar crate wraps errors of its reader in its own, as sources.
    let mut inner = error.into_inner();
    while let Some(boxed) = inner {
        inner = match boxed.downcast::<ImageError>() {
            Ok(ours) => return *ours,
            Err(other) => match other.downcast::<io::Error>() {
                Ok(wrapped) => wrapped.into_inner(),
                Err(_) => None,
            },
        };
    }
    let name = blob
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    malformed(&format!("layer {name}"), problem)
}

/// The folders on the way, and the name.
type SplitPath<'a> = (Vec<&'a [u8]>, Option<&'a [u8]>);

/// Splits an entry's path into its folders and its name; no name means the layer's root.
fn split(path: &Path) -> Result<SplitPath<'_>, ImageError> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.as_bytes()),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                let problem = "it goes up";
                return Err(ImageError::Escape {
                    path: path.to_owned(),
                    problem,
                });
            }
        }
    }
    if parts.len() > ImageLimits::PATH_DEPTH {
        let limit = ImageLimits::PATH_DEPTH as u64;
        return Err(ImageError::TooMuch {
            what: "folders in a path",
            limit,
        });
    }
    let name = parts.pop();
    Ok((parts, name))
}

/// Makes the files of one layer.
struct Writer {
    root: OwnedFd,
    tree: PathBuf,
    form: Form,
    ownership: Ownership,
    buffer: Vec<u8>,
}

/// What can go wrong on the way to an entry's folder.
enum Missing {
    Make,
    Refuse,
}

impl Writer {
    fn open(tree: &Path, form: Form) -> Result<Self, ImageError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            fs::open(tree, flags, Mode::empty()).map_err(|e| io_error("open", tree)(e.into()))?;
        let ownership = Ownership::able();
        Ok(Self {
            root,
            tree: tree.to_owned(),
            form,
            ownership,
            buffer: vec![0; COPY_BYTES],
        })
    }

    fn write(&mut self, entry: &Entry, body: &mut dyn Read) -> Result<(), ImageError> {
        let (folders, name) = split(&entry.path)?;
        let Some(name) = name else {
            // The root itself: its mode and owner count, nothing else.
            if entry.kind == EntryType::Directory {
                let root = dup(&self.root).map_err(|e| self.failed(entry, e))?;
                return self.finish(&root, entry);
            }
            return Ok(());
        };
        let parent = self.walk(&entry.path, &folders, &Missing::Make)?;
        if name.starts_with(WHITEOUT) {
            return self.mark_deleted(entry, &parent, name);
        }
        match entry.kind {
            EntryType::Directory => self.write_dir(entry, &parent, name),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.write_file(entry, &parent, name, body)
            }
            EntryType::Symlink => self.write_symlink(entry, &parent, name),
            EntryType::Link => self.write_link(entry, &parent, name),
            EntryType::Fifo => self.write_fifo(entry, &parent, name),
            // Containers get their devices from the runtime, never from an image.
            EntryType::Char | EntryType::Block => Ok(()),
            other => {
                let problem = format!("entry {} has type {other:?}", entry.path.display());
                Err(malformed("a layer", problem))
            }
        }
    }

    /// Opens the folder that `folders` spell, without ever following a link.
    fn walk(
        &self,
        path: &Path,
        folders: &[&[u8]],
        missing: &Missing,
    ) -> Result<OwnedFd, ImageError> {
        let failed = |e: Errno| io_error("enter the folder of", &self.tree.join(path))(e.into());
        let mut here = dup(&self.root).map_err(failed)?;
        for folder in folders {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let next = match fs::openat(&here, *folder, flags, Mode::empty()) {
                Err(Errno::NOENT) if matches!(missing, Missing::Make) => {
                    fs::mkdirat(&here, *folder, Mode::from_raw_mode(0o755)).map_err(failed)?;
                    fs::openat(&here, *folder, flags, Mode::empty()).map_err(failed)?
                }
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let problem = "a folder on the way is a link or a file";
                    return Err(ImageError::Escape {
                        path: path.to_owned(),
                        problem,
                    });
                }
                other => other.map_err(failed)?,
            };
            here = next;
        }
        Ok(here)
    }

    fn write_dir(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), ImageError> {
        let existing = kind_at(parent, name).map_err(|e| self.failed(entry, e))?;
        if existing != Some(Existing::Directory) {
            if existing.is_some() {
                self.clear(entry, parent, name)?;
            }
            let mode = Mode::from_raw_mode(0o755);
            fs::mkdirat(parent, name, mode).map_err(|e| self.failed(entry, e))?;
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir =
            fs::openat(parent, name, flags, Mode::empty()).map_err(|e| self.failed(entry, e))?;
        if existing == Some(Existing::Whiteout) {
            // Deleted and made anew in one layer: nothing from below shows through.
            set_opaque(&dir).map_err(|e| self.failed(entry, e))?;
        }
        self.finish(&dir, entry)
    }

    fn write_file(
        &mut self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
        body: &mut dyn Read,
    ) -> Result<(), ImageError> {
        self.clear(entry, parent, name)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(|e| self.failed(entry, e))?;
        let mut file = File::from(file);
        loop {
            let got = match body.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(got) => got,
                Err(e) => return Err(read_error(&entry.path, e)),
            };
            let bytes = self.buffer.get(..got).unwrap_or_default();
            io::Write::write_all(&mut file, bytes)
                .map_err(io_error("write", &self.tree.join(&entry.path)))?;
        }
        let file = OwnedFd::from(file);
        self.finish(&file, entry)?;
        let time = fs::Timespec {
            tv_sec: i64::try_from(entry.mtime).unwrap_or(0),
            tv_nsec: 0,
        };
        let times = fs::Timestamps {
            last_access: time,
            last_modification: time,
        };
        fs::futimens(&file, &times).map_err(|e| self.failed(entry, e))
    }

    fn write_symlink(
        &self,
        entry: &Entry,
        parent: &OwnedFd,
        name: &[u8],
    ) -> Result<(), ImageError> {
        // Where it points does not matter: nothing on this side ever follows it.
        let target = link_of(entry)?;
        self.clear(entry, parent, name)?;
        fs::symlinkat(target, parent, name).map_err(|e| self.failed(entry, e))?;
        self.own(parent, name, entry)
    }

    fn write_link(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), ImageError> {
        let target = link_of(entry)?;
        let (folders, Some(target_name)) = split(target)? else {
            let problem = "it is a hard link to a folder";
            return Err(ImageError::Escape {
                path: entry.path.clone(),
                problem,
            });
        };
        let from = self
            .walk(target, &folders, &Missing::Refuse)
            .map_err(|e| match e {
                ImageError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                    malformed(
                        "a layer",
                        format!("hard link to {}, not there", target.display()),
                    )
                }
                other => other,
            })?;
        let there = kind_at(&from, target_name).map_err(|e| self.failed(entry, e))?;
        if there != Some(Existing::Other) {
            let problem = format!("hard link to {}, no file there", target.display());
            return Err(malformed("a layer", problem));
        }
        if target != entry.path {
            self.clear(entry, parent, name)?;
            fs::linkat(&from, target_name, parent, name, AtFlags::empty())
                .map_err(|e| self.failed(entry, e))?;
        }
        Ok(())
    }

    fn write_fifo(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), ImageError> {
        self.clear(entry, parent, name)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        fs::mknodat(parent, name, FileType::Fifo, mode, 0).map_err(|e| self.failed(entry, e))?;
        self.own(parent, name, entry)
    }

    /// Writes down that this layer deletes something below it.
    fn mark_deleted(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), ImageError> {
        if self.form == Form::Flat {
            return Ok(()); // Done before anything of this layer was written.
        }
        if name == OPAQUE {
            return set_opaque(parent).map_err(|e| self.failed(entry, e));
        }
        let Some(gone) = whiteout_name(name, entry)? else {
            return Ok(());
        };
        match kind_at(parent, gone).map_err(|e| self.failed(entry, e))? {
            None => fs::mknodat(parent, gone, FileType::CharacterDevice, Mode::empty(), 0)
                .map_err(|e| self.failed(entry, e)),
            Some(Existing::Directory) => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let dir = fs::openat(parent, gone, flags, Mode::empty())
                    .map_err(|e| self.failed(entry, e))?;
                set_opaque(&dir).map_err(|e| self.failed(entry, e))
            }
            // A file of this layer hides the one below by itself.
            Some(Existing::Other | Existing::Whiteout) => Ok(()),
        }
    }

    /// Removes what an earlier entry, or a layer below, left under this name.
    fn clear(&self, entry: &Entry, parent: &OwnedFd, name: &[u8]) -> Result<(), ImageError> {
        remove_at(parent, name).map_err(|e| self.failed(entry, e))
    }

    /// Sets owner, mode and attributes of an open file or folder, in the order in which they stick.
    fn finish(&self, file: &OwnedFd, entry: &Entry) -> Result<(), ImageError> {
        let mode = match self.ownership {
            Ownership::Keep => {
                let (uid, gid) = ids(entry)?;
                fs::fchown(file, Some(uid), Some(gid)).map_err(|e| self.failed(entry, e))?;
                entry.mode & 0o7777
            }
            // Its one owner must be able to copy and to delete it.
            Ownership::Squash if entry.kind == EntryType::Directory => entry.mode & 0o1777 | 0o700,
            Ownership::Squash => entry.mode & 0o777 | 0o600,
        };
        fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(|e| self.failed(entry, e))?;
        for (name, value) in &entry.attributes {
            // Only what means nothing to the kernel: no capabilities, labels or overlay marks from outside.
            if name.starts_with(b"user.") {
                let set = fs::fsetxattr(file, name.as_slice(), value, fs::XattrFlags::empty());
                match set {
                    Ok(()) | Err(Errno::NOTSUP | Errno::PERM | Errno::NOSPC) => {}
                    Err(e) => return Err(self.failed(entry, e)),
                }
            }
        }
        Ok(())
    }

    fn own(&self, parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), ImageError> {
        if self.ownership == Ownership::Keep {
            let (uid, gid) = ids(entry)?;
            fs::chownat(
                parent,
                name,
                Some(uid),
                Some(gid),
                AtFlags::SYMLINK_NOFOLLOW,
            )
            .map_err(|e| self.failed(entry, e))?;
        }
        Ok(())
    }

    fn failed(&self, entry: &Entry, errno: Errno) -> ImageError {
        match errno {
            Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
                let name: String = entry.path.display().to_string().chars().take(100).collect();
                malformed("a layer", format!("the name of {name:?} is no good here"))
            }
            errno => io_error("unpack", &self.tree.join(&entry.path))(errno.into()),
        }
    }
}

fn link_of(entry: &Entry) -> Result<&Path, ImageError> {
    let problem = || {
        malformed(
            "a layer",
            format!("link {} has no target", entry.path.display()),
        )
    };
    entry
        .link
        .as_deref()
        .filter(|l| !l.as_os_str().is_empty())
        .ok_or_else(problem)
}

fn ids(entry: &Entry) -> Result<(Uid, Gid), ImageError> {
    if entry.uid >= IDS || entry.gid >= IDS {
        return Err(ImageError::TooMuch {
            what: "user ids in use",
            limit: IDS,
        });
    }
    let narrow = |id: u64| u32::try_from(id).expect("checked above");
    Ok((
        Uid::from_raw(narrow(entry.uid)),
        Gid::from_raw(narrow(entry.gid)),
    ))
}

/// Returns what a whiteout named `name` deletes; nothing where it is some other mark.
fn whiteout_name<'a>(name: &'a [u8], entry: &Entry) -> Result<Option<&'a [u8]>, ImageError> {
    if name.starts_with(WHITEOUT_META) {
        return Ok(None);
    }
    match name.strip_prefix(WHITEOUT) {
        Some(b"" | b"." | b"..") => {
            let problem = "it deletes a folder it lies in";
            Err(ImageError::Escape {
                path: entry.path.clone(),
                problem,
            })
        }
        other => Ok(other),
    }
}

/// Deletes from the layers below what `entry` marks as deleted.
fn delete_marked(tree: &Path, entry: &Entry) -> Result<(), ImageError> {
    let (folders, Some(name)) = split(&entry.path)? else {
        return Ok(());
    };
    if !name.starts_with(WHITEOUT) {
        return Ok(());
    }
    // Looked at before anything else: it is refused even where there is nothing to delete.
    let gone = whiteout_name(name, entry)?;
    let writer = Writer::open(tree, Form::Flat)?;
    let parent = match writer.walk(&entry.path, &folders, &Missing::Refuse) {
        Ok(parent) => parent,
        // There is nothing below to delete.
        Err(ImageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(());
        }
        Err(e) => return Err(e),
    };
    if name == OPAQUE {
        return remove_children(&parent).map_err(|e| writer.failed(entry, e));
    }
    match gone {
        Some(gone) => remove_at(&parent, gone).map_err(|e| writer.failed(entry, e)),
        None => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Existing {
    Directory,
    Whiteout,
    Other,
}

fn kind_at(parent: &OwnedFd, name: &[u8]) -> Result<Option<Existing>, Errno> {
    let stat = match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(None),
        Err(e) => return Err(e),
    };
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Existing::Directory,
        FileType::CharacterDevice if stat.st_rdev == 0 => Existing::Whiteout,
        _ => Existing::Other,
    }))
}

/// Removes `name` and all in it, never following a link.
fn remove_at(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match kind_at(parent, name)? {
        None => Ok(()),
        Some(Existing::Directory) => {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            remove_children(&fs::openat(parent, name, flags, Mode::empty())?)?;
            fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
        }
        Some(_) => fs::unlinkat(parent, name, AtFlags::empty()),
    }
}

/// Recursion ends: unpacked paths are no deeper than [`ImageLimits::PATH_DEPTH`].
fn remove_children(dir: &OwnedFd) -> Result<(), Errno> {
    let mut names = Vec::new();
    for child in fs::Dir::read_from(dir)? {
        let child = child?;
        let name = child.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.iter().try_for_each(|name| remove_at(dir, name))
}

fn set_opaque(dir: &OwnedFd) -> Result<(), Errno> {
    fs::fsetxattr(dir, "trusted.overlay.opaque", b"y", fs::XattrFlags::empty())
}

fn dup(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::image::build::LayerBuilder;

    /// A generator good enough to choose what to damage; the seed is printed by a failure.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % limit as u64).unwrap()
        }
    }

    fn sound_layer() -> Vec<u8> {
        LayerBuilder::new()
            .dir("a", 0o755)
            .and_then(|l| l.file("a/file", 0o644, &[3; 700]))
            .and_then(|l| l.symlink("a/link", "../../outside"))
            .and_then(|l| l.hard_link("a/hard", "a/file"))
            .and_then(|l| l.whiteout("a/gone"))
            .and_then(|l| l.opaque("a"))
            .and_then(|l| l.file(&format!("{}/deep", "long-name/".repeat(20)), 0o600, b"x"))
            .and_then(LayerBuilder::finish)
            .unwrap()
    }

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn damaged_archives_never_panic_and_never_leave_their_folder() {
        let sound = sound_layer();
        let small = ImageLimits {
            unpacked_bytes: 1 << 20,
            entries: 50,
            ..ImageLimits::default()
        };
        for seed in 1..200_u64 {
            let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut damaged = sound.clone();
            for _ in 0..=dice.below(6) {
                // Mostly in headers: that is where damage does something.
                let block = dice.below(damaged.len() / 512) * 512;
                let at = block + dice.below(512);
                damaged[at] = u8::try_from(dice.below(256)).unwrap();
                if dice.below(2) == 0 {
                    mend_checksum(&mut damaged[block..block + 512]);
                }
            }
            let dir = tempfile::tempdir().unwrap();
            let (blob, tree) = (dir.path().join("blob"), dir.path().join("in/the/tree"));
            std::fs::write(&blob, &damaged).unwrap();
            std::fs::create_dir_all(&tree).unwrap();
            // Without root overlay's marks cannot be written; the other form can.
            let form = match Ownership::able() {
                Ownership::Keep if seed % 2 == 0 => Form::Overlay,
                _ => Form::Flat,
            };
            let mut budget = Budget::new(small);
            let result = unpack(
                &blob,
                &tree,
                form,
                &Digest::of(&damaged),
                &mut budget,
                &|_| Ok(()),
            );
            assert!(
                count(dir.path()) == 2 && count(&dir.path().join("in/the")) == 1,
                "seed {seed} left its folder: {result:?}"
            );
        }
    }

    fn mend_checksum(block: &mut [u8]) {
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
    }

    #[test]
    fn a_sound_archive_unpacks() {
        let dir = tempfile::tempdir().unwrap();
        let (blob, tree) = (dir.path().join("blob"), dir.path().join("tree"));
        std::fs::write(&blob, sound_layer()).unwrap();
        std::fs::create_dir(&tree).unwrap();
        let mut budget = Budget::new(ImageLimits::default());
        unpack(
            &blob,
            &tree,
            Form::Flat,
            &Digest::of(&sound_layer()),
            &mut budget,
            &|_| Ok(()),
        )
        .unwrap();
        assert_eq!(std::fs::read(tree.join("a/hard")).unwrap(), [3; 700]);
    }
}
