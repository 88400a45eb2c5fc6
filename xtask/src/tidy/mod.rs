//! Rules about the repository that no other tool checks.
//!
//! [`Repo::load`] reads everything once; each rule is a pure function from that to findings, so
//! that its test can show it failing on a repository that exists nowhere.
//!
//! ```text
//! arrows.rs     which crate may depend on which; who may use the engine; how many packages
//! purity.rs     what `market` must not mention
//! rust.rs       just enough of a Rust lexer for that
//! text.rs       long files, marks without an issue, names that say nothing
//! files.rs      big blobs, manifests without our lints, stale generated files
//! links.rs      links between documents
//! repo.rs       what the rules look at
//! ```

mod arrows;
mod files;
mod links;
mod purity;
mod repo;
mod rust;
mod text;

use anyhow::{Result, bail};

use self::repo::Repo;
use crate::shop::{Shop, Usage, say};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Whether it fails the check.
    weight: Weight,
    /// The rule's name.
    rule: &'static str,
    /// A file, with a line where there is one, or a crate.
    place: String,
    /// What is wrong, and what to do about it.
    what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Worth knowing.
    Warning,
    /// Not to be committed.
    Failure,
}

impl Finding {
    fn failure(rule: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            weight: Weight::Failure,
            rule,
            place: place.into(),
            what: what.into(),
        }
    }

    fn warning(rule: &'static str, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            weight: Weight::Warning,
            ..Self::failure(rule, place, what)
        }
    }
}

const RULES: &[fn(&Repo) -> Vec<Finding>] = &[
    arrows::directions,
    arrows::engine_stays_inside,
    arrows::market_stays_small,
    arrows::packages_are_few,
    purity::market_is_pure,
    text::files_are_short,
    text::marks_name_an_issue,
    text::names_say_something,
    files::blobs_are_small,
    files::lints_are_inherited,
    files::generated_files_are_fresh,
    links::lead_somewhere,
];

/// Prints what is not as it should be.
///
/// # Errors
/// When there are failures, or the repository cannot be read.
pub(crate) fn run(shop: &Shop, words: &[&str]) -> Result<()> {
    if !words.is_empty() {
        return Err(Usage("tidy takes nothing".to_owned()).into());
    }
    let (warnings, failures) = check(shop)?;
    for line in warnings.iter().chain(&failures) {
        say(line);
    }
    if !failures.is_empty() {
        bail!("tidy: {} failures", failures.len());
    }
    say(&format!("tidy: {} rules hold", RULES.len()));
    Ok(())
}

/// Gives the warnings and the failures of the repository that this program belongs to, a line each.
///
/// # Errors
/// When the repository cannot be read.
pub fn check_here() -> Result<(Vec<String>, Vec<String>)> {
    check(&Shop::find()?)
}

fn check(shop: &Shop) -> Result<(Vec<String>, Vec<String>)> {
    let repo = Repo::load(shop)?;
    let findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&repo)).collect();
    let lines = |weight: Weight, word: &str| {
        let found = findings.iter().filter(|finding| finding.weight == weight);
        found
            .map(|it| format!("{word} [{}] {}: {}", it.rule, it.place, it.what))
            .collect()
    };
    Ok((
        lines(Weight::Warning, "warning"),
        lines(Weight::Failure, "failure"),
    ))
}

/// Tells whether any library of ours has code in its documentation that a doc test would run.
pub(crate) fn has_doc_tests(shop: &Shop) -> Result<bool> {
    Ok(Repo::load(shop)?
        .files
        .iter()
        .any(|file| rust::has_doc_test(&file.path, file.text())))
}
