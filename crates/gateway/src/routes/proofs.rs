//! Proofs of records.

use api::Code;
use axum::{body::Bytes, extract::State, http::header, response::IntoResponse};
use market::RecordId;

use crate::{
    parse::{self, PathTexts, Query},
    refusal::{Answer, Refusal},
    server::App,
};

pub(super) async fn proof(
    State(app): State<App>,
    PathTexts(table, id): PathTexts,
    query: Query,
) -> Answer<impl IntoResponse> {
    query.end()?;
    let record = record(&table, &id)?;
    let bundle = app.node.proof(record.key()).await?;
    Ok((
        [(header::CONTENT_TYPE, "application/octet-stream")],
        Bytes::from(bundle),
    ))
}

fn record(table: &str, id: &str) -> Answer<RecordId> {
    Ok(match table {
        "system" => RecordId::System,
        "signer" => RecordId::Signer(parse::id(id)?),
        "account" => RecordId::Account(parse::id(id)?),
        "reference" => RecordId::Reference(parse::id(id)?),
        "redemption" => RecordId::Redemption(parse::id(id)?),
        "provider" => RecordId::Provider(parse::id(id)?),
        "machine" => RecordId::Machine(parse::id(id)?),
        "offer" => RecordId::Offer(parse::id(id)?),
        "job" => RecordId::Job(parse::id(id)?),
        "order" => RecordId::Order(parse::id(id)?),
        "bid" => RecordId::Bid(parse::id(id)?),
        "lease" => RecordId::Lease(parse::id(id)?),
        "hold" => RecordId::Hold(parse::id(id)?),
        "payable" => RecordId::Payable(parse::id(id)?),
        _ => return Err(Refusal::new(Code::NotFound, "there is no such table")),
    })
}
