//! Manifests on their way to this node's keeper.

use api::{
    Code, ManifestClaim,
    claim::CLAIM_HEADER,
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

/// 204 when it is stored; 202 when its job is not on the ledger yet, which its future owner must have signed.
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
    match keeper.put(job, sealed, claim(&headers)?).await? {
        Kept::Stored => Ok(StatusCode::NO_CONTENT),
        Kept::Staged => Ok(StatusCode::ACCEPTED),
    }
}

/// Reads whose the manifest is, where the sender shows it.
fn claim(headers: &HeaderMap) -> Answer<Option<ManifestClaim>> {
    let Some(value) = headers.get(CLAIM_HEADER) else {
        return Ok(None);
    };
    let claim = value.to_str().ok().and_then(ManifestClaim::from_text);
    claim.map(Some).ok_or_else(|| {
        let text = format!("{CLAIM_HEADER} must be KEY.NONCE.SIGNATURE");
        Refusal::new(Code::BadRequest, text)
    })
}
