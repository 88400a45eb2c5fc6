//! The end of a lease: bill, collateral, payment.
//!
//! Three moments. *Charged*, here: the amount leaves the tenant's hold for good, the fee goes to the pool. *Payable*:
//! with an audit lag the rest lies in the provider's locked balance. *Paid*: the lag has passed, or there is none.
//!
//! | line | what |
//! |---|---|
//! | compute | devices × rate × time run; nothing where the reason says so; at least the cancel minimum when cancelled |
//! | storage | GiB kept × rate × time paused |
//! | egress | none until it is metered |
//! | fee | the network's share of the sum; none when delivery failed |

use crate::{
    demand::ending::Terms,
    event::{EventKind, Purpose, Slot},
    ids::LeaseId,
    money::meter::{device_count, storage_charge},
    records::{Bill, EndReason, Lease, LeaseState, Payable, Provider},
    state::Market,
    tx::Verification,
    units::{Millis, Money, Timestamp},
};

/// What a lease used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) ran: Millis,
    pub(crate) paused: Millis,
}

/// Returns what a lease had used when it ended (or if it ended) at `end`.
pub(crate) fn usage(lease: &Lease, end: Timestamp) -> Usage {
    match &lease.state {
        LeaseState::Awarded { .. } | LeaseState::Ended { .. } => Usage::default(),
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => Usage {
            ran: run.ran_before.saturating_add(end.since(run.since)),
            paused: run.paused_before,
        },
        LeaseState::Paused { run, since, .. } => Usage {
            ran: run.ran_before,
            paused: run.paused_before.saturating_add(end.since(*since)),
        },
    }
}

/// Returns the bill for this usage, without the forfeit. It never exceeds the lease's funds.
pub(crate) fn bill(m: &Market, lease: &Lease, used: Usage, terms: Terms) -> Bill {
    let spec = m.job(lease.job).map(|j| &j.spec);
    let kept = spec.map(|s| s.storage_kept).unwrap_or_default();
    let rate = lease.prices.per_device_hour;
    let compute = rate.charge(device_count(&lease.devices), used.ran);
    let compute = compute.unwrap_or(Money::MAX).min(lease.funds);
    let left = lease.funds.saturating_sub(compute);
    let storage = storage_charge(lease.prices.per_gib_hour, kept, used.paused).min(left);
    let charged = compute.saturating_add(storage);
    let fee = if terms.fee {
        charged.share(m.params().fee)
    } else {
        Money::ZERO
    };
    Bill {
        elapsed: used.ran,
        compute,
        storage,
        egress: Money::ZERO,
        charged,
        fee,
        to_provider: charged.saturating_sub(fee),
        forfeited: Money::ZERO,
    }
}

/// Returns what a lease would be billed if it ended at `at` as completed; its bill once it has ended.
pub(crate) fn bill_at(m: &Market, lease: &Lease, at: Timestamp) -> Bill {
    match &lease.state {
        LeaseState::Ended { bill, .. } => *bill,
        LeaseState::Awarded { .. } => Bill::default(),
        LeaseState::Running { run }
        | LeaseState::Suspect { run, .. }
        | LeaseState::Preempting { run, .. } => {
            let used = usage(lease, at.min(run.limit()));
            bill(m, lease, used, Terms::of(EndReason::Completed))
        }
        LeaseState::Paused { until, .. } => {
            let used = usage(lease, at.min(*until));
            bill(m, lease, used, Terms::of(EndReason::Completed))
        }
    }
}

/// Moves the money of a lease that ends: forfeit, collateral, charge, fee, payment.
pub(crate) fn settle(m: &mut Market, lease: &Lease, bill: &Bill) {
    m.post(
        Slot::Bond(lease.provider),
        Slot::Insurance,
        bill.forfeited,
        Purpose::Forfeit,
    );
    m.edit::<Provider>(lease.provider, |p| {
        p.reserved = p.reserved.saturating_sub(lease.collateral);
    });
    let hold = Slot::Hold(lease.job);
    m.post(hold, Slot::Fees, bill.fee, Purpose::Fee);
    let lag = audit_lag(m, lease);
    if lag.is_zero() {
        let to = Slot::Available(lease.provider);
        m.post(hold, to, bill.to_provider, Purpose::Charge);
        paid(m, lease, bill.to_provider);
    } else if !bill.to_provider.is_zero() {
        m.put(Payable {
            lease: lease.id,
            provider: lease.provider,
            amount: Money::ZERO,
            due: m.time().after(lag),
        });
        let to = Slot::Payable(lease.id);
        m.post(hold, to, bill.to_provider, Purpose::Charge);
    }
}

fn audit_lag(m: &Market, lease: &Lease) -> Millis {
    match m.job(lease.job).map(|j| j.spec.verification) {
        None | Some(Verification::None) => m.params().audit_lag_none,
        Some(Verification::Sampled { .. } | Verification::Redundant { .. }) => {
            m.params().audit_lag_sampled
        }
    }
}

fn paid(m: &mut Market, lease: &Lease, amount: Money) {
    if !amount.is_zero() {
        m.emit(EventKind::LeasePaid {
            lease: lease.id,
            provider: lease.provider,
            amount,
        });
    }
}

/// Pays what a lease earned: its audit window has closed.
pub(crate) fn pay(m: &mut Market, lease: LeaseId) {
    let Some(payable) = m.payable(lease).cloned() else {
        return;
    };
    let to = Slot::Available(payable.provider);
    m.post(Slot::Payable(lease), to, payable.amount, Purpose::Pay);
    m.delete::<Payable>(lease);
    m.emit(EventKind::LeasePaid {
        lease,
        provider: payable.provider,
        amount: payable.amount,
    });
}
