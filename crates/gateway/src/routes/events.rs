//! Events: as a page, or as a stream that goes on.

use api::{Code, EventKindView, EventView, Page};
use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse as _, Response},
};
use market::Event;
use node::{Filter, Subject};

use crate::{
    clients::Client,
    parse::Query,
    refusal::{Answer, Refusal},
    server::App,
};

/// Most kinds in one filter; there are fewer.
const KINDS_MAX: usize = 64;

pub(super) async fn events(
    State(app): State<App>,
    client: Client,
    mut query: Query,
    headers: HeaderMap,
) -> Answer<Response> {
    let after = query.number("after")?;
    let filter = Filter {
        subjects: subjects(&mut query)?,
        kinds: kinds(&mut query)?,
    };
    let follow = query.flag("follow")?.unwrap_or(true);
    let limit = query.limit()?;
    query.end()?;
    if follow {
        let after = last_event_id(&headers)?.or(after);
        return app
            .streams
            .respond(client, app.node.subscribe(filter, after));
    }
    let page = page(&app, filter, after, limit, |event| {
        Some(EventView::from(event))
    });
    Ok(Json(page.await?).into_response())
}

/// Returns one page of past events, as far as `view` shows them.
pub(super) async fn page<V>(
    app: &App,
    filter: Filter,
    after: Option<u64>,
    limit: usize,
    view: impl FnMut(&Event) -> Option<V>,
) -> Answer<Page<V>> {
    let (events, seen) = app.node.events(filter, after, limit).await?;
    // Short pages may have more behind them; only a page that moved nowhere is the last.
    let next = seen
        .filter(|seen| Some(*seen) != after)
        .map(|seen| seen.to_string());
    Ok(Page {
        items: events.iter().filter_map(view).collect(),
        next,
    })
}

fn subjects(query: &mut Query) -> Answer<Vec<Subject>> {
    let all = [
        query.id("account")?.map(Subject::Account),
        query.id("job")?.map(Subject::Job),
        query.id("lease")?.map(Subject::Lease),
        query.id("machine")?.map(Subject::Machine),
    ];
    Ok(all.into_iter().flatten().collect())
}

/// Reads the kinds' words; a kind's place in the list of words is its tag.
fn kinds(query: &mut Query) -> Answer<Vec<u8>> {
    let text = query.text("kind").unwrap_or_default();
    let words = text
        .split(',')
        .filter(|word| !word.is_empty())
        .take(KINDS_MAX);
    words
        .map(|word| {
            let place = EventKindView::WORDS.iter().position(|known| *known == word);
            place
                .and_then(|place| u8::try_from(place).ok())
                .ok_or_else(|| {
                    let short: String = word.chars().take(40).collect();
                    Refusal::new(Code::BadRequest, format!("{short:?} is no kind of event"))
                })
        })
        .collect()
}

/// Reads where a browser's event source resumes; it wins over the address, which stays as it was at first.
fn last_event_id(headers: &HeaderMap) -> Answer<Option<u64>> {
    let Some(value) = headers
        .get("last-event-id")
        .filter(|value| !value.is_empty())
    else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Refusal::new(Code::BadRequest, "Last-Event-ID must be an event's number"))
}
