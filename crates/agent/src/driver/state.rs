//! What the loop owns, and how it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use api::{ClientError, WorkView, manifest::Manifest};
use market::{LeaseId, MachineId, Millis, Outcome, Timestamp};
use net::Peer;
use runtime::{Blame, Status};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinError, JoinSet},
};

use super::{
    ledger::Look,
    sender::{BeatsSent, Outgoing, Sent},
    steps::{Doer, Got, Launch, Sight, StepError},
};
use crate::{
    beats::Intervals,
    core::{
        Action, Book, Phase, RESUME_AGAIN, Record, Report, Seen, Step, StopMark, StopWhy, View,
        ready_is_owed, reconcile, running,
    },
    journal::Journal,
    metrics::{Metrics, Round},
    submit::now,
};

/// Until a report that got no answer is said again.
const REPORT_AGAIN: Millis = Millis::from_millis(1_000);
/// Until an end is said that waits for beats: about as long as the ledger takes to make them final.
const BEATS_FIRST: Millis = Millis::from_millis(30);
/// Until a container that was seen starting is looked at again.
const STARTING_AGAIN: Millis = Millis::from_millis(100);
/// Longest sleep: the clock may be set while the agent sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// What the loop hears.
#[derive(Debug)]
pub(super) enum Input {
    /// The ledger answered.
    Ledger(Box<Look>),
    /// It did not.
    Silence(ClientError),
    /// A step is about to start a container: answer once that is on disk.
    Mark(LeaseId, oneshot::Sender<()>),
    /// A step is done.
    Done(LeaseId, Step, Result<Got, StepError>, Option<Sight>),
    /// A container ended, or cannot be watched any more.
    Ended(LeaseId, Option<Status>),
    /// What became of a report.
    Reported(LeaseId, Report, Sent),
    /// What became of a batch of beats.
    BeatsSent(BeatsSent),
}

/// Everything the loop owns.
pub(super) struct Agent {
    journal: Journal,
    machine: MachineId,
    doer: Doer,
    outbox: mpsc::Sender<Outgoing>,
    interest: watch::Sender<BTreeSet<LeaseId>>,
    metrics: Arc<Metrics>,
    view: View,
    seen: Seen,
    book: Book,
    work: BTreeMap<LeaseId, WorkView>,
    manifests: BTreeMap<LeaseId, Manifest>,
    images: BTreeMap<LeaseId, runtime::Digest>,
    keepers: Vec<Peer>,
    steps: BTreeMap<LeaseId, AbortHandle>,
    watched: BTreeSet<LeaseId>,
    intervals: Intervals,
    /// When the last beat was made, by a clock that nobody sets; the first is due at once.
    beat_made: Option<Instant>,
    beats_under_way: bool,
    silent: bool,
    wake_at: Option<Timestamp>,
    dirty: bool,
}

impl Agent {
    pub(super) fn new(
        journal: Journal,
        machine: MachineId,
        doer: Doer,
        outbox: mpsc::Sender<Outgoing>,
        interest: watch::Sender<BTreeSet<LeaseId>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let state = &journal.state;
        let kept = state.kept.iter();
        let book = kept
            .map(|(lease, kept)| (*lease, Record::restored(*kept)))
            .collect();
        let view = View::remembered(state.wanted.clone(), state.height);
        Self {
            journal,
            machine,
            doer,
            outbox,
            interest,
            metrics,
            view,
            seen: Seen::NotYet,
            book,
            work: BTreeMap::new(),
            manifests: BTreeMap::new(),
            images: BTreeMap::new(),
            keepers: Vec::new(),
            steps: BTreeMap::new(),
            watched: BTreeSet::new(),
            intervals: Intervals::of(&api::ParamsView::from(&market::Params::default())),
            beat_made: None,
            beats_under_way: false,
            silent: false,
            wake_at: None,
            dirty: false,
        }
    }

    /// Asks the runtime for everything it has; the first thing an agent does.
    pub(super) async fn look_at_all(&mut self) -> runtime::Result<()> {
        let all = self.doer.runtime.list().await?;
        let ours = all.into_iter().filter_map(|(id, status)| {
            // The folder is ours alone, but a hand may have put something else there: that is left alone.
            let lease = id.as_str().parse::<LeaseId>();
            lease
                .inspect_err(|_| tracing::warn!(%id, "not a lease: left alone"))
                .ok()
                .map(|l| (l, status))
        });
        let listed: BTreeMap<LeaseId, Status> = ours.collect();
        for (lease, status) in &listed {
            tracing::info!(%lease, ?status, "taken up again");
        }
        self.seen = Seen::Listed(listed);
        Ok(())
    }

    /// Returns how long nothing needs to be done unless something is heard.
    pub(super) fn until_next(&self) -> Duration {
        let live = self.runs().len().max(self.view.live());
        let wake = self.wake_at.map_or(SLEEP_MAX, |wake| {
            Duration::from_millis(wake.since(now()).millis())
        });
        wake.min(self.until_beat(live)).min(SLEEP_MAX)
    }

    fn until_beat(&self, live: usize) -> Duration {
        let interval = Duration::from_millis(self.intervals.length(live).millis());
        self.beat_made.map_or(Duration::ZERO, |made| {
            interval.saturating_sub(made.elapsed())
        })
    }

    fn runs(&self) -> Vec<LeaseId> {
        running(&self.seen, &self.book)
    }

    /// Does what is due: beats, then whatever the core asks for.
    pub(super) fn act(&mut self, tasks: &mut JoinSet<()>) {
        let now = now();
        self.beat_if_due(now);
        self.watch_containers(tasks);
        let plan = reconcile(&self.view, &self.seen, &self.book, now);
        self.wake_at = plan.wake_at;
        for action in plan.actions {
            self.begin(action, now, tasks);
        }
        self.tell_interest();
        self.metrics.round(Round {
            leases: self.view.live(),
            workloads: self.runs().len(),
            beats_waiting: self.journal.state.chain.waiting.len(),
            silent: self.silent,
        });
        if self.dirty {
            self.save();
        }
    }

    fn beat_if_due(&mut self, now: Timestamp) {
        let runs = self.runs();
        let live = runs.len().max(self.view.live());
        if !self.until_beat(live).is_zero() {
            return;
        }
        self.beat_made = Some(Instant::now());
        for lease in &runs {
            self.book.entry(*lease).or_default().alive_at = Some(now);
        }
        self.journal.state.chain.beat(now, runs);
        self.metrics.beat();
        self.dirty = true;
        self.send_beats();
    }

    fn send_beats(&mut self) {
        // A beat counts for a lease only once the ledger knows that it is ready: what was sworn to in an outage must not
        // be spent before that.
        if self.beats_under_way || ready_is_owed(&self.view, &self.seen, &self.book) {
            return;
        }
        if let Some(batch) = self.journal.state.chain.batch(self.machine) {
            self.beats_under_way = self.outbox.try_send(Outgoing::Beats(batch)).is_ok();
        }
    }

    /// Returns whether beats wait that an end of this lease would be paid by.
    fn beats_come_first(&self, lease: LeaseId) -> bool {
        let was_ready = self.book.get(&lease).is_some_and(|r| r.kept.ready_settled);
        was_ready && (self.beats_under_way || !self.journal.state.chain.waiting.is_empty())
    }

    /// Watches every container that may end.
    fn watch_containers(&mut self, tasks: &mut JoinSet<()>) {
        let Seen::Listed(containers) = &self.seen else {
            return;
        };
        for (lease, status) in containers {
            let may_end = matches!(status, Status::Running { .. } | Status::Starting);
            if may_end && self.watched.insert(*lease) {
                tasks.spawn(self.doer.clone().watch(*lease));
            }
        }
    }

    fn begin(&mut self, action: Action, now: Timestamp, tasks: &mut JoinSet<()>) {
        let lease = action.lease();
        let step = match action {
            Action::Report { report, .. } => return self.report(lease, report),
            Action::Abandon { .. } => return self.abandon(lease),
            Action::Forget { .. } => return self.forget(lease),
            Action::FetchManifest { .. } => {
                let work = self.work.get(&lease).cloned();
                let doing = self
                    .doer
                    .clone()
                    .fetch_manifest(lease, work, self.keepers.clone());
                (Step::FetchManifest, tasks.spawn(doing))
            }
            Action::Prepare { .. } => {
                let image = self
                    .manifests
                    .get(&lease)
                    .map(|m| (m.image.clone(), m.image_digest));
                (
                    Step::Prepare,
                    tasks.spawn(self.doer.clone().prepare(lease, image)),
                )
            }
            Action::Start { .. } => {
                let launch = self.launch(lease);
                (
                    Step::Start,
                    tasks.spawn(self.doer.clone().start(lease, launch)),
                )
            }
            Action::Restart { round, .. } => {
                if !self.mark_restart(lease, round, now) {
                    return;
                }
                let doing = self.doer.clone().restart(lease, round);
                (Step::Restart, tasks.spawn(doing))
            }
            Action::Stop { grace, why, .. } => {
                tracing::info!(%lease, ?why, ?grace, "stops the workload");
                self.mark_stop(lease, why, now);
                let doing = self.doer.clone().stop(lease, grace);
                (Step::Stop, tasks.spawn(doing))
            }
            Action::Remove { .. } => {
                let failures = self.book.get(&lease).map_or(0, |record| record.failures);
                (
                    Step::Remove,
                    tasks.spawn(self.doer.clone().remove(lease, failures)),
                )
            }
            Action::Look { .. } => (Step::Look, tasks.spawn(self.doer.clone().look(lease))),
        };
        let (step, handle) = step;
        tracing::debug!(%lease, ?step, "begins");
        self.book.entry(lease).or_default().busy = Some(step);
        self.steps.insert(lease, handle);
    }

    /// Writes down that a workload is started anew; returns whether it may be.
    fn mark_restart(&mut self, lease: LeaseId, round: u32, now: Timestamp) -> bool {
        let phase = self.view.leases.get(&lease).map(|wanted| wanted.phase);
        let record = self.book.entry(lease).or_default();
        if round > record.kept.round {
            tracing::info!(%lease, round, "goes on after a pause");
            let unheard = matches!(phase, Some(Phase::Paused { .. } | Phase::Awarded { .. }));
            record.restart(now, unheard);
        }
        // A disk that takes no mark is tried again with the next input: nothing is started meanwhile.
        self.save()
    }

    fn mark_stop(&mut self, lease: LeaseId, why: StopWhy, now: Timestamp) {
        let record = self.book.entry(lease).or_default();
        record.stopping = Some(why);
        match why {
            StopWhy::Notice => {
                record.kept.stop = record.kept.stop.or(Some(StopMark { at: now }));
            }
            StopWhy::Pause => {
                record.kept.resting = true;
                let phase = self.view.leases.get(&lease).map(|wanted| wanted.phase);
                if record.kept.round > 0 && matches!(phase, Some(Phase::Paused { .. })) {
                    record.rest_until = Some(now.after(RESUME_AGAIN));
                }
            }
            StopWhy::LedgerEnded | StopWhy::Limit | StopWhy::Over => return,
        }
        // Before it is asked to end: what is seen of it afterwards must not look like its own end.
        self.save();
    }

    /// Returns what `create` needs; `None` where the container is laid out already.
    fn launch(&self, lease: LeaseId) -> Option<Launch> {
        let (manifest, work) = (self.manifests.get(&lease)?, self.work.get(&lease)?);
        Some(Launch {
            image: *self.images.get(&lease)?,
            manifest: manifest.clone(),
            lease: work.lease.clone(),
        })
    }

    fn report(&mut self, lease: LeaseId, report: Report) {
        let record = self.book.entry(lease).or_default();
        if let Report::Ended { at, outcome } = report {
            if record.kept.ended.is_none() {
                let why = if outcome == Outcome::Lost {
                    "lost"
                } else {
                    "ended"
                };
                tracing::info!(%lease, ?outcome, "{why}");
            }
            record.kept.ended = Some((at, outcome));
            self.dirty = true;
        }
        record.reporting = true;
        if self.dirty {
            self.save();
        }
        // What the machine swore to so far goes first: it is what the end is paid by.
        if matches!(report, Report::Ended { .. }) && self.beats_come_first(lease) {
            self.send_beats();
            self.report_in(lease, BEATS_FIRST);
            return;
        }
        if self
            .outbox
            .try_send(Outgoing::Report(lease, report))
            .is_err()
        {
            self.report_later(lease);
        }
    }

    fn report_later(&mut self, lease: LeaseId) {
        self.report_in(lease, REPORT_AGAIN);
    }

    fn report_in(&mut self, lease: LeaseId, pause: Millis) {
        let record = self.book.entry(lease).or_default();
        record.reporting = false;
        record.report_again_at = Some(now().after(pause));
    }

    fn abandon(&mut self, lease: LeaseId) {
        if let Some(step) = self.steps.remove(&lease) {
            step.abort();
        }
        self.book.entry(lease).or_default().idle();
    }

    fn forget(&mut self, lease: LeaseId) {
        tracing::debug!(%lease, "forgotten");
        self.book.remove(&lease);
        self.work.remove(&lease);
        self.drop_launch(lease);
        self.view.forget(lease);
        self.watched.remove(&lease);
        self.dirty = true;
    }

    fn drop_launch(&mut self, lease: LeaseId) {
        self.manifests.remove(&lease);
        self.images.remove(&lease);
    }

    /// Takes in what was heard.
    pub(super) fn take(&mut self, input: Input) {
        match input {
            Input::Ledger(look) => self.learn(*look),
            Input::Silence(error) => {
                if !self.silent {
                    tracing::warn!(%error, "the ledger cannot be reached; workloads go on");
                }
                self.silent = true;
                self.view.lose_sight(now());
            }
            Input::Mark(lease, done) => self.mark(lease, done),
            Input::Done(lease, step, result, sight) => self.done(lease, step, result, sight),
            Input::Ended(lease, status) => {
                self.watched.remove(&lease);
                match status {
                    Some(status) => self.sighted(lease, status),
                    None => self.look_again(lease, Millis::ZERO),
                }
            }
            Input::Reported(lease, report, sent) => self.reported(lease, report, &sent),
            Input::BeatsSent(sent) => self.beats_sent(sent),
        }
    }

    fn learn(&mut self, look: Look) {
        if self.silent {
            tracing::info!("the ledger answers again");
        }
        let back = std::mem::take(&mut self.silent);
        // An answer that is older than what was heard is no answer.
        let heard = look.answer.height >= self.view.height;
        for lease in look.answer.leases.keys().filter(|_| heard) {
            if let Some(record) = self.book.get_mut(lease) {
                record.unsure = false;
            }
        }
        self.view.learn(look.answer, now());
        for work in look.work {
            self.work.insert(work.lease.id, work);
        }
        if let Some(full) = look.full {
            let (status, machine) = *full;
            self.intervals = Intervals::of(&status.params);
            self.keepers = status
                .keeper
                .iter()
                .map(super::steps::keeper_peer)
                .collect();
            let chain = &mut self.journal.state.chain;
            if machine.next_beat > chain.next_seq && !self.beats_under_way {
                let last = machine.last_beat.map(|at| at.0);
                chain.align(self.machine, (machine.next_beat, machine.beat_link), last);
            }
        }
        if back {
            self.send_beats();
        }
        self.dirty |= self.journal.state.wanted != self.view.leases;
    }

    /// A workload may start once that is on disk.
    fn mark(&mut self, lease: LeaseId, done: oneshot::Sender<()>) {
        let kept = &mut self.book.entry(lease).or_default().kept;
        kept.started = kept.started.or(Some(now()));
        if self.save() && done.send(()).is_err() {
            tracing::debug!(%lease, "the start was given up");
        }
    }

    fn done(
        &mut self,
        lease: LeaseId,
        step: Step,
        result: Result<Got, StepError>,
        sight: Option<Sight>,
    ) {
        self.steps.remove(&lease);
        self.metrics.step(step.word(), result.is_ok());
        let record = self.book.entry(lease).or_default();
        match result {
            Ok(got) => {
                record.step_done(step);
                match got {
                    Got::Manifest(manifest) => drop(self.manifests.insert(lease, *manifest)),
                    Got::Image(image) => drop(self.images.insert(lease, image)),
                    Got::Nothing => {}
                }
            }
            Err(error) => {
                let StepError { blame, why, .. } = error;
                let tries = record.failures;
                if blame != Blame::Transient || tries == 0 {
                    tracing::warn!(%lease, ?step, ?blame, why, "a step failed");
                }
                record.step_failed(step, blame, now());
            }
        }
        if step == Step::Start {
            // It holds secrets, and is not needed again.
            self.drop_launch_if_started(lease);
        }
        match sight {
            Some(Sight::At(status)) => self.sighted(lease, status),
            Some(Sight::Absent) => {
                self.book.entry(lease).or_default().look = false;
                if let Seen::Listed(containers) = &mut self.seen {
                    containers.remove(&lease);
                }
            }
            Some(Sight::Unsure) => self.look_again(lease, crate::core::backoff(1)),
            None => {}
        }
    }

    /// A task has ended; one that panicked never told how its step went.
    pub(super) fn joined(&mut self, ended: Result<(), JoinError>) {
        let Err(error) = ended else { return };
        if !error.is_panic() {
            return;
        }
        tracing::error!(%error, "a task of the agent panicked");
        let steps = self.steps.iter();
        let found = steps
            .filter(|(_, handle)| handle.id() == error.id())
            .map(|(lease, _)| *lease)
            .next();
        if let Some(lease) = found
            && let Some(step) = self.book.get(&lease).and_then(|record| record.busy)
        {
            let error = StepError::new(Blame::Transient, "the step panicked");
            self.done(lease, step, Err(error), Some(Sight::Unsure));
        }
    }

    fn drop_launch_if_started(&mut self, lease: LeaseId) {
        if self
            .book
            .get(&lease)
            .is_some_and(|r| r.kept.started.is_some())
        {
            self.drop_launch(lease);
        }
    }

    fn sighted(&mut self, lease: LeaseId, status: Status) {
        let record = self.book.entry(lease).or_default();
        record.look = false;
        if status == Status::Starting {
            self.look_again(lease, STARTING_AGAIN);
        }
        if let Seen::Listed(containers) = &mut self.seen {
            containers.insert(lease, status);
        }
    }

    fn look_again(&mut self, lease: LeaseId, after: Millis) {
        let record = self.book.entry(lease).or_default();
        record.look = true;
        record.retry_at = Some(now().after(after));
    }

    fn reported(&mut self, lease: LeaseId, report: Report, sent: &Sent) {
        let Some(record) = self.book.get_mut(&lease) else {
            return;
        };
        record.reporting = false;
        match (sent, report) {
            (Sent::Unsent, _) => self.report_later(lease),
            (Sent::Refused, _) => {
                record.refusals = record.refusals.saturating_add(1);
                self.report_later(lease);
            }
            (Sent::Taken(_) | Sent::Settled, Report::Ready { .. }) => {
                record.kept.ready_settled = true;
                record.refusals = 0;
                match sent {
                    Sent::Taken(height) => {
                        record.unsure = !self.view.resumed(lease, *height, now());
                    }
                    _ => record.unsure = true,
                }
            }
            (Sent::Taken(_) | Sent::Settled, Report::Ended { .. }) => {
                record.kept.ended_settled = true;
            }
            // The workload is gone by this machine's doing: that is said as what it is.
            (Sent::TooSoon, Report::Ended { at, .. }) => {
                record.kept.ended = Some((at, Outcome::Lost));
            }
            (Sent::TooSoon, Report::Ready { .. }) => {}
        }
        self.dirty = true;
    }

    fn beats_sent(&mut self, sent: BeatsSent) {
        self.beats_under_way = false;
        if !matches!(sent, BeatsSent::Silence) {
            self.view.silent_since = None;
        }
        let chain = &mut self.journal.state.chain;
        match sent {
            BeatsSent::Accepted(batch) => chain.accepted(&batch),
            BeatsSent::Align(view) => {
                let last = view.last_beat.map(|at| at.0);
                let before = (chain.next_seq, chain.link);
                chain.align(self.machine, (view.next_beat, view.beat_link), last);
                if before == (chain.next_seq, chain.link) {
                    // The ledger does not want these, whatever the reason: the next beats must not wait behind them.
                    chain.waiting.clear();
                }
            }
            // The next beat tries again, and the return of the ledger does.
            BeatsSent::Unsent => return,
            BeatsSent::Silence => {
                // Long before the stream of events is given up.
                self.view.fall_silent(now());
                return;
            }
        }
        self.dirty = true;
        self.send_beats();
    }

    fn tell_interest(&self) {
        let mut leases: BTreeSet<LeaseId> = self.book.keys().copied().collect();
        leases.extend(self.view.leases.keys());
        if let Seen::Listed(containers) = &self.seen {
            leases.extend(containers.keys());
        }
        self.interest.send_if_modified(|before| {
            let changed = *before != leases;
            *before = leases;
            changed
        });
    }

    /// Writes down what must survive; returns whether that worked.
    pub(super) fn save(&mut self) -> bool {
        let state = &mut self.journal.state;
        state.kept = self
            .book
            .iter()
            .map(|(lease, record)| (*lease, record.kept))
            .collect();
        state.wanted.clone_from(&self.view.leases);
        state.height = self.view.height;
        match self.journal.save() {
            Ok(()) => {
                self.dirty = false;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the journal cannot be written: nothing new is started");
                false
            }
        }
    }
}
