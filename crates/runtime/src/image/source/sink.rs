//! The file that a blob is written to and hashed on the way.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::check_digest;
use crate::image::digest::Digest;
use crate::image::error::{ImageError, io as io_error};
use crate::image::manifest::Descriptor;

/// The copy buffer: large enough that system calls are no cost.
const COPY_BYTES: usize = 256 << 10;

/// A file that is hashed while it is written.
pub(super) struct BlobSink {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
}

impl BlobSink {
    /// Starts anew, whatever lies there.
    pub(super) fn create(path: &Path) -> Result<Self, ImageError> {
        let file = File::create(path).map_err(io_error("create", path))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            hash: Sha256::new(),
            length: 0,
        })
    }

    /// Goes on where an earlier one was cut off; what lies there is hashed again.
    pub(super) fn resume(path: &Path, promised: &Descriptor) -> Result<Self, ImageError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io_error("open", path))?;
        let mut sink = Self {
            path: path.to_owned(),
            file,
            hash: Sha256::new(),
            length: 0,
        };
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let got = sink.file.read(&mut buffer);
            let got = got.map_err(io_error("read", path))?;
            if got == 0 {
                break;
            }
            sink.length += got as u64;
            sink.hash.update(buffer.get(..got).unwrap_or_default());
        }
        if sink.length > promised.size {
            sink.restart()?;
        }
        Ok(sink)
    }

    /// Forgets all that was written.
    pub(super) fn restart(&mut self) -> Result<(), ImageError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(io_error("empty", &self.path))?;
        self.hash = Sha256::new();
        self.length = 0;
        Ok(())
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn write(&mut self, bytes: &[u8], promised: &Descriptor) -> Result<(), ImageError> {
        if self.length + bytes.len() as u64 > promised.size {
            self.length += bytes.len() as u64;
            return Err(self.wrong_size(promised));
        }
        let written = self.file.write_all(bytes);
        written.map_err(io_error("write", &self.path))?;
        self.length += bytes.len() as u64;
        self.hash.update(bytes);
        Ok(())
    }

    /// Checks that what was written is what was promised.
    pub(super) fn finish(&self, promised: &Descriptor) -> Result<(), ImageError> {
        if self.length != promised.size {
            return Err(self.wrong_size(promised));
        }
        let found = Digest::from_bytes(self.hash.clone().finalize().into());
        check_digest("a blob", promised.digest, found)
    }

    pub(super) fn wrong_size(&self, promised: &Descriptor) -> ImageError {
        let Descriptor { digest, size, .. } = *promised;
        ImageError::SizeMismatch {
            digest,
            wanted: size,
            found: self.length,
        }
    }
}

/// Copies all of `source`, which `name` names in errors, into `to`.
pub(super) fn copy_in(
    source: &mut dyn io::Read,
    name: &Path,
    promised: &Descriptor,
    to: &Path,
) -> Result<(), ImageError> {
    let mut sink = BlobSink::create(to)?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        let got = source.read(&mut buffer).map_err(io_error("read", name))?;
        if got == 0 {
            return sink.finish(promised);
        }
        sink.write(buffer.get(..got).unwrap_or_default(), promised)?;
    }
}
