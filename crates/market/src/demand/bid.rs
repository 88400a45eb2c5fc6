//! Bids on an order: they name the machine and the exact devices. The winner is paid its bid.

use crate::{
    apply::Sender,
    event::{BidEnd, EventKind},
    ids::BidId,
    keys::RoleNeeded,
    records::{Bid, Order},
    reject::{FieldName, Reject, Unmet},
    state::Market,
    supply::{machine::require_machine, offer::require_device_list},
    tx::BidTerms,
};

/// Most bids on one order: bounds what closing it costs.
const BIDS_PER_ORDER_MAX: u32 = 256;

/// Places a bid.
pub(crate) fn place(m: &mut Market, from: &Sender, terms: &BidTerms) -> Result<(), Reject> {
    let machine = require_machine(m, from, terms.machine)?;
    require_device_list(&machine.spec, &terms.devices)?;
    if terms.preempt_notice > m.params().preempt_notice_max {
        let field = FieldName::Grace;
        return Err(Reject::BadField { field });
    }
    let id = terms.order;
    let (order, job) = m.order_and_job(id).ok_or(Reject::NoOrder(id))?;
    if order.expires_at <= m.time() {
        return Err(Reject::OrderClosed(id));
    }
    if terms.devices.len() != usize::from(job.spec.needs.count) {
        return Err(Reject::Unmet(Unmet::DevicesFree));
    }
    m.fit_bid(terms).map_err(Reject::Unmet)?;
    let on_order = u32::try_from(m.index.bids_on(id).count()).unwrap_or(u32::MAX);
    if on_order >= BIDS_PER_ORDER_MAX {
        let max = BIDS_PER_ORDER_MAX;
        return Err(Reject::TooMany { max });
    }
    m.room(m.index.counts(from.account).bids)?;

    let bid = BidId::created_by(&from.key, from.nonce);
    let seq = m.next_seq();
    m.put(Bid {
        id: bid,
        seq,
        provider: from.account,
        terms: terms.clone(),
    });
    m.edit::<Order>(id, |order| order.waiting = false);
    m.emit(EventKind::BidPlaced {
        bid,
        order: id,
        provider: from.account,
    });
    Ok(())
}

/// Takes a bid back.
pub(crate) fn withdraw(m: &mut Market, from: &Sender, id: BidId) -> Result<(), Reject> {
    from.require(RoleNeeded::Provider)?;
    let bid = m.bid(id).filter(|b| b.provider == from.account);
    bid.ok_or(Reject::NoBid(id))?;
    close(m, id, BidEnd::Withdrawn);
    Ok(())
}

/// Removes a bid that won nothing; nothing happens if there is none.
pub(crate) fn close(m: &mut Market, id: BidId, why: BidEnd) {
    if let Some(bid) = m.bid(id).cloned() {
        m.delete::<Bid>(id);
        m.emit(EventKind::BidClosed {
            bid: id,
            order: bid.terms.order,
            provider: bid.provider,
            why,
        });
    }
}
