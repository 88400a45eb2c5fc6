//! The documents of an image: index, manifest, configuration.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::error::ImageError;
use super::limits::ImageLimits;

pub(super) const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
pub(super) const PLAIN_LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";
pub(super) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(super) const DOCKER_LIST_TYPE: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";
pub(super) const DOCKER_MANIFEST_TYPE: &str =
    "application/vnd.docker.distribution.manifest.v2+json";
/// Where a layout's index keeps the tag of an image.
pub(super) const TAG_ANNOTATION: &str = "org.opencontainers.image.ref.name";

/// An error names this many of an image's platforms.
const PLATFORMS_NAMED: usize = 12;
/// An image for each platform of Debian makes 20; signatures and the like double that.
const INDEX_ENTRIES_MAX: usize = 1_000;

/// Points to a blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) os: String,
    pub(super) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl Platform {
    /// Returns this machine's, in the words that images use.
    pub(super) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: None,
        }
    }

    /// Tells how well a program for `self` runs on `here`: less is better, `None` is not at all. Of the variants only
    /// the one that every machine of the architecture has is taken: what this one has on top is not looked up.
    fn fitness(&self, here: &Self) -> Option<u8> {
        if (&self.os, &self.architecture) != (&here.os, &here.architecture) {
            return None;
        }
        match self.variant.as_deref() {
            None | Some("") => Some(0),
            Some("v1" | "v8") => Some(1),
            Some(_) => None,
        }
    }
}

/// Chooses the image for this machine from an index.
pub(super) fn choose_platform(all: &[Descriptor]) -> Result<&Descriptor, ImageError> {
    let here = Platform::here();
    let fitting = all.iter().filter_map(|descriptor| {
        let fitness = descriptor.platform.as_ref()?.fitness(&here)?;
        Some((fitness, descriptor))
    });
    let found = fitting.min_by_key(|(fitness, _)| *fitness);
    found
        .map(|(_, descriptor)| descriptor)
        .ok_or_else(|| no_platform(&here, all.iter().filter_map(|d| d.platform.as_ref())))
}

fn no_platform<'a>(here: &Platform, others: impl Iterator<Item = &'a Platform>) -> ImageError {
    // Builders put signatures and the like beside the images, for a platform of that name.
    let known = others.filter(|p| p.os != "unknown");
    let mut available: Vec<String> = known.take(PLATFORMS_NAMED).map(short_name).collect();
    if available.is_empty() {
        available.push("platforms it does not name".to_owned());
    }
    ImageError::NoPlatform {
        platform: here.to_string(),
        available,
    }
}

fn short_name(platform: &Platform) -> String {
    platform.to_string().chars().take(40).collect()
}

/// An index or a manifest: which of the two, its fields tell, as old registries leave out the media type.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Document {
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// What an image consists of.
#[derive(Clone, Debug)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Document {
    pub(super) fn parse(what: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        let document: Self =
            serde_json::from_slice(bytes).map_err(|e| malformed(what, e.to_string()))?;
        let entries = document.manifests.as_ref().map_or(0, Vec::len);
        if entries > INDEX_ENTRIES_MAX {
            return Err(ImageError::TooMuch {
                what: "entries in its index",
                limit: INDEX_ENTRIES_MAX as u64,
            });
        }
        Ok(document)
    }

    /// Returns the manifest, within `limits`.
    pub(super) fn into_manifest(self, limits: &ImageLimits) -> Result<Manifest, ImageError> {
        let (Some(config), Some(layers)) = (self.config, self.layers) else {
            return Err(malformed(
                "the manifest",
                "config or layers are missing".to_owned(),
            ));
        };
        if layers.len() > limits.layers {
            return Err(ImageError::TooMuch {
                what: "layers",
                limit: limits.layers as u64,
            });
        }
        if layers.iter().any(|l| l.size > limits.blob_bytes) {
            return Err(ImageError::TooMuch {
                what: "bytes in a layer",
                limit: limits.blob_bytes,
            });
        }
        if config.size > limits.document_bytes {
            let limit = limits.document_bytes;
            return Err(ImageError::TooMuch {
                what: "bytes in its configuration",
                limit,
            });
        }
        Ok(Manifest { config, layers })
    }
}

/// What an image says about running it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) workdir: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) diff_ids: Vec<Digest>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) config: Option<ConfigSection>,
    pub(super) rootfs: RootfsSection,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigSection {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct RootfsSection {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration and checks that it fits a manifest of `layers` layers and this machine.
    pub(super) fn parse(bytes: &[u8], layers: usize) -> Result<Self, ImageError> {
        let what = "the configuration";
        let file: ConfigFile =
            serde_json::from_slice(bytes).map_err(|e| malformed(what, e.to_string()))?;
        let here = Platform::here();
        let other = |said: &str, ours: &str| !said.is_empty() && said != ours;
        if other(&file.os, &here.os) || other(&file.architecture, &here.architecture) {
            let said = Platform {
                os: file.os,
                architecture: file.architecture,
                variant: None,
            };
            return Err(no_platform(&here, std::iter::once(&said)));
        }
        if file.rootfs.diff_ids.len() != layers {
            let have = file.rootfs.diff_ids.len();
            return Err(malformed(
                what,
                format!("{have} diff-ids for {layers} layers"),
            ));
        }
        let section = file.config.unwrap_or_default();
        let env = section.env.unwrap_or_default();
        Ok(Self {
            entrypoint: section.entrypoint.unwrap_or_default(),
            args: section.cmd.unwrap_or_default(),
            env: env
                .iter()
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            workdir: section.working_dir.filter(|w| !w.is_empty()),
            user: section.user.filter(|u| !u.is_empty()),
            diff_ids: file.rootfs.diff_ids,
        })
    }
}

pub(super) fn malformed(what: &str, problem: String) -> ImageError {
    ImageError::Malformed {
        what: what.to_owned(),
        problem,
    }
}
