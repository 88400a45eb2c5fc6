//! The demo's program as one static file, which is all that its image holds.
//!
//! It is built for a named target, whose folder is its own: the ordinary build of the workspace
//! makes a dynamic `target/release/tradewind-demo` and never touches this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::shop::{Shop, Usage, output, say, step};

/// The file beside `tradewind` in the release folder.
const FILE_NAME: &str = "tradewind-demo-static";

/// Builds the program and says where it is.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    if !words.is_empty() {
        return Err(Usage("workload takes nothing".to_owned()).into());
    }
    let path = build(shop)?;
    say(&format!("  {} is static", path.display()));
    Ok(())
}

/// Builds the program and gives its path, after checking that it needs no other file to run.
pub(crate) fn build(shop: &Shop) -> Result<PathBuf> {
    let triple = host_triple()?;
    step(&mut shop.cargo(&[
        "rustc",
        "--release",
        "--locked",
        "--package=workload",
        "--bin=tradewind-demo",
        &format!("--target={triple}"),
        "--",
        "-Ctarget-feature=+crt-static",
        "-Cstrip=symbols",
    ]))?;
    let target = shop.target()?;
    let built = target.join(&triple).join("release/tradewind-demo");
    let bytes = fs::read(&built).with_context(|| format!("could not read {}", built.display()))?;
    if let Some(loader) = loader(&bytes)? {
        bail!("{} is not static: it asks for {loader}", built.display());
    }
    let path = target.join("release").join(FILE_NAME);
    place(&built, &path)?;
    Ok(path)
}

/// Copies and renames, so that whoever looks sees the old file or the new one, whole.
fn place(from: &Path, to: &Path) -> Result<()> {
    let draft = to.with_extension(format!("draft-{}", std::process::id()));
    fs::copy(from, &draft)
        .and_then(|_bytes| fs::rename(&draft, to))
        .with_context(|| format!("could not copy {} to {}", from.display(), to.display()))
}

/// Gives the target that this machine's compiler builds for by default.
pub(crate) fn host_triple() -> Result<String> {
    let text = output(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// Gives the loader that a 64-bit little-endian ELF program asks for; a static one asks for none.
///
/// # Errors
/// When the bytes are no such program.
/// # Source
/// elf(5): the program header of type `PT_INTERP`.
fn loader(elf: &[u8]) -> Result<Option<String>> {
    const PT_INTERP: u64 = 3;
    ensure!(
        elf.starts_with(b"\x7fELF\x02\x01"),
        "no 64-bit little-endian ELF file"
    );
    let table = number(elf, 0x20, 8)?;
    let entry_size = number(elf, 0x36, 2)?;
    let entries = number(elf, 0x38, 2)?;
    for entry in 0..entries {
        let at = table
            .checked_add(entry * entry_size)
            .context("program header out of range")?;
        if number(elf, at, 4)? == PT_INTERP {
            let (start, length) = (number(elf, at + 8, 8)?, number(elf, at + 32, 8)?);
            let path = slice(elf, start, length)?;
            return Ok(Some(
                String::from_utf8_lossy(path)
                    .trim_end_matches('\0')
                    .to_owned(),
            ));
        }
    }
    Ok(None)
}

fn number(bytes: &[u8], at: u64, length: u64) -> Result<u64> {
    let digits = slice(bytes, at, length)?.iter().rev();
    Ok(digits.fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

fn slice(bytes: &[u8], at: u64, length: u64) -> Result<&[u8]> {
    let start = usize::try_from(at).ok();
    let end = at
        .checked_add(length)
        .and_then(|end| usize::try_from(end).ok());
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .context("ELF file cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_program_asks_for_a_loader() {
        // This test itself is one.
        let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
        let loader = loader(&elf).unwrap().unwrap();
        assert!(loader.starts_with('/') && loader.contains("ld"), "{loader}");
    }

    #[test]
    fn damaged_files_are_refused() {
        let elf = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(loader(b"#!/bin/sh").is_err());
        assert!(loader(&elf[..0x30]).is_err());
        let mut wild = elf[..0x40].to_vec();
        wild[0x20..0x28].fill(0xff);
        assert!(loader(&wild).is_err());
    }
}
