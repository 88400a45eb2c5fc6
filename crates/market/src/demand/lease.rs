//! Leases: reports of the machine, and the end.
//!
//! ```text
//! Awarded ──ready──> Running <──beat── Suspect        Running ──notice──> Preempting
//!                    Running ──silence──> Suspect     Running ──funds──> Paused ──ready──> Running
//! any ──> Ended{reason}
//! ```
//!
//! | state | deadline | owner of the deadline | price while in it |
//! |---|---|---|---|
//! | Awarded | `start_by`, chain time | ledger: start-timeout | none |
//! | Running | last beat + `suspect_after`, chain time; funds and duration, block time | ledger: suspect; budget- or duration-reached | device time |
//! | Suspect | last beat + `lost_after`, chain time | ledger: provider-lost | device time, only if it comes back |
//! | Preempting | `stop_by` and limits, block time; `lost_after`, chain time | machine, else ledger: preempted | device time |
//! | Paused | `until`, block time; the machine's silence, chain time | ledger: budget-reached; provider-lost | storage kept, none if lost |
//! | Ended | retention | ledger: forgotten | none |
//!
//! How a lease ends, and what then, is in [`super::ending`]. A paused lease gives its devices back and keeps its disk; to
//! resume, the devices must be free.

use crate::{
    apply::Sender,
    demand::ending::{Ending, covered_end, end},
    event::{EventKind, LeasePhase},
    ids::{LeaseId, MachineId},
    keys::RoleNeeded,
    load::device_bits,
    money::{
        meter::{duration_until, funded_until},
        settle,
    },
    records::{EndReason, Lease, LeaseState, MachineState, Provider, Run},
    reject::Reject,
    state::Market,
    tx::{OnBudget, Outcome, Tier},
    units::{Millis, Timestamp},
};

/// Announces a lease's new live state.
pub(crate) fn announce(m: &mut Market, id: LeaseId, to: LeasePhase) {
    if let Some((job, machine)) = m.lease(id).map(|l| (l.job, l.machine)) {
        m.emit(EventKind::LeaseChanged {
            lease: id,
            job,
            machine,
            to,
        });
    }
}

/// Returns a live lease of the machine whose key sends.
fn require_lease<'a>(m: &'a Market, from: &Sender, id: LeaseId) -> Result<&'a Lease, Reject> {
    let lease = m.lease(id).ok_or(Reject::NoLease(id))?;
    from.require(RoleNeeded::Machine(lease.machine))
        .map_err(|_| Reject::NoLease(id))?;
    if lease.is_live() {
        Ok(lease)
    } else {
        Err(Reject::LeaseState(id))
    }
}

/// Takes the machine's word that the workload is ready, for the first time or after a pause.
pub(crate) fn ready(
    m: &mut Market,
    from: &Sender,
    id: LeaseId,
    at: Timestamp,
) -> Result<(), Reject> {
    let lease = require_lease(m, from, id)?;
    let now = m.time();
    // The report may have waited for this block since just after the last one.
    let tolerated = m.out.parent_time.before(m.params().clock_tolerance);
    let earliest = m
        .gap_start_in_grace()
        .map_or(tolerated, |start| start.min(tolerated));
    match lease.state {
        LeaseState::Awarded { .. } => {
            let at = at.clamp(earliest.max(lease.awarded_at).min(now), now);
            start(m, id, at);
            Ok(())
        }
        LeaseState::Paused { run, since, until } => {
            let at = at.clamp(earliest.max(since).min(now), now);
            let paused = run.paused_before.saturating_add(at.since(since));
            let run = stretch(m, lease, at, run.ready_at, run.ran_before, paused);
            if now >= until || run.limit() <= now {
                return Err(Reject::LeaseState(id));
            }
            if !has_room(m, lease) {
                return Err(Reject::MachineBusy(lease.machine));
            }
            resume(m, id, run);
            Ok(())
        }
        LeaseState::Running { .. }
        | LeaseState::Suspect { .. }
        | LeaseState::Preempting { .. }
        | LeaseState::Ended { .. } => Err(Reject::LeaseState(id)),
    }
}

/// Makes the clock of a stretch that begins at `at`.
fn stretch(
    m: &Market,
    lease: &Lease,
    at: Timestamp,
    ready_at: Timestamp,
    ran_before: Millis,
    paused_before: Millis,
) -> Run {
    let mut run = Run {
        ready_at,
        since: at,
        ran_before,
        paused_before,
        good_until: at,
        seen_chain: m.chain_now(),
        funded_until: Timestamp::MAX,
        duration_until: Timestamp::MAX,
    };
    if let Some(job) = m.job(lease.job) {
        run.funded_until = funded_until(lease, &job.spec, &run);
    }
    run.duration_until = duration_until(lease, &run);
    run
}

fn start(m: &mut Market, id: LeaseId, at: Timestamp) {
    let Some(mut lease) = m.lease(id).cloned() else {
        return;
    };
    let run = stretch(m, &lease, at, at, Millis::ZERO, Millis::ZERO);
    lease.state = LeaseState::Running { run };
    let (job, machine) = (lease.job, lease.machine);
    if lease.tier == Tier::Spot {
        // A spot lease may be taken back at any time, so its collateral only covers the start.
        let freed = std::mem::take(&mut lease.collateral);
        m.edit::<Provider>(lease.provider, |p| {
            p.reserved = p.reserved.saturating_sub(freed);
        });
        if !freed.is_zero() {
            m.wake_waiting();
        }
    }
    m.put(lease);
    m.heard(machine);
    m.emit(EventKind::LeaseReady {
        lease: id,
        job,
        machine,
        at,
    });
}

/// Returns whether a paused lease's devices and shares are free again.
fn has_room(m: &Market, lease: &Lease) -> bool {
    let Some(machine) = m.machine(lease.machine) else {
        return false;
    };
    m.index.load(lease.machine).is_none_or(|load| {
        load.devices & device_bits(&lease.devices) == 0
            && lease.cpu <= machine.spec.cpu.saturating_sub(load.cpu())
            && lease.memory <= machine.spec.memory.saturating_sub(load.memory())
    })
}

fn resume(m: &mut Market, id: LeaseId, run: Run) {
    m.edit::<Lease>(id, |l| l.state = LeaseState::Running { run });
    if let Some(machine) = m.lease(id).map(|l| l.machine) {
        m.heard(machine);
    }
    announce(m, id, LeasePhase::Running);
}

/// Takes the machine's word on the end of a workload.
pub(crate) fn ended(
    m: &mut Market,
    from: &Sender,
    id: LeaseId,
    at: Timestamp,
    outcome: Outcome,
) -> Result<(), Reject> {
    let lease = require_lease(m, from, id)?;
    let machine = lease.machine;
    let at = at.min(m.time());
    let reason = match outcome {
        Outcome::Exited { code: 0, .. } => EndReason::Completed,
        Outcome::Exited { code, .. } => EndReason::Failed { code },
        Outcome::ImageError => EndReason::ImageError,
        Outcome::Lost => EndReason::ProviderLost,
        Outcome::LimitReached => limit_reason(m, lease, at)?,
        Outcome::Stopped => stopped_reason(m, lease)?,
    };
    let paused = matches!(lease.state, LeaseState::Paused { .. });
    if paused && reason != EndReason::ProviderLost {
        return Err(Reject::LeaseState(id));
    }
    m.heard(machine);
    if outcome == Outcome::LimitReached {
        reach_limit(m, id, at);
    } else {
        end(m, id, Ending::at(reason, at));
    }
    Ok(())
}

/// Checks that a limit was reached when the machine says so; its clock may be off by the tolerance.
fn limit_reason(m: &Market, lease: &Lease, at: Timestamp) -> Result<EndReason, Reject> {
    match &lease.state {
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => {
            let reached = at.after(m.params().clock_tolerance) >= run.limit();
            reached
                .then_some(reason_of_limit(lease, run))
                .ok_or(Reject::BadTime { at })
        }
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => {
            Err(Reject::LeaseState(lease.id))
        }
    }
}

fn reason_of_limit(lease: &Lease, run: &Run) -> EndReason {
    if is_cut(lease) {
        EndReason::Cancelled
    } else if run.funded_until <= run.duration_until {
        EndReason::BudgetReached
    } else {
        EndReason::DurationReached
    }
}

/// Returns why a machine may stop a workload by itself: after notice, or because it is being emptied.
fn stopped_reason(m: &Market, lease: &Lease) -> Result<EndReason, Reject> {
    let evicting = m
        .machine(lease.machine)
        .is_some_and(|machine| match machine.state {
            MachineState::Draining {
                evict_at: Some(at), ..
            } => at <= m.time().after(m.params().clock_tolerance),
            MachineState::Draining { evict_at: None, .. }
            | MachineState::Active
            | MachineState::Down
            | MachineState::Retired => false,
        });
    match lease.state {
        LeaseState::Preempting { .. } => Ok(EndReason::Preempted),
        LeaseState::Running { .. } | LeaseState::Suspect { .. } if evicting => {
            Ok(EndReason::Drained)
        }
        LeaseState::Awarded { .. }
        | LeaseState::Running { .. }
        | LeaseState::Suspect { .. }
        | LeaseState::Paused { .. }
        | LeaseState::Ended { .. } => Err(Reject::LeaseState(lease.id)),
    }
}

/// Provider: takes a spot lease back.
pub(crate) fn preempt(m: &mut Market, from: &Sender, id: LeaseId) -> Result<(), Reject> {
    from.require(RoleNeeded::Provider)?;
    let lease = m.lease(id).filter(|l| l.provider == from.account);
    let lease = lease.ok_or(Reject::NoLease(id))?;
    if lease.tier != Tier::Spot {
        return Err(Reject::NotSpot(id));
    }
    match lease.state {
        LeaseState::Running { run } => {
            let stop_by = m.time().after(lease.preempt_notice);
            m.edit::<Lease>(id, |l| l.state = LeaseState::Preempting { run, stop_by });
            announce(m, id, LeasePhase::Preempting);
            Ok(())
        }
        LeaseState::Paused { .. } => {
            end(m, id, Ending::now(m, EndReason::Preempted));
            Ok(())
        }
        LeaseState::Awarded { .. }
        | LeaseState::Suspect { .. }
        | LeaseState::Preempting { .. }
        | LeaseState::Ended { .. } => Err(Reject::LeaseState(id)),
    }
}

/// Ends a lease at its tenant's word. After a halt of the chain the machine may not have said yet that it ran meanwhile:
/// then the lease is cut at this instant, and ends once beats reach it or the grace is over.
pub(crate) fn cancel(m: &mut Market, id: LeaseId) {
    let now = m.time();
    let unheard = m.lease(id).filter(|lease| {
        let limit = clock(lease).map(Run::limit);
        let paid_to = covered_end(m, lease, now);
        m.gap_start_in_grace().is_some() && limit.is_some_and(|limit| paid_to < limit.min(now))
    });
    let Some(lease) = unheard.cloned() else {
        return end(m, id, Ending::now(m, EndReason::Cancelled));
    };
    let cut = |run: &Run| Run {
        duration_until: run.limit().min(now),
        ..*run
    };
    let state = match &lease.state {
        LeaseState::Running { run } => LeaseState::Running { run: cut(run) },
        LeaseState::Suspect { run, lost_at } => LeaseState::Suspect {
            run: cut(run),
            lost_at: *lost_at,
        },
        LeaseState::Preempting { run, stop_by } => LeaseState::Preempting {
            run: cut(run),
            stop_by: *stop_by,
        },
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => return,
    };
    let phase = state.phase();
    m.put(Lease { state, ..lease });
    announce(m, id, phase);
}

/// Returns whether a lease was cancelled and only waits for what beats say about a halt: nothing else shortens its
/// duration.
pub(crate) fn is_cut(lease: &Lease) -> bool {
    clock(lease).is_some_and(|run| run.duration_until < duration_until(lease, run))
}

/// Returns the clock of a lease that runs, or is thought to.
const fn clock(lease: &Lease) -> Option<&Run> {
    match &lease.state {
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => Some(run),
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => None,
    }
}

/// Ends a lease that was cut, if beats have reached the cut.
pub(crate) fn end_cut(m: &mut Market, id: LeaseId) {
    let Some(lease) = m.lease(id).filter(|lease| is_cut(lease)) else {
        return;
    };
    let Some(run) = clock(lease).copied() else {
        return;
    };
    if run.good_until.after(m.params().beat_slack()) >= run.limit() {
        reach_limit(m, id, run.limit());
    }
}

/// The lease reached its funds or duration, at `at` at the latest: it pauses if the job says so, else it ends.
pub(crate) fn reach_limit(m: &mut Market, id: LeaseId, at: Timestamp) {
    let Some(lease) = m.lease(id) else { return };
    let (LeaseState::Running { run }
    | LeaseState::Suspect { run, .. }
    | LeaseState::Preempting { run, .. }) = lease.state
    else {
        return;
    };
    let reason = reason_of_limit(lease, &run);
    let on_budget = m.job(lease.job).map(|j| j.spec.on_budget);
    let may_pause =
        reason == EndReason::BudgetReached && !matches!(lease.state, LeaseState::Preempting { .. });
    match on_budget {
        Some(OnBudget::Pause { grace }) if may_pause => pause(m, id, at, grace),
        _ => end(m, id, Ending::at(reason, at)),
    }
}

fn pause(m: &mut Market, id: LeaseId, at: Timestamp, grace: Millis) {
    let Some(lease) = m.lease(id) else { return };
    let used = settle::usage(lease, covered_end(m, lease, at));
    let Some(run) = lease.state.run().copied() else {
        return;
    };
    let since = at.min(run.limit());
    let run = Run {
        ran_before: used.ran,
        ..run
    };
    let until = since.after(grace);
    m.edit::<Lease>(id, |l| l.state = LeaseState::Paused { run, since, until });
    announce(m, id, LeasePhase::Paused);
    m.wake_waiting();
}

/// Fires a lease's limit: notice, grace, funds or duration.
pub(crate) fn limit_due(m: &mut Market, id: LeaseId) {
    let Some(lease) = m.lease(id) else { return };
    match lease.state {
        LeaseState::Preempting { run, stop_by } if stop_by < run.limit() => {
            end(m, id, Ending::at(EndReason::Preempted, stop_by));
        }
        LeaseState::Running { run } | LeaseState::Preempting { run, .. } => {
            reach_limit(m, id, run.limit());
        }
        LeaseState::Paused { until, .. } => {
            end(m, id, Ending::at(EndReason::BudgetReached, until));
        }
        LeaseState::Awarded { .. } | LeaseState::Suspect { .. } | LeaseState::Ended { .. } => {}
    }
}

/// A running lease missed its beats.
pub(crate) fn suspect(m: &mut Market, id: LeaseId) {
    let Some(LeaseState::Running { run }) = m.lease(id).map(|l| l.state) else {
        return;
    };
    let lost_at = run.seen_chain.after(m.params().lost_after);
    m.edit::<Lease>(id, |l| l.state = LeaseState::Suspect { run, lost_at });
    announce(m, id, LeasePhase::Suspect);
}

/// A silent lease is given up.
pub(crate) fn lost(m: &mut Market, id: LeaseId) {
    let Some(run) = m.lease(id).and_then(|l| l.state.run().copied()) else {
        return;
    };
    let ending = Ending {
        silent: true,
        ..Ending::at(EndReason::ProviderLost, run.good_until)
    };
    end(m, id, ending);
}

/// Ends the leases that remain on a draining machine.
pub(crate) fn evict(m: &mut Market, id: MachineId) {
    let Some(MachineState::Draining {
        evict_at: Some(at), ..
    }) = m.machine(id).map(|machine| machine.state)
    else {
        return;
    };
    let leases: Vec<LeaseId> = m.leases_on(id).map(|l| l.id).collect();
    for lease in leases {
        end(m, lease, Ending::at(EndReason::Drained, at));
    }
}

/// Forgets an ended lease, and its machine if that was the last thing that kept it.
pub(crate) fn forget(m: &mut Market, id: LeaseId) {
    if let Some(machine) = m.lease(id).map(|l| l.machine) {
        m.delete::<Lease>(id);
        crate::supply::machine::forget_retired(m, machine);
    }
}
