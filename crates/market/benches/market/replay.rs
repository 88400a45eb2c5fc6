//! Replay: blocks as they are stored, read and executed again on a fresh market, which must end with the same records.

use market::*;

use crate::{
    crowd::{BLOCK_TXS, START_MS, genesis, key},
    figures::{Figures, Took, time},
    life::{Act, Life},
};

/// People whose deeds are replayed.
const PEOPLE: usize = 5_000;
/// Block time between two blocks: 20,000 operations a second.
const STEP: Millis = Millis::from_millis(200);
/// How long ended things stay.
const RETENTION: Millis = Millis::from_secs(60);

pub(crate) fn measure(figures: &mut Figures, ops: usize) {
    let make = || Market::genesis(&genesis(RETENTION)).expect("a valid genesis");
    let (mut lived, mut replayed) = (make(), make());
    let (mut life, acts) = Life::new(PEOPLE, Timestamp::from_unix_millis(START_MS), key);
    let mut acts = acts.into_iter();
    let (mut done, mut rejected) = (0, 0);
    let mut took = Took::default();
    while done < ops {
        let txs: Vec<SignedTx> = (0..BLOCK_TXS)
            .map(|_| signed(acts.next().unwrap_or_else(|| life.next())))
            .collect();
        let ctx = BlockCtx {
            height: lived.height().next(),
            time: lived.time().after(STEP),
            seed: None,
        };
        let outcome = lived.execute(&ctx, &txs).expect("an admissible block");
        lived.forget_before(ctx.height.next());
        rejected += outcome
            .receipts
            .iter()
            .filter(|receipt| receipt.result.is_err())
            .count();
        let stored: Vec<Vec<u8>> = txs.iter().map(SignedTx::encode).collect();
        let (again, one) = time(|| replay(&mut replayed, &ctx, &stored));
        assert!(again == outcome, "a replayed block does what the block did");
        took += one;
        done += txs.len();
    }
    assert!(
        root(&lived) == root(&replayed),
        "the replayed market has the same records"
    );
    figures.put("replay_ops", done as f64);
    figures.put(
        "replay_rejected_percent",
        100.0 * rejected as f64 / done as f64,
    );
    figures.put_rate("replay_ops", done, took);
    figures.put(
        "replay_10m_ops_s",
        1e7 * took.wall.as_secs_f64() / done as f64,
    );
}

fn replay(market: &mut Market, ctx: &BlockCtx, stored: &[Vec<u8>]) -> BlockOutcome {
    let txs: Vec<SignedTx> = stored
        .iter()
        .map(|bytes| SignedTx::decode(bytes).expect("stored bytes decode"))
        .collect();
    let outcome = market.execute(ctx, &txs).expect("the block was admissible");
    market.forget_before(ctx.height.next());
    outcome
}

fn signed((number, nonce, call): Act) -> SignedTx {
    let body = TxBody {
        signer: key(number),
        nonce,
        expires_at: Timestamp::MAX,
        call,
    };
    SignedTx {
        version: codec::TX_VERSION,
        body,
        signature: Signature([7; 64]),
    }
}

/// Returns a digest of every record.
fn root(market: &Market) -> Digest {
    let records: std::collections::BTreeMap<RecordKey, Vec<u8>> = market.records().collect();
    records
        .iter()
        .fold(Digest::default(), |root, (key, bytes)| {
            Digest::of(&[&root.0, &key.0, bytes])
        })
}
