//! What the rules look at: every file that git would take, and what Cargo knows of our crates.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shop::{Shop, output};

/// The repository, read once.
#[derive(Debug, Default)]
pub(crate) struct Repo {
    /// Files that git tracks, or would track; in order of their paths.
    pub(crate) files: Vec<File>,
    /// Our own crates.
    pub(crate) crates: Vec<Crate>,
}

/// A file with its path from the root, and its text if it is text of reasonable size.
#[derive(Debug, Default, Clone)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size_bytes: u64,
    pub(crate) content: Option<String>,
}

/// One of our crates.
#[derive(Debug, Default)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) needs: Vec<Need>,
}

/// A line among a crate's dependencies.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a dependency is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Build,
    Tests,
}

impl File {
    /// Gives the text; nothing for a file that has none.
    pub(crate) fn text(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }

    /// Gives what follows the last dot of the path.
    pub(crate) fn extension(&self) -> &str {
        self.path
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension)
    }
}

impl Repo {
    /// Reads the repository.
    ///
    /// # Errors
    /// When git or Cargo does not answer as they should.
    pub(crate) fn load(shop: &Shop) -> Result<Self> {
        Ok(Self {
            files: files(shop)?,
            crates: crates(&shop.metadata()?)?,
        })
    }

    /// Gives the file with this path.
    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Gives the files of one folder and those below it.
    pub(crate) fn below(&self, folder: &str) -> impl Iterator<Item = &File> {
        self.files
            .iter()
            .filter(move |file| file.path.starts_with(folder))
    }
}

fn files(shop: &Shop) -> Result<Vec<File>> {
    // The clone may belong to another user than the one who runs this, as in a container.
    let mut git = Command::new("git");
    git.current_dir(&shop.root)
        .args(["-c", "safe.directory=*", "ls-files", "-z"]);
    let paths = output(git.args(["--cached", "--others", "--exclude-standard"]))?;
    let mut paths: Vec<&str> = paths.split('\0').filter(|path| !path.is_empty()).collect();
    paths.sort_unstable();
    paths.dedup();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let full = shop.root.join(path);
        // A file that git still tracks but that was just removed, or a link to nowhere.
        let Ok(facts) = fs::metadata(&full) else {
            continue;
        };
        if !facts.is_file() {
            continue;
        }
        let bytes = fs::read(&full).with_context(|| format!("could not read {path}"))?;
        let content = String::from_utf8(bytes)
            .ok()
            .filter(|text| !text.contains('\0'));
        files.push(File {
            path: path.to_owned(),
            size_bytes: facts.len(),
            content,
        });
    }
    Ok(files)
}

fn crates(metadata: &Value) -> Result<Vec<Crate>> {
    let text = |value: &Value, name: &str| {
        let text = value[name].as_str().map(str::to_owned);
        text.with_context(|| format!("cargo metadata lacks a {name}"))
    };
    let list = |value: &Value, name: &str| {
        let list = value[name].as_array().cloned();
        list.with_context(|| format!("cargo metadata lacks {name}"))
    };
    let mut crates = Vec::new();
    for package in list(metadata, "packages")? {
        let mut needs = Vec::new();
        for need in list(&package, "dependencies")? {
            let kind = match need["kind"].as_str() {
                None => Kind::Normal,
                Some("build") => Kind::Build,
                Some(_) => Kind::Tests,
            };
            needs.push(Need {
                name: text(&need, "name")?,
                kind,
            });
        }
        crates.push(Crate {
            name: text(&package, "name")?,
            needs,
        });
    }
    Ok(crates)
}

/// What the tests of rules are made of.
#[cfg(test)]
pub(crate) mod made_up {
    use super::{Crate, File, Kind, Need, Repo};

    /// Makes a repository of files with these texts.
    pub(crate) fn files(files: &[(&str, &str)]) -> Repo {
        let files = files.iter().map(|(path, text)| File {
            path: (*path).to_owned(),
            size_bytes: text.len() as u64,
            content: Some((*text).to_owned()),
        });
        Repo {
            files: files.collect(),
            ..Repo::default()
        }
    }

    /// Makes a repository of one crate with these dependencies.
    pub(crate) fn one_crate(name: &str, needs: &[(&str, Kind)]) -> Repo {
        let needs = needs
            .iter()
            .map(|(name, kind)| Need {
                name: (*name).to_owned(),
                kind: *kind,
            })
            .collect();
        Repo {
            crates: vec![Crate {
                name: name.to_owned(),
                needs,
            }],
            ..Repo::default()
        }
    }
}
