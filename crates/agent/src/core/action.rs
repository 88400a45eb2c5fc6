//! What [`super::reconcile`] asks for.

use std::time::Duration;

use market::{LeaseId, Outcome, Timestamp};

/// The next thing to do for a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "every variant's `lease` says which")]
pub enum Action {
    /// Ask the keepers for the manifest.
    FetchManifest { lease: LeaseId },
    /// Bring the image into the store.
    Prepare { lease: LeaseId },
    /// Lay the container out unless it is, write the started mark to disk, start it.
    Start { lease: LeaseId },
    /// Start the workload of a lease that rested anew, on the disk that it left; the mark is written to disk first.
    Restart {
        lease: LeaseId,
        /// For the how manyth time.
        round: u32,
    },
    /// Send a report to the ledger; its content is written to disk first.
    Report {
        lease: LeaseId,
        /// What to report.
        report: Report,
    },
    /// Ask the workload to end, and kill it after the grace; the reason is written to disk first.
    Stop {
        lease: LeaseId,
        /// How long it may take.
        grace: Duration,
        /// Why.
        why: StopWhy,
    },
    /// Keep the logs, and remove the container.
    Remove { lease: LeaseId },
    /// Drop the fetch, preparation or stop that is under way.
    Abandon { lease: LeaseId },
    /// Ask the runtime where the container stands.
    Look { lease: LeaseId },
    /// Drop what is remembered of it.
    Forget { lease: LeaseId },
}

impl Action {
    /// Returns whose action it is.
    pub const fn lease(&self) -> LeaseId {
        match self {
            Self::FetchManifest { lease }
            | Self::Prepare { lease }
            | Self::Start { lease }
            | Self::Restart { lease, .. }
            | Self::Report { lease, .. }
            | Self::Stop { lease, .. }
            | Self::Remove { lease }
            | Self::Abandon { lease }
            | Self::Look { lease }
            | Self::Forget { lease } => *lease,
        }
    }
}

/// What a machine tells the ledger of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The workload runs since this instant.
    Ready {
        /// As the shim recorded it.
        at: Timestamp,
    },
    /// The workload has ended, or could not be started.
    Ended {
        /// As the shim recorded it; the limit itself where a limit ended it.
        at: Timestamp,
        /// What was seen.
        outcome: Outcome,
    },
}

/// Why a workload is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopWhy {
    /// The ledger has ended its lease.
    LedgerEnded,
    /// The instant up to which it is funded, or its longest duration, is reached.
    Limit,
    /// The lease is being taken back: preempted, or the machine is drained.
    Notice,
    /// It rests: its funds ran out, or the ledger was silent for longer than its tenant allows.
    Pause,
    /// Its end was reported already and something of it still runs.
    Over,
}

/// What to do now, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The actions, by lease; those of one lease in the order in which they matter.
    pub actions: Vec<Action>,
    /// When to ask again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |before| before.min(at)));
    }

    /// Tells whether a report of `lease` is planned already: the next one waits for its answer.
    pub(super) fn reports(&self, lease: LeaseId) -> bool {
        let is =
            |action: &Action| matches!(action, Action::Report { .. }) && action.lease() == lease;
        self.actions
            .iter()
            .rev()
            .take_while(|a| a.lease() == lease)
            .any(is)
    }
}
