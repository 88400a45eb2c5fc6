//! What surrounds every request: a number, a deadline, and a bound on how many are served at once.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::Code;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::time::timeout;

use crate::{
    clients::{Client, Clients, Kind, Standing},
    refusal::{self, Refusal, number},
};

/// Time for a whole request, its body included; above the longest wait for a block.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The guard's state.
#[derive(Debug)]
pub(crate) struct Guard {
    clients: Arc<Clients>,
    /// Start of the process in seconds, so that numbers of two runs differ.
    started: u64,
    next: AtomicU64,
}

impl Guard {
    pub(crate) fn new(clients: Arc<Clients>) -> Arc<Self> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Arc::new(Self {
            clients,
            started: since.as_secs(),
            next: AtomicU64::new(0),
        })
    }
}

impl Guard {
    async fn serve(&self, client: Client, request: Request, next: Next) -> Response {
        let _place = match self.clients.enter(client, Kind::Request) {
            Ok(place) => place,
            Err(why) => return Refusal::no_room(why, "requests").into_response(),
        };
        match timeout(REQUEST_DEADLINE, next.run(request)).await {
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
    let number = guard.next.fetch_add(1, Ordering::Relaxed);
    let request_id = format!("req_{:x}-{number:x}", guard.started);
    tracing::debug!(request_id, method = %request.method(), path = request.uri().path(), "request");
    let client = request.extensions().get::<Client>().copied();
    let client = client.unwrap_or(Client::at(Ipv4Addr::UNSPECIFIED.into()));
    let standing = guard.clients.count(client);
    let wait = standing.and_then(|standing| standing.retry_in);
    let response = match wait {
        Some(wait) => Refusal::new(
            Code::RateLimited,
            "your address asks more often than it may",
        )
        .retry_in(wait)
        .into_response(),
        None => guard.serve(client, request, next).await,
    };
    let mut response = refusal::finish(named(response), &request_id);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    if let Some(standing) = standing {
        say_standing(response.headers_mut(), standing);
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
