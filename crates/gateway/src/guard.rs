//! What surrounds every request: a number, a deadline, and a bound on how many are served at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use api::Code;
use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tokio::{sync::Semaphore, time::timeout};

use crate::refusal::{self, Refusal};

/// Requests served at once; more are told to try again. Those that wait for a block count too.
const IN_FLIGHT_MAX: usize = 1_024;
/// Time for a whole request, its body included; above the longest wait for a block.
const REQUEST_DEADLINE: Duration = Duration::from_secs(30);

/// The guard's state.
#[derive(Debug)]
pub(crate) struct Guard {
    in_flight: Semaphore,
    /// Start of the process in seconds, so that numbers of two runs differ.
    started: u64,
    next: AtomicU64,
}

impl Guard {
    pub(crate) fn new() -> Arc<Self> {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Arc::new(Self {
            in_flight: Semaphore::new(IN_FLIGHT_MAX),
            started: since.as_secs(),
            next: AtomicU64::new(0),
        })
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
    let response = match guard.in_flight.try_acquire() {
        Err(_) => Refusal::new(
            Code::TooManyRequests,
            "the gateway serves too many requests",
        )
        .into_response(),
        Ok(_permit) => match timeout(REQUEST_DEADLINE, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Refusal::new(Code::Timeout, "the request took too long").into_response(),
        },
    };
    let mut response = refusal::finish(named(response), &request_id);
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
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
