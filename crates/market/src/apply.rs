//! Running a block: every transaction in turn, then what is due by itself.
//!
//! ```text
//! execute:  time and gap -> per transaction: admissible? nonce, then one handler -> end_block -> change set
//! ```
//! A handler makes every check before its first write, so a rejected transaction changes nothing but its nonce.
//! Signatures are the caller's to check, once, when a transaction arrives.

use crate::{
    codec::{PublicKey, SignedTx, TX_VERSION, TxBody, TxId},
    demand,
    event::Event,
    ids::AccountId,
    keys, money,
    records::Signer,
    reject::{Inadmissible, Reject},
    state::{ChangeSet, Market},
    supply,
    tx::{KeyRole, Tx},
    units::{Height, Timestamp},
};

/// What a block brings beside its transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockCtx {
    /// Its number: the parent's and one.
    pub height: Height,
    /// Its time: not before the parent's.
    pub time: Timestamp,
    /// The beacon's seed for draws, where there is one.
    pub seed: Option<[u8; 32]>,
}

/// A transaction that cannot be in the block, which is therefore no block; the market is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("transaction {index} of the block is inadmissible: {why}")]
pub struct BlockError {
    /// Its place in the block.
    pub index: usize,
    /// What is wrong; a height or time that does not follow the parent's is `OutOfBounds`.
    pub why: Inadmissible,
}

/// What a block did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockOutcome {
    /// One per transaction, in order.
    pub receipts: Vec<Receipt>,
    /// What it announced, in order.
    pub events: Vec<Event>,
    /// What it changed.
    pub changes: ChangeSet,
}

/// What came of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which.
    pub tx: TxId,
    /// Whether it took effect.
    pub result: Result<(), Reject>,
}

/// Who sends the transaction under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sender {
    pub(crate) key: PublicKey,
    pub(crate) nonce: u64,
    pub(crate) account: AccountId,
    pub(crate) role: KeyRole,
}

impl Market {
    /// Runs a block's transactions and then what is due.
    pub fn execute(
        &mut self,
        ctx: &BlockCtx,
        txs: &[SignedTx],
    ) -> Result<BlockOutcome, BlockError> {
        let before = self.system.clone();
        let bad_block = |field| BlockError {
            index: 0,
            why: Inadmissible::OutOfBounds { field },
        };
        if ctx.height != self.height().next() {
            return Err(bad_block("block height"));
        }
        if ctx.time < self.time() {
            return Err(bad_block("block time"));
        }
        self.begin_block(ctx);
        let mut receipts = Vec::with_capacity(txs.len());
        for (index, tx) in txs.iter().enumerate() {
            match self.run(tx) {
                Ok(receipt) => receipts.push(receipt),
                Err(why) => {
                    self.abandon(before);
                    return Err(BlockError { index, why });
                }
            }
        }
        self.out.cause = None;
        demand::due::end_block(self);
        let events = std::mem::take(&mut self.out.events);
        let changes = self.seal(before);
        Ok(BlockOutcome {
            receipts,
            events,
            changes,
        })
    }

    /// Moves the clocks. A block is expected when something is due, and at the latest a heartbeat after its parent, so
    /// that an idle network's wide distances are no gaps and a halt is one even if nothing was due.
    fn begin_block(&mut self, ctx: &BlockCtx) {
        let parent = self.time();
        let heartbeat = parent.after(self.params().heartbeat);
        let due = self.next_due().map_or(heartbeat, |due| due.min(heartbeat));
        let latest = due.max(parent).after(self.params().gap_after);
        self.system.height = ctx.height;
        self.system.time = ctx.time;
        self.out.parent_time = parent;
        let excess = ctx.time.since(latest);
        if !excess.is_zero() {
            self.system.gap_total = self.system.gap_total.saturating_add(excess);
            // Machines may not have reported on the gap before yet: two that are close are one.
            let grace = self.params().gap_grace;
            let joined = self.system.last_gap;
            let joined = joined.filter(|(_, end)| end.after(grace) >= parent);
            let start = joined.map_or(parent, |(start, _)| start);
            self.system.last_gap = Some((start, ctx.time));
        }
    }

    fn run(&mut self, tx: &SignedTx) -> Result<Receipt, Inadmissible> {
        if tx.version != TX_VERSION {
            return Err(Inadmissible::OutOfBounds { field: "version" });
        }
        let body = &tx.body;
        if body.expires_at < self.time() {
            return Err(Inadmissible::Expired);
        }
        body.call.check_shape()?;
        let sender = self.take_nonce(body)?;
        let id = tx.id();
        self.out.cause = Some(id);
        let result = self.call(&sender, body);
        Ok(Receipt { tx: id, result })
    }

    /// Checks that the key may send and that its nonce is the next, and counts it. The block falls if not.
    fn take_nonce(&mut self, body: &TxBody) -> Result<Sender, Inadmissible> {
        let now = self.time();
        let taken = self
            .tables
            .edit(&mut self.index, body.signer, |signer: &mut Signer| {
                if !keys::is_current(signer, now) {
                    return Err(Inadmissible::KeyEnded);
                }
                let expected = signer.next_nonce;
                if body.nonce != expected {
                    let got = body.nonce;
                    return Err(Inadmissible::Nonce { expected, got });
                }
                signer.next_nonce = expected.saturating_add(1);
                Ok(Sender {
                    key: body.signer,
                    nonce: expected,
                    account: signer.account,
                    role: signer.role,
                })
            });
        taken.unwrap_or(Err(Inadmissible::UnknownKey))
    }

    fn call(&mut self, from: &Sender, body: &TxBody) -> Result<(), Reject> {
        use demand::{bid, extend, job, lease};
        use money::treasury;
        use supply::{beat, machine, offer, provider};
        match &body.call {
            Tx::Issue {
                to,
                amount,
                reference,
            } => treasury::issue(self, from, *to, *amount, *reference),
            Tx::Transfer {
                to,
                amount,
                memo: _,
            } => treasury::transfer(self, from, *to, *amount),
            Tx::RequestRedemption {
                treasurer,
                amount,
                destination,
            } => treasury::request(self, from, *treasurer, *amount, *destination),
            Tx::ConfirmRedemption {
                redemption,
                reference,
            } => treasury::confirm(self, from, *redemption, *reference),
            Tx::RefuseRedemption { redemption } => treasury::refuse(self, from, *redemption),
            Tx::AuthorizeKey {
                key,
                role,
                budget,
                expires_at,
            } => {
                let grant = keys::KeyGrant {
                    key: *key,
                    role: *role,
                    budget: *budget,
                    expires_at: *expires_at,
                };
                keys::authorize(self, from, grant)
            }
            Tx::RevokeKey { key } => keys::revoke(self, from, *key),
            Tx::OpenProvider { name } => provider::open(self, from, name),
            Tx::PostBond { amount } => provider::post_bond(self, from, *amount),
            Tx::WithdrawBond { amount } => provider::withdraw_bond(self, from, *amount),
            Tx::AddMachine { keys, spec } => machine::add(self, from, keys, spec),
            Tx::UpdateMachine { machine, spec } => machine::update(self, from, *machine, spec),
            Tx::RotateMachineKeys { machine, keys } => {
                machine::rotate_keys(self, from, *machine, keys)
            }
            Tx::DrainMachine { machine, evict_at } => {
                machine::drain(self, from, *machine, *evict_at)
            }
            Tx::ResumeMachine { machine } => machine::resume(self, from, *machine),
            Tx::RetireMachine { machine } => machine::retire(self, from, *machine),
            Tx::PlaceOffer(terms) => offer::place(self, from, terms),
            Tx::WithdrawOffer { offer } => offer::withdraw(self, from, *offer),
            Tx::Beat(batch) => beat::beat(self, from, batch),
            Tx::OpenJob(spec) => job::open(self, from, spec),
            Tx::TopUpJob { job, amount } => job::top_up(self, from, *job, *amount),
            Tx::CancelJob { job } => job::cancel(self, from, *job),
            Tx::PlaceBid(terms) => bid::place(self, from, terms),
            Tx::WithdrawBid { bid } => bid::withdraw(self, from, *bid),
            Tx::LeaseReady { lease, at } => lease::ready(self, from, *lease, *at),
            Tx::LeaseEnded { lease, at, outcome } => {
                lease::ended(self, from, *lease, *at, *outcome)
            }
            Tx::PreemptLease { lease } => lease::preempt(self, from, *lease),
            Tx::ReleaseHold { job } => job::release(self, *job),
            Tx::ExtendJob { job, by } => extend::extend(self, from, *job, *by),
        }
    }
}
