//! What the tests share: a network, its keys, and transactions.

use std::{
    path::Path,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ed25519_dalek::SigningKey;
use market::{
    AccountId, Digest, Genesis, Money, NetworkName, Params, PublicKey, SignedTx, Timestamp, Tx,
    TxBody, codec::TxId,
};
use node::{Config, Handle, Included, Node};

/// Longest wait for anything in a test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn network() -> NetworkName {
    NetworkName::parse("test").unwrap()
}

pub(crate) fn treasurer() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

/// Returns a key that no other call returned.
pub(crate) fn fresh_key() -> SigningKey {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    SigningKey::from_bytes(&[NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        network: network(),
        time: Timestamp::from_unix_millis(1_790_000_000_000),
        treasurers: vec![PublicKey::of(&treasurer())],
        params: Params::default(),
    }
}

pub(crate) async fn start(folder: &Path) -> Node {
    Node::start(Config {
        folder: folder.to_owned(),
        genesis: Some(genesis()),
        listen_peers: None,
    })
    .await
    .unwrap()
}

pub(crate) fn account(key: &SigningKey) -> AccountId {
    AccountId::of(PublicKey::of(key))
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
        .try_into()
        .unwrap()
}

pub(crate) fn sign(key: &SigningKey, nonce: u64, call: Tx) -> SignedTx {
    let expires_at = Timestamp::from_unix_millis(now() + 600_000);
    TxBody {
        signer: PublicKey::of(key),
        nonce,
        expires_at,
        call,
    }
    .sign(&network(), key)
}

pub(crate) fn issue(nonce: u64, to: AccountId, dollars: u64) -> SignedTx {
    let reference = Digest::of(&[&nonce.to_le_bytes()]);
    let amount = Money::from_dollars(dollars);
    sign(
        &treasurer(),
        nonce,
        Tx::Issue {
            to,
            amount,
            reference,
        },
    )
}

pub(crate) fn transfer(from: &SigningKey, nonce: u64, to: AccountId, micros: u64) -> SignedTx {
    let amount = Money::from_micros(micros);
    sign(
        from,
        nonce,
        Tx::Transfer {
            to,
            amount,
            memo: None,
        },
    )
}

/// Submits and waits until it is final and had its effect.
pub(crate) async fn apply(handle: &Handle, tx: SignedTx) -> Included {
    let id = handle.submit(tx).await.unwrap();
    let included = included(handle, &id).await;
    assert_eq!(included.result, Ok(()), "transaction {id} was rejected");
    included
}

pub(crate) async fn included(handle: &Handle, id: &TxId) -> Included {
    handle.receipt(id, PATIENCE).await.unwrap()
}

/// Returns a key that is the same in every process of a test.
pub(crate) fn fixed_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[100 + number; 32])
}

/// Opens accounts with 1,000 dollars each, unless they are open.
pub(crate) async fn open_accounts(handle: &Handle, keys: &[&SigningKey]) {
    for key in keys {
        let is_open = handle.read(|market| market.account(account(key)).is_some());
        if !is_open {
            let nonce = handle.next_nonce(&PublicKey::of(&treasurer())).unwrap();
            apply(handle, issue(nonce, account(key), 1_000)).await;
        }
    }
}
