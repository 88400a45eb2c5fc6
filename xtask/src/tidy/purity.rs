//! What `market` must not mention: whoever replays its history must get the same bytes.

use super::Finding;
use super::repo::{File, Repo};
use super::rust::{Token, What, code_and_test_modules};

/// Where the rule holds.
const SOURCES: &str = "crates/market/src/";

/// Words that stand for something impure wherever they appear, and why.
const WORDS: &[(&str, &str)] = &[
    (
        "HashMap",
        "its order differs from run to run; take BTreeMap",
    ),
    (
        "HashSet",
        "its order differs from run to run; take BTreeSet",
    ),
    ("RandomState", "it is random"),
    ("DefaultHasher", "its result may change with the compiler"),
    (
        "f32",
        "floats round differently from place to place; take an integer",
    ),
    (
        "f64",
        "floats round differently from place to place; take an integer",
    ),
    ("Instant", "time comes in with the block"),
    ("SystemTime", "time comes in with the block"),
    ("thread_local", "state lives in Market"),
    ("println", "whoever acts may speak"),
    ("eprintln", "whoever acts may speak"),
    ("stdin", "a transaction carries all there is to know"),
    ("stdout", "whoever acts may speak"),
    ("stderr", "whoever acts may speak"),
    ("tokio", "market waits for nothing"),
    ("getrandom", "randomness comes in with the block"),
];

/// Modules of the standard library that are impure as a whole. `io` is not among them: its traits
/// and errors appear in the signatures of every codec.
const MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread", "time"];

/// Checks every source of `market`, except for what is compiled for tests only.
pub(crate) fn market_is_pure(repo: &Repo) -> Vec<Finding> {
    let mut sources = Vec::new();
    let mut test_files = Vec::new();
    for file in repo.below(SOURCES).filter(|file| file.extension() == "rs") {
        let (code, modules) = code_and_test_modules(file.text());
        let folder = module_folder(&file.path);
        test_files.extend(modules.iter().map(|module| format!("{folder}{module}")));
        sources.push((file, code));
    }
    let for_tests = |file: &File| {
        test_files.iter().any(|module| {
            file.path
                .strip_prefix(module.as_str())
                .is_some_and(|rest| rest.starts_with(['.', '/']))
        })
    };
    let pure = sources.iter().filter(|(file, _)| !for_tests(file));
    pure.flat_map(|(file, code)| findings(&file.path, code))
        .collect()
}

fn findings(path: &str, code: &[Token]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |token: &Token, what: String| {
        findings.push(Finding::failure(
            "purity",
            format!("{path}:{}", token.line),
            what,
        ));
    };
    for (index, token) in code.iter().enumerate() {
        match &token.what {
            What::Float => find(token, "a float; take an integer".to_owned()),
            What::Word(word) if word == "std" || word == "core" => {
                for module in modules_after(&code[index + 1..]) {
                    find(token, format!("std::{module} is not for market"));
                }
            }
            What::Word(word) => {
                if let Some((_, why)) = WORDS.iter().find(|(banned, _)| banned == word) {
                    find(token, format!("{word}: {why}"));
                }
            }
            What::Whole | What::Mark(_) => {}
        }
    }
    findings
}

/// Gives the impure modules that a path takes from the standard library, `std` itself before it.
fn modules_after(code: &[Token]) -> Vec<&'static str> {
    let [first, second, rest @ ..] = code else {
        return Vec::new();
    };
    if !first.is_mark(':') || !second.is_mark(':') {
        return Vec::new();
    }
    let known = |token: &Token| MODULES.iter().copied().find(|module| token.is_word(module));
    if !rest.first().is_some_and(|token| token.is_mark('{')) {
        return rest.first().and_then(known).into_iter().collect();
    }
    // `std::{a, b::{c}}`: the names right behind an opening brace or comma at the first level.
    let (mut depth, mut modules, mut expected) = (0, Vec::new(), false);
    for token in rest {
        if token.is_mark('{') {
            depth += 1;
        } else if token.is_mark('}') {
            depth -= 1;
        } else if depth == 1 && expected {
            modules.extend(known(token));
        }
        expected = token.is_mark('{') || token.is_mark(',');
        if depth == 0 {
            break;
        }
    }
    modules
}

/// Gives the folder in which a file's modules lie.
fn module_folder(path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match name {
        "lib.rs" | "mod.rs" => format!("{folder}/"),
        _ => format!("{}/", path.trim_end_matches(".rs")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::repo::made_up::files;
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let found = market_is_pure(&files(&[("crates/market/src/lib.rs", text)]));
        found.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn impure_words_are_found() {
        for text in [
            "use std::collections::HashMap;",
            "fn f(x: f64) {}",
            "let x = 1.5;",
            "std::thread::spawn(f);",
            "let now = Instant::now();",
            "use std::{fmt, time::Duration};",
            "use std::{cell::Cell, env};",
            "use core::time::Duration;",
            "use ::std::fs::File;",
            "std::io::stdout().flush();",
        ] {
            assert_eq!(places(text).len(), 1, "{text}");
        }
    }

    #[test]
    fn pure_code_passes() {
        let text = "//! No HashMap, no f64.\nuse std::{collections::BTreeMap, fmt};\n\
                    const NAME: &str = \"std::fs\"; fn time(env: u64) -> u64 { env.0.1 }\n\
                    use std::io::{Read, Write};";
        assert_eq!(places(text), Vec::<String>::new());
    }

    #[test]
    fn tests_may_do_as_they_like() {
        let repo = files(&[
            (
                "crates/market/src/lib.rs",
                "mod money;\n#[cfg(test)]\nmod model;",
            ),
            ("crates/market/src/model.rs", "use std::fs;"),
            ("crates/market/src/model/deep.rs", "use std::fs;"),
            (
                "crates/market/src/money.rs",
                "#[cfg(test)]\nmod tests { use std::fs; }",
            ),
            ("crates/node/src/lib.rs", "use std::fs;"),
        ]);
        assert_eq!(market_is_pure(&repo), []);
    }

    #[test]
    fn place_has_the_line() {
        let text = "//! Point.\n\nuse std::net::TcpStream;";
        let found = market_is_pure(&files(&[("crates/market/src/a.rs", text)]));
        assert_eq!(found[0].place, "crates/market/src/a.rs:3");
    }
}
