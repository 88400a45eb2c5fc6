//! What surrounds every request: a number, a deadline, and a bound on how many are served at once.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use api::Code;
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::timeout;
use tracing::Instrument as _;

use crate::{
    clients::{Client, Clients, Kind, Standing},
    metrics::{Ended, Metrics},
    refusal::{self, Refusal, number},
    replies::{self, Replies},
};

/// Names a request, in both directions.
const REQUEST_ID: &str = "x-request-id";

/// Time for a whole request, its body included; above the longest wait for a block.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The guard's state.
#[derive(Debug)]
pub(crate) struct Guard {
    clients: Arc<Clients>,
    metrics: Arc<Metrics>,
    replies: Arc<Replies>,
    /// Start of the process in seconds, so that numbers of two runs differ.
    started: u64,
    next: AtomicU64,
}

impl Guard {
    pub(crate) fn new(clients: Arc<Clients>, metrics: Arc<Metrics>) -> Arc<Self> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Arc::new(Self {
            clients,
            metrics,
            replies: Replies::new(),
            started: since.as_secs(),
            next: AtomicU64::new(0),
        })
    }
}

impl Guard {
    /// Returns the request's own id where it has a good one, else a new one.
    fn request_id(&self, headers: &HeaderMap) -> String {
        /// Longest id that is taken over: a UUID has 36 characters, and it goes into every log line.
        const BYTES_MAX: usize = 64;
        let given = headers
            .get(REQUEST_ID)
            .and_then(|value| value.to_str().ok());
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        match given {
            Some(id) if (1..=BYTES_MAX).contains(&id.len()) && id.bytes().all(plain) => {
                id.to_owned()
            }
            _ => {
                let number = self.next.fetch_add(1, Ordering::Relaxed);
                format!("req_{:x}-{number:x}", self.started)
            }
        }
    }

    async fn serve(&self, client: Client, request: Request, next: Next) -> Response {
        let _place = match self.clients.enter(client, Kind::Request) {
            Ok(place) => place,
            Err(why) => {
                self.metrics.gateway.refused("requests");
                return Refusal::no_room(why, "requests").into_response();
            }
        };
        let answer = self
            .replies
            .serve(client, request, |request| next.run(request));
        match timeout(REQUEST_DEADLINE, answer).await {
            Ok(response) => response,
            Err(_) => Refusal::new(Code::Timeout, "the request took too long").into_response(),
        }
    }
}

/// Serves one request within the bounds.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let request_id = guard.request_id(request.headers());
    let client = request.extensions().get::<Client>().copied();
    let client = client.unwrap_or(Client::at(Ipv4Addr::UNSPECIFIED.into()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map(|route| route.as_str().to_owned());
    let span = tracing::info_span!("request", request_id);
    let standing = guard.clients.count(client);
    let response = match standing.and_then(|standing| standing.retry_in) {
        Some(wait) => {
            guard.metrics.gateway.refused("rate");
            let text = "your address asks more often than it may";
            Refusal::new(Code::RateLimited, text)
                .retry_in(wait)
                .into_response()
        }
        None => guard.serve(client, request, next).instrument(span).await,
    };
    let mut response = refusal::finish(named(response), &request_id);
    let ended = Ended {
        method,
        route,
        status: response.status().as_u16(),
        took: begun.elapsed(),
    };
    tracing::debug!(request_id, path, ?ended, "request");
    guard.metrics.gateway.ended(&ended);
    let headers = response.headers_mut();
    if headers.contains_key(replies::REPLAYED) {
        guard.metrics.gateway.replayed();
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(standing) = standing {
        say_standing(headers, standing);
    }
    response
}

/// Says how the client's bucket stands, so that it can slow down before it must.
fn say_standing(headers: &mut HeaderMap, standing: Standing) {
    let full_in_s = standing.full_in.as_millis().div_ceil(1_000);
    headers.insert("ratelimit-limit", number(&standing.limit));
    headers.insert("ratelimit-remaining", number(&standing.remaining));
    headers.insert("ratelimit-reset", number(&full_in_s));
}

/// Turns the framework's own plain refusals into ours.
fn named(response: Response) -> Response {
    let bare = response
        .headers()
        .get(axum::http::header::CONTENT_TYPE)
        .is_none();
    match response.status() {
        StatusCode::METHOD_NOT_ALLOWED if bare => {
            let allow = response.headers().get(axum::http::header::ALLOW).cloned();
            let mut ours = Refusal::new(Code::MethodNotAllowed, "this method is not served here")
                .into_response();
            if let Some(allow) = allow {
                ours.headers_mut().insert(axum::http::header::ALLOW, allow);
            }
            ours
        }
        _ => response,
    }
}
