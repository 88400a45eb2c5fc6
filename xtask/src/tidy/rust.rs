//! Just enough of Rust's grammar to tell code from comments, texts and tests.

use std::iter::Peekable;
use std::str::Chars;

/// A piece of code, with the line it stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) what: What,
}

/// What a piece of code is. Texts, comments, characters and lifetimes are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A name or a keyword.
    Word(String),
    /// A number with a fraction or an exponent, or marked as a float.
    Float,
    /// Any other number.
    Whole,
    /// Any other character.
    Mark(char),
}

impl Token {
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(&self.what, What::Word(it) if it == word)
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.what == What::Mark(mark)
    }
}

/// Gives the code of a file without what is compiled for tests only, and the names of modules
/// (`mod name;`) that are.
pub(crate) fn code_and_test_modules(text: &str) -> (Vec<Token>, Vec<String>) {
    let tokens = tokens(text);
    let (mut code, mut modules) = (Vec::new(), Vec::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if is_test_mark(&tokens[at..]) {
            let end = at + item_length(&tokens[at..]);
            if let [
                ..,
                Token {
                    what: What::Word(name),
                    ..
                },
                last,
            ] = &tokens[at..end]
                && last.is_mark(';')
                && tokens[..end - 2].last().is_some_and(|it| it.is_word("mod"))
            {
                modules.push(name.clone());
            }
            at = end;
        } else {
            code.push(token.clone());
            at += 1;
        }
    }
    (code, modules)
}

/// Tells whether a library's file has documentation with code that is run as a test.
pub(crate) fn has_doc_test(path: &str, text: &str) -> bool {
    // Only a library has doc tests. Whether the file belongs to one is told by its folder.
    let (_, name) = path.rsplit_once('/').unwrap_or(("", path));
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    if extension != "rs" || stem == "main" || !path.contains("/src/") {
        return false;
    }
    let mut in_fence = false;
    for line in text.lines().map(str::trim_start) {
        let doc = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"));
        let Some(kind) = doc.and_then(|doc| doc.trim_start().strip_prefix("```")) else {
            continue;
        };
        if !in_fence && ["", "rust", "no_run", "should_panic"].contains(&kind.trim()) {
            return true;
        }
        in_fence = !in_fence;
    }
    false
}

fn is_test_mark(tokens: &[Token]) -> bool {
    let [hash, open, cfg, ..] = tokens else {
        return false;
    };
    let marked = hash.is_mark('#') && open.is_mark('[') && cfg.is_word("cfg");
    marked
        && matches!(&tokens[3..], [_, test, close, ..] if test.is_word("test") && close.is_mark(')'))
}

/// Counts the tokens of an item and its attributes: up to a semicolon or a closing brace.
fn item_length(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate() {
        match token.what {
            What::Mark('{' | '(' | '[') => depth += 1,
            What::Mark('}' | ')' | ']') => {
                depth = depth.saturating_sub(1);
                if depth == 0 && token.is_mark('}') {
                    return index + 1;
                }
            }
            What::Mark(';') if depth == 0 => return index + 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Gives the code of a file, piece by piece.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut reader = Reader {
        chars: text.chars().peekable(),
        line: 1,
    };
    let mut tokens = Vec::new();
    while let Some(first) = reader.next() {
        let line = reader.line;
        let after_dot = tokens
            .last()
            .is_some_and(|token: &Token| token.is_mark('.'));
        if let Some(what) = reader.piece(first, after_dot) {
            tokens.push(Token { line, what });
        }
    }
    tokens
}

struct Reader<'text> {
    chars: Peekable<Chars<'text>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        if next == Some('\n') {
            self.line += 1;
        }
        next
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.chars.peek() == Some(&wanted)
    }

    /// Reads one piece that starts with `first`; nothing for what is left out.
    fn piece(&mut self, first: char, after_dot: bool) -> Option<What> {
        match first {
            '/' if self.next_is('/') => {
                self.skip_line();
                None
            }
            '/' if self.next_is('*') => {
                self.skip_block_comment();
                None
            }
            '"' => {
                self.skip_text();
                None
            }
            '\'' => {
                self.skip_character_or_lifetime();
                None
            }
            _ if first.is_whitespace() => None,
            _ if first.is_ascii_digit() => Some(self.number(first, after_dot)),
            _ if first.is_alphabetic() || first == '_' => self.word(first),
            _ => Some(What::Mark(first)),
        }
    }

    fn skip_line(&mut self) {
        while self.chars.peek().is_some_and(|next| *next != '\n') {
            self.next();
        }
    }

    fn skip_block_comment(&mut self) {
        self.next();
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some('/') if self.next_is('*') => {
                    self.next();
                    depth += 1;
                }
                Some('*') if self.next_is('/') => {
                    self.next();
                    depth -= 1;
                }
                Some(_) => {}
                None => return,
            }
        }
    }

    fn skip_text(&mut self) {
        while let Some(next) = self.next() {
            match next {
                '\\' => {
                    self.next();
                }
                '"' => return,
                _ => {}
            }
        }
    }

    /// Skips a raw text whose hashes come next; tells whether there was one.
    fn skip_raw_text(&mut self) -> bool {
        let mut hashes = 0;
        while self.next_is('#') {
            self.next();
            hashes += 1;
        }
        if !self.next_is('"') {
            return false;
        }
        self.next();
        while let Some(next) = self.next() {
            if next != '"' {
                continue;
            }
            let mut closing = 0;
            while closing < hashes && self.next_is('#') {
                self.next();
                closing += 1;
            }
            if closing == hashes {
                break;
            }
        }
        true
    }

    fn skip_character_or_lifetime(&mut self) {
        match self.next() {
            Some('\\') => {
                // At least one more character, then whatever is left of a longer escape.
                self.next();
                while self.next().is_some_and(|next| next != '\'') {}
            }
            Some(first) if first.is_alphanumeric() || first == '_' => {
                if self.next_is('\'') {
                    self.next();
                } else {
                    while self
                        .chars
                        .peek()
                        .is_some_and(|it| it.is_alphanumeric() || *it == '_')
                    {
                        self.next();
                    }
                }
            }
            Some(_) if self.next_is('\'') => {
                self.next();
            }
            _ => {}
        }
    }

    fn word(&mut self, first: char) -> Option<What> {
        let mut word = String::from(first);
        while let Some(next) = self.chars.peek().copied() {
            if !next.is_alphanumeric() && next != '_' {
                break;
            }
            word.push(next);
            self.next();
        }
        match word.as_str() {
            "r" | "br" | "cr" if self.next_is('#') || self.next_is('"') => {
                // What is no raw text is a raw name, `r#type`, whose word comes next.
                self.skip_raw_text();
                None
            }
            "b" | "c" if self.next_is('"') => {
                self.next();
                self.skip_text();
                None
            }
            "b" if self.next_is('\'') => {
                self.next();
                self.skip_character_or_lifetime();
                None
            }
            _ => Some(What::Word(word)),
        }
    }

    /// Reads a number. After a dot it is the field of a tuple, and a further dot another field.
    fn number(&mut self, first: char, after_dot: bool) -> What {
        let mut number = String::from(first);
        let mut float = false;
        while let Some(next) = self.chars.peek().copied() {
            if next == '.' {
                let mut ahead = self.chars.clone();
                ahead.next();
                if after_dot || float || !ahead.peek().is_some_and(char::is_ascii_digit) {
                    break;
                }
                float = true;
            } else if !next.is_ascii_alphanumeric() && next != '_' {
                break;
            }
            number.push(next);
            self.next();
        }
        let plain = !number.starts_with("0x") && !number.starts_with("0b");
        let marked = plain && (number.contains('e') && !number.contains("size"));
        if float || marked || number.ends_with("f32") && plain || number.ends_with("f64") && plain {
            What::Float
        } else {
            What::Whole
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let words = tokens(text)
            .into_iter()
            .filter_map(|token| match token.what {
                What::Word(word) => Some(word),
                _ => None,
            });
        words.collect()
    }

    fn floats(text: &str) -> usize {
        tokens(text)
            .iter()
            .filter(|token| token.what == What::Float)
            .count()
    }

    #[test]
    fn comments_and_texts_are_left_out() {
        let text = "a /* b /* c */ d */ \"e \\\" f\" r#\"g \" h\"# b\"i\" // j\n 'k' '\\n' '\\'' '\"' b'l' m";
        assert_eq!(words(text), ["a", "m"]);
    }

    #[test]
    fn lifetimes_hide_nothing() {
        assert_eq!(
            words("fn f<'a>(x: &'a str) -> &'static T"),
            ["fn", "f", "x", "str", "T"]
        );
        assert_eq!(words("r#type = 1"), ["type"]);
    }

    #[test]
    fn floats_are_told_from_other_numbers() {
        assert_eq!(floats("1.5 1e9 2f64 3_f32"), 4);
        assert_eq!(
            floats("1 0..10 x.0.1 0xfe 0b1 1_000 7usize 1.max(2) 0x1f32 x.0"),
            0
        );
    }

    #[test]
    fn lines_are_counted() {
        let tokens = tokens("a\n\"b\nc\"\n/*\n*/ d");
        assert_eq!(
            tokens.iter().map(|token| token.line).collect::<Vec<_>>(),
            [1, 5]
        );
    }

    #[test]
    fn tests_are_left_out() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests { fn b() { x[1] } }\nfn c() {}\n\
                    #[cfg(test)]\n#[path = \"x\"]\nmod model;\n#[cfg(test)] use d::e;\nfn f() {}";
        let (code, modules) = code_and_test_modules(text);
        let kept = ["fn", "a", "fn", "c", "fn", "f"];
        let words: Vec<_> = code
            .iter()
            .filter(|it| matches!(it.what, What::Word(_)))
            .collect();
        assert!(
            words
                .iter()
                .zip(kept)
                .all(|(token, word)| token.is_word(word)),
            "{words:?}"
        );
        assert_eq!(words.len(), kept.len());
        assert_eq!(modules, ["model"]);
    }

    #[test]
    fn doc_tests_are_seen() {
        assert!(has_doc_test(
            "crates/a/src/lib.rs",
            "/// ```\n/// f();\n/// ```\n"
        ));
        assert!(!has_doc_test(
            "crates/a/src/lib.rs",
            "//! ```text\n//! ->\n//! ```\n"
        ));
        assert!(!has_doc_test(
            "crates/a/src/main.rs",
            "/// ```\n/// f();\n/// ```\n"
        ));
    }
}
