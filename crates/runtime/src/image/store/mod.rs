//! The content store: what was fetched, checked and unpacked on this machine.
//!
//! ```text
//! blobs/<hex>        manifests and configurations; in flat form, packed layers too
//! layers/<diff-id>   one unpacked layer, with overlayfs's marks for what it deletes
//! flat/<manifest>    all layers of an image on top of each other, where overlayfs cannot be used
//! trusted/<name>     what is on disk for sure: an empty file, or the boot it was unpacked in
//! sizes/<name>       how many bytes of the disk a layer or a flat tree takes
//! images/<manifest>  when an image was last used
//! grants/<hex>       who may use a blob or a layer, see `grants`
//! partial/<hex>.<scope>  packed layers on their way here: where a transfer was cut, what came of them
//! tmp/               work in progress; emptied when the store is opened
//! ```
//!
//! Everything is made aside and renamed, so that a killed process leaves nothing half done. Unpacked files
//! are not synced one by one: until a sync in the background is through, they are trusted for the present
//! boot only, and unpacked again after a power cut.
//!
//! Map: `grants` keeps what one may read from those who may not; `shelf` keeps the store within its share of the disk.

mod export;
mod grants;
mod shelf;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::digest::Digest;
use super::error::{ImageError, io as io_error};
use super::manifest::{Descriptor, Document, ImageConfig};
use super::reference::{ImageRef, Version};
use super::registry::{Credential, Registries};
use super::source::{Resolved, Scope, Source};
use super::unpack::{Budget, Form, unpack};
use super::{ImageLimits, PreparedImage};
use crate::error::Blame;

pub(crate) use self::shelf::{InUse, Pin};
use self::shelf::{Room, Shelf};

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

/// What a store is opened with.
#[derive(Debug)]
pub(crate) struct StoreConfig {
    pub(crate) root: PathBuf,
    pub(crate) form: LayerForm,
    pub(crate) limits: ImageLimits,
    /// Bytes of the disk that images may take; `None` is what the disk has, less a share that stays free.
    pub(crate) bytes: Option<u64>,
    pub(crate) registries: Registries,
    /// Which images must stay.
    pub(crate) in_use: InUse,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    form: LayerForm,
    limits: ImageLimits,
    registries: Registries,
    boot: String,
    next_temporary: AtomicU64,
    /// One lock for each thing being made, so that the same layer is fetched once.
    making: Mutex<BTreeMap<Thing, Arc<tokio::sync::Mutex<()>>>>,
    shelf: Shelf,
}

/// Something that one prepares while the others wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// A layer's or an image's unpacked tree.
    Tree(Digest),
    /// A packed layer.
    Blob(Digest),
}

/// Something that is being made, by whoever holds this.
struct Making<'a> {
    store: &'a Store,
    thing: Thing,
    guard: Option<tokio::sync::OwnedMutexGuard<()>>,
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        drop(self.guard.take());
        let making = self.store.inner.making.lock();
        let mut making = making.expect("no holder of this lock panics");
        // Forgotten where nobody else waits for it.
        if making
            .get(&self.thing)
            .is_some_and(|l| Arc::strong_count(l) == 1)
        {
            making.remove(&self.thing);
        }
    }
}

/// An image that is wholly in the store.
#[derive(Debug)]
pub(crate) struct StoredImage {
    pub(crate) config: ImageConfig,
    /// The layers' folders, lowest first; or the one flat tree.
    pub(crate) trees: Vec<PathBuf>,
    /// Keeps it where it is until its container can be seen.
    _pin: Pin,
}

impl Store {
    /// Opens the store, making it where it is missing. Only its owner can look inside: layers hold programs that run as
    /// whoever owns them.
    pub(crate) fn open(config: StoreConfig) -> io::Result<Self> {
        let root = config.root;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700))?;
        for name in shelf::FOLDERS.into_iter().chain(["tmp"]) {
            fs::create_dir_all(root.join(name))?;
        }
        for entry in fs::read_dir(root.join("tmp"))? {
            crate::files::remove_tree(&entry?.path())?;
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let inner = Inner {
            form: config.form,
            limits: config.limits,
            registries: config.registries,
            boot: boot.trim().to_owned(),
            next_temporary: AtomicU64::new(0),
            making: Mutex::default(),
            shelf: Shelf::new(config.in_use),
            root,
        };
        let store = Self {
            inner: Arc::new(inner),
        };
        store.take_stock(config.bytes)?;
        Ok(store)
    }

    /// Returns the folder whose subfolders are the layers.
    pub(crate) fn layers_dir(&self) -> PathBuf {
        self.inner.root.join("layers")
    }

    /// Fetches, checks and unpacks what of `image` is not here yet; for whoever `credential` stands for, else for this
    /// machine.
    pub(crate) async fn prepare(
        &self,
        image: &ImageRef,
        credential: Option<&Credential>,
    ) -> Result<PreparedImage, ImageError> {
        let source = Source::of(image, &self.inner.registries, credential)?;
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
        let manifest = &resolved.manifest;
        let layers = manifest.layers.iter().map(|layer| layer.digest);
        let _pin = self.pin(layers.chain([resolved.digest, manifest.config.digest]));
        let config = self.fetch_config(&source, &resolved, &mut prepared).await?;
        let _layers = self.pin(config.diff_ids.iter().copied());
        match self.inner.form {
            LayerForm::Overlay => {
                self.make_layers(&source, &resolved, &config, &mut prepared)
                    .await?;
            }
            LayerForm::Flat => {
                self.make_flat(&source, &resolved, &config, &mut prepared)
                    .await?;
            }
        }
        // Last, so that a manifest in the store means a whole image.
        self.put_document(&resolved.digest, &resolved.bytes)?;
        self.grant(&resolved.digest, source.scope())?;
        self.shelve(&resolved.digest)?;
        Ok(prepared)
    }

    /// Returns a prepared image; `None` where it is not here, or not whole.
    pub(crate) fn load(&self, digest: &Digest) -> Result<Option<StoredImage>, ImageError> {
        // First, so that nothing of it goes while we look.
        let pin = self.pin_image(digest);
        let Some(bytes) = self.document(digest) else {
            return Ok(None);
        };
        let manifest =
            Document::parse("the manifest", &bytes)?.into_manifest(&self.inner.limits)?;
        let Some(config) = self.document(&manifest.config.digest) else {
            return Ok(None);
        };
        let config = ImageConfig::parse(&config, manifest.layers.len())?;
        let trees: Vec<PathBuf> = match self.inner.form {
            LayerForm::Overlay => config
                .diff_ids
                .iter()
                .map(|id| self.layer_path(id))
                .collect(),
            LayerForm::Flat => vec![self.flat_path(digest)],
        };
        if !trees.iter().all(|tree| self.is_trusted(tree)) {
            return Ok(None);
        }
        self.shelve(digest)?;
        Ok(Some(StoredImage {
            config,
            trees,
            _pin: pin,
        }))
    }

    /// Where `image` names a digest that is here for everybody, nobody needs to be asked. Else its registry decides
    /// for each who asks.
    fn known(&self, image: &ImageRef) -> Option<Resolved> {
        let ImageRef::Registry {
            version: Version::Digest(digest),
            ..
        } = image
        else {
            return None;
        };
        if !self.may_use(digest, Scope::Public) {
            return None;
        }
        let bytes = self.document(digest)?;
        let document = Document::parse("the manifest", &bytes).ok()?;
        let manifest = document.into_manifest(&self.inner.limits).ok()?;
        Some(Resolved::new(*digest, bytes, manifest))
    }

    async fn fetch_config(
        &self,
        source: &Source,
        resolved: &Resolved,
        prepared: &mut PreparedImage,
    ) -> Result<ImageConfig, ImageError> {
        let digest = &resolved.manifest.config.digest;
        let ours = self.may_use(digest, source.scope());
        let bytes = if let Some(bytes) = self.document(digest).filter(|_| ours) {
            prepared.bytes_cached += bytes.len() as u64;
            bytes
        } else {
            let bytes = source.config(resolved, &self.inner.limits).await?;
            self.put_document(digest, &bytes)?;
            self.grant(digest, source.scope())?;
            prepared.bytes_fetched += bytes.len() as u64;
            bytes
        };
        ImageConfig::parse(&bytes, resolved.manifest.layers.len())
    }

    async fn make_layers(
        &self,
        source: &Source,
        resolved: &Resolved,
        config: &ImageConfig,
        prepared: &mut PreparedImage,
    ) -> Result<(), ImageError> {
        let mut budget = Budget::new(self.inner.limits);
        for (descriptor, diff_id) in resolved.manifest.layers.iter().zip(&config.diff_ids) {
            let _alone = self.alone(Thing::Tree(*diff_id)).await;
            let layer = self.layer_path(diff_id);
            if self.is_trusted(&layer) && self.may_use(diff_id, source.scope()) {
                prepared.bytes_cached += descriptor.size;
                continue;
            }
            let _blob_alone = self.alone(Thing::Blob(descriptor.digest)).await;
            let (blob, _room) = self.fetch(source, resolved, descriptor).await?;
            let unpacked = self.unpack_layer(&blob, &layer, diff_id, &mut budget).await;
            fs::remove_file(&blob).map_err(io_error("remove", &blob))?;
            unpacked?;
            self.grant(diff_id, source.scope())?;
            prepared.bytes_fetched += descriptor.size;
        }
        Ok(())
    }

    /// Fetches a packed layer, going on with one that was cut. Its room on the disk lasts as long as what is returned.
    async fn fetch(
        &self,
        source: &Source,
        resolved: &Resolved,
        descriptor: &Descriptor,
    ) -> Result<(PathBuf, Room), ImageError> {
        let path = self.partial_path(&descriptor.digest, source.scope_at_most());
        if source.scope() != source.scope_at_most() {
            // What came to somebody who was known is not taken up by who is not yet: it would count as everybody's.
            crate::files::remove_tree(&path).map_err(io_error("remove", &path))?;
        }
        let (store, size) = (self.clone(), descriptor.size);
        let room = blocking(move || {
            let room = Room::new(&store);
            room.cover(size).map(|()| room)
        })
        .await?;
        match source.blob(resolved, descriptor, &path).await {
            Ok(()) => Ok((path, room)),
            // What came so far is as good as it was.
            Err(e) if e.blame() == Blame::Transient && !is_damage(&e) => Err(e),
            Err(e) => {
                let _ignored = fs::remove_file(&path);
                Err(e)
            }
        }
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
            let (tree, room) = (store.temporary(), Room::new(&store));
            let taken = |bytes| room.cover(bytes);
            let result = make_dir(&tree)
                .and_then(|()| unpack(&blob, &tree, Form::Overlay, &diff_id, &mut spent, &taken))
                .and_then(|()| {
                    if store.is_trusted(&layer) {
                        // Unpacked only to show that they have it: containers may stand on the one that is there.
                        crate::files::remove_tree(&tree).map_err(io_error("remove", &tree))
                    } else {
                        store.publish(&tree, &layer, &room)
                    }
                });
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
        let _alone = self.alone(Thing::Tree(resolved.digest)).await;
        let flat = self.flat_path(&resolved.digest);
        let layers = &resolved.manifest.layers;
        // The layers' own, as somebody may know the manifest and none of them.
        let ours = |layer: &Descriptor| self.may_use(&layer.digest, source.scope());
        if self.is_trusted(&flat) && layers.iter().all(ours) {
            prepared.bytes_cached += layers.iter().map(|l| l.size).sum::<u64>();
            return Ok(());
        }
        let mut packed = Vec::new();
        for descriptor in layers {
            packed.push(
                self.keep_blob(source, resolved, descriptor, prepared)
                    .await?,
            );
        }
        if self.is_trusted(&flat) {
            // Made for another scope, of the very layers that were just brought.
            return Ok(());
        }
        let work: Vec<_> = packed.into_iter().zip(config.diff_ids.clone()).collect();
        let store = self.clone();
        blocking(move || store.unpack_flat(&work, &flat)).await
    }

    fn unpack_flat(&self, layers: &[(PathBuf, Digest)], flat: &Path) -> Result<(), ImageError> {
        let (tree, room) = (self.temporary(), Room::new(self));
        make_dir(&tree)?;
        let mut budget = Budget::new(self.inner.limits);
        let unpacked = layers.iter().try_for_each(|(blob, diff_id)| {
            let before = room.covered();
            let taken = |bytes: u64| room.cover(before.saturating_add(bytes));
            let result = unpack(blob, &tree, Form::Flat, diff_id, &mut budget, &taken);
            if result.is_err() {
                // It may be the blob that is bad: fetch it again next time.
                let _ignored = fs::remove_file(blob);
            }
            result
        });
        let result = unpacked.and_then(|()| self.publish(&tree, flat, &room));
        if result.is_err() {
            let _ignored = crate::files::remove_tree(&tree);
        }
        result
    }

    /// Returns the path of a packed layer that stays, fetching it where it is missing.
    async fn keep_blob(
        &self,
        source: &Source,
        resolved: &Resolved,
        descriptor: &Descriptor,
        prepared: &mut PreparedImage,
    ) -> Result<PathBuf, ImageError> {
        let _alone = self.alone(Thing::Blob(descriptor.digest)).await;
        let path = self.blob_path(&descriptor.digest);
        let whole = fs::metadata(&path).is_ok_and(|m| m.len() == descriptor.size);
        if whole && self.may_use(&descriptor.digest, source.scope()) {
            prepared.bytes_cached += descriptor.size;
            return Ok(path);
        }
        let (fetched, _room) = self.fetch(source, resolved, descriptor).await?;
        fs::rename(&fetched, &path).map_err(io_error("rename", &path))?;
        self.grant(&descriptor.digest, source.scope())?;
        self.count().map_err(io_error("look into", &path))?;
        prepared.bytes_fetched += descriptor.size;
        Ok(path)
    }

    /// Gives a finished tree its name, trusted for this boot, and has it synced in the background.
    fn publish(&self, tree: &Path, path: &Path, room: &Room) -> Result<(), ImageError> {
        self.note_size(path, room.covered())?;
        let mark = self.mark_path(path);
        fs::write(&mark, &self.inner.boot).map_err(io_error("write", &mark))?;
        if path.exists() {
            // Left from before a power cut, or another process was faster; ours is as good.
            crate::files::remove_tree(path).map_err(io_error("remove", path))?;
        }
        fs::rename(tree, path).map_err(io_error("rename", path))?;
        self.count().map_err(io_error("look into", path))?;
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

    fn partial_path(&self, blob: &Digest, scope: Scope) -> PathBuf {
        let scope = match scope {
            Scope::Public => "public".to_owned(),
            Scope::Of(name) => name.hex(),
        };
        let name = format!("{}.{scope}", blob.hex());
        self.inner.root.join("partial").join(name)
    }

    /// Waits until nobody else makes `thing`.
    async fn alone(&self, thing: Thing) -> Making<'_> {
        let lock = {
            let making = self.inner.making.lock();
            let mut making = making.expect("no holder of this lock panics");
            Arc::clone(making.entry(thing).or_default())
        };
        let guard = Some(lock.lock_owned().await);
        Making {
            store: self,
            thing,
            guard,
        }
    }
}

/// Tells whether what came is known to be bad.
fn is_damage(error: &ImageError) -> bool {
    match error {
        ImageError::SizeMismatch { wanted, found, .. } => found > wanted,
        ImageError::DigestMismatch { .. } => true,
        _ => false,
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .expect("work on the store does not panic")
}

fn make_dir(path: &Path) -> Result<(), ImageError> {
    fs::create_dir(path).map_err(io_error("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(io_error("open up", path))
}
