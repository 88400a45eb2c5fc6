//! What a job runs: image, command, environment. Never on the ledger, which knows it by a salted digest only.
//!
//! The encoding is canonical: a version byte, then borsh. One manifest has one byte string, so that the digest a
//! tenant signs in its `JobSpec` can be checked by whoever opens the sealed manifest (see [`crate::envelope`]).

use std::collections::BTreeMap;
use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use hpke::rand_core::CryptoRng;
use market::codec::{Digest, encode};
use zeroize::Zeroize as _;

/// Version of the manifest's encoding.
pub const MANIFEST_VERSION: u8 = 1;
/// Largest encoded manifest: room for a script in an argument, too small to carry data sets.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Longest image reference: a host, a long path and a digest.
pub const IMAGE_REF_BYTES_MAX: usize = 512;
/// Domain of the salted digest.
const DIGEST_DOMAIN: &[u8] = b"tradewind/manifest/v1";

/// What a job runs.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Manifest {
    /// Where the image is: `host[:port]/name[:tag][@sha256:…]`, `oci:/absolute/folder[:tag]` or
    /// `docker-archive:/absolute/file.tar[:name:tag]`.
    pub image: String,
    /// SHA-256 of the image's own manifest; whatever [`Self::image`] leads to must have it.
    pub image_digest: Digest,
    /// Replaces the image's entrypoint; `None` keeps it.
    pub command: Option<Vec<String>>,
    /// Replaces the image's default arguments; `None` keeps them, unless `command` is set.
    pub args: Option<Vec<String>>,
    /// Added to the image's environment.
    pub env: BTreeMap<String, String>,
    /// Added to the environment like `env`, and never shown.
    pub secrets: BTreeMap<String, SecretText>,
    /// Replaces the image's working directory; absolute.
    pub workdir: Option<String>,
    /// Replaces the image's user; no runtime honours it yet, so [`Manifest::check`] refuses it.
    pub user: Option<String>,
    /// Volumes; no runtime honours them yet, so [`Manifest::check`] refuses them.
    pub mounts: Vec<Mount>,
    /// Ports that the tenant reaches; the data plane has none yet, so [`Manifest::check`] refuses them.
    pub ports: Vec<Port>,
}

/// A volume inside the container.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Mount {
    /// The volume's name within the job.
    pub volume: String,
    /// Where it appears; absolute.
    pub path: String,
}

/// A port that the workload listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Port {
    /// Its number.
    pub number: u16,
}

/// A text that prints as `***` and is wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SecretText(String);

impl SecretText {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Random bytes that keep a manifest's digest from being guessed; they travel inside the sealed manifest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; Self::BYTES]);

impl Salt {
    /// Its length: that of the digest, so that guessing it is no easier than inverting the hash.
    pub const BYTES: usize = 32;

    /// Draws a salt.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; Self::BYTES];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Makes the salt from its bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why something is no manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadManifest {
    /// Longer than [`MANIFEST_BYTES_MAX`].
    #[error("manifest has {bytes} bytes, more than {MANIFEST_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An encoding that this build does not know.
    #[error("manifest version {version} is not known")]
    Version {
        /// The version byte.
        version: u8,
    },
    /// Truncated, trailing or non-canonical bytes.
    #[error("manifest bytes are not canonical")]
    Malformed,
    /// The image reference is of neither known form.
    #[error("image must be oci:/absolute/folder or host:port/name, got {got:?}")]
    Image {
        /// The reference, cut to 64 characters.
        got: String,
    },
    /// The reference pins another digest than the one given.
    #[error("image reference does not pin the digest sha256:{digest}")]
    DigestMismatch {
        /// The digest of the manifest's own field.
        digest: Digest,
    },
    /// A field holds what cannot be handed to a program.
    #[error("{field} {problem}")]
    Field {
        /// Which field, in the job file's words.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A field that has its place but that nothing honours yet.
    #[error("{field} is not supported yet")]
    Unsupported {
        /// Which field.
        field: &'static str,
    },
}

impl Manifest {
    /// Returns a manifest that runs `image` as it is.
    pub fn new(image: impl Into<String>, image_digest: Digest) -> Self {
        Self {
            image: image.into(),
            image_digest,
            command: None,
            args: None,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            workdir: None,
            user: None,
            mounts: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Checks the manifest and returns its canonical bytes.
    pub fn encode(&self) -> Result<Vec<u8>, BadManifest> {
        self.check()?;
        let mut bytes = vec![MANIFEST_VERSION];
        bytes.append(&mut encode(self));
        check_length(bytes.len())?;
        Ok(bytes)
    }

    /// Reads and checks a manifest from exactly these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadManifest> {
        check_length(bytes.len())?;
        let body = match bytes.split_first() {
            Some((&MANIFEST_VERSION, body)) => body,
            Some((&version, _)) => return Err(BadManifest::Version { version }),
            None => return Err(BadManifest::Malformed),
        };
        let manifest: Self = borsh::from_slice(body).map_err(|_| BadManifest::Malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Checks every field; [`Self::encode`] and [`Self::decode`] do so too.
    pub fn check(&self) -> Result<(), BadManifest> {
        check_image(&self.image, &self.image_digest)?;
        check_list("command", self.command.as_deref().unwrap_or_default())?;
        if self.command.as_ref().is_some_and(Vec::is_empty) {
            return Err(field("command", "is set but empty"));
        }
        check_list("args", self.args.as_deref().unwrap_or_default())?;
        for (name, value) in &self.env {
            check_variable("env", name, value)?;
        }
        for (name, value) in &self.secrets {
            check_variable("secrets", name, value.expose())?;
            if self.env.contains_key(name) {
                return Err(field("secrets", "names a variable that env names too"));
            }
        }
        if let Some(workdir) = &self.workdir {
            check_text("workdir", workdir)?;
            if !workdir.starts_with('/') {
                return Err(field("workdir", "is not absolute"));
            }
        }
        check_unsupported("user", self.user.is_none())?;
        check_unsupported("mounts", self.mounts.is_empty())?;
        check_unsupported("ports", self.ports.is_empty())
    }

    /// Returns the environment to add, secrets included: what the workload sees.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        for (name, value) in &self.secrets {
            all.insert(name.clone(), value.expose().to_owned());
        }
        all
    }
}

/// Returns the digest that names a manifest on the ledger: `SHA-256(domain ‖ salt ‖ manifest bytes)`.
pub fn manifest_digest(salt: &Salt, manifest_bytes: &[u8]) -> Digest {
    Digest::of(&[DIGEST_DOMAIN, salt.as_bytes(), manifest_bytes])
}

fn check_length(bytes: usize) -> Result<(), BadManifest> {
    if bytes > MANIFEST_BYTES_MAX {
        return Err(BadManifest::TooLong { bytes });
    }
    Ok(())
}

/// Checks the form and the pinned digest; the runtime that pulls it parses the rest.
fn check_image(image: &str, digest: &Digest) -> Result<(), BadManifest> {
    let known = match image.strip_prefix("oci:") {
        Some(path) => path.starts_with('/') && path.len() > 1,
        None => image
            .split_once('/')
            .is_some_and(|(host, name)| !host.is_empty() && !name.is_empty()),
    };
    let plain = image.len() <= IMAGE_REF_BYTES_MAX && !image.chars().any(char::is_control);
    if !(known && plain) {
        return Err(BadManifest::Image {
            got: image.chars().take(64).collect(),
        });
    }
    match image.split_once("@sha256:") {
        Some((_, pinned)) if pinned != digest.to_string() => {
            Err(BadManifest::DigestMismatch { digest: *digest })
        }
        _ => Ok(()),
    }
}

fn check_list(name: &'static str, list: &[String]) -> Result<(), BadManifest> {
    list.iter().try_for_each(|text| check_text(name, text))
}

fn check_variable(list: &'static str, name: &str, value: &str) -> Result<(), BadManifest> {
    if name.is_empty() || name.contains('=') {
        return Err(field(list, "has a variable name that is empty or holds ="));
    }
    check_text(list, name)?;
    check_text(list, value)
}

fn check_text(name: &'static str, text: &str) -> Result<(), BadManifest> {
    if text.contains('\0') {
        return Err(field(name, "holds a zero byte"));
    }
    Ok(())
}

fn check_unsupported(name: &'static str, unset: bool) -> Result<(), BadManifest> {
    if unset {
        return Ok(());
    }
    Err(BadManifest::Unsupported { field: name })
}

fn field(field: &'static str, problem: &'static str) -> BadManifest {
    BadManifest::Field { field, problem }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection;
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn sample() -> Manifest {
        let digest = Digest([7; 32]);
        let mut manifest = Manifest::new(format!("127.0.0.1:5000/train@sha256:{digest}"), digest);
        manifest.command = Some(vec!["/bin/train".to_owned()]);
        manifest.args = Some(vec!["--steps".to_owned(), "10".to_owned()]);
        manifest.env.insert("MODE".to_owned(), "fast".to_owned());
        manifest
            .secrets
            .insert("TOKEN".to_owned(), SecretText::new("hunter2"));
        manifest.workdir = Some("/data".to_owned());
        manifest
    }

    pub(crate) fn any_manifest() -> impl Strategy<Value = Manifest> {
        let word = "[a-zA-Z0-9 é_./-]{0,12}";
        (
            any::<[u8; 32]>(),
            proptest::option::of(collection::vec(word, 1..4)),
            proptest::option::of(collection::vec(word, 0..4)),
            collection::btree_map("[A-Z_]{1,8}", word, 0..4),
            collection::btree_map("[a-z_]{1,8}", word, 0..4),
            proptest::option::of("/[a-z/]{0,9}"),
        )
            .prop_map(|(digest, command, args, env, secrets, workdir)| Manifest {
                command,
                args,
                env,
                secrets: secrets
                    .into_iter()
                    .filter(|(name, _)| name != "_")
                    .map(|(name, value)| (format!("s{name}"), SecretText::new(value)))
                    .collect(),
                workdir,
                ..Manifest::new("oci:/srv/images/train", Digest(digest))
            })
    }

    #[test]
    fn secrets_are_not_printed() {
        let text = format!("{:?} {}", sample(), SecretText::new("hunter2"));
        assert!(text.contains("***"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(sample().environment()["TOKEN"], "hunter2");
    }

    #[test]
    fn bad_fields_are_named() {
        type Spoil = fn(&mut Manifest);
        let cases: [(Spoil, &str); 11] = [
            (|m| m.image = "ubuntu".to_owned(), "image must be"),
            (|m| m.image = "oci:relative".to_owned(), "image must be"),
            (
                |m| m.image = "h/".to_owned() + &"x".repeat(600),
                "image must be",
            ),
            (|m| m.image_digest = Digest([8; 32]), "does not pin"),
            (|m| m.command = Some(vec![]), "command is set but empty"),
            (|m| m.args = Some(vec!["a\0".to_owned()]), "args holds"),
            (
                |m| drop(m.env.insert("A=B".to_owned(), String::new())),
                "env has",
            ),
            (
                |m| drop(m.env.insert("TOKEN".to_owned(), String::new())),
                "secrets names",
            ),
            (
                |m| m.workdir = Some("data".to_owned()),
                "workdir is not absolute",
            ),
            (
                |m| m.user = Some("1000".to_owned()),
                "user is not supported",
            ),
            (
                |m| m.ports.push(Port { number: 80 }),
                "ports is not supported",
            ),
        ];
        for (spoil, want) in cases {
            let mut manifest = sample();
            spoil(&mut manifest);
            let error = manifest.encode().unwrap_err().to_string();
            assert!(error.starts_with(want) || error.contains(want), "{error}");
        }
    }

    #[test]
    fn too_long_is_refused_both_ways() {
        let mut manifest = sample();
        manifest.args = Some(vec!["x".repeat(MANIFEST_BYTES_MAX)]);
        assert!(matches!(
            manifest.encode(),
            Err(BadManifest::TooLong { .. })
        ));
        let bytes = vec![MANIFEST_VERSION; MANIFEST_BYTES_MAX + 1];
        assert!(matches!(
            Manifest::decode(&bytes),
            Err(BadManifest::TooLong { .. })
        ));
    }

    #[test]
    fn a_list_that_claims_more_than_it_holds_is_refused() {
        let mut bytes = vec![MANIFEST_VERSION];
        bytes.extend(u32::MAX.to_le_bytes());
        assert_eq!(Manifest::decode(&bytes), Err(BadManifest::Malformed));
        assert_eq!(
            Manifest::decode(&[9]),
            Err(BadManifest::Version { version: 9 })
        );
        assert_eq!(Manifest::decode(&[]), Err(BadManifest::Malformed));
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(manifest in any_manifest()) {
            let bytes = manifest.encode().unwrap();
            prop_assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
        }

        #[test]
        fn what_decodes_has_one_encoding(manifest in any_manifest(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = manifest.encode().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(other) = Manifest::decode(&bytes) {
                prop_assert_eq!(other.encode().unwrap(), bytes);
            }
        }

        #[test]
        fn a_cut_encoding_is_refused(manifest in any_manifest(), at in any::<prop::sample::Index>()) {
            let bytes = manifest.encode().unwrap();
            prop_assert!(Manifest::decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn garbage_is_refused(bytes in collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Manifest::decode(&bytes).is_err());
        }
    }
}
