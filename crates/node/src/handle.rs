//! What others may do with a node: submit, wait, read, follow, prove.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use market::{
    BadSignature, Event, Inadmissible, KeyRole, Market, NetworkName, PublicKey, RecordKey,
    SignedTx, Timestamp,
    codec::{TX_BYTES_MAX, TxId},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    history::{Filter, FinalBlock, HistoryError, Included, PAGE_MAX},
    ledger::{Fate, Head, Ledger},
    pool::{Lane, PoolFull},
    proofs::{ProofError, ProofRequest, Reply},
};

/// Longest time a transaction may ask to stay includable: bounds how long a forgotten one can take effect.
pub const EXPIRY_MAX: Duration = Duration::from_hours(24);

/// Reaches a running node; clones reach the same one.
///
/// Its asynchronous methods need a Tokio runtime; any will do.
#[derive(Clone)]
pub struct Handle {
    pub(crate) ledger: Ledger,
    pub(crate) network: NetworkName,
    pub(crate) group_key: Arc<[u8]>,
    pub(crate) validators: usize,
    pub(crate) proofs: mpsc::Sender<ProofRequest>,
    /// What the other validators are told of, if there are any.
    pub(crate) outbox: Option<mpsc::Sender<Vec<u8>>>,
    pub(crate) ended: watch::Receiver<Option<Ended>>,
}

/// Why a node no longer runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// A part of it failed; start it again to recover.
    Failed {
        /// What is known about it.
        why: String,
    },
}

/// Why a transaction was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The signature does not fit.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The signer may not send.
    #[error(transparent)]
    Inadmissible(#[from] Inadmissible),
    /// The nonce was used by another transaction.
    #[error("nonce {got} was used; the key's next one is {expected}")]
    NonceUsed {
        /// The next one.
        expected: u64,
        /// The one given.
        got: u64,
    },
    /// It expires before it could be included, or too far ahead.
    #[error("the transaction must expire within 24 hours from now, and not before")]
    Expiry,
    /// The pool did not take it.
    #[error(transparent)]
    Full(#[from] PoolFull),
    /// Too long.
    #[error("transaction has {bytes} bytes, more than {TX_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

impl SubmitError {
    /// Returns the stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Signature(_) => "bad-signature",
            Self::Inadmissible(why) => why.code(),
            Self::NonceUsed { .. } => "wrong-nonce",
            Self::Expiry => "tx-expiry",
            Self::Full(PoolFull::Pool) => "pool-full",
            Self::Full(PoolFull::Key) => "key-queue-full",
            Self::Full(PoolFull::NonceTaken) => "nonce-taken",
            Self::TooLong { .. } => "tx-too-long",
            Self::History(_) => "history-failed",
            Self::Stopping => "node-stopping",
        }
    }
}

/// Why a receipt could not be had.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The time is over; it may still be included.
    #[error("the transaction is not final yet")]
    NotYet,
    /// It waits nowhere and is in no final block.
    #[error("the transaction is not known")]
    Unknown,
    /// It expired, or another with its nonce was included.
    #[error("the transaction expired or was superseded")]
    Dropped,
    /// Too many are waited for.
    #[error("the node has too many waiting for receipts")]
    TooMany,
    /// The history failed.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The node has stopped.
    #[error("the node is stopping")]
    Stopping,
}

/// How a node stands.
#[derive(Clone, Debug)]
pub struct Status {
    /// The network's name.
    pub network: NetworkName,
    /// What light clients pin, 96 bytes.
    pub group_key: Vec<u8>,
    /// The newest final block.
    pub head: Head,
    /// Transactions that wait.
    pub pool_txs: usize,
    /// Validators of the network; with one, its beacon is predictable by it.
    pub validators: usize,
}

/// What the final state says of a transaction that came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    /// Its signer's next nonce.
    pub(crate) expected: u64,
    /// Whose it is.
    pub(crate) lane: Lane,
}

/// Checks everything about a transaction that its signature does not show and its nonce does not hide.
pub(crate) fn admitted(
    market: &Market,
    tx: &SignedTx,
    now: Timestamp,
) -> Result<Admitted, SubmitError> {
    let expiry_max = now.unix_millis().saturating_add(millis(EXPIRY_MAX));
    let expires_at = tx.body.expires_at;
    if expires_at < now || expires_at.unix_millis() > expiry_max {
        return Err(SubmitError::Expiry);
    }
    let admission = market.admissible(&tx.body.signer, now)?;
    tx.body.call.check_shape()?;
    let lane = match admission.role {
        KeyRole::Machine(_) => Lane::Machine,
        _ => Lane::Common,
    };
    Ok(Admitted {
        expected: admission.next_nonce,
        lane,
    })
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filter, after, .. } = self;
        f.debug_struct("Subscription")
            .field("filter", filter)
            .field("after", after)
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Takes a transaction into the pool; taking it again is fine.
    ///
    /// # Errors
    /// [`SubmitError`]; the transaction was not taken.
    pub async fn submit(&self, tx: SignedTx) -> Result<TxId, SubmitError> {
        let bytes = tx.encode();
        if bytes.len() > TX_BYTES_MAX {
            return Err(SubmitError::TooLong { bytes: bytes.len() });
        }
        let id = TxId(market::Digest::of(&[&bytes]));
        if self.ledger.pool().contains(&id) {
            return Ok(id);
        }
        let Admitted { expected, lane } = self.read(|market| admitted(market, &tx, now()))?;
        if tx.body.nonce < expected {
            return match self.tx(&id).await? {
                Some(_) => Ok(id),
                None => Err(SubmitError::NonceUsed {
                    expected,
                    got: tx.body.nonce,
                }),
            };
        }
        // Last of the checks, because it is the dearest.
        tx.verify(&self.network)?;
        if self.ended.borrow().is_some() {
            return Err(SubmitError::Stopping);
        }
        self.ledger
            .pool()
            .insert(tx, id, bytes.len(), expected, lane)?;
        if let Some(outbox) = &self.outbox {
            // Where too many wait to be told to the others, this one waits for this node's turn.
            drop(outbox.try_send(bytes));
        }
        Ok(id)
    }

    /// Waits until a transaction is in a final block.
    ///
    /// # Errors
    /// [`WaitError::NotYet`] after `within`; the others at once.
    pub async fn receipt(&self, id: &TxId, within: Duration) -> Result<Included, WaitError> {
        let fate = self.ledger.await_fate(*id).ok_or(WaitError::TooMany)?;
        if let Some(included) = self.tx(id).await? {
            return self.followed(included, within).await;
        }
        if !self.ledger.pool().contains(id) {
            // It may have become final between the two looks.
            let included = self.tx(id).await?.ok_or(WaitError::Unknown)?;
            return self.followed(included, within).await;
        }
        let mut ended = self.ended.clone();
        tokio::select! {
            fate = tokio::time::timeout(within, fate) => match fate {
                Err(_) => Err(WaitError::NotYet),
                Ok(Ok(Fate::Included(included))) => Ok(included),
                Ok(Ok(Fate::Dropped)) => Err(WaitError::Dropped),
                Ok(Err(_)) => Err(WaitError::Stopping),
            },
            _ = ended.wait_for(Option::is_some) => Err(WaitError::Stopping),
        }
    }

    /// Waits until what is in the history already can be read in the state, which follows it.
    async fn followed(&self, included: Included, within: Duration) -> Result<Included, WaitError> {
        let (mut head, mut ended) = (self.head(), self.ended.clone());
        let follows = head.wait_for(|head| head.height >= included.height);
        tokio::select! {
            follows = tokio::time::timeout(within, follows) => match follows {
                Err(_) => Err(WaitError::NotYet),
                Ok(Err(_)) => Err(WaitError::Stopping),
                Ok(Ok(_)) => Ok(included),
            },
            _ = ended.wait_for(Option::is_some) => Err(WaitError::Stopping),
        }
    }

    /// Looks at the final state; keep it short, because following blocks waits meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&Market) -> T) -> T {
        self.ledger
            .read(look)
            .expect("a node hands out handles once its state is loaded")
    }

    /// Returns the nonce that a key's next transaction takes, after those that wait here.
    ///
    /// # Errors
    /// When the key may not send.
    pub fn next_nonce(&self, key: &PublicKey) -> Result<u64, Inadmissible> {
        let next = self.final_nonce(key, now())?;
        Ok(self.ledger.pool().next_nonce(key, next))
    }

    /// Returns the newest final block, and hears of each newer one.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.ledger.head()
    }

    /// Returns how the node stands.
    pub fn status(&self) -> Status {
        Status {
            network: self.network.clone(),
            group_key: self.group_key.to_vec(),
            head: *self.ledger.head().borrow(),
            pool_txs: self.ledger.pool().len(),
            validators: self.validators,
        }
    }

    /// Returns what a light client must know to verify this network's proofs.
    pub fn pinned(&self) -> light::Pinned {
        light::Pinned {
            network: self.network.as_str().to_owned(),
            group_key: self.group_key.to_vec(),
        }
    }

    /// Returns a transaction that is in a final block.
    ///
    /// # Errors
    /// A failed history.
    pub async fn tx(&self, id: &TxId) -> Result<Option<Included>, HistoryError> {
        let (history, id) = (self.ledger.history().clone(), *id);
        blocking(move || history.tx(&id)).await
    }

    /// Returns events after number `after` in order, at most `limit` and [`PAGE_MAX`], and where to go on.
    ///
    /// A page may be empty or short while more follow: go on until the second value does not move.
    ///
    /// # Errors
    /// A failed history.
    pub async fn events(
        &self,
        filter: Filter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Event>, Option<u64>), HistoryError> {
        // The history is ahead of the readable state for an instant; who hears of an event shall find what it says.
        let head = self.ledger.head().borrow().height;
        let history = self.ledger.history().clone();
        let page = blocking(move || history.events(&filter, after, limit)).await?;
        let (mut events, mut at) = page;
        let ahead = events.iter().position(|e| e.height.number() > head);
        if let Some(ahead) = ahead {
            at = events.get(ahead).and_then(|event| event.seq.checked_sub(1));
            events.truncate(ahead);
        }
        Ok((events, at))
    }

    /// Follows events after number `after` (all for `None`): what was first, then what comes.
    pub fn subscribe(&self, filter: Filter, after: Option<u64>) -> Subscription {
        Subscription {
            handle: self.clone(),
            filter,
            after,
            live: self.ledger.live(),
            ready: Vec::new().into_iter(),
            caught_up: false,
        }
    }

    /// Returns a bundle that proves the record of `key`, or that there is none, to any light client.
    ///
    /// # Errors
    /// [`ProofError`].
    pub async fn proof(&self, key: RecordKey) -> Result<Vec<u8>, ProofError> {
        self.ask(|reply| ProofRequest::Record(key, reply)).await
    }

    /// Returns the bytes of a final block, for [`read_block`](crate::read_block); `None` when it is pruned or not there.
    ///
    /// # Errors
    /// [`ProofError::Stopping`].
    pub async fn block(&self, height: u64) -> Result<Option<Vec<u8>>, ProofError> {
        self.ask(|reply| ProofRequest::Block(height, reply)).await
    }

    /// Returns the engine's metrics in Prometheus' text format.
    ///
    /// # Errors
    /// [`ProofError::Stopping`].
    pub async fn metrics(&self) -> Result<String, ProofError> {
        self.ask(ProofRequest::Metrics).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(Reply<T>) -> ProofRequest,
    ) -> Result<T, ProofError> {
        let (reply, answer) = oneshot::channel();
        self.proofs
            .send(request(reply))
            .await
            .map_err(|_| ProofError::Stopping)?;
        answer.await.map_err(|_| ProofError::Stopping)?
    }

    /// Waits until the node no longer runs.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        why.ok()
            .and_then(|why| why.clone())
            .unwrap_or(Ended::Stopped)
    }

    fn final_nonce(&self, key: &PublicKey, now: Timestamp) -> Result<u64, Inadmissible> {
        self.read(|market| market.admissible(key, now))
            .map(|admission| admission.next_nonce)
    }
}

/// Events as they become final, from any point on, without gaps or repeats.
///
/// A subscriber that is slower than the ledger loses nothing: it reads on from the history.
pub struct Subscription {
    handle: Handle,
    filter: Filter,
    after: Option<u64>,
    live: broadcast::Receiver<Arc<FinalBlock>>,
    ready: std::vec::IntoIter<Event>,
    caught_up: bool,
}

impl Subscription {
    /// Returns the number up to which all that is wanted was handed out, unless [`Self::next`] still has some ready.
    pub const fn position(&self) -> Option<u64> {
        self.after
    }

    /// Waits for the next event; `None` when the node has stopped.
    ///
    /// Cancelling the wait loses nothing.
    ///
    /// # Errors
    /// A failed history.
    pub async fn next(&mut self) -> Result<Option<Event>, HistoryError> {
        loop {
            if let Some(event) = self.ready.next() {
                return Ok(Some(event));
            }
            if !self.caught_up {
                self.read_history().await?;
                continue;
            }
            match self.live.recv().await {
                Ok(block) => self.take(&block),
                Err(broadcast::error::RecvError::Lagged(_)) => self.caught_up = false,
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    async fn read_history(&mut self) -> Result<(), HistoryError> {
        // From here on live blocks are collected, so nothing falls between the page and them.
        let fresh = self.handle.ledger.live();
        let page = self
            .handle
            .events(self.filter.clone(), self.after, PAGE_MAX)
            .await?;
        let (events, after) = page;
        if after == self.after {
            self.caught_up = true;
        }
        self.live = fresh;
        self.after = after;
        self.ready = events.into_iter();
        if self.caught_up {
            // What became final between the two lines above is in the history already.
            let (events, after) = self
                .handle
                .events(self.filter.clone(), self.after, PAGE_MAX)
                .await?;
            self.caught_up = after == self.after;
            self.after = after;
            self.ready = events.into_iter();
        }
        Ok(())
    }

    fn take(&mut self, block: &FinalBlock) {
        let all = block.events.iter().zip(&block.about);
        let new = all.filter(|(event, _)| self.after.is_none_or(|at| event.seq > at));
        let wanted: Vec<Event> = new
            .filter(|(event, about)| self.filter.fits(event, about))
            .map(|(event, _)| event.clone())
            .collect();
        if let Some(last) = block.events.last() {
            self.after = self.after.max(Some(last.seq));
        }
        self.ready = wanted.into_iter();
    }
}

/// Runs a query where it may block.
async fn blocking<T: Send + 'static>(
    query: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    tokio::task::spawn_blocking(query)
        .await
        .map_err(|_| HistoryError::Stopped)?
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Timestamp::from_unix_millis(millis(since))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
