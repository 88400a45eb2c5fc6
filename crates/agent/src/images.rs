//! Which images a provider's machine takes: the folders and registries that tenants may name.
//!
//! A tenant names an image, and the machine opens it, often as root. A folder on the machine is the provider's, and a
//! registry at a private address is a door into the provider's network; so neither is opened unless the provider has
//! said so. A registry at a public address is, unless the provider has said otherwise.

use std::{
    net::IpAddr,
    path::{Component, Path, PathBuf},
};

use runtime::{
    ImageRef, Reach,
    image::{ImageError, is_local_name, is_public},
};
use serde::{Deserialize, Serialize};

/// What a provider lets tenants name. The default is the careful one: no folder, and no registry at a private address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ImagePolicy {
    /// Folders of this machine, and everything in them.
    #[serde(default)]
    pub folders: Allowed,
    /// Registries, as `host` or `host:port`; those listed are allowed wherever they are.
    #[serde(default)]
    pub registries: Allowed,
    /// Registries, as `host` or `host:port`, that are never asked; goes before everything else.
    #[serde(default)]
    pub denied_registries: Vec<String>,
    /// Whether only the registries that are listed are asked.
    #[serde(default)]
    pub only_listed_registries: bool,
}

/// What is allowed of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allowed {
    /// Everything: for a network of one person on one machine.
    Any,
    /// What is listed.
    Listed(Vec<String>),
}

impl Default for Allowed {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// The provider does not take an image. What it says is for the tenant: it tells nothing of the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageRefusal {
    /// It is in a folder that the provider has not listed.
    #[error("this provider does not take images from {folder} on its machine")]
    Folder {
        /// The folder that was named.
        folder: String,
    },
    /// It is in a listed folder, and not there.
    #[error("there is no folder {folder} on this provider's machine")]
    Missing {
        /// The folder that was named.
        folder: String,
    },
    /// It is in a registry that the provider does not ask.
    #[error("this provider does not ask the registry {host}: {why}")]
    Registry {
        /// The registry that was named.
        host: String,
        /// Why not.
        why: &'static str,
    },
}

impl ImageRefusal {
    /// Returns the stable code; `tradewind help` explains it.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Folder { .. } | Self::Registry { .. } => "image-not-allowed",
            Self::Missing { .. } => "image-error",
        }
    }

    /// Returns what the tenant can do.
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Folder { .. } => {
                "push the image to a registry that machines can reach, or hire a provider that lists the folder; \
                 on your own machine: tradewind provider init --image-folder DIR, or tradewind up --image-folder DIR"
            }
            Self::Missing { .. } => {
                "check the folder's name: it is looked for on the provider's machine"
            }
            Self::Registry { .. } => REGISTRY_STEP,
        }
    }
}

/// The way out where a registry is not asked.
const REGISTRY_STEP: &str = "use a registry at a public address, or ask the provider to allow this one: \
     tradewind provider init --registry HOST[:PORT]";

/// The code and the way out where nothing more is known.
pub(crate) const IMAGE_ERROR: (&str, &str) = (
    "image-error",
    "check the image's name, and that it is there and whole; then run the job again",
);

/// Every code that [`ImageRefusal::code`] and machines' words to tenants have.
pub const IMAGE_CODES: [&str; 6] = [
    "image-error",
    "image-missing",
    "image-denied",
    "image-not-allowed",
    "image-no-platform",
    "image-too-large",
];

/// Returns the stable code of why an image could not be prepared, and what the tenant can do; `tradewind help` explains it.
pub(crate) const fn advice(error: &ImageError) -> (&'static str, &'static str) {
    match error {
        ImageError::Missing { .. } => (
            "image-missing",
            "check the image's name and tag, and that it was pushed; then run the job again",
        ),
        ImageError::Denied { .. } => (
            "image-denied",
            "make the image readable without a login, or hire a provider whose machines have one",
        ),
        ImageError::OutOfReach { .. } => ("image-not-allowed", REGISTRY_STEP),
        ImageError::NoPlatform { .. } => (
            "image-no-platform",
            "build it for the platform of the machines: docker buildx build --platform linux/amd64",
        ),
        ImageError::TooMuch { .. } | ImageError::NoRoom { .. } => (
            "image-too-large",
            "make the image smaller: fetch models and data at run time, or hire a machine with more disk",
        ),
        _ => IMAGE_ERROR,
    }
}

impl ImagePolicy {
    /// Returns the policy that lets tenants name everything.
    pub fn any() -> Self {
        Self {
            folders: Allowed::Any,
            registries: Allowed::Any,
            ..Self::default()
        }
    }

    /// Returns where to fetch `image` from: a folder without links on the way.
    ///
    /// Looks at the file system, and so blocks.
    ///
    /// # Errors
    /// [`ImageRefusal`] where the provider does not take it. Of a folder that is not allowed it is not looked whether it
    /// is there.
    pub fn check(&self, image: &ImageRef) -> Result<ImageRef, ImageRefusal> {
        match image {
            ImageRef::Layout { path, tag } => Ok(ImageRef::Layout {
                path: self.folder(path)?,
                tag: tag.clone(),
            }),
            ImageRef::Archive { path, name } => Ok(ImageRef::Archive {
                path: self.folder(path)?,
                name: name.clone(),
            }),
            ImageRef::Registry { host, .. } => {
                self.registry(host)?;
                Ok(image.clone())
            }
        }
    }

    /// Returns to which addresses pulls may connect: where a registry sends us on is up to whoever runs that.
    pub fn reach(&self) -> Reach {
        match &self.registries {
            Allowed::Any => Reach::Anywhere,
            Allowed::Listed(listed) => Reach::PublicAnd(listed.clone()),
        }
    }

    fn folder(&self, path: &Path) -> Result<PathBuf, ImageRefusal> {
        let Allowed::Listed(listed) = &self.folders else {
            return Ok(path.to_owned());
        };
        let refused = || ImageRefusal::Folder {
            folder: path.display().to_string(),
        };
        let plain = path
            .components()
            .all(|part| !matches!(part, Component::ParentDir | Component::CurDir));
        let real = |folder: &Path| folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let listed: Vec<PathBuf> = listed.iter().map(PathBuf::from).collect();
        let named = |folder: &PathBuf| path.starts_with(folder) || path.starts_with(real(folder));
        if !plain || !listed.iter().any(named) {
            return Err(refused());
        }
        // A link in an allowed folder does not lead out of it.
        let folder = path.display().to_string();
        let opened = path
            .canonicalize()
            .map_err(|_| ImageRefusal::Missing { folder })?;
        let within = |folder: &PathBuf| opened.starts_with(real(folder));
        let inside = listed.iter().any(within);
        inside.then_some(opened).ok_or_else(refused)
    }

    fn registry(&self, host: &str) -> Result<(), ImageRefusal> {
        let refused = |why| {
            let host = host.to_owned();
            Err(ImageRefusal::Registry { host, why })
        };
        if self.denied_registries.iter().any(|rule| names(rule, host)) {
            return refused("it is on the provider's list of those it does not ask");
        }
        let listed = match &self.registries {
            Allowed::Any => return Ok(()),
            Allowed::Listed(listed) => listed,
        };
        if listed.iter().any(|rule| names(rule, host)) {
            return Ok(());
        }
        if self.only_listed_registries {
            return refused("it is not on the provider's list");
        }
        if is_private(host) {
            return refused("its address is private to the provider's machine or network");
        }
        Ok(())
    }
}

/// Tells whether a rule, `host` or `host:port`, speaks of a registry.
fn names(rule: &str, host: &str) -> bool {
    rule.eq_ignore_ascii_case(host) || rule.eq_ignore_ascii_case(name_of(host))
}

/// Returns a registry's host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The colons of a bare IPv6 address are not a port's.
        Some((name, port))
            if !port.contains(']') && (!name.contains(':') || name.ends_with(']')) =>
        {
            name
        }
        _ => host,
    }
}

/// Tells whether a host is plainly, or may by its form be, at an address that is not public.
fn is_private(host: &str) -> bool {
    let name = name_of(host).trim_end_matches('.').to_ascii_lowercase();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return !is_public(ip);
    }
    let last = bare.rsplit('.').next().unwrap_or_default();
    // `127.1` and `0x7f000001` are addresses too, to those who resolve them.
    let like_a_number =
        last.starts_with("0x") || (!last.is_empty() && last.bytes().all(|c| c.is_ascii_digit()));
    like_a_number || is_local_name(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_of_an_image_has_its_code() {
        use ImageError as E;
        let text = || "x".to_owned();
        let table = [
            (E::Missing { what: text() }, "image-missing"),
            (
                E::Denied {
                    host: text(),
                    repository: text(),
                    reason: text(),
                },
                "image-denied",
            ),
            (E::OutOfReach { host: text() }, "image-not-allowed"),
            (
                E::NoPlatform {
                    platform: text(),
                    available: Vec::new(),
                },
                "image-no-platform",
            ),
            (
                E::TooMuch {
                    what: "entries",
                    limit: 1,
                },
                "image-too-large",
            ),
            (E::Unsupported { what: text() }, "image-error"),
        ];
        for (error, code) in table {
            let (found, next) = advice(&error);
            assert_eq!(found, code, "{error}");
            assert!(IMAGE_CODES.contains(&found) && !next.is_empty());
        }
    }

    fn check(policy: &ImagePolicy, image: &str) -> Result<String, ImageRefusal> {
        policy.check(&image.parse().unwrap()).map(|i| i.to_string())
    }

    #[test]
    fn by_default_no_folder_and_no_private_registry_is_taken() {
        let policy = ImagePolicy::default();
        let refused = check(&policy, "oci:/etc").unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this provider does not take images from /etc on its machine"
        );
        for host in [
            "127.0.0.1:5000",
            "localhost:5000",
            "[::1]:5000",
            "10.0.0.8",
            "192.168.1.1:80",
            "169.254.169.254",
            "100.64.0.1",
            "127.1:80",
            "0x7f000001.",
            "2130706433:80",
            "registry:5000",
            "metadata.google.internal",
            "[::ffff:127.0.0.1]:80",
            "[fd00::1]:80",
            "registry.local:5000",
        ] {
            let image = format!("{host}/app:1");
            let refused = check(&policy, &image);
            assert!(
                matches!(refused, Err(ImageRefusal::Registry { .. })),
                "{host}"
            );
        }
        for host in ["docker.io", "ghcr.io", "8.8.8.8:443", "[2606:4700::1]:443"] {
            check(&policy, &format!("{host}/app:1")).unwrap();
        }
        for any in ["oci:/etc", "127.0.0.1:5000/app:1"] {
            assert_eq!(check(&ImagePolicy::any(), any).unwrap(), any);
        }
    }

    #[test]
    fn lists_open_and_close_what_they_name() {
        let policy = ImagePolicy {
            registries: Allowed::Listed(vec!["127.0.0.1:5000".into(), "nas.lan".into()]),
            denied_registries: vec!["docker.io".into()],
            ..ImagePolicy::default()
        };
        let only = ImagePolicy {
            only_listed_registries: true,
            ..policy.clone()
        };
        for (host, taken, taken_when_only) in [
            ("127.0.0.1:5000", true, true),
            ("127.0.0.1:5001", false, false),
            ("nas.lan:80", true, true),
            ("docker.io", false, false),
            ("Docker.io:443", false, false),
            ("ghcr.io", true, false),
        ] {
            let image = format!("{host}/app:1");
            assert_eq!(check(&policy, &image).is_ok(), taken, "{host}");
            assert_eq!(check(&only, &image).is_ok(), taken_when_only, "{host}");
        }
    }

    #[test]
    fn folders_are_taken_with_what_is_in_them_and_links_do_not_lead_out() {
        let home = tempfile::tempdir().unwrap();
        let (inside, outside) = (home.path().join("images"), home.path().join("secret"));
        std::fs::create_dir_all(inside.join("app")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("way-out")).unwrap();
        let link = home.path().join("link");
        std::os::unix::fs::symlink(&inside, &link).unwrap();
        let policy = ImagePolicy {
            folders: Allowed::Listed(vec![link.display().to_string()]),
            ..ImagePolicy::default()
        };
        let of = |path: &Path| check(&policy, &format!("oci:{}:v1", path.display()));
        // Found by the listed name and by the real one, and opened by the real one.
        let real = inside.canonicalize().unwrap();
        let wanted = format!("oci:{}:v1", real.join("app").display());
        assert_eq!(of(&link.join("app")), Ok(wanted.clone()));
        assert_eq!(of(&real.join("app")), Ok(wanted));
        assert!(of(&link).is_ok());
        for refused in [
            link.join("way-out"),
            link.join("../secret"),
            outside,
            home.path().join("link-beside"),
        ] {
            assert!(of(&refused).is_err(), "{}", refused.display());
        }
        let missing = of(&link.join("missing")).unwrap_err();
        assert_eq!(missing.code(), "image-error", "{missing}");
    }
}
