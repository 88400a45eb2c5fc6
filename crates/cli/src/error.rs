//! What went wrong, as the user reads it. The only place that knows exit codes and hints.
//!
//! A [`Failure`] carries a stable code. The code's row in [`codes`] gives its exit code, its meaning and the ways out
//! that `tradewind help CODE` prints; the first way is the hint where the failure has none of its own.

mod codes;

use std::io;
use std::path::Path;

use api::{ClientError, Problem};
use market::Money;
use serde_json::{Value, json};

pub(crate) use api::jobfile::nearest;
pub(crate) use codes::{CODES, Code, find};

/// Exit codes, published in the reference. An attached `run` returns the workload's own code instead.
pub(crate) mod exit {
    /// Done.
    pub(crate) const DONE: u8 = 0;
    /// The job or operation failed.
    pub(crate) const FAILED: u8 = 1;
    /// Wrong usage.
    pub(crate) const USAGE: u8 = 2;
    /// Not found.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// Not allowed, or no key.
    pub(crate) const NOT_ALLOWED: u8 = 4;
    /// State changed meanwhile; try again.
    pub(crate) const CHANGED: u8 = 5;
    /// Invalid job or configuration.
    pub(crate) const INVALID: u8 = 6;
    /// Nothing matches, or nobody took the job in time.
    pub(crate) const NO_MATCH: u8 = 7;
    /// Not enough balance, or the budget is reached.
    pub(crate) const FUNDS: u8 = 8;
    /// Cannot reach the node or the provider.
    pub(crate) const UNREACHABLE: u8 = 9;
    /// Timed out waiting.
    pub(crate) const TIMED_OUT: u8 = 10;
    /// Declined at the prompt.
    pub(crate) const DECLINED: u8 = 11;
    /// A bug in tradewind.
    pub(crate) const BUG: u8 = 70;
    /// Attached run: tradewind itself failed, so that no code of the workload is known.
    pub(crate) const RUN_FAILED: u8 = 125;
    /// Interrupted.
    pub(crate) const INTERRUPTED: u8 = 130;

    /// Every code with its meaning, as `tradewind help exit-codes` prints them.
    pub(crate) const TABLE: &[(u8, &str)] = &[
        (DONE, "done"),
        (FAILED, "the job or operation failed"),
        (USAGE, "wrong usage"),
        (NOT_FOUND, "not found"),
        (NOT_ALLOWED, "not allowed, or no key"),
        (CHANGED, "state changed meanwhile; try again"),
        (INVALID, "invalid job or configuration"),
        (NO_MATCH, "nothing matches, or nobody took the job in time"),
        (FUNDS, "not enough balance, or the budget is reached"),
        (UNREACHABLE, "cannot reach the node or the provider"),
        (TIMED_OUT, "timed out waiting"),
        (DECLINED, "declined at the prompt"),
        (BUG, "a bug in tradewind"),
        (
            RUN_FAILED,
            "attached run: tradewind failed before the workload's own code was known",
        ),
        (126, "attached run: the command cannot be executed"),
        (127, "attached run: the command does not exist in the image"),
        (INTERRUPTED, "interrupted"),
    ];
}

/// A result of this program.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug)]
pub(crate) struct Failure(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: String,
    what: String,
    details: Vec<String>,
    hints: Vec<String>,
    charged: Option<Money>,
    exit: Option<u8>,
}

impl Failure {
    /// Makes a failure: its stable code, and in lower case what was attempted and why not.
    pub(crate) fn new(code: impl Into<String>, what: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code: code.into(),
            what: what.into(),
            details: Vec::new(),
            hints: Vec::new(),
            charged: None,
            exit: None,
        }))
    }

    /// Adds an indented line of detail.
    pub(crate) fn detail(mut self, line: impl Into<String>) -> Self {
        self.0.details.push(line.into());
        self
    }

    /// Adds the causes of `error`, one line each.
    pub(crate) fn causes(mut self, error: &dyn std::error::Error) -> Self {
        let mut next = Some(error);
        while let Some(cause) = next {
            self.0.details.push(format!("cause: {cause}"));
            next = cause.source();
        }
        self
    }

    /// Adds a hint: something to paste or to do.
    pub(crate) fn hint(mut self, line: impl Into<String>) -> Self {
        self.0.hints.push(line.into());
        self
    }

    /// Says what was charged.
    pub(crate) fn charged(mut self, amount: Money) -> Self {
        self.0.charged = Some(amount);
        self
    }

    /// Replaces the exit code that the failure's code has in the table.
    pub(crate) fn exiting(mut self, exit: u8) -> Self {
        self.0.exit = Some(exit);
        self
    }

    /// Returns the stable code.
    pub(crate) fn code(&self) -> &str {
        &self.0.code
    }

    /// Returns what went wrong, in one line.
    pub(crate) fn what(&self) -> &str {
        &self.0.what
    }

    /// Returns the lines of detail.
    pub(crate) fn details(&self) -> &[String] {
        &self.0.details
    }

    /// Returns the hints: the failure's own, else the first way out that its code has.
    pub(crate) fn hints(&self) -> Vec<String> {
        if !self.0.hints.is_empty() {
            return self.0.hints.clone();
        }
        let first = find(&self.0.code).and_then(|row| row.ways.first());
        first.map(|way| (*way).to_owned()).into_iter().collect()
    }

    /// Returns the exit code.
    pub(crate) fn exit(&self) -> u8 {
        let by_code = || find(&self.0.code).map_or(exit::FAILED, |row| row.exit);
        self.0.exit.unwrap_or_else(by_code)
    }

    /// Returns the amount that was charged, where money was involved.
    pub(crate) fn charge(&self) -> Option<Money> {
        self.0.charged
    }

    /// Returns the same facts as a problem object, for `-o json`.
    pub(crate) fn as_json(&self) -> Value {
        json!({
            "code": self.0.code,
            "title": self.0.what,
            "detail": self.0.details.join("\n"),
            "hints": self.hints(),
            "charged_micros": self.0.charged.map(|amount| amount.micros().to_string()),
            "exit_code": self.exit(),
        })
    }
}

/// Names what was attempted on which path, for `map_err`.
pub(crate) fn io_failure(action: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = format!("could not {action} {}", path.display());
    move |source| {
        let code = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "disk-full",
            io::ErrorKind::PermissionDenied => "no-permission",
            _ => "io",
        };
        Failure::new(code, what).causes(&source)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        error.into_problem().into()
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let general = api::Code::parse(&problem.code)
            .map(api::Code::hints)
            .unwrap_or_default();
        let mut failure = Self::new(problem.code.clone(), problem.detail.clone());
        // Hints that every problem of the code has are meant for all clients; ours are in the table.
        for hint in problem
            .hints
            .iter()
            .filter(|hint| !general.contains(&hint.as_str()))
        {
            failure = failure.hint(hint);
        }
        if let Some(id) = &problem.request_id {
            failure = failure.detail(format!("request: {id}"));
        }
        let micros = problem
            .charged_micros
            .and_then(|micros| micros.parse().ok());
        match micros.filter(|micros| *micros > 0) {
            Some(micros) => failure.charged(Money::from_micros(micros)),
            None => failure,
        }
    }
}

#[cfg(test)]
mod tests;
