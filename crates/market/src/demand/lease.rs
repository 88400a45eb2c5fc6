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
//! | Paused | `until`, block time | ledger: budget-reached | storage kept |
//! | Ended | retention | ledger: forgotten | none |
//!
//! | reason | who asserts it | tenant pays | provider forfeits | uses an attempt | job then |
//! |---|---|---|---|---|---|
//! | completed | machine: exit 0 | through the end | – | – | ends |
//! | failed | machine: other exit | through the end | – | yes | re-opens while attempts are left |
//! | failed, within `early_exit` of ready | machine | nothing | – | no | second opinion |
//! | image-error | machine | nothing | – | no | second opinion |
//! | cancelled | tenant | through now, at least min(`cancel_minimum`, time since award) | – | – | ends |
//! | budget-reached | ledger or machine at the due instant | through it | – | – | ends |
//! | duration-reached | ledger or machine at the due instant | through it | – | – | ends |
//! | preempted | machine after notice, else ledger | through the end | – | no | re-opens, avoids the machine |
//! | drained | ledger at `evict_at`, or machine then | through the end | collateral, with short notice | no | re-opens |
//! | provider-lost | ledger: silence; machine: lost it | through the last good beat, no fee | collateral | no | re-opens, avoids machine and, when silent, domain |
//! | start-timeout | ledger | nothing | collateral | no | re-opens, avoids the machine |
//! | verification-failed | nobody yet | nothing | collateral | no | re-opens, avoids the machine |
//! | superseded | nobody yet | through the end | – | no | ends |
//!
//! *Second opinion*: the job ends only when a second owner's machine reports the same, or when no machine of another
//! owner could take it right now: a lone provider shall not leave the tenant waiting for what will not come.
//!
//! *Covered end*: an end more than two beats after the last good beat is cut to that beat. A paused lease gives its
//! devices back and keeps its disk; to resume, the devices must be free.

use crate::{
    apply::Sender,
    demand::{auction, job, order},
    event::{EventKind, LeasePhase},
    ids::{LeaseId, MachineId},
    index::device_bits,
    keys::RoleNeeded,
    money::{
        meter::{duration_until, funded_until},
        settle::{self, Usage},
    },
    records::{Bill, EndReason, Job, JobEnd, Lease, LeaseState, MachineState, Provider, Run},
    reject::Reject,
    state::Market,
    tx::{OnBudget, Outcome, Tier},
    units::{Millis, Money, Timestamp},
};

/// What a tenant pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pays {
    /// What was used.
    Through,
    /// What was used, and at least the cancel minimum.
    AtLeastMinimum,
    /// Nothing.
    Nothing,
}

/// When a provider forfeits the collateral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forfeits {
    Never,
    ShortNotice,
    Always,
}

/// What the job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    End,
    Reopen,
    SecondOpinion,
}

/// What a job avoids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Avoids {
    Nothing,
    Machine,
}

/// A row of the table of end reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) pays: Pays,
    pub(crate) fee: bool,
    pub(crate) forfeits: Forfeits,
    pub(crate) attempt: bool,
    pub(crate) next: Next,
    pub(crate) avoids: Avoids,
}

/// The row of a lease that ends well, from which the others differ.
const PLAIN: Terms = Terms {
    pays: Pays::Through,
    fee: true,
    forfeits: Forfeits::Never,
    attempt: false,
    next: Next::End,
    avoids: Avoids::Nothing,
};

/// The row of an image error, and of a failed exit just after ready.
const DOUBTFUL: Terms = Terms {
    pays: Pays::Nothing,
    fee: false,
    next: Next::SecondOpinion,
    avoids: Avoids::Machine,
    ..PLAIN
};

/// The row of a delivery that failed.
const UNDELIVERED: Terms = Terms {
    pays: Pays::Nothing,
    fee: false,
    forfeits: Forfeits::Always,
    next: Next::Reopen,
    avoids: Avoids::Machine,
    ..PLAIN
};

impl Terms {
    /// Returns the reason's row.
    pub(crate) fn of(reason: EndReason) -> Self {
        match reason {
            EndReason::Completed
            | EndReason::BudgetReached
            | EndReason::DurationReached
            | EndReason::Superseded => PLAIN,
            EndReason::Failed { .. } => Self {
                attempt: true,
                next: Next::Reopen,
                ..PLAIN
            },
            EndReason::Cancelled => Self {
                pays: Pays::AtLeastMinimum,
                ..PLAIN
            },
            EndReason::Preempted => Self {
                next: Next::Reopen,
                avoids: Avoids::Machine,
                ..PLAIN
            },
            EndReason::Drained => Self {
                forfeits: Forfeits::ShortNotice,
                next: Next::Reopen,
                ..PLAIN
            },
            EndReason::ProviderLost => Self {
                pays: Pays::Through,
                ..UNDELIVERED
            },
            EndReason::ImageError => DOUBTFUL,
            EndReason::StartTimeout | EndReason::VerificationFailed => UNDELIVERED,
        }
    }
}

/// How a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: EndReason,
    /// End of what is used; cut to what is covered by beats and limits.
    pub(crate) at: Timestamp,
    /// Whether the machine fell silent, so that what fails together with it is avoided as well.
    pub(crate) silent: bool,
}

impl Ending {
    /// The lease ends at block time.
    pub(crate) fn now(m: &Market, reason: EndReason) -> Self {
        Self::at(reason, m.time())
    }

    /// The lease ended at `at`.
    pub(crate) const fn at(reason: EndReason, at: Timestamp) -> Self {
        Self {
            reason,
            at,
            silent: false,
        }
    }
}

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
    let tolerated = now.before(m.params().clock_tolerance);
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
                .then_some(reason_of_limit(run))
                .ok_or(Reject::BadTime { at })
        }
        LeaseState::Awarded { .. } | LeaseState::Paused { .. } | LeaseState::Ended { .. } => {
            Err(Reject::LeaseState(lease.id))
        }
    }
}

fn reason_of_limit(run: &Run) -> EndReason {
    if run.funded_until <= run.duration_until {
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

/// The lease reached its funds or duration, at `at` at the latest: it pauses if the job says so, else it ends.
pub(crate) fn reach_limit(m: &mut Market, id: LeaseId, at: Timestamp) {
    let Some(lease) = m.lease(id) else { return };
    let (LeaseState::Running { run }
    | LeaseState::Suspect { run, .. }
    | LeaseState::Preempting { run, .. }) = lease.state
    else {
        return;
    };
    let reason = reason_of_limit(&run);
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

/// Returns the end of what is used if it ended at `at`: within its limits, and covered by beats.
fn covered_end(m: &Market, lease: &Lease, at: Timestamp) -> Timestamp {
    match &lease.state {
        LeaseState::Awarded { .. } => at,
        LeaseState::Ended { ended_at, .. } => *ended_at,
        LeaseState::Paused { since, until, .. } => at.min(*until).max(*since),
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => {
            let at = at.max(run.good_until);
            let covered = run.good_until.after(m.params().beat_slack());
            let at = if at > covered { run.good_until } else { at };
            at.min(run.limit()).max(run.since)
        }
    }
}

/// Ends a lease: bill, money, then what its job does next.
pub(crate) fn end(m: &mut Market, id: LeaseId, ending: Ending) {
    let Some(mut lease) = m.lease(id).filter(|l| l.is_live()).cloned() else {
        return;
    };
    let Ending { reason, silent, .. } = ending;
    let last_beat = lease.state.run().map(|run| run.good_until);
    let at = match last_beat {
        Some(last_beat) if reason == EndReason::ProviderLost => last_beat,
        Some(_) | None => ending.at,
    };
    let at = covered_end(m, &lease, at);
    let used = settle::usage(&lease, at);
    let ready_at = lease.state.run().map(|run| run.ready_at);
    let terms = terms(m, reason, ready_at, used);
    let forfeited = forfeit(m, &lease, terms);
    let bill = Bill {
        forfeited,
        ..settle::bill(m, &lease, billed(m, &lease, used, terms), terms)
    };

    lease.state = LeaseState::Ended {
        reason,
        ready_at,
        ended_at: at,
        bill,
    };
    m.put(lease.clone());
    settle::settle(m, &lease, &bill);
    record(m, &lease, &bill, used, terms);
    m.emit(EventKind::LeaseEnded {
        lease: id,
        job: lease.job,
        tenant: lease.tenant,
        provider: lease.provider,
        machine: lease.machine,
        reason,
        bill,
    });
    m.wake_waiting();
    go_on(m, &lease, reason, silent, terms);
}

/// Returns the row that applies: a failed exit just after ready is the image's or machine's fault, not the work's.
fn terms(m: &Market, reason: EndReason, ready_at: Option<Timestamp>, used: Usage) -> Terms {
    let failed = matches!(reason, EndReason::Failed { .. });
    let early = ready_at.is_none() || used.ran < m.params().early_exit;
    if failed && early {
        DOUBTFUL
    } else {
        Terms::of(reason)
    }
}

/// Returns the usage that is paid for.
fn billed(m: &Market, lease: &Lease, used: Usage, terms: Terms) -> Usage {
    match terms.pays {
        Pays::Through => used,
        Pays::Nothing => Usage::default(),
        Pays::AtLeastMinimum => {
            let since_award = m.time().since(lease.awarded_at);
            let least = m.params().cancel_minimum.min(since_award);
            Usage {
                ran: used.ran.max(least),
                ..used
            }
        }
    }
}

fn forfeit(m: &Market, lease: &Lease, terms: Terms) -> Money {
    let forfeits = match terms.forfeits {
        Forfeits::Never => false,
        Forfeits::Always => true,
        Forfeits::ShortNotice => {
            m.machine(lease.machine)
                .is_some_and(|machine| match machine.state {
                    MachineState::Draining {
                        evict_at: Some(at),
                        announced_at,
                    } => at.since(announced_at) < m.params().drain_notice,
                    MachineState::Draining { evict_at: None, .. }
                    | MachineState::Active
                    | MachineState::Down
                    | MachineState::Retired => false,
                })
        }
    };
    if forfeits {
        lease.collateral
    } else {
        Money::ZERO
    }
}

/// Counts the end in the provider's and the job's records.
fn record(m: &mut Market, lease: &Lease, bill: &Bill, used: Usage, terms: Terms) {
    let failed = terms.forfeits == Forfeits::Always || !bill.forfeited.is_zero();
    m.edit::<Provider>(lease.provider, |p| {
        p.leases_ended = p.leases_ended.saturating_add(1);
        p.leases_failed = p.leases_failed.saturating_add(u64::from(failed));
    });
    m.edit::<Job>(lease.job, |job| {
        job.ran = job.ran.saturating_add(used.ran);
        job.charged = job.charged.saturating_add(bill.charged);
        job.attempts_used = job.attempts_used.saturating_add(u16::from(terms.attempt));
    });
}

/// Does with the job what the row says.
fn go_on(m: &mut Market, lease: &Lease, reason: EndReason, silent: bool, terms: Terms) {
    if terms.avoids == Avoids::Machine {
        let machine = m.machine(lease.machine);
        let domain = machine
            .filter(|_| silent)
            .map(|machine| machine.spec.failure_domain.clone());
        order::avoid(m, lease, domain, reason);
    }
    let attempts_left = m
        .job(lease.job)
        .is_some_and(|j| j.attempts_used < j.spec.attempts_max);
    match terms.next {
        Next::Reopen if attempts_left => order::reopen(m, lease),
        Next::End | Next::Reopen => job::finish(m, lease.job, JobEnd::Lease(reason)),
        Next::SecondOpinion => second_opinion(m, lease, reason),
    }
}

fn second_opinion(m: &mut Market, lease: &Lease, reason: EndReason) {
    m.edit::<Job>(lease.job, |job| {
        if !job.doubted_by.contains(&lease.provider) {
            job.doubted_by.push(lease.provider);
        }
    });
    let doubts = m.job(lease.job).map_or(0, |job| job.doubted_by.len());
    if doubts < 2 && other_owner_could(m, lease) {
        order::reopen(m, lease);
    } else {
        job::finish(m, lease.job, JobEnd::Lease(reason));
    }
}

/// Returns whether a machine of an owner that has not reported could take the job right now.
fn other_owner_could(m: &mut Market, lease: &Lease) -> bool {
    m.refresh();
    let want = m.want(lease.job);
    want.is_some_and(|want| auction::best_offer(m, &want, lease.tenant).is_some())
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
