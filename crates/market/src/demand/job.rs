//! Jobs: opened with their whole budget held, topped up, cancelled, ended.
//!
//! ```text
//! Open{order} <-> Running{lease}      award / the lease ended and another attempt is due
//! either -> Ended{reason}             what is left of the hold returns at once
//! ```

use crate::{
    apply::Sender,
    demand::{lease, order, require::Want},
    event::{EventKind, LeasePhase, Purpose, Slot},
    ids::{JobId, OrderId},
    keys::RoleNeeded,
    money::meter::{funded_until, pause_grace},
    records::{Hold, Job, JobEnd, JobState, Lease, LeaseState, Order, Run, Signer},
    reject::{FieldName, Reject},
    state::Market,
    tx::{DEVICES_MAX, JobKind, JobSpec, OnBudget, Verification},
    units::{Millis, Money, Timestamp},
};

/// Opens a job, holds its budget and puts its first order in the book.
pub(crate) fn open(m: &mut Market, from: &Sender, spec: &JobSpec) -> Result<(), Reject> {
    from.require(RoleNeeded::Tenant)?;
    require_spec(m, spec)?;
    let committed = require_key_budget(m, from, spec.budget)?;
    m.require_funds(from.account, spec.budget)?;
    m.room(m.index.counts(from.account).jobs)?;

    let id = JobId::created_by(&from.key, from.nonce);
    let seq = m.next_seq();
    m.edit::<Signer>(from.key, |s| s.committed = committed);
    m.put(Job {
        id,
        seq,
        tenant: from.account,
        opened_by: from.key,
        spec: spec.clone(),
        opened_at: m.time(),
        orders: 0,
        attempts_used: 0,
        ran: Millis::ZERO,
        charged: Money::ZERO,
        avoid: Vec::new(),
        doubted_by: Vec::new(),
        state: JobState::Open {
            order: order::number(id, 0),
        },
    });
    m.put(Hold {
        job: id,
        tenant: from.account,
        amount: Money::ZERO,
        release_at: Timestamp::ZERO,
    });
    let source = Slot::Available(from.account);
    m.post(source, Slot::Hold(id), spec.budget, Purpose::Escrow);
    m.emit(EventKind::JobOpened {
        job: id,
        tenant: from.account,
        budget: spec.budget,
    });
    order::open(m, id, spec.window);
    Ok(())
}

/// Checks what can be known from the specification alone.
fn require_spec(m: &Market, spec: &JobSpec) -> Result<(), Reject> {
    let params = m.params();
    let supported = [
        (spec.kind == JobKind::Batch, FieldName::Kind),
        (
            spec.verification == Verification::None,
            FieldName::Verification,
        ),
    ];
    if let Some((_, field)) = supported.into_iter().find(|(ok, _)| !ok) {
        return Err(Reject::Unsupported { field });
    }
    let grace_fits = match spec.on_budget {
        OnBudget::End => true,
        OnBudget::Pause { grace } => grace <= params.order_wait_max,
    };
    let duration = spec.duration_max;
    let accepted = [
        (!spec.budget.is_zero(), FieldName::Budget),
        (
            !duration.is_zero() && duration <= params.duration_max,
            FieldName::Duration,
        ),
        (spec.attempts_max > 0, FieldName::Attempts),
        (spec.window <= params.window_max, FieldName::Window),
        (spec.wait_max <= params.order_wait_max, FieldName::Wait),
        (grace_fits, FieldName::Grace),
        (!spec.keepers.is_empty(), FieldName::Keepers),
        (
            (1..=DEVICES_MAX).contains(&usize::from(spec.needs.count)),
            FieldName::Count,
        ),
    ];
    match accepted.into_iter().find(|(ok, _)| !ok) {
        Some((_, field)) => Err(Reject::BadField { field }),
        None => Ok(()),
    }
}

/// Returns what the key will have committed; an account's own key has no budget.
fn require_key_budget(m: &Market, from: &Sender, need: Money) -> Result<Money, Reject> {
    let signer = m.signer(&from.key).ok_or(Reject::NoKey)?;
    if let Some(budget) = signer.budget {
        let left = budget.saturating_sub(signer.committed);
        if left < need {
            return Err(Reject::KeyBudget { left, need });
        }
    }
    Ok(signer.committed.saturating_add(need))
}

/// Returns the sender's job, if it has not ended.
pub(super) fn require_job<'a>(m: &'a Market, from: &Sender, id: JobId) -> Result<&'a Job, Reject> {
    from.require(RoleNeeded::Tenant)?;
    let job = m.job(id).filter(|j| j.tenant == from.account);
    let job = job.ok_or(Reject::NoJob(id))?;
    match job.state {
        JobState::Ended { .. } => Err(Reject::JobEnded(id)),
        JobState::Open { .. } | JobState::Running { .. } => Ok(job),
    }
}

/// Adds to a job's budget. Just before a lease runs out of funds it is too late: the machine may have stopped already.
pub(crate) fn top_up(
    m: &mut Market,
    from: &Sender,
    id: JobId,
    amount: Money,
) -> Result<(), Reject> {
    let job = require_job(m, from, id)?;
    let (state, tenant) = (job.state, job.tenant);
    let budget = job
        .spec
        .budget
        .checked_add(amount)
        .ok_or(Reject::Overflow)?;
    let committed = require_key_budget(m, from, amount)?;
    m.require_funds(from.account, amount)?;
    if let JobState::Running { lease } = state
        && !has_time_left(m, m.lease(lease))
    {
        return Err(Reject::LeaseState(lease));
    }

    m.edit::<Signer>(from.key, |s| s.committed = committed);
    m.edit::<Job>(id, |job| job.spec.budget = budget);
    let source = Slot::Available(tenant);
    m.post(source, Slot::Hold(id), amount, Purpose::Escrow);
    m.emit(EventKind::JobToppedUp {
        job: id,
        tenant,
        amount,
    });
    match state {
        JobState::Running { lease } => fund(m, lease, amount),
        JobState::Open { order } => order::raise(m, order),
        JobState::Ended { .. } => {}
    }
    Ok(())
}

fn has_time_left(m: &Market, lease: Option<&Lease>) -> bool {
    let run = lease.and_then(|lease| match &lease.state {
        LeaseState::Running { run } | LeaseState::Suspect { run, .. } => Some(run),
        LeaseState::Awarded { .. }
        | LeaseState::Preempting { .. }
        | LeaseState::Paused { .. }
        | LeaseState::Ended { .. } => None,
    });
    if lease.is_some_and(lease::is_cut) {
        return false;
    }
    let until = m.time().after(m.params().clock_tolerance);
    run.is_none_or(|run| until < run.funded_until)
}

/// Gives a live lease more funds.
fn fund(m: &mut Market, id: crate::ids::LeaseId, amount: Money) {
    let Some(mut lease) = m.lease(id).cloned() else {
        return;
    };
    let Some(spec) = m.job(lease.job).map(|j| &j.spec) else {
        return;
    };
    lease.funds = lease.funds.saturating_add(amount);
    let refunded = |run: &Run| Run {
        funded_until: funded_until(&lease, spec, run),
        ..*run
    };
    let state = match &lease.state {
        LeaseState::Running { run } => LeaseState::Running { run: refunded(run) },
        LeaseState::Suspect { run, lost_at } => LeaseState::Suspect {
            run: refunded(run),
            lost_at: *lost_at,
        },
        LeaseState::Preempting { run, stop_by } => LeaseState::Preempting {
            run: refunded(run),
            stop_by: *stop_by,
        },
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => {
            lease.state
        }
    };
    let phase = state.phase();
    m.put(Lease { state, ..lease });
    if phase != LeasePhase::Awarded {
        // The top-up itself does not name the machine, which must learn that it may go on.
        lease::announce(m, id, phase);
    }
}

/// Ends a job and its lease.
pub(crate) fn cancel(m: &mut Market, from: &Sender, id: JobId) -> Result<(), Reject> {
    match require_job(m, from, id)?.state {
        JobState::Open { order } => {
            order::close(m, order, order::Closing::Cancelled);
            finish(m, id, JobEnd::Cancelled);
        }
        JobState::Running { lease } => lease::cancel(m, lease),
        JobState::Ended { .. } => {}
    }
    Ok(())
}

/// Anyone: ends a job that outlived every deadline of its hold, so that no escrow waits for ever.
pub(crate) fn release(m: &mut Market, id: JobId) -> Result<(), Reject> {
    let job = m.job(id).ok_or(Reject::NoJob(id))?;
    let hold = m.hold(id).ok_or(Reject::JobEnded(id))?;
    match job.state {
        JobState::Open { order } if hold.release_at <= m.time() => {
            order::close(m, order, order::Closing::Expired);
            finish(m, id, JobEnd::NoMatch);
            Ok(())
        }
        JobState::Open { .. } | JobState::Running { .. } | JobState::Ended { .. } => {
            Err(Reject::HoldLive(id))
        }
    }
}

/// Makes a job final and returns what is left of its hold.
pub(crate) fn finish(m: &mut Market, id: JobId, reason: JobEnd) {
    let (Some(job), Some(hold)) = (m.job(id), m.hold(id)) else {
        return;
    };
    let (tenant, charged, returned) = (job.tenant, job.charged, hold.amount);
    let at = m.time();
    m.post(
        Slot::Hold(id),
        Slot::Available(tenant),
        returned,
        Purpose::Refund,
    );
    m.delete::<Hold>(id);
    m.edit::<Job>(id, |job| job.state = JobState::Ended { reason, at });
    m.emit(EventKind::JobEnded {
        job: id,
        tenant,
        reason,
        charged,
        returned,
    });
}

/// Forgets an ended job.
pub(crate) fn forget(m: &mut Market, id: JobId) {
    m.delete::<Job>(id);
}

impl Market {
    /// Returns what a job still wants; `None` once it has ended.
    pub(crate) fn want(&self, id: JobId) -> Option<Want<'_>> {
        let job = self.job(id)?;
        let hold = self.hold(id)?;
        let spec = &job.spec;
        Some(Want {
            needs: &spec.needs,
            tier: spec.tier,
            price_cap: spec.price_cap,
            budget: hold.amount,
            duration: spec.duration_max.saturating_sub(job.ran),
            storage_kept: spec.storage_kept,
            pause_grace: pause_grace(spec),
            avoid: &job.avoid,
            doubted_by: &job.doubted_by,
        })
    }

    /// Returns an order in the book with its job.
    pub(crate) fn order_and_job(&self, id: OrderId) -> Option<(&Order, &Job)> {
        let order = self.order(id)?;
        Some((order, self.job(order.job)?))
    }
}
