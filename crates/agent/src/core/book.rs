//! What a machine remembers of its leases.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use market::{LeaseId, Millis, Outcome, Timestamp};
use runtime::Blame;

use super::action::StopWhy;

/// Transient failures of one lease that are worth another try; with [`backoff`] they span about half a minute.
pub(super) const TRIES_MAX: u32 = 12;
/// First pause after a transient failure: a keeper may hear of the award a moment after the machine.
const BACKOFF_FIRST: Millis = Millis::from_millis(50);
/// Longest pause: start deadlines are about a minute.
const BACKOFF_MAX: Millis = Millis::from_millis(5_000);

/// Everything remembered, by lease.
pub type Book = BTreeMap<LeaseId, Record>;

/// What is remembered of one lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one independent fact each")]
pub struct Record {
    /// What survives a restart: it is on disk before it is acted on.
    pub kept: Kept,
    /// What is under way.
    pub busy: Option<Step>,
    /// Why the stop that is under way was asked for.
    pub stopping: Option<StopWhy>,
    /// Whether the manifest is here.
    pub manifest: bool,
    /// Whether the image is in the store.
    pub image: bool,
    /// Whether a report is on its way.
    pub reporting: bool,
    /// How often the ledger has refused a report for a reason that may pass, since one was settled.
    pub refusals: u32,
    /// When an unanswered report may be sent again.
    pub report_again_at: Option<Timestamp>,
    /// Whether the runtime must be asked before anything is concluded.
    pub look: bool,
    /// Transient failures since the last success.
    pub failures: u32,
    /// When the failed step may be tried again.
    pub retry_at: Option<Timestamp>,
    /// Who is to blame that it cannot be started.
    pub verdict: Option<Blame>,
    /// Whether the ledger has refused a ready report for good and its word on the lease is older than that: it may have
    /// taken the same report before.
    pub unsure: bool,
    /// When it was last seen running.
    pub alive_at: Option<Timestamp>,
    /// The last restart that the runtime is known to have made.
    pub round_made: u32,
    /// When a lease that rests may be started again at the earliest: the last time the ledger did not want it.
    pub rest_until: Option<Timestamp>,
}

/// What of a record survives a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Kept {
    /// When the start was about to be made.
    pub started: Option<Timestamp>,
    /// When and why the workload was asked to end.
    pub stop: Option<StopMark>,
    /// The end as it will be, or was, reported.
    pub ended: Option<(Timestamp, Outcome)>,
    /// Whether the ledger has answered the ready report.
    pub ready_settled: bool,
    /// Whether the ledger has answered the end report.
    pub ended_settled: bool,
    /// Whether the workload was stopped because its lease rests: its end is not the lease's.
    pub resting: bool,
    /// How often it was started anew.
    pub round: u32,
}

/// When a workload was asked to end because the lease is being taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StopMark {
    /// When.
    pub at: Timestamp,
}

/// Something under way for a lease; one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for the actions")]
pub enum Step {
    FetchManifest,
    Prepare,
    Start,
    Restart,
    Stop,
    Remove,
    Look,
}

impl Step {
    /// Returns its word, as labels of metrics have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::FetchManifest => "fetch-manifest",
            Self::Prepare => "prepare",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Remove => "remove",
            Self::Look => "look",
        }
    }
}

impl Record {
    /// Returns the record as it is after a restart.
    pub fn restored(kept: Kept) -> Self {
        Self {
            // What is remembered of the ledger may be older than its answer to the ready report.
            unsure: kept.ready_settled,
            kept,
            ..Self::default()
        }
    }

    /// Notes that nothing is under way any more.
    pub fn idle(&mut self) {
        self.busy = None;
        self.stopping = None;
    }

    /// Notes that the workload is about to be started anew, at `now`; `again_ready` where the ledger shall hear of it.
    pub fn restart(&mut self, now: Timestamp, again_ready: bool) {
        let kept = &mut self.kept;
        kept.round = kept.round.saturating_add(1);
        kept.resting = false;
        kept.started = Some(now);
        kept.ended = None;
        kept.ended_settled = false;
        kept.ready_settled &= !again_ready;
        self.unsure = false;
        self.refusals = 0;
    }

    /// Notes that a step succeeded.
    pub fn step_done(&mut self, step: Step) {
        self.idle();
        self.failures = 0;
        self.retry_at = None;
        match step {
            Step::FetchManifest => self.manifest = true,
            Step::Prepare => self.image = true,
            Step::Restart => self.round_made = self.kept.round,
            Step::Start | Step::Stop | Step::Remove | Step::Look => {}
        }
    }

    /// Notes that a step failed; a transient failure becomes the provider's after [`TRIES_MAX`], or the tenant's where the
    /// manifest cannot be had.
    pub fn step_failed(&mut self, step: Step, blame: Blame, now: Timestamp) {
        self.idle();
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now.after(backoff(self.failures)));
        let launching = matches!(
            step,
            Step::FetchManifest | Step::Prepare | Step::Start | Step::Restart
        );
        let final_blame = match blame {
            Blame::Transient if self.failures <= TRIES_MAX => None,
            // Whoever keeps the manifest was the tenant's choice, and a manifest that was never sent is the tenant's doing.
            Blame::Transient if step == Step::FetchManifest => Some(Blame::Tenant),
            Blame::Transient => Some(Blame::Provider),
            blame => Some(blame),
        };
        if launching {
            self.verdict = final_blame;
        }
    }
}

/// Returns the pause after the `failures`-th failure in a row: doubling, bounded.
pub fn backoff(failures: u32) -> Millis {
    let doubled = BACKOFF_FIRST
        .millis()
        .saturating_mul(1 << failures.saturating_sub(1).min(16));
    Millis::from_millis(doubled).min(BACKOFF_MAX)
}
