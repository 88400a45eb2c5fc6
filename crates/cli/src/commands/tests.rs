//! What the gateway of a real network answered, in every format: a change of a view or of a table is seen here.

use api::{EventView, ExplanationView, JobView, LeaseView, OfferView, Page, PostingView};
use market::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::explain;

use super::{account, job, lease, offers, ps};

/// The moment at which the answers were taken.
const THEN: Timestamp = Timestamp::from_unix_millis(1_795_464_600_000);

/// Reads an answer, and checks that the client's view writes it as the gateway did, byte for byte.
fn answer<T: Serialize + DeserializeOwned>(text: &str) -> T {
    let view: T = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&view).unwrap(), text.trim_end());
    view
}

#[test]
fn offers_as_table_and_wide() {
    let page: Page<OfferView> = answer(include_str!("../../tests/fixtures/offers.json"));
    let table = offers::table(&page.items);
    let text = format!(
        "{}\n{}",
        table.render(Some(100), true),
        table.render(None, true)
    );
    insta::assert_snapshot!(text);
}

#[test]
fn jobs_as_table_and_names() {
    let page: Page<JobView> = answer(include_str!("../../tests/fixtures/jobs.json"));
    let table = ps::table(&page.items, &ps::Labels::new(), THEN);
    let names = table.names().join("\n");
    insta::assert_snapshot!(format!("{}\n{names}\n", table.render(Some(100), true)));
}

#[test]
fn lease_in_words_and_as_table() {
    let view: LeaseView = answer(include_str!("../../tests/fixtures/lease.json"));
    let table = lease::table(std::slice::from_ref(&view)).render(Some(100), true);
    insta::assert_snapshot!(format!("{}\n{table}", lease::lines(&view)));
}

#[test]
fn events_as_table() {
    let page: Page<EventView> = answer(include_str!("../../tests/fixtures/events.json"));
    insta::assert_snapshot!(
        job::events_table(&page.items, job::Money::Shown).render(Some(120), true)
    );
}

#[test]
fn plan_as_table_and_as_refusal() {
    let plan: ExplanationView = answer(include_str!("../../tests/fixtures/plan.json"));
    let table = explain::plan_table(&plan, explain::SHOWN, "→").render(Some(100), true);
    let none: ExplanationView = answer(include_str!("../../tests/fixtures/no-match.json"));
    let failure = explain::no_match(&none);
    let (details, hints) = (failure.details().join("\n"), failure.hints().join("\n"));
    insta::assert_snapshot!(format!("{table}\n{}\n{details}\n{hints}\n", failure.what()));
}

#[test]
fn history_as_table() {
    let page: Page<PostingView> = answer(include_str!("../../tests/fixtures/postings.json"));
    let own = page.items.iter().find_map(|posting| match posting.to {
        market::event::Slot::Available(id) => Some(id),
        _ => None,
    });
    insta::assert_snapshot!(account::table(&page.items, own.unwrap()).render(None, true));
}
