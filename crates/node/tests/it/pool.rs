//! The pool by itself: who gets in when it is full, and what a block may take.

#[path = "../../src/pool.rs"]
#[expect(
    dead_code,
    unreachable_pub,
    reason = "the node uses and shows more of it than these tests"
)]
mod inner;

use inner::{BYTES_MAX, GAPPED_MAX, KEY_BYTES_MAX, Lane, Pool, PoolFull};
use market::{
    AccountId, Digest, Money, PublicKey, Signature, SignedTx, Timestamp, Tx, TxBody,
    codec::{TX_VERSION, TxId},
};

fn key(n: u16) -> PublicKey {
    let [a, b] = n.to_le_bytes();
    let mut bytes = [0; 32];
    (bytes[0], bytes[1]) = (a, b);
    PublicKey::from_bytes(bytes)
}

fn tx(key: PublicKey, nonce: u64, expires_at: u64) -> SignedTx {
    let body = TxBody {
        signer: key,
        nonce,
        expires_at: Timestamp::from_unix_millis(expires_at),
        call: Tx::PostBond {
            amount: Money::from_micros(1),
        },
    };
    SignedTx {
        version: TX_VERSION,
        body,
        signature: Signature([0; 64]),
    }
}

fn id(key: PublicKey, nonce: u64) -> TxId {
    TxId(Digest::of(&[
        AccountId::of(key).owner_key().as_bytes(),
        &nonce.to_le_bytes(),
    ]))
}

fn put(pool: &Pool, n: u16, nonce: u64, bytes: usize, lane: Lane) -> Result<(), PoolFull> {
    let key = key(n);
    pool.insert(tx(key, nonce, u64::MAX), id(key, nonce), bytes, 0, lane)
}

#[test]
fn few_wait_behind_a_missing_nonce() {
    let pool = Pool::default();
    let last = u64::try_from(GAPPED_MAX).unwrap();
    for nonce in 1..=last {
        put(&pool, 1, nonce, 100, Lane::Common).unwrap();
    }
    let more = put(&pool, 1, last + 1, 100, Lane::Common);
    assert_eq!(more, Err(PoolFull::Key));
    put(&pool, 1, 0, 100, Lane::Common).unwrap();
    put(&pool, 1, last + 1, 100, Lane::Common).unwrap();
    assert_eq!(pool.len(), GAPPED_MAX + 2);
}

#[test]
fn a_key_has_a_bound_of_bytes_that_is_freed_as_blocks_take_them() {
    let pool = Pool::default();
    put(&pool, 1, 0, KEY_BYTES_MAX, Lane::Common).unwrap();
    assert_eq!(
        put(&pool, 1, 1, 1, Lane::Common),
        Err(PoolFull::Key),
        "no byte is left"
    );
    let first = tx(key(1), 0, u64::MAX);
    let time = Timestamp::from_unix_millis(1);
    pool.finalized(1, time, [(&first, id(key(1), 0))]);
    put(&pool, 1, 1, KEY_BYTES_MAX, Lane::Common).unwrap();
}

#[test]
fn machines_get_in_when_the_others_have_filled_the_pool() {
    let pool = Pool::default();
    let keys = u16::try_from(BYTES_MAX / KEY_BYTES_MAX).unwrap();
    let taken = (0..keys)
        .filter(|n| put(&pool, *n, 0, KEY_BYTES_MAX, Lane::Common).is_ok())
        .count();
    assert_eq!(taken, usize::from(keys) / 4 * 3);
    for n in 0..keys / 4 {
        put(&pool, 1_000 + n, 0, KEY_BYTES_MAX, Lane::Machine).unwrap();
    }
    let more = put(&pool, 2_000, 0, KEY_BYTES_MAX, Lane::Machine);
    assert_eq!(more, Err(PoolFull::Pool));
}

#[test]
fn a_full_pool_drops_what_waits_behind_a_missing_nonce_first() {
    let pool = Pool::default();
    let keys = u16::try_from(BYTES_MAX / KEY_BYTES_MAX / 4 * 3).unwrap();
    for n in 0..keys {
        put(&pool, n, 1, KEY_BYTES_MAX, Lane::Common).unwrap();
    }
    assert_eq!(
        put(&pool, 1_000, 1, 100, Lane::Common),
        Err(PoolFull::Pool),
        "one more with a gap drops nothing"
    );
    put(&pool, 1_000, 0, 100, Lane::Common).unwrap();
    assert_eq!(pool.len(), 1);
    let none: [(&SignedTx, TxId); 0] = [];
    let dropped = pool.finalized(1, Timestamp::from_unix_millis(1), none);
    assert_eq!(dropped.len(), usize::from(keys), "who waits for them hears");
}

#[test]
fn a_block_takes_nothing_that_has_expired() {
    let pool = Pool::default();
    for (nonce, expires_at) in [(0, 1_000), (1, 499), (2, 1_000)] {
        let tx = tx(key(1), nonce, expires_at);
        pool.insert(tx, id(key(1), nonce), 100, 0, Lane::Common)
            .unwrap();
    }
    let time = Timestamp::from_unix_millis(500);
    let picked = pool.pick(1, time, (10, 10_000), |_| Some(0));
    assert_eq!(picked.len(), 1);
    assert!(!pool.contains(&id(key(1), 1)));
    pool.mark_proposed(1, [&*picked[0]]);
    assert!(!pool.has_work(), "nonce 2 waits behind the gap");
    let first = tx(key(1), 0, 1_000);
    let dropped = pool.finalized(1, time, [(&first, id(key(1), 0))]);
    assert_eq!(dropped, [id(key(1), 1)]);
}
