//! `Idempotency-Key`: the same request under the same key gets the same answer, however often it arrives.
//!
//! Transactions and manifests are safe to repeat by themselves; the key is for clients that also want the first answer
//! back. Keys belong to the client that sent them, so nobody meets another's. See the IETF draft
//! `draft-ietf-httpapi-idempotency-key-header`.

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use api::Code;
use axum::{
    body::Bytes,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use market::{Digest, codec::TX_BYTES_MAX};
use tokio::time::Instant;

use crate::{
    clients::Client,
    parse,
    refusal::{Answer, Carried, Refusal},
};

/// The header.
const HEADER: &str = "idempotency-key";
/// Says that an answer was given before.
pub(crate) const REPLAYED: &str = "idempotency-replayed";
/// Longest key: a UUID has 36 characters.
const KEY_BYTES_MAX: usize = 128;
/// Largest body of any route that takes one.
const BODY_BYTES_MAX: usize = 2 * TX_BYTES_MAX + 4_096;
/// Largest answer that is kept; a plan has some kilobytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most answers that are kept; then the oldest go. At a few hundred bytes each, some megabytes.
const KEPT_MAX: usize = 8_192;
/// How long an answer is kept: far longer than a client tries again.
const AGE_MAX: Duration = Duration::from_hours(1);

/// The answers that were given under keys.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<SlotId, Slot>,
    /// In the order in which they were begun.
    order: VecDeque<(Instant, SlotId)>,
}

/// Whose key.
type SlotId = (Client, String);

#[derive(Debug)]
struct Slot {
    request: Digest,
    /// `None` while the first request is under way.
    kept: Option<Kept>,
}

/// An answer that can be given again.
#[derive(Clone, Debug)]
struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    problem: Option<Box<Carried>>,
}

/// What to do with a request.
enum Turn {
    First,
    Again(Box<Kept>),
    Running,
    Other,
}

/// Forgets a request that was cut off before it had an answer.
struct Begun<'a> {
    replies: &'a Replies,
    id: Option<SlotId>,
}

impl Replies {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Serves a request, or gives the answer that it had before.
    pub(crate) async fn serve<F: Future<Output = Response>>(
        &self,
        client: Client,
        request: Request,
        next: impl FnOnce(Request) -> F,
    ) -> Response {
        let key = request
            .headers()
            .get(HEADER)
            .filter(|_| request.method() == Method::POST);
        let Some(key) = key.cloned() else {
            return next(request).await;
        };
        match self.serve_keyed(client, &key, request, next).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn serve_keyed<F: Future<Output = Response>>(
        &self,
        client: Client,
        key: &HeaderValue,
        request: Request,
        next: impl FnOnce(Request) -> F,
    ) -> Answer<Response> {
        let id = (client, key_text(key)?);
        let (parts, body) = request.into_parts();
        let body = parse::body(body, BODY_BYTES_MAX).await?;
        let digest = digest(&parts, &body);
        match self.table().turn(&id, digest, Instant::now()) {
            Turn::Again(kept) => return Ok(kept.response()),
            Turn::Running => {
                let text = "the first request with this key is still under way";
                return Err(Refusal::new(Code::IdempotencyRunning, text));
            }
            Turn::Other => {
                let text = "the key was used for another request";
                return Err(Refusal::new(Code::IdempotencyReused, text));
            }
            Turn::First => {}
        }
        let mut begun = Begun {
            replies: self,
            id: Some(id),
        };
        let response = next(Request::from_parts(parts, body.into())).await;
        let (response, kept) = keep(response).await?;
        if let (Some(kept), Some(id)) = (kept, begun.id.take()) {
            self.table().finish(&id, kept);
        }
        Ok(response)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn turn(&mut self, id: &SlotId, request: Digest, now: Instant) -> Turn {
        self.forget_old(now);
        match self.slots.get(id) {
            Some(slot) if slot.request != request => Turn::Other,
            Some(Slot { kept: None, .. }) => Turn::Running,
            Some(Slot {
                kept: Some(kept), ..
            }) => Turn::Again(Box::new(kept.clone())),
            None => {
                let slot = Slot {
                    request,
                    kept: None,
                };
                self.slots.insert(id.clone(), slot);
                self.order.push_back((now, id.clone()));
                Turn::First
            }
        }
    }

    fn finish(&mut self, id: &SlotId, kept: Kept) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.kept = Some(kept);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((since, _)) = self.order.front() {
            if now.duration_since(*since) < AGE_MAX && self.order.len() < KEPT_MAX {
                break;
            }
            if let Some((_, id)) = self.order.pop_front() {
                self.slots.remove(&id);
            }
        }
    }
}

impl Kept {
    fn response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        *response.headers_mut() = self.headers;
        response
            .headers_mut()
            .insert(REPLAYED, HeaderValue::from_static("true"));
        if let Some(problem) = self.problem {
            response.extensions_mut().insert(problem);
        }
        response
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let mut table = self.replies.table();
            table.slots.remove(&id);
            table.order.retain(|(_, known)| *known != id);
        }
    }
}

fn key_text(key: &HeaderValue) -> Answer<String> {
    let text = key.to_str().unwrap_or_default();
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || !(1..=KEY_BYTES_MAX).contains(&text.len()) {
        let text = format!("Idempotency-Key must have 1 to {KEY_BYTES_MAX} visible characters");
        return Err(Refusal::new(Code::BadRequest, text));
    }
    Ok(text.to_owned())
}

/// Returns what makes two requests the same: address, media type, claim and body.
fn digest(parts: &Parts, body: &[u8]) -> Digest {
    let target = parts
        .uri
        .path_and_query()
        .map_or("", |target| target.as_str());
    let header = |name: &str| {
        let value = parts.headers.get(name);
        value.map_or(&b""[..], |value| value.as_bytes())
    };
    let (kind, claim) = (header("content-type"), header(api::claim::CLAIM_HEADER));
    // A zero byte is in none of the first three, so no two requests read the same.
    Digest::of(&[target.as_bytes(), b"\0", kind, b"\0", claim, b"\0", body])
}

/// Reads an answer that can be kept: not a failure of the gateway, which may go well the next time, and not too large.
async fn keep(response: Response) -> Answer<(Response, Option<Kept>)> {
    let status = response.status();
    let problem = response.extensions().get::<Box<Carried>>().cloned();
    let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    // A failure's code is only in its problem until the guard has written it.
    if passing || problem.as_ref().is_some_and(|problem| problem.is_passing()) {
        return Ok((response, None));
    }
    let (parts, body) = response.into_parts();
    let body = parse::body(body, ANSWER_BYTES_MAX).await?;
    let kept = Kept {
        status,
        headers: parts.headers.clone(),
        body: body.clone(),
        problem,
    };
    Ok((Response::from_parts(parts, body.into()), Some(kept)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> SlotId {
        (Client::at([203, 0, 113, 1].into()), n.to_string())
    }

    fn kept() -> Kept {
        Kept {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            problem: None,
        }
    }

    #[test]
    fn a_flood_of_keys_forgets_the_oldest_and_an_hour_forgets_all() {
        let (mut table, now) = (Table::default(), Instant::now());
        let request = Digest([1; 32]);
        for n in 0..KEPT_MAX + 10 {
            assert!(matches!(table.turn(&id(n), request, now), Turn::First));
            table.finish(&id(n), kept());
        }
        assert!(table.slots.len() <= KEPT_MAX && table.order.len() <= KEPT_MAX);
        let last = id(KEPT_MAX + 9);
        assert!(matches!(table.turn(&last, request, now), Turn::Again(_)));
        assert!(matches!(
            table.turn(&last, Digest([2; 32]), now),
            Turn::Other
        ));
        assert!(matches!(table.turn(&id(0), request, now), Turn::First));
        assert!(matches!(table.turn(&id(0), request, now), Turn::Running));
        assert!(matches!(
            table.turn(&last, request, now + AGE_MAX),
            Turn::First
        ));
        assert_eq!(table.slots.len(), 1);
    }
}
