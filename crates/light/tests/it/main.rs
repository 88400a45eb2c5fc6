//! A bundle that a node once handed out stays verifiable: its bytes are a contract with every light client.

use light::{Bundle, Pinned, Refused, verify};

fn pinned() -> Pinned {
    Pinned {
        network: "test".to_owned(),
        group_key: hex::decode(GROUP_KEY).expect("the constant is hexadecimal"),
    }
}

#[test]
fn golden_bundle_verifies_and_encodes_to_itself() {
    let bytes = hex::decode(BUNDLE).unwrap();
    let verified = verify(&bytes, &pinned()).unwrap();
    assert_eq!((verified.height, verified.time_ms), (HEIGHT, TIME_MS));
    assert_eq!(hex::encode(verified.key), KEY);
    assert!(verified.value.is_some_and(|value| !value.is_empty()));
    assert_eq!(Bundle::from_bytes(&bytes).unwrap().to_bytes(), bytes);
}

#[test]
fn age_is_measured_from_the_block_time() {
    let verified = verify(&hex::decode(BUNDLE).unwrap(), &pinned()).unwrap();
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
const GROUP_KEY: &str = "\
    851c950bea3bc9c104d368a36d7f7f59271bdd58f34ffed935ee3e0bf04d249ce6f0c656cede2d3a60576139\
    1ea53b3f14c79af01c0f11e86a3f40e1e083ba7f2cfaa842fac89602b8ac01f0c503c699eaa2f8b99d5f1c2c\
    c31e8d3e09700f50";
const BUNDLE: &str = "\
    01000201e69403a958b33b94259c0f5cd313173729b9d25fe3728bdb8cc97fdf5e577772ac84f10c149c9090\
    5d08d590cba744fef65a1c660779d9449b4744271bdc329afe8b25f7a6b1bbb2938b187c425d136fa33c53f9\
    4de3ab92918a8cf91214e1de87061f5bae929e7561922a46850dbe5c164e422abd947bdc2b49491d5f7552c1\
    01010002ce273610f182af47bf2d9b11aaa503f8608a5b6e935f1e7621d72a0b21f53e9a0116c561f5b793b3\
    1f4f29aa3dc0eac29e34da6319226ab8e821372ba6b69cbe0f02000001a209ebd9bccff87a4fa0c539b36a82\
    37ba0e7a460001b8e55ffe8256cfa94e220cc32d3de3a5931096bc607996e92f9e0a1f7ae94a5154e23bdf74\
    4993d791ed533d6d4b4af36ea2d52bcb62406fe9d5972f507c88a14c3458aee7018410562021084613d26434\
    2c3b1773cd8f4050dbe3e894b5bfa295bc685e4b761f73c3cded866fc11b000f01872d14a7b49dd2d4ccc8af\
    4d56eecfd4c466a6b3d87714a13c2fd4ff6dec8d364860e097f20887f7d81384084447604b00320bb87944f0\
    088b3b0e13c456014fecc6ebe6ddaee6247afff54e4fdb80e3a549026e7a1cdd29b0b78fd13af4c5598feff4\
    ef2a97166e3ca6f2e4fbfccd80505bf100e1f505000000000000000000000000000000000000000000000000\
    00000000bcd9eb09a201000008007f0000000000000000000000000000000000000000000000000000000000\
    000f000473f3ae00abb415ae5fb4b7897f5704e73b43d2863ffe68d1d04386e63f818fc115c3c11213aac53e\
    3290eb4d666e7e6d6ee96b1dd6290e3162c30b7a8b11d6053b2b17e83856817f8afd8e962f36991b31edf5fa\
    97c15294602fdcca6bfe043efad3c60c7f8bddc609d0774e54a39e80a1a1028c20ca66b24c7c46e209824b0a\
    013915c92132b04e079645e28e3e24a011b5272e90e6dca753a660896961c3ffd064342c3b1773cd8f4050db\
    e3e894b5bfa295bc685e4b761f73c3cded866fc11b682e7eb19beaddaae91ba4ed61d458fb429771b070b545\
    277e890b4dedccfff8";
