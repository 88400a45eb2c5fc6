//! The only way to the terminal: data to standard output, talk to standard error.
//!
//! A reader that went away (`tradewind ps | head -1`) is no error: what follows is dropped and the program ends as if
//! it had been read.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Failure, Result};
use crate::shape::{self, Shape};
use crate::table::{Table, push_line};

/// Widest table among talk: a terminal's width may not be known there.
const TALK_WIDTH_MAX: usize = 100;

/// What standard output gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns that fit the terminal.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// The API's view, byte for byte.
    Json,
    /// One JSON object a line.
    Jsonl,
    /// The API's view as YAML.
    Yaml,
    /// All columns, with commas.
    Csv,
    /// Only ids.
    Name,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a piece of talk means; the words say it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Done, and commands to type.
    Good,
    /// Needs attention.
    Warning,
    /// Failed.
    Bad,
    /// Names and hints.
    Name,
    /// Secondary.
    Dim,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Name => "36",
            Self::Dim => "2",
        }
    }
}

/// What the surroundings say about the terminal; read once, in `context.rs`.
#[derive(Clone, Copy, Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one independent fact for each variable"
)]
pub(crate) struct Surroundings {
    /// `NO_COLOR` is set and not empty.
    pub(crate) no_color: bool,
    /// `CLICOLOR_FORCE` is set and not `0`.
    pub(crate) force_color: bool,
    /// `TERM` is `dumb`.
    pub(crate) dumb: bool,
    /// The locale is UTF-8.
    pub(crate) utf8: bool,
}

/// Prints.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "one independent fact for each"
)]
pub(crate) struct Output {
    format: Format,
    quiet: bool,
    headers: bool,
    shape: Shape,
    color_out: bool,
    color_err: bool,
    live: bool,
    symbols: bool,
    width: usize,
    /// Whole lines from several threads do not mix, and a spinner knows when to redraw.
    err: Mutex<io::Stderr>,
}

/// How to print, as flags and environment say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// What standard output gets.
    pub(crate) format: Format,
    /// Ids only, and no talk but errors.
    pub(crate) quiet: bool,
    /// No header line.
    pub(crate) no_headers: bool,
    /// What is shown of a list.
    pub(crate) shape: Shape,
    /// When to colour.
    pub(crate) color: ColorChoice,
    /// No lines of progress.
    pub(crate) no_progress: bool,
    /// The surroundings.
    pub(crate) around: Surroundings,
}

impl Output {
    /// Makes the output that `settings` and the terminal ask for.
    pub(crate) fn new(settings: Settings) -> Self {
        let around = settings.around;
        let colored = |terminal: bool| match settings.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if around.force_color => true,
            ColorChoice::Auto => terminal && !around.no_color && !around.dumb,
        };
        let (out_tty, err_tty) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        let width = terminal_size::terminal_size().filter(|_| out_tty);
        Self {
            format: settings.format,
            quiet: settings.quiet,
            headers: !settings.no_headers,
            shape: settings.shape,
            color_out: colored(out_tty),
            color_err: colored(err_tty),
            live: err_tty && !around.dumb && !settings.no_progress,
            symbols: around.utf8,
            // A pipe has no width: nothing is lost in it.
            width: width.map_or(usize::MAX, |(columns, _)| usize::from(columns.0)),
            err: Mutex::new(io::stderr()),
        }
    }

    /// Returns what standard output gets.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Tells whether standard output gets views for programs: JSON, or YAML.
    pub(crate) fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Returns the most rows that a list shown here has, where that was said.
    pub(crate) fn limit(&self) -> Option<usize> {
        self.shape.limit
    }

    /// Tells whether a list is sorted here.
    pub(crate) fn sorts(&self) -> bool {
        self.shape.order().is_some()
    }

    /// Tells whether talk is wanted.
    pub(crate) fn talks(&self) -> bool {
        !self.quiet && !self.is_json()
    }

    /// Tells whether progress may redraw its line.
    pub(crate) fn is_live(&self) -> bool {
        self.live && self.talks()
    }

    /// Tells whether somebody can be asked.
    #[expect(clippy::unused_self, reason = "whoever asks holds the printer")]
    pub(crate) fn can_ask(&self) -> bool {
        io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Returns the tick, the cross or the dash, in ASCII where the locale is not UTF-8.
    pub(crate) fn mark(&self, style: Style) -> String {
        let plain = match (style, self.symbols) {
            (Style::Good, true) => "✓",
            (Style::Good, false) => "+",
            (Style::Bad, true) => "✗",
            (Style::Bad, false) => "x",
            (_, true) => "–",
            (_, false) => "-",
        };
        self.paint(style, plain)
    }

    /// Returns the frames of a spinner.
    pub(crate) fn spinner(&self) -> &'static [&'static str] {
        if self.symbols {
            &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"]
        } else {
            &["|", "/", "-", "\\"]
        }
    }

    /// Returns what points at the row that is taken.
    pub(crate) fn arrow(&self) -> &'static str {
        if self.symbols { "→" } else { ">" }
    }

    /// Returns `text` in the colours of standard error.
    pub(crate) fn paint(&self, style: Style, text: &str) -> String {
        if self.color_err {
            format!("\x1b[{}m{text}\x1b[0m", style.code())
        } else {
            text.to_owned()
        }
    }

    /// Writes a line of data.
    pub(crate) fn line(&self, text: &str) {
        self.bytes(format!("{text}\n").as_bytes());
    }

    /// Writes data as it is, to standard output.
    #[expect(clippy::unused_self, reason = "whoever prints holds the printer")]
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        // A reader that went away is no error, and nobody is left to tell.
        let _written = out.write_all(bytes).and_then(|()| out.flush());
    }

    /// Writes a workload's bytes as they are, to standard error.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        let _written = err.write_all(bytes).and_then(|()| err.flush());
    }

    /// Writes a line of talk, unless none is wanted.
    pub(crate) fn say(&self, text: &str) {
        if self.talks() {
            self.error_bytes(format!("{text}\n").as_bytes());
        }
    }

    /// Writes a table as talk.
    pub(crate) fn say_table(&self, table: &Table) {
        let width = self.width.min(TALK_WIDTH_MAX);
        self.say(table.render(Some(width), true).trim_end());
    }

    /// Writes a warning, also where no other talk is wanted.
    pub(crate) fn warn(&self, text: &str) {
        let word = self.paint(Style::Warning, "warning:");
        self.error_bytes(format!("{word} {text}\n").as_bytes());
    }

    /// Writes one thing: as a JSON object, as YAML, as its name, or as `lines`.
    pub(crate) fn thing<T: Serialize>(&self, view: &T, name: &str, lines: &str) -> Result<()> {
        match self.format {
            Format::Table | Format::Wide if !self.quiet => self.bytes(lines.as_bytes()),
            _ => self.result(view, name)?,
        }
        Ok(())
    }

    /// Writes a list: `page` as JSON, `items` as lines of JSON, or `table` as a table or as names.
    pub(crate) fn list<P: Serialize, T: Serialize>(
        &self,
        page: &P,
        items: &[T],
        table: &Table,
    ) -> Result<()> {
        if self.is_json() && !self.shape.is_whole() {
            return self.shaped(page, items);
        }
        let mut table = table.clone();
        if !self.is_json() {
            table.shape(&self.shape)?;
        }
        match self.format {
            Format::Json => self.line(&json(page)?),
            Format::Jsonl => {
                for item in items {
                    self.line(&json(item)?);
                }
            }
            Format::Yaml => self.bytes(shape::yaml(&value(page)?).as_bytes()),
            Format::Csv => self.bytes(table.csv(self.headers).as_bytes()),
            Format::Name => self.names(&table),
            Format::Table | Format::Wide if self.quiet => self.names(&table),
            Format::Table | Format::Wide if items.is_empty() => self.say(table.empty()),
            Format::Table => self.bytes(table.render(Some(self.width), self.headers).as_bytes()),
            Format::Wide => self.bytes(table.render(None, self.headers).as_bytes()),
        }
        Ok(())
    }

    /// Writes a list for programs, sorted, cut and narrowed as was asked for.
    fn shaped<P: Serialize, T: Serialize>(&self, page: &P, items: &[T]) -> Result<()> {
        let mut items: Vec<Value> = items.iter().map(value).collect::<Result<_>>()?;
        self.shape.apply(&mut items)?;
        if self.format == Format::Jsonl {
            for item in &items {
                self.line(&json(item)?);
            }
            return Ok(());
        }
        let mut page = value(page)?;
        match page.get_mut("items") {
            Some(list) => *list = Value::Array(items),
            // One view that reads best as a table is its own only item.
            None => page = items.into_iter().next().unwrap_or(Value::Null),
        }
        if self.format == Format::Yaml {
            self.bytes(shape::yaml(&page).as_bytes());
            return Ok(());
        }
        self.line(&json(&page)?);
        Ok(())
    }

    /// Writes one view that reads best as a table: as a JSON object, or as a table or its names.
    pub(crate) fn view<T: Serialize>(&self, view: &T, table: &Table) -> Result<()> {
        self.list(view, std::slice::from_ref(view), table)
    }

    fn names(&self, table: &Table) {
        for name in table.names() {
            self.line(name);
        }
    }

    /// Writes the outcome of a command that talks: the view or the name where those are asked for, else nothing.
    pub(crate) fn result<T: Serialize>(&self, view: &T, name: &str) -> Result<()> {
        match self.format {
            Format::Json | Format::Jsonl if self.shape.fields.is_empty() => self.line(&json(view)?),
            Format::Json | Format::Jsonl => self.line(&json(&self.narrowed(view)?)?),
            Format::Yaml => self.bytes(shape::yaml(&self.narrowed(view)?).as_bytes()),
            Format::Csv => {
                if let Value::Object(map) = self.narrowed(view)? {
                    self.bytes(shape::csv_object(&map, self.headers).as_bytes());
                }
            }
            Format::Name => self.line(name),
            Format::Table | Format::Wide if self.quiet => self.line(name),
            Format::Table | Format::Wide => {}
        }
        Ok(())
    }

    /// Returns a view with the keys that were asked for.
    fn narrowed<T: Serialize>(&self, view: &T) -> Result<Value> {
        let fields = Shape {
            fields: self.shape.fields.clone(),
            ..Shape::default()
        };
        let mut only = vec![value(view)?];
        fields.apply(&mut only)?;
        Ok(only.swap_remove(0))
    }

    /// Writes a view as one line of JSON.
    pub(crate) fn json_line<T: Serialize>(&self, view: &T) -> Result<()> {
        self.line(&json(view)?);
        Ok(())
    }

    /// Tells whether talk is coloured.
    pub(crate) fn colors_talk(&self) -> bool {
        self.color_err
    }

    /// Writes a failure: `error: …  [code]`, details, a blank line, hints.
    pub(crate) fn failure(&self, failure: &Failure) {
        let text = if self.is_json() {
            format!("{}\n", failure.as_json())
        } else {
            self.failure_text(failure)
        };
        self.error_bytes(text.as_bytes());
    }

    fn failure_text(&self, failure: &Failure) -> String {
        let mut text = format!(
            "{} {}  {}\n",
            self.paint(Style::Bad, "error:"),
            failure.what(),
            self.paint(Style::Dim, &format!("[{}]", failure.code())),
        );
        for detail in failure.details() {
            push_line(&mut text, &format!("  {detail}"));
        }
        if let Some(charged) = failure.charge() {
            push_line(&mut text, &format!("  charged: {charged}"));
        }
        let hints = failure.hints();
        if !hints.is_empty() {
            text.push('\n');
        }
        for hint in hints {
            push_line(
                &mut text,
                &format!("{} {hint}", self.paint(Style::Name, "hint:")),
            );
        }
        text
    }

    /// Asks a question that wants yes or no; no is the default.
    pub(crate) fn ask(&self, question: &str) -> bool {
        self.error_bytes(format!("{question} [y/N] ").as_bytes());
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
    }

    /// Asks a question that wants a text; the default stands for an empty answer, and `None` is the end of the input.
    pub(crate) fn question(&self, question: &str, default: &str) -> Option<String> {
        let default_shown = match default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        self.error_bytes(format!("{question}{default_shown}: ").as_bytes());
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer).unwrap_or(0);
        let answer = answer.trim();
        let answer = if answer.is_empty() { default } else { answer };
        (read > 0).then(|| answer.to_owned())
    }

    /// Tells whether data is coloured.
    pub(crate) fn colors_data(&self) -> bool {
        self.color_out
    }
}

/// Returns a view as compact JSON, as the API sends it.
fn json<T: Serialize>(view: &T) -> Result<String> {
    serde_json::to_string(view)
        .map_err(|error| Failure::new("bug", "could not write a view as JSON").causes(&error))
}

fn value<T: Serialize>(view: &T) -> Result<Value> {
    serde_json::to_value(view)
        .map_err(|error| Failure::new("bug", "could not write a view as JSON").causes(&error))
}
