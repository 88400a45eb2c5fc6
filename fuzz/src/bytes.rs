//! Canonical bytes: what decodes must encode back to the same bytes.

use api::envelope::{JobKey, SaltedManifest, SealContext, SealSecret, SealedJob, system_rng};
use api::manifest::{Manifest, SecretText};
use market::codec::encode;
use market::{
    Digest, Market, NetworkName, PublicKey, Record, Signature, SignedGrant, SignedTx, Timestamp,
    Tx, TxBody,
};

/// The market's pinned encodings, one a line: what it is, a colon, hexadecimal bytes.
const MARKET: &str = include_str!("../../crates/market/tests/it/golden.txt");
/// The light client's.
const LIGHT: &str = include_str!("../../crates/light/tests/it/golden.txt");

fn golden(lines: &'static str, kind: &'static str) -> impl Iterator<Item = Vec<u8>> {
    lines.lines().filter_map(move |line| {
        let (what, hex) = line.split_once(": ")?;
        what.starts_with(kind)
            .then(|| api::view::text::parse_hex(hex))?
    })
}

fn network() -> NetworkName {
    NetworkName::parse("fuzz").expect("a valid name")
}

pub(crate) fn transaction(bytes: &[u8]) {
    let Ok(tx) = SignedTx::decode(bytes) else {
        return;
    };
    assert_eq!(tx.encode(), bytes, "one transaction, two spellings");
    assert!(
        tx.verify(&network()).is_err(),
        "nobody signed for this network"
    );
    drop(tx.body.call.check_shape());
}

/// Returns every pinned call.
pub(crate) fn calls() -> impl Iterator<Item = Tx> {
    golden(MARKET, "tx ").filter_map(|bytes| borsh::from_slice(&bytes).ok())
}

/// Returns the pinned call of one kind.
pub(crate) fn golden_call(kind: &str) -> Tx {
    let line = MARKET.lines().find_map(|line| {
        line.strip_prefix("tx ")?
            .strip_prefix(kind)?
            .strip_prefix(": ")
    });
    let bytes = line
        .and_then(api::view::text::parse_hex)
        .expect("a pinned call");
    borsh::from_slice(&bytes).expect("pinned calls decode")
}

pub(crate) fn transactions() -> Vec<Vec<u8>> {
    calls()
        .map(|call| {
            let body = TxBody {
                signer: PublicKey::from_bytes([7; 32]),
                nonce: 9,
                expires_at: Timestamp::from_unix_millis(1_000),
                call,
            };
            let version = market::codec::TX_VERSION;
            let signature = Signature([0; 64]);
            SignedTx {
                version,
                body,
                signature,
            }
            .encode()
        })
        .collect()
}

pub(crate) fn grant(bytes: &[u8]) {
    let Ok(grant) = borsh::from_slice::<SignedGrant>(bytes) else {
        return;
    };
    assert_eq!(encode(&grant), bytes, "one grant, two spellings");
    assert!(
        grant.verify(&network()).is_err(),
        "nobody signed for this network"
    );
}

pub(crate) fn grants() -> Vec<Vec<u8>> {
    golden(MARKET, "grant")
        .map(|mut bytes| {
            bytes.extend([0; 64]);
            bytes
        })
        .collect()
}

pub(crate) fn record(bytes: &[u8]) {
    let Ok(record) = borsh::from_slice::<Record>(bytes) else {
        return;
    };
    assert_eq!(encode(&record), bytes, "one record, two spellings");
    // Alone it is no market, but must be refused and not believed, nor panic.
    let key = record.id().key();
    drop(Market::load([(key, bytes.to_vec())]));
}

pub(crate) fn records() -> Vec<Vec<u8>> {
    golden(MARKET, "record").collect()
}

pub(crate) fn block(bytes: &[u8]) {
    drop(node::read_block(bytes));
}

pub(crate) fn header(bytes: &[u8]) {
    if let Ok(header) = light::Header::from_bytes(bytes) {
        assert_eq!(header.to_bytes(), bytes, "one header, two spellings");
    }
}

pub(crate) fn bundle(bytes: &[u8]) {
    let Ok(bundle) = light::Bundle::from_bytes(bytes) else {
        return;
    };
    assert_eq!(bundle.to_bytes(), bytes, "one bundle, two spellings");
    let pinned = light::Pinned {
        network: "fuzz".to_owned(),
        group_key: vec![0; 96],
    };
    assert!(
        bundle.verify(&pinned).is_err(),
        "no key of ours signed this"
    );
}

pub(crate) fn headers() -> Vec<Vec<u8>> {
    golden(LIGHT, "header").collect()
}

/// A header and an empty body. The tests of `node` damage blocks that a node made.
pub(crate) fn blocks() -> Vec<Vec<u8>> {
    headers()
        .into_iter()
        .map(|header| [&header[..], &[0]].concat())
        .collect()
}

pub(crate) fn bundles() -> Vec<Vec<u8>> {
    golden(LIGHT, "bundle").collect()
}

pub(crate) fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        let again = manifest.encode().expect("what decodes is within bounds");
        assert_eq!(again, bytes, "one manifest, two spellings");
    }
}

pub(crate) fn manifests() -> Vec<Vec<u8>> {
    let encoded = a_manifest().encode();
    vec![encoded.expect("a small manifest")]
}

fn a_manifest() -> Manifest {
    Manifest {
        image: "127.0.0.1:5000/app:v1".to_owned(),
        image_digest: Digest::of(&[b"image"]),
        command: Some(vec!["/app".to_owned()]),
        args: Some(vec!["--steps".to_owned(), "10".to_owned()]),
        env: [("MODE".to_owned(), "fast".to_owned())].into(),
        secrets: [("TOKEN".to_owned(), SecretText::new("t"))].into(),
        workdir: Some("/".to_owned()),
        user: None,
        mounts: Vec::new(),
        ports: Vec::new(),
    }
}

pub(crate) fn sealed_job(bytes: &[u8]) {
    if let Ok(job) = SealedJob::decode(bytes) {
        assert_eq!(job.encode(), bytes, "one sealed job, two spellings");
    }
}

pub(crate) fn sealed_jobs() -> Vec<Vec<u8>> {
    let mut rng = system_rng();
    let secret = SealSecret::generate(&mut rng);
    let key = JobKey::generate(&mut rng);
    let salted = SaltedManifest::new(&a_manifest(), &mut rng).expect("a small manifest");
    let network = network();
    let job = market::JobId::created_by(&PublicKey::from_bytes([7; 32]), 0);
    let context = SealContext::keeper(&network, job);
    let sealed = SealedJob::seal(&mut rng, &key, &salted, &secret.public(), &context);
    vec![sealed.expect("a valid key").encode()]
}

/// Frames as they travel: a length and that many bytes.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let bodies = grants().into_iter().chain(sealed_jobs()).chain([vec![1]]);
    bodies
        .map(|body| {
            let length = u32::try_from(body.len()).expect("short seeds");
            [&length.to_le_bytes()[..], &body].concat()
        })
        .collect()
}
