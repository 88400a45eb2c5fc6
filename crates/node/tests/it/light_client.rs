//! What a light client accepts from a node, and what it refuses.

use light::{Pinned, Refused};
use market::{RecordId, RecordKey};
use node::{Handle, Node};

use crate::world::{account, apply, fresh_key, issue, now, start};

/// A node with one account, the key of its record, and a proof of it.
async fn proved() -> (tempfile::TempDir, Node, Handle, RecordKey, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let node = start(folder.path()).await;
    let handle = node.handle();
    let alice = fresh_key();
    apply(&handle, issue(0, account(&alice), 100)).await;
    let key = RecordId::Account(account(&alice)).key();
    let bundle = handle.proof(key).await.unwrap();
    (folder, node, handle, key, bundle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn record_is_proved_with_the_group_key_alone() {
    let (_folder, node, handle, key, bundle) = proved().await;
    println!("bundle of {} bytes", bundle.len());
    let verified = light::verify(&bundle, &handle.pinned()).unwrap();
    assert_eq!(verified.key, key.0);
    let stored = handle.read(|market| {
        market
            .records()
            .find(|(at, _)| *at == key)
            .map(|(_, value)| value)
    });
    assert_eq!(verified.value, stored);
    assert!(verified.height >= 1);
    assert!(verified.require_fresh(now(), 60_000).is_ok());
    assert!(verified.require_fresh(now() + 120_000, 60_000).is_err());
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absence_of_a_record_is_proved() {
    let (_folder, node, handle, _, _) = proved().await;
    for fill in [0, 1, 0x7f, 0xff] {
        let key = RecordKey([fill; 32]);
        let bundle = handle.proof(key).await.unwrap();
        let verified = light::verify(&bundle, &handle.pinned()).unwrap();
        assert_eq!((verified.key, verified.value), (key.0, None));
    }
    node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_flipped_bit_and_each_truncation_of_a_bundle_is_refused() {
    let (_folder, node, handle, key, bundle) = proved().await;
    let absent = handle.proof(RecordKey([0x55; 32])).await.unwrap();
    let pinned = handle.pinned();
    node.stop().await.unwrap();
    for (bundle, wanted) in [(bundle, key), (absent, RecordKey([0x55; 32]))] {
        let honest = light::verify(&bundle, &pinned).unwrap();
        for at in 0..bundle.len() {
            let mut forged = bundle.clone();
            forged[at] ^= 1 << (at % 8);
            // A proof of absence holds for every key in the gap; whoever asked compares the key.
            if let Ok(other) = light::verify(&forged, &pinned) {
                assert!(honest.value.is_none(), "byte {at} changes nothing");
                assert_ne!(other.key, wanted.0, "byte {at} changes nothing");
            }
            assert!(
                light::verify(&bundle[..at], &pinned).is_err(),
                "{at} bytes are enough"
            );
        }
        let longer = [bundle.as_slice(), &[0]].concat();
        assert!(matches!(
            light::verify(&longer, &pinned),
            Err(Refused::Malformed(_))
        ));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_networks_other_keys_and_huge_bundles_are_refused() {
    let (_folder, node, handle, _, bundle) = proved().await;
    let pinned = handle.pinned();
    node.stop().await.unwrap();
    let other = Pinned {
        network: "other".to_owned(),
        ..pinned.clone()
    };
    assert!(matches!(
        light::verify(&bundle, &other),
        Err(Refused::Certificate { .. })
    ));
    let (_folder, node, handle, _, _) = proved().await;
    let stranger = handle.pinned();
    node.stop().await.unwrap();
    assert!(matches!(
        light::verify(&bundle, &stranger),
        Err(Refused::Certificate { .. })
    ));
    let none = Pinned {
        group_key: vec![0; 96],
        ..pinned.clone()
    };
    assert!(matches!(
        light::verify(&bundle, &none),
        Err(Refused::GroupKey)
    ));
    let huge = vec![1; light::BUNDLE_BYTES_MAX + 1];
    assert!(matches!(
        light::verify(&huge, &pinned),
        Err(Refused::TooLong { .. })
    ));
}
