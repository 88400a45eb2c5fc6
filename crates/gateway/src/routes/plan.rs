//! What would happen to a job: who matches, or why nobody does and what would change that.

use api::{
    CandidateView, Code, ExplanationView, FunnelView, MoneyView, RelaxationView,
    view::text::Text as _,
};
use axum::{Json, body::Body, extract::State, http::HeaderMap};
use market::{
    AccountId, JobSpec, Market, PublicKey,
    explain::{Explanation, OfferMatch, Relaxation},
    reject::Unmet,
};

use crate::{
    parse::{self, Query},
    refusal::{Answer, Refusal},
    server::App,
};

/// Largest encoded job; the longest honest one, with every list full, has a few kilobytes.
const SPEC_BYTES_MAX: usize = 32 * 1024;
/// Largest body: hexadecimal doubles the bytes, and the JSON around it is short.
const BODY_BYTES_MAX: usize = 2 * SPEC_BYTES_MAX + 1_024;

pub(super) async fn plan(
    State(app): State<App>,
    mut query: Query,
    headers: HeaderMap,
    body: Body,
) -> Answer<Json<ExplanationView>> {
    let tenant: Option<AccountId> = query.id("tenant")?;
    query.end()?;
    // Nobody has leases, so nothing weighs in the ranking but price and age.
    let nobody = AccountId::of(PublicKey::from_bytes([0; 32]));
    let tenant = tenant.unwrap_or(nobody);
    let bytes = parse::canonical_bytes(&headers, parse::body(body, BODY_BYTES_MAX).await?, "spec")?;
    let spec: JobSpec = borsh::from_slice(&bytes).map_err(|_| {
        Refusal::new(
            Code::BadRequest,
            "the body is no canonical job specification",
        )
    })?;
    let plan = app.scan(move |market| explain(market, &spec, tenant));
    Ok(Json(plan.await?))
}

fn explain(market: &Market, spec: &JobSpec, tenant: AccountId) -> ExplanationView {
    let explanation = market.explain(spec, tenant);
    let matches = explanation.matches.iter();
    // Where something matches, nothing needs to give way.
    let relaxations = explanation.relaxations.iter();
    let relaxations = relaxations.filter(|_| explanation.matching == 0);
    ExplanationView {
        offers: explanation.total,
        matching: explanation.matching,
        matches: matches
            .map(|found| candidate(market, spec, found))
            .collect(),
        funnel: funnel(&explanation),
        relaxations: relaxations
            .map(|change| relaxation(market, change))
            .collect(),
    }
}

fn candidate(market: &Market, spec: &JobSpec, found: &OfferMatch) -> CandidateView {
    let machine = market.machine(found.machine);
    let rate = found.prices.per_device_hour;
    let lasts = rate.affords(u32::from(spec.needs.count), spec.budget);
    let provider = market.provider(found.provider);
    CandidateView {
        offer: found.offer,
        provider: found.provider,
        provider_name: provider.map(|provider| provider.name.clone()),
        machine: found.machine,
        model: machine
            .and_then(|m| m.spec.devices.first())
            .map(|device| device.model.clone()),
        per_device_hour: rate.into(),
        lasts_ms: lasts.min(spec.duration_max).millis(),
        worst_case: found.worst_case.into(),
    }
}

fn funnel(explanation: &Explanation) -> Vec<FunnelView> {
    let mut left = explanation.total;
    let steps = explanation.unmet.iter().map(|(unmet, turned_away)| {
        left = left.saturating_sub(*turned_away);
        FunnelView {
            unmet: *unmet,
            text: unmet.to_string(),
            turned_away: *turned_away,
            left,
        }
    });
    steps.collect()
}

fn relaxation(market: &Market, change: &Relaxation) -> RelaxationView {
    let price = MoneyView::from(change.best.prices.per_device_hour);
    RelaxationView {
        unmet: change.need,
        text: words(market, change, price),
        offers: change.offers,
        per_device_hour: Some(price),
    }
}

/// Says the change in words, as far as the best offer needs it.
fn words(market: &Market, change: &Relaxation, price: MoneyView) -> String {
    let machine = market
        .machine(change.best.machine)
        .map(|machine| &machine.spec);
    let first = machine.and_then(|spec| spec.devices.first());
    match change.need {
        Unmet::Price => format!("raise the price cap to {price} per device-hour"),
        Unmet::Tier => match market.offer(change.best.offer) {
            Some(offer) => format!("take tier {}", offer.terms.tier.to_text()),
            None => "take another tier".to_owned(),
        },
        Unmet::Model | Unmet::Interface => match first {
            Some(device) => format!("take {}", device.model),
            None => "take any device".to_owned(),
        },
        Unmet::Vram => match first {
            Some(device) => format!(
                "ask for at most {} GiB of device memory",
                device.vram.bytes() >> 30
            ),
            None => "ask for less device memory".to_owned(),
        },
        Unmet::Region => match machine.and_then(|spec| spec.region.as_ref()) {
            Some(region) => format!("take region {region}"),
            None => "take any region".to_owned(),
        },
        Unmet::Isolation => match machine {
            Some(spec) => format!("accept isolation {}", spec.isolation.to_text()),
            None => "accept weaker isolation".to_owned(),
        },
        Unmet::DevicesFree => "ask for fewer devices".to_owned(),
        Unmet::Fabric => "take devices without a shared fabric".to_owned(),
        Unmet::Cpu => "ask for less processor time".to_owned(),
        Unmet::Memory => "ask for less memory".to_owned(),
        Unmet::Disk => "ask for less disk".to_owned(),
        Unmet::Latency => "drop the latency need".to_owned(),
        Unmet::Certificate => "ask for no certificates".to_owned(),
        Unmet::Reliability => "drop the least reliability".to_owned(),
        Unmet::Sla => "ask for a lower SLA class".to_owned(),
        Unmet::Unverified => "allow unverified claims".to_owned(),
        Unmet::Provider => "take any provider".to_owned(),
        Unmet::Excluded => "exclude less".to_owned(),
        Unmet::Term => "change the longest duration".to_owned(),
        Unmet::Budget => "raise the budget".to_owned(),
        Unmet::Online | Unmet::Bond => format!("wait: {}", change.need),
    }
}
