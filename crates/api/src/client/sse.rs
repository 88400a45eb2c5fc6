//! Server-sent events, as far as the gateway uses them.

use std::collections::VecDeque;

/// Longest line; the longest event is a few kilobytes.
const LINE_BYTES_MAX: usize = 1 << 20;

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// Its `id`, if that is a number.
    pub(super) id: Option<u64>,
    /// Its `data` lines, joined; empty for a message that only carries a number.
    pub(super) data: String,
}

/// A line, or a message's data, is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Turns bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    building: Message,
    ready: VecDeque<Message>,
}

impl Parser {
    /// Takes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                b'\r' => {}
                _ if self.line.len() >= LINE_BYTES_MAX => return Err(TooLong),
                _ => self.line.push(*byte),
            }
        }
        Ok(())
    }

    /// Returns the next whole message.
    pub(super) fn next(&mut self) -> Option<Message> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        if line.is_empty() {
            let message = std::mem::take(&mut self.building);
            if message != Message::default() {
                self.ready.push_back(message);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.building.id = value.parse().ok(),
            "data" => {
                if !self.building.data.is_empty() {
                    self.building.data.push('\n');
                }
                self.building.data.push_str(value);
            }
            // Comments (heartbeats), `event` and `retry` carry nothing that is used.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(parser: &mut Parser) -> Vec<(Option<u64>, String)> {
        std::iter::from_fn(|| parser.next())
            .map(|m| (m.id, m.data))
            .collect()
    }

    #[test]
    fn messages_survive_any_split_of_the_bytes() {
        let text =
            ": beat\n\nid: 7\r\nevent: x\ndata: {\"a\":1}\n\nid:9\n\ndata:one\ndata: two\n\n";
        let want = vec![
            (Some(7), "{\"a\":1}".to_owned()),
            (Some(9), String::new()),
            (None, "one\ntwo".to_owned()),
        ];
        for at in 0..text.len() {
            let mut parser = Parser::default();
            parser.push(&text.as_bytes()[..at]).unwrap();
            let mut got = all(&mut parser);
            parser.push(&text.as_bytes()[at..]).unwrap();
            got.extend(all(&mut parser));
            assert_eq!(got, want, "split at {at}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        assert_eq!(parser.push(&vec![b'x'; LINE_BYTES_MAX + 1]), Err(TooLong));
    }
}
