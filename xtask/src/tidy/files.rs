//! Big blobs, manifests without our lints, stale generated files.

use super::Finding;
use super::repo::Repo;

/// A file of a repository is read by people; data of this size is made on the spot instead.
const BLOB_BYTES_MAX: u64 = 512 * 1024;

/// A file that a program writes and that is committed so that it can be read without running it.
struct Generated {
    path: &'static str,
    /// How to write it anew.
    chore: &'static str,
    /// Its text as it should be now.
    text: fn(&Repo) -> String,
}

/// The generated files of this repository; those that need a built binary have a snapshot test
/// beside the code instead.
const GENERATED: &[Generated] = &[];

/// Reports files that are too large to be source.
pub(crate) fn blobs_are_small(repo: &Repo) -> Vec<Finding> {
    let large = repo
        .files
        .iter()
        .filter(|file| file.size_bytes > BLOB_BYTES_MAX);
    large
        .map(|file| {
            let what = format!(
                "{} KiB, {} at most",
                file.size_bytes / 1024,
                BLOB_BYTES_MAX / 1024
            );
            Finding::failure("blobs", &file.path, what)
        })
        .collect()
}

/// Reports crates of the workspace that do not take its lints.
pub(crate) fn lints_are_inherited(repo: &Repo) -> Vec<Finding> {
    let manifests = repo
        .files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"));
    manifests
        .filter(|file| !is_workspace_of_its_own(file.text()) && !inherits_lints(file.text()))
        .map(|file| Finding::failure("lints", &file.path, "lacks [lints] workspace = true"))
        .collect()
}

/// Reports generated files that differ from what would be generated now.
pub(crate) fn generated_files_are_fresh(repo: &Repo) -> Vec<Finding> {
    stale(repo, GENERATED)
}

fn stale(repo: &Repo, generated: &[Generated]) -> Vec<Finding> {
    let stale = generated.iter().filter(|it| {
        repo.file(it.path)
            .is_none_or(|file| file.text() != (it.text)(repo))
    });
    stale
        .map(|it| Finding::failure("generated", it.path, format!("stale; run {}", it.chore)))
        .collect()
}

fn is_workspace_of_its_own(manifest: &str) -> bool {
    manifest.lines().any(|line| line.trim() == "[workspace]")
}

fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let line = line.replace(' ', "");
        if line == "lints.workspace=true" || section == "[lints]" && line == "workspace=true" {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::repo::File;
    use super::super::repo::made_up::files;
    use super::*;

    #[test]
    fn big_blobs_are_found() {
        let blob = |size_bytes| Repo {
            files: vec![File {
                path: "a.bin".to_owned(),
                size_bytes,
                content: None,
            }],
            ..Repo::default()
        };
        assert_eq!(blobs_are_small(&blob(BLOB_BYTES_MAX)), []);
        assert_eq!(blobs_are_small(&blob(BLOB_BYTES_MAX + 1)).len(), 1);
    }

    #[test]
    fn manifest_without_lints_is_found() {
        let without = "[package]\nname = \"a\"\n\n[dependencies]\nworkspace = true\n";
        let with = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(
            lints_are_inherited(&files(&[("crates/a/Cargo.toml", without)])).len(),
            1
        );
        assert_eq!(
            lints_are_inherited(&files(&[("crates/a/Cargo.toml", with)])),
            []
        );
    }

    #[test]
    fn stale_file_is_found() {
        let generated = [Generated {
            path: "list.md",
            chore: "a chore",
            text: |_| "new\n".to_owned(),
        }];
        assert_eq!(stale(&files(&[("list.md", "old\n")]), &generated).len(), 1);
        assert_eq!(stale(&files(&[]), &generated).len(), 1);
        assert_eq!(stale(&files(&[("list.md", "new\n")]), &generated), []);
    }
}
