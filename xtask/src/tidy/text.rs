//! Long files, marks without an issue, names that say nothing.

use super::Finding;
use super::repo::{File, Repo};

/// A file longer than this is hard to hold in mind; say so.
const LINES_WARN: usize = 1000;
/// A file longer than this is split before it is committed.
const LINES_MAX: usize = 1500;

/// What is written by hand, line by line.
const CODE: [&str; 7] = ["rs", "sh", "py", "ts", "tsx", "js", "css"];

/// Names that tell nothing of what is inside; a helper lives beside its only user.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];
/// Names that tell nothing when they are a whole crate's; within one, they say which part it is.
const EMPTY_CRATE_NAMES: [&str; 3] = ["core", "shared", "types"];

/// Marks of unfinished work that may stay when they name an issue, and those that may not.
const MARK_WITH_ISSUE: &str = concat!("TO", "DO");
const MARKS_NEVER: [&str; 3] = [
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
];

/// Reports files that have grown too long.
pub(crate) fn files_are_short(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo
        .files
        .iter()
        .filter(|file| CODE.contains(&file.extension()))
    {
        let lines = file.text().lines().count();
        let what = format!("{lines} lines; split it by subject");
        if lines > LINES_MAX {
            findings.push(Finding::failure("length", &file.path, what));
        } else if lines > LINES_WARN {
            findings.push(Finding::warning("length", &file.path, what));
        }
    }
    findings
}

/// Reports marks of unfinished work that name no issue: `TO-DO(#12)` does.
pub(crate) fn marks_name_an_issue(repo: &Repo) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in repo.files.iter().filter(|file| has_marks(file)) {
        for (index, line) in file.text().lines().enumerate() {
            let place = || format!("{}:{}", file.path, index + 1);
            for rest in after_word(line, MARK_WITH_ISSUE) {
                if !names_issue(rest) {
                    let what = format!("{MARK_WITH_ISSUE} without an issue, as in (#12)");
                    findings.push(Finding::failure("marks", place(), what));
                }
            }
            for mark in MARKS_NEVER {
                if after_word(line, mark).next().is_some() {
                    let what = format!("{mark}: open an issue and name it, or mend it");
                    findings.push(Finding::failure("marks", place(), what));
                }
            }
        }
    }
    findings
}

/// Reports crates and modules with names that say nothing.
pub(crate) fn names_say_something(repo: &Repo) -> Vec<Finding> {
    let says_nothing = |name: &str| EMPTY_NAMES.contains(&name);
    let crates = repo.crates.iter().map(|member| member.name.as_str());
    let crates = crates.filter(|name| says_nothing(name) || EMPTY_CRATE_NAMES.contains(name));
    let modules = repo.files.iter().filter_map(|file| {
        let (_, inside) = file.path.strip_suffix(".rs")?.split_once("src/")?;
        let name = inside.strip_suffix("/mod").unwrap_or(inside);
        Some((file.path.as_str(), name.rsplit('/').next().unwrap_or(name)))
    });
    crates
        .map(|name| (name, name))
        .chain(modules.filter(|(_, name)| says_nothing(name)))
        .map(|(place, name)| {
            let what = format!("\"{name}\" says nothing; name the subject, or move it to its user");
            Finding::failure("names", place, what)
        })
        .collect()
}

fn has_marks(file: &File) -> bool {
    CODE.contains(&file.extension())
        || ["toml", "yml", "yaml"].contains(&file.extension())
        || file.path == "Makefile"
}

/// Gives what follows each appearance of a whole word.
fn after_word<'line>(line: &'line str, word: &'line str) -> impl Iterator<Item = &'line str> {
    line.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (line.get(..at)?, line.get(at + word.len()..)?);
        let part = |it: char| it.is_alphanumeric() || it == '_';
        (!before.ends_with(part) && !after.starts_with(part)).then_some(after)
    })
}

/// Tells whether a mark is followed by `(#12)`.
fn names_issue(rest: &str) -> bool {
    let number = rest
        .strip_prefix("(#")
        .and_then(|rest| rest.split_once(')'));
    number.is_some_and(|(number, _)| number.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::super::repo::made_up::{files, one_crate};
    use super::*;

    #[test]
    fn long_files_are_found() {
        let weights = |lines: usize| {
            let found = files_are_short(&files(&[("a.rs", &"x\n".repeat(lines))]));
            found
                .iter()
                .map(|finding| finding.weight)
                .collect::<Vec<_>>()
        };
        assert_eq!(weights(LINES_WARN), []);
        assert_eq!(weights(LINES_WARN + 1), [Weight::Warning]);
        assert_eq!(weights(LINES_MAX + 1), [Weight::Failure]);
    }

    #[test]
    fn marks_without_an_issue_are_found() {
        let count = |line: &str| {
            let line = line.replace('~', "");
            marks_name_an_issue(&files(&[("a.rs", &line)])).len()
        };
        assert_eq!(count("// TO~DO: later"), 1);
        assert_eq!(count("// TO~DO(#x) later"), 1);
        assert_eq!(count("// FIX~ME"), 1);
        assert_eq!(count("// TO~DO(#12): later"), 0);
        assert_eq!(count("const TO~DOS: u8 = 1; // MASTO~DON"), 0);
    }

    #[test]
    fn empty_names_are_found() {
        let repo = files(&[
            ("crates/node/src/utils.rs", ""),
            ("crates/node/src/store/common/mod.rs", ""),
            ("crates/node/tests/it/common.rs", ""),
            ("crates/node/src/commons.rs", ""),
            ("crates/node/src/core.rs", ""),
        ]);
        assert_eq!(names_say_something(&repo).len(), 2);
        assert_eq!(names_say_something(&one_crate("common", &[])).len(), 1);
        assert_eq!(names_say_something(&one_crate("types", &[])).len(), 1);
    }
}
