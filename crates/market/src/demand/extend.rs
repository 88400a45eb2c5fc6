//! Longer jobs: more running time than was asked for at first, where the machine is offered for so long.

use crate::{
    apply::Sender,
    demand::{job, lease, order},
    event::{EventKind, LeasePhase},
    ids::{JobId, LeaseId},
    money::meter::duration_until,
    records::{Job, JobState, Lease, LeaseState, MachineState, Offer, Run},
    reject::{FieldName, Reject},
    state::Market,
    units::Millis,
};

/// Lets a job run longer. Its budget stays: what the longer time costs must be in it, or added.
pub(crate) fn extend(m: &mut Market, from: &Sender, id: JobId, by: Millis) -> Result<(), Reject> {
    let job = job::require_job(m, from, id)?;
    let (state, tenant) = (job.state, job.tenant);
    let duration = job.spec.duration_max.saturating_add(by);
    if by.is_zero() || duration > m.params().duration_max {
        let field = FieldName::Duration;
        return Err(Reject::BadField { field });
    }
    if let JobState::Running { lease } = state {
        require_longer(m, lease, by)?;
    }

    m.edit::<Job>(id, |job| job.spec.duration_max = duration);
    m.emit(EventKind::JobExtended {
        job: id,
        tenant,
        by,
    });
    match state {
        JobState::Running { lease } => lengthen(m, lease, by),
        JobState::Open { order } => order::raise(m, order),
        JobState::Ended { .. } => {}
    }
    Ok(())
}

/// Checks that a live lease can still go on, and that its provider lends for so long: an offer that stands on the
/// machine says so, at no more than the lease's prices. A lease's own offer may be gone, and a bid names no time.
fn require_longer(m: &Market, id: LeaseId, by: Millis) -> Result<(), Reject> {
    let lease = m.lease(id).ok_or(Reject::NoLease(id))?;
    // Just before the end it is too late: the machine may have stopped already.
    let late = m.time().after(m.params().clock_tolerance);
    let goes_on = match &lease.state {
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } => true,
        LeaseState::Running { run } | LeaseState::Suspect { run, .. } => {
            !lease::is_cut(lease) && late < run.limit()
        }
        LeaseState::Preempting { .. } | LeaseState::Ended { .. } => false,
    };
    if !goes_on {
        return Err(Reject::LeaseState(id));
    }
    let machine = m.machine(lease.machine);
    let leaving = machine.is_none_or(|machine| match machine.state {
        MachineState::Active | MachineState::Down => false,
        MachineState::Draining { .. } | MachineState::Retired => true,
    });
    if leaving {
        return Err(Reject::MachineState(lease.machine));
    }
    let offers = m.offers_on(lease.machine);
    let longest = offers
        .filter(|offer| covers(offer, lease))
        .map(|offer| offer.terms.term_max)
        .max()
        .unwrap_or(lease.duration_max);
    if lease.duration_max.saturating_add(by) > longest {
        return Err(Reject::TermTooLong { longest });
    }
    Ok(())
}

/// Returns whether an offer is one of what the lease has, at no more than the lease's prices.
fn covers(offer: &Offer, lease: &Lease) -> bool {
    let (asked, paid) = (&offer.terms.prices, &lease.prices);
    offer.terms.tier == lease.tier
        && lease
            .devices
            .iter()
            .all(|device| offer.terms.devices.contains(device))
        && asked.per_device_hour <= paid.per_device_hour
        && asked.per_gib_hour <= paid.per_gib_hour
        && asked.per_gib_out <= paid.per_gib_out
}

fn lengthen(m: &mut Market, id: LeaseId, by: Millis) {
    let Some(mut lease) = m.lease(id).cloned() else {
        return;
    };
    lease.duration_max = lease.duration_max.saturating_add(by);
    let longer = |run: &Run| Run {
        duration_until: duration_until(&lease, run),
        ..*run
    };
    let state = match &lease.state {
        LeaseState::Running { run } => LeaseState::Running { run: longer(run) },
        LeaseState::Suspect { run, lost_at } => LeaseState::Suspect {
            run: longer(run),
            lost_at: *lost_at,
        },
        LeaseState::Paused { run, since, until } => LeaseState::Paused {
            run: longer(run),
            since: *since,
            until: *until,
        },
        LeaseState::Awarded { .. } | LeaseState::Preempting { .. } | LeaseState::Ended { .. } => {
            lease.state
        }
    };
    let phase = state.phase();
    m.put(Lease { state, ..lease });
    if phase != LeasePhase::Awarded {
        // The job's event does not name the machine, which must learn that it may go on.
        lease::announce(m, id, phase);
    }
}
