//! The content store: what was fetched, checked and unpacked on this machine.
//!
//! ```text
//! blobs/<hex>        manifests and configurations; in flat form, packed layers too
//! layers/<diff-id>   one unpacked layer, with overlayfs's marks for what it deletes
//! flat/<manifest>    all layers of an image on top of each other, where overlayfs cannot be used
//! trusted/<name>     what is on disk for sure: an empty file, or the boot it was unpacked in
//! tmp/               work in progress; emptied when the store is opened
//! ```
//!
//! Everything is made in `tmp` and renamed, so that a killed process leaves nothing half done. Unpacked files
//! are not synced one by one: until a sync in the background is through, they are trusted for the present
//! boot only, and unpacked again after a power cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::digest::Digest;
use super::error::{ImageError, io as io_error};
use super::limits::ImageLimits;
use super::manifest::{Descriptor, Document, ImageConfig, Manifest};
use super::reference::{ImageRef, Version};
use super::source::{Resolved, Source};
use super::unpack::{Budget, Form, unpack};
use super::{ImageLimits as Limits, PreparedImage};

/// How layers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LayerForm {
    /// Each by itself, for overlayfs. Needs root.
    Overlay,
    /// One tree for each image, to be copied.
    Flat,
}

/// The content store in one folder. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    form: LayerForm,
    limits: Limits,
    boot: String,
    next_temporary: AtomicU64,
    /// One lock for each thing being made, so that the same layer is fetched once.
    making: Mutex<BTreeMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

/// An image that is wholly in the store.
#[derive(Clone, Debug)]
pub(crate) struct StoredImage {
    pub(crate) config: ImageConfig,
    /// The layers' folders, lowest first; or the one flat tree.
    pub(crate) trees: Vec<PathBuf>,
}

impl Store {
    /// Opens the store in `root`, making it where it is missing. Only its owner can look inside: layers hold
    /// programs that run as whoever owns them.
    pub(crate) fn open(root: &Path, form: LayerForm, limits: ImageLimits) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        for name in ["blobs", "layers", "flat", "trusted", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        for entry in fs::read_dir(root.join("tmp"))? {
            crate::files::remove_tree(&entry?.path())?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let inner = Inner {
            root: root.to_owned(),
            form,
            limits,
            boot: boot.trim().to_owned(),
            next_temporary: AtomicU64::new(0),
            making: Mutex::default(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Returns the folder whose subfolders are the layers.
    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.inner.root.join("layers")
    }

    /// Fetches, checks and unpacks what of `image` is not here yet.
    pub(crate) async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageError> {
        let source = Source::of(image)?;
        let resolved = match self.known(image) {
            Some(resolved) => resolved,
            None => source.resolve(image, &self.inner.limits).await?,
        };
        let mut prepared = PreparedImage {
            digest: resolved.digest,
            layers: resolved.manifest.layers.len(),
            bytes_fetched: 0,
            bytes_cached: 0,
        };
        let config = self
            .fetch_config(&source, &resolved.manifest, &mut prepared)
            .await?;
        match self.inner.form {
            LayerForm::Overlay => {
                self.make_layers(&source, &resolved.manifest, &config, &mut prepared)
                    .await?;
            }
            LayerForm::Flat => {
                self.make_flat(&source, &resolved, &config, &mut prepared)
                    .await?;
            }
        }
        // Last, so that a manifest in the store means a whole image.
        self.put_document(&resolved.digest, &resolved.bytes)?;
        Ok(prepared)
    }

    /// Returns a prepared image; `None` where it is not here, or not whole.
    pub(crate) fn load(&self, digest: &Digest) -> Result<Option<StoredImage>, ImageError> {
        let Some(bytes) = self.document(digest) else {
            return Ok(None);
        };
        let manifest =
            Document::parse("the manifest", &bytes)?.into_manifest(&self.inner.limits)?;
        let Some(config) = self.document(&manifest.config.digest) else {
            return Ok(None);
        };
        let config = ImageConfig::parse(&config, manifest.layers.len())?;
        let trees = match self.inner.form {
            LayerForm::Overlay => config
                .diff_ids
                .iter()
                .map(|id| self.layer_path(id))
                .collect(),
            LayerForm::Flat => vec![self.flat_path(digest)],
        };
        let whole = trees.iter().all(|tree| self.is_trusted(tree));
        Ok(whole.then_some(StoredImage { config, trees }))
    }

    /// Removes every image but those whose manifests are `keep`, and what only they used. Nobody may be
    /// preparing an image meanwhile.
    pub(crate) fn forget_all_but(&self, keep: &[Digest]) -> io::Result<()> {
        let (mut blobs, mut trees) = (BTreeSet::new(), BTreeSet::new());
        for digest in keep {
            let Some(bytes) = self.document(digest) else {
                continue;
            };
            let document = Document::parse("the manifest", &bytes).ok();
            let Some(Ok(manifest)) = document.map(|d| d.into_manifest(&self.inner.limits)) else {
                continue;
            };
            blobs.extend([digest.hex(), manifest.config.digest.hex()]);
            trees.insert(digest.hex());
            if self.inner.form == LayerForm::Flat {
                blobs.extend(manifest.layers.iter().map(|l| l.digest.hex()));
            }
            let config = self.document(&manifest.config.digest);
            let config = config.map(|c| ImageConfig::parse(&c, manifest.layers.len()));
            if let Some(Ok(config)) = config {
                trees.extend(config.diff_ids.iter().map(Digest::hex));
            }
        }
        // Manifests first: an image that is only half gone must not count as one that is here.
        for (folder, kept) in [
            ("blobs", &blobs),
            ("trusted", &trees),
            ("layers", &trees),
            ("flat", &trees),
        ] {
            for entry in fs::read_dir(self.inner.root.join(folder))? {
                let entry = entry?;
                if entry
                    .file_name()
                    .to_str()
                    .is_none_or(|name| !kept.contains(name))
                {
                    crate::files::remove_tree(&entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Where `image` names a digest that is here, nobody needs to be asked.
    fn known(&self, image: &ImageRef) -> Option<Resolved> {
        let ImageRef::Registry {
            version: Version::Digest(digest),
            ..
        } = image
        else {
            return None;
        };
        let bytes = self.document(digest)?;
        let document = Document::parse("the manifest", &bytes).ok()?;
        let manifest = document.into_manifest(&self.inner.limits).ok()?;
        Some(Resolved {
            digest: *digest,
            bytes,
            manifest,
        })
    }

    async fn fetch_config(
        &self,
        source: &Source,
        manifest: &Manifest,
        prepared: &mut PreparedImage,
    ) -> Result<ImageConfig, ImageError> {
        let descriptor = &manifest.config;
        let bytes = if let Some(bytes) = self.document(&descriptor.digest) {
            prepared.bytes_cached += bytes.len() as u64;
            bytes
        } else {
            let bytes = source.document(descriptor, &self.inner.limits).await?;
            self.put_document(&descriptor.digest, &bytes)?;
            prepared.bytes_fetched += bytes.len() as u64;
            bytes
        };
        ImageConfig::parse(&bytes, manifest.layers.len())
    }

    async fn make_layers(
        &self,
        source: &Source,
        manifest: &Manifest,
        config: &ImageConfig,
        prepared: &mut PreparedImage,
    ) -> Result<(), ImageError> {
        let mut budget = Budget::new(self.inner.limits);
        for (descriptor, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            let lock = self.lock(diff_id);
            let guard = lock.lock().await;
            let layer = self.layer_path(diff_id);
            if self.is_trusted(&layer) {
                prepared.bytes_cached += descriptor.size;
            } else {
                let blob = self.temporary();
                let fetched = source.blob(descriptor, &blob).await;
                let unpacked = match fetched {
                    Ok(()) => self.unpack_layer(&blob, &layer, diff_id, &mut budget).await,
                    Err(e) => Err(e),
                };
                // A leftover is removed when the store is opened.
                let _ignored = fs::remove_file(&blob);
                unpacked?;
                prepared.bytes_fetched += descriptor.size;
            }
            drop(guard);
            self.unlock(diff_id, lock);
        }
        Ok(())
    }

    async fn unpack_layer(
        &self,
        blob: &Path,
        layer: &Path,
        diff_id: &Digest,
        budget: &mut Budget,
    ) -> Result<(), ImageError> {
        let store = self.clone();
        let (blob, layer, diff_id) = (blob.to_owned(), layer.to_owned(), *diff_id);
        let mut spent = budget.clone();
        let (spent, result) = tokio::task::spawn_blocking(move || {
            let tree = store.temporary();
            let result = make_dir(&tree)
                .and_then(|()| unpack(&blob, &tree, Form::Overlay, &diff_id, &mut spent))
                .and_then(|()| store.publish(&tree, &layer));
            if result.is_err() {
                let _ignored = crate::files::remove_tree(&tree);
            }
            (spent, result)
        })
        .await
        .expect("unpacking a layer does not panic");
        *budget = spent;
        result
    }

    async fn make_flat(
        &self,
        source: &Source,
        resolved: &Resolved,
        config: &ImageConfig,
        prepared: &mut PreparedImage,
    ) -> Result<(), ImageError> {
        let lock = self.lock(&resolved.digest);
        let guard = lock.lock().await;
        let flat = self.flat_path(&resolved.digest);
        let layers = &resolved.manifest.layers;
        if self.is_trusted(&flat) {
            prepared.bytes_cached += layers.iter().map(|l| l.size).sum::<u64>();
        } else {
            let mut packed = Vec::new();
            for descriptor in layers {
                packed.push(self.fetch_blob(source, descriptor, prepared).await?);
            }
            let work: Vec<_> = packed.into_iter().zip(config.diff_ids.clone()).collect();
            let store = self.clone();
            tokio::task::spawn_blocking(move || store.unpack_flat(&work, &flat))
                .await
                .expect("unpacking an image does not panic")?;
        }
        drop(guard);
        self.unlock(&resolved.digest, lock);
        Ok(())
    }

    fn unpack_flat(&self, layers: &[(PathBuf, Digest)], flat: &Path) -> Result<(), ImageError> {
        let tree = self.temporary();
        make_dir(&tree)?;
        let mut budget = Budget::new(self.inner.limits);
        let unpacked = layers.iter().try_for_each(|(blob, diff_id)| {
            let result = unpack(blob, &tree, Form::Flat, diff_id, &mut budget);
            if result.is_err() {
                // It may be the blob that is bad: fetch it again next time.
                let _ignored = fs::remove_file(blob);
            }
            result
        });
        let result = unpacked.and_then(|()| self.publish(&tree, flat));
        if result.is_err() {
            let _ignored = crate::files::remove_tree(&tree);
        }
        result
    }

    /// Returns the path of a packed layer, fetching it where it is missing.
    async fn fetch_blob(
        &self,
        source: &Source,
        descriptor: &Descriptor,
        prepared: &mut PreparedImage,
    ) -> Result<PathBuf, ImageError> {
        let path = self.blob_path(&descriptor.digest);
        if fs::metadata(&path).is_ok_and(|m| m.len() == descriptor.size) {
            prepared.bytes_cached += descriptor.size;
            return Ok(path);
        }
        let temporary = self.temporary();
        if let Err(e) = source.blob(descriptor, &temporary).await {
            let _ignored = fs::remove_file(&temporary);
            return Err(e);
        }
        fs::rename(&temporary, &path).map_err(io_error("rename", &path))?;
        prepared.bytes_fetched += descriptor.size;
        Ok(path)
    }

    /// Gives a finished tree its name, trusted for this boot, and has it synced in the background.
    fn publish(&self, tree: &Path, path: &Path) -> Result<(), ImageError> {
        let mark = self.mark_path(path);
        fs::write(&mark, &self.inner.boot).map_err(io_error("write", &mark))?;
        if path.exists() {
            // Left from before a power cut, or another process was faster; ours is as good.
            crate::files::remove_tree(path).map_err(io_error("remove", path))?;
        }
        fs::rename(tree, path).map_err(io_error("rename", path))?;
        let path = path.to_owned();
        std::thread::spawn(move || {
            // Only where all of it is on disk is the mark emptied; else the next boot unpacks it again.
            let synced = File::open(&path).and_then(|dir| Ok(rustix::fs::syncfs(dir)?));
            if synced.is_ok() {
                let _ignored = fs::write(&mark, "");
            }
        });
        Ok(())
    }

    fn is_trusted(&self, tree: &Path) -> bool {
        let Ok(mark) = fs::read_to_string(self.mark_path(tree)) else {
            return false;
        };
        (mark.is_empty() || mark == self.inner.boot) && tree.is_dir()
    }

    fn put_document(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        let (temporary, path) = (self.temporary(), self.blob_path(digest));
        fs::write(&temporary, bytes).map_err(io_error("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(io_error("rename", &path))
    }

    /// Returns a document that is here and undamaged.
    fn document(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.blob_path(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.inner.root.join("blobs").join(digest.hex())
    }

    fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.layers_dir().join(diff_id.hex())
    }

    fn flat_path(&self, manifest: &Digest) -> PathBuf {
        self.inner.root.join("flat").join(manifest.hex())
    }

    fn mark_path(&self, tree: &Path) -> PathBuf {
        let name = tree.file_name().expect("trees are named by digests");
        self.inner.root.join("trusted").join(name)
    }

    fn temporary(&self) -> PathBuf {
        let number = self.inner.next_temporary.fetch_add(1, Ordering::Relaxed);
        self.inner
            .root
            .join("tmp")
            .join(format!("{}-{number}", std::process::id()))
    }

    fn lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut making = self
            .inner
            .making
            .lock()
            .expect("no holder of this lock panics");
        Arc::clone(making.entry(*digest).or_default())
    }

    /// Forgets a lock that nobody else waits for. One that an error left behind is reused or forgotten later.
    fn unlock(&self, digest: &Digest, lock: Arc<tokio::sync::Mutex<()>>) {
        let mut making = self
            .inner
            .making
            .lock()
            .expect("no holder of this lock panics");
        drop(lock);
        if making
            .get(digest)
            .is_some_and(|l| Arc::strong_count(l) == 1)
        {
            making.remove(digest);
        }
    }
}

fn make_dir(path: &Path) -> Result<(), ImageError> {
    fs::create_dir(path).map_err(io_error("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io_error("open up", path))
}
