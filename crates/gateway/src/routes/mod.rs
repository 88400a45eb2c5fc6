//! The addresses, one file a noun.

use api::Code;
use axum::{
    Router,
    routing::{get, post, put},
};

use crate::{
    refusal::{Answer, Refusal},
    server::App,
};

mod accounts;
mod events;
mod jobs;
mod manifests;
mod plan;
mod proofs;
mod schema;
mod status;
mod supply;
mod transactions;

/// Returns every address.
pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/status", get(status::page))
        .route("/metrics", get(status::metrics))
        .nest("/api/v1", v1())
        .fallback(nowhere)
}

fn v1() -> Router<App> {
    Router::new()
        .route("/status", get(status::status))
        .route("/transactions", post(transactions::submit))
        .route("/transactions/{id}", get(transactions::receipt))
        .route("/accounts/{id}", get(accounts::account))
        .route("/accounts/{id}/postings", get(accounts::postings))
        .route("/keys/{key}", get(accounts::key))
        .route("/offers", get(supply::offers))
        .route("/machines", get(supply::machines))
        .route("/machines/{id}", get(supply::machine))
        .route("/machines/{id}/leases", get(supply::machine_leases))
        .route("/providers/{id}", get(supply::provider))
        .route("/jobs", get(jobs::jobs))
        .route("/jobs/{id}", get(jobs::job))
        .route("/jobs/{id}/leases", get(jobs::job_leases))
        .route("/leases/{id}", get(jobs::lease))
        .route("/orders", get(jobs::orders))
        .route("/events", get(events::events))
        .route("/proofs/{table}/{id}", get(proofs::proof))
        .route("/plan", post(plan::plan))
        .route("/schema/job", get(schema::job))
        .route("/manifests/{job}", put(manifests::put).post(manifests::put))
        .fallback(nowhere)
}

async fn nowhere() -> Refusal {
    std::future::ready(Refusal::new(
        Code::NotFound,
        "there is nothing at this address",
    ))
    .await
}

/// Returns what was found, or the refusal with `code`.
fn found<T>(thing: Option<T>, code: Code, id: impl std::fmt::Display) -> Answer<T> {
    thing.ok_or_else(|| Refusal::new(code, format!("the ledger has no {id}")))
}
