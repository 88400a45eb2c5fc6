//! Accounts and keys.

use api::{AccountView, Code, KeyView, Page, PostingView, RedemptionView};
use axum::{Json, extract::State};
use market::{AccountId, Event, EventKind, PublicKey};
use node::{Filter, Subject};

use crate::{
    parse::{PathId, Query},
    reads,
    refusal::Answer,
    server::App,
};

use super::{events, found};

/// Tag of [`EventKind::Posted`], the first kind.
const POSTED_TAG: u8 = 0;

pub(super) async fn account(
    State(app): State<App>,
    PathId(id): PathId<AccountId>,
    query: Query,
) -> Answer<Json<AccountView>> {
    query.end()?;
    found(
        app.node.read(|market| reads::account(market, id)),
        Code::NoAccount,
        id,
    )
    .map(Json)
}

pub(super) async fn postings(
    State(app): State<App>,
    PathId(id): PathId<AccountId>,
    mut query: Query,
) -> Answer<Json<Page<PostingView>>> {
    let (after, limit) = (query.number("after")?, query.limit()?);
    query.end()?;
    let filter = Filter {
        subjects: vec![Subject::Account(id)],
        kinds: vec![POSTED_TAG],
    };
    let page = events::page(&app, filter, after, limit, posting);
    Ok(Json(page.await?))
}

fn posting(event: &Event) -> Option<PostingView> {
    let EventKind::Posted {
        from,
        to,
        amount,
        purpose,
    } = event.kind
    else {
        return None;
    };
    Some(PostingView {
        seq: event.seq,
        time: event.time.into(),
        tx: event.cause,
        from,
        to,
        amount: amount.into(),
        purpose,
    })
}

pub(super) async fn redemptions(
    State(app): State<App>,
    mut query: Query,
) -> Answer<Json<Page<RedemptionView>>> {
    let (treasurer, account) = (query.id("treasurer")?, query.id("account")?);
    let cut = query.cut()?;
    query.end()?;
    let found = app.scan(move |market| reads::redemptions(market, treasurer, account, cut));
    Ok(Json(found.await?))
}

pub(super) async fn key(
    State(app): State<App>,
    PathId(key): PathId<PublicKey>,
    query: Query,
) -> Answer<Json<KeyView>> {
    query.end()?;
    let Some(view) = app.node.read(|market| reads::key(market, &key)) else {
        return Ok(Json(KeyView::unknown(key)));
    };
    // A key that may not send any more has no next nonce but the ledger's.
    let next_nonce = app.node.next_nonce(&key).unwrap_or(view.finalized_nonce);
    Ok(Json(KeyView { next_nonce, ..view }))
}
