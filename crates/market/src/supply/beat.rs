//! Beats: a machine's word that it and its workloads are alive.
//!
//! A beat *counts* when it is fresh (not older than the suspect limit), or was made during or just before the last gap
//! of the chain and arrives within the grace after it. A beat that counts moves the charged end of the leases that it
//! names and brings suspect ones back. Others only continue the chain. A clock that runs ahead is cut to block time.

use crate::{
    apply::Sender,
    demand::lease,
    event::LeasePhase,
    ids::{LeaseId, MachineId},
    keys::RoleNeeded,
    records::{Lease, LeaseState, Machine, MachineState, Run},
    reject::Reject,
    state::Market,
    supply::machine,
    tx::BeatBatch,
    units::Timestamp,
};

/// Takes a batch of beats.
pub(crate) fn beat(m: &mut Market, from: &Sender, batch: &BeatBatch) -> Result<(), Reject> {
    let id = batch.machine;
    from.require(RoleNeeded::Machine(id))?;
    let machine = m.machine(id).ok_or(Reject::NoMachine(id))?;
    if machine.state == MachineState::Retired {
        return Err(Reject::MachineState(id));
    }
    let follows = batch.first_seq == machine.next_beat && batch.prev == machine.beat_link;
    if !follows || batch.beats.is_empty() {
        return Err(Reject::BeatChain {
            next: machine.next_beat,
        });
    }
    require_ascending(batch, machine.last_beat)?;

    let now = m.time();
    let oldest = oldest_that_counts(m);
    let last = batch.beats.last().map_or(now, |b| b.at.min(now));
    let count = u64::try_from(batch.beats.len()).unwrap_or(u64::MAX);
    let was_down = machine.state == MachineState::Down;
    let (link, chain_now) = (batch.last_link(), m.chain_now());
    m.edit::<Machine>(id, |machine| {
        machine.next_beat = machine.next_beat.saturating_add(count);
        machine.beat_link = link;
        machine.last_beat = Some(last);
        machine.last_beat_chain = chain_now;
        if was_down {
            machine.state = MachineState::Active;
        }
    });
    if was_down {
        machine::changed(m, id);
    }
    if was_down || batch.first_seq == 0 {
        m.wake_waiting();
    }
    for (lease, at) in seen(batch, now, oldest) {
        seen_running(m, id, lease, at);
    }
    Ok(())
}

/// Checks that instants ascend strictly, over batches too, and that every beat lists its leases in order.
fn require_ascending(batch: &BeatBatch, last: Option<Timestamp>) -> Result<(), Reject> {
    let mut before = last;
    for beat in &batch.beats {
        let sorted = beat.leases.is_sorted_by(|a, b| a < b);
        if before.is_some_and(|before| beat.at <= before) || !sorted {
            return Err(Reject::BadTime { at: beat.at });
        }
        before = Some(beat.at);
    }
    Ok(())
}

/// Returns the instant from which on beats count now.
fn oldest_that_counts(m: &Market) -> Timestamp {
    let now = m.time();
    let params = m.params();
    let start = m.gap_start_in_grace().unwrap_or(now);
    start.min(now).before(params.suspect_after)
}

/// Returns the last instant that counts for each lease that the batch names.
fn seen(batch: &BeatBatch, now: Timestamp, oldest: Timestamp) -> Vec<(LeaseId, Timestamp)> {
    let mut seen = std::collections::BTreeMap::new();
    for beat in batch.beats.iter().filter(|b| b.at >= oldest) {
        for lease in &beat.leases {
            seen.insert(*lease, beat.at.min(now));
        }
    }
    seen.into_iter().collect()
}

/// Moves a lease's last good beat; leases that this machine does not run are passed over.
fn seen_running(m: &mut Market, machine: MachineId, id: LeaseId, at: Timestamp) {
    let Some(found) = m.lease(id).filter(|l| l.machine == machine) else {
        return;
    };
    let chain_now = m.chain_now();
    let moved = |run: &Run| Run {
        good_until: run.good_until.max(at),
        seen_chain: chain_now,
        ..*run
    };
    let (state, revived) = match &found.state {
        LeaseState::Running { run } => (LeaseState::Running { run: moved(run) }, false),
        LeaseState::Suspect { run, .. } => (LeaseState::Running { run: moved(run) }, true),
        LeaseState::Preempting { run, stop_by } => {
            let (run, stop_by) = (moved(run), *stop_by);
            (LeaseState::Preempting { run, stop_by }, false)
        }
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => return,
    };
    m.edit::<Lease>(id, |l| l.state = state);
    if revived {
        lease::announce(m, id, LeasePhase::Running);
        m.wake_waiting();
    }
    lease::end_cut(m, id);
}

impl Market {
    /// Returns where the last gap began, while the grace after it lasts.
    pub(crate) fn gap_start_in_grace(&self) -> Option<Timestamp> {
        let (start, end) = self.system.last_gap?;
        let grace_end = end.after(self.params().gap_grace);
        (self.time() <= grace_end).then_some(start)
    }

    /// Notes that a machine's key spoke, though not by a beat: it is alive.
    pub(crate) fn heard(&mut self, machine: MachineId) {
        let chain_now = self.chain_now();
        self.edit::<Machine>(machine, |machine| machine.last_beat_chain = chain_now);
    }

    /// Has the orders that wait compared again, because capacity may have appeared.
    pub(crate) fn wake_waiting(&mut self) {
        let retry = &mut self.system.retry;
        match retry.from {
            None if self.index.waiting.is_empty() => {}
            None => retry.from = Some(0),
            Some(0) => {}
            Some(_) => retry.again = true,
        }
    }
}
