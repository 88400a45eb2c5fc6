//! Typed ids with a text prefix, so that mixing them fails to compile and a log line says what it names.
//!
//! An id is 16 bytes: the first half of `SHA-256(domain ‖ parent)`, see [`derive()`]. In text it is the prefix and 26
//! characters of Crockford's base32 in lower case (`job_0123…`). Whoever signs a transaction knows the id of what it
//! will create before it is included: `derive(prefix, signer ‖ nonce)`.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest as _, Sha256};

use crate::codec::PublicKey;

/// Crockford's base32, lower case: no i, l, o, u, so that ids survive being read aloud.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Characters of a 16-byte id: ceil(128 / 5).
pub const ID_CHARS: usize = 26;

/// A text is no id of the expected kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like {prefix}_… with {ID_CHARS} characters after the prefix, got {got:?}")]
pub struct BadId {
    /// The prefix that was expected.
    pub prefix: &'static str,
    /// The text, cut to 64 characters.
    pub got: String,
}

/// Encodes bytes as lower-case Crockford base32, five bits a character, the last padded with zero bits.
pub fn to_base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits = bits.saturating_add(8);
        while bits >= 5 {
            bits = bits.saturating_sub(5);
            push_char(&mut out, (buffer >> bits) & 31);
            buffer &= (1u32 << bits).saturating_sub(1);
        }
    }
    if bits > 0 {
        push_char(&mut out, (buffer << 5u32.saturating_sub(bits)) & 31);
    }
    out
}

fn push_char(out: &mut String, index: u32) {
    let at = usize::try_from(index).unwrap_or(0);
    out.push(char::from(ALPHABET.get(at).copied().unwrap_or(b'0')));
}

/// Decodes [`to_base32`]'s text into exactly `N` bytes; `None` for a foreign character, length or padding.
pub fn from_base32<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = Vec::new();
    let (mut buffer, mut bits) = (0u32, 0u32);
    for c in text.bytes() {
        let value = ALPHABET.iter().position(|a| *a == c)?;
        buffer = (buffer << 5) | u32::try_from(value).ok()?;
        bits = bits.saturating_add(5);
        if bits >= 8 {
            bits = bits.saturating_sub(8);
            out.push(u8::try_from((buffer >> bits) & 255).ok()?);
            buffer &= (1u32 << bits).saturating_sub(1);
        }
        if out.len() > N {
            return None;
        }
    }
    let canonical = buffer == 0 && bits < 5;
    canonical.then_some(())?;
    out.try_into().ok()
}

/// Returns the id bytes for `parts` within `domain`: `SHA-256("tradewind/id/" ‖ domain ‖ 0 ‖ parts…)[..16]`.
pub fn derive(domain: &str, parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"tradewind/id/");
    hash.update(domain.as_bytes());
    hash.update([0]);
    for part in parts {
        hash.update(part);
    }
    let full: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(full) {
        *to = from;
    }
    id
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The text prefix, without the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes the id from its bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Returns the id's bytes.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// Returns the id of what the transaction (`signer`, `nonce`) creates.
            pub fn created_by(signer: &PublicKey, nonce: u64) -> Self {
                Self(derive($prefix, &[signer.as_bytes(), &nonce.to_le_bytes()]))
            }

            /// Returns the id of the `index`-th child of a parent id.
            pub fn child_of(parent: [u8; 16], index: u64) -> Self {
                Self(derive($prefix, &[&parent, &index.to_le_bytes()]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}_{}", $prefix, to_base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .and_then(from_base32)
                    .map(Self)
                    .ok_or_else(|| BadId { prefix: $prefix, got: text.chars().take(64).collect() })
            }
        }
    };
}

id!(
    /// A machine of a provider.
    MachineId, "mch"
);
id!(
    /// A standing offer.
    OfferId, "off"
);
id!(
    /// A job of a tenant.
    JobId, "job"
);
id!(
    /// One placement that a job wants now; the `index`-th child of its job.
    OrderId, "ord"
);
id!(
    /// A bid on an order.
    BidId, "bid"
);
id!(
    /// A lease: the fencing token of one workload; a child of its order.
    LeaseId, "lse"
);
id!(
    /// A request to turn ledger dollars back into outside money.
    RedemptionId, "red"
);

/// An account: the Ed25519 public key that opened it. In text `acc_` and 52 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct AccountId(PublicKey);

impl AccountId {
    /// The text prefix, without the underscore.
    pub const PREFIX: &'static str = "acc";

    /// Returns the account whose owner key is `key`.
    pub const fn of(key: PublicKey) -> Self {
        Self(key)
    }

    /// Returns the owner key.
    pub const fn owner_key(&self) -> &PublicKey {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "acc_{}", to_base32(self.0.as_bytes()))
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for AccountId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        text.strip_prefix("acc_")
            .and_then(from_base32)
            .map(|bytes| Self(PublicKey::from_bytes(bytes)))
            .ok_or_else(|| BadId {
                prefix: "acc",
                got: text.chars().take(64).collect(),
            })
    }
}
