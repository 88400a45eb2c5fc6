//! How a registry asks who we are, and the token it gives.

use serde::Deserialize;

/// A challenge has a realm, a service and a scope; more parameters than this are noise.
const PARAMETERS_MAX: usize = 16;
/// Longer than any real header of this kind.
const BYTES_MAX: usize = 8 << 10;
/// Tokens are signed claims; docker.io's have 3 KiB.
const TOKEN_BYTES_MAX: usize = 64 << 10;

/// How a registry wants to be told who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// By name and password with every request.
    Basic,
    /// By a token from somewhere else.
    Bearer {
        /// Where tokens are had.
        realm: String,
        /// For which service to ask.
        service: Option<String>,
        /// For which rights to ask.
        scope: Option<String>,
    },
}

impl Challenge {
    /// Reads one `WWW-Authenticate` header, and returns the challenges in it that we can meet, in order.
    ///
    /// # Source
    /// RFC 9110, section 11.6.1; parameters of Bearer as distribution's token specification has them.
    pub fn parse(header: &str) -> Vec<Self> {
        if header.len() > BYTES_MAX {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut rest = header.trim_start_matches([' ', ',', '\t']);
        while let Some((scheme, after)) = take_word(rest) {
            let (parameters, after) = take_parameters(after);
            let get = |name: &str| {
                let mut all = parameters.iter();
                let pair = all.find(|(n, _)| n.eq_ignore_ascii_case(name));
                pair.map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("basic") {
                found.push(Self::Basic);
            } else if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                let (service, scope) = (get("service"), get("scope"));
                found.push(Self::Bearer {
                    realm,
                    service,
                    scope,
                });
            }
            if found.len() >= PARAMETERS_MAX {
                break;
            }
            rest = after.trim_start_matches([' ', ',', '\t']);
        }
        found
    }
}

/// Splits off a word of a challenge.
fn take_word(text: &str) -> Option<(&str, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at_checked(end)?;
    (!word.is_empty()).then_some((word, rest))
}

/// Splits off `name=value` pairs, up to what begins another challenge.
fn take_parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let (mut found, mut rest) = (Vec::new(), text);
    loop {
        let here = rest.trim_start_matches([' ', ',', '\t']);
        let Some((name, after)) = take_word(here) else {
            return (found, rest);
        };
        let Some(after) = after.trim_start().strip_prefix('=') else {
            return (found, rest); // A scheme's name.
        };
        let after = after.trim_start();
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => take_quoted(quoted),
            None => take_word(after).map_or((String::new(), after), |(v, a)| (v.to_owned(), a)),
        };
        if found.len() < PARAMETERS_MAX {
            found.push((name.to_owned(), value));
        }
        rest = after;
    }
}

fn take_quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return (value, text.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(letters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What a token server answers.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(***)")
    }
}

impl Token {
    /// Reads an answer; `None` where there is no token in it that can be sent back.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let token: Self = serde_json::from_slice(bytes).ok()?;
        let text = token.text();
        let sendable = text.bytes().all(|b| b.is_ascii_graphic());
        (!text.is_empty() && text.len() <= TOKEN_BYTES_MAX && sendable).then_some(token)
    }

    /// Returns the token itself.
    pub fn text(&self) -> &str {
        if self.token.is_empty() {
            &self.access_token
        } else {
            &self.token
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Challenge, Token};

    #[test]
    fn challenges_of_real_registries_are_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/debian:pull""#;
        assert_eq!(
            Challenge::parse(hub),
            [Challenge::Bearer {
                realm: "https://auth.docker.io/token".to_owned(),
                service: Some("registry.docker.io".to_owned()),
                scope: Some("repository:library/debian:pull".to_owned()),
            }]
        );
        assert_eq!(
            Challenge::parse(r#"Basic realm="Registry Realm""#),
            [Challenge::Basic]
        );
        let two = r#"Negotiate, basic realm="a \"b\", c", bearer realm=x"#;
        let two = Challenge::parse(two);
        assert!(
            matches!(&two[..], [Challenge::Basic, Challenge::Bearer { realm, .. }] if realm == "x"),
            "{two:?}"
        );
    }

    #[test]
    fn nonsense_gives_no_challenge_and_no_end_of_the_world() {
        for bad in [
            "",
            ",,,",
            "Bearer",
            "=",
            "\"",
            "Bearer service=x",
            "ü",
            "Bearer realm=\"ü\\",
        ] {
            let found = Challenge::parse(bad);
            assert!(found.len() <= 1, "{bad}: {found:?}");
        }
    }

    #[test]
    fn tokens_go_by_both_names_and_hold_no_line_breaks() {
        for good in [
            r#"{"token":"t"}"#,
            r#"{"access_token":"t","expires_in":60}"#,
        ] {
            assert_eq!(Token::parse(good.as_bytes()).unwrap().text(), "t");
        }
        for bad in ["", "{}", r#"{"token":"a\r\nx: y"}"#, r#"{"token":""}"#] {
            assert_eq!(Token::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
