//! Schemas of the files that people write, so that editors complete them.

use axum::{http::header::CONTENT_TYPE, response::IntoResponse};

/// Returns the JSON Schema of job files.
pub(super) async fn job() -> impl IntoResponse {
    let schema = std::future::ready(api::jobfile::schema()).await;
    ([(CONTENT_TYPE, "application/schema+json")], schema)
}
