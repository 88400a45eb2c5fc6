//! Every parser of bytes that strangers send about images, as a function of those bytes alone: what fuzzing calls.
//!
//! Each is the very code that a pull runs. What they return is of no use beyond whether it worked.

use std::io::Cursor;

use super::error::ImageError;
use super::limits::ImageLimits;
use super::manifest::{Document, ImageConfig, choose_platform};
use super::registry::{AuthFile, Challenge, ContentRange, Token};
use super::source::{list_archive, parse_archive_items};
use super::unpack::{Budget, read_only};

/// Enough for any input that fuzzing finds, and small enough that it goes on to the next.
const LIMITS: ImageLimits = ImageLimits {
    layers: 127,
    blob_bytes: 32 << 30,
    unpacked_bytes: 64 << 20,
    entries: 10_000,
    ratio: 100,
    document_bytes: 4 << 20,
};

/// Reads an index or a manifest, and chooses or checks what a pull would.
///
/// # Errors
/// What is wrong with it.
pub fn manifest(bytes: &[u8]) -> Result<(), ImageError> {
    let document = Document::parse("the manifest", bytes)?;
    match &document.manifests {
        Some(manifests) => choose_platform(manifests).map(drop),
        None => document.into_manifest(&LIMITS).map(drop),
    }
}

/// Reads a configuration for so many layers.
///
/// # Errors
/// What is wrong with it.
pub fn config(bytes: &[u8], layers: usize) -> Result<(), ImageError> {
    ImageConfig::parse(bytes, layers).map(drop)
}

/// Reads a layer, packed or not, to its end, without making files.
///
/// # Errors
/// What is wrong with it.
pub fn layer(bytes: &[u8]) -> Result<(), ImageError> {
    read_only(bytes, &mut Budget::new(LIMITS))
}

/// Lists a docker archive.
///
/// # Errors
/// What is wrong with it.
pub fn archive(bytes: &[u8]) -> Result<(), ImageError> {
    list_archive(&mut Cursor::new(bytes)).map(drop)
}

/// Reads an archive's `manifest.json`.
///
/// # Errors
/// What is wrong with it.
pub fn archive_manifest(bytes: &[u8]) -> Result<(), ImageError> {
    parse_archive_items(bytes).map(drop)
}

/// Reads what a registry says with a refusal, or with a part of a blob.
pub fn headers(text: &str) {
    drop(Challenge::parse(text));
    let _ = ContentRange::parse(text);
}

/// Reads a token server's answer, and a file of credentials.
pub fn credentials(bytes: &[u8]) {
    drop(Token::parse(bytes));
    drop(AuthFile::parse(bytes));
}
