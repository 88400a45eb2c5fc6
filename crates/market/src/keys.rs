//! Who may do what: signing keys, their roles and admission.
//!
//! ```text
//! role          may
//! owner         everything of its account
//! treasurer     issue, confirm and refuse redemptions; everything of its own account
//! tenant        open, top up and cancel jobs within the key's budget; sign grants
//! provider      machines, offers, bids, preemption, draining
//! machine(id)   beats and reports of that machine
//! viewer        sign grants
//! ```

use crate::{
    apply::Sender,
    codec::PublicKey,
    event::EventKind,
    ids::{AccountId, MachineId},
    records::{Account, Signer},
    reject::{FieldName, Inadmissible, Reject},
    state::Market,
    tx::KeyRole,
    units::{Money, Timestamp},
};

/// What an action needs of the key that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleNeeded {
    /// The account's own key.
    Owner,
    /// A key that spends on jobs.
    Tenant,
    /// A key that manages supply.
    Provider,
    /// This machine's key.
    Machine(MachineId),
    /// A treasurer of the network.
    Treasurer,
    /// A key that may look, and sign grants.
    Viewer,
}

impl KeyRole {
    /// Returns whether the role is enough.
    pub fn allows(self, needed: RoleNeeded) -> bool {
        match self {
            Self::Owner => !matches!(needed, RoleNeeded::Machine(_) | RoleNeeded::Treasurer),
            Self::Treasurer => !matches!(needed, RoleNeeded::Machine(_)),
            Self::Tenant => matches!(needed, RoleNeeded::Tenant | RoleNeeded::Viewer),
            Self::Provider => needed == RoleNeeded::Provider,
            Self::Machine(id) => needed == RoleNeeded::Machine(id),
            Self::Viewer => needed == RoleNeeded::Viewer,
        }
    }
}

/// What a key that may send transactions is told of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The account that it acts for.
    pub account: AccountId,
    /// The nonce of its next transaction.
    pub next_nonce: u64,
    /// What it may do.
    pub role: KeyRole,
    /// The account's available money.
    pub balance: Money,
    /// The account's bond.
    pub bonded: Money,
}

/// What an owner grants to a key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyGrant {
    pub(crate) key: PublicKey,
    pub(crate) role: KeyRole,
    pub(crate) budget: Option<Money>,
    pub(crate) expires_at: Option<Timestamp>,
}

impl Market {
    /// Returns what a key may send, or why nothing.
    pub fn admissible(&self, key: &PublicKey, now: Timestamp) -> Result<Admission, Inadmissible> {
        let signer = self.signer(key).ok_or(Inadmissible::UnknownKey)?;
        if !is_current(signer, now) {
            return Err(Inadmissible::KeyEnded);
        }
        let account = self
            .account(signer.account)
            .ok_or(Inadmissible::UnknownKey)?;
        Ok(Admission {
            account: account.id,
            next_nonce: signer.next_nonce,
            role: signer.role,
            balance: account.available,
            bonded: account.bonded,
        })
    }

    /// Returns whether a key may act for an account in this role now.
    pub fn may_act(&self, key: &PublicKey, account: AccountId, needed: RoleNeeded) -> bool {
        self.signer(key).is_some_and(|signer| {
            signer.account == account
                && is_current(signer, self.time())
                && signer.role.allows(needed)
        })
    }

    /// Opens an account with its own key. The key is not in use.
    pub(crate) fn open_account(&mut self, account: AccountId, role: KeyRole) {
        self.put(Account {
            id: account,
            available: Money::ZERO,
            held: Money::ZERO,
            bonded: Money::ZERO,
            locked: Money::ZERO,
            opened_at: self.time(),
        });
        self.put(new_signer(*account.owner_key(), account, role));
        self.emit(EventKind::AccountOpened { account });
    }

    /// Returns whether the account has room for one more of something it has `count` of.
    pub(crate) fn room(&self, count: u32) -> Result<(), Reject> {
        let max = self.params().live_per_account;
        if count < max {
            Ok(())
        } else {
            Err(Reject::TooMany { max })
        }
    }
}

impl Sender {
    pub(crate) fn require(&self, needed: RoleNeeded) -> Result<(), Reject> {
        if self.role.allows(needed) {
            Ok(())
        } else {
            Err(Reject::NotAllowed)
        }
    }
}

pub(crate) fn is_current(signer: &Signer, now: Timestamp) -> bool {
    !signer.revoked && signer.expires_at.is_none_or(|end| now < end)
}

/// Makes the record of a key that is used for the first time.
pub(crate) fn new_signer(key: PublicKey, account: AccountId, role: KeyRole) -> Signer {
    Signer {
        key,
        account,
        role,
        budget: None,
        committed: Money::ZERO,
        expires_at: None,
        revoked: false,
        next_nonce: 0,
    }
}

/// Lets a key act for the account. Granting again replaces the grant and starts its budget anew.
pub(crate) fn authorize(m: &mut Market, from: &Sender, grant: KeyGrant) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    if !matches!(
        grant.role,
        KeyRole::Tenant | KeyRole::Provider | KeyRole::Viewer
    ) {
        let field = FieldName::Role;
        return Err(Reject::BadField { field });
    }
    if let Some(at) = grant.expires_at
        && at <= m.time()
    {
        return Err(Reject::BadTime { at });
    }
    let known = m.signer(&grant.key);
    let granted = |s: &Signer| {
        matches!(
            s.role,
            KeyRole::Tenant | KeyRole::Provider | KeyRole::Viewer
        )
    };
    if known.is_some_and(|s| s.account != from.account || !granted(s)) {
        return Err(Reject::KeyInUse);
    }
    if known.is_none() {
        m.room(m.index.counts(from.account).signers)?;
    }
    let next_nonce = known.map_or(0, |s| s.next_nonce);
    m.put(Signer {
        budget: grant.budget,
        expires_at: grant.expires_at,
        next_nonce,
        ..new_signer(grant.key, from.account, grant.role)
    });
    let (account, key) = (from.account, grant.key);
    m.emit(EventKind::KeyAuthorized { account, key });
    Ok(())
}

/// Ends a granted key's authority. The account's own key and machines' keys are not revoked this way.
pub(crate) fn revoke(m: &mut Market, from: &Sender, key: PublicKey) -> Result<(), Reject> {
    from.require(RoleNeeded::Owner)?;
    let signer = m.signer(&key).ok_or(Reject::NoKey)?;
    let granted = matches!(
        signer.role,
        KeyRole::Tenant | KeyRole::Provider | KeyRole::Viewer
    );
    if signer.account != from.account || signer.revoked || !granted {
        return Err(Reject::NoKey);
    }
    m.edit::<Signer>(key, |s| s.revoked = true);
    let account = from.account;
    m.emit(EventKind::KeyRevoked { account, key });
    Ok(())
}
