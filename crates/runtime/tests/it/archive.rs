//! Images in archives, as `docker save` writes them, and hostile ones.

use std::path::Path;

use runtime::image::ImageError;
use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::{Blame, ContainerSpec, Digest, ImageRef};

use crate::images::Shop;
use crate::world::{LIMITS, World, guest, has, tool};

fn archive_ref(path: &Path, name: &str) -> ImageRef {
    format!("docker-archive:{}{name}", path.display())
        .parse()
        .unwrap()
}

/// Writes an archive of these files, links given as `name -> target`.
fn write_archive(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(std::fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        if let Some((name, target)) = name.split_once(" -> ") {
            header.set_size(0);
            header.set_entry_type(tar::EntryType::Symlink);
            builder.append_link(&mut header, name, target).unwrap();
        } else {
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
    }
    builder.finish().unwrap();
}

fn config_of(layers: &[&[u8]]) -> Vec<u8> {
    let ids: Vec<String> = layers
        .iter()
        .map(|tar| Digest::of(tar).to_string())
        .collect();
    serde_json::to_vec(&serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/guest"], "Cmd": ["say", "archived"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    }))
    .unwrap()
}

#[tokio::test]
async fn an_archive_as_docker_writes_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let one = LayerBuilder::new().file("guest", 0o755, guest()).unwrap();
    let one = one.finish().unwrap();
    let two = LayerBuilder::new().file("two", 0o644, b"two").unwrap();
    let two = two.finish().unwrap();
    // Layers that two images share are links, as docker had it for years.
    let first = config_of(&[&one]);
    let second = config_of(&[&one, &two]);
    let manifest = br#"[
        {"Config": "first.json", "RepoTags": ["demo/first:1"], "Layers": ["aa/layer.tar"]},
        {"Config": "second.json", "RepoTags": ["second:latest"], "Layers": ["bb/layer.tar", "cc/layer.tar"]}
    ]"#;
    write_archive(
        &path,
        &[
            ("aa/layer.tar", &one),
            ("bb/layer.tar -> ../aa/layer.tar", b""),
            ("cc/layer.tar", &two),
            ("first.json", &first),
            ("second.json", &second),
            ("manifest.json", manifest),
        ],
    );
    let worlds = [
        World::embedded("archive::an_archive_as_docker_writes_it_runs").await,
        World::process("archive::an_archive_as_docker_writes_it_runs").await,
    ];
    let mut digests = Vec::new();
    for world in worlds.iter().flatten() {
        let image = archive_ref(&path, ":docker.io/library/second");
        let prepared = world.runtime.prepare(&image).await.unwrap();
        assert_eq!(prepared.layers, 2);
        digests.push(prepared.digest);
        let resolved = runtime::image::resolve(&image).await.unwrap();
        assert_eq!(resolved.digest, prepared.digest);
        let outcome = world
            .run_spec(&ContainerSpec::new(prepared.digest, LIMITS))
            .await;
        assert_eq!(outcome.stdout, "archived\n");
        let first = archive_ref(&path, ":demo/first:1");
        let first = world.runtime.prepare(&first).await.unwrap();
        assert!(first.bytes_cached > 0, "{first:?}");

        let any = world.runtime.prepare(&archive_ref(&path, "")).await;
        let any = format!("{:?}", any.unwrap_err());
        assert!(any.contains("demo/first:1, second:latest"), "{any}");
        let other = world.runtime.prepare(&archive_ref(&path, ":third")).await;
        let other = format!("{:?}", other.unwrap_err());
        assert!(other.contains("demo/first:1, second:latest"), "{other}");
    }
    digests.dedup();
    assert_eq!(digests.len(), 1, "the same archive has one digest");
}

#[tokio::test]
async fn archives_of_other_programs_are_read() {
    let name = "archive::archives_of_other_programs_are_read";
    if !has("skopeo", name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (layout, path) = (dir.path().join("layout"), dir.path().join("saved.tar"));
    let layer = LayerBuilder::new().file("x", 0o755, &[3; 9000]).unwrap();
    let layer = layer.finish().unwrap();
    let builder = ImageBuilder::new().layer(layer).entrypoint(["/x"]);
    builder.write(&layout, "latest").unwrap();
    let from = format!("oci:{}:latest", layout.display());
    let to = format!("docker-archive:{}:demo/app:7", path.display());
    tool("skopeo", &["--insecure-policy", "copy", "-q", &from, &to]);
    for shop in Shop::open_with(|_| {}).await {
        for name in ["", ":demo/app:7"] {
            let prepared = shop.prepare(&archive_ref(&path, name)).await.unwrap();
            assert_eq!(prepared.layers, 1);
        }
    }
}

#[tokio::test]
async fn hostile_archives_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.tar");
    let layer = LayerBuilder::new().file("x", 0o755, b"x").unwrap();
    let layer = layer.finish().unwrap();
    let config = config_of(&[&layer]);
    let manifest = |config: &str, layer: &str| {
        format!(r#"[{{"Config": "{config}", "Layers": ["{layer}"]}}]"#).into_bytes()
    };
    let shops = Shop::open_with(|_| {}).await;
    let refused = async |files: &[(&str, &[u8])]| {
        write_archive(&path, files);
        for shop in &shops {
            let error = shop.prepare(&archive_ref(&path, "")).await.unwrap_err();
            assert_eq!(error.blame(), Blame::Tenant, "{error:?}");
            shop.assert_nothing_left();
        }
    };
    // Out of the archive, in every way that a name can lead.
    let outside = manifest("c.json", "l.tar");
    refused(&[
        ("manifest.json", &outside),
        ("c.json -> /etc/passwd", b""),
        ("l.tar", &layer),
    ])
    .await;
    refused(&[
        ("manifest.json", &outside),
        ("c.json", &config),
        ("l.tar -> ../../x", b""),
    ])
    .await;
    let up = manifest("c.json", "../../../etc/passwd");
    refused(&[("manifest.json", &up), ("c.json", &config)]).await;
    // In circles.
    let links: [(&str, &[u8]); 2] = [("c.json -> l.tar", b""), ("l.tar -> c.json", b"")];
    refused(&[("manifest.json", &outside), links[0], links[1]]).await;
    // Not what it says.
    refused(&[("manifest.json", b"{}")]).await;
    refused(&[("c.json", &config)]).await;
    let other = config_of(&[b"another layer"]);
    for (config, layer) in [(&config, &b""[..]), (&other, &layer)] {
        let files = [
            ("manifest.json", &outside[..]),
            ("c.json", config),
            ("l.tar", layer),
        ];
        write_archive(&path, &files);
        for shop in &shops {
            let error = shop.prepare(&archive_ref(&path, "")).await.unwrap_err();
            let mismatch = matches!(error, ImageError::DigestMismatch { .. });
            assert!(mismatch, "{error:?}");
            shop.assert_nothing_left();
        }
    }
    // Packed, cut, or no file.
    std::fs::write(&path, [0x1f, 0x8b, 8, 0, 0]).unwrap();
    for shop in &shops {
        let error = shop.prepare(&archive_ref(&path, "")).await.unwrap_err();
        assert!(matches!(error, ImageError::Unsupported { .. }), "{error:?}");
        let folder = shop
            .prepare(&archive_ref(dir.path(), ""))
            .await
            .unwrap_err();
        assert!(matches!(folder, ImageError::Missing { .. }), "{folder:?}");
    }
}
