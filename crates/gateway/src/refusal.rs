//! Every error of a handler as a problem.

use api::{Code, Problem};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use node::{HistoryError, ProofError, SubmitError, WaitError};

/// A refused request. The guard adds the request's id before the body is written.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Problem>);

/// A handler's answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() =
            StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(Carried(self.0));
        response
    }
}

/// A problem on its way to the guard.
#[derive(Clone)]
struct Carried(Box<Problem>);

/// Writes the problem that a response carries, if any, with the request's id.
pub(crate) fn finish(mut response: Response, request_id: &str) -> Response {
    if let Some(Carried(mut problem)) = response.extensions_mut().remove::<Carried>() {
        problem.request_id = Some(request_id.to_owned());
        if problem.status >= 500 {
            tracing::warn!(
                request_id,
                code = problem.code,
                detail = problem.detail,
                "request failed"
            );
        }
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        *response.body_mut() = body.into();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if problem.status == 429 || problem.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
    }
    response
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        let detail = error.to_string();
        let code = match &error {
            SubmitError::Inadmissible(why) => Code::from(why),
            SubmitError::Signature(_) => Code::BadSignature,
            SubmitError::NonceUsed { .. } => Code::Nonce,
            SubmitError::Expiry => Code::TxExpiry,
            SubmitError::Full(node::PoolFull::Pool) => Code::PoolFull,
            SubmitError::Full(node::PoolFull::Key) => Code::KeyQueueFull,
            SubmitError::Full(node::PoolFull::NonceTaken) => Code::NonceTaken,
            SubmitError::TooLong { .. } => Code::TooLarge,
            SubmitError::History(_) => return internal(&error),
            SubmitError::Stopping => Code::Stopping,
        };
        Problem::new(code, detail)
            .charged(market::Money::ZERO)
            .into()
    }
}

impl From<WaitError> for Refusal {
    fn from(error: WaitError) -> Self {
        let code = match &error {
            WaitError::NotYet => Code::Timeout,
            WaitError::Unknown => Code::NoTransaction,
            WaitError::Dropped => Code::TxDropped,
            WaitError::TooMany => Code::Overloaded,
            WaitError::History(_) => return internal(&error),
            WaitError::Stopping => Code::Stopping,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ProofError> for Refusal {
    fn from(error: ProofError) -> Self {
        match &error {
            ProofError::NotYet => Self::new(Code::NoProof, error.to_string()),
            ProofError::Store(_) => internal(&error),
            ProofError::Stopping => Self::new(Code::Stopping, error.to_string()),
        }
    }
}

impl From<HistoryError> for Refusal {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Stopped => Self::new(Code::Stopping, error.to_string()),
            HistoryError::Sqlite(_) | HistoryError::Damaged => internal(&error),
        }
    }
}

/// Logs what only the operator may see, and tells the client that it is not its fault.
pub(crate) fn internal(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::error!(error, "a request failed inside the node");
    Refusal::new(Code::Internal, error.to_string())
}
