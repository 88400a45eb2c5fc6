//! What would happen to a job: who matches, or why nobody does and what would change that.

use api::{CandidateView, Code, ExplanationView, FunnelView, MoneyView, RelaxationView};
use axum::{Json, body::Body, extract::State, http::HeaderMap};
use market::{
    AccountId, Claims, DeviceNeed, Isolation, JobSpec, Market, Money, PublicKey, SlaClass, Tier,
    explain::{Explanation, OfferMatch},
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
    Ok(Json(app.node.read(|market| explain(market, &spec, tenant))))
}

fn explain(market: &Market, spec: &JobSpec, tenant: AccountId) -> ExplanationView {
    let explanation = market.explain(spec, tenant);
    let relaxations = match explanation.matching {
        0 => relaxations(market, spec, tenant, &explanation),
        _ => Vec::new(),
    };
    ExplanationView {
        offers: explanation.total,
        matching: explanation.matching,
        matches: explanation
            .matches
            .iter()
            .map(|found| candidate(market, spec, found))
            .collect(),
        funnel: funnel(&explanation),
        relaxations,
    }
}

fn candidate(market: &Market, spec: &JobSpec, found: &OfferMatch) -> CandidateView {
    let machine = market.machine(found.machine);
    let lasts = found
        .prices
        .per_device_hour
        .affords(u32::from(spec.needs.count), spec.budget);
    CandidateView {
        offer: found.offer,
        provider: found.provider,
        provider_name: market
            .provider(found.provider)
            .map(|provider| provider.name.clone()),
        machine: found.machine,
        model: machine
            .and_then(|m| m.spec.devices.first())
            .map(|device| device.model.clone()),
        per_device_hour: found.prices.per_device_hour.into(),
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

/// Finds the single changes after which something matches, for the requirements that turned offers away.
fn relaxations(
    market: &Market,
    spec: &JobSpec,
    tenant: AccountId,
    explanation: &Explanation,
) -> Vec<RelaxationView> {
    let tried = explanation.unmet.iter().flat_map(|(unmet, _)| {
        changes(*unmet, spec)
            .into_iter()
            .map(|(changed, text)| (*unmet, changed, text))
    });
    let fitting = tried.filter_map(|(unmet, changed, text)| {
        let then = market.explain(&changed, tenant);
        let best = then.matches.first()?;
        let per_device_hour = MoneyView::from(best.prices.per_device_hour);
        let text = match unmet {
            Unmet::Price => format!("raise the price cap to {per_device_hour} per device-hour"),
            _ => text,
        };
        Some(RelaxationView {
            unmet,
            text,
            offers: then.matching,
            per_device_hour: Some(per_device_hour),
        })
    });
    fitting.collect()
}

/// Returns what could be changed about one requirement, smallest change first.
fn changes(unmet: Unmet, spec: &JobSpec) -> Vec<(JobSpec, String)> {
    let changed = |text: &str, change: &dyn Fn(&mut JobSpec)| {
        let mut spec = spec.clone();
        change(&mut spec);
        vec![(spec, text.to_owned())]
    };
    match unmet {
        Unmet::Tier => [
            (Tier::Spot, "spot"),
            (Tier::OnDemand, "on-demand"),
            (Tier::Reserved, "reserved"),
        ]
        .into_iter()
        .filter(|(tier, _)| *tier != spec.tier)
        .flat_map(|(tier, word)| changed(&format!("take tier {word}"), &|s| s.tier = tier))
        .collect(),
        Unmet::Model | Unmet::Vram | Unmet::Interface => {
            changed("take any device", &|s| s.needs.device = DeviceNeed::Any)
        }
        Unmet::DevicesFree | Unmet::Fabric => changed("take one device", &|s| s.needs.count = 1),
        Unmet::Cpu => changed("take the devices' share of the processor", &|s| {
            s.needs.cpu = None;
        }),
        Unmet::Memory => changed("take the devices' share of the memory", &|s| {
            s.needs.memory = None;
        }),
        Unmet::Disk => changed("ask for no disk", &|s| {
            s.needs.disk = market::ByteSize::ZERO;
        }),
        Unmet::Isolation => changed("accept a process without isolation", &|s| {
            s.needs.isolation = Isolation::None;
        }),
        Unmet::Region => changed("take any region", &|s| s.needs.regions.clear()),
        Unmet::Latency => changed("drop the latency need", &|s| s.needs.latency = None),
        Unmet::Certificate => changed("ask for no certificates", &|s| s.needs.certificates.clear()),
        Unmet::Reliability => changed("drop the least reliability", &|s| {
            s.needs.reliability_min = None;
        }),
        Unmet::Sla => changed("ask for no availability promise", &|s| {
            s.needs.sla = SlaClass::None;
        }),
        Unmet::Unverified => changed("allow unverified claims", &|s| {
            s.needs.claims = Claims::Allowed;
        }),
        Unmet::Provider => changed("take any provider", &|s| s.needs.providers.clear()),
        Unmet::Excluded => changed("exclude no machine and no failure domain", &|s| {
            s.needs.exclude_machines.clear();
            s.needs.exclude_domains.clear();
        }),
        Unmet::Price => changed("drop the price cap", &|s| s.price_cap = None),
        Unmet::Budget => changed("raise the budget", &|s| s.budget = Money::MAX),
        // Waiting for machines, shorter work, or the provider's own bond: no change of the requirement helps.
        Unmet::Online | Unmet::Term | Unmet::Bond => Vec::new(),
    }
}
