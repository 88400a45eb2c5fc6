use std::convert::Infallible;

use hpke::rand_core::{TryCryptoRng, TryRng};
use proptest::collection;
use proptest::prelude::*;

use super::*;
use crate::manifest::SecretText;
use crate::manifest::tests::{any_manifest, sample};

/// A job sealed to the machine with secret 33…33 for lease 44…44 on network `test`: manifest [`golden`], salt 11…11,
/// job key 22…22. Made by another implementation (Python's hashlib and cryptography, RFC 9180 and XChaCha20 by hand).
const GOLDEN_JOB: &str = "\
    0138ab664bd86f77d7e66bdd9ae0792913a94fd8b33a1260027e4b46c1f4884c67c473b47c2a3187e235155e5545f6f5\
    d22d59e25a9334a6420792c07bb49f4d3afc8c8ccd55f0dbc993e10b7f4819e8a6eb0000000100010203040506070809\
    0a0b0c0d0e0f1011121314151617c619785795399de979d088d78e8d246933d2d80827be00a797f2508769546d2cf5f3\
    653da877e7d8deb13e09ae9d8ecee8d0347a66eef836086aba5da516b3f7d5cd7faed6c63f6c08eaeb60abb2f6620c00\
    ff5e5014dea91f00b006d19b317a602f9b869efde72630481dbbb046bf62947a0ec678a936e185a0b0397726555cf17f\
    32f99d3cf98b88b11dbac4710bbbdcd4f812f09777d8999cbae1cca9461f4a617f03054fedea584cf4e6dec3cc2ac77f\
    1872ca391e3eb660757297c86141359ffedb11131e79c4cbfac9e4c08327fd76\
";
const GOLDEN_DIGEST: &str = "c09cfb05d3c668a21660e63e9018135a7c947f8227b41fc4fc6dde35df94e215";
const GOLDEN_SEAL_KEY: &str = "7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14";

/// Random bytes from a seed; only to make tests repeatable.
struct SeededRng(u64);

impl TryRng for SeededRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for piece in out.chunks_mut(32) {
            self.0 += 1;
            let Digest(block) = Digest::of(&[&self.0.to_le_bytes()]);
            piece.copy_from_slice(&block[..piece.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for SeededRng {}

fn network() -> NetworkName {
    NetworkName::parse("test").unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let pairs = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

fn golden() -> Manifest {
    let mut manifest = sample();
    manifest.image = "oci:/srv/images/train".to_owned();
    manifest
}

/// A job sealed for a keeper, with what is needed to open it.
struct Sealed {
    secret: SealSecret,
    digest: Digest,
    job: SealedJob,
}

fn seal(manifest: &Manifest, seed: u64, context: &SealContext<'_>) -> Sealed {
    let rng = &mut SeededRng(seed);
    let secret = SealSecret::generate(rng);
    let salted = SaltedManifest::new(manifest, rng).unwrap();
    let key = JobKey::generate(rng);
    let job = SealedJob::seal(rng, &key, &salted, &secret.public(), context).unwrap();
    Sealed {
        secret,
        digest: salted.digest(),
        job,
    }
}

fn job_id(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

fn lease_id(n: u8) -> LeaseId {
    LeaseId::from_bytes([n; 16])
}

#[test]
fn a_job_sealed_by_another_implementation_opens() {
    let network = network();
    let secret = SealSecret::from_bytes([0x33; 32]);
    assert_eq!(secret.public().as_bytes()[..], bytes(GOLDEN_SEAL_KEY));
    let job = SealedJob::decode(&bytes(GOLDEN_JOB)).unwrap();
    let context = SealContext::machine(&network, lease_id(0x44));
    let key = open_job_key(&secret, &context, &job.key).unwrap();
    assert_eq!(key, JobKey::from_bytes([0x22; 32]));
    let digest = Digest(bytes(GOLDEN_DIGEST).try_into().unwrap());
    assert_eq!(job.open(&secret, &context, &digest).unwrap(), golden());
    let salt = Salt::from_bytes([0x11; 32]);
    assert_eq!(manifest_digest(&salt, &golden().encode().unwrap()), digest);
    assert_eq!(job.encode(), bytes(GOLDEN_JOB));
}

#[test]
fn a_sealed_key_opens_in_its_own_context_only() {
    let (network, other) = (network(), NetworkName::parse("other").unwrap());
    let right = SealContext::keeper(&network, job_id(1));
    let sealed = seal(&sample(), 1, &right);
    let wrong = [
        SealContext::keeper(&network, job_id(2)),
        SealContext::keeper(&other, job_id(1)),
        SealContext::machine(&network, lease_id(1)),
    ];
    for context in wrong {
        let got = open_job_key(&sealed.secret, &context, &sealed.job.key);
        assert_eq!(got, Err(EnvelopeError::NotForUs), "{context:?}");
    }
    let stranger = SealSecret::generate(&mut SeededRng(99));
    let got = open_job_key(&stranger, &right, &sealed.job.key);
    assert_eq!(got, Err(EnvelopeError::NotForUs));
    let got = sealed.job.open(&sealed.secret, &right, &sealed.digest);
    assert_eq!(got.unwrap(), sample());
}

#[test]
fn a_manifest_opens_for_the_named_digest_and_network_only() {
    let (network, other) = (network(), NetworkName::parse("other").unwrap());
    let rng = &mut SeededRng(5);
    let key = JobKey::generate(rng);
    let salted = SaltedManifest::new(&sample(), rng).unwrap();
    let again = SaltedManifest::new(&sample(), rng).unwrap();
    assert_ne!(
        salted.digest(),
        again.digest(),
        "the salt hides equal manifests"
    );
    let sealed = seal_manifest(rng, &key, &network, &salted);
    let open =
        |network, named: &SaltedManifest| open_manifest(&key, network, &named.digest(), &sealed);
    assert_eq!(open(&network, &salted), Ok(sample()));
    assert_eq!(open(&other, &salted), Err(EnvelopeError::NotForUs));
    assert_eq!(open(&network, &again), Err(EnvelopeError::NotForUs));
    let wrong_key = open_manifest(&JobKey::generate(rng), &network, &salted.digest(), &sealed);
    assert_eq!(wrong_key, Err(EnvelopeError::NotForUs));
}

#[test]
fn a_tenant_that_names_another_digest_is_found_out() {
    let network = network();
    let rng = &mut SeededRng(6);
    let key = JobKey::generate(rng);
    let mut lying = SaltedManifest::new(&sample(), rng).unwrap();
    lying.digest = Digest([9; 32]);
    let sealed = seal_manifest(rng, &key, &network, &lying);
    let got = open_manifest(&key, &network, &Digest([9; 32]), &sealed);
    assert_eq!(got, Err(EnvelopeError::DigestMismatch));
    let mut bad = SaltedManifest::new(&sample(), rng).unwrap();
    bad.bytes = Zeroizing::new(vec![2]);
    bad.digest = manifest_digest(&bad.salt, &bad.bytes);
    let sealed = seal_manifest(rng, &key, &network, &bad);
    let got = open_manifest(&key, &network, &bad.digest, &sealed);
    let unknown = BadManifest::Version { version: 2 };
    assert_eq!(got, Err(EnvelopeError::Manifest(unknown)));
}

#[test]
fn a_key_of_small_order_receives_nothing() {
    let network = network();
    let context = SealContext::keeper(&network, job_id(1));
    let key = JobKey::generate(&mut SeededRng(7));
    let zero = PublicKey::from_bytes([0; 32]);
    let got = seal_job_key(&mut SeededRng(8), &zero, &context, &key);
    assert_eq!(got, Err(EnvelopeError::Recipient));
    // The other way round: an encapsulated key of small order, from a hostile sender.
    let mut forged = [0; SEALED_JOB_KEY_BYTES];
    forged[0] = ENVELOPE_VERSION;
    let forged = SealedJobKey::from_bytes(&forged).unwrap();
    let secret = SealSecret::generate(&mut SeededRng(9));
    assert_eq!(
        open_job_key(&secret, &context, &forged),
        Err(EnvelopeError::NotForUs)
    );
}

#[test]
fn wrong_lengths_and_versions_are_named() {
    let length = |bytes| EnvelopeError::Length { bytes };
    let version = |version| EnvelopeError::Version { version };
    assert_eq!(SealedJobKey::from_bytes(&[1; 80]), Err(length(80)));
    assert_eq!(SealedJobKey::from_bytes(&[2; 81]), Err(version(2)));
    assert_eq!(SealedManifest::from_bytes(vec![]), Err(length(0)));
    assert_eq!(SealedManifest::from_bytes(vec![1; 72]), Err(length(72)));
    assert_eq!(SealedManifest::from_bytes(vec![3; 100]), Err(version(3)));
    let long = SEALED_MANIFEST_BYTES_MAX + 1;
    assert_eq!(SealedManifest::from_bytes(vec![1; long]), Err(length(long)));
    let long = SEALED_JOB_BYTES_MAX + 1;
    assert_eq!(SealedJob::decode(&vec![1; long]), Err(length(long)));
    assert_eq!(SealedJob::decode(&[1; 81]), Err(EnvelopeError::Malformed));
}

#[test]
fn the_largest_manifest_fits_the_envelope() {
    let network = network();
    let context = SealContext::keeper(&network, job_id(1));
    let mut manifest = sample();
    let used = manifest.encode().unwrap().len();
    let filler = "x".repeat(MANIFEST_BYTES_MAX - used - 4 - 1);
    manifest.args.as_mut().unwrap().push(filler);
    manifest.env.insert("MODE".to_owned(), "fast!".to_owned());
    assert_eq!(manifest.encode().unwrap().len(), MANIFEST_BYTES_MAX);
    let sealed = seal(&manifest, 3, &context);
    let encoded = sealed.job.encode();
    assert_eq!(encoded.len(), SEALED_JOB_BYTES_MAX);
    let job = SealedJob::decode(&encoded).unwrap();
    assert_eq!(
        job.open(&sealed.secret, &context, &sealed.digest),
        Ok(manifest)
    );
}

#[test]
fn secrets_are_not_printed() {
    let rng = &mut SeededRng(4);
    let (key, secret) = (JobKey::generate(rng), SealSecret::generate(rng));
    let salted = SaltedManifest::new(&sample(), rng).unwrap();
    assert_eq!(format!("{key:?} {secret:?}"), "*** ***");
    let hidden = format!("{:?}", SecretText::new("hunter2").expose().as_bytes());
    let hidden = hidden.trim_matches(['[', ']']);
    assert!(!format!("{salted:?}").contains(hidden), "{salted:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_a_keeper_reseals_the_machine_opens(manifest in any_manifest(), seed in any::<u32>()) {
        let network = network();
        let keeper = SealContext::keeper(&network, job_id(1));
        let machine = SealContext::machine(&network, lease_id(1));
        let sealed = seal(&manifest, u64::from(seed), &keeper);
        let rng = &mut SeededRng(u64::from(seed) << 32);
        let secret = SealSecret::generate(rng);
        let posted = SealedJob::decode(&sealed.job.encode()).unwrap();
        let handed = posted.reseal(rng, &sealed.secret, &keeper, &secret.public(), &machine).unwrap();
        prop_assert_eq!(handed.open(&secret, &machine, &sealed.digest).unwrap(), manifest);
        prop_assert!(handed.open(&sealed.secret, &machine, &sealed.digest).is_err());
    }

    #[test]
    fn a_flipped_bit_never_opens(seed in any::<u32>(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let network = network();
        let context = SealContext::keeper(&network, job_id(1));
        let sealed = seal(&sample(), u64::from(seed), &context);
        let mut encoded = sealed.job.encode();
        let at = at.index(encoded.len());
        encoded[at] ^= 1 << bit;
        // X25519 ignores the top bit of a public key, but the context binds its bytes.
        let opened = SealedJob::decode(&encoded).and_then(|job| job.open(&sealed.secret, &context, &sealed.digest));
        prop_assert!(opened.is_err(), "byte {} bit {}", at, bit);
    }

    #[test]
    fn a_cut_envelope_never_opens(seed in any::<u32>(), at in any::<prop::sample::Index>()) {
        let network = network();
        let context = SealContext::keeper(&network, job_id(1));
        let sealed = seal(&sample(), u64::from(seed), &context);
        let encoded = sealed.job.encode();
        prop_assert!(SealedJob::decode(&encoded[..at.index(encoded.len())]).is_err());
    }

    #[test]
    fn garbage_never_opens(bytes in collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(SealedJob::decode(&bytes).is_err());
        let mut manifest = vec![ENVELOPE_VERSION];
        manifest.extend(&bytes);
        if let Ok(sealed) = SealedManifest::from_bytes(manifest) {
            let key = JobKey::from_bytes([0; 32]);
            prop_assert!(open_manifest(&key, &network(), &Digest([0; 32]), &sealed).is_err());
        }
    }
}
