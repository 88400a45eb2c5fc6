//! Hooks of an account: every request is signed, for what it shows is the account's own.

use api::{
    Code, HooksView,
    hook::{HOOK_REQUEST_BYTES_MAX, SignedHookRequest},
};
use axum::{Json, body::Body, extract::State, http::HeaderMap};

use crate::{
    parse::{self, Query},
    refusal::{Answer, Refusal},
    server::App,
};

/// Largest body: hexadecimal doubles the bytes, and the JSON around it is short.
const BODY_BYTES_MAX: usize = 2 * HOOK_REQUEST_BYTES_MAX + 1_024;

pub(super) async fn serve(
    State(app): State<App>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<HooksView>> {
    query.end()?;
    let hooks = app
        .hooks
        .as_ref()
        .ok_or_else(|| Refusal::new(Code::HooksOff, "this node has no place for hooks"))?;
    let bytes = parse::canonical_bytes(
        &headers,
        parse::body(body, BODY_BYTES_MAX).await?,
        "request",
    )?;
    let signed = SignedHookRequest::decode(&bytes)
        .ok_or_else(|| Refusal::new(Code::BadRequest, "the bytes are no signed hook request"))?;
    hooks.serve(signed).await.map(Json)
}
