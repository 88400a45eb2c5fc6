//! Keeping the store within its share of the disk.
//!
//! What is about to take room asks for it first. Where there is none, what no image refers to goes, then the images
//! that were not used for longest, then what came of transfers that were cut. Never what a container was made from,
//! what somebody is preparing at the moment, or what was prepared just now, for a container that is about to be made.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Store;
use crate::files::{self, Durable, now_ms};
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::manifest::{Document, ImageConfig};

/// All that is named by digests. Images first: one that is only half gone must not count as one that is here.
pub(super) const FOLDERS: [&str; 8] = [
    "images", "blobs", "trusted", "layers", "flat", "sizes", "grants", "partial",
];
/// From an image's being there to its container's being made, an agent needs milliseconds.
const FRESH: Duration = Duration::from_mins(2);
/// Room is asked for in steps of this size.
const STEP: u64 = 1 << 20;
/// This part of what is free stays so where nobody says how much images may take: for what containers write.
const FREE_SHARE: u64 = 10;

/// Tells which images must stay, by the digests of their manifests.
pub(crate) struct InUse(Box<dyn Fn() -> io::Result<BTreeSet<Digest>> + Send + Sync>);

impl InUse {
    pub(crate) fn new(
        tell: impl Fn() -> io::Result<BTreeSet<Digest>> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(tell))
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse")
    }
}

#[derive(Debug)]
pub(super) struct Shelf {
    in_use: InUse,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    budget: u64,
    /// Bytes that lie in the store.
    stored: u64,
    /// Bytes that are on their way into it.
    reserved: u64,
    /// How many want a thing of this name to stay.
    pins: BTreeMap<String, u32>,
}

/// What is known of an image besides its manifest.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Note {
    used_at_ms: u64,
}

impl Shelf {
    pub(super) fn new(in_use: InUse) -> Self {
        Self {
            in_use,
            state: Mutex::default(),
        }
    }
}

/// Things of the store that stay as long as this does.
#[derive(Debug)]
pub(crate) struct Pin {
    store: Store,
    names: Vec<String>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for name in &self.names {
            if let Some(count) = state.pins.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(name);
                }
            }
        }
    }
}

/// Room on the disk, held until it is filled or given up.
#[derive(Debug)]
pub(super) struct Room {
    store: Store,
    reserved: Cell<u64>,
    covered: Cell<u64>,
}

impl Room {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            reserved: Cell::new(0),
            covered: Cell::new(0),
        }
    }

    /// Makes this room for `bytes` in all. May remove images, so it blocks.
    pub(super) fn cover(&self, bytes: u64) -> Result<(), ImageError> {
        self.covered.set(self.covered.get().max(bytes));
        if let Some(more) = bytes.checked_sub(self.reserved.get())
            && more > 0
        {
            let step = more.max(STEP);
            self.store.reserve(step, bytes)?;
            self.reserved.set(self.reserved.get() + step);
        }
        Ok(())
    }

    /// Returns the most that was asked for.
    pub(super) fn covered(&self) -> u64 {
        self.covered.get()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.store.state().reserved -= self.reserved.get();
    }
}

impl Store {
    /// Looks at what is here from before, and sets how much there may be.
    pub(super) fn take_stock(&self, budget: Option<u64>) -> io::Result<()> {
        for folder in ["layers", "flat"] {
            for (name, path) in self.names_in(folder)? {
                if !self.folder("sizes").join(&name).exists() {
                    fs::write(
                        self.folder("sizes").join(&name),
                        tree_bytes(&path)?.to_string(),
                    )?;
                }
            }
        }
        for (name, path) in self.names_in("blobs")? {
            let known = self.folder("images").join(&name).exists();
            let small = fs::metadata(&path)?.len() <= self.inner.limits.document_bytes;
            if !known && small && is_manifest(&fs::read(&path)?) {
                self.put_note(&name)?;
            }
        }
        // From before they had scopes: nobody knows whose they are.
        for (name, path) in self.names_in("partial")? {
            if !name.contains('.') {
                files::remove_tree(&path)?;
            }
        }
        self.count()?;
        let mut state = self.state();
        state.budget = match budget {
            Some(budget) => budget,
            None => disk_share(&self.inner.root, state.stored)?,
        };
        Ok(())
    }

    /// Keeps what these digests name.
    pub(super) fn pin(&self, digests: impl Iterator<Item = Digest>) -> Pin {
        let names: Vec<String> = digests.map(|digest| digest.hex()).collect();
        let mut state = self.state();
        for name in &names {
            *state.pins.entry(name.clone()).or_default() += 1;
        }
        Pin {
            store: self.clone(),
            names,
        }
    }

    /// Keeps an image, which need not be here, with all that belongs to it.
    pub(super) fn pin_image(&self, digest: &Digest) -> Pin {
        // Nothing goes while its manifest is pinned, so that what that names is here or was not.
        let manifest = self.pin(std::iter::once(*digest));
        let all = self.pin(self.parts(digest).into_iter());
        drop(manifest);
        all
    }

    /// Writes down that an image is here, whole, and used now.
    pub(super) fn shelve(&self, digest: &Digest) -> Result<(), ImageError> {
        let _state = self.state();
        self.put_note(&digest.hex())
            .map_err(io_error("write down the use of", &self.blob_path(digest)))
    }

    /// Writes down how much of the disk the tree at `path` takes.
    pub(super) fn note_size(&self, path: &Path, bytes: u64) -> Result<(), ImageError> {
        let name = path.file_name().expect("trees are named by digests");
        let path = self.folder("sizes").join(name);
        fs::write(&path, bytes.to_string()).map_err(io_error("write", &path))
    }

    /// Counts what lies in the store.
    pub(super) fn count(&self) -> io::Result<()> {
        let mut state = self.state();
        state.stored = self.measure(&state)?;
        Ok(())
    }

    /// Removes every image but those whose manifests are `keep` and those in use.
    pub(crate) fn forget_all_but(&self, keep: &[Digest]) -> io::Result<()> {
        let graves = {
            let mut state = self.state();
            let mut keep: BTreeSet<Digest> = keep.iter().copied().collect();
            keep.extend((self.inner.shelf.in_use.0)()?);
            let graves = self.bury_all_but(&keep, &state.pins, &FOLDERS)?;
            state.stored = self.measure(&state)?;
            graves
        };
        graves
            .iter()
            .try_for_each(|grave| files::remove_tree(grave))
    }

    /// Takes `bytes` of the budget, for something that is `wanted` bytes in all.
    fn reserve(&self, bytes: u64, wanted: u64) -> Result<(), ImageError> {
        let failed = || io_error("make room in", &self.inner.root);
        let mut graves = Vec::new();
        let result = {
            let mut state = self.state();
            let made = self.make_room(&mut state, bytes, &mut graves);
            let fits = made.map_err(failed())?;
            if fits {
                state.reserved += bytes;
                Ok(())
            } else {
                Err(ImageError::NoRoom {
                    wanted,
                    budget: state.budget,
                    used: state.stored + state.reserved,
                })
            }
        };
        // Out of the lock: it may take a while, and others only want to look.
        for grave in graves {
            files::remove_tree(&grave).map_err(failed())?;
        }
        result
    }

    fn make_room(
        &self,
        state: &mut State,
        bytes: u64,
        graves: &mut Vec<PathBuf>,
    ) -> io::Result<bool> {
        let fits = |state: &State| {
            let taken = state.stored.saturating_add(state.reserved);
            taken.saturating_add(bytes) <= state.budget
        };
        if fits(state) {
            return Ok(true);
        }
        let in_use = (self.inner.shelf.in_use.0)()?;
        let (mut keep, mut victims) = (BTreeSet::new(), BTreeSet::new());
        let fresh_from =
            now_ms().saturating_sub(u64::try_from(FRESH.as_millis()).unwrap_or(u64::MAX));
        for (name, _) in self.names_in("images")? {
            let (Ok(digest), Some(note)) = (format!("sha256:{name}").parse(), self.note(&name))
            else {
                continue;
            };
            keep.insert(digest);
            let stays = in_use.contains(&digest) || state.pins.contains_key(&name);
            if !stays && note.used_at_ms < fresh_from {
                victims.insert((note.used_at_ms, digest));
            }
        }
        // What came of cut transfers goes last, and what belongs to no image first.
        let whole = FOLDERS.get(..FOLDERS.len() - 1).unwrap_or_default();
        let mut victims = victims.into_iter();
        loop {
            graves.extend(self.bury_all_but(&keep, &state.pins, whole)?);
            state.stored = self.measure(state)?;
            if fits(state) {
                return Ok(true);
            }
            let Some((_, victim)) = victims.next() else {
                break;
            };
            tracing::info!(image = %victim, "removing an image to make room");
            keep.remove(&victim);
        }
        graves.extend(self.bury_all_but(&keep, &state.pins, &FOLDERS)?);
        state.stored = self.measure(state)?;
        Ok(fits(state))
    }

    /// Puts all that neither belongs to an image of `keep` nor is pinned out of the way, and returns where it lies.
    fn bury_all_but(
        &self,
        keep: &BTreeSet<Digest>,
        pins: &BTreeMap<String, u32>,
        folders: &[&str],
    ) -> io::Result<Vec<PathBuf>> {
        let mut kept = BTreeSet::new();
        for digest in keep {
            kept.extend(self.parts(digest).into_iter().map(|part| part.hex()));
        }
        let mut graves = Vec::new();
        for folder in folders {
            for (name, path) in self.names_in(folder)? {
                let digest = digest_of(&name);
                if kept.contains(digest) || pins.contains_key(digest) {
                    continue;
                }
                let grave = self.temporary();
                match fs::rename(&path, &grave) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    other => {
                        other?;
                        graves.push(grave);
                    }
                }
            }
        }
        Ok(graves)
    }

    /// Returns the digests of all that an image consists of, as far as it is here.
    fn parts(&self, digest: &Digest) -> Vec<Digest> {
        let mut parts = vec![*digest];
        let manifest = self.document(digest).and_then(|bytes| {
            let document = Document::parse("the manifest", &bytes).ok()?;
            document.into_manifest(&self.inner.limits).ok()
        });
        let Some(manifest) = manifest else {
            return parts;
        };
        parts.push(manifest.config.digest);
        parts.extend(manifest.layers.iter().map(|layer| layer.digest));
        let config = self.document(&manifest.config.digest);
        let config = config.map(|bytes| ImageConfig::parse(&bytes, manifest.layers.len()));
        if let Some(Ok(config)) = config {
            parts.extend(config.diff_ids);
        }
        parts
    }

    fn measure(&self, state: &State) -> io::Result<u64> {
        let mut bytes = 0_u64;
        for (_, path) in self.names_in("sizes")? {
            let text = fs::read_to_string(&path).unwrap_or_default();
            bytes = bytes.saturating_add(text.parse().unwrap_or(0));
        }
        for (_, path) in self.names_in("blobs")? {
            bytes = bytes.saturating_add(length(&path));
        }
        for (name, path) in self.names_in("partial")? {
            // One that is being filled has its room already.
            if !state.pins.contains_key(digest_of(&name)) {
                bytes = bytes.saturating_add(length(&path));
            }
        }
        Ok(bytes)
    }

    fn note(&self, name: &str) -> Option<Note> {
        files::get_json(&self.folder("images"), name).ok()?
    }

    fn put_note(&self, name: &str) -> io::Result<()> {
        let note = Note {
            used_at_ms: now_ms(),
        };
        files::put_json(&self.folder("images"), name, &note, Durable::No)
    }

    /// Lists a folder of things named by digests.
    fn names_in(&self, folder: &str) -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder(folder))? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string()
                && !name.starts_with('.')
            {
                found.push((name, entry.path()));
            }
        }
        Ok(found)
    }

    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.inner.root.join(name)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        let state = self.inner.shelf.state.lock();
        state.expect("no holder of this lock panics")
    }
}

/// Returns the digest in a name: what is on its way here has its scope behind it.
fn digest_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(digest, _)| digest)
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

fn is_manifest(bytes: &[u8]) -> bool {
    Document::parse("the manifest", bytes).is_ok_and(|d| d.config.is_some() && d.layers.is_some())
}

fn disk_share(root: &Path, stored: u64) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(root)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(stored.saturating_add(free - free / FREE_SHARE))
}

/// Returns what a tree from before sizes were written down takes.
fn tree_bytes(path: &Path) -> io::Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    let mut bytes = std::os::unix::fs::MetadataExt::blocks(&metadata).saturating_mul(512);
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            bytes = bytes.saturating_add(tree_bytes(&entry?.path())?);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_free_here_is_for_images_less_a_share() {
        let share = super::disk_share(&std::env::temp_dir(), 7).unwrap();
        let disk = rustix::fs::statvfs("/tmp").unwrap();
        let seen = (disk.f_bavail, disk.f_frsize, disk.f_bsize);
        assert!(share > 1 << 20, "{share} of {seen:?}");
    }
}
