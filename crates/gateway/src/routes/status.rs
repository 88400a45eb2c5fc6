//! What the gateway says of itself.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{Code, StatusView};
use axum::{Json, extract::State};
use futures::FutureExt as _;
use market::Timestamp;

use crate::{
    parse::Query,
    reads,
    refusal::{Answer, Refusal},
    server::App,
};

/// Age of the newest block above which the node counts as stuck: three of its heartbeats, and as much for a busy disk.
const HEAD_AGE_MAX: Duration = Duration::from_mins(1);

pub(super) async fn status(State(app): State<App>, query: Query) -> Answer<Json<StatusView>> {
    query.end()?;
    Ok(Json(view(&app)))
}

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(app): State<App>) -> Answer<&'static str> {
    match not_ready(&app) {
        None => Ok("ok\n"),
        Some(why) => Err(Refusal::new(Code::NotReady, why)),
    }
}

/// A page for people, in plain text.
pub(super) async fn page(State(app): State<App>) -> String {
    let status = view(&app);
    let keeper = status.keeper.as_ref().map_or_else(
        || "none".to_owned(),
        |keeper| format!("{} at {}", keeper.endpoint, keeper.dial.join(", ")),
    );
    format!(
        "tradewind {version}\n\n\
         network    {network}\n\
         group key  {group_key}\n\
         block      {height}, {time}\n\
         ready      {ready}\n\
         waiting    {pending} transactions\n\
         issued     {issued}\n\
         fees       {fees}\n\
         insurance  {insurance}\n\
         keeper     {keeper}\n\n\
         the API is under /api/v1\n",
        version = status.version,
        network = status.network,
        group_key = status.group_key,
        height = status.height,
        time = status.time,
        ready = status.not_ready.as_deref().unwrap_or("yes"),
        pending = status.pending,
        issued = status.issued,
        fees = status.fees,
        insurance = status.insurance,
    )
}

fn view(app: &App) -> StatusView {
    let node = app.node.status();
    let not_ready = not_ready(app);
    StatusView {
        group_key: api::view::text::to_hex(&node.group_key),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: now().into(),
        pending: u64::try_from(node.pool_txs).unwrap_or(u64::MAX),
        ready: not_ready.is_none(),
        not_ready,
        keeper: app.keeper.as_ref().map(|keeper| keeper.view()),
        ..app.node.read(reads::status)
    }
}

/// Returns why the node does not follow the network, if so.
fn not_ready(app: &App) -> Option<String> {
    match app.node.ended().now_or_never() {
        Some(node::Ended::Stopped) => return Some("the node has stopped".to_owned()),
        Some(node::Ended::Failed { why }) => return Some(format!("the node has failed: {why}")),
        None => {}
    }
    let head = app.node.read(market::Market::time);
    let age = now().since(head);
    (u128::from(age.millis()) > HEAD_AGE_MAX.as_millis())
        .then(|| format!("the newest block is {} s old", age.millis() / 1_000))
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
