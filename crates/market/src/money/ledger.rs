//! Double entry in one place: every movement of dollars is one [`Market::post`].
//!
//! ```text
//! slot             record that changes        account field that follows
//! Outside          system.issued              –
//! Available(a)     –                          available
//! Hold(job)        hold.amount                held of the tenant
//! Redemption(id)   redemption.amount          held of the account
//! Bond(a)          –                          bonded
//! Payable(lease)   payable.amount             locked of the provider
//! Fees, Insurance  system.fees, .insurance    –
//! ```
//! So `issued = Σ(available + held + bonded + locked) + fees + insurance` after every posting, and no sum overflows,
//! because none exceeds `issued`, which is checked when dollars are created.

use crate::{
    event::{EventKind, Purpose, Slot},
    ids::AccountId,
    records::{Account, Hold, Payable, Redemption},
    reject::Reject,
    state::Market,
    units::Money,
};

/// Which way an amount goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

impl Way {
    fn apply(self, balance: &mut Money, amount: Money) {
        let new = match self {
            Self::Out => balance.checked_sub(amount),
            Self::In => balance.checked_add(amount),
        };
        *balance = new.expect(
            "the handler checked that the money is there, and no sum exceeds what was issued",
        );
    }

    const fn reverse(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

impl Market {
    /// Moves dollars. The caller has checked that they are there; a zero amount is no movement.
    pub(crate) fn post(&mut self, from: Slot, to: Slot, amount: Money, purpose: Purpose) {
        if amount.is_zero() {
            return;
        }
        self.shift(from, Way::Out, amount);
        self.shift(to, Way::In, amount);
        self.emit(EventKind::Posted {
            from,
            to,
            amount,
            purpose,
        });
    }

    fn shift(&mut self, slot: Slot, way: Way, amount: Money) {
        match slot {
            // What comes from outside adds to what was issued.
            Slot::Outside => way.reverse().apply(&mut self.system.issued, amount),
            Slot::Fees => way.apply(&mut self.system.fees, amount),
            Slot::Insurance => way.apply(&mut self.system.insurance, amount),
            Slot::Available(id) => {
                self.edit::<Account>(id, |a| way.apply(&mut a.available, amount));
            }
            Slot::Bond(id) => self.edit::<Account>(id, |a| way.apply(&mut a.bonded, amount)),
            Slot::Hold(job) => {
                self.edit::<Hold>(job, |h| way.apply(&mut h.amount, amount));
                if let Some(tenant) = self.hold(job).map(|h| h.tenant) {
                    self.edit::<Account>(tenant, |a| way.apply(&mut a.held, amount));
                }
            }
            Slot::Redemption(id) => {
                self.edit::<Redemption>(id, |r| way.apply(&mut r.amount, amount));
                if let Some(account) = self.redemption(id).map(|r| r.account) {
                    self.edit::<Account>(account, |a| way.apply(&mut a.held, amount));
                }
            }
            Slot::Payable(lease) => {
                self.edit::<Payable>(lease, |p| way.apply(&mut p.amount, amount));
                if let Some(provider) = self.payable(lease).map(|p| p.provider) {
                    self.edit::<Account>(provider, |a| way.apply(&mut a.locked, amount));
                }
            }
        }
    }

    /// Checks that an account has this much available, and that the amount is not zero.
    pub(crate) fn require_funds(&self, account: AccountId, need: Money) -> Result<(), Reject> {
        if need.is_zero() {
            return Err(Reject::ZeroAmount);
        }
        let available = self.account(account).map_or(Money::ZERO, |a| a.available);
        if available < need {
            return Err(Reject::Funds { available, need });
        }
        Ok(())
    }
}
