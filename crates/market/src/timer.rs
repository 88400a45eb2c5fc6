//! What comes due by itself: when, and by which clock.

use crate::{
    ids::{JobId, LeaseId, MachineId, OfferId, OrderId, RedemptionId},
    load::Load,
    params::Params,
    records::{Lease, LeaseState, Machine, MachineState, Run},
    units::Timestamp,
};

/// Something that happens by itself. The order breaks ties of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A running lease has missed its beats.
    LeaseSuspect(LeaseId),
    /// A suspect lease is given up.
    LeaseLost(LeaseId),
    /// An awarded lease did not start.
    LeaseStart(LeaseId),
    /// A lease reached its funds, duration, notice or grace.
    LeaseLimit(LeaseId),
    /// A draining machine's remaining leases end.
    MachineEvict(MachineId),
    /// A machine fell silent.
    MachineDown(MachineId),
    /// An order leaves the book.
    OrderExpire(OrderId),
    /// An offer ends.
    OfferExpire(OfferId),
    /// A payable is paid.
    PayableDue(LeaseId),
    /// A redemption returns.
    RedemptionReturn(RedemptionId),
    /// An ended lease leaves the live state.
    LeaseForget(LeaseId),
    /// An ended job leaves the live state.
    JobForget(JobId),
}

/// Which clock a timer goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clock {
    /// Block time.
    Block,
    /// Block time, but not within the grace after a gap: machines and treasurers report what they did first.
    Limit,
    /// Chain time: block time without gaps.
    Chain,
}

/// A timer with its clock and instant.
pub(crate) type Set = (Clock, Timestamp, Timer);

/// The timers of one lease or machine: two at most.
pub(crate) type Pair = [Option<Set>; 2];

/// Returns the timers of a lease: every live state has one, and so does an ended lease until it is forgotten.
pub(crate) fn of_lease(params: &Params, lease: &Lease) -> Pair {
    let id = lease.id;
    let limit = |at: Timestamp| Some((Clock::Limit, at, Timer::LeaseLimit(id)));
    let silent =
        |run: &Run, by: Timer, after| Some((Clock::Chain, run.seen_chain.after(after), by));
    let lost = |run: &Run| silent(run, Timer::LeaseLost(id), params.lost_after);
    match &lease.state {
        LeaseState::Awarded { start_by } => {
            [Some((Clock::Chain, *start_by, Timer::LeaseStart(id))), None]
        }
        LeaseState::Running { run } => [
            silent(run, Timer::LeaseSuspect(id), params.suspect_after),
            limit(run.limit().after(params.clock_tolerance)),
        ],
        LeaseState::Suspect { lost_at, .. } => {
            [Some((Clock::Chain, *lost_at, Timer::LeaseLost(id))), None]
        }
        LeaseState::Preempting { run, stop_by } => {
            let stop = run.limit().min(*stop_by).after(params.clock_tolerance);
            [lost(run), limit(stop)]
        }
        LeaseState::Paused { until, .. } => [limit(*until), None],
        LeaseState::Ended { ended_at, .. } => {
            let at = ended_at.after(params.retention);
            [Some((Clock::Block, at, Timer::LeaseForget(id))), None]
        }
    }
}

/// Returns a machine's timers: silence, and eviction while leases remain.
pub(crate) fn of_machine(params: &Params, machine: &Machine, load: &Load) -> Pair {
    let silence = if load.running > 0 {
        params.lost_after
    } else {
        params.idle_silence()
    };
    let silent = machine.last_beat_chain.after(silence);
    let (watched, evict_at) = match machine.state {
        MachineState::Active => (machine.last_beat.is_some(), None),
        // A paused lease has no beats of its own, so the machine's silence ends it.
        MachineState::Draining { evict_at, .. } => (load.has_paused(), evict_at),
        MachineState::Down => (load.has_paused(), None),
        MachineState::Retired => (false, None),
    };
    let down = watched.then_some((Clock::Chain, silent, Timer::MachineDown(machine.id)));
    let evict = evict_at.filter(|_| !load.leases.is_empty());
    let evict = evict.map(|at| (Clock::Limit, at, Timer::MachineEvict(machine.id)));
    [down, evict]
}
