//! Writing images: small ones, made on the spot, in OCI layout.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};

use super::digest::Digest;
use super::manifest::{
    CONFIG_TYPE, ConfigFile, ConfigSection, Descriptor, Document, INDEX_TYPE, LAYER_TYPE,
    MANIFEST_TYPE, Platform, RootfsSection, TAG_ANNOTATION,
};

/// Writes an image in OCI layout. The same contents give the same digest: times are left out.
///
/// # Example
/// ```no_run
/// use runtime::image::build::{ImageBuilder, LayerBuilder};
///
/// # fn main() -> std::io::Result<()> {
/// let program = std::fs::read("target/demo")?;
/// let layer = LayerBuilder::new().file("app", 0o755, &program)?.finish()?;
/// let digest = ImageBuilder::new()
///     .layer(layer)
///     .entrypoint(["/app"])
///     .env("MODE", "demo")
///     .write(std::path::Path::new("/tmp/image"), "latest")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ImageBuilder {
    layers: Vec<Vec<u8>>,
    section: ConfigSectionParts,
}

#[derive(Clone, Debug, Default)]
struct ConfigSectionParts {
    entrypoint: Vec<String>,
    args: Vec<String>,
    env: Vec<String>,
    workdir: Option<String>,
    user: Option<String>,
}

impl ImageBuilder {
    /// Returns an image without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a layer, a tar archive, on top.
    #[must_use]
    pub fn layer(mut self, tar: Vec<u8>) -> Self {
        self.layers.push(tar);
        self
    }

    /// Sets what runs.
    #[must_use]
    pub fn entrypoint<T: Into<String>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.section.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the arguments that a container may replace.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.section.args = words.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.section.env.push(format!("{name}={value}"));
        self
    }

    /// Sets where it runs.
    #[must_use]
    pub fn workdir(mut self, path: &str) -> Self {
        self.section.workdir = Some(path.to_owned());
        self
    }

    /// Sets who runs it: `name`, `uid`, or either with `:group`.
    #[must_use]
    pub fn user(mut self, user: &str) -> Self {
        self.section.user = Some(user.to_owned());
        self
    }

    /// Writes the image into the layout folder `dir` under `tag`, and returns the manifest's digest. Images
    /// already there stay; one of the same tag is replaced.
    ///
    /// # Errors
    /// Where the folder cannot be written, or holds an index that is none.
    pub fn write(&self, dir: &Path, tag: &str) -> io::Result<Digest> {
        fs::create_dir_all(dir.join("blobs/sha256"))?;
        let mut layers = Vec::new();
        for tar in &self.layers {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(tar)?;
            layers.push(put_blob(dir, LAYER_TYPE, &packer.finish()?)?);
        }
        let config = put_blob(dir, CONFIG_TYPE, &serde_json::to_vec(&self.config())?)?;
        let manifest = Document {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            manifests: None,
            config: Some(config),
            layers: Some(layers),
        };
        let mut descriptor = put_blob(dir, MANIFEST_TYPE, &serde_json::to_vec(&manifest)?)?;
        let digest = descriptor.digest;
        descriptor.platform = Some(Platform::here());
        descriptor
            .annotations
            .insert(TAG_ANNOTATION.to_owned(), tag.to_owned());
        add_to_index(dir, tag, descriptor)?;
        put(
            &dir.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(digest)
    }

    fn config(&self) -> ConfigFile {
        let parts = &self.section;
        let platform = Platform::here();
        ConfigFile {
            architecture: platform.architecture,
            os: platform.os,
            config: Some(ConfigSection {
                entrypoint: Some(parts.entrypoint.clone()).filter(|e| !e.is_empty()),
                cmd: Some(parts.args.clone()).filter(|a| !a.is_empty()),
                env: Some(parts.env.clone()).filter(|e| !e.is_empty()),
                working_dir: parts.workdir.clone(),
                user: parts.user.clone(),
            }),
            rootfs: RootfsSection {
                kind: "layers".to_owned(),
                diff_ids: self.layers.iter().map(|tar| Digest::of(tar)).collect(),
            },
        }
    }
}

fn add_to_index(dir: &Path, tag: &str, descriptor: Descriptor) -> io::Result<()> {
    let path = dir.join("index.json");
    let mut manifests = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Document>(&bytes)?
            .manifests
            .unwrap_or_default(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    manifests.retain(|d| d.annotations.get(TAG_ANNOTATION).is_none_or(|t| t != tag));
    manifests.push(descriptor);
    let index = Document {
        schema_version: 2,
        media_type: Some(INDEX_TYPE.to_owned()),
        manifests: Some(manifests),
        config: None,
        layers: None,
    };
    put(&path, &serde_json::to_vec(&index)?)
}

fn put_blob(dir: &Path, media_type: &str, bytes: &[u8]) -> io::Result<Descriptor> {
    let digest = Digest::of(bytes);
    put(&dir.join("blobs/sha256").join(digest.hex()), bytes)?;
    Ok(Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: bytes.len() as u64,
        platform: None,
        annotations: std::collections::BTreeMap::new(),
    })
}

/// Replaces a file in one step: somebody may be reading it.
fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&temporary, bytes)?;
    fs::rename(temporary, path)
}

/// Writes one layer as a tar archive. Everything belongs to root unless said otherwise.
pub struct LayerBuilder {
    archive: tar::Builder<Vec<u8>>,
    owner: (u64, u64),
}

impl std::fmt::Debug for LayerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerBuilder")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Default for LayerBuilder {
    fn default() -> Self {
        Self {
            archive: tar::Builder::new(Vec::new()),
            owner: (0, 0),
        }
    }
}

impl LayerBuilder {
    /// Returns an empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who owns what is added from here on.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Where `path` cannot be written in an archive.
    pub fn file(mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<Self> {
        let mut header = self.header(EntryType::Regular, mode, bytes.len() as u64);
        self.archive.append_data(&mut header, path, bytes)?;
        Ok(self)
    }

    /// Adds a folder.
    ///
    /// # Errors
    /// Where `path` cannot be written in an archive.
    pub fn dir(mut self, path: &str, mode: u32) -> io::Result<Self> {
        let mut header = self.header(EntryType::Directory, mode, 0);
        self.archive.append_data(&mut header, path, io::empty())?;
        Ok(self)
    }

    /// Adds a symbolic link.
    ///
    /// # Errors
    /// Where `path` or `target` cannot be written in an archive.
    pub fn symlink(mut self, path: &str, target: &str) -> io::Result<Self> {
        let mut header = self.header(EntryType::Symlink, 0o777, 0);
        self.archive.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Adds a hard link.
    ///
    /// # Errors
    /// Where `path` or `target` cannot be written in an archive.
    pub fn hard_link(mut self, path: &str, target: &str) -> io::Result<Self> {
        let mut header = self.header(EntryType::Link, 0o644, 0);
        self.archive.append_link(&mut header, path, target)?;
        Ok(self)
    }

    /// Deletes `path` of the layers below.
    ///
    /// # Errors
    /// Where `path` cannot be written in an archive.
    pub fn whiteout(self, path: &str) -> io::Result<Self> {
        let marked = match path.rsplit_once('/') {
            Some((folder, name)) => format!("{folder}/.wh.{name}"),
            None => format!(".wh.{path}"),
        };
        self.file(&marked, 0o644, b"")
    }

    /// Deletes all that the layers below have in the folder `path`.
    ///
    /// # Errors
    /// Where `path` cannot be written in an archive.
    pub fn opaque(self, path: &str) -> io::Result<Self> {
        self.file(&format!("{path}/.wh..wh..opq"), 0o644, b"")
    }

    /// Adds all of the folder `dir` as the layer's root, links as links.
    ///
    /// # Errors
    /// Where the folder cannot be read.
    pub fn tree(mut self, dir: &Path) -> io::Result<Self> {
        self.archive.mode(tar::HeaderMode::Deterministic);
        self.archive.follow_symlinks(false);
        self.archive.append_dir_all("", dir)?;
        Ok(self)
    }

    /// Returns the archive.
    ///
    /// # Errors
    /// None in practice: it is written to memory.
    pub fn finish(self) -> io::Result<Vec<u8>> {
        self.archive.into_inner()
    }

    fn header(&self, kind: EntryType, mode: u32, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_mtime(0);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header
    }
}
