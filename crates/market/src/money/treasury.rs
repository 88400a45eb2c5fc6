//! Treasurers: dollars come in by [`issue`], move by [`transfer`], go out by a redemption.
//!
//! ```text
//! request -> confirm (dollars destroyed) | refuse | returns_at passes (dollars return)
//! ```

use crate::{
    apply::Sender,
    codec::{Digest, PublicKey},
    event::{EventKind, Purpose, Slot},
    ids::{AccountId, RedemptionId},
    keys::RoleNeeded,
    records::Redemption,
    reject::Reject,
    rows::Reference,
    state::Market,
    tx::KeyRole,
    units::Money,
};

/// Creates dollars against an outside payment.
pub(crate) fn issue(
    m: &mut Market,
    from: &Sender,
    to: AccountId,
    amount: Money,
    reference: Digest,
) -> Result<(), Reject> {
    from.require(RoleNeeded::Treasurer)
        .map_err(|_| Reject::NotTreasurer)?;
    if amount.is_zero() {
        return Err(Reject::ZeroAmount);
    }
    if m.get::<Reference>(reference).is_some() {
        return Err(Reject::ReferenceUsed);
    }
    let issued = m.system.issued.checked_add(amount);
    issued.ok_or(Reject::Overflow)?;
    let receiver = require_receiver(m, to, amount)?;

    receive(m, to, receiver);
    m.put(Reference(reference));
    m.post(Slot::Outside, Slot::Available(to), amount, Purpose::Issue);
    Ok(())
}

/// Moves available dollars to another account.
pub(crate) fn transfer(
    m: &mut Market,
    from: &Sender,
    to: AccountId,
    amount: Money,
) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    m.require_funds(from.account, amount)?;
    let receiver = require_receiver(m, to, amount)?;

    receive(m, to, receiver);
    let (from, to) = (Slot::Available(from.account), Slot::Available(to));
    m.post(from, to, amount, Purpose::Transfer);
    Ok(())
}

/// Checks that an account can receive: it exists, or this is a first deposit to a key that nobody uses otherwise.
fn require_receiver(m: &Market, to: AccountId, amount: Money) -> Result<Receiver, Reject> {
    if m.account(to).is_some() {
        return Ok(Receiver::Known);
    }
    if m.signer(to.owner_key()).is_some() {
        return Err(Reject::KeyInUse);
    }
    let min = m.params().first_deposit_min;
    if amount < min {
        return Err(Reject::DepositTooSmall { min });
    }
    Ok(Receiver::New)
}

/// Whether who receives has an account yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receiver {
    Known,
    New,
}

fn receive(m: &mut Market, to: AccountId, receiver: Receiver) {
    if receiver == Receiver::New {
        m.open_account(to, KeyRole::Owner);
    }
}

/// Sets dollars aside for a treasurer to pay out.
pub(crate) fn request(
    m: &mut Market,
    from: &Sender,
    treasurer: PublicKey,
    amount: Money,
    destination: Digest,
) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    if !m.system.treasurers.contains(&treasurer) {
        return Err(Reject::NotTreasurer);
    }
    m.require_funds(from.account, amount)?;

    let id = RedemptionId::created_by(&from.key, from.nonce);
    m.put(Redemption {
        id,
        account: from.account,
        treasurer,
        amount: Money::ZERO,
        destination,
        returns_at: m.time().after(m.params().release_after),
    });
    let (source, target) = (Slot::Available(from.account), Slot::Redemption(id));
    m.post(source, target, amount, Purpose::Redeem);
    m.emit(EventKind::RedemptionRequested {
        redemption: id,
        account: from.account,
        treasurer,
        amount,
    });
    Ok(())
}

/// Destroys the dollars of a redemption that was paid outside.
pub(crate) fn confirm(
    m: &mut Market,
    from: &Sender,
    id: RedemptionId,
    reference: Digest,
) -> Result<(), Reject> {
    require_own(m, from, id)?;
    if m.get::<Reference>(reference).is_some() {
        return Err(Reject::ReferenceUsed);
    }
    m.put(Reference(reference));
    close(m, id, Payout::Made);
    Ok(())
}

/// Returns the dollars of a redemption that cannot be paid.
pub(crate) fn refuse(m: &mut Market, from: &Sender, id: RedemptionId) -> Result<(), Reject> {
    require_own(m, from, id)?;
    close(m, id, Payout::None);
    Ok(())
}

fn require_own(m: &Market, from: &Sender, id: RedemptionId) -> Result<(), Reject> {
    from.require(RoleNeeded::Treasurer)
        .map_err(|_| Reject::NotTreasurer)?;
    let redemption = m.redemption(id).ok_or(Reject::NoRedemption(id))?;
    if redemption.treasurer == from.key {
        Ok(())
    } else {
        Err(Reject::NotTreasurer)
    }
}

/// Whether the outside payment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payout {
    /// It was: the dollars are destroyed.
    Made,
    /// It was not: they return.
    None,
}

/// Closes a redemption; nothing happens if there is none.
pub(crate) fn close(m: &mut Market, id: RedemptionId, payout: Payout) {
    let Some(redemption) = m.redemption(id).cloned() else {
        return;
    };
    let account = redemption.account;
    let to = match payout {
        Payout::Made => Slot::Outside,
        Payout::None => Slot::Available(account),
    };
    m.post(Slot::Redemption(id), to, redemption.amount, Purpose::Redeem);
    m.delete::<Redemption>(id);
    m.emit(EventKind::RedemptionClosed {
        redemption: id,
        account,
        paid: payout == Payout::Made,
    });
}
