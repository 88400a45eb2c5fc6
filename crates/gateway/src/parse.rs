//! Ids, queries and bodies: everything that reads a client's bytes, each with its bound.

use std::{collections::BTreeMap, time::Duration};

use api::{Code, Page, view::text::Text};
use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderMap, header, request::Parts},
};
use tokio::time::timeout;

use crate::{
    clients::Client,
    refusal::{Answer, Refusal},
};

/// Longest query string: the longest honest one names four ids and a few kinds.
const QUERY_BYTES_MAX: usize = 2_048;
/// Longest text that an error quotes.
const QUOTE_CHARS: usize = 80;
/// Time for a body: far more than the largest takes on a slow line, far less than a request may wait.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// Items of a page when the client names no number.
const PAGE_DEFAULT: usize = 100;
/// Most items of a page: bounds the work and the answer of one request.
pub(crate) const PAGE_MAX: usize = 1_000;

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let client = parts.extensions.get::<Self>().copied();
        // Every connection says whose it is; without one, nobody in particular.
        Ok(client.unwrap_or(Self::at(std::net::Ipv4Addr::UNSPECIFIED.into())))
    }
}

/// Which page of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    after: Option<(u64, u64)>,
    limit: usize,
}

/// The one id in a route's path.
pub(crate) struct PathId<T>(pub(crate) T);

impl<T: Text, S: Send + Sync> FromRequestParts<S> for PathId<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        id(&path_text(parts, state).await?).map(Self)
    }
}

/// The one text in a route's path.
pub(crate) struct PathText(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        path_text(parts, state).await.map(Self)
    }
}

/// The two texts in a route's path.
pub(crate) struct PathTexts(pub(crate) String, pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for PathTexts {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let mut texts = path_texts(parts, state).await?.into_iter();
        let both = texts.next().zip(texts.next());
        both.map(|(first, second)| Self(first, second))
            .ok_or_else(|| bad("the path lacks an id"))
    }
}

async fn path_text<S: Send + Sync>(parts: &mut Parts, state: &S) -> Answer<String> {
    let first = path_texts(parts, state).await?.into_iter().next();
    first.ok_or_else(|| bad("the path lacks an id"))
}

async fn path_texts<S: Send + Sync>(parts: &mut Parts, state: &S) -> Answer<Vec<String>> {
    let params = RawPathParams::from_request_parts(parts, state).await;
    let params = params.map_err(|_| bad("the path is not UTF-8"))?;
    Ok(params.iter().map(|(_, value)| value.to_owned()).collect())
}

/// Reads an id or another closed text.
pub(crate) fn id<T: Text>(text: &str) -> Answer<T> {
    T::from_text(text).ok_or_else(|| {
        Refusal::new(
            Code::BadId,
            format!("{:?} is not the id of such a thing", quote(text)),
        )
    })
}

fn quote(text: &str) -> String {
    text.chars().take(QUOTE_CHARS).collect()
}

/// A query's names and values; every one must be taken by the handler, so that a typo is an error.
pub(crate) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Query {
    pub(crate) fn parse(text: &str) -> Answer<Self> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(bad(format!(
                "the query is longer than {QUERY_BYTES_MAX} bytes"
            )));
        }
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in text.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let both = unescape(name).zip(unescape(value));
            let (name, value) =
                both.ok_or_else(|| bad(format!("{:?} is not well escaped", quote(part))))?;
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(bad(format!("{:?} is given twice", quote(&name))));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// Takes a value; an empty one counts as absent.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(at).1).filter(|value| !value.is_empty())
    }

    /// Takes an id or another closed text.
    pub(crate) fn id<T: Text>(&mut self, name: &str) -> Answer<Option<T>> {
        self.text(name).map(|text| id(&text)).transpose()
    }

    /// Takes a number.
    pub(crate) fn number(&mut self, name: &str) -> Answer<Option<u64>> {
        let text = self.text(name);
        text.map(|text| {
            text.parse()
                .map_err(|_| bad(format!("{name} must be a number, not {:?}", quote(&text))))
        })
        .transpose()
    }

    /// Takes `true` or `false`; absent is `None`.
    pub(crate) fn flag(&mut self, name: &str) -> Answer<Option<bool>> {
        match self.text(name).as_deref() {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => Err(bad(format!(
                "{name} must be true or false, not {:?}",
                quote(other)
            ))),
        }
    }

    /// Takes the page's size.
    pub(crate) fn limit(&mut self) -> Answer<usize> {
        let limit = self.number("limit")?;
        let limit = limit.map_or(PAGE_DEFAULT, |limit| {
            usize::try_from(limit).unwrap_or(PAGE_MAX)
        });
        if limit == 0 {
            return Err(bad("limit must be at least 1"));
        }
        Ok(limit.min(PAGE_MAX))
    }

    /// Takes which page is wanted.
    pub(crate) fn cut(&mut self) -> Answer<Cut> {
        Ok(Cut {
            after: self.cursor()?,
            limit: self.limit()?,
        })
    }

    /// Takes a cursor of two numbers, as [`page`] writes it.
    fn cursor(&mut self) -> Answer<Option<(u64, u64)>> {
        let Some(text) = self.text("after") else {
            return Ok(None);
        };
        let parts = text
            .split_once('.')
            .and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        parts
            .map(Some)
            .ok_or_else(|| bad("after must be the next of an earlier page"))
    }

    /// Refuses what no one took.
    pub(crate) fn end(self) -> Answer<()> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(bad(format!(
                "{:?} is not a parameter of this address",
                quote(name)
            ))),
        }
    }
}

/// Makes one page of things, sorted by a key of two numbers that no two of them share.
///
/// It looks at all of them, but keeps no more than a page.
pub(crate) fn page<K, V>(
    things: impl Iterator<Item = ((u64, u64), K)>,
    cut: Cut,
    view: impl FnMut(K) -> Option<V>,
) -> Page<V> {
    let mut first: BTreeMap<(u64, u64), K> = BTreeMap::new();
    for (key, thing) in things.filter(|(key, _)| cut.after.is_none_or(|after| *key > after)) {
        // One more than fits tells whether there is a next page.
        if first.len() <= cut.limit {
            first.insert(key, thing);
        } else if first.last_key_value().is_some_and(|(last, _)| key < *last) {
            first.pop_last();
            first.insert(key, thing);
        }
    }
    let more = first.len() > cut.limit;
    if more {
        first.pop_last();
    }
    let last = first.last_key_value().map(|((a, b), _)| format!("{a}.{b}"));
    Page {
        items: first.into_values().filter_map(view).collect(),
        next: last.filter(|_| more),
    }
}

fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}

/// Decodes percent-escapes and `+`; `None` for a broken one or for bytes that are not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let pair = [bytes.next()?, bytes.next()?].map(|c| c.to_ascii_lowercase());
                *api::view::text::parse_hex(std::str::from_utf8(&pair).ok()?)?.first()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

/// Reads a body of at most `max` bytes.
pub(crate) async fn body(body: Body, max: usize) -> Answer<Bytes> {
    let read = timeout(BODY_DEADLINE, axum::body::to_bytes(body, max)).await;
    let read = read.map_err(|_| Refusal::new(Code::Timeout, "the body did not come in time"))?;
    read.map_err(|_| {
        Refusal::new(
            Code::TooLarge,
            format!("the body is longer than {max} bytes, or was cut off"),
        )
    })
}

/// What a body claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// Canonical bytes.
    Binary,
    /// JSON.
    Json,
}

/// Returns what a body claims to be; bytes when it claims nothing.
pub(crate) fn media_type(headers: &HeaderMap) -> Answer<MediaType> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Ok(MediaType::Binary);
    };
    let text = value.to_str().unwrap_or_default();
    match text.split(';').next().unwrap_or_default().trim() {
        "" | "application/octet-stream" => Ok(MediaType::Binary),
        "application/json" => Ok(MediaType::Json),
        other => Err(Refusal::new(
            Code::MediaType,
            format!("{:?} is not accepted here", quote(other)),
        )),
    }
}

/// Takes canonical bytes out of a body: as they are, or in hexadecimal under `field` of a JSON object.
pub(crate) fn canonical_bytes(headers: &HeaderMap, body: Bytes, field: &str) -> Answer<Bytes> {
    if media_type(headers)? == MediaType::Binary {
        return Ok(body);
    }
    let json: serde_json::Value = serde_json::from_slice(&body)
        .map_err(|error| bad(format!("the body is not JSON: {error}")))?;
    let text = json.get(field).and_then(serde_json::Value::as_str);
    let text =
        text.ok_or_else(|| bad(format!("the body must be {{\"{field}\": \"hexadecimal\"}}")))?;
    let bytes = api::view::text::parse_hex(text);
    bytes
        .map(Bytes::from)
        .ok_or_else(|| bad(format!("{field} must be lower-case hexadecimal")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_once_and_completely() {
        let mut query = Query::parse("a=x%20y&limit=5&after=3.4&b=")
            .map_err(drop)
            .unwrap();
        assert_eq!(query.text("a").as_deref(), Some("x y"));
        assert_eq!(query.text("a"), None);
        assert_eq!(query.text("b"), None);
        assert_eq!(query.limit().map_err(drop), Ok(5));
        assert_eq!(query.cursor().map_err(drop), Ok(Some((3, 4))));
        assert!(query.end().is_ok());
        assert!(Query::parse("typo=1").map_err(drop).unwrap().end().is_err());
    }

    #[test]
    fn broken_queries_are_refused() {
        for text in [
            "a=%",
            "a=%4",
            "a=%zz",
            "a=%ff",
            "a=1&a=2",
            &"x".repeat(QUERY_BYTES_MAX + 1),
        ] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
        for text in ["limit=0", "limit=-1", "limit=x"] {
            assert!(
                Query::parse(text).map_err(drop).unwrap().limit().is_err(),
                "{text}"
            );
        }
        for text in ["after=1", "after=x.y", "after=1.2.3"] {
            assert!(
                Query::parse(text).map_err(drop).unwrap().cursor().is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_repeat() {
        let all: Vec<((u64, u64), u64)> = (0..10).map(|n| ((n / 3, n), n)).rev().collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = page(all.clone().into_iter(), Cut { after, limit: 4 }, Some);
            seen.extend(page.items);
            let Some(next) = page.next else { break };
            after = Query::parse(&format!("after={next}"))
                .map_err(drop)
                .unwrap()
                .cursor()
                .map_err(drop)
                .unwrap();
        }
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
    }
}
