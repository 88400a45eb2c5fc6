//! A market with many people in it: keys, nonces, blocks and setting up.

use std::collections::BTreeMap;

use market::*;

/// Block time of genesis.
pub(crate) const START_MS: u64 = 1_790_000_000_000;
/// Transactions of one block of setting up: the most that the node puts into one.
pub(crate) const BLOCK_TXS: usize = 4_096;
/// The treasurer's number among the keys.
pub(crate) const TREASURER: u64 = 0;

/// Returns key number `n`: it looks random, as keys do, so that tables see their usual order.
pub(crate) fn key(n: u64) -> PublicKey {
    PublicKey::from_bytes(Digest::of(&[b"bench key", &n.to_le_bytes()]).0)
}

/// Returns the account of key number `n`.
pub(crate) fn account(n: u64) -> AccountId {
    AccountId::of(key(n))
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("the benches' names are valid")
}

/// A reproducible stream of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(all.len() as u64) as usize;
        all.get(at).expect("something to pick from")
    }
}

/// A market and the nonces of its keys.
pub(crate) struct Crowd {
    pub(crate) market: Market,
    nonces: BTreeMap<u64, u64>,
    references: u64,
    waiting: Vec<SignedTx>,
}

/// Returns the genesis of the benches; `retention` bounds how many ended things stay.
pub(crate) fn genesis(retention: Millis) -> Genesis {
    Genesis {
        network: NetworkName::parse("bench").expect("a valid name"),
        time: Timestamp::from_unix_millis(START_MS),
        treasurers: vec![key(TREASURER)],
        params: Params {
            retention,
            ..Params::default()
        },
    }
}

impl Crowd {
    pub(crate) fn new(retention: Millis) -> Self {
        Self {
            market: Market::genesis(&genesis(retention)).expect("a valid genesis"),
            nonces: BTreeMap::new(),
            references: 0,
            waiting: Vec::new(),
        }
    }

    /// Returns the nonce of a key's next transaction.
    pub(crate) fn nonce(&self, n: u64) -> u64 {
        self.nonces.get(&n).copied().unwrap_or(0)
    }

    /// Makes a key's next transaction, unsigned.
    pub(crate) fn tx(&mut self, n: u64, call: Tx) -> SignedTx {
        let nonce = self.nonces.entry(n).or_default();
        let body = TxBody {
            signer: key(n),
            nonce: *nonce,
            expires_at: Timestamp::MAX,
            call,
        };
        *nonce += 1;
        SignedTx {
            version: codec::TX_VERSION,
            body,
            signature: Signature([7; 64]),
        }
    }

    /// Queues a transaction of setting up, and runs a block when there are enough.
    pub(crate) fn queue(&mut self, n: u64, call: Tx) {
        let tx = self.tx(n, call);
        self.waiting.push(tx);
        if self.waiting.len() >= BLOCK_TXS {
            self.flush();
        }
    }

    /// Runs what is queued; all of it must take effect.
    pub(crate) fn flush(&mut self) {
        let txs = std::mem::take(&mut self.waiting);
        let outcome = self.block(Millis::ZERO, &txs);
        for receipt in outcome.receipts {
            receipt.result.expect("setting up is not rejected");
        }
    }

    /// Runs a block that is final at once.
    pub(crate) fn block(&mut self, after: Millis, txs: &[SignedTx]) -> BlockOutcome {
        let ctx = BlockCtx {
            height: self.market.height().next(),
            time: self.market.time().after(after),
            seed: None,
        };
        let outcome = self.market.execute(&ctx, txs).expect("an admissible block");
        self.market.forget_before(ctx.height.next());
        outcome
    }

    /// Gives an account dollars.
    pub(crate) fn fund(&mut self, n: u64, dollars: u64) {
        self.references += 1;
        let reference = Digest::of(&[&self.references.to_le_bytes()]);
        let (to, amount) = (account(n), Money::from_dollars(dollars));
        self.queue(
            TREASURER,
            Tx::Issue {
                to,
                amount,
                reference,
            },
        );
    }

    /// Makes an account a provider with a bond.
    pub(crate) fn open_provider(&mut self, n: u64, bond_dollars: u64) {
        self.queue(
            n,
            Tx::OpenProvider {
                name: name("provider"),
            },
        );
        self.queue(
            n,
            Tx::PostBond {
                amount: Money::from_dollars(bond_dollars),
            },
        );
    }

    /// Adds a machine of a provider, whose key has number `sign`, and has it beat once.
    pub(crate) fn add_machine(&mut self, provider: u64, sign: u64, spec: MachineSpec) -> MachineId {
        let id = MachineId::created_by(&key(provider), self.nonce(provider));
        let keys = MachineKeys {
            sign: key(sign),
            endpoint: key(sign),
            seal: key(sign),
        };
        self.queue(provider, Tx::AddMachine { keys, spec });
        let at = Timestamp::from_unix_millis(START_MS);
        let beats = vec![Beat { at, leases: vec![] }];
        self.queue(
            sign,
            Tx::Beat(BeatBatch {
                machine: id,
                first_seq: 0,
                prev: Digest::default(),
                beats,
            }),
        );
        id
    }
}
