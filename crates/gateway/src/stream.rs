//! Server-sent events: final facts as they come, resumable by number.
//!
//! Nothing is buffered per subscriber: the next events are read from the node when the connection takes more. One that
//! takes nothing for too long is cut off (see `stall`), and resumes where it was when it comes back.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use api::EventView;
use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::Response,
};
use futures::{FutureExt as _, Stream, stream::unfold};
use market::Event;
use node::Subscription;
use tokio::{sync::watch, time::sleep};

use crate::{
    clients::{Client, Clients, Kind, Place},
    refusal::{Answer, Refusal},
    server::told_to_stop,
};

/// Time between two signs of life on a quiet stream; clients give up after three.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events written in one go while a stream catches up.
const BATCH_MAX: usize = 64;

/// What all event streams share.
pub(crate) struct Streams {
    clients: Arc<Clients>,
    stopped: watch::Receiver<bool>,
}

impl Streams {
    pub(crate) fn new(clients: Arc<Clients>, stopped: watch::Receiver<bool>) -> Self {
        Self { clients, stopped }
    }

    /// Returns a response that goes on until the client, the node or the gateway ends.
    pub(crate) fn respond(&self, client: Client, subscription: Subscription) -> Answer<Response> {
        let place = self.clients.enter(client, Kind::Stream);
        let place = place.map_err(|why| Refusal::no_room(why, "event streams"))?;
        let feed = Feed {
            subscription,
            stopped: self.stopped.clone(),
            greeted: false,
            written: None,
            _place: place,
        };
        let mut response = Response::new(Body::from_stream(chunks(feed)));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

struct Feed {
    subscription: Subscription,
    stopped: watch::Receiver<bool>,
    greeted: bool,
    /// The last number written.
    written: Option<u64>,
    _place: Place,
}

fn chunks(feed: Feed) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> {
    unfold(feed, |mut feed| async move {
        let text = feed.next().await?;
        Some((Ok(Bytes::from(text)), feed))
    })
}

impl Feed {
    /// Returns the next thing to write; `None` ends the stream.
    async fn next(&mut self) -> Option<String> {
        if !self.greeted {
            // At once, so that the client knows that it is connected.
            self.greeted = true;
            return Some("retry: 1000\n: tradewind\n\n".to_owned());
        }
        let first = tokio::select! {
            () = told_to_stop(&mut self.stopped) => return None,
            next = self.subscription.next() => match next {
                Ok(event) => event?,
                Err(error) => {
                    tracing::error!(%error, "an event stream failed");
                    return None;
                }
            },
            () = sleep(HEARTBEAT) => return Some(self.beat()),
        };
        let mut text = String::new();
        self.write(&mut text, &first);
        for _ in 1..BATCH_MAX {
            match self.subscription.next().now_or_never() {
                Some(Ok(Some(event))) => self.write(&mut text, &event),
                // An end or an error is met again by the next call.
                _ => break,
            }
        }
        Some(text)
    }

    fn write(&mut self, text: &mut String, event: &Event) {
        let view = EventView::from(event);
        let data = serde_json::to_string(&view).unwrap_or_default();
        write!(
            text,
            "id: {}\nevent: {}\ndata: {data}\n\n",
            event.seq,
            view.kind.word()
        )
        .expect("writing to a string does not fail");
        self.written = Some(event.seq);
    }

    /// Returns a sign of life, with the number up to which everything was looked at: there a filtered stream resumes.
    fn beat(&mut self) -> String {
        match self.subscription.position() {
            Some(seen) if self.written.is_none_or(|written| written < seen) => {
                self.written = Some(seen);
                format!(": beat\nid: {seen}\n\n")
            }
            _ => ": beat\n\n".to_owned(),
        }
    }
}
