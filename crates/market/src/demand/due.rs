//! What happens by itself at the end of a block, bounded.
//!
//! 1. Timers, earliest due instant first: what they charge is charged at that instant, however late the block is.
//! 2. If capacity may have appeared, the orders that wait are compared again, oldest first; a pass that does not fit in
//!    one block goes on in the next.
//! 3. Orders whose window has closed are compared for the first time.
//!
//! Each step handles at most `timers_per_block` things, and each of the last two looks at little more than [`LOOKS_MAX`]
//! offers.

use crate::{
    demand::{auction, ending, job, lease, order},
    ids::OrderId,
    money::{settle, treasury},
    records::{EndReason, Retry},
    state::Market,
    supply::{machine, offer},
    timer::{Clock, Timer},
    units::Timestamp,
};

/// Offers looked at in one step after which the rest waits for the next block: what a core does in a tenth of a second.
const LOOKS_MAX: u32 = 100_000;

/// Does what is due.
pub(crate) fn end_block(m: &mut Market) {
    let bound = m.params().timers_per_block;
    for _ in 0..bound {
        m.refresh();
        match next_timer(m) {
            Some(timer) => fire(m, timer),
            None => break,
        }
    }
    retry_waiting(m, bound);
    let mut looks = 0u32;
    for _ in 0..bound {
        let first = m.index.closing.first().copied();
        match first {
            Some((at, _, id)) if at <= m.time() && looks < LOOKS_MAX => {
                looks = looks.saturating_add(close_window(m, id));
            }
            Some(_) | None => break,
        }
    }
    m.refresh();
}

/// Compares an order whose window has closed, unless a halt outlasted it. One that waits for no time leaves at once.
fn close_window(m: &mut Market, id: OrderId) -> u32 {
    let Some(expires_at) = m.order(id).map(|o| o.expires_at) else {
        return 0;
    };
    let looks = if expires_at >= m.time() {
        auction::compare(m, id)
    } else {
        0
    };
    if expires_at <= m.time() {
        order::expire(m, id);
    }
    looks
}

/// Returns the timer that has been due longest.
fn next_timer(m: &Market) -> Option<Timer> {
    let clocks = [Clock::Block, Clock::Limit, Clock::Chain];
    let due = clocks.into_iter().filter_map(|clock| {
        let (at, timer) = m.index.first(clock)?;
        Some((m.due(clock, at), timer))
    });
    let (at, timer): (Timestamp, Timer) = due.min()?;
    (at <= m.time()).then_some(timer)
}

fn fire(m: &mut Market, timer: Timer) {
    match timer {
        Timer::LeaseSuspect(id) => lease::suspect(m, id),
        Timer::LeaseLost(id) => lease::lost(m, id),
        Timer::LeaseStart(id) => {
            let timeout = ending::Ending::now(m, EndReason::StartTimeout);
            ending::end(m, id, timeout);
        }
        Timer::LeaseLimit(id) => lease::limit_due(m, id),
        Timer::MachineEvict(id) => lease::evict(m, id),
        Timer::MachineDown(id) => machine::go_down(m, id),
        Timer::OrderExpire(id) => order::expire(m, id),
        Timer::OfferExpire(id) => offer::close(m, id, offer::Closing::Expired),
        Timer::PayableDue(id) => settle::pay(m, id),
        Timer::RedemptionReturn(id) => treasury::close(m, id, treasury::Payout::None),
        Timer::LeaseForget(id) => lease::forget(m, id),
        Timer::JobForget(id) => job::forget(m, id),
    }
}

/// Compares the waiting orders again, from where the pass under way stopped.
fn retry_waiting(m: &mut Market, bound: u32) {
    let Some(mut from) = m.system.retry.from else {
        return;
    };
    let mut looks = 0u32;
    for _ in 0..bound {
        if looks >= LOOKS_MAX {
            break;
        }
        let none = OrderId::from_bytes([0; 16]);
        let next = m.index.waiting.range((from, none)..).next().copied();
        let Some((seq, id)) = next else {
            let again = m.system.retry.again && !m.index.waiting.is_empty();
            let from = again.then_some(0);
            m.system.retry = Retry { from, again: false };
            return;
        };
        looks = looks.saturating_add(auction::compare(m, id));
        from = seq.saturating_add(1);
    }
    m.system.retry.from = Some(from);
}
