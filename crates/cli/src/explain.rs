//! Plans and events in words.

use api::{EventKindView, EventView, ExplanationView};
use market::Millis;

use crate::error::Failure;
use crate::table::push_line;
use crate::words;

/// Candidates shown in a plan; more do not help to decide.
const SHOWN: usize = 5;

/// Returns a plan as lines: the candidates, or the funnel and what would match.
pub(crate) fn plan_lines(plan: &ExplanationView) -> String {
    let mut text = String::new();
    if plan.matching > 0 {
        push_line(
            &mut text,
            &format!("{} of {} offers match", plan.matching, plan.offers),
        );
        for (place, candidate) in plan.matches.iter().take(SHOWN).enumerate() {
            let model = candidate
                .model
                .as_ref()
                .map_or("any", |model| model.as_str());
            let name = candidate
                .provider_name
                .as_ref()
                .map_or("–", |name| name.as_str());
            push_line(
                &mut text,
                &format!(
                    "  {} {}  {model:<10} ${}/device·h  lasts {}  {name}",
                    if place == 0 { "→" } else { " " },
                    candidate.offer,
                    words::show_amount(candidate.per_device_hour.0),
                    words::show_duration(Millis::from_millis(candidate.lasts_ms)),
                ),
            );
        }
        return text;
    }
    for line in funnel(plan) {
        push_line(&mut text, &line);
    }
    for relaxation in &plan.relaxations {
        push_line(
            &mut text,
            &format!(
                "would match: {} ({} offers)",
                relaxation.text, relaxation.offers
            ),
        );
    }
    text
}

/// Returns what emptied the list, one line a step.
fn funnel(plan: &ExplanationView) -> Vec<String> {
    let width = plan.offers.to_string().len().max(3);
    let mut lines = vec![format!("{:>width$} offers", plan.offers)];
    for step in plan.funnel.iter().filter(|step| step.turned_away > 0) {
        lines.push(format!(
            "{:>width$} left: {} turned away, {}",
            step.left, step.turned_away, step.text
        ));
    }
    lines
}

/// Returns the failure of a plan that matches nothing: what emptied the list, and what would match.
pub(crate) fn no_match(plan: &ExplanationView) -> Failure {
    let mut failure = Failure::new("no-match", "no machine can run this job as it is asked for");
    for line in funnel(plan) {
        failure = failure.detail(line);
    }
    for relaxation in &plan.relaxations {
        let price = relaxation
            .per_device_hour
            .map_or_else(String::new, |price| {
                format!(" from ${}/device·h", words::show_amount(price.0))
            });
        failure = failure.hint(format!(
            "{} offers match{price}: {}",
            relaxation.offers, relaxation.text
        ));
    }
    failure.hint("or wait for capacity: --wait 10m")
}

/// Returns an event's data in words.
#[expect(
    clippy::too_many_lines,
    reason = "one arm an event, all straight lines"
)]
pub(crate) fn event(event: &EventView) -> String {
    use api::view::text::Text as _;
    match &event.kind {
        EventKindView::Posted {
            from,
            to,
            amount,
            purpose,
        } => {
            format!(
                "{amount} {}: {} → {}",
                purpose.to_text(),
                from.to_text(),
                to.to_text()
            )
        }
        EventKindView::AccountOpened { account } => account.to_string(),
        EventKindView::KeyAuthorized { key, .. } | EventKindView::KeyRevoked { key, .. } => {
            key.to_string()
        }
        EventKindView::RedemptionRequested {
            redemption, amount, ..
        } => format!("{redemption} {amount}"),
        EventKindView::RedemptionClosed {
            redemption, paid, ..
        } => {
            format!("{redemption} {}", if *paid { "paid" } else { "returned" })
        }
        EventKindView::ProviderOpened { provider } => provider.to_string(),
        EventKindView::MachineAdded { machine, .. }
        | EventKindView::MachineChanged { machine, .. } => machine.to_string(),
        EventKindView::OfferPlaced { offer, machine, .. } => format!("{offer} on {machine}"),
        EventKindView::OfferClosed { offer, expired, .. } => {
            format!("{offer} {}", if *expired { "expired" } else { "withdrawn" })
        }
        EventKindView::JobOpened { budget, .. } => format!("{budget} held"),
        EventKindView::JobToppedUp { amount, .. } => format!("{amount} more held"),
        EventKindView::JobEnded {
            reason,
            charged,
            returned,
            ..
        } => {
            format!("{reason}; charged {charged}, returned {returned}")
        }
        EventKindView::OrderOpened { order, .. } => order.to_string(),
        EventKindView::OrderClosed { order, expired, .. } => {
            format!("{order} {}", if *expired { "expired" } else { "cancelled" })
        }
        EventKindView::BidPlaced { bid, provider, .. } => format!("{bid} of {provider}"),
        EventKindView::BidClosed { bid, why, .. } => format!("{bid} {}", why.to_text()),
        EventKindView::LeaseAwarded {
            lease,
            machine,
            source,
            ..
        } => format!("{lease} on {machine} from {source}"),
        EventKindView::LeaseReady { lease, at, .. } => format!("{lease} charged from {at}"),
        EventKindView::LeaseChanged { lease, to, .. } => format!("{lease} is {}", to.to_text()),
        EventKindView::LeaseEnded {
            lease,
            reason,
            bill,
            ..
        } => {
            format!(
                "{lease} {reason}; ran {} ms, charged {}",
                bill.elapsed_ms, bill.charged
            )
        }
        EventKindView::LeasePaid { lease, amount, .. } => {
            format!("{lease} {amount} to the provider")
        }
    }
}
