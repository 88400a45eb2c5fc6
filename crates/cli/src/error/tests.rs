//! Every code has an exit code, a meaning and a way out.

use std::collections::BTreeSet;

use super::{CODES, Failure, exit, find, nearest};

#[test]
fn every_problem_of_the_api_is_explained() {
    // `api::Code` holds every `Reject` and `Inadmissible`: its conversions are exhaustive matches.
    for code in api::Code::ALL {
        assert!(
            find(code.as_str()).is_some(),
            "{code} has no row in codes.rs"
        );
    }
}

#[test]
fn every_code_that_we_use_is_explained() {
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let text = std::fs::read_to_string(path).unwrap();
                let uses = text.split("Failure::new(").skip(1).map(str::trim_start);
                let codes = uses.filter_map(|rest| {
                    rest.strip_prefix('"')?
                        .split('"')
                        .next()
                        .map(ToOwned::to_owned)
                });
                found.extend(codes);
            }
        }
    }
    assert!(found.len() > 20, "{found:?}");
    for code in found {
        assert!(find(&code).is_some(), "{code} has no row in codes.rs");
    }
}

#[test]
fn every_row_is_complete_and_alone() {
    let published: BTreeSet<u8> = exit::TABLE.iter().map(|(code, _)| *code).collect();
    let mut seen = BTreeSet::new();
    for row in CODES {
        assert!(seen.insert(row.name), "{} stands twice", row.name);
        assert!(!row.ways.is_empty(), "{} has no way out", row.name);
        assert!(
            published.contains(&row.exit) && row.exit != exit::DONE,
            "{}: exit {}",
            row.name,
            row.exit
        );
        assert!(
            row.meaning.ends_with('.'),
            "{}: a meaning is a sentence",
            row.name
        );
        let plain = |text: &str| !text.ends_with('.') && text.starts_with(char::is_lowercase);
        assert!(
            row.ways.iter().all(|way| plain(way)),
            "{}: {:?}",
            row.name,
            row.ways
        );
    }
}

#[test]
fn failure_without_a_hint_takes_the_first_way_out() {
    let failure = Failure::new("port-taken", "port 7070 is taken");
    assert_eq!(failure.hints(), ["choose another: --port 7171"]);
    assert_eq!(failure.hint("own").hints(), ["own"]);
}

#[test]
fn exit_code_of_a_foreign_code_is_that_of_a_failure() {
    assert_eq!(Failure::new("from-the-future", "x").exit(), exit::FAILED);
    assert_eq!(Failure::new("no-match", "x").exit(), exit::NO_MATCH);
    assert_eq!(Failure::new("no-match", "x").exiting(42).exit(), 42);
}

#[test]
fn suggestions_are_near_or_absent() {
    assert_eq!(nearest("offfers", ["offers", "lease"]), Some("offers"));
    assert_eq!(nearest("zzz", ["offers", "lease"]), None);
}
