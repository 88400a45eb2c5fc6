//! Plans and events in words.

use api::{EventKindView, EventView, ExplanationView};
use market::Millis;

use crate::error::Failure;
use crate::table::{Column, Keep, Table, number, push_line, text};
use crate::words;

/// Candidates shown before a question; more do not help to decide.
pub(crate) const SHOWN: usize = 5;

const PLAN_COLUMNS: &[Column] = &[
    number("#", Keep::Always),
    text("OFFER", Keep::Until(4)),
    text("DEVICE", Keep::Always),
    text("PROVIDER", Keep::Until(3)),
    number("$/DEVICE·H", Keep::Always),
    number("LASTS", Keep::Until(2)),
    number("AT MOST $", Keep::Always),
    text("MACHINE", Keep::Wide),
];

/// Returns the best `shown` matches of a plan as a table, best first; `arrow` marks the one that is taken.
pub(crate) fn plan_table(plan: &ExplanationView, shown: usize, arrow: &str) -> Table {
    let mut table = Table::new(PLAN_COLUMNS, "nothing matches");
    for (place, candidate) in plan.matches.iter().take(shown).enumerate() {
        let mark = if place == 0 { arrow } else { "" };
        let name = candidate.provider_name.as_ref();
        table.row(
            candidate.offer.to_string(),
            vec![
                format!("{mark} {}", place + 1).trim_start().to_owned(),
                candidate.offer.to_string(),
                candidate
                    .model
                    .as_ref()
                    .map_or_else(|| "any".to_owned(), ToString::to_string),
                name.map_or_else(|| candidate.provider.to_string(), ToString::to_string),
                words::show_amount(candidate.per_device_hour.0),
                words::show_duration(Millis::from_millis(candidate.lasts_ms)),
                words::show_amount(candidate.worst_case.0),
                candidate.machine.to_string(),
            ],
        );
    }
    table
}

/// Says how many matches a table of the best [`SHOWN`] leaves out, if any.
pub(crate) fn more(plan: &ExplanationView) -> Option<String> {
    let shown = u64::try_from(SHOWN).unwrap_or(u64::MAX);
    (plan.matching > shown).then(|| {
        let more = plan.matching.saturating_sub(shown);
        format!("and {more} more; see them: tradewind plan")
    })
}

/// Returns a plan in lines: the candidates, or the funnel and what would match.
pub(crate) fn plan_lines(plan: &ExplanationView) -> String {
    let mut text = String::new();
    if plan.matching > 0 {
        push_line(
            &mut text,
            &format!("{} of {} offers match", plan.matching, plan.offers),
        );
        text.push_str(&plan_table(plan, SHOWN, ">").render(Some(100), true));
        return text;
    }
    for line in funnel(plan) {
        push_line(&mut text, &line);
    }
    for relaxation in &plan.relaxations {
        push_line(
            &mut text,
            &format!(
                "would match: {}{} ({} offers)",
                relaxation.text,
                relaxation
                    .flag
                    .as_ref()
                    .map_or_else(String::new, |flag| format!(", {flag}")),
                relaxation.offers
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
    if plan.offers == 0 {
        failure =
            failure.hint("nobody lends a machine yet; lend this one: tradewind provider init");
    }
    for relaxation in &plan.relaxations {
        let offers = match relaxation.offers {
            1 => "1 offer matches".to_owned(),
            more => format!("{more} offers match"),
        };
        let price = relaxation
            .per_device_hour
            .map_or_else(String::new, |price| {
                format!(" from ${}/device·h", words::show_amount(price.0))
            });
        let flag = relaxation.flag.as_ref();
        let flag = flag.map_or_else(String::new, |flag| format!(": {flag}"));
        failure = failure.hint(format!("{offers}{price} if you {}{flag}", relaxation.text));
    }
    if plan.offers > 0 && plan.relaxations.is_empty() {
        failure = failure.hint("no single change would do; see what is for hire: tradewind offers");
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
        EventKindView::JobExtended { by_ms, .. } => {
            let by = words::show_duration(Millis::from_millis(*by_ms));
            format!("may run {by} longer")
        }
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
