//! YAML into values: the part of it that machines write. JSON is a part of that.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Descriptions nest five deep.
const DEPTH_MAX: usize = 24;
/// Descriptions of large machines have some ten thousand.
const VALUES_MAX: usize = 200_000;

/// Reads one document. Anchors, aliases and tags, which could make much of little, are refused.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?;
    let mut reader = Reader {
        parser: Parser::new_from_str(text),
        left: VALUES_MAX,
    };
    loop {
        match reader.next()? {
            Event::StreamStart | Event::DocumentStart(_) => {}
            Event::StreamEnd => return Err("it is empty".to_owned()),
            first => return reader.value(first, DEPTH_MAX),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    left: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.parser.next() {
            None => Ok(Event::StreamEnd),
            Some(Ok((event, _))) => Ok(event),
            Some(Err(e)) => Err(e.to_string()),
        }
    }

    fn value(&mut self, first: Event<'a>, depth: usize) -> Result<Value, String> {
        let deeper = depth.checked_sub(1).ok_or("it nests too deep")?;
        self.left = self.left.checked_sub(1).ok_or("it has too many values")?;
        match first {
            Event::Scalar(text, style, 0, None) => Ok(scalar(&text, style)),
            Event::SequenceStart(0, None) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(items)),
                        event => items.push(self.value(event, deeper)?),
                    }
                }
            }
            Event::MappingStart(0, None) => {
                let mut fields = Map::new();
                loop {
                    let name = match self.next()? {
                        Event::MappingEnd => return Ok(Value::Object(fields)),
                        Event::Scalar(name, _, 0, None) => name.into_owned(),
                        _ => return Err("a name is no plain text".to_owned()),
                    };
                    let event = self.next()?;
                    let value = self.value(event, deeper)?;
                    if fields.insert(name, value).is_some() {
                        return Err("a name is there twice".to_owned());
                    }
                }
            }
            _ => Err("it has an anchor, an alias, a tag or a loose end".to_owned()),
        }
    }
}

/// Reads a scalar as JSON has them; what is quoted, or none of those, is text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        text => text
            .parse::<i64>()
            .map_or_else(|_| Value::from(text), Value::from),
    }
}
