//! Every error of a handler as a problem.

use std::time::Duration;

use api::{Code, Problem};
use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use node::{HistoryError, ProofError, SubmitError, WaitError};

use crate::clients::NoRoom;

/// A refused request. The guard adds the request's id before the body is written.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Carried>);

/// A handler's answer.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl Carried {
    /// Returns whether the same request may go well a little later.
    pub(crate) const fn is_passing(&self) -> bool {
        self.problem.status >= 500 || self.problem.status == 429
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    /// Makes the refusal of one for whom there is no room.
    pub(crate) fn no_room(why: NoRoom, things: &str) -> Self {
        match why {
            NoRoom::Yours => Self::new(
                Code::TooManyRequests,
                format!("your address has as many {things} as one may have"),
            ),
            NoRoom::All => Self::new(
                Code::Overloaded,
                format!("the gateway serves as many {things} as it can"),
            ),
        }
    }

    /// Says when to try again.
    pub(crate) fn retry_in(mut self, wait: Duration) -> Self {
        // Rounded up: an earlier attempt would be refused again.
        self.0.retry_s = wait.as_millis().div_ceil(1_000).max(1);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::from_u16(self.0.problem.status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(self.0);
        response
    }
}

/// A problem on its way to the guard.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    problem: Problem,
    /// When to try again, where trying again may help, in seconds.
    retry_s: u128,
}

/// Writes the problem that a response carries, if any, with the request's id.
pub(crate) fn finish(mut response: Response, request_id: &str) -> Response {
    if let Some(carried) = response.extensions_mut().remove::<Box<Carried>>() {
        let Carried {
            mut problem,
            retry_s,
        } = *carried;
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
            headers.insert(header::RETRY_AFTER, number(&retry_s));
        }
    }
    response
}

/// Returns a number as a header has it.
pub(crate) fn number(value: &impl ToString) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("digits are allowed in a header")
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(Box::new(Carried {
            problem,
            retry_s: 1,
        }))
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
