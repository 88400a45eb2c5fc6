//! Orders: one placement that a job wants now.
//!
//! ```text
//! in the window -> compared -> matched (a lease) | waiting -> compared again when capacity appears | expired
//! any -> closed with its job
//! ```
//! While the window is open bids are only collected. An order that re-opens after a lease has no window: failing over at
//! once is worth more than collecting bids again.

use crate::{
    demand::{bid, job},
    event::{BidEnd, EventKind},
    ids::{BidId, JobId, OrderId},
    params::Params,
    records::{Avoid, EndReason, Hold, Job, JobEnd, JobState, Lease, Order},
    state::Market,
    tx::{JobSpec, LIST_MAX, Name, Prices},
    units::{MILLIS_PER_HOUR, Millis, Money, PricePerGib, Rate},
};

/// Returns the id of a job's order by number.
pub(crate) fn number(job: JobId, number: u32) -> OrderId {
    OrderId::child_of(job.to_bytes(), u64::from(number))
}

/// Puts a job's next order in the book.
pub(crate) fn open(m: &mut Market, id: JobId, window: Millis) {
    let (Some(job), Some(hold)) = (m.job(id), m.hold(id)) else {
        return;
    };
    let order = number(id, job.orders);
    let now = m.time();
    let closes_at = now.after(window);
    let expires_at = now.after(job.spec.wait_max).max(closes_at);
    let price_cap = price_cap(m.params(), &job.spec, hold.amount);
    let tenant = job.tenant;
    let seq = m.next_seq();
    m.put(Order {
        id: order,
        seq,
        job: id,
        opened_at: now,
        closes_at,
        expires_at,
        price_cap,
        waiting: false,
    });
    m.edit::<Job>(id, |job| {
        job.orders = job.orders.saturating_add(1);
        job.state = JobState::Open { order };
    });
    let release_at = expires_at.after(m.params().release_after);
    m.edit::<Hold>(id, |hold| hold.release_at = release_at);
    m.emit(EventKind::OrderOpened {
        order,
        job: id,
        tenant,
        closes_at,
    });
}

/// Returns the most that an order pays: the job's cap, and no more than the budget pays for the reserve time.
fn price_cap(params: &Params, spec: &JobSpec, budget: Money) -> Prices {
    let hours = u128::from(budget.micros()).saturating_mul(u128::from(MILLIS_PER_HOUR));
    let device_time =
        u128::from(spec.needs.count).saturating_mul(u128::from(params.order_reserve.millis()));
    let affordable = hours
        .checked_div(device_time)
        .and_then(|r| u64::try_from(r).ok());
    let affordable = Rate::from_micros_per_hour(affordable.unwrap_or(u64::MAX));
    Prices {
        per_device_hour: spec.price_cap.map_or(affordable, |cap| cap.min(affordable)),
        per_gib_hour: Rate::MAX,
        per_gib_out: PricePerGib::MAX,
    }
}

/// Raises an order's cap after a top-up and has it compared again.
pub(crate) fn raise(m: &mut Market, id: OrderId) {
    let Some((order, job)) = m.order_and_job(id) else {
        return;
    };
    let Some(hold) = m.hold(order.job) else {
        return;
    };
    let price_cap = price_cap(m.params(), &job.spec, hold.amount);
    m.edit::<Order>(id, |order| {
        order.price_cap = price_cap;
        order.waiting = false;
    });
}

/// Opens the next order of a job whose lease ended, unless nothing is left to place it with. What is left must pay for
/// the reserve at the price that the job last met.
pub(crate) fn reopen(m: &mut Market, lease: &Lease) {
    let id = lease.job;
    let Some(want) = m.want(id) else {
        return;
    };
    if want.duration.is_zero() {
        return job::finish(m, id, JobEnd::Lease(EndReason::DurationReached));
    }
    let units = u32::from(want.needs.count);
    let reserve = super::require::reserve(m.params(), &want, &lease.prices, units);
    if want.budget.is_zero() || reserve > want.budget {
        return job::finish(m, id, JobEnd::BudgetReached);
    }
    open(m, id, Millis::ZERO);
}

/// Notes that a job shall not meet the lease's machine again (nor, if given, its failure domain).
pub(crate) fn avoid(m: &mut Market, lease: &Lease, domain: Option<Name>, why: EndReason) {
    let entry = Avoid {
        machine: lease.machine,
        provider: lease.provider,
        domain,
        why,
    };
    m.edit::<Job>(lease.job, |job| {
        job.avoid.retain(|a| a.machine != entry.machine);
        if job.avoid.len() >= LIST_MAX {
            job.avoid.remove(0);
        }
        job.avoid.push(entry);
    });
}

/// How an order leaves the book without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// With its job.
    Cancelled,
    /// By itself.
    Expired,
}

/// Removes an order and its bids.
pub(crate) fn close(m: &mut Market, id: OrderId, how: Closing) {
    let Some(job) = m.order(id).map(|o| o.job) else {
        return;
    };
    close_bids(m, id, BidEnd::OrderClosed);
    m.delete::<Order>(id);
    m.emit(EventKind::OrderClosed {
        order: id,
        job,
        expired: how == Closing::Expired,
    });
}

/// Closes every bid on an order.
pub(crate) fn close_bids(m: &mut Market, id: OrderId, why: BidEnd) {
    let bids: Vec<BidId> = m.index.bids_on(id).collect();
    for bid in bids {
        bid::close(m, bid, why);
    }
}

/// Ends the job of an order that found no place in its time.
pub(crate) fn expire(m: &mut Market, id: OrderId) {
    if let Some(job) = m.order(id).map(|o| o.job) {
        close(m, id, Closing::Expired);
        job::finish(m, job, JobEnd::NoMatch);
    }
}
