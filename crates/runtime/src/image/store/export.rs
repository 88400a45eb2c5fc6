//! Handing an image on, as an archive that container engines load.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use serde::Serialize;

use super::Store;
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::manifest::{Document, ImageConfig};

/// The list that such an archive begins with.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    config: String,
    repo_tags: [String; 1],
    layers: Vec<String>,
}

impl Store {
    /// Writes the image to `path` as a docker-archive that names it `name`; `false` where it is not wholly here. Only in
    /// flat form, which keeps packed layers. Blocks.
    pub(crate) fn export(
        &self,
        digest: &Digest,
        name: &str,
        path: &Path,
    ) -> Result<bool, ImageError> {
        let _pin = self.pin_image(digest);
        let Some(manifest) = self.document(digest) else {
            return Ok(false);
        };
        let manifest =
            Document::parse("the manifest", &manifest)?.into_manifest(&self.inner.limits)?;
        let Some(config) = self.document(&manifest.config.digest) else {
            return Ok(false);
        };
        let diff_ids = ImageConfig::parse(&config, manifest.layers.len())?.diff_ids;
        let layers: Vec<_> = manifest.layers.iter().zip(&diff_ids).collect();
        if !layers
            .iter()
            .all(|(l, _)| self.blob_path(&l.digest).is_file())
        {
            return Ok(false);
        }
        let entry = Entry {
            config: format!("{}.json", manifest.config.digest.hex()),
            repo_tags: [name.to_owned()],
            layers: diff_ids.iter().map(layer_name).collect(),
        };
        let write = || -> io::Result<()> {
            let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
            add(
                &mut archive,
                "manifest.json",
                &serde_json::to_vec(&[&entry])?,
            )?;
            add(&mut archive, &entry.config, &config)?;
            let mut named = std::collections::BTreeSet::new();
            for (layer, diff_id) in layers {
                // An image may stack one layer twice; the archive holds it once.
                if named.insert(diff_id) {
                    let mut blob = File::open(self.blob_path(&layer.digest))?;
                    archive.append_file(layer_name(diff_id), &mut blob)?;
                }
            }
            archive.into_inner()?.flush()
        };
        write().map_err(io_error("write", path))?;
        Ok(true)
    }
}

fn layer_name(diff_id: &Digest) -> String {
    format!("{}.tar", diff_id.hex())
}

fn add(archive: &mut tar::Builder<impl io::Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, name, bytes)
}
