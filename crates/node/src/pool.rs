//! The mempool: transactions that wait for a block, keyed by (signing key, nonce).
//!
//! A transaction enters once its signature and its signer were checked; it leaves when a block with it, or with another
//! of the same nonce, is final, or when it expires. Waiting costs memory, so everything is bounded: in all
//! ([`TXS_MAX`], [`BYTES_MAX`]) and per key ([`PER_KEY_MAX`], [`KEY_BYTES_MAX`]); those that wait behind a missing nonce are
//! few per key ([`GAPPED_MAX`]) and the first to go when the pool is full. A part is kept for machines: whatever the
//! others send, beats get in. The pool is a lock and not a task: admission is a few map operations, and no one awaits
//! under the lock.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use market::{Millis, PublicKey, SignedTx, Timestamp, codec::TxId};
use tokio::sync::Notify;

/// Most transactions in the pool: a few seconds of the largest sustained load.
pub(crate) const TXS_MAX: usize = 50_000;
/// Most bytes in the pool.
pub(crate) const BYTES_MAX: usize = 64 << 20;
/// Most transactions of one key: no key can fill the pool alone, and a batch of beats or a bulk import still fits.
pub(crate) const PER_KEY_MAX: usize = 2_048;
/// Most bytes of one key: four of the longest transactions.
pub(crate) const KEY_BYTES_MAX: usize = 256 * 1024;
/// Most transactions of one key behind a missing nonce: enough for what overtakes each other on the way.
pub(crate) const GAPPED_MAX: usize = 16;
/// Most transactions and bytes that are not from machines: a quarter of the pool is theirs.
const COMMON_MAX: (usize, usize) = (TXS_MAX / 4 * 3, BYTES_MAX / 4 * 3);

/// Looking for expired ones walks the pool; doing so for each of a hundred blocks a second would be waste.
const EXPIRY_INTERVAL: Millis = Millis::from_secs(1);

/// Why the pool did not take a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolFull {
    /// The pool is full.
    #[error("the node has too many transactions waiting")]
    Pool,
    /// This key has too many transactions waiting, or the nonce is too far ahead.
    #[error("the key has too many transactions waiting")]
    Key,
    /// Another transaction of this key with the same nonce waits.
    #[error("another transaction with the same nonce waits")]
    NonceTaken,
}

/// Whose a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// A machine's.
    Machine,
    /// Anyone else's.
    Common,
}

#[derive(Debug)]
struct Entry {
    tx: Arc<SignedTx>,
    id: TxId,
    bytes: usize,
    lane: Lane,
    arrival: u64,
    /// The block it was put into, until that block is final or abandoned.
    proposed_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    keys: BTreeMap<PublicKey, Queue>,
    ids: HashMap<TxId, (PublicKey, u64)>,
    all: Size,
    /// Of these, what is not from machines.
    common: Size,
    /// Whether some may wait behind a missing nonce.
    gapped: bool,
    arrivals: u64,
    /// Block time of the last look for expired ones.
    expired_at: Timestamp,
    /// Left without a block, not told yet.
    refused: Vec<TxId>,
    /// What was put into which block.
    proposed: BTreeMap<u64, Vec<(PublicKey, u64)>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Size {
    txs: usize,
    bytes: usize,
}

impl Size {
    /// Returns whether one more of `bytes` stays within these bounds.
    const fn takes(self, bytes: usize, (txs_max, bytes_max): (usize, usize)) -> bool {
        self.txs < txs_max && self.bytes.saturating_add(bytes) <= bytes_max
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// The nonce that the next block can take.
    next: u64,
    bytes: usize,
    waiting: BTreeMap<u64, Entry>,
}

/// The pool; clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    inner: Arc<Mutex<Inner>>,
    work: Arc<Notify>,
}

impl Pool {
    /// Takes a checked transaction of a key whose next final nonce is `next`.
    ///
    /// # Errors
    /// [`PoolFull`]; nothing changed.
    pub(crate) fn insert(
        &self,
        tx: SignedTx,
        id: TxId,
        bytes: usize,
        next: u64,
        lane: Lane,
    ) -> Result<(), PoolFull> {
        let mut inner = self.lock();
        if inner.ids.contains_key(&id) {
            return Ok(());
        }
        let (key, nonce) = (tx.body.signer, tx.body.nonce);
        let queue = inner.keys.get(&key);
        let waiting = queue.map_or(0, |queue| queue.waiting.len());
        let horizon = next.saturating_add(u64::try_from(PER_KEY_MAX).unwrap_or(u64::MAX));
        let held = queue.map_or(0, |queue| queue.bytes);
        if waiting >= PER_KEY_MAX || nonce >= horizon || held.saturating_add(bytes) > KEY_BYTES_MAX
        {
            return Err(PoolFull::Key);
        }
        if queue.is_some_and(|queue| queue.waiting.contains_key(&nonce)) {
            return Err(PoolFull::NonceTaken);
        }
        let missing = queue.map_or(next, |queue| queue.first_missing(next));
        let gapped = nonce > missing;
        if gapped && queue.is_some_and(|queue| queue.waiting.range(missing..).count() >= GAPPED_MAX)
        {
            return Err(PoolFull::Key);
        }
        if !inner.has_room(bytes, lane) && !gapped {
            inner.evict_gapped();
        }
        if !inner.has_room(bytes, lane) {
            return Err(PoolFull::Pool);
        }
        inner.gapped |= gapped;
        inner.arrivals += 1;
        let entry = Entry {
            tx: Arc::new(tx),
            id,
            bytes,
            lane,
            arrival: inner.arrivals,
            proposed_at: None,
        };
        inner.grow(bytes, lane);
        inner.ids.insert(id, (key, nonce));
        let queue = inner.keys.entry(key).or_default();
        queue.next = queue.next.max(next);
        queue.bytes += bytes;
        queue.waiting.insert(nonce, entry);
        let ready = queue.ready();
        drop(inner);
        if ready {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Returns whether a block built now would take something that no block has yet.
    pub(crate) fn has_work(&self) -> bool {
        self.lock().keys.values().any(Queue::ready)
    }

    /// Waits until work may have come; may return early.
    pub(crate) async fn work(&self) {
        self.work.notified().await;
    }

    /// Returns the nonce that follows the key's waiting transactions without a gap, from `next` on.
    pub(crate) fn next_nonce(&self, key: &PublicKey, next: u64) -> u64 {
        let inner = self.lock();
        let Some(queue) = inner.keys.get(key) else {
            return next;
        };
        let mut nonce = next;
        while queue.waiting.contains_key(&nonce) {
            nonce += 1;
        }
        nonce
    }

    /// Returns whether the transaction waits.
    pub(crate) fn contains(&self, id: &TxId) -> bool {
        self.lock().ids.contains_key(id)
    }

    /// Returns how many transactions wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().ids.len()
    }

    /// Picks transactions for a block: by arrival, each key's in nonce order from `next_of(key)` on without a gap,
    /// and up to one that expired before `time`.
    ///
    /// Blocks proposed at `height` or above were abandoned if they are not the parent's ancestors, which are below.
    pub(crate) fn pick(
        &self,
        height: u64,
        time: Timestamp,
        (txs_max, bytes_max): (usize, usize),
        next_of: impl Fn(&PublicKey) -> Option<u64>,
    ) -> Vec<Arc<SignedTx>> {
        let mut inner = self.lock();
        inner.abandon_from(height);
        let mut heads = BinaryHeap::new();
        let mut expired = Vec::new();
        for (key, queue) in &mut inner.keys {
            // The parent's state knows better than the pool what comes next; a key that may not send is no work.
            queue.next = next_of(key).unwrap_or(u64::MAX);
            if let Some(entry) = queue.waiting.get(&queue.next) {
                heads.push(Reverse((entry.arrival, *key, queue.next)));
            }
        }
        let mut picked = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse((_, key, nonce))) = heads.pop() {
            let Some(queue) = inner.keys.get(&key) else {
                continue;
            };
            let Some(entry) = queue.waiting.get(&nonce) else {
                continue;
            };
            if entry.tx.body.expires_at < time {
                expired.push(entry.id);
                continue;
            }
            if picked.len() >= txs_max || bytes + entry.bytes > bytes_max {
                break;
            }
            bytes += entry.bytes;
            picked.push(Arc::clone(&entry.tx));
            if let Some(after) = queue.waiting.get(&(nonce + 1)) {
                heads.push(Reverse((after.arrival, key, nonce + 1)));
            }
        }
        // Left in the pool they would look like work for a block that cannot take them.
        for id in expired {
            inner.remove(&id);
            inner.refused.push(id);
        }
        picked
    }

    /// Notes that a block at `height` has these, so that they are no longer work.
    pub(crate) fn mark_proposed<'a>(
        &self,
        height: u64,
        txs: impl IntoIterator<Item = &'a SignedTx>,
    ) {
        let mut inner = self.lock();
        for tx in txs {
            let (key, nonce) = (tx.body.signer, tx.body.nonce);
            if let Some(queue) = inner.keys.get_mut(&key) {
                if let Some(entry) = queue.waiting.get_mut(&nonce) {
                    entry.proposed_at = Some(height);
                }
                queue.next = queue.next.max(nonce + 1);
            }
            inner.proposed.entry(height).or_default().push((key, nonce));
        }
    }

    /// Removes one transaction that cannot be included; whoever waits for it hears so with the next block.
    pub(crate) fn refuse(&self, id: &TxId) {
        let mut inner = self.lock();
        inner.remove(id);
        inner.refused.push(*id);
    }

    /// Follows a final block: removes its transactions, all that they superseded, and all that expired.
    ///
    /// Returns the ids of those that can never be included any more.
    pub(crate) fn finalized<'a>(
        &self,
        height: u64,
        time: Timestamp,
        txs: impl IntoIterator<Item = (&'a SignedTx, TxId)>,
    ) -> Vec<TxId> {
        let mut inner = self.lock();
        let mut dropped = std::mem::take(&mut inner.refused);
        for (tx, id) in txs {
            let next = tx.body.nonce + 1;
            if let Some(queue) = inner.keys.get_mut(&tx.body.signer) {
                queue.next = queue.next.max(next);
                let later = queue.waiting.split_off(&next);
                let superseded = std::mem::replace(&mut queue.waiting, later);
                queue.bytes -= superseded.values().map(|entry| entry.bytes).sum::<usize>();
                for entry in superseded.into_values() {
                    inner.shrink(&entry);
                    inner.ids.remove(&entry.id);
                    if entry.id != id {
                        dropped.push(entry.id);
                    }
                }
            }
        }
        inner.settle_up_to(height);
        dropped.extend(inner.expire(time));
        inner.keys.retain(|_, queue| !queue.waiting.is_empty());
        let ready = inner.keys.values().any(Queue::ready);
        drop(inner);
        if ready {
            self.work.notify_one();
        }
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic under the lock ends the engine anyway; what is in the pool stays well-formed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn ready(&self) -> bool {
        self.waiting
            .get(&self.next)
            .is_some_and(|entry| entry.proposed_at.is_none())
    }

    /// Returns the first nonce from `next` on that does not wait.
    fn first_missing(&self, next: u64) -> u64 {
        let waiting = self.waiting.range(next..).map(|(nonce, _)| *nonce);
        let follow = (next..).zip(waiting).take_while(|(want, got)| want == got);
        follow.last().map_or(next, |(last, _)| last + 1)
    }
}

impl Inner {
    fn has_room(&self, bytes: usize, lane: Lane) -> bool {
        self.all.takes(bytes, (TXS_MAX, BYTES_MAX))
            && (lane == Lane::Machine || self.common.takes(bytes, COMMON_MAX))
    }

    const fn grow(&mut self, bytes: usize, lane: Lane) {
        self.all.txs += 1;
        self.all.bytes += bytes;
        if matches!(lane, Lane::Common) {
            self.common.txs += 1;
            self.common.bytes += bytes;
        }
    }

    const fn shrink(&mut self, entry: &Entry) {
        self.all.txs -= 1;
        self.all.bytes -= entry.bytes;
        if matches!(entry.lane, Lane::Common) {
            self.common.txs -= 1;
            self.common.bytes -= entry.bytes;
        }
    }

    /// Makes room: removes what no block could take next, because a nonce before it is missing or its key may not send.
    fn evict_gapped(&mut self) {
        if !std::mem::take(&mut self.gapped) {
            return;
        }
        let mut gapped = Vec::new();
        for queue in self.keys.values() {
            let mut proposed = queue.waiting.values().filter(|e| e.proposed_at.is_some());
            let after = proposed.next_back().map_or(0, |e| e.tx.body.nonce + 1);
            let missing = match queue.next {
                u64::MAX => 0,
                next => queue.first_missing(next),
            };
            let first = missing.max(after);
            gapped.extend(queue.waiting.range(first..).map(|(_, entry)| entry.id));
        }
        for id in gapped {
            self.remove(&id);
            self.refused.push(id);
        }
        self.gapped = false;
    }

    fn remove(&mut self, id: &TxId) {
        let Some((key, nonce)) = self.ids.remove(id) else {
            return;
        };
        if let Some(queue) = self.keys.get_mut(&key)
            && let Some(entry) = queue.waiting.remove(&nonce)
        {
            queue.bytes -= entry.bytes;
            // What followed it has a gap before it now.
            self.gapped |= !queue.waiting.is_empty();
            self.shrink(&entry);
        }
    }

    /// Removes what expired before `time`; looks at most once a second of block time.
    fn expire(&mut self, time: Timestamp) -> Vec<TxId> {
        if time.since(self.expired_at) < EXPIRY_INTERVAL {
            return Vec::new();
        }
        self.expired_at = time;
        let expired: Vec<TxId> = self
            .keys
            .values()
            .flat_map(|queue| queue.waiting.values())
            .filter(|entry| entry.tx.body.expires_at < time)
            .map(|entry| entry.id)
            .collect();
        for id in &expired {
            self.remove(id);
        }
        expired
    }

    /// Blocks at these heights will not be: what they took is work again.
    fn abandon_from(&mut self, height: u64) {
        let abandoned = self.proposed.split_off(&height);
        self.release(abandoned);
    }

    /// Blocks up to this height are decided: what is still here was not in them.
    fn settle_up_to(&mut self, height: u64) {
        let undecided = self.proposed.split_off(&height.saturating_add(1));
        let decided = std::mem::replace(&mut self.proposed, undecided);
        self.release(decided);
    }

    fn release(&mut self, blocks: BTreeMap<u64, Vec<(PublicKey, u64)>>) {
        for (key, nonce) in blocks.into_values().flatten() {
            if let Some(queue) = self.keys.get_mut(&key)
                && let Some(entry) = queue.waiting.get_mut(&nonce)
            {
                entry.proposed_at = None;
                queue.next = queue.next.min(nonce);
            }
        }
    }
}
