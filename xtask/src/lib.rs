//! Every chore of the repository, behind `cargo xtask`.
//!
//! ```text
//! lib.rs       the table of chores, and the command line
//! shop.rs      where the repository lies; running other programs
//! chores.rs    fmt, lint, test, docs, soak
//! workload.rs  the demo's program as one static file
//! fuzz.rs      the fuzz targets with coverage
//! dist.rs      what a release holds
//! bench/       measurements, each a module with a line in the table of benches
//! tidy/        rules about the repository that no other tool checks
//! ```
//!
//! A chore prints what it runs, so that each step can be repeated by hand.

mod bench;
mod chores;
mod dist;
mod fuzz;
mod shop;
pub mod tidy;
mod workload;

use std::process::ExitCode;

use anyhow::Result;

use crate::shop::{Shop, Usage, say};

/// One chore: its name, what follows the name, what it is for, and how to do it.
struct Chore {
    name: &'static str,
    words: &'static str,
    about: &'static str,
    run: fn(&Shop, &[&str]) -> Result<()>,
}

const CHORES: &[Chore] = &[
    Chore {
        name: "fmt",
        words: "[--check]",
        about: "format the code, imports grouped; or say what is not formatted",
        run: chores::fmt,
    },
    Chore {
        name: "lint",
        words: "",
        about: "clippy on everything, warnings denied; cargo-deny where it is installed",
        run: chores::lint,
    },
    Chore {
        name: "tidy",
        words: "",
        about: "rules about the repository that no other tool checks",
        run: tidy::run,
    },
    Chore {
        name: "test",
        words: "",
        about: "everything that a submission must pass",
        run: chores::test,
    },
    Chore {
        name: "bench",
        words: "NAME [--json]",
        about: "measure something; without a name, list what there is",
        run: bench::run,
    },
    Chore {
        name: "openapi",
        words: "",
        about: "write the reference pages that are made from the code: OpenAPI and metrics",
        run: chores::openapi,
    },
    Chore {
        name: "soak",
        words: "[--minutes N]",
        about: "all tests over and over, the long ones too, with many more random cases",
        run: chores::soak,
    },
    Chore {
        name: "fuzz",
        words: "[TARGET] [--seconds N]",
        about: "parsers of foreign bytes, with coverage; all of them, a minute each, by default",
        run: fuzz::run,
    },
    Chore {
        name: "docs",
        words: "",
        about: "the documentation of the code, warnings denied",
        run: chores::docs,
    },
    Chore {
        name: "workload",
        words: "",
        about: "build the demo's program as one static file",
        run: workload::run,
    },
    Chore {
        name: "dist",
        words: "",
        about: "build a release archive and its checksum",
        run: dist::run,
    },
];

/// Does the chore that the command line names, and says how it went.
///
/// The exit code is 0 when it went well, 1 when it did not and 2 for a wrong command line.
pub fn run(words: &[String]) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["-h" | "--help" | "help"] => {
            say(&usage());
            Ok(())
        }
        [name, rest @ ..] => CHORES.iter().find(|chore| chore.name == *name).map_or_else(
            || Err(Usage(format!("no such chore: {name}")).into()),
            |chore| Shop::find().and_then(|shop| (chore.run)(&shop, rest)),
        ),
        [] => Err(Usage("name a chore".to_owned()).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Usage>() => {
            shop::complain(&format!("error: {error}\n\n{}", usage()));
            ExitCode::from(2)
        }
        Err(error) => {
            shop::complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn usage() -> String {
    let lines = CHORES.iter().map(|chore| {
        let call = format!("{} {}", chore.name, chore.words);
        format!("  {call:<22}{}", chore.about)
    });
    let lines: Vec<String> = lines.collect();
    format!("usage: cargo xtask CHORE\n\n{}", lines.join("\n"))
}
