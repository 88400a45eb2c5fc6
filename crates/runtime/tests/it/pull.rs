//! Pulling from Debian's docker-registry, with all that stands in front of real registries: TLS by an own authority,
//! passwords, tokens; and a wire that is cut.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runtime::image::build::{ImageBuilder, LayerBuilder};
use runtime::image::{ImageError, resolve_as};
use runtime::{
    Blame, Credential, Digest, Error, ImageRef, LocalConfig, LocalRuntime, PreparedImage,
    Registries, Runtime,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::world::{CONTAINERS, DEADLINE, has, tool};

const USER: &str = "tester";
const PASSWORD: &str = "open sesame";
/// Of the password, by bcrypt with cost 5; the registry takes nothing else.
const HTPASSWD: &str = "tester:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n";

/// How a registry wants to know who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Password,
    Token,
}

/// A docker-registry of its own, with TLS.
struct Real {
    dir: TempDir,
    child: Child,
    host: String,
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Real {
    async fn open(name: &str, door: Door) -> Option<Self> {
        if !["docker-registry", "openssl", "skopeo"]
            .iter()
            .all(|p| has(p, name))
        {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let host = format!("127.0.0.1:{port}");
        certificates(dir.path(), &host);
        let auth = match door {
            Door::Open => String::new(),
            Door::Password => {
                std::fs::write(dir.path().join("htpasswd"), HTPASSWD).unwrap();
                format!(
                    "auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}",
                    dir.path().display()
                )
            }
            Door::Token => {
                let realm = token_server(dir.path().join("key.pem")).await;
                format!(
                    "auth: {{token: {{realm: 'http://{realm}/token', service: test, issuer: test, \
                     rootcertbundle: {}/ca.pem}}}}",
                    dir.path().display()
                )
            }
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {0}/data}}}}\n\
             http: {{addr: '{host}', tls: {{certificate: {0}/cert.pem, key: {0}/key.pem}}}}\n{auth}\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("config.yml"), config).unwrap();
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.path().join("config.yml"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let real = Self { dir, child, host };
        let begin = Instant::now();
        while std::net::TcpStream::connect(&real.host).is_err() {
            let log = std::fs::read_to_string(real.dir.path().join("log")).unwrap();
            assert!(begin.elapsed() < DEADLINE, "the registry listens: {log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Some(real)
    }

    /// Returns where an image lies before it is put there.
    fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    /// Writes an image of `bytes`, puts it there as `name`, and returns its digest.
    fn with_image(&self, name: &str, bytes: usize) -> Digest {
        let layout = self.layout();
        let digest = write_image(&layout, bytes);
        self.push(&layout, name, &[]);
        digest
    }

    /// Has skopeo put the image in `layout` there as `name`.
    fn push(&self, layout: &Path, name: &str, more: &[&str]) {
        let from = format!("oci:{}:latest", layout.display());
        self.push_from(&from, name, more);
    }

    fn push_from(&self, from: &str, name: &str, more: &[&str]) {
        let to = format!("docker://{}/{name}", self.host);
        let certs = self.dir.path().join("certs.d").join(&self.host);
        let certs = certs.display().to_string();
        let creds = format!("{USER}:{PASSWORD}");
        let mut words = vec!["--insecure-policy", "copy", "-q"];
        words.extend(["--dest-cert-dir", &certs, "--dest-creds", &creds]);
        words.extend(more);
        words.extend([from, &to]);
        tool("skopeo", &words);
    }

    fn image(&self, name: &str) -> ImageRef {
        format!("{}/{name}", self.host).parse().unwrap()
    }

    /// Returns a runtime that trusts the registry's authority, and has these credentials.
    async fn runtime(&self, auth: Option<&str>) -> (TempDir, LocalRuntime) {
        self.runtime_at(&self.host, auth).await
    }

    async fn runtime_at(&self, host: &str, auth: Option<&str>) -> (TempDir, LocalRuntime) {
        let dir = tempfile::tempdir().unwrap();
        let known = dir.path().join("known");
        std::fs::create_dir_all(known.join("certs.d").join(host)).unwrap();
        let ca = known.join("certs.d").join(host).join("ca.crt");
        std::fs::copy(self.dir.path().join("ca.pem"), ca).unwrap();
        if let Some(auth) = auth {
            std::fs::write(known.join("auth.json"), auth).unwrap();
        }
        let mut config = LocalConfig::new(dir.path().join("runtime"), CONTAINERS);
        config.registries = Registries::in_dir(&known);
        let runtime = LocalRuntime::process(config).await.unwrap();
        (dir, runtime)
    }

    fn auth_json(&self, password: &str) -> String {
        serde_json::json!({"auths": {&self.host: {"username": USER, "password": password}}})
            .to_string()
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Makes an authority, and a certificate of it for `host`, where both skopeo and we look for them.
fn certificates(dir: &Path, host: &str) {
    let at = |name: &str| dir.join(name).display().to_string();
    let (ca, ca_key, key, request) = (
        at("ca.pem"),
        at("ca-key.pem"),
        at("key.pem"),
        at("request.pem"),
    );
    tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            &ca_key,
            "-out",
            &ca,
        ],
    );
    tool(
        "openssl",
        &[
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=registry",
            "-keyout",
            &key,
            "-out",
            &request,
        ],
    );
    std::fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    tool(
        "openssl",
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &at("names"),
            "-out",
            &at("cert.pem"),
        ],
    );
    let certs = dir.join("certs.d").join(host);
    std::fs::create_dir_all(&certs).unwrap();
    std::fs::copy(&ca, certs.join("ca.crt")).unwrap();
}

/// Serves tokens signed with the key in `key`, whose certificate the registry trusts by its authority.
async fn token_server(key: PathBuf) -> String {
    let router = axum::Router::new()
        .route("/token", get(token))
        .with_state(Arc::from(key));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await });
    host
}

async fn token(
    State(key): State<Arc<Path>>,
    headers: HeaderMap,
    query: axum::extract::Query<std::collections::BTreeMap<String, String>>,
) -> (StatusCode, String) {
    let known = headers
        .get("authorization")
        .is_some_and(|h| h == "Basic dGVzdGVyOm9wZW4gc2VzYW1l");
    if !known {
        return (StatusCode::UNAUTHORIZED, String::new());
    }
    let scope = query.get("scope").cloned().unwrap_or_default();
    let mut parts = scope.split(':');
    let (kind, name, actions) = (parts.next(), parts.next(), parts.next());
    let actions: Vec<&str> = actions.unwrap_or_default().split(',').collect();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let pem = std::fs::read_to_string(key.with_file_name("cert.pem")).unwrap();
    let certificate: String = pem.lines().filter(|l| !l.starts_with("---")).collect();
    let head = serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [certificate]});
    let claims = serde_json::json!({
        "iss": "test", "aud": "test", "sub": USER, "jti": "1",
        "iat": now, "nbf": now - 60, "exp": now + 600,
        "access": [{"type": kind, "name": name, "actions": actions}],
    });
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(&head), encode(&claims));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, &text).unwrap();
    let signed = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .args([&*key, path.as_path()])
        .output()
        .unwrap();
    let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(&signed.stdout));
    (
        StatusCode::OK,
        serde_json::json!({"token": token}).to_string(),
    )
}

/// Writes an image of two layers, the second of so many bytes that do not pack.
fn write_image(dir: &Path, bytes: usize) -> Digest {
    let mut state = Digest::of(b"noise");
    let mut noise = Vec::new();
    while noise.len() < bytes {
        noise.extend_from_slice(state.as_bytes());
        state = Digest::of(state.as_bytes());
    }
    let layer = |name: &str, bytes: &[u8]| {
        let layer = LayerBuilder::new().file(name, 0o755, bytes).unwrap();
        layer.finish().unwrap()
    };
    ImageBuilder::new()
        .layer(layer("x", b"small"))
        .layer(layer("noise", &noise))
        .entrypoint(["/x"])
        .write(dir, "latest")
        .unwrap()
}

async fn prepare(
    runtime: &LocalRuntime,
    image: &ImageRef,
    credential: Option<&Credential>,
) -> Result<PreparedImage, ImageError> {
    let prepared = runtime.prepare_as(image, credential).await;
    prepared.map_err(|error| match error {
        Error::Image { source, .. } => *source,
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn an_own_authority_is_trusted_where_it_is_named_and_nowhere_else() {
    let Some(real) = Real::open("pull::an_own_authority", Door::Open).await else {
        return;
    };
    let digest = real.with_image("demo/app:1", 1000);
    let (_dir, runtime) = real.runtime(None).await;
    let prepared = prepare(&runtime, &real.image("demo/app:1"), None)
        .await
        .unwrap();
    assert_eq!((prepared.digest, prepared.layers), (digest, 2));

    // Another one's certificate does not make it trusted.
    let (_dir, other) = real.runtime_at("other.example", None).await;
    let image = real.image("demo/app:1");
    let known = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(known.path().join("certs.d").join(&real.host)).unwrap();
    let unknown = resolve_as(&image, &Registries::in_dir(known.path()), None).await;
    let unknown = unknown.unwrap_err();
    let mut chain = format!("{unknown}");
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&unknown);
    while let Some(error) = cause {
        chain = format!("{chain}: {error}");
        cause = error.source();
    }
    assert!(chain.contains("UnknownIssuer"), "{chain}");
    drop(other);
}

async fn credentials_open_the_door(name: &str, door: Door) {
    let Some(real) = Real::open(name, door).await else {
        return;
    };
    let digest = real.with_image("team/app:1", 1000);
    let image = real.image("team/app:1");

    let (_dir, nobody) = real.runtime(None).await;
    let error = prepare(&nobody, &image, None).await.unwrap_err();
    assert!(matches!(error, ImageError::Denied { .. }), "{error:?}");
    assert_eq!(error.blame(), Blame::Tenant);
    let (_dir, wrong) = real.runtime(Some(&real.auth_json("guess"))).await;
    let error = prepare(&wrong, &image, None).await.unwrap_err();
    assert!(matches!(error, ImageError::Denied { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("guess"));

    let (_dir, ours) = real.runtime(Some(&real.auth_json(PASSWORD))).await;
    let prepared = prepare(&ours, &image, None).await.unwrap();
    assert_eq!(prepared.digest, digest);
    // A tenant's own, on a machine that has none.
    let theirs = Credential::password(USER, PASSWORD);
    let prepared = prepare(&nobody, &image, Some(&theirs)).await.unwrap();
    assert_eq!(prepared.digest, digest);
    // That it is here now does not open it to those who may not read it.
    let exact = real.image(&format!("team/app@{digest}"));
    let error = prepare(&nobody, &exact, None).await.unwrap_err();
    assert!(matches!(error, ImageError::Denied { .. }), "{error:?}");
    let again = prepare(&nobody, &exact, Some(&theirs)).await.unwrap();
    assert_eq!(again.bytes_fetched, 0);
}

#[tokio::test]
async fn passwords_open_a_registry_that_wants_them() {
    credentials_open_the_door("pull::passwords_open_a_registry", Door::Password).await;
}

// The token server must answer while skopeo is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_open_a_registry_that_wants_them() {
    credentials_open_the_door("pull::tokens_open_a_registry", Door::Token).await;
}

/// Serves the manifest and the configuration in `layout` to everybody, and no layer: it knows those and wants the
/// rest.
async fn without_layers(layout: &Path) -> String {
    let serve = async |State(blobs): State<Arc<Path>>,
                       axum::extract::Path(digest): axum::extract::Path<String>| {
        let bytes = std::fs::read(blobs.join(digest.trim_start_matches("sha256:")));
        let bytes = bytes.ok().filter(|bytes| bytes.starts_with(b"{"));
        bytes.ok_or(StatusCode::NOT_FOUND)
    };
    let router = axum::Router::new()
        .route("/v2/other/name/manifests/{digest}", get(serve))
        .route("/v2/other/name/blobs/{digest}", get(serve))
        .with_state(Arc::from(layout.join("blobs/sha256")));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await });
    host
}

#[tokio::test]
async fn a_private_layer_is_not_given_to_who_names_its_digest_elsewhere() {
    let name = "pull::a_private_layer_is_not_given";
    let Some(real) = Real::open(name, Door::Password).await else {
        return;
    };
    let digest = real.with_image("team/app:1", 1000);
    let (_dir, runtime) = real.runtime(None).await;
    let theirs = Credential::password(USER, PASSWORD);
    let image = real.image("team/app:1");
    prepare(&runtime, &image, Some(&theirs)).await.unwrap();

    let elsewhere = without_layers(&real.layout()).await;
    let stolen: ImageRef = format!("{elsewhere}/other/name@{digest}").parse().unwrap();
    for credential in [None, Some(&theirs)] {
        let error = prepare(&runtime, &stolen, credential).await.unwrap_err();
        assert!(matches!(error, ImageError::Missing { .. }), "{error:?}");
    }
    let again = prepare(&runtime, &image, Some(&theirs)).await.unwrap();
    assert_eq!(again.bytes_fetched, 0);
}

#[tokio::test]
async fn a_public_layer_is_used_again_by_who_names_its_digest_elsewhere() {
    let name = "pull::a_public_layer_is_used_again";
    let Some(real) = Real::open(name, Door::Open).await else {
        return;
    };
    let digest = real.with_image("demo/app:1", 1000);
    let (_dir, runtime) = real.runtime(None).await;
    prepare(&runtime, &real.image("demo/app:1"), None)
        .await
        .unwrap();

    let elsewhere = without_layers(&real.layout()).await;
    let same: ImageRef = format!("{elsewhere}/other/name@{digest}").parse().unwrap();
    let again = prepare(&runtime, &same, None).await.unwrap();
    assert_eq!((again.digest, again.bytes_fetched), (digest, 0));
}

#[tokio::test]
async fn a_broken_file_of_credentials_is_told_and_is_not_the_tenants_fault() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("auth.json"), "{\"auths\": 5}").unwrap();
    let image: ImageRef = "127.0.0.1:1/a".parse().unwrap();
    let error = resolve_as(&image, &Registries::in_dir(dir.path()), None).await;
    let error = error.unwrap_err();
    assert!(error.to_string().contains("auth.json"), "{error}");
    assert_eq!(error.blame(), Blame::Provider);
}

#[tokio::test]
async fn layers_packed_with_zstd_are_unpacked() {
    let Some(real) = Real::open("pull::layers_packed_with_zstd", Door::Open).await else {
        return;
    };
    let layout = real.layout();
    write_image(&layout, 50_000);
    // Unpacked first, as skopeo packs anew only what is not packed.
    let archive = real.dir.path().join("image.tar");
    let archive = format!("docker-archive:{}:demo:1", archive.display());
    let from = format!("oci:{}:latest", layout.display());
    tool(
        "skopeo",
        &["--insecure-policy", "copy", "-q", &from, &archive],
    );
    let zstd = ["--format", "oci", "--dest-compress-format", "zstd"];
    real.push_from(&archive, "demo/zstd:1", &zstd);
    let certs = real.dir.path().join("certs.d").join(&real.host);
    let raw = tool(
        "skopeo",
        &[
            "inspect",
            "--raw",
            "--cert-dir",
            &certs.display().to_string(),
            &format!("docker://{}/demo/zstd:1", real.host),
        ],
    );
    assert!(raw.contains("tar+zstd"), "{raw}");
    let (dir, runtime) = real.runtime(None).await;
    let prepared = prepare(&runtime, &real.image("demo/zstd:1"), None)
        .await
        .unwrap();
    let tree = dir
        .path()
        .join("runtime/store/flat")
        .join(prepared.digest.hex());
    assert!(std::fs::read(tree.join("noise")).unwrap().len() >= 50_000);
}

#[tokio::test]
async fn of_an_index_the_image_for_this_machine_is_taken() {
    let Some(real) = Real::open("pull::of_an_index", Door::Open).await else {
        return;
    };
    let layout = real.layout();
    let digest = write_image(&layout, 1000);
    let manifest = std::fs::read(layout.join("blobs/sha256").join(digest.hex())).unwrap();
    let index = |platforms: &[(&str, &str)]| {
        let entries: Vec<_> = platforms
            .iter()
            .map(|(os, architecture)| {
                serde_json::json!({
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest, "size": manifest.len(),
                    "platform": {"os": os, "architecture": architecture},
                })
            })
            .collect();
        let kind = "application/vnd.oci.image.index.v1+json";
        serde_json::json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).to_string()
    };
    real.push(&layout, "demo/many:base", &[]);
    let here = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let put = async |tag: &str, text: String| {
        let ca = std::fs::read(real.dir.path().join("ca.pem")).unwrap();
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca).unwrap()])
            .build()
            .unwrap();
        let url = format!("https://{}/v2/demo/many/manifests/{tag}", real.host);
        let request = client
            .put(url)
            .header("content-type", "application/vnd.oci.image.index.v1+json")
            .body(text);
        assert_eq!(request.send().await.unwrap().status(), 201);
    };
    put(
        "fits",
        index(&[("windows", here), ("linux", "s390x"), ("linux", here)]),
    )
    .await;
    put(
        "foreign",
        index(&[
            ("linux", "s390x"),
            ("unknown", "unknown"),
            ("linux", "ppc64le"),
        ]),
    )
    .await;
    let (_dir, runtime) = real.runtime(None).await;
    let fits = prepare(&runtime, &real.image("demo/many:fits"), None)
        .await
        .unwrap();
    assert_eq!(fits.digest, digest);
    let foreign = prepare(&runtime, &real.image("demo/many:foreign"), None).await;
    let foreign = foreign.unwrap_err().to_string();
    assert!(
        foreign.ends_with("only for linux/s390x, linux/ppc64le"),
        "{foreign}"
    );
}

/// A wire that cuts connections.
#[derive(Debug)]
struct Wire {
    /// Each connection after so many bytes of answers.
    connection: u64,
    /// All of them once there were so many.
    all: AtomicU64,
    passed: AtomicU64,
}

impl Wire {
    fn new(connection: u64, all: u64) -> Arc<Self> {
        let (all, passed) = (AtomicU64::new(all), AtomicU64::new(0));
        Arc::new(Self {
            connection,
            all,
            passed,
        })
    }

    /// Leads to `to`, and returns its other end.
    async fn lead(self: &Arc<Self>, to: &str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (wire, to) = (Arc::clone(self), to.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = tokio::net::TcpStream::connect(&to).await.unwrap();
                tokio::spawn(Arc::clone(&wire).pass(client, server));
            }
        });
        host
    }

    async fn pass(self: Arc<Self>, client: tokio::net::TcpStream, server: tokio::net::TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = tokio::spawn(async move {
            drop(tokio::io::copy(&mut from_client, &mut to_server).await);
        });
        let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
        while passed < self.connection
            && self.passed.load(Ordering::Relaxed) < self.all.load(Ordering::Relaxed)
        {
            let got = from_server.read(&mut buffer).await.unwrap_or(0);
            if got == 0 || to_client.write_all(&buffer[..got]).await.is_err() {
                break;
            }
            passed += got as u64;
            self.passed.fetch_add(got as u64, Ordering::Relaxed);
        }
        up.abort();
    }
}

const BIG: u64 = 8 << 20;

#[tokio::test]
async fn a_cut_transfer_goes_on_where_it_was() {
    let Some(real) = Real::open("pull::a_cut_transfer", Door::Open).await else {
        return;
    };
    let digest = real.with_image("demo/big:1", usize::try_from(BIG).unwrap());

    // Cut four times, each mended within the pull: all of it comes about once.
    let wire = Wire::new(BIG / 4, u64::MAX);
    let host = wire.lead(&real.host).await;
    let (_dir, runtime) = real.runtime_at(&host, None).await;
    let image: ImageRef = format!("{host}/demo/big:1").parse().unwrap();
    assert_eq!(
        prepare(&runtime, &image, None).await.unwrap().digest,
        digest
    );
    let passed = wire.passed.load(Ordering::Relaxed);
    assert!(
        passed < BIG + BIG / 4,
        "{passed} bytes for an image of {BIG}"
    );
}

#[tokio::test]
async fn a_pull_that_failed_is_taken_up_by_the_next() {
    let Some(real) = Real::open("pull::a_pull_that_failed", Door::Open).await else {
        return;
    };
    let digest = real.with_image("demo/big:1", usize::try_from(BIG).unwrap());
    let wire = Wire::new(u64::MAX, BIG / 2);
    let host = wire.lead(&real.host).await;
    let (dir, runtime) = real.runtime_at(&host, None).await;
    let image: ImageRef = format!("{host}/demo/big:1").parse().unwrap();
    let error = prepare(&runtime, &image, None).await.unwrap_err();
    assert_eq!(error.blame(), Blame::Transient, "{error:?}");
    let partial = dir.path().join("runtime/store/partial");
    let (layer, bytes) = largest_blob(&real.layout());
    let layer = format!("{layer}.public");
    let kept = std::fs::metadata(partial.join(&layer)).unwrap().len();
    assert!(kept > BIG / 3, "{kept}");

    wire.all.store(u64::MAX, Ordering::Relaxed);
    assert_eq!(
        prepare(&runtime, &image, None).await.unwrap().digest,
        digest
    );
    let passed = wire.passed.load(Ordering::Relaxed);
    assert!(
        passed < BIG + BIG / 4,
        "{passed} bytes for an image of {BIG}"
    );
    assert_eq!(std::fs::read_dir(&partial).unwrap().count(), 0);

    // Damaged on the disk since: found out at the end, and fetched anew.
    runtime.forget_images(&[]).await.unwrap();
    std::fs::write(partial.join(&layer), vec![7; bytes / 2]).unwrap();
    assert_eq!(
        prepare(&runtime, &image, None).await.unwrap().digest,
        digest
    );
}

fn largest_blob(layout: &Path) -> (String, usize) {
    let blobs = std::fs::read_dir(layout.join("blobs/sha256")).unwrap();
    let sizes = blobs.map(|entry| {
        let entry = entry.unwrap();
        let bytes = usize::try_from(entry.metadata().unwrap().len()).unwrap();
        (entry.file_name().into_string().unwrap(), bytes)
    });
    sizes.max_by_key(|(_, bytes)| *bytes).unwrap()
}
