//! The share of the disk that images may take.

use std::path::Path;

use runtime::image::ImageError;
use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::{Blame, ContainerSpec, Digest, ImageRef, Runtime as _};

use crate::images::Shop;
use crate::world::{LIMITS, id, is_root, skip};

const MIB: usize = 1 << 20;

/// Makes an image of one layer of so many bytes that do not pack.
fn image(dir: &Path, name: &str, bytes: usize) -> ImageRef {
    let mut state = Digest::of(name.as_bytes());
    let mut noise = Vec::with_capacity(bytes + 32);
    while noise.len() < bytes {
        noise.extend_from_slice(state.as_bytes());
        state = Digest::of(state.as_bytes());
    }
    let layer = LayerBuilder::new().file("noise", 0o644, &noise).unwrap();
    ImageBuilder::new()
        .layer(layer.finish().unwrap())
        .entrypoint(["/noise"])
        .write(dir, name)
        .unwrap();
    format!("oci:{}:{name}", dir.display()).parse().unwrap()
}

/// Makes an image look as if last used at this time.
fn used_at(shop: &Shop, image: &Digest, at_ms: u64) {
    let note = shop
        .dir
        .path()
        .join("runtime/store/images")
        .join(image.hex());
    let text = format!(r#"{{"used_at_ms":{at_ms},"private":false}}"#);
    std::fs::write(note, text).unwrap();
}

fn is_here(shop: &Shop, image: &Digest) -> bool {
    let store = shop.dir.path().join("runtime/store");
    store.join("blobs").join(image.hex()).exists()
}

fn stored(shop: &Shop) -> u64 {
    let store = shop.dir.path().join("runtime/store");
    let size = super::world::tool("du", &["-s", "-B1", &store.display().to_string()]);
    size.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_image_unused_for_longest_makes_room_and_one_in_use_never() {
    let layouts = tempfile::tempdir().unwrap();
    let images: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| image(layouts.path(), name, 4 * MIB))
        .collect();
    // A flat store keeps packed layers too, so an image takes twice its size there; while it is unpacked, it takes
    // that in the other form as well.
    for (shop, mib) in Shop::open_sized(&[14, 22]).await {
        let budget = (mib * MIB) as u64;
        let mut digests = Vec::new();
        for (n, image) in images.iter().take(2).enumerate() {
            let digest = shop.prepare(image).await.unwrap().digest;
            used_at(&shop, &digest, 1000 + n as u64);
            digests.push(digest);
        }
        // The older one is in use.
        let used = id("used");
        let spec = ContainerSpec::new(digests[0], LIMITS);
        shop.runtime.create(&used, &spec).await.unwrap();
        used_at(&shop, &digests[0], 1000);

        let third = shop.prepare(&images[2]).await.unwrap().digest;
        assert!(is_here(&shop, &digests[0]), "a container was made from it");
        assert!(
            !is_here(&shop, &digests[1]),
            "it is the oldest that nobody uses"
        );
        assert!(is_here(&shop, &third));
        assert!(stored(&shop) <= budget + MIB as u64, "{}", stored(&shop));

        // Prepared just now, for a container that is about to be made: it stays, and the next one has to wait.
        let full = shop.prepare(&images[3]).await.unwrap_err();
        assert!(matches!(full, ImageError::NoRoom { .. }), "{full:?}");
        assert_eq!(full.blame(), Blame::Transient);
        assert!(is_here(&shop, &third) && is_here(&shop, &digests[0]));
        // Once the container is gone, so may its image be.
        shop.runtime.remove(&used).await.unwrap();
        used_at(&shop, &third, 2000);
        let fourth = shop.prepare(&images[3]).await.unwrap().digest;
        assert!(!is_here(&shop, &digests[0]) && is_here(&shop, &fourth));
        // What was evicted comes back when it is asked for.
        used_at(&shop, &fourth, 3000);
        let again = shop.prepare(&images[0]).await.unwrap();
        assert!(again.bytes_fetched > 4 * MIB as u64);
    }
}

#[tokio::test]
async fn what_can_never_fit_is_this_machines_fault() {
    let layouts = tempfile::tempdir().unwrap();
    let image = image(layouts.path(), "big", 6 * MIB);
    for (shop, mib) in Shop::open_sized(&[4, 4]).await {
        let error = shop.prepare(&image).await.unwrap_err();
        assert!(
            matches!(error, ImageError::NoRoom { .. }),
            "{error:?} of {mib}"
        );
        assert_eq!(error.blame(), Blame::Provider);
        shop.assert_nothing_left();
    }
}

impl Shop {
    /// Opens both forms, the embedded one with the first of these budgets in MiB.
    async fn open_sized(mib: &[usize; 2]) -> Vec<(Self, usize)> {
        if !is_root() {
            skip("budget (in layers)", "the embedded runtime needs root");
        }
        let mut sized = Vec::new();
        for which in [0, 1] {
            let bytes = (mib[which] * MIB) as u64;
            let shops = Self::open_with(|config| config.image_bytes = Some(bytes)).await;
            let mut shops = shops.into_iter();
            let shop = if is_root() && which == 1 {
                shops.nth(1)
            } else if is_root() || which == 1 {
                shops.next()
            } else {
                None
            };
            sized.extend(shop.map(|shop| (shop, mib[which])));
        }
        sized
    }
}
