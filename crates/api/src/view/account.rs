//! Accounts, their keys and the postings that made their balances.

use market::{
    Account, AccountId, Digest, KeyRole, MachineId, PublicKey, Redemption, RedemptionId, Signer,
    codec::TxId,
    event::{Purpose, Slot},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MoneyView, TimeView, text};

/// An account's balances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccountView {
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub id: AccountId,
    /// Free to use.
    pub available: MoneyView,
    /// In escrow of its own jobs and redemptions.
    pub held: MoneyView,
    /// In its provider's bond.
    pub bonded: MoneyView,
    /// Earned, but its audit window is open.
    pub locked: MoneyView,
    /// When it was opened.
    pub opened_at: TimeView,
    /// Whether it is a provider.
    pub is_provider: bool,
}

impl AccountView {
    /// Makes the view of a record.
    pub fn new(account: &Account, is_provider: bool) -> Self {
        Self {
            id: account.id,
            available: account.available.into(),
            held: account.held.into(),
            bonded: account.bonded.into(),
            locked: account.locked.into(),
            opened_at: account.opened_at.into(),
            is_provider,
        }
    }
}

/// Dollars that a treasurer is asked to pay out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedemptionView {
    /// The request.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<RedemptionId>")]
    pub id: RedemptionId,
    /// Whose dollars.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub account: AccountId,
    /// Who shall pay.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub treasurer: PublicKey,
    /// How much.
    pub amount: MoneyView,
    /// Salted digest of where to.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Digest>")]
    pub destination: Digest,
    /// When the dollars return by themselves.
    pub returns_at: TimeView,
}

impl From<&Redemption> for RedemptionView {
    fn from(redemption: &Redemption) -> Self {
        Self {
            id: redemption.id,
            account: redemption.account,
            treasurer: redemption.treasurer,
            amount: redemption.amount.into(),
            destination: redemption.destination,
            returns_at: redemption.returns_at.into(),
        }
    }
}

/// A signing key: for whom it acts and what its next transaction's nonce is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeyView {
    /// The key.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub key: PublicKey,
    /// The account that it acts for; `None` when the network does not know the key.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<AccountId>>")]
    pub account: Option<AccountId>,
    /// `owner`, `treasurer`, `tenant`, `provider`, `machine` or `viewer`.
    pub role: Option<String>,
    /// The machine of a machine key.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<MachineId>>")]
    pub machine: Option<MachineId>,
    /// How much it may commit to jobs in all; `None` is without limit.
    pub budget: Option<MoneyView>,
    /// How much it has committed.
    pub committed: MoneyView,
    /// When it ends.
    pub expires_at: Option<TimeView>,
    /// Whether its authority was taken back.
    pub revoked: bool,
    /// Nonce of its next transaction by the finalized ledger.
    pub finalized_nonce: u64,
    /// Nonce of its next transaction when all that it has pending are included: sign with this one.
    pub next_nonce: u64,
}

impl KeyView {
    /// Makes the view of a record; `pending` transactions of the key wait for inclusion.
    pub fn new(signer: &Signer, pending: u64) -> Self {
        let (role, machine) = role_words(signer.role);
        Self {
            key: signer.key,
            account: Some(signer.account),
            role: Some(role.to_owned()),
            machine,
            budget: signer.budget.map(Into::into),
            committed: signer.committed.into(),
            expires_at: signer.expires_at.map(Into::into),
            revoked: signer.revoked,
            finalized_nonce: signer.next_nonce,
            next_nonce: signer.next_nonce.saturating_add(pending),
        }
    }

    /// Makes the view of a key that the network does not know: its first nonce will be 0.
    pub fn unknown(key: PublicKey) -> Self {
        Self {
            key,
            account: None,
            role: None,
            machine: None,
            budget: None,
            committed: MoneyView::default(),
            expires_at: None,
            revoked: false,
            finalized_nonce: 0,
            next_nonce: 0,
        }
    }
}

const fn role_words(role: KeyRole) -> (&'static str, Option<MachineId>) {
    match role {
        KeyRole::Owner => ("owner", None),
        KeyRole::Treasurer => ("treasurer", None),
        KeyRole::Tenant => ("tenant", None),
        KeyRole::Provider => ("provider", None),
        KeyRole::Machine(id) => ("machine", Some(id)),
        KeyRole::Viewer => ("viewer", None),
    }
}

/// One movement of the double-entry ledger that touched an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PostingView {
    /// Number of the event that announced it.
    pub seq: u64,
    /// When.
    pub time: TimeView,
    /// The transaction that caused it; `None` when a timer did.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<TxId>>")]
    pub tx: Option<TxId>,
    /// Where it came from, as `available:acc_…` or `hold:job_…`.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Slot>")]
    pub from: Slot,
    /// Where it went.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Slot>")]
    pub to: Slot,
    /// How much.
    pub amount: MoneyView,
    /// For what.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Purpose>")]
    pub purpose: Purpose,
}
