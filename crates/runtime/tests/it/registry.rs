//! Pulling from a registry over plain HTTP on loopback.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::get;
use runtime::image::ImageError;
use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::{Blame, Error, ImageRef, LocalConfig, LocalRuntime, Runtime};

use crate::world::CONTAINERS;

/// Serves one layout as the repository `demo/app`, and counts what is asked for.
#[derive(Clone)]
struct Registry {
    layout: PathBuf,
    manifest: String,
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    trouble: Arc<Mutex<Trouble>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    CutShort,
    WrongBytes,
    Down,
}

async fn manifest(State(registry): State<Registry>, Path(name): Path<String>) -> Response<Body> {
    let wanted = match name.as_str() {
        "latest" => registry.manifest.clone(),
        name => name.to_owned(),
    };
    serve(&registry, &wanted)
}

async fn blob(State(registry): State<Registry>, Path(digest): Path<String>) -> Response<Body> {
    // Time for the others to ask for the same.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    serve(&registry, &digest)
}

fn serve(registry: &Registry, digest: &str) -> Response<Body> {
    *registry
        .asked
        .lock()
        .unwrap()
        .entry(digest.to_owned())
        .or_default() += 1;
    let hex = digest.trim_start_matches("sha256:");
    let status = |code| {
        Response::builder()
            .status(code)
            .body(Body::empty())
            .unwrap()
    };
    let Ok(mut bytes) = std::fs::read(registry.layout.join("blobs/sha256").join(hex)) else {
        return status(StatusCode::NOT_FOUND);
    };
    let is_layer = bytes.starts_with(&[0x1f, 0x8b]);
    match *registry.trouble.lock().unwrap() {
        Trouble::Down => return status(StatusCode::SERVICE_UNAVAILABLE),
        Trouble::CutShort if is_layer => bytes.truncate(bytes.len() / 2),
        Trouble::WrongBytes if is_layer => bytes[12] ^= 1,
        _ => {}
    }
    Response::new(Body::from(bytes))
}

async fn open() -> (tempfile::TempDir, Registry, String) {
    let dir = tempfile::tempdir().unwrap();
    let layout = dir.path().join("layout");
    let layer = LayerBuilder::new()
        .file("x", 0o755, &[5; 3000])
        .unwrap()
        .finish()
        .unwrap();
    let digest = ImageBuilder::new()
        .layer(layer)
        .entrypoint(["/x"])
        .write(&layout, "latest")
        .unwrap();
    let registry = Registry {
        layout,
        manifest: digest.to_string(),
        asked: Arc::default(),
        trouble: Arc::new(Mutex::new(Trouble::None)),
    };
    let router = Router::new()
        .route("/v2/demo/app/manifests/{name}", get(manifest))
        .route("/v2/demo/app/blobs/{digest}", get(blob))
        .with_state(registry.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await });
    (dir, registry, host)
}

async fn runtime(dir: &tempfile::TempDir) -> LocalRuntime {
    let config = LocalConfig::new(dir.path().join("runtime"), CONTAINERS);
    LocalRuntime::process(config).await.unwrap()
}

fn reference(text: &str) -> ImageRef {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_same_image_pulled_at_once_is_fetched_once() {
    let (dir, registry, host) = open().await;
    let runtime = runtime(&dir).await;
    let image = reference(&format!("{host}/demo/app:latest"));
    let pulls = futures::future::join_all((0..5).map(|_| runtime.prepare(&image))).await;
    let prepared: Vec<_> = pulls.into_iter().map(Result::unwrap).collect();
    assert!(
        prepared
            .iter()
            .all(|p| p.digest.to_string() == registry.manifest)
    );

    let layers: Vec<u32> = {
        let asked = registry.asked.lock().unwrap();
        let is_layer = |digest: &str| {
            let path = registry
                .layout
                .join("blobs/sha256")
                .join(digest.replace("sha256:", ""));
            std::fs::read(path).unwrap().starts_with(&[0x1f, 0x8b])
        };
        asked
            .iter()
            .filter(|(digest, _)| is_layer(digest))
            .map(|(_, n)| *n)
            .collect()
    };
    assert_eq!(layers, [1]);

    // By its digest it is not even asked for.
    registry.asked.lock().unwrap().clear();
    let exact = reference(&format!("{host}/demo/app@{}", registry.manifest));
    let again = runtime.prepare(&exact).await.unwrap();
    assert_eq!(again.bytes_fetched, 0);
    assert!(registry.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_registry_in_trouble_is_worth_another_try() {
    let (dir, registry, host) = open().await;
    let runtime = runtime(&dir).await;
    let image = reference(&format!("{host}/demo/app"));
    for trouble in [Trouble::Down, Trouble::CutShort, Trouble::WrongBytes] {
        *registry.trouble.lock().unwrap() = trouble;
        let error = runtime.prepare(&image).await.unwrap_err();
        assert_eq!(error.blame(), Blame::Transient, "{error:?}");
    }
    *registry.trouble.lock().unwrap() = Trouble::None;
    runtime.prepare(&image).await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_and_who_is_not_here_are_told() {
    let (dir, _registry, host) = open().await;
    let runtime = runtime(&dir).await;
    let source = async |text: &str| match runtime.prepare(&reference(text)).await.unwrap_err() {
        Error::Image { source, .. } => *source,
        other => panic!("{other:?}"),
    };
    let missing = source(&format!("{host}/demo/other:latest")).await;
    assert!(matches!(missing, ImageError::Missing { .. }), "{missing:?}");
    let closed = source("127.0.0.1:1/demo/app").await;
    assert!(matches!(closed, ImageError::Fetch { .. }), "{closed:?}");
    // Where an authority is named for it, nobody is asked in clear text.
    let certs = dir.path().join("runtime/certs.d").join(&host);
    std::fs::create_dir_all(certs).unwrap();
    let plain = source(&format!("{host}/demo/app:latest")).await;
    assert!(matches!(plain, ImageError::Fetch { .. }), "{plain:?}");
}
