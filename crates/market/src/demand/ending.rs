//! How leases end: who may say so, who pays what, what the job does next.
//!
//! | reason | who asserts it | tenant pays | provider forfeits | uses an attempt | job then |
//! |---|---|---|---|---|---|
//! | completed | machine: exit 0 | through the end | – | – | ends |
//! | failed | machine: other exit | through the end | – | yes | re-opens while attempts are left |
//! | failed, within `early_exit` of ready | machine | nothing | – | no | second opinion |
//! | image-error | machine | nothing | – | no | second opinion |
//! | cancelled | tenant; just after a halt with the machine's next beats | through then, at least min(`cancel_minimum`, time since award) | – | – | ends |
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
//! *Covered end*: an end more than two beats after the last good beat is cut to that beat; one before it is moved to it.

use crate::{
    demand::{auction, job, lease, order},
    event::EventKind,
    ids::LeaseId,
    money::settle::{self, Usage},
    records::{Bill, EndReason, Job, JobEnd, Lease, LeaseState, MachineState, Provider},
    state::Market,
    units::{Money, Timestamp},
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

/// Returns the end of what is used if it ended at `at`: within its limits, and covered by beats.
pub(crate) fn covered_end(m: &Market, lease: &Lease, at: Timestamp) -> Timestamp {
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
    let mut terms = terms(m, reason, ready_at, used);
    if lease::is_cut(&lease) {
        terms.next = Next::End;
    }
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
    want.is_some_and(|want| auction::best_offer(m, &want, lease.tenant, &mut 0).is_some())
}
