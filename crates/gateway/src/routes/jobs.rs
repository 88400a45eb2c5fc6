//! Jobs, orders and leases.

use api::{Code, JobView, LeaseView, OrderView, Page};
use axum::{Json, extract::State};
use market::{JobId, LeaseId};

use crate::{
    parse::{PathId, PathText, Query},
    reads::{self, Found, JobWish},
    refusal::{Answer, Refusal},
    server::App,
};

use super::found;

/// Shortest beginning of an id that is looked for: the prefix and one character.
const PREFIX_CHARS_MIN: usize = 5;
/// Longest text that can be an id.
const ID_CHARS_MAX: usize = 64;

pub(super) async fn jobs(State(app): State<App>, mut query: Query) -> Answer<Json<Page<JobView>>> {
    let tenant = query.id("tenant")?;
    let wish = match query.text("state").as_deref() {
        None => JobWish::All,
        Some("open") => JobWish::Open,
        Some("running") => JobWish::Running,
        Some("ended") => JobWish::Ended,
        Some("live") => JobWish::Live,
        Some(_) => {
            return Err(Refusal::new(
                Code::BadRequest,
                "state must be open, running, ended or live",
            ));
        }
    };
    let cut = query.cut()?;
    query.end()?;
    let jobs = app.scan(move |market| reads::jobs(market, tenant, wish, cut));
    Ok(Json(jobs.await?))
}

pub(super) async fn job(
    State(app): State<App>,
    PathText(text): PathText,
    query: Query,
) -> Answer<Json<JobView>> {
    query.end()?;
    let fits = (PREFIX_CHARS_MIN..=ID_CHARS_MAX).contains(&text.len());
    if !(fits && text.starts_with("job_")) {
        return Err(Refusal::new(
            Code::BadId,
            "a job's id is job_ and at least one character",
        ));
    }
    // A whole id is found at once; the beginning of one must be compared with all.
    let known = if let Ok(id) = text.parse::<JobId>() {
        app.node.read(|market| reads::job(market, id))
    } else {
        let text = text.clone();
        app.scan(move |market| reads::job_beginning(market, &text))
            .await?
    };
    match known {
        Found::One(job) => Ok(Json(job)),
        Found::None => Err(Refusal::new(
            Code::NoJob,
            format!("the ledger has no {text}"),
        )),
        Found::Several => Err(Refusal::new(
            Code::AmbiguousId,
            format!("several jobs begin with {text}"),
        )),
    }
}

pub(super) async fn job_leases(
    State(app): State<App>,
    PathId(id): PathId<JobId>,
    mut query: Query,
) -> Answer<Json<Page<LeaseView>>> {
    let cut = query.cut()?;
    query.end()?;
    let leases = app.node.read(|market| reads::job_leases(market, id, cut));
    found(leases, Code::NoJob, id).map(Json)
}

pub(super) async fn lease(
    State(app): State<App>,
    PathId(id): PathId<LeaseId>,
    query: Query,
) -> Answer<Json<LeaseView>> {
    query.end()?;
    let lease = app
        .node
        .read(|market| market.lease(id).map(LeaseView::from));
    found(lease, Code::NoLease, id).map(Json)
}

pub(super) async fn orders(
    State(app): State<App>,
    mut query: Query,
) -> Answer<Json<Page<OrderView>>> {
    let cut = query.cut()?;
    query.end()?;
    let orders = app.scan(move |market| reads::orders(market, cut));
    Ok(Json(orders.await?))
}
