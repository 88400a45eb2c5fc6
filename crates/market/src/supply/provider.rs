//! Providers and their bonds.

use crate::{
    apply::Sender,
    event::{EventKind, Purpose, Slot},
    ids::AccountId,
    keys::RoleNeeded,
    records::{Provider, ProviderState},
    reject::Reject,
    state::Market,
    tx::Name,
    units::{BasisPoints, Money},
};

/// Makes the account a provider.
pub(crate) fn open(m: &mut Market, from: &Sender, name: &Name) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    if m.provider(from.account).is_some() {
        return Err(Reject::AlreadyProvider);
    }
    let provider = from.account;
    m.put(Provider {
        account: provider,
        name: name.clone(),
        state: ProviderState::Active,
        reserved: Money::ZERO,
        leases_ended: 0,
        leases_failed: 0,
    });
    m.emit(EventKind::ProviderOpened { provider });
    Ok(())
}

/// Moves available dollars into the bond.
pub(crate) fn post_bond(m: &mut Market, from: &Sender, amount: Money) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    require_provider(m, from.account)?;
    m.require_funds(from.account, amount)?;
    let (source, target) = (Slot::Available(from.account), Slot::Bond(from.account));
    m.post(source, target, amount, Purpose::Bond);
    m.wake_waiting();
    Ok(())
}

/// Moves bond that no lease reserves back to available.
pub(crate) fn withdraw_bond(m: &mut Market, from: &Sender, amount: Money) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    require_provider(m, from.account)?;
    if amount.is_zero() {
        return Err(Reject::ZeroAmount);
    }
    let free = free_bond(m, from.account);
    if free < amount {
        return Err(Reject::BondReserved { free });
    }
    let (source, target) = (Slot::Bond(from.account), Slot::Available(from.account));
    m.post(source, target, amount, Purpose::Bond);
    Ok(())
}

/// Returns the account's provider.
pub(crate) fn require_provider(m: &Market, account: AccountId) -> Result<&Provider, Reject> {
    m.provider(account).ok_or(Reject::NotProvider)
}

/// Returns the bond that no lease reserves.
pub(crate) fn free_bond(m: &Market, account: AccountId) -> Money {
    let bonded = m.account(account).map_or(Money::ZERO, |a| a.bonded);
    let reserved = m.provider(account).map_or(Money::ZERO, |p| p.reserved);
    bonded.saturating_sub(reserved)
}

/// Returns a provider's reliability by its own leases on this ledger: the mean of a uniform prior updated by them;
/// `None` without evidence.
pub(crate) fn reliability(provider: &Provider) -> Option<BasisPoints> {
    if provider.leases_ended == 0 {
        return None;
    }
    let good = provider.leases_ended.saturating_sub(provider.leases_failed);
    let good = u128::from(good).saturating_add(1).saturating_mul(10_000);
    let all = u128::from(provider.leases_ended).saturating_add(2);
    let bps = good.checked_div(all).and_then(|b| u16::try_from(b).ok());
    bps.map(BasisPoints::from_bps)
}
