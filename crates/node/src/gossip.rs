//! Waiting transactions among validators, so that one need not wait for its own node's turn to propose.
//!
//! What a node admits itself goes to every connected validator once, in batches; what comes from others is checked like
//! what is submitted here, put into the pool, and not passed on: all validators are connected with each other. A batch
//! that is lost costs a transaction some time, never its place.
//!
//! A peer that sends what no honest one does (bytes that are no batch, a signature that does not fit) is cut off.

use std::time::Duration;

use commonware_p2p::{Blocker as _, Receiver as _, Recipients, Sender as _};
use commonware_runtime::{Clock as _, tokio::Context};
use light::Validator;
use market::{
    NetworkName, SignedTx,
    codec::{TX_BYTES_MAX, TxId},
};
use tokio::sync::mpsc;

use crate::{
    app::now_ms,
    handle::{Admitted, admitted},
    ledger::Ledger,
    peers::{AnyBlocker, AnyReceiver, AnySender},
};

/// Version of a batch, its first byte.
const VERSION: u8 = 1;
/// Most bytes of a batch: far below what a message may have, so that votes do not wait behind it.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of a length before each transaction.
const LENGTH_BYTES: usize = 4;
/// Gathers what comes in quick succession; keeps one node below what it may send in a second.
const GATHER: Duration = Duration::from_millis(20);
/// Transactions that may wait to be sent; more wait for their own node's turn.
pub(crate) const OUTBOX_MAX: usize = 8_192;

/// Sends what is admitted here to the others.
pub(crate) async fn send(
    clock: Context,
    mut sender: AnySender,
    mut outbox: mpsc::Receiver<Vec<u8>>,
) {
    let mut next = outbox.recv().await;
    while let Some(first) = next.take() {
        clock.sleep(GATHER).await;
        let mut batch = vec![VERSION];
        push(&mut batch, &first);
        while let Ok(tx) = outbox.try_recv() {
            if batch.len() + LENGTH_BYTES + tx.len() > BATCH_BYTES_MAX {
                next = Some(tx);
                break;
            }
            push(&mut batch, &tx);
        }
        // Nobody connected, or too much at once: they wait for this node's turn.
        drop(sender.send(Recipients::All, batch, false));
        if next.is_none() {
            next = outbox.recv().await;
        }
    }
}

/// Takes what others admitted.
pub(crate) struct Inbox {
    pub(crate) ledger: Ledger,
    pub(crate) network: NetworkName,
    pub(crate) blocker: AnyBlocker,
}

impl Inbox {
    /// Runs until the network ends.
    pub(crate) async fn run(mut self, clock: Context, mut receiver: AnyReceiver) {
        while let Ok((peer, message)) = receiver.recv().await {
            let bytes: &[u8] = message.as_ref();
            if let Err(why) = self.take(bytes, now_ms(&clock)) {
                self.cut_off(peer, why);
            }
        }
    }

    fn cut_off(&mut self, peer: Validator, why: &'static str) {
        tracing::warn!(%peer, why, "a batch of transactions that no honest validator sends");
        // Refused only by a network that has ended.
        let _: commonware_actor::Feedback = self.blocker.block(peer);
    }

    fn take(&self, batch: &[u8], now_ms: u64) -> Result<(), &'static str> {
        for bytes in split(batch)? {
            let id = TxId(market::Digest::of(&[bytes]));
            if self.ledger.pool().contains(&id) {
                continue;
            }
            let tx = SignedTx::decode(bytes).map_err(|_| "a transaction is malformed")?;
            let now = market::Timestamp::from_unix_millis(now_ms);
            let looked = self.ledger.read(|market| admitted(market, &tx, now));
            // What may not be sent any more, or not yet, may be so by a block that only one of us has.
            let Some(Ok(Admitted { expected, lane })) = looked else {
                continue;
            };
            if tx.body.nonce < expected {
                continue;
            }
            tx.verify(&self.network)
                .map_err(|_| "a signature does not fit")?;
            // A full pool refuses; the sender has it still.
            let _taken = self
                .ledger
                .pool()
                .insert(tx, id, bytes.len(), expected, lane);
        }
        Ok(())
    }
}

fn push(batch: &mut Vec<u8>, tx: &[u8]) {
    // A transaction has at most some kilobytes.
    let length = u32::try_from(tx.len()).unwrap_or(u32::MAX);
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(tx);
}

/// Returns the transactions of a batch.
fn split(batch: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    let malformed = "it is malformed";
    let Some((&VERSION, mut rest)) = batch.split_first() else {
        return Err(malformed);
    };
    if batch.len() > BATCH_BYTES_MAX {
        return Err("it is too long");
    }
    let mut all = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<LENGTH_BYTES>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| malformed)?;
        if length == 0 || length > TX_BYTES_MAX {
            return Err(malformed);
        }
        let (tx, tail) = tail.split_at_checked(length).ok_or(malformed)?;
        all.push(tx);
        rest = tail;
    }
    rest.is_empty().then_some(all).ok_or(malformed)
}
