//! Runs one fuzz target on files, to look at a crash; or writes every target's seeds into folders of their names.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::{fs, io};

use fuzz::TARGETS;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["--seeds", folder] => write_seeds(Path::new(folder)),
        [name, files @ ..] if fuzz::target(name).is_some() => run(name, files),
        _ => Err(io::Error::other(usage())),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nowhere to complain to where standard error is closed.
            drop(writeln!(io::stderr(), "{error}"));
            ExitCode::from(2)
        }
    }
}

fn usage() -> String {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let names = names.join(" ");
    format!("usage: fuzz TARGET FILE... | fuzz --seeds FOLDER\ntargets: {names}")
}

fn run(name: &str, files: &[&str]) -> io::Result<()> {
    for file in files {
        let bytes = fs::read(file)?;
        if let Some(target) = fuzz::target(name) {
            (target.run)(&bytes);
        }
    }
    Ok(())
}

/// Writes the seeds, and prints the targets' names, one a line.
fn write_seeds(folder: &Path) -> io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (index, seed) in (target.seeds)().iter().enumerate() {
            fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
        writeln!(io::stdout(), "{}", target.name)?;
    }
    Ok(())
}
