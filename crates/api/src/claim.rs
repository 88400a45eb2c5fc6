//! How a tenant shows that a manifest is its own before the job is on the ledger.
//!
//! A job's id is made from the key and the nonce that open it, so whoever knows the next nonce of a key knows the id of
//! its next job. A keeper therefore takes a manifest for a job that is not there yet only from the key that will open
//! it: with the nonce that makes this id, and a signature over the job and the sealed bytes.

use ed25519_dalek::{Signer as _, SigningKey};
use market::{BadSignature, Digest, JobId, NetworkName, PublicKey, Signature};

use crate::{
    envelope::SealedJob,
    view::text::{parse_hex, to_hex},
};

/// Domain of claims' signatures.
const CLAIM_DOMAIN: &[u8] = b"tradewind/manifest-claim/v1";
/// The header that carries a claim.
pub const CLAIM_HEADER: &str = "tradewind-claim";

/// Shows that a manifest comes from the key that opens its job.
///
/// As text: the key, the nonce and the signature in hexadecimal, with dots between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestClaim {
    /// The key that will sign the job's transaction.
    pub signer: PublicKey,
    /// With which nonce.
    pub nonce: u64,
    /// Signature over the job and the sealed manifest.
    pub signature: Signature,
}

impl ManifestClaim {
    /// Signs the manifest of the job that `key` opens with this nonce.
    pub fn sign(network: &NetworkName, key: &SigningKey, nonce: u64, sealed: &SealedJob) -> Self {
        let signer = PublicKey::of(key);
        let job = JobId::created_by(&signer, nonce);
        let signature = key.sign(&signing_bytes(network, job, sealed));
        Self {
            signer,
            nonce,
            signature: Signature(signature.to_bytes()),
        }
    }

    /// Checks that the claim is of the key that opens `job`, and for exactly this manifest.
    ///
    /// # Errors
    /// [`BadSignature`] when it is not.
    pub fn verify(
        &self,
        network: &NetworkName,
        job: JobId,
        sealed: &SealedJob,
    ) -> Result<(), BadSignature> {
        if JobId::created_by(&self.signer, self.nonce) != job {
            return Err(BadSignature);
        }
        self.signer
            .verify(&signing_bytes(network, job, sealed), &self.signature)
    }

    /// Writes the text.
    pub fn to_text(&self) -> String {
        format!(
            "{}.{}.{}",
            self.signer,
            self.nonce,
            to_hex(&self.signature.0)
        )
    }

    /// Reads the text; `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '.');
        let signer = PublicKey::parse(parts.next()?)?;
        let nonce = parts.next()?.parse().ok()?;
        let signature = parse_hex(parts.next()?)?.try_into().ok()?;
        Some(Self {
            signer,
            nonce,
            signature: Signature(signature),
        })
    }
}

fn signing_bytes(network: &NetworkName, job: JobId, sealed: &SealedJob) -> Vec<u8> {
    let name = network.as_str().as_bytes();
    let mut bytes = CLAIM_DOMAIN.to_vec();
    // A network's name has at most 48 characters.
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend(name);
    bytes.extend(job.to_bytes());
    bytes.extend(Digest::of(&[&sealed.encode()]).0);
    bytes
}

#[cfg(test)]
mod tests {
    use crate::envelope::{SEALED_JOB_KEY_BYTES, SealedJobKey, SealedManifest};

    use super::*;

    fn sealed(n: u8) -> SealedJob {
        let mut manifest = vec![n; 100];
        manifest[0] = 1;
        SealedJob {
            key: SealedJobKey::from_bytes(&[1; SEALED_JOB_KEY_BYTES]).unwrap(),
            manifest: SealedManifest::from_bytes(manifest).unwrap(),
        }
    }

    #[test]
    fn a_claim_fits_one_key_one_job_and_one_manifest() {
        let (network, key) = (
            NetworkName::parse("test").unwrap(),
            SigningKey::from_bytes(&[7; 32]),
        );
        let claim = ManifestClaim::sign(&network, &key, 3, &sealed(5));
        let claim = ManifestClaim::from_text(&claim.to_text()).unwrap();
        let ours = JobId::created_by(&PublicKey::of(&key), 3);
        assert_eq!(claim.verify(&network, ours, &sealed(5)), Ok(()));

        let theirs = PublicKey::of(&SigningKey::from_bytes(&[8; 32]));
        let stolen = ManifestClaim {
            signer: theirs,
            ..claim
        };
        let moved = ManifestClaim { nonce: 4, ..claim };
        let other = NetworkName::parse("other").unwrap();
        assert!(stolen.verify(&network, ours, &sealed(5)).is_err());
        assert!(
            stolen
                .verify(&network, JobId::created_by(&theirs, 3), &sealed(5))
                .is_err()
        );
        assert!(moved.verify(&network, ours, &sealed(5)).is_err());
        assert!(claim.verify(&network, ours, &sealed(6)).is_err());
        assert!(claim.verify(&other, ours, &sealed(5)).is_err());
    }

    #[test]
    fn the_signed_bytes_are_pinned() {
        let network = NetworkName::parse("test").unwrap();
        let bytes = signing_bytes(&network, JobId::from_bytes([2; 16]), &sealed(5));
        let head = b"tradewind/manifest-claim/v1\x04test\x02\x02";
        assert!(bytes.starts_with(head));
        assert_eq!(bytes.len(), head.len() + 14 + 32);
    }

    #[test]
    fn other_texts_are_no_claims() {
        for text in ["", "key_", "key_x.1.00", "..", "a.b.c.d"] {
            assert_eq!(ManifestClaim::from_text(text), None, "{text}");
        }
    }
}
