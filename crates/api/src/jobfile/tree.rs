//! YAML as a bounded tree that knows where everything stands: what job files and pricing files are read from.
//!
//! Anchors, aliases and tags are refused: a page of settings needs none, and what repeats itself cannot then be made to
//! grow without bound. A key that stands twice is refused, because nobody can know which was meant.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use super::error::{FILE_BYTES_MAX, Fault};

/// Deepest nesting: a key of a section in a list is three deep.
const DEPTH_MAX: usize = 8;
/// Most values in one file; a thousand variables are too many already.
const NODES_MAX: usize = 4096;

/// Where something stands; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
    /// How many characters it takes of its line; 1 where it takes more lines.
    pub length: usize,
}

impl Mark {
    /// The beginning of the file.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        length: 1,
    };

    fn of(span: Span) -> Self {
        let one_line = span.start.line() == span.end.line();
        let length = span.end.col().saturating_sub(span.start.col());
        Self {
            line: span.start.line().max(1),
            column: span.start.col().saturating_add(1),
            length: if one_line { length.max(1) } else { 1 },
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text, a number or a word; YAML's own guess at which is not asked for.
    Scalar {
        /// What stands there.
        text: String,
        /// Whether it stood without quotes, so that `true` is a truth and an empty one is nothing.
        plain: bool,
    },
    /// A list.
    List(Vec<Node>),
    /// Keys with values, in the order in which they stand.
    Map(Vec<(Key, Node)>),
}

/// A key and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    /// Where it stands.
    pub at: Mark,
    /// The key.
    pub text: String,
}

/// Reads one document.
///
/// # Errors
/// [`Fault`], where it is no YAML or more than the bounds allow.
pub fn read(text: &str) -> Result<Node, Fault> {
    if text.len() > FILE_BYTES_MAX {
        let what = format!("the file has more than {FILE_BYTES_MAX} bytes");
        return Err(Fault::new(Mark::START, what));
    }
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        nodes: 0,
    };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_), _) => {}
            (Event::StreamEnd | Event::DocumentEnd, _) => {
                return Err(Fault::new(Mark::START, "the file is empty"));
            }
            (event, at) => {
                let root = reader.node(event, at, 0)?;
                reader.end()?;
                return Ok(root);
            }
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Mark), Fault> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, Mark::of(span))),
            Some(Err(error)) => {
                let at = Mark::of(Span::empty(*error.marker()));
                Err(Fault::new(at, format!("this is no YAML: {}", error.info())))
            }
            None => Ok((Event::StreamEnd, Mark::START)),
        }
    }

    /// Reads to the end of the file, where no second document may come.
    fn end(&mut self) -> Result<(), Fault> {
        loop {
            match self.next()? {
                (Event::StreamEnd, _) => return Ok(()),
                (Event::DocumentEnd, _) => {}
                (_, at) => return Err(Fault::new(at, "more than one document stands here")),
            }
        }
    }

    /// Reads the value that begins with `event`. The depth is bounded, so recursion is.
    fn node(&mut self, event: Event<'a>, at: Mark, depth: usize) -> Result<Node, Fault> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let what = format!("the file has more than {NODES_MAX} values");
            return Err(Fault::new(at, what));
        }
        if depth > DEPTH_MAX {
            return Err(Fault::new(at, "this is nested too deep"));
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                refuse_extras(at, anchor, tag.is_some())?;
                Value::Scalar {
                    text: text.into_owned(),
                    plain: style == ScalarStyle::Plain,
                }
            }
            Event::SequenceStart(anchor, tag) => {
                refuse_extras(at, anchor, tag.is_some())?;
                Value::List(self.list(depth)?)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_extras(at, anchor, tag.is_some())?;
                Value::Map(self.map(depth)?)
            }
            Event::Alias(_) => return Err(Fault::new(at, "no aliases are taken here")),
            _ => return Err(Fault::new(at, "a value is missing here")),
        };
        Ok(Node { at, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, at) => items.push(self.node(event, at, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Fault> {
        let mut entries: Vec<(Key, Node)> = Vec::new();
        loop {
            let (event, at) = self.next()?;
            if event == Event::MappingEnd {
                return Ok(entries);
            }
            let node = self.node(event, at, depth + 1)?;
            let Value::Scalar { text, .. } = node.value else {
                return Err(Fault::new(at, "a key is one word"));
            };
            if let Some((first, _)) = entries.iter().find(|(key, _)| key.text == text) {
                let what = format!("{text:?} stands twice, first in line {}", first.at.line);
                return Err(Fault::new(at, what));
            }
            let (event, value_at) = self.next()?;
            // What is missing has no place of its own.
            let empty = matches!(&event, Event::Scalar(text, ..) if text.is_empty());
            let value = self.node(event, if empty { at } else { value_at }, depth + 1)?;
            entries.push((Key { at, text }, value));
        }
    }
}

fn refuse_extras(at: Mark, anchor: usize, tagged: bool) -> Result<(), Fault> {
    if anchor != 0 {
        return Err(Fault::new(at, "no anchors are taken here"));
    }
    if tagged {
        return Err(Fault::new(at, "no tags are taken here"));
    }
    Ok(())
}
