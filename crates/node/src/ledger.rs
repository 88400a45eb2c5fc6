//! What is final: the readable market, the history, and who waits for either.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
};

use light::Digest;
use market::{Market, codec::TxId};
use tokio::sync::{broadcast, oneshot, watch};

use crate::{
    executor::Executed,
    history::{FinalBlock, History, Included},
    pool::Pool,
};

/// Blocks that a subscriber may lag behind before it reads on from the history.
const LIVE_MAX: usize = 1_024;
/// Most receipts waited for at once.
const WAITERS_MAX: usize = 50_000;

/// The newest final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub height: u64,
    /// Its time, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// Its digest.
    pub digest: [u8; 32],
    /// Number of the next event.
    pub next_seq: Option<u64>,
}

/// What became of a transaction that someone waits for.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    Included(Included),
    /// Superseded or expired.
    Dropped,
}

/// The final state and its followers; clones share it.
#[derive(Clone)]
pub(crate) struct Ledger {
    shared: Arc<Shared>,
}

struct Shared {
    /// Set once, when the state was loaded.
    view: OnceLock<RwLock<Market>>,
    history: History,
    pool: Pool,
    head: watch::Sender<Head>,
    live: broadcast::Sender<Arc<FinalBlock>>,
    waiters: Mutex<HashMap<TxId, Vec<oneshot::Sender<Fate>>>>,
}

impl Ledger {
    pub(crate) fn new(history: History, pool: Pool) -> Self {
        let head = Head {
            height: 0,
            time_ms: 0,
            digest: [0; 32],
            next_seq: None,
        };
        let shared = Shared {
            view: OnceLock::new(),
            history,
            pool,
            head: watch::Sender::new(head),
            live: broadcast::Sender::new(LIVE_MAX),
            waiters: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Makes the state readable; from now on blocks can be followed.
    pub(crate) fn open(&self, view: Market, digest: Digest) {
        let head = Head {
            height: view.height().number(),
            time_ms: view.time().unix_millis(),
            digest: digest.0,
            next_seq: None,
        };
        let opened = self.shared.view.set(RwLock::new(view)).is_ok();
        assert!(opened, "the ledger is opened once");
        self.shared.head.send_replace(head);
    }

    /// Reads the final state; `None` before it was loaded.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Market) -> T) -> Option<T> {
        let view = self
            .shared
            .view
            .get()?
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Some(look(&view))
    }

    pub(crate) fn history(&self) -> &History {
        &self.shared.history
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(crate) fn head(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    pub(crate) fn live(&self) -> broadcast::Receiver<Arc<FinalBlock>> {
        self.shared.live.subscribe()
    }

    /// Waits for a transaction's fate; `None` when too many are waited for.
    pub(crate) fn await_fate(&self, id: TxId) -> Option<oneshot::Receiver<Fate>> {
        let mut waiters = self
            .shared
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiters.len() >= WAITERS_MAX {
            waiters.retain(|_, all| {
                all.retain(|one| !one.is_closed());
                !all.is_empty()
            });
            if waiters.len() >= WAITERS_MAX {
                return None;
            }
        }
        let (fate, receiver) = oneshot::channel();
        waiters.entry(id).or_default().push(fate);
        Some(receiver)
    }

    /// Writes one final block to the history, unless it is there; returns it once it is durable.
    ///
    /// # Panics
    /// When the history cannot be written: the block must not reach the store then, so the engine stops.
    pub(crate) async fn record(&self, executed: &Executed, digest: Digest) -> Arc<FinalBlock> {
        let block = final_block(executed, digest);
        let written = self.shared.history.append(block).await;
        written.expect("a final block can be written to the history")
    }

    /// Follows one final block that is in the history: the readable state first, then everyone who waits.
    pub(crate) fn follow(&self, executed: &Executed, block: Arc<FinalBlock>) {
        self.absorb(executed);
        let ids = executed.outcome.receipts.iter().map(|receipt| receipt.tx);
        let included = executed.txs.iter().zip(ids);
        let dropped = self
            .shared
            .pool
            .finalized(block.height, executed.ctx.time, included);
        self.shared.head.send_replace(Head {
            height: block.height,
            time_ms: block.time_ms,
            digest: block.digest,
            next_seq: block.events.last().map(|event| event.seq + 1),
        });
        self.settle(&block, dropped);
        // Nobody listening is fine.
        drop(self.shared.live.send(block));
    }

    fn absorb(&self, executed: &Executed) {
        let view = self
            .shared
            .view
            .get()
            .expect("blocks are followed once the state is loaded");
        let mut view = view.write().unwrap_or_else(PoisonError::into_inner);
        // A block that was stored but not acknowledged before a crash is followed again.
        if executed.ctx.height > view.height() {
            view.absorb(&executed.ctx, &executed.outcome.changes)
                .expect("the market can absorb its own writes");
            view.forget_before(executed.ctx.height.next());
        }
    }

    fn settle(&self, block: &FinalBlock, dropped: Vec<TxId>) {
        let mut waiters = self
            .shared
            .waiters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if waiters.is_empty() {
            return;
        }
        let included = block
            .txs
            .iter()
            .map(|tx| (tx.id, Fate::Included(tx.clone())));
        let dropped = dropped.into_iter().map(|id| (id, Fate::Dropped));
        for (id, fate) in included.chain(dropped) {
            for waiter in waiters.remove(&id).into_iter().flatten() {
                // A waiter that gave up needs no answer.
                drop(waiter.send(fate.clone()));
            }
        }
    }
}

/// Returns what the history keeps of a block.
pub(crate) fn final_block(executed: &Executed, digest: Digest) -> FinalBlock {
    let time_ms = executed.ctx.time.unix_millis();
    let height = executed.ctx.height.number();
    let txs = executed
        .txs
        .iter()
        .zip(&executed.outcome.receipts)
        .zip(0u32..)
        .map(|((tx, receipt), index)| Included {
            id: receipt.tx,
            height,
            time_ms,
            index,
            signer: tx.body.signer,
            nonce: tx.body.nonce,
            result: receipt.result.clone(),
        })
        .collect();
    FinalBlock {
        height,
        time_ms,
        digest: digest.0,
        txs,
        events: executed.outcome.events.clone(),
        about: Vec::new(),
    }
}
