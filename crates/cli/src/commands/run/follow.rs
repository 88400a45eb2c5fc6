//! Following a job: its events become phases, its output is written as it comes.

use std::sync::Arc;
use std::time::Duration;

use api::view::text::Text as _;
use api::{EndReasonView, EventFilter, EventKindView, EventView};
use market::event::LeasePhase;
use market::{JobId, LeaseId, Millis, Money, Timestamp};
use net::logs::{LogEnd, LogStreams};
use tokio::task::JoinHandle;

use crate::error::Result;
use crate::output::{Format, Output, Style};
use crate::progress::Progress;
use crate::session::Session;
use crate::tail::{self, Sink, Wanted};
use crate::wallet::Wallet;
use crate::words;

/// For the rest of the output of a lease whose machine was lost: it may come back, but nobody waits for it longer.
const LOST_OUTPUT: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Debug)]
pub(crate) struct Follow<'a> {
    /// The node.
    pub(crate) session: &'a Session,
    /// The key that opened the job.
    pub(crate) wallet: &'a Wallet,
    /// Where to write.
    pub(crate) output: &'a Arc<Output>,
    /// The job.
    pub(crate) job: JobId,
    /// The last event before the job.
    pub(crate) after: Option<u64>,
}

/// How a job ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// Why.
    pub(crate) reason: EndReasonView,
    /// Charged in all.
    pub(crate) charged: Money,
    /// Returned to the tenant.
    pub(crate) returned: Money,
    /// Device time over all leases.
    pub(crate) ran_ms: u64,
}

/// What is known while following.
struct State {
    progress: Progress,
    bids: u32,
    opened_at: Option<Timestamp>,
    awarded_at: Option<Timestamp>,
    ran_ms: u64,
    ended_because: Option<String>,
    reading: Option<(LeaseId, JoinHandle<Result<LogEnd>>)>,
}

impl Follow<'_> {
    /// Follows until the job has ended and its output is written; `None` where Ctrl-C detached.
    pub(crate) async fn until_ended(&self, progress: Progress) -> Result<Option<Ended>> {
        let mut state = State {
            progress,
            bids: 0,
            opened_at: None,
            awarded_at: None,
            ran_ms: 0,
            ended_because: None,
            reading: None,
        };
        state.progress.phase("job", self.job.to_string());
        let ended = tokio::select! {
            ended = self.events(&mut state) => ended.map(Some),
            _interrupt = tokio::signal::ctrl_c() => Ok(None),
        };
        if let Some((_, reading)) = state.reading.take() {
            reading.abort();
        }
        state.progress.clear();
        if matches!(ended, Ok(None)) {
            self.say_detached();
        }
        ended
    }

    fn say_detached(&self) {
        let job = self.job;
        let paint = |text: &str| self.output.paint(Style::Good, text);
        self.output.say(&format!("\ndetached; job {job} goes on"));
        self.output.say(&format!(
            "  return to it:  {}",
            paint(&format!("tradewind logs -f {job}"))
        ));
        self.output.say(&format!(
            "  end it:        {}",
            paint(&format!("tradewind stop {job}"))
        ));
    }

    async fn events(&self, state: &mut State) -> Result<Ended> {
        let mut stream = self
            .session
            .client
            .events(self.after, EventFilter::job(self.job));
        loop {
            let event = stream.next().await?;
            if self.output.format() == Format::Jsonl {
                self.output.json_line(&event)?;
            }
            if let Some(ended) = self.take(state, &event).await? {
                return Ok(ended);
            }
        }
    }

    /// Tells of one event; returns the end once it has come.
    async fn take(&self, state: &mut State, event: &EventView) -> Result<Option<Ended>> {
        match &event.kind {
            EventKindView::OrderOpened { closes_at, .. } => {
                order_opened(state, event.time.0, closes_at.0);
            }
            EventKindView::BidPlaced { .. } => {
                state.bids += 1;
                state
                    .progress
                    .phase("bids", format!("{} so far", state.bids));
            }
            EventKindView::LeaseAwarded { lease, machine, .. } => {
                awarded(
                    state,
                    event.time.0,
                    *lease,
                    &format!("{lease} on {machine}"),
                );
            }
            EventKindView::LeaseReady { lease, at, .. } => {
                let took = state
                    .awarded_at
                    .map_or(Millis::ZERO, |awarded| at.0.since(awarded));
                state.progress.done(
                    "start",
                    &format!("ready after {}", words::show_duration(took)),
                );
                state.reading = Some((*lease, self.read(*lease).await?));
            }
            EventKindView::LeaseChanged { lease, to, .. } => tell_phase(state, *lease, *to),
            EventKindView::LeaseEnded {
                lease,
                reason,
                bill,
                ..
            } => {
                state.ran_ms += bill.elapsed_ms;
                state.ended_because = Some(reason.to_string());
                self.drain(state, *lease, reason).await;
            }
            EventKindView::JobEnded {
                reason,
                charged,
                returned,
                ..
            } => {
                state.progress.clear();
                return Ok(Some(Ended {
                    reason: reason.clone(),
                    charged: charged.0,
                    returned: returned.0,
                    ran_ms: state.ran_ms,
                }));
            }
            _ => {}
        }
        Ok(None)
    }

    /// Begins to read a lease's output, beside the events.
    async fn read(&self, lease: LeaseId) -> Result<JoinHandle<Result<LogEnd>>> {
        let view = self.session.client.lease(&lease).await?;
        let (session, wallet) = (self.session.clone(), self.wallet.clone());
        let sink = self.sink();
        let output = Arc::clone(self.output);
        Ok(tokio::spawn(async move {
            let wanted = Wanted {
                streams: LogStreams::Both,
                follow: true,
                sink,
            };
            tail::copy(&session, &wallet, &output, &view, wanted).await
        }))
    }

    /// Waits for the rest of an ended lease's output.
    async fn drain(&self, state: &mut State, lease: LeaseId, reason: &EndReasonView) {
        let Some((reading_of, mut reading)) = state.reading.take() else {
            state.progress.note(
                "start",
                &format!("{lease} ended before it was ready: {reason}"),
            );
            if reason.code == "image-error" {
                self.machine_said(lease).await;
            }
            return;
        };
        assert_eq!(reading_of, lease, "a job has one live lease");
        let orderly = matches!(reason.code.as_str(), "completed" | "failed");
        let read = if orderly {
            Ok((&mut reading).await)
        } else {
            tokio::time::timeout(LOST_OUTPUT, &mut reading).await
        };
        reading.abort();
        if !orderly {
            state
                .progress
                .note("lease", &format!("{lease} ended: {reason}"));
        }
        match read {
            Ok(Ok(Ok(_end))) => {}
            Ok(Ok(Err(failure))) => self.incomplete(failure.what()),
            Ok(Err(error)) => self.incomplete(&error.to_string()),
            Err(_) => self.incomplete("its machine does not answer"),
        }
    }

    /// Shows what the machine left in place of the output of a workload that never ran: why, and what to do.
    async fn machine_said(&self, lease: LeaseId) {
        let words = async {
            let view = self.session.client.lease(&lease).await?;
            let wanted = Wanted {
                streams: LogStreams::Both,
                follow: false,
                sink: self.sink(),
            };
            tail::copy(self.session, self.wallet, self.output, &view, wanted).await
        };
        if !matches!(tokio::time::timeout(LOST_OUTPUT, words).await, Ok(Ok(_))) {
            self.incomplete("its machine does not say why");
        }
    }

    /// Returns where the workload's output goes: what programs read must not be mixed with it.
    fn sink(&self) -> Sink {
        match self.output.format() {
            Format::Jsonl => Sink::Lines,
            _ if self.output.is_json() => Sink::Errors,
            _ => Sink::Streams,
        }
    }

    fn incomplete(&self, why: &str) {
        self.output.warn(&format!(
            "the output may be incomplete: {why}; try: tradewind logs {}",
            self.job
        ));
    }
}

fn tell_phase(state: &State, lease: LeaseId, to: LeasePhase) {
    match to {
        LeasePhase::Suspect => state
            .progress
            .note("lease", &format!("{lease} has missed its beats")),
        LeasePhase::Preempting => state
            .progress
            .note("lease", &format!("{lease} is being taken back")),
        LeasePhase::Paused => state.progress.note(
            "lease",
            &format!("{lease} is paused: the budget is used up"),
        ),
        LeasePhase::Awarded | LeasePhase::Running | LeasePhase::Ended => {
            state
                .progress
                .note("lease", &format!("{lease} is {}", to.to_text()));
        }
    }
}

fn order_opened(state: &mut State, at: Timestamp, closes_at: Timestamp) {
    if let Some(why) = state.ended_because.take() {
        state
            .progress
            .note("again", &format!("after {why}: another machine takes it"));
    }
    state.opened_at = Some(at);
    let window = closes_at.since(at);
    if window.is_zero() {
        state.progress.phase("lease", "waiting for a machine");
    } else {
        let text = format!("collecting for {}", words::show_duration(window));
        state.progress.phase("bids", text);
    }
}

fn awarded(state: &mut State, at: Timestamp, lease: LeaseId, text: &str) {
    if state.bids > 0 {
        let after = state
            .opened_at
            .map_or(Millis::ZERO, |opened| at.since(opened));
        let line = format!("{} in {}", state.bids, words::show_duration(after));
        state.progress.done("bids", &line);
    }
    state.bids = 0;
    state.awarded_at = Some(at);
    state.progress.done("lease", text);
    state
        .progress
        .phase("start", format!("{lease} fetches the image and starts"));
}
