//! Taking transactions, and saying what became of them.

use std::time::Duration;

use api::{Code, Problem, TxStatus, TxView};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use market::{
    SignedTx, Timestamp,
    codec::{TX_BYTES_MAX, TxId},
};
use node::{Included, WaitError};

use crate::{
    clients::{Client, Kind},
    parse::{self, PathId, Query},
    refusal::{Answer, Refusal},
    server::App,
};

/// How long `wait=final` holds a request; below the deadline of every request.
const WAIT_MAX: Duration = Duration::from_secs(25);
/// Largest body: hexadecimal doubles a transaction, and the JSON around it is short.
const BODY_BYTES_MAX: usize = 2 * TX_BYTES_MAX + 1_024;

pub(super) async fn submit(
    State(app): State<App>,
    client: Client,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    let wait = wait(&mut query)?;
    query.end()?;
    let bytes = parse::canonical_bytes(&headers, parse::body(body, BODY_BYTES_MAX).await?, "tx")?;
    let tx = SignedTx::decode(&bytes)
        .map_err(|error| Refusal::new(Code::BadTransaction, error.to_string()))?;
    let signer = tx.body.signer;
    if let Some(wait) = app.clients.key_must_wait(client, &signer) {
        let text = "the key sends transactions faster than it may";
        return Err(Refusal::new(Code::RateLimited, text).retry_in(wait));
    }
    let id = app.node.submit(tx).await?;
    app.clients.count_key(client, signer);
    answer(&app, client, id, wait).await
}

pub(super) async fn receipt(
    State(app): State<App>,
    client: Client,
    PathId(id): PathId<TxId>,
    mut query: Query,
) -> Answer<Response> {
    let wait = wait(&mut query)?;
    query.end()?;
    answer(&app, client, id, wait).await
}

/// Returns the receipt, or after the wait 202 and where to ask for it.
async fn answer(app: &App, client: Client, id: TxId, wait: Duration) -> Answer<Response> {
    let mut _place = None;
    if !wait.is_zero() {
        let place = app.clients.enter(client, Kind::Waiting);
        // Nothing is lost: what was taken goes on, and its receipt can be asked for.
        _place =
            Some(place.map_err(|why| Refusal::no_room(why, "requests that wait for a block"))?);
    }
    match app.node.receipt(&id, wait).await {
        Ok(included) => Ok(Json(view(&included)).into_response()),
        Err(WaitError::NotYet) => {
            let location = [(header::LOCATION, format!("/api/v1/transactions/{id}"))];
            Ok((StatusCode::ACCEPTED, location, Json(TxView::pending(id))).into_response())
        }
        Err(other) => Err(other.into()),
    }
}

fn wait(query: &mut Query) -> Answer<Duration> {
    match query.text("wait").as_deref() {
        None => Ok(Duration::ZERO),
        Some("final") => Ok(WAIT_MAX),
        Some(_) => Err(Refusal::new(Code::BadRequest, "wait can only be final")),
    }
}

fn view(included: &Included) -> TxView {
    let problem = included.result.as_ref().err().map(Problem::from);
    TxView {
        id: included.id,
        status: if problem.is_some() {
            TxStatus::Rejected
        } else {
            TxStatus::Applied
        },
        height: Some(included.height),
        time: Some(Timestamp::from_unix_millis(included.time_ms).into()),
        index: Some(included.index),
        problem,
    }
}
