//! Images from strangers: what must be refused, and that nothing of it is left behind.

use std::path::Path;

use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::image::{ImageError, ImageLimits};
use runtime::{Blame, Error, ImageRef, LocalConfig, LocalRuntime, PreparedImage, Runtime};
use tempfile::TempDir;

use crate::world::{CONTAINERS, is_root, layout_ref};

pub(crate) struct Shop {
    pub(crate) dir: TempDir,
    pub(crate) runtime: LocalRuntime,
}

impl Shop {
    /// As root with layers apart, else with all of an image in one tree: both forms see every test.
    pub(crate) async fn open(limits: ImageLimits) -> Vec<Self> {
        Self::open_with(|config| config.image_limits = limits).await
    }

    pub(crate) async fn open_with(change: impl Fn(&mut LocalConfig)) -> Vec<Self> {
        let mut shops = Vec::new();
        for embedded in [true, false] {
            if embedded && !is_root() {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            let mut config = LocalConfig::new(dir.path().join("runtime"), CONTAINERS);
            change(&mut config);
            let runtime = if embedded {
                LocalRuntime::embedded(config).await
            } else {
                LocalRuntime::process(config).await
            };
            shops.push(Self {
                dir,
                runtime: runtime.unwrap(),
            });
        }
        shops
    }

    pub(crate) async fn prepare(&self, image: &ImageRef) -> Result<PreparedImage, ImageError> {
        self.runtime.prepare(image).await.map_err(|e| match e {
            Error::Image { source, .. } => *source,
            other => panic!("{other}"),
        })
    }

    /// Nothing half done, and nothing that was refused.
    pub(crate) fn assert_nothing_left(&self) {
        let store = self.dir.path().join("runtime/store");
        for name in ["tmp", "layers", "flat"] {
            assert_eq!(
                std::fs::read_dir(store.join(name)).unwrap().count(),
                0,
                "{name}"
            );
        }
    }
}

/// Prepares an image of one `layer`, which must be refused for a reason that `wanted` knows.
async fn refused(layer: Vec<u8>, limits: ImageLimits, wanted: impl Fn(&ImageError) -> bool) {
    let layout = tempfile::tempdir().unwrap();
    ImageBuilder::new()
        .layer(layer)
        .entrypoint(["/x"])
        .write(layout.path(), "latest")
        .unwrap();
    for shop in Shop::open(limits).await {
        let error = shop.prepare(&layout_ref(layout.path())).await.unwrap_err();
        assert!(wanted(&error), "{error:?}");
        shop.assert_nothing_left();
    }
}

/// Writes one entry whose path the tar crate would not let us write.
fn raw_entry(path: &str, kind: tar::EntryType, link: Option<&str>, body: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(body.len() as u64);
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    if let Some(link) = link {
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut all = entries.concat();
    all.resize(all.len() + 1024, 0);
    all
}

fn is_escape(error: &ImageError) -> bool {
    matches!(error, ImageError::Escape { .. }) && error.blame() == Blame::Tenant
}

#[tokio::test]
async fn a_layer_cannot_leave_its_folder() {
    use tar::EntryType::{Link, Regular, Symlink};
    let file = |path| raw_entry(path, Regular, None, b"evil");
    let limits = ImageLimits::default();
    for path in ["../evil", "a/../../evil", "/../evil"] {
        refused(archive(&[file(path)]), limits, is_escape).await;
    }
    // Through a link that the layer brought itself.
    let link = |to| raw_entry("door", Symlink, Some(to), b"");
    for to in ["/tmp", "..", "../../..", "."] {
        refused(archive(&[link(to), file("door/evil")]), limits, is_escape).await;
    }
    // Through a hard link, to read or to overwrite.
    let hard = |to| raw_entry("stolen", Link, Some(to), b"");
    refused(archive(&[hard("../../../etc/shadow")]), limits, is_escape).await;
    refused(
        archive(&[link("/etc"), hard("door/shadow")]),
        limits,
        is_escape,
    )
    .await;
    let not_there = |e: &ImageError| matches!(e, ImageError::Malformed { .. });
    refused(archive(&[hard("/etc/shadow")]), limits, not_there).await;
    // By deleting the folder it lies in.
    refused(archive(&[file("a/.wh...")]), limits, is_escape).await;
    assert!(!Path::new("/tmp/evil").exists());
}

#[tokio::test]
async fn absolute_paths_and_devices_stay_inside() {
    let layout = tempfile::tempdir().unwrap();
    let layer = archive(&[
        raw_entry("/rooted", tar::EntryType::Regular, None, b"x"),
        raw_entry("device", tar::EntryType::Char, None, b""),
    ]);
    ImageBuilder::new()
        .layer(layer)
        .entrypoint(["/x"])
        .write(layout.path(), "latest")
        .unwrap();
    for shop in Shop::open(ImageLimits::default()).await {
        shop.prepare(&layout_ref(layout.path())).await.unwrap();
        let store = shop.dir.path().join("runtime/store");
        let trees = ["layers", "flat"].map(|n| std::fs::read_dir(store.join(n)).unwrap());
        let tree = trees.into_iter().flatten().next().unwrap().unwrap().path();
        assert!(tree.join("rooted").exists() && !tree.join("device").exists());
    }
    assert!(!Path::new("/rooted").exists());
}

#[tokio::test]
async fn bombs_are_refused() {
    let zeroes = LayerBuilder::new()
        .file("z", 0o644, &vec![0; 80 << 20])
        .unwrap();
    let zeroes = zeroes.finish().unwrap();
    let limits = ImageLimits::default();
    // 80 MiB that pack to less than a hundredth.
    refused(zeroes.clone(), limits, |e| {
        matches!(
            e,
            ImageError::TooMuch {
                what: "unpacked bytes for its packed size",
                ..
            }
        )
    })
    .await;
    let few_bytes = ImageLimits {
        unpacked_bytes: 1 << 20,
        ..limits
    };
    refused(zeroes, few_bytes, |e| {
        matches!(
            e,
            ImageError::TooMuch {
                what: "unpacked bytes",
                limit: 1_048_576
            }
        )
    })
    .await;
    let mut many = LayerBuilder::new();
    for n in 0..50 {
        many = many.dir(&format!("d{n}"), 0o755).unwrap();
    }
    let few_entries = ImageLimits {
        entries: 49,
        ..limits
    };
    refused(many.finish().unwrap(), few_entries, |e| {
        matches!(
            e,
            ImageError::TooMuch {
                what: "entries in a layer",
                ..
            }
        )
    })
    .await;
}

#[tokio::test]
async fn names_that_are_bombs_are_refused() {
    let limits = ImageLimits::default();
    let deep = format!("{}x", "d/".repeat(200));
    let deep = LayerBuilder::new()
        .file(&deep, 0o644, b"")
        .unwrap()
        .finish()
        .unwrap();
    refused(deep, limits, |e| {
        matches!(
            e,
            ImageError::TooMuch {
                what: "folders in a path",
                ..
            }
        )
    })
    .await;
    // A name of two megabytes would be held in memory.
    let name = vec![b'n'; 2 << 20];
    let long = raw_entry("././@LongLink", tar::EntryType::GNULongName, None, &name);
    refused(archive(&[long]), limits, |e| {
        matches!(
            e,
            ImageError::TooMuch {
                what: "bytes of headers for one file",
                ..
            }
        )
    })
    .await;
}

#[tokio::test]
async fn archives_that_are_none_are_malformed() {
    let limits = ImageLimits::default();
    let malformed = |e: &ImageError| matches!(e, ImageError::Malformed { .. });
    refused(vec![7; 4096], limits, malformed).await;
    let cut = raw_entry("file", tar::EntryType::Regular, None, &[1; 4096]);
    refused(cut[..2048].to_vec(), limits, malformed).await;
}

/// An image of two layers in a layout, to damage.
fn two_layers(dir: &Path) -> ImageRef {
    let layer = |name, text: &str| {
        LayerBuilder::new()
            .file(name, 0o644, text.as_bytes())
            .unwrap()
            .finish()
            .unwrap()
    };
    ImageBuilder::new()
        .layer(layer("one", &"one ".repeat(500)))
        .layer(layer("two", &"two ".repeat(500)))
        .entrypoint(["/x"])
        .write(dir, "latest")
        .unwrap();
    layout_ref(dir)
}

/// Returns the packed layers, the smallest blobs that are gzip.
fn layer_blobs(dir: &Path) -> Vec<std::path::PathBuf> {
    let blobs = std::fs::read_dir(dir.join("blobs/sha256")).unwrap();
    let paths = blobs.map(|e| e.unwrap().path());
    let mut layers: Vec<_> = paths
        .filter(|p| std::fs::read(p).unwrap().starts_with(&[0x1f, 0x8b]))
        .collect();
    layers.sort();
    layers
}

#[tokio::test]
async fn a_layout_that_points_elsewhere_is_refused_at_once() {
    for shop in Shop::open(ImageLimits::default()).await {
        let layout = tempfile::tempdir().unwrap();
        let image = two_layers(layout.path());
        let index = layout.path().join("index.json");
        let aside = layout.path().join("aside.json");
        std::fs::rename(&index, &aside).unwrap();

        std::os::unix::fs::symlink(&aside, &index).unwrap();
        let linked = shop.prepare(&image).await.unwrap_err();
        assert!(matches!(linked, ImageError::Missing { .. }), "{linked:?}");
        std::fs::remove_file(&index).unwrap();
        // Opened the ordinary way, a pipe without a writer would never answer.
        nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = shop.prepare(&image).await.unwrap_err();
        assert!(matches!(pipe, ImageError::Missing { .. }), "{pipe:?}");

        std::fs::remove_file(&index).unwrap();
        std::fs::rename(&aside, &index).unwrap();
        shop.prepare(&image).await.unwrap();
    }
}

#[tokio::test]
async fn damaged_blobs_are_told_apart_and_mending_them_helps() {
    for shop in Shop::open(ImageLimits::default()).await {
        let layout = tempfile::tempdir().unwrap();
        let image = two_layers(layout.path());
        let blob = layer_blobs(layout.path())[0].clone();
        let good = std::fs::read(&blob).unwrap();

        std::fs::write(&blob, &good[..good.len() - 9]).unwrap();
        let cut = shop.prepare(&image).await.unwrap_err();
        assert!(matches!(cut, ImageError::SizeMismatch { .. }), "{cut:?}");
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        std::fs::write(&blob, &flipped).unwrap();
        let flipped = shop.prepare(&image).await.unwrap_err();
        assert!(
            matches!(flipped, ImageError::DigestMismatch { .. }),
            "{flipped:?}"
        );
        std::fs::write(&blob, [good.clone(), good.clone()].concat()).unwrap();
        let longer = shop.prepare(&image).await.unwrap_err();
        assert!(
            matches!(longer, ImageError::SizeMismatch { .. }),
            "{longer:?}"
        );
        std::fs::remove_file(&blob).unwrap();
        let missing = shop.prepare(&image).await.unwrap_err();
        assert!(matches!(missing, ImageError::Missing { .. }), "{missing:?}");

        std::fs::write(&blob, &good).unwrap();
        let prepared = shop.prepare(&image).await.unwrap();
        assert_eq!(prepared.layers, 2);
        let again = shop.prepare(&image).await.unwrap();
        assert_eq!((again.bytes_fetched, again.digest), (0, prepared.digest));
    }
}

#[tokio::test]
async fn a_layer_with_another_diff_id_is_refused() {
    // A good gzip under its right digest, but the configuration promises other contents.
    let layout = tempfile::tempdir().unwrap();
    let image = two_layers(layout.path());
    let blobs = layout.path().join("blobs/sha256");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let find = |word: &str| {
        let mut all = std::fs::read_dir(&blobs)
            .unwrap()
            .map(|e| e.unwrap().path());
        all.find(|p| read(p).contains(word)).unwrap()
    };
    let replace = |path: &Path, from: &str, to: &str| {
        let text = read(path).replace(from, to);
        let digest = runtime::Digest::of(text.as_bytes());
        std::fs::write(blobs.join(digest.hex()), &text).unwrap();
        (
            format!("sha256:{}", path.file_name().unwrap().to_str().unwrap()),
            digest.to_string(),
        )
    };
    let config = find("diff_ids");
    let diff_id = read(&config)
        .split("sha256:")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    let other = runtime::Digest::of(b"other").hex();
    let (old, new) = replace(&config, &diff_id, &other);
    let (old, new) = replace(&find(&old), &old, &new);
    let index = layout.path().join("index.json");
    std::fs::write(&index, read(&index).replace(&old, &new)).unwrap();
    for shop in Shop::open(ImageLimits::default()).await {
        let error = shop.prepare(&image).await.unwrap_err();
        assert!(
            matches!(
                error,
                ImageError::DigestMismatch {
                    what: "a layer",
                    ..
                }
            ),
            "{error:?}"
        );
        shop.assert_nothing_left();
    }
}

#[tokio::test]
async fn layers_are_shared_between_images() {
    let layout = tempfile::tempdir().unwrap();
    let base = LayerBuilder::new()
        .file("base", 0o644, &[9; 5000])
        .unwrap()
        .finish()
        .unwrap();
    let image = |tag: &str| {
        let own = LayerBuilder::new()
            .file(tag, 0o644, b"x")
            .unwrap()
            .finish()
            .unwrap();
        let builder = ImageBuilder::new()
            .layer(base.clone())
            .layer(own)
            .entrypoint(["/x"]);
        builder.write(layout.path(), tag).unwrap();
        format!("oci:{}:{tag}", layout.path().display())
            .parse::<ImageRef>()
            .unwrap()
    };
    let (first, second) = (image("first"), image("second"));
    for shop in Shop::open(ImageLimits::default()).await {
        let fetched = shop.prepare(&first).await.unwrap();
        assert_eq!(fetched.bytes_cached, 0);
        let shared = shop.prepare(&second).await.unwrap();
        assert!(shared.bytes_cached > 0 && shared.bytes_fetched < fetched.bytes_fetched);
        let missing = format!("oci:{}:third", layout.path().display())
            .parse()
            .unwrap();
        let error = shop.prepare(&missing).await.unwrap_err();
        assert!(matches!(error, ImageError::Missing { .. }), "{error:?}");
    }
}
