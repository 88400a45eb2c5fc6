//! What is wrong with a job file, at which line and column.

use super::tree::Mark;

/// Largest job file: as a manifest, which it becomes; room for a script in an argument.
pub const FILE_BYTES_MAX: usize = 64 * 1024;
/// Most of a long line that an excerpt shows.
const EXCERPT_CHARS: usize = 100;
/// What an excerpt shows of a long line before the fault.
const BEFORE_CHARS: usize = 60;

/// What is wrong with a job file, or another of our files of the same kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {what}")]
pub struct BadJobFile {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What may have been meant.
    pub hint: Option<String>,
    /// The line itself, and below it a mark under the fault; no newline at the end.
    pub excerpt: String,
}

/// A fault before its excerpt is cut.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Where.
    pub at: Mark,
    /// What is wrong.
    pub what: String,
    /// What may have been meant.
    pub hint: Option<String>,
}

impl Fault {
    /// Makes a fault.
    pub fn new(at: Mark, what: impl Into<String>) -> Self {
        Self {
            at,
            what: what.into(),
            hint: None,
        }
    }

    /// Says what may have been meant.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }

    /// Adds the excerpt of the file's text.
    pub fn in_text(self, text: &str) -> BadJobFile {
        let line = text.lines().nth(self.at.line.saturating_sub(1));
        let excerpt = line.map_or_else(String::new, |line| excerpt(line, self.at));
        BadJobFile {
            line: self.at.line,
            column: self.at.column,
            what: self.what,
            hint: self.hint,
            excerpt,
        }
    }
}

fn excerpt(line: &str, at: Mark) -> String {
    // A control character must not reach the terminal, and takes the one place that it has in the count of columns.
    let plain: Vec<char> = line
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let column = at.column.saturating_sub(1).min(plain.len());
    let from = if plain.len() > EXCERPT_CHARS {
        column.saturating_sub(BEFORE_CHARS)
    } else {
        0
    };
    let shown: String = plain.iter().skip(from).take(EXCERPT_CHARS).collect();
    let place = column.saturating_sub(from);
    let room = shown.chars().count().saturating_sub(place).max(1);
    let marks = "^".repeat(at.length.clamp(1, room));
    let number = at.line.to_string();
    let margin = " ".repeat(number.len());
    format!(
        "{number} | {}\n{margin} | {}{marks}",
        shown.trim_end(),
        " ".repeat(place)
    )
}
