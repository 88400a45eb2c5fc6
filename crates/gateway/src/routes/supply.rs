//! Providers, machines and offers.

use api::{Code, MachineView, OfferView, Page, ProviderView, WorkView};
use axum::{Json, extract::State};
use market::{AccountId, MachineId};

use crate::{
    parse::{PathId, Query},
    reads::{self, OfferWish},
    refusal::Answer,
    server::App,
};

use super::found;

pub(super) async fn offers(
    State(app): State<App>,
    mut query: Query,
) -> Answer<Json<Page<OfferView>>> {
    let wish = OfferWish {
        model: query.text("model"),
        tier: query.id("tier")?,
        region: query.text("region"),
        provider: query.id("provider")?,
        machine: query.id("machine")?,
        available: query.flag("available")?.unwrap_or(false),
    };
    let cut = query.cut()?;
    query.end()?;
    let offers = app.scan(move |market| reads::offers(market, &wish, cut));
    Ok(Json(offers.await?))
}

pub(super) async fn machines(
    State(app): State<App>,
    mut query: Query,
) -> Answer<Json<Page<MachineView>>> {
    let provider = query.id("provider")?;
    let cut = query.cut()?;
    query.end()?;
    let machines = app.scan(move |market| reads::machines(market, provider, cut));
    Ok(Json(machines.await?))
}

pub(super) async fn machine(
    State(app): State<App>,
    PathId(id): PathId<MachineId>,
    query: Query,
) -> Answer<Json<MachineView>> {
    query.end()?;
    found(
        app.node.read(|market| reads::machine(market, id)),
        Code::NoMachine,
        id,
    )
    .map(Json)
}

pub(super) async fn machine_leases(
    State(app): State<App>,
    PathId(id): PathId<MachineId>,
    mut query: Query,
) -> Answer<Json<Page<WorkView>>> {
    let cut = query.cut()?;
    query.end()?;
    let leases = app
        .node
        .read(|market| reads::machine_leases(market, id, cut));
    found(leases, Code::NoMachine, id).map(Json)
}

pub(super) async fn provider(
    State(app): State<App>,
    PathId(id): PathId<AccountId>,
    query: Query,
) -> Answer<Json<ProviderView>> {
    query.end()?;
    found(
        app.node.read(|market| reads::provider(market, id)),
        Code::NoProvider,
        id,
    )
    .map(Json)
}
