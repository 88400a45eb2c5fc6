//! A bundle that a node once handed out stays verifiable: its bytes are a contract with every light client.

use light::{Bundle, Pinned, Refused, verify};

/// Pinned bytes, one kind a line.
const GOLDEN: &str = include_str!("golden.txt");

fn golden(kind: &str) -> Vec<u8> {
    let mut lines = GOLDEN.lines().filter_map(|line| line.split_once(": "));
    let hex = lines
        .find(|(name, _)| *name == kind)
        .expect("a pinned kind")
        .1;
    hex::decode(hex).expect("hexadecimal")
}

fn pinned() -> Pinned {
    Pinned {
        network: "test".to_owned(),
        group_key: golden("group key"),
    }
}

#[test]
fn golden_bundle_verifies_and_encodes_to_itself() {
    let bytes = golden("bundle");
    let verified = verify(&bytes, &pinned()).unwrap();
    assert_eq!((verified.height, verified.time_ms), (HEIGHT, TIME_MS));
    assert_eq!(hex::encode(verified.key), KEY);
    assert!(verified.value.is_some_and(|value| !value.is_empty()));
    assert_eq!(Bundle::from_bytes(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn age_is_measured_from_the_block_time() {
    let verified = verify(&golden("bundle"), &pinned()).unwrap();
    assert!(verified.require_fresh(TIME_MS + 5_000, 5_000).is_ok());
    let stale = verified.require_fresh(TIME_MS + 5_001, 5_000).unwrap_err();
    assert_eq!((stale.age_ms, stale.max_age_ms), (5_001, 5_000));
    // A clock that is behind the ledger's does not make the proof old.
    assert!(verified.require_fresh(TIME_MS - 1, 0).is_ok());
}

#[test]
fn random_bytes_are_refused_without_a_panic() {
    let mut state = 1u64;
    for len in 0..2_000usize {
        let bytes: Vec<u8> = (0..len)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_le_bytes()[5]
            })
            .collect();
        assert!(
            matches!(verify(&bytes, &pinned()), Err(Refused::Malformed(_))),
            "{len} bytes"
        );
    }
}

const HEIGHT: u64 = 2;
const TIME_MS: u64 = 1_795_462_781_372;
const KEY: &str = "320bb87944f0088b3b0e13c456014fecc6ebe6ddaee6247afff54e4fdb80e3a5";
