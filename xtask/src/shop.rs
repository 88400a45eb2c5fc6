//! Where the repository lies, and how to run other programs in it.

use std::fmt::{self, Display};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The repository that a chore works on.
#[derive(Debug)]
pub(crate) struct Shop {
    /// The folder that holds the workspace's manifest.
    pub(crate) root: PathBuf,
}

/// A wrong command line: the caller prints it together with how to call.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl Display for Usage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

impl Shop {
    /// Finds the repository that this program belongs to.
    ///
    /// # Errors
    /// When there is no workspace at the place where Cargo says it is.
    pub(crate) fn find() -> Result<Self> {
        // Cargo sets the variable for whatever it runs; a shared target folder can hold a program
        // that was built in another clone, so the compiled-in path comes second.
        let manifest_folder = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_folder
            .parent()
            .unwrap_or(&manifest_folder)
            .to_path_buf();
        let manifest = root.join("Cargo.toml");
        let text = fs::read_to_string(&manifest)
            .with_context(|| format!("could not read {}", manifest.display()))?;
        if !text.contains("[workspace]") {
            bail!("{} is no workspace", manifest.display());
        }
        Ok(Self { root })
    }

    /// Gives a call of Cargo in the repository.
    pub(crate) fn cargo(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(words).current_dir(&self.root);
        // Cargo sets these for the program it runs. Passed on, they would make crates build again
        // that look at them.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        command
    }

    /// Builds every program of the workspace.
    ///
    /// The whole workspace, because a build of one package chooses features of its dependencies by itself, and would
    /// build many of them anew.
    pub(crate) fn build_programs(&self) -> Result<()> {
        step(&mut self.cargo(&["build", "--release", "--workspace", "--bins", "--locked"]))
    }

    /// Gives what Cargo knows of our own crates, without asking a registry.
    pub(crate) fn metadata(&self) -> Result<Value> {
        let text =
            output(&mut self.cargo(&["metadata", "--no-deps", "--offline", "--format-version=1"]))?;
        serde_json::from_str(&text).context("could not read what cargo metadata wrote")
    }

    /// Gives the folder that Cargo builds into.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        let target = metadata["target_directory"].as_str();
        Ok(target
            .context("cargo metadata names no target folder")?
            .into())
    }
}

/// Runs a program, first saying which and afterwards how long it took.
///
/// # Errors
/// When it cannot be started, or ends with anything but success.
pub(crate) fn step(command: &mut Command) -> Result<()> {
    let line = line(command);
    say(&format!("$ {line}"));
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("could not start {line}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{line}: {status} after {seconds:.1} s");
    }
    say(&format!("  done in {seconds:.1} s"));
    Ok(())
}

/// Runs a program and gives what it wrote to standard output.
///
/// # Errors
/// When it cannot be started, or ends with anything but success; then with what it complained of.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command
        .output()
        .with_context(|| format!("could not start {line}"))?;
    if !output.status.success() {
        bail!(
            "{line}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{line} wrote something else than text"))
}

/// Tells whether a program of this name is on the path.
pub(crate) fn is_installed(program: &str) -> bool {
    let folders = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// Prints a line; when nobody reads any more, there is nothing left to do about it.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _written = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints a line to standard error.
pub(crate) fn complain(line: &str) {
    let _written = writeln!(io::stderr(), "{line}");
}

/// Creates a folder and its parents.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("could not create {}", path.display()))
}

fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
