//! Machines: added, changed, drained, retired. Their beats are in [`super::beat`].
//!
//! ```text
//! Active <-> Down          silence / a beat
//! Active, Down -> Draining -> Active (resume)
//! any, without leases -> Retired -> gone when its last ended lease is forgotten
//! ```

use std::sync::Arc;

use crate::{
    apply::Sender,
    codec::Digest,
    demand::{bid, lease},
    event::{BidEnd, EventKind},
    ids::{BidId, LeaseId, MachineId, OfferId},
    keys::{RoleNeeded, new_signer},
    records::{LeaseState, Machine, MachineState, Signer},
    reject::Reject,
    state::Market,
    supply::{offer, provider::require_provider},
    tx::{KeyRole, MachineKeys, MachineSpec},
    units::Timestamp,
};

/// Adds a machine and lets its key report.
pub(crate) fn add(
    m: &mut Market,
    from: &Sender,
    keys: &MachineKeys,
    spec: &MachineSpec,
) -> Result<(), Reject> {
    from.require(RoleNeeded::Provider)?;
    require_provider(m, from.account)?;
    require_devices(spec)?;
    if m.signer(&keys.sign).is_some() {
        return Err(Reject::KeyInUse);
    }
    m.room(m.index.counts(from.account).machines)?;

    let id = MachineId::created_by(&from.key, from.nonce);
    let seq = m.next_seq();
    m.put(Machine {
        id,
        seq,
        provider: from.account,
        keys: *keys,
        spec: Arc::new(spec.clone()),
        state: MachineState::Active,
        next_beat: 0,
        beat_link: Digest::default(),
        last_beat: None,
        last_beat_chain: m.chain_now(),
    });
    m.put(new_signer(keys.sign, from.account, KeyRole::Machine(id)));
    m.emit(EventKind::MachineAdded {
        machine: id,
        provider: from.account,
    });
    Ok(())
}

fn require_devices(spec: &MachineSpec) -> Result<(), Reject> {
    if spec.devices.is_empty() {
        Err(Reject::Devices)
    } else {
        Ok(())
    }
}

/// Returns the sender's machine, unless it is retired.
pub(crate) fn require_machine<'a>(
    m: &'a Market,
    from: &Sender,
    id: MachineId,
) -> Result<&'a Machine, Reject> {
    from.require(RoleNeeded::Provider)?;
    let machine = m
        .machine(id)
        .filter(|machine| machine.provider == from.account);
    let machine = machine.ok_or(Reject::NoMachine(id))?;
    if machine.state == MachineState::Retired {
        return Err(Reject::NoMachine(id));
    }
    Ok(machine)
}

/// Replaces what a machine says of itself. Offers that name a device which is gone are withdrawn.
pub(crate) fn update(
    m: &mut Market,
    from: &Sender,
    id: MachineId,
    spec: &MachineSpec,
) -> Result<(), Reject> {
    let machine = require_machine(m, from, id)?;
    require_devices(spec)?;
    let differs = |d: &u8| {
        let d = usize::from(*d);
        spec.devices.get(d) != machine.spec.devices.get(d)
    };
    if m.leases_on(id)
        .any(|lease| lease.devices.iter().any(differs))
    {
        return Err(Reject::MachineBusy(id));
    }
    let fits = m.index.load(id).is_none_or(|load| {
        load.cpu() <= spec.cpu && load.memory() <= spec.memory && load.disk() <= spec.disk
    });
    if !fits {
        return Err(Reject::MachineBusy(id));
    }

    m.edit::<Machine>(id, |machine| machine.spec = Arc::new(spec.clone()));
    let lacks = |devices: &[u8]| {
        devices
            .iter()
            .any(|d| usize::from(*d) >= spec.devices.len())
    };
    let offers = m.offers_on(id).filter(|o| lacks(&o.terms.devices));
    let offers: Vec<OfferId> = offers.map(|o| o.id).collect();
    for id in offers {
        offer::close(m, id, offer::Closing::Withdrawn);
    }
    changed(m, id);
    m.wake_waiting();
    Ok(())
}

/// Replaces a machine's keys; the old signing key may no longer act.
pub(crate) fn rotate_keys(
    m: &mut Market,
    from: &Sender,
    id: MachineId,
    keys: &MachineKeys,
) -> Result<(), Reject> {
    let old = require_machine(m, from, id)?.keys.sign;
    if old != keys.sign && m.signer(&keys.sign).is_some() {
        return Err(Reject::KeyInUse);
    }
    if old != keys.sign {
        m.edit::<Signer>(old, |s| s.revoked = true);
        m.put(new_signer(keys.sign, from.account, KeyRole::Machine(id)));
    }
    m.edit::<Machine>(id, |machine| machine.keys = *keys);
    changed(m, id);
    Ok(())
}

/// Takes a machine out of matching.
pub(crate) fn drain(
    m: &mut Market,
    from: &Sender,
    id: MachineId,
    evict_at: Option<Timestamp>,
) -> Result<(), Reject> {
    let machine = require_machine(m, from, id)?;
    let now = m.time();
    if let Some(at) = evict_at
        && at < now
    {
        return Err(Reject::BadTime { at });
    }
    // Moving an eviction to a later instant, or not at all, keeps the notice that was given first.
    let announced_at = match machine.state {
        MachineState::Draining {
            evict_at: Some(old),
            announced_at,
        } if evict_at.is_some_and(|new| new >= old) => announced_at,
        MachineState::Draining { .. }
        | MachineState::Active
        | MachineState::Down
        | MachineState::Retired => now,
    };
    let state = MachineState::Draining {
        evict_at,
        announced_at,
    };
    m.edit::<Machine>(id, |machine| machine.state = state);
    changed(m, id);
    Ok(())
}

/// Puts a drained machine back into matching.
pub(crate) fn resume(m: &mut Market, from: &Sender, id: MachineId) -> Result<(), Reject> {
    let machine = require_machine(m, from, id)?;
    if !matches!(machine.state, MachineState::Draining { .. }) {
        return Err(Reject::MachineState(id));
    }
    m.edit::<Machine>(id, |machine| machine.state = MachineState::Active);
    changed(m, id);
    m.wake_waiting();
    Ok(())
}

/// Removes a machine without leases, with its offers and bids.
pub(crate) fn retire(m: &mut Market, from: &Sender, id: MachineId) -> Result<(), Reject> {
    let key = require_machine(m, from, id)?.keys.sign;
    if m.leases_on(id).next().is_some() {
        return Err(Reject::MachineBusy(id));
    }

    let offers: Vec<OfferId> = m.index.offers_on(id).collect();
    for offer in offers {
        offer::close(m, offer, offer::Closing::Withdrawn);
    }
    let bids: Vec<BidId> = m.index.bids_by(id).collect();
    for bid in bids {
        bid::close(m, bid, BidEnd::Void);
    }
    m.edit::<Signer>(key, |s| s.revoked = true);
    m.edit::<Machine>(id, |machine| machine.state = MachineState::Retired);
    changed(m, id);
    forget_retired(m, id);
    Ok(())
}

/// Removes the record of a retired machine that no lease refers to any more.
pub(crate) fn forget_retired(m: &mut Market, id: MachineId) {
    let retired = m
        .machine(id)
        .is_some_and(|machine| machine.state == MachineState::Retired);
    if retired && m.index.leases_by(id).next().is_none() {
        m.delete::<Machine>(id);
    }
}

/// Announces that a machine's record changed.
pub(crate) fn changed(m: &mut Market, id: MachineId) {
    if let Some(provider) = m.machine(id).map(|machine| machine.provider) {
        let machine = id;
        m.emit(EventKind::MachineChanged { machine, provider });
    }
}

/// Marks a machine as silent, which ends its paused leases: nobody pays for storage that may be gone.
pub(crate) fn go_down(m: &mut Market, id: MachineId) {
    if m.machine(id)
        .is_some_and(|machine| machine.state == MachineState::Active)
    {
        m.edit::<Machine>(id, |machine| machine.state = MachineState::Down);
        changed(m, id);
    }
    let paused = m
        .leases_on(id)
        .filter(|l| matches!(l.state, LeaseState::Paused { .. }));
    let paused: Vec<LeaseId> = paused.map(|l| l.id).collect();
    for lease in paused {
        lease::lost(m, lease);
    }
}
