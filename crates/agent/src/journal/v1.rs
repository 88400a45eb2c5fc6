//! The state as version 1 wrote it: before leases could rest.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use market::{Height, LeaseId, Millis, Outcome, Timestamp};

use super::{Identity, State};
use crate::{
    beats::Chain,
    core::{Kept, Phase, StopMark, Wanted},
};

/// What survived a restart.
#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct StateV1 {
    pub(super) identity: Option<Identity>,
    pub(super) chain: Chain,
    pub(super) kept: BTreeMap<LeaseId, KeptV1>,
    pub(super) wanted: BTreeMap<LeaseId, WantedV1>,
    pub(super) height: Height,
}

#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct KeptV1 {
    pub(super) started: Option<Timestamp>,
    pub(super) stop: Option<StopMark>,
    pub(super) ended: Option<(Timestamp, Outcome)>,
    pub(super) ready_settled: bool,
    pub(super) ended_settled: bool,
}

#[derive(BorshSerialize, BorshDeserialize)]
pub(super) struct WantedV1 {
    pub(super) phase: PhaseV1,
    pub(super) duration_max: Millis,
    pub(super) affords: Millis,
    pub(super) notice: Millis,
}

#[derive(BorshSerialize, BorshDeserialize)]
pub(super) enum PhaseV1 {
    Awarded {
        start_by: Timestamp,
    },
    Running {
        limit: Timestamp,
    },
    Preempting {
        limit: Timestamp,
        stop_by: Timestamp,
    },
    Paused,
    Ended,
}

impl From<StateV1> for State {
    fn from(old: StateV1) -> Self {
        Self {
            identity: old.identity,
            chain: old.chain,
            kept: old.kept.into_iter().map(|(l, k)| (l, k.into())).collect(),
            wanted: old.wanted.into_iter().map(|(l, w)| (l, w.into())).collect(),
            height: old.height,
        }
    }
}

impl From<KeptV1> for Kept {
    fn from(old: KeptV1) -> Self {
        Self {
            started: old.started,
            stop: old.stop,
            ended: old.ended,
            ready_settled: old.ready_settled,
            ended_settled: old.ended_settled,
            ..Self::default()
        }
    }
}

impl From<WantedV1> for Wanted {
    fn from(old: WantedV1) -> Self {
        let phase = match old.phase {
            PhaseV1::Awarded { start_by } => Phase::Awarded { start_by },
            PhaseV1::Running { limit } => Phase::Running { limit },
            PhaseV1::Preempting { limit, stop_by } => Phase::Preempting { limit, stop_by },
            PhaseV1::Paused => Phase::Paused { left: Millis::ZERO },
            PhaseV1::Ended => Phase::Ended,
        };
        Self {
            phase,
            duration_max: old.duration_max,
            affords: old.affords,
            notice: old.notice,
            // The next look at the ledger says it.
            pause_after: None,
        }
    }
}
