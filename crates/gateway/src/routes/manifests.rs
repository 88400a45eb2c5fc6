//! Manifests on their way to this node's keeper.

use api::{
    Code,
    envelope::{SEALED_JOB_BYTES_MAX, SealedJob},
};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use market::JobId;

use crate::{
    keeper::Kept,
    parse::{self, PathId, Query},
    refusal::{Answer, Refusal},
    server::App,
};

/// Largest body: hexadecimal doubles the bytes, and the JSON around it is short.
const BODY_BYTES_MAX: usize = 2 * SEALED_JOB_BYTES_MAX + 1_024;

/// 204 when it is stored; 202 when its job is not on the ledger yet.
pub(super) async fn put(
    State(app): State<App>,
    PathId(job): PathId<JobId>,
    query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<StatusCode> {
    query.end()?;
    let keeper = app.keeper.as_ref();
    let keeper =
        keeper.ok_or_else(|| Refusal::new(Code::NotKeeper, "this node keeps no manifests"))?;
    let bytes =
        parse::canonical_bytes(&headers, parse::body(body, BODY_BYTES_MAX).await?, "sealed")?;
    let sealed = SealedJob::decode(&bytes)
        .map_err(|error| Refusal::new(Code::BadManifest, error.to_string()))?;
    match keeper.put(job, sealed).await? {
        Kept::Stored => Ok(StatusCode::NO_CONTENT),
        Kept::Staged => Ok(StatusCode::ACCEPTED),
    }
}
