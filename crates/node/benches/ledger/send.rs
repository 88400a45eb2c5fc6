//! Signing a load in advance, and sending it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use market::{codec::TxId, *};
use node::{Handle, SubmitError, WaitError};

use crate::{
    BATCH,
    life::{Act, Life},
};

/// Wait before what did not fit is sent again.
const AGAIN: Duration = Duration::from_millis(2);
/// Longest wait for anything to become final.
const FINAL_MAX: Duration = Duration::from_mins(2);
/// Tasks that submit: one for each core.
const TASKS: u64 = 2;

/// Signed transactions, encoded, each with the number of the person whose it is.
pub(crate) type Load = Arc<[(u64, Vec<u8>)]>;

/// Makes and signs the load.
pub(crate) struct Sender {
    keys: Vec<SigningKey>,
    life: Life,
    set_up: Vec<Act>,
    expires_at: Timestamp,
}

pub(crate) fn network() -> NetworkName {
    NetworkName::parse("bench").expect("a valid name")
}

/// Returns the key of this number; the first is the treasurer's.
pub(crate) fn secret(number: usize) -> SigningKey {
    SigningKey::from_bytes(&Digest::of(&[b"bench key", &number.to_le_bytes()]).0)
}

impl Sender {
    pub(crate) fn new(people: usize, born: Timestamp) -> Self {
        let keys: Vec<SigningKey> = (0..=3 * people).map(secret).collect();
        let (life, set_up) = Life::new(people, born, |n| PublicKey::of(&keys[n as usize]));
        Self {
            keys,
            life,
            set_up,
            expires_at: born.after(Millis::from_secs(12 * 3_600)),
        }
    }

    pub(crate) fn treasurer(&self) -> PublicKey {
        PublicKey::of(&self.keys[0])
    }

    /// Signs what must be final first, in waves: a key may send only once its account or machine is there.
    pub(crate) fn sign_set_up(&mut self) -> [Load; 3] {
        let mut waves: [Vec<(u64, Vec<u8>)>; 3] = Default::default();
        for act in std::mem::take(&mut self.set_up) {
            let wave = match act.2 {
                Tx::Issue { .. } => 0,
                Tx::Beat(_) => 2,
                _ => 1,
            };
            waves[wave].push(self.sign_one(act));
        }
        waves.map(Arc::from)
    }

    pub(crate) fn sign(&mut self, count: usize) -> Load {
        let acts: Vec<Act> = (0..count).map(|_| self.life.next()).collect();
        acts.into_iter().map(|act| self.sign_one(act)).collect()
    }

    fn sign_one(&self, (number, nonce, call): Act) -> (u64, Vec<u8>) {
        let key = &self.keys[number as usize];
        let body = TxBody {
            signer: PublicKey::of(key),
            nonce,
            expires_at: self.expires_at,
            call,
        };
        // Three keys a person; the treasurer's comes before them.
        let person = number.saturating_sub(1) / 3;
        (person, body.sign(&network(), key).encode())
    }
}

/// Sends everything as fast as the node takes it, and waits until all is final. Returns how many it did not take.
pub(crate) async fn saturate(handle: &Handle, txs: &Load) -> usize {
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| (task, handle.clone(), Arc::clone(txs)))
        .map(|(task, handle, txs)| {
            tokio::spawn(async move {
                let mut last = None;
                // By person: a nonce that overtook another would be the first to go from a full pool.
                let mine = txs.iter().filter(|(person, _)| person % TASKS == task);
                let mine: Vec<&[u8]> = mine.map(|(_, bytes)| bytes.as_slice()).collect();
                for batch in mine.chunks(BATCH) {
                    last = submit(&handle, batch).await.or(last);
                }
                last
            })
        })
        .collect();
    for task in tasks {
        let last = task.await.expect("submitting does not panic");
        is_final(handle, last).await;
    }
    let empty = async {
        while handle.status().pool_txs > 0 {
            tokio::time::sleep(AGAIN).await;
        }
    };
    drop(tokio::time::timeout(FINAL_MAX, empty).await);
    handle.status().pool_txs
}

/// Submits a batch in order, waiting while the pool is full; returns the last one's id.
pub(crate) async fn submit(handle: &Handle, batch: &[&[u8]]) -> Option<TxId> {
    let mut last = None;
    for bytes in batch {
        let tx = SignedTx::decode(bytes).expect("we encoded it");
        loop {
            match handle.submit(tx.clone()).await {
                Ok(id) => last = Some(id),
                Err(SubmitError::Full(_)) => {
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
                Err(why) => panic!("the node refuses the load: {why}"),
            }
            break;
        }
    }
    last
}

/// Waits until a transaction is final.
pub(crate) async fn is_final(handle: &Handle, id: Option<TxId>) {
    let Some(id) = id else { return };
    match handle.receipt(&id, FINAL_MAX).await {
        Ok(_) => {}
        Err(why @ (WaitError::NotYet | WaitError::Dropped)) => panic!("not final: {why}"),
        Err(why) => panic!("no receipt: {why}"),
    }
}

/// Sends batches of `size`, `per_s` transactions a second. Returns how long each took: from handing it over until its
/// last transaction was final and could be read.
pub(crate) async fn steadily(
    handle: &Handle,
    txs: &Load,
    size: usize,
    per_s: usize,
) -> Vec<Duration> {
    let step = Duration::from_secs(1) * size as u32 / per_s as u32;
    let start = Instant::now();
    let mut waits = Vec::new();
    for (batch, n) in txs.chunks(size).zip(0u32..) {
        tokio::time::sleep_until((start + step * n).into()).await;
        let (handle, batch) = (handle.clone(), batch.to_vec());
        waits.push(tokio::spawn(async move {
            let batch: Vec<&[u8]> = batch.iter().map(|(_, bytes)| bytes.as_slice()).collect();
            let begin = Instant::now();
            let last = submit(&handle, &batch).await;
            is_final(&handle, last).await;
            begin.elapsed()
        }));
    }
    let mut times = Vec::new();
    for wait in waits {
        times.push(wait.await.expect("the batch becomes final"));
    }
    times
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_millis(since.as_millis() as u64)
}
