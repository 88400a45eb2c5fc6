//! What a tenant shows a machine: the right to read logs, open a shell and so on, for one lease.
//!
//! A grant never goes on the ledger. The machine checks the signature, that the signer may act for the lease's tenant
//! (by the ledger), the expiry, and that the connection really comes from [`Grant::endpoint`].

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::{
    codec::{BadSignature, PublicKey, Signature, domain_bytes, encode},
    ids::LeaseId,
    params::NetworkName,
    units::Timestamp,
};

/// Domain of grant signatures.
const GRANT_DOMAIN: &[u8] = b"tradewind/grant/v1";

/// What a grant allows, as a set of bits; unknown bits allow nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Rights(u16);

impl Rights {
    /// Read the workload's output.
    pub const LOGS: Self = Self(1);
    /// Run a command inside.
    pub const EXEC: Self = Self(2);
    /// Reach ports.
    pub const PORTS: Self = Self(4);
    /// Read and write files.
    pub const FILES: Self = Self(8);

    /// Returns the set with the rights of both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether every right of `other` is in this set.
    pub const fn allow(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A tenant's word to a machine.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Grant {
    /// The lease that it opens.
    pub lease: LeaseId,
    /// The key that dials; a fresh one per command.
    pub endpoint: PublicKey,
    /// What is allowed.
    pub rights: Rights,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A grant with its signature.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedGrant {
    /// The grant.
    pub grant: Grant,
    /// The key that signs: the tenant's owner key or one it authorized.
    pub signer: PublicKey,
    /// Signature over the grant.
    pub signature: Signature,
}

impl Grant {
    fn signing_bytes(&self, network: &NetworkName) -> Vec<u8> {
        let mut bytes = domain_bytes(GRANT_DOMAIN, network);
        bytes.extend(encode(self));
        bytes
    }

    /// Signs the grant.
    pub fn sign(self, network: &NetworkName, key: &SigningKey) -> SignedGrant {
        let signature = Signature(key.sign(&self.signing_bytes(network)).to_bytes());
        SignedGrant {
            grant: self,
            signer: PublicKey::of(key),
            signature,
        }
    }
}

impl SignedGrant {
    /// Checks the signature; who the signer is remains to be checked against the ledger.
    pub fn verify(&self, network: &NetworkName) -> Result<(), BadSignature> {
        self.signer
            .verify(&self.grant.signing_bytes(network), &self.signature)
    }
}
