//! What a machine must do next, as a pure function.
//!
//! [`reconcile`] compares what the ledger wants ([`View`]) with what the runtime shows ([`Seen`]) and what this machine
//! remembers ([`Book`]), and names the next [`Action`] of each lease. A restart is the same code path as any event: the
//! driver looks again and asks again.
//!
//! The rules
//! - Only the ledger ends a lease. While it cannot be reached, workloads go on, up to the instant that they are funded
//!   for; those of jobs that say `on_partition: pause` rest after the time that they name.
//! - A lease rests when its funds ran out, or in such a silence: its workload is asked to end, its disk stays, and it is
//!   started anew on that disk once funds were added and the ledger answers. A workload in memory is not kept: a paused
//!   lease has given its memory and devices back. In a silence the machine stays the lease's, so that time is charged
//!   like any other if the lease outlives it.
//! - A lease's id is the fencing token of its workload: the mark "started" is on disk before the start, and what was
//!   started and is gone is reported as lost, never started again.
//! - A workload is stopped only when the ledger, verified, has said that its lease is over (an end is final), or takes it
//!   back with notice; or when its own limit is reached. Silence of the ledger stops nothing.
//! - The instants reported are those that the runtime's shim recorded, not those at which the agent noticed.

mod action;
mod book;
mod view;

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use market::{LeaseId, Millis, Outcome, Timestamp};
use runtime::{Blame, Exit, Status};

pub use action::{Action, Plan, Report, StopWhy};
pub use book::{Book, Kept, Record, Step, StopMark, backoff};
pub use view::{Answer, Freshness, Phase, View, Wanted};

/// How long a workload whose lease is over may take to end after it was asked to. Nobody pays for it.
pub const END_GRACE: Duration = Duration::from_secs(10);
/// A workload that got notice is killed this long before the lease is taken back, so that the report arrives in time.
const NOTICE_MARGIN: Millis = Millis::from_millis(1_000);
/// Refusals of a ready report after which beats go without it: three, a second apart, outlast a full mempool and stay
/// far below the silence after which a machine is suspected.
pub const READY_REFUSALS_MAX: u32 = 3;
/// Least time that added funds must pay for before a workload that rests is started: starting takes about as long.
pub const RESUME_MIN: Millis = Millis::from_secs(1);
/// Until a workload that rests is started again after the ledger did not want it: its devices may be another's.
pub const RESUME_AGAIN: Millis = Millis::from_secs(30);
/// Longest notice turned into a grace: a runtime call must not wait for days.
const NOTICE_MAX: Millis = Millis::from_secs(3_600);

/// What the runtime shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Not looked yet: nothing may be concluded from a container's absence.
    NotYet,
    /// Every container whose name is a lease id.
    Listed(BTreeMap<LeaseId, Status>),
}

/// Returns the next action of every lease, and when to ask again if nothing happens before.
pub fn reconcile(view: &View, seen: &Seen, book: &Book, now: Timestamp) -> Plan {
    let Seen::Listed(containers) = seen else {
        return Plan::default();
    };
    let mut plan = Plan::default();
    let leases: BTreeSet<LeaseId> = view
        .leases
        .keys()
        .chain(containers.keys())
        .chain(book.keys())
        .copied()
        .collect();
    let nothing = Record::default();
    for lease in leases {
        let case = Case {
            lease,
            wanted: view.leases.get(&lease),
            freshness: view.freshness,
            silent_since: view.silent_since,
            seen: containers.get(&lease),
            record: book.get(&lease).unwrap_or(&nothing),
            now,
        };
        case.decide(&mut plan);
    }
    plan
}

/// Returns the leases that a beat made now names: their workload runs and no end was reported.
pub fn running(seen: &Seen, book: &Book) -> Vec<LeaseId> {
    let Seen::Listed(containers) = seen else {
        return Vec::new();
    };
    let runs = |(lease, status): (&LeaseId, &Status)| {
        let ended = book.get(lease).is_some_and(|r| r.kept.ended.is_some());
        (matches!(status, Status::Running { .. }) && !ended).then_some(*lease)
    };
    containers.iter().filter_map(runs).collect()
}

/// Returns whether a workload runs or ran whose readiness the ledger has yet to hear of: a beat counts for a lease only
/// once it is known to be ready, and what was sworn to in an outage must not be spent before that.
///
/// A ready report that the ledger refuses [`READY_REFUSALS_MAX`] times holds nothing back any more: the machine's other
/// leases live by its beats.
pub fn ready_is_owed(view: &View, seen: &Seen, book: &Book) -> bool {
    let Seen::Listed(containers) = seen else {
        return false;
    };
    let owed = |(lease, status): (&LeaseId, &Status)| {
        let was_ready = matches!(status, Status::Running { .. } | Status::Exited(_));
        let awarded = view.leases.get(lease).map(|wanted| wanted.phase);
        let record = book.get(lease);
        let settled = record.is_some_and(|r| r.kept.ready_settled);
        let hopeless = record.is_some_and(|r| r.refusals >= READY_REFUSALS_MAX);
        let unheard = matches!(awarded, Some(Phase::Awarded { .. } | Phase::Paused { .. }));
        was_ready && !settled && !hopeless && unheard
    };
    containers.iter().any(owed)
}

/// One lease, with everything that bears on it.
struct Case<'a> {
    lease: LeaseId,
    wanted: Option<&'a Wanted>,
    freshness: Freshness,
    silent_since: Option<Timestamp>,
    seen: Option<&'a Status>,
    record: &'a Record,
    now: Timestamp,
}

impl Case<'_> {
    fn decide(&self, plan: &mut Plan) {
        if self.record.look {
            self.unless_busy(plan, Action::Look { lease: self.lease });
            return;
        }
        match self.wanted.map(|w| (w, w.phase)) {
            // Nothing verified is known of it: it stays as it is.
            None => {}
            // An end is final: a verified word of it holds, however long ago it came.
            Some((_, Phase::Ended)) => self.clear(plan),
            Some((wanted, _)) => self.serve(wanted, plan),
        }
    }

    /// The ledger has ended the lease: leave nothing behind.
    fn clear(&self, plan: &mut Plan) {
        let lease = self.lease;
        match (self.record.busy, self.seen) {
            (Some(Step::FetchManifest | Step::Prepare), _) => plan.act(Action::Abandon { lease }),
            // Its notice may last an hour, but nobody pays for that any more.
            (Some(Step::Stop), _) if self.record.stopping == Some(StopWhy::Notice) => {
                plan.act(Action::Abandon { lease });
            }
            (_, Some(status)) if status.is_final() => {
                self.unless_busy(plan, Action::Remove { lease });
            }
            (_, Some(_)) => self.unless_busy(
                plan,
                Action::Stop {
                    lease,
                    grace: END_GRACE,
                    why: StopWhy::LedgerEnded,
                },
            ),
            (None, None) => plan.act(Action::Forget { lease }),
            (Some(_), None) => {}
        }
    }

    /// The lease is live.
    fn serve(&self, wanted: &Wanted, plan: &mut Plan) {
        if self.rests(wanted) {
            return self.rest(wanted, plan);
        }
        let kept = &self.record.kept;
        let ended = self
            .seen
            .is_some_and(|s| s.is_final() || *s == Status::Created);
        if kept.round > self.record.round_made && ended && kept.ended.is_none() {
            return self.restart(kept.round, plan);
        }
        if let Some((at, outcome)) = self.record.kept.ended {
            self.report(plan, Report::Ended { at, outcome });
            if self.seen.is_some_and(|s| !s.is_final()) {
                self.stop(plan, END_GRACE, StopWhy::Over);
            }
            return;
        }
        match self.seen {
            None if self.record.kept.started.is_some() => {
                if self.record.busy.is_none() {
                    self.end(plan, self.last_alive(), Outcome::Lost);
                }
            }
            None | Some(Status::Created) => self.launch(wanted, plan),
            Some(Status::Starting) => {}
            Some(Status::Running { started_at_ms }) => {
                let started = Timestamp::from_unix_millis(*started_at_ms);
                self.report_ready(wanted, started, plan);
                self.watch(wanted, started, plan);
            }
            Some(Status::Exited(exit)) => {
                let started = Timestamp::from_unix_millis(exit.started_at_ms);
                self.report_ready(wanted, started, plan);
                self.ended(wanted, exit, plan);
            }
            Some(Status::Failed { blame, .. }) => {
                let outcome = match (self.record.kept.stop, blame) {
                    (Some(_), _) => Outcome::Stopped,
                    (None, Blame::Tenant) => Outcome::ImageError,
                    (None, Blame::Provider | Blame::Transient) => Outcome::Lost,
                };
                self.end(plan, self.now, outcome);
            }
            Some(Status::Lost { started_at_ms, .. }) => {
                if let Some(started) = started_at_ms {
                    self.report_ready(wanted, Timestamp::from_unix_millis(*started), plan);
                }
                self.end(plan, self.last_alive(), Outcome::Lost);
            }
        }
    }

    /// Returns whether the workload's end was a pause: ours, or the limit of its funds, which the ledger made one.
    fn rests(&self, wanted: &Wanted) -> bool {
        let kept = &self.record.kept;
        let out_of_funds = matches!(kept.ended, Some((_, Outcome::LimitReached)));
        let paused = matches!(wanted.phase, Phase::Paused { .. });
        kept.resting || (paused && out_of_funds && kept.ended_settled)
    }

    /// The lease rests: its workload ends, its disk stays, and it is started anew when it may go on.
    fn rest(&self, wanted: &Wanted, plan: &mut Plan) {
        match self.seen {
            Some(Status::Exited(_)) => {}
            Some(Status::Running { .. } | Status::Starting) => {
                return self.stop(plan, END_GRACE, StopWhy::Pause);
            }
            None | Some(_) => {
                if self.record.busy.is_none() {
                    self.end(plan, self.last_alive(), Outcome::Lost);
                }
                return;
            }
        }
        let may_go_on = match wanted.phase {
            Phase::Paused { left } => left >= RESUME_MIN,
            Phase::Awarded { start_by } => start_by > self.now,
            Phase::Running { limit } => limit > self.now,
            Phase::Preempting { .. } | Phase::Ended => false,
        };
        let heard = self.freshness == Freshness::Fresh && self.silent_since.is_none();
        if !may_go_on || !heard {
            return;
        }
        match self.record.rest_until {
            Some(until) if until > self.now => plan.wake(until),
            _ => self.restart(self.record.kept.round.saturating_add(1), plan),
        }
    }

    fn restart(&self, round: u32, plan: &mut Plan) {
        if self.record.verdict.is_some() {
            self.end(plan, self.last_alive(), Outcome::Lost);
            return;
        }
        let lease = self.lease;
        self.unless_busy(plan, Action::Restart { lease, round });
    }

    /// Brings the workload up, one step at a time.
    fn launch(&self, wanted: &Wanted, plan: &mut Plan) {
        let lease = self.lease;
        if self.record.busy.is_some() {
            return;
        }
        if self.record.kept.stop.is_some() {
            self.end(plan, self.now, Outcome::Stopped);
            return;
        }
        // Without the ledger nobody can say where the manifest is; failing to find it then proves nothing.
        if self.freshness != Freshness::Fresh && !self.record.manifest {
            return;
        }
        if let Some(blame) = self.record.verdict {
            let outcome = match blame {
                Blame::Tenant => Outcome::ImageError,
                Blame::Provider | Blame::Transient => Outcome::Lost,
            };
            self.end(plan, self.now, outcome);
            return;
        }
        // Deadlines of a start run on chain time, which only the ledger knows; while it answers, its word decides.
        let too_late = matches!(wanted.phase, Phase::Awarded { start_by } if start_by <= self.now);
        if too_late && self.freshness != Freshness::Fresh {
            return;
        }
        // A lease that the ledger saw running, but that this machine never started, was another life of this machine.
        if !matches!(wanted.phase, Phase::Awarded { .. }) {
            self.end(plan, self.last_alive(), Outcome::Lost);
            return;
        }
        if self.seen.is_some() {
            self.unless_busy(plan, Action::Start { lease });
        } else if !self.record.manifest {
            self.unless_busy(plan, Action::FetchManifest { lease });
        } else if !self.record.image {
            self.unless_busy(plan, Action::Prepare { lease });
        } else {
            self.unless_busy(plan, Action::Start { lease });
        }
    }

    /// The workload runs: it ends at its limit, or with notice, and not otherwise.
    fn watch(&self, wanted: &Wanted, started: Timestamp, plan: &mut Plan) {
        let limit = wanted.limit(started);
        let paused = matches!(wanted.phase, Phase::Paused { .. });
        if limit <= self.now && !paused {
            self.stop(plan, END_GRACE, StopWhy::Limit);
            return;
        }
        plan.wake(limit);
        if let (Some(since), Some(after)) = (self.silent_since, wanted.pause_after) {
            let at = since.after(after);
            if at <= self.now {
                return self.stop(plan, END_GRACE, StopWhy::Pause);
            }
            plan.wake(at);
        }
        match wanted.phase {
            // Started anew, and the ledger has yet to hear that it is ready: else it has to rest.
            Phase::Paused { .. } if self.ready_is_due() || self.record.unsure => {}
            Phase::Paused { .. } => self.stop(plan, END_GRACE, StopWhy::Pause),
            Phase::Preempting { stop_by, .. } => {
                let from = stop_by.before(wanted.notice);
                if from <= self.now {
                    self.stop(plan, self.grace_until(stop_by), StopWhy::Notice);
                } else {
                    plan.wake(from);
                }
            }
            _ => {}
        }
    }

    fn ended(&self, wanted: &Wanted, exit: &Exit, plan: &mut Plan) {
        let at = Timestamp::from_unix_millis(exit.ended_at_ms);
        let limit = wanted.limit(Timestamp::from_unix_millis(exit.started_at_ms));
        let given_notice = self.record.kept.stop.is_some_and(|mark| mark.at <= at);
        if limit <= at {
            self.end(plan, limit, Outcome::LimitReached);
        } else if given_notice {
            self.end(plan, at, Outcome::Stopped);
        } else {
            let outcome = Outcome::Exited {
                code: exit.code,
                out_of_memory: exit.oom,
            };
            self.end(plan, at, outcome);
        }
    }

    fn report_ready(&self, wanted: &Wanted, at: Timestamp, plan: &mut Plan) {
        let unheard = matches!(wanted.phase, Phase::Awarded { .. } | Phase::Paused { .. });
        if unheard && !self.record.kept.ready_settled {
            self.report(plan, Report::Ready { at });
        }
    }

    /// Returns whether the ledger has yet to answer that the workload runs, and may still say yes.
    fn ready_is_due(&self) -> bool {
        !self.record.kept.ready_settled && self.record.refusals < READY_REFUSALS_MAX
    }

    /// Reports the end, once the ready report before it has been settled.
    fn end(&self, plan: &mut Plan, at: Timestamp, outcome: Outcome) {
        self.report(plan, Report::Ended { at, outcome });
    }

    fn report(&self, plan: &mut Plan, report: Report) {
        let settled = match report {
            Report::Ready { .. } => self.record.kept.ready_settled,
            Report::Ended { .. } => self.record.kept.ended_settled,
        };
        let before = plan.reports(self.lease);
        if settled || self.record.reporting || before {
            return;
        }
        if let Some(at) = self.record.report_again_at
            && at > self.now
        {
            plan.wake(at);
            return;
        }
        plan.act(Action::Report {
            lease: self.lease,
            report,
        });
    }

    fn stop(&self, plan: &mut Plan, grace: Duration, why: StopWhy) {
        let lease = self.lease;
        self.unless_busy(plan, Action::Stop { lease, grace, why });
    }

    /// Plans `action`, unless a step is under way or the last failure is too recent.
    fn unless_busy(&self, plan: &mut Plan, action: Action) {
        if self.record.busy.is_some() {
            return;
        }
        match self.record.retry_at {
            Some(at) if at > self.now => plan.wake(at),
            _ => plan.act(action),
        }
    }

    fn grace_until(&self, stop_by: Timestamp) -> Duration {
        let left = stop_by
            .before(NOTICE_MARGIN)
            .since(self.now)
            .min(NOTICE_MAX);
        Duration::from_millis(left.millis())
    }

    fn last_alive(&self) -> Timestamp {
        let started = match self.seen {
            Some(Status::Lost {
                started_at_ms: Some(ms),
                ..
            }) => Some(Timestamp::from_unix_millis(*ms)),
            _ => self.record.kept.started,
        };
        self.record.alive_at.or(started).unwrap_or(self.now)
    }
}
