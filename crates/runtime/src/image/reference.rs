//! Where an image is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::digest::Digest;

/// Registries allow 128 for a tag and 255 for a name; a longer reference is a mistake or an attack.
const MAX_BYTES: usize = 1024;
const MAX_TAG_BYTES: usize = 128;
/// Its own images have short names that stand for `library/…`.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Names an image: `host[:port]/name[:tag][@sha256:…]`, `oci:/absolute/folder[:tag]`, or
/// `docker-archive:/absolute/file.tar[:name:tag]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ImageRef {
    /// A folder in OCI layout on this machine.
    Layout {
        /// The folder.
        path: PathBuf,
        /// Which of its images; may be left out where it holds one.
        tag: Option<String>,
    },
    /// A tar archive on this machine, as `docker save` writes it.
    Archive {
        /// The file.
        path: PathBuf,
        /// Which of its images, by one of its names; may be left out where it holds one.
        name: Option<String>,
    },
    /// A repository in a registry.
    Registry {
        /// `host` or `host:port`; without a port, that of HTTPS.
        host: String,
        /// The repository's name.
        name: String,
        /// Which image of it.
        version: Version,
    },
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// Whatever the tag points to now.
    Tag(String),
    /// Exactly this one.
    Digest(Digest),
}

/// The text is no [`ImageRef`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{text:?} is not an image reference: {problem}")]
pub struct InvalidImageRef {
    text: String,
    problem: &'static str,
}

impl FromStr for ImageRef {
    type Err = InvalidImageRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |problem| InvalidImageRef {
            text: text.chars().take(200).collect(),
            problem,
        };
        if text.len() > MAX_BYTES {
            return Err(invalid("it is too long"));
        }
        if let Some(rest) = text.strip_prefix("oci:") {
            return parse_layout(rest).map_err(invalid);
        }
        if let Some(rest) = text.strip_prefix("docker-archive:") {
            return parse_archive(rest).map_err(invalid);
        }
        parse_registry(text).map_err(invalid)
    }
}

fn parse_layout(rest: &str) -> Result<ImageRef, &'static str> {
    let (path, tag) = match rest.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => {
            check_tag(tag)?;
            (path, Some(tag.to_owned()))
        }
        _ => (rest, None),
    };
    if !path.starts_with('/') {
        return Err("oci: wants an absolute path");
    }
    Ok(ImageRef::Layout {
        path: PathBuf::from(path),
        tag,
    })
}

/// The file's name ends at the first colon, as the other programs that read this have it.
fn parse_archive(rest: &str) -> Result<ImageRef, &'static str> {
    let (path, name) = match rest.split_once(':') {
        Some((path, name)) => (path, Some(name)),
        None => (rest, None),
    };
    if !path.starts_with('/') {
        return Err("docker-archive: wants an absolute path");
    }
    let ok = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".:/_-".contains(&b))
    };
    if name.is_some_and(|name| !ok(name)) {
        return Err("a name in an archive wants letters, digits, and . : / _ -");
    }
    Ok(ImageRef::Archive {
        path: PathBuf::from(path),
        name: name.map(str::to_owned),
    })
}

fn parse_registry(text: &str) -> Result<ImageRef, &'static str> {
    let is_host = |host: &str| host.contains([':', '.']) || host == "localhost";
    let (host, rest) = text
        .split_once('/')
        .filter(|(host, _)| is_host(host))
        .ok_or("the registry's host is missing; images of Docker Hub are docker.io/NAME")?;
    if !host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[') {
        return Err("the registry's host begins as no host does");
    }
    if !host
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
    {
        return Err("the registry's host has a character that no host has");
    }
    let (rest, digest) = match rest.split_once('@') {
        Some((rest, digest)) => {
            let digest = digest
                .parse::<Digest>()
                .map_err(|_| "the digest is no sha256 digest")?;
            (rest, Some(digest))
        }
        None => (rest, None),
    };
    let (name, tag) = match rest.split_once(':') {
        Some((name, tag)) => {
            check_tag(tag)?;
            (name, Some(tag))
        }
        None => (rest, None),
    };
    let part_ok = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    if !name.split('/').all(part_ok) {
        return Err("the repository's name wants lowercase letters, digits, and . _ - / within");
    }
    let version = match (digest, tag) {
        (Some(digest), _) => Version::Digest(digest),
        (None, tag) => Version::Tag(tag.unwrap_or("latest").to_owned()),
    };
    Ok(ImageRef::Registry {
        host: host.to_owned(),
        name: if host == DOCKER_HUB && !name.contains('/') {
            format!("library/{name}")
        } else {
            name.to_owned()
        },
        version,
    })
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let ok = !tag.is_empty()
        && tag.len() <= MAX_TAG_BYTES
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if ok {
        Ok(())
    } else {
        Err("a tag wants letters, digits, and . _ -")
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout { path, tag: None } => write!(f, "oci:{}", path.display()),
            Self::Layout {
                path,
                tag: Some(tag),
            } => write!(f, "oci:{}:{tag}", path.display()),
            Self::Archive { path, name: None } => write!(f, "docker-archive:{}", path.display()),
            Self::Archive {
                path,
                name: Some(name),
            } => write!(f, "docker-archive:{}:{name}", path.display()),
            Self::Registry {
                host,
                name,
                version: Version::Tag(tag),
            } => {
                write!(f, "{host}/{name}:{tag}")
            }
            Self::Registry {
                host,
                name,
                version: Version::Digest(digest),
            } => {
                write!(f, "{host}/{name}@{digest}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ImageRef, Version};
    use crate::image::Digest;

    #[test]
    fn references_round_trip() {
        let digest = Digest::of(b"x");
        for text in [
            "oci:/a/b".to_owned(),
            "oci:/a/b:v1".to_owned(),
            "docker-archive:/a/b.tar".to_owned(),
            "docker-archive:/a/b.tar:demo/app:1".to_owned(),
            "127.0.0.1:5000/demo/app:1.2".to_owned(),
            "registry.example/demo:1".to_owned(),
            "docker.io/library/debian:12".to_owned(),
            format!("localhost:5000/app@{digest}"),
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
        let both: ImageRef = format!("127.0.0.1:5000/a:t@{digest}").parse().unwrap();
        assert!(
            matches!(both, ImageRef::Registry { version: Version::Digest(d), .. } if d == digest)
        );
        let bare: ImageRef = "127.0.0.1:5000/a".parse().unwrap();
        assert!(
            matches!(bare, ImageRef::Registry { version: Version::Tag(t), .. } if t == "latest")
        );
        let short: ImageRef = "docker.io/debian".parse().unwrap();
        assert_eq!(short.to_string(), "docker.io/library/debian:latest");
    }

    #[test]
    fn references_that_could_leave_the_url_are_refused() {
        for bad in [
            "",
            "app",
            "app:1",
            "library/app",
            "oci:relative",
            "docker-archive:relative.tar",
            "docker-archive:/a:",
            "docker-archive:/a:x y",
            "oci:/a:b c",
            "127.0.0.1:5000/../x",
            "../x",
            "127.0.0.1:5000/a?b",
            "127.0.0.1:5000/A",
            "127.0.0.1:5000/",
            "user@host:1/a",
            "127.0.0.1:5000/a@sha256:00",
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }
}
