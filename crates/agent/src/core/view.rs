//! What a machine knows of the ledger.

use std::collections::BTreeMap;

use api::{LeaseStateView, LeaseView, RunView, WorkView};
use borsh::{BorshDeserialize, BorshSerialize};
use market::{Height, LeaseId, Millis, Money, Rate, Timestamp};

/// What is known of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether it is known to be so now.
    pub freshness: Freshness,
    /// The last verified word on each lease of this machine that is live or has something left here. A lease that is
    /// not named is one of which nothing is known.
    pub leases: BTreeMap<LeaseId, Wanted>,
    /// The greatest height that an answer was of: an older answer is refused.
    pub height: Height,
    /// Since when the ledger cannot be reached.
    pub silent_since: Option<Timestamp>,
    /// Since when the ledger does not know a lease that it should know.
    missing_since: BTreeMap<LeaseId, Timestamp>,
}

/// What the ledger answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of which height.
    pub height: Height,
    /// Every lease that was asked for, and every live one of this machine; `None` where the ledger knows no such lease.
    pub leases: BTreeMap<LeaseId, Option<Wanted>>,
}

/// Whether a view is of now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// The ledger answered, and not with an older height than before.
    Fresh,
    /// The ledger cannot be reached: the view is of then.
    Stale,
}

/// What the ledger says of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Wanted {
    /// Its state.
    pub phase: Phase,
    /// Longest running time, fixed at award.
    pub duration_max: Millis,
    /// Longest time that its funds pay for.
    pub affords: Millis,
    /// How long before it is taken back its workload is asked to end.
    pub notice: Millis,
    /// How long the ledger may be silent before its workload rests; `None` goes on.
    pub pause_after: Option<Millis>,
}

/// A lease's state, as far as the machine cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Phase {
    /// To be started.
    Awarded {
        /// By this instant of chain time.
        start_by: Timestamp,
    },
    /// To be kept running.
    Running {
        /// Until this instant at most.
        limit: Timestamp,
    },
    /// To be given notice, and ended.
    Preempting {
        /// As in [`Phase::Running`].
        limit: Timestamp,
        /// By this instant.
        stop_by: Timestamp,
    },
    /// Its funds ran out.
    Paused {
        /// How long what was added since pays for.
        left: Millis,
    },
    /// Over.
    Ended,
}

/// How long the ledger must deny a lease, over at least two answers, before its workload is cleared away: a node that
/// has just been restored may lag behind what it knew.
const MISSING_CONFIRM: Millis = Millis::from_secs(5);
/// Least notice before a machine is emptied: enough to write a checkpoint.
const NOTICE_MIN: Millis = Millis::from_secs(30);

impl View {
    /// Returns a view of which nothing is known.
    pub const fn unknown() -> Self {
        Self::remembered(BTreeMap::new(), Height::ZERO)
    }

    /// Returns the view that was current before a restart.
    pub const fn remembered(leases: BTreeMap<LeaseId, Wanted>, height: Height) -> Self {
        Self {
            freshness: Freshness::Stale,
            leases,
            height,
            silent_since: None,
            missing_since: BTreeMap::new(),
        }
    }

    /// Takes in an answer of `now`. One of a lower height than before changes nothing and leaves the view stale.
    pub fn learn(&mut self, answer: Answer, now: Timestamp) {
        if answer.height < self.height {
            self.freshness = Freshness::Stale;
            return;
        }
        self.height = answer.height;
        self.freshness = Freshness::Fresh;
        self.silent_since = None;
        for (lease, wanted) in answer.leases {
            match wanted {
                Some(wanted) => {
                    self.missing_since.remove(&lease);
                    self.leases.insert(lease, wanted);
                }
                None => self.deny(lease, now),
            }
        }
    }

    /// Notes that the ledger took the report that a paused lease's workload runs again, in the block of `height`:
    /// whatever was said before that is older. Returns whether it is known until when its funds last: where they were
    /// spent by the last word, more was added since, and only the next answer says how much.
    #[must_use]
    pub fn resumed(&mut self, lease: LeaseId, height: Height, now: Timestamp) -> bool {
        self.height = self.height.max(height);
        if let Some(wanted) = self.leases.get_mut(&lease)
            && let Phase::Paused { left } = wanted.phase
        {
            if left < super::RESUME_MIN {
                return false;
            }
            let limit = now.after(left);
            wanted.phase = Phase::Running { limit };
        }
        true
    }

    /// Notes that the ledger did not answer: what it said is trusted still, but the silence is counted from here.
    pub fn fall_silent(&mut self, now: Timestamp) {
        self.silent_since.get_or_insert(now);
    }

    /// Notes that the ledger cannot be reached.
    pub fn lose_sight(&mut self, now: Timestamp) {
        self.fall_silent(now);
        self.freshness = Freshness::Stale;
        self.missing_since.clear();
    }

    /// Drops a lease of which nothing is left here.
    pub fn forget(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
        self.missing_since.remove(&lease);
    }

    /// Returns how many leases are live.
    pub fn live(&self) -> usize {
        self.leases
            .values()
            .filter(|w| w.phase != Phase::Ended)
            .count()
    }

    fn deny(&mut self, lease: LeaseId, now: Timestamp) {
        let since = *self.missing_since.entry(lease).or_insert(now);
        if now.since(since) >= MISSING_CONFIRM {
            self.leases.insert(lease, Wanted::over());
        }
    }
}

impl Wanted {
    /// Returns what a lease asks of its machine, with what its job says.
    pub fn of_work(work: &WorkView, evict_at: Option<Timestamp>) -> Self {
        let mut wanted = Self::of(&work.lease, evict_at);
        wanted.pause_after = work.partition_pause_ms.map(Millis::from_millis);
        if let LeaseStateView::Paused { run, until, .. } = &work.lease.state {
            // Storage is charged for the time paused, of which this is the most that it can be.
            let kept = until.0.since(run.ready_at.0);
            let storage = storage_most(work, kept);
            let funds = work.lease.funds.0.saturating_sub(storage);
            let left =
                affords(&work.lease, funds).saturating_sub(Millis::from_millis(run.ran_before_ms));
            wanted.phase = Phase::Paused { left };
        }
        wanted
    }

    /// Returns what `lease` asks of its machine, which is emptied at `evict_at`.
    pub fn of(lease: &LeaseView, evict_at: Option<Timestamp>) -> Self {
        let limit = |run: &RunView| run.funded_until.0.min(run.duration_until.0);
        let running = |limit: Timestamp| match evict_at {
            Some(stop_by) => Phase::Preempting { limit, stop_by },
            None => Phase::Running { limit },
        };
        let phase = match &lease.state {
            LeaseStateView::Awarded { start_by } => Phase::Awarded {
                start_by: start_by.0,
            },
            LeaseStateView::Running { run } | LeaseStateView::Suspect { run, .. } => {
                running(limit(run))
            }
            LeaseStateView::Preempting { run, stop_by } => Phase::Preempting {
                limit: limit(run),
                stop_by: evict_at.map_or(stop_by.0, |evict| evict.min(stop_by.0)),
            },
            LeaseStateView::Paused { .. } => Phase::Paused { left: Millis::ZERO },
            LeaseStateView::Ended { .. } => Phase::Ended,
        };
        Self {
            phase,
            duration_max: Millis::from_millis(lease.duration_max_ms),
            affords: affords(lease, lease.funds.0),
            pause_after: None,
            notice: Millis::from_millis(lease.preempt_notice_ms).max(NOTICE_MIN),
        }
    }

    /// Returns what is to be done with a lease that the ledger does not know any more.
    const fn over() -> Self {
        Self {
            phase: Phase::Ended,
            duration_max: Millis::ZERO,
            affords: Millis::ZERO,
            notice: Millis::ZERO,
            pause_after: None,
        }
    }

    /// Returns the instant at which a workload that runs since `started` must end.
    pub fn limit(&self, started: Timestamp) -> Timestamp {
        match self.phase {
            Phase::Running { limit } | Phase::Preempting { limit, .. } => limit,
            // The ledger has not set the clock yet: by the terms that were fixed at the award.
            Phase::Awarded { .. } | Phase::Ended => {
                started.after(self.duration_max.min(self.affords))
            }
            Phase::Paused { left } => started.after(self.duration_max.min(left)),
        }
    }
}

/// Returns how long `funds` pay for the devices of a lease.
fn affords(lease: &LeaseView, funds: Money) -> Millis {
    let devices = u32::try_from(lease.devices.len()).unwrap_or(u32::MAX);
    let rate = Rate::from_micros_per_hour(lease.prices.per_device_hour.0.micros());
    rate.affords(devices, funds)
}

/// Returns the most that keeping a lease's storage for so long can cost, rounded up.
fn storage_most(work: &WorkView, kept: Millis) -> Money {
    const GIB_MILLIS_AN_HOUR: u128 = 3_600_000 << 30;
    let rate = u128::from(work.lease.prices.per_gib_hour.0.micros());
    let amount = u128::from(work.storage_kept_bytes)
        .saturating_mul(u128::from(kept.millis()))
        .saturating_mul(rate)
        .div_ceil(GIB_MILLIS_AN_HOUR);
    Money::from_micros(u64::try_from(amount).unwrap_or(u64::MAX))
}
