//! Standing offers: any order that fits takes one at its price, so a matched offer is owed.

use crate::{
    apply::Sender,
    event::EventKind,
    ids::OfferId,
    keys::RoleNeeded,
    records::Offer,
    reject::{FieldName, Reject},
    state::Market,
    supply::machine::require_machine,
    tx::{MachineSpec, OfferTerms, SlaClass},
};

/// Places an offer.
pub(crate) fn place(m: &mut Market, from: &Sender, terms: &OfferTerms) -> Result<(), Reject> {
    let machine = require_machine(m, from, terms.machine)?;
    require_device_list(&machine.spec, &terms.devices)?;
    if terms.term_min > terms.term_max {
        let field = FieldName::Term;
        return Err(Reject::BadField { field });
    }
    if terms.preempt_notice > m.params().preempt_notice_max {
        let field = FieldName::Grace;
        return Err(Reject::BadField { field });
    }
    if terms.sla != SlaClass::None {
        let field = FieldName::Sla;
        return Err(Reject::Unsupported { field });
    }
    let at = terms.expires_at;
    if at <= m.time() || at > m.time().after(m.params().duration_max) {
        return Err(Reject::BadTime { at });
    }
    m.room(m.index.counts(from.account).offers)?;

    let id = OfferId::created_by(&from.key, from.nonce);
    let seq = m.next_seq();
    m.put(Offer {
        id,
        seq,
        provider: from.account,
        terms: terms.clone(),
    });
    m.emit(EventKind::OfferPlaced {
        offer: id,
        provider: from.account,
        machine: terms.machine,
    });
    m.wake_waiting();
    Ok(())
}

/// Checks a list of device indexes: not empty, ascending, each on the machine.
pub(crate) fn require_device_list(spec: &MachineSpec, devices: &[u8]) -> Result<(), Reject> {
    let ascending = devices.is_sorted_by(|a, b| a < b);
    let known = devices
        .last()
        .is_some_and(|d| usize::from(*d) < spec.devices.len());
    if ascending && known {
        Ok(())
    } else {
        Err(Reject::Devices)
    }
}

/// Withdraws an offer; leases made from it go on.
pub(crate) fn withdraw(m: &mut Market, from: &Sender, id: OfferId) -> Result<(), Reject> {
    from.require(RoleNeeded::Provider)?;
    let offer = m.offer(id).filter(|o| o.provider == from.account);
    offer.ok_or(Reject::NoOffer(id))?;
    close(m, id, Closing::Withdrawn);
    Ok(())
}

/// How an offer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// Taken back.
    Withdrawn,
    /// By itself.
    Expired,
}

/// Removes an offer; nothing happens if there is none.
pub(crate) fn close(m: &mut Market, id: OfferId, how: Closing) {
    if let Some(provider) = m.offer(id).map(|o| o.provider) {
        m.delete::<Offer>(id);
        m.emit(EventKind::OfferClosed {
            offer: id,
            provider,
            expired: how == Closing::Expired,
        });
    }
}
