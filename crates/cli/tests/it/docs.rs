//! Every command in the book runs, in the order of its pages, and prints what the book says.
//!
//! In a block marked `console`, a line that begins with `$ ` is a command for a shell; the lines up to the next one are
//! what it prints, standard output and error as they come; none are no matter. `# exit 7` after a command says that it must end so. What
//! differs from run to run (ids, amounts, times, sizes) is not compared, and a line `…` stands for any lines. Where the
//! program says something new, `DOCS_WRITE=1` writes it into the pages; then read the difference.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::world::{World, can_run_containers, end_within};

/// The book.
const BOOK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/src");
/// Longest time for one command: the longest runs a job.
const COMMAND_MAX: Duration = Duration::from_mins(2);
/// Stands for lines that are not shown.
const GAP: &str = "…";

#[test]
fn every_command_in_the_book_runs_and_prints_what_it_says() {
    if !can_run_containers("every_command_in_the_book_runs_and_prints_what_it_says") {
        return;
    }
    let shell = Shell::new();
    let mut wrong = String::new();
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        let ran = shell.run_page(&text, &mut |what| {
            writeln!(wrong, "{}: {what}", page.display()).unwrap();
        });
        if writes() && ran != text {
            std::fs::write(&page, ran).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn writes() -> bool {
    std::env::var_os("DOCS_WRITE").is_some()
}

/// Returns the pages in the order of the summary.
fn pages() -> Vec<PathBuf> {
    let book = Path::new(BOOK);
    let summary = std::fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    let links = summary.lines().filter_map(|line| {
        let (_, rest) = line.split_once("](")?;
        rest.split_once(')').map(|(path, _)| book.join(path))
    });
    let pages: Vec<PathBuf> = links.collect();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// A person's shell: the program on the path, a home of its own, an empty folder to work in.
struct Shell {
    world: World,
    work: tempfile::TempDir,
    path: String,
}

impl Shell {
    fn new() -> Self {
        let world = World::new();
        let work = tempfile::tempdir().unwrap();
        let programs = work.path().join(".bin");
        std::fs::create_dir(&programs).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_tradewind"));
        // A small program of our own in front: the real one looks for its neighbours where it lies.
        let script = format!("#!/bin/sh\nexec {} \"$@\"\n", program.display());
        let front = programs.join("tradewind");
        std::fs::write(&front, script).unwrap();
        let runs = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&front, runs).unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        Self {
            path: format!("{}:{path}", programs.display()),
            world,
            work,
        }
    }

    /// Runs a page's commands, and returns the page with what they printed.
    fn run_page(&self, text: &str, wrong: &mut impl FnMut(String)) -> String {
        let mut page = String::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            page.push_str(line);
            page.push('\n');
            if line != "```console" {
                continue;
            }
            while let Some(line) = lines.next_if(|line| *line != "```") {
                let Some(command) = line.strip_prefix("$ ") else {
                    wrong(format!("{line:?} belongs to no command"));
                    continue;
                };
                let mut said = Vec::new();
                while let Some(line) =
                    lines.next_if(|line| *line != "```" && !line.starts_with("$ "))
                {
                    said.push(line);
                }
                writeln!(page, "{line}").unwrap();
                page.push_str(&self.check(command, &said, wrong));
            }
        }
        page
    }

    /// Runs one command, and returns what the book should say after it.
    fn check(&self, command: &str, said: &[&str], wrong: &mut impl FnMut(String)) -> String {
        let (words, exit) = command.split_once("  # exit ").unwrap_or((command, "0"));
        let (code, printed) = self.run(words.trim());
        if exit.trim().parse() != Ok(code) {
            wrong(format!("$ {command}\nended with {code}:\n{printed}"));
        }
        let kept =
            |lines: &[&str]| -> String { lines.iter().flat_map(|line| [*line, "\n"]).collect() };
        let printed: Vec<&str> = printed.lines().collect();
        if said.is_empty() && !writes() || matches(said, &printed) {
            return kept(said);
        }
        wrong(format!("$ {command}\nnow prints:\n{}", kept(&printed)));
        // A command that is only shown must not be taken for the page's own when it is read again.
        let shown = printed.iter().position(|line| line.starts_with("$ "));
        shown.map_or_else(|| kept(&printed), |at| kept(&printed[..at]) + GAP + "\n")
    }

    fn run(&self, words: &str) -> (i32, String) {
        // The book names the usual port; another network may have it.
        let words = words.replace(
            "up --demo",
            &format!("up --demo --port {}", self.world.port),
        );
        let log = self.work.path().join(".printed");
        let file = std::fs::File::create(&log).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &words])
            .current_dir(self.work.path())
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", self.work.path())
            .env("LANG", "C.UTF-8")
            .env("COLUMNS", "100")
            .env("TRADEWIND_HOME", self.world.home())
            .env("PORT", self.world.port.to_string())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let ended = end_within(&mut child, COMMAND_MAX);
        let code = ended.and_then(|status| status.code()).unwrap_or(-1);
        let printed = std::fs::read(&log).unwrap();
        let printed = String::from_utf8_lossy(&printed).into_owned();
        let home = self.world.home().to_str().unwrap();
        let port = self.world.port.to_string();
        let printed = printed
            .replace(home, "~/.local/share/tradewind")
            .replace(&port, "7070");
        (code, printed)
    }
}

/// Compares line by line what does not differ from run to run.
fn matches(said: &[&str], printed: &[&str]) -> bool {
    match said {
        [] => printed.is_empty(),
        [GAP, rest @ ..] => (0..=printed.len()).any(|at| matches(rest, &printed[at..])),
        [line, rest @ ..] => match printed {
            [first, tail @ ..] => same(line, first) && matches(rest, tail),
            [] => false,
        },
    }
}

fn same(said: &str, printed: &str) -> bool {
    let words = |line: &str| -> Vec<String> { line.split_whitespace().map(shape).collect() };
    words(said) == words(printed)
}

/// Makes words alike that differ from run to run: whatever holds a digit, and the dashes that underline columns.
fn shape(word: &str) -> String {
    let varies = word.bytes().any(|byte| byte.is_ascii_digit());
    if varies {
        "#".to_owned()
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_varies_may_differ() {
        assert!(same("job_1a  $0.50 done", "job_2b $0.75  done"));
        assert!(!same("job_1a done", "job_1a failed"));
        assert!(matches(&["a", GAP, "z"], &["a", "b", "c", "z"]));
        assert!(!matches(&["a", GAP, "z"], &["a", "b"]));
        assert!(!matches(&["a"], &["a", "b"]));
    }
}
