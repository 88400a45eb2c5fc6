//! Hooks: addresses to which a gateway sends notices of what happens to an account.
//!
//! A [`HookRequest`] is signed by a key of the account, says when it was made, and is bound to the network. A notice is
//! a `POST` of a [`NoticeView`](crate::NoticeView) as JSON with three headers, as the Standard Webhooks specification
//! has them, so that its libraries check notices in any language:
//!
//! ```text
//! webhook-id          the event's; the same on every repeat of a notice
//! webhook-timestamp   seconds since the Unix epoch, of this attempt
//! webhook-signature   v1,base64(HMAC-SHA256(secret, id ‖ "." ‖ timestamp ‖ "." ‖ body))
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer as _, SigningKey};
use hmac::{Hmac, KeyInit as _, Mac as _};
use market::{
    BadSignature, Digest, NetworkName, PublicKey, Signature, Timestamp,
    codec::encode,
    ids::{from_base32, to_base32},
};
use zeroize::Zeroizing;

use crate::envelope::CryptoRng;

/// Domain of requests' signatures.
const HOOK_DOMAIN: &[u8] = b"tradewind/hook-request/v1";
/// Prefix of an id's text.
const PREFIX: &str = "hook_";
/// Prefix of a secret's text.
const SECRET_PREFIX: &str = "whsec_";
/// How far a request's or a notice's time may be from the reader's clock, in seconds: a replay is worthless after it.
pub const TIME_SLACK_S: u64 = 300;
/// Longest address of a hook.
pub const HOOK_URL_BYTES_MAX: usize = 512;
/// Longest encoded [`SignedHookRequest`].
pub const HOOK_REQUEST_BYTES_MAX: usize = 1_024;
/// Most kinds of events that one request names; there are fewer.
pub const HOOK_KINDS_MAX: usize = 64;

/// Header with the notice's id.
pub const NOTICE_ID_HEADER: &str = "webhook-id";
/// Header with the attempt's time.
pub const NOTICE_TIME_HEADER: &str = "webhook-timestamp";
/// Header with the signature.
pub const NOTICE_SIGNATURE_HEADER: &str = "webhook-signature";

/// A hook. In text `hook_` and 26 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct HookId([u8; 16]);

impl fmt::Display for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", to_base32(&self.0))
    }
}

impl fmt::Debug for HookId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is no hook's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like hook_… with 26 characters after the prefix")]
pub struct BadHookId;

impl FromStr for HookId {
    type Err = BadHookId;

    fn from_str(text: &str) -> Result<Self, BadHookId> {
        text.strip_prefix(PREFIX)
            .and_then(from_base32)
            .map(Self)
            .ok_or(BadHookId)
    }
}

/// What is asked of the gateway.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum HookCall {
    /// Send notices of these kinds of events (places in [`EventKindView::WORDS`](crate::EventKindView::WORDS)).
    Add {
        /// Where to.
        url: String,
        /// Of which kinds.
        kinds: Vec<u8>,
    },
    /// Say which hooks the account has.
    List,
    /// End one.
    Remove {
        /// Which.
        hook: HookId,
    },
    /// Send a notice now, and say what came of it; one that works lifts a suspension.
    Test {
        /// Which.
        hook: HookId,
    },
}

/// A request about the hooks of the signer's account.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct HookRequest {
    /// A key that acts for the account.
    pub signer: PublicKey,
    /// When it was made; within [`TIME_SLACK_S`] of the gateway's clock.
    pub at: Timestamp,
    /// What is asked.
    pub call: HookCall,
}

/// A request with its signature.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedHookRequest {
    /// The request.
    pub request: HookRequest,
    /// Signature over it.
    pub signature: Signature,
}

impl HookRequest {
    /// Signs the request.
    pub fn sign(self, network: &NetworkName, key: &SigningKey) -> SignedHookRequest {
        let signature = Signature(key.sign(&self.signing_bytes(network)).to_bytes());
        SignedHookRequest {
            request: self,
            signature,
        }
    }

    /// Returns the id of the hook that this request adds: the same request again adds nothing.
    pub fn hook(&self) -> HookId {
        let digest = Digest::of(&[HOOK_DOMAIN, &encode(self)]);
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(digest.0) {
            *to = from;
        }
        HookId(id)
    }

    fn signing_bytes(&self, network: &NetworkName) -> Vec<u8> {
        let name = network.as_str().as_bytes();
        let mut bytes = HOOK_DOMAIN.to_vec();
        // A network's name has at most 48 characters.
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend(name);
        bytes.extend(encode(self));
        bytes
    }
}

impl SignedHookRequest {
    /// Checks the signature; for whom the signer acts remains to be read from the ledger.
    ///
    /// # Errors
    /// [`BadSignature`] when it does not fit.
    pub fn verify(&self, network: &NetworkName) -> Result<(), BadSignature> {
        let bytes = self.request.signing_bytes(network);
        self.request.signer.verify(&bytes, &self.signature)
    }

    /// Returns the canonical bytes: what is posted.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads it from exactly these bytes; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > HOOK_REQUEST_BYTES_MAX {
            return None;
        }
        let signed: Self = borsh::from_slice(bytes).ok()?;
        let fits = match &signed.request.call {
            HookCall::Add { url, kinds } => {
                url.len() <= HOOK_URL_BYTES_MAX && kinds.len() <= HOOK_KINDS_MAX
            }
            HookCall::List | HookCall::Remove { .. } | HookCall::Test { .. } => true,
        };
        fits.then_some(signed)
    }
}

/// What gateway and receiver share: whoever has it can sign notices. In text `whsec_` and base64.
#[derive(Clone, PartialEq, Eq)]
pub struct HookSecret(Zeroizing<[u8; 32]>);

impl HookSecret {
    /// Draws a secret.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(bytes.as_mut_slice());
        Self(bytes)
    }

    /// Writes the text, for the receiver and the gateway's own file.
    pub fn expose(&self) -> String {
        format!("{SECRET_PREFIX}{}", STANDARD.encode(self.0.as_slice()))
    }

    /// Reads the text; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(SECRET_PREFIX)?).ok()?;
        bytes.try_into().ok().map(Zeroizing::new).map(Self)
    }

    /// Returns the signature header of a notice.
    pub fn sign(&self, id: &str, at_s: u64, body: &[u8]) -> String {
        format!(
            "v1,{}",
            STANDARD.encode(self.mac(id, at_s, body).finalize().into_bytes())
        )
    }

    /// Tells whether a notice is the gateway's and fresh: `header` is its signature, `at_s` its time, `now_s` the
    /// receiver's clock.
    pub fn verify(&self, id: &str, at_s: u64, body: &[u8], header: &str, now_s: u64) -> bool {
        let mut signatures = header
            .split(' ')
            .filter_map(|part| part.strip_prefix("v1,"));
        at_s.abs_diff(now_s) <= TIME_SLACK_S
            && signatures.any(|text| {
                let given = STANDARD.decode(text).unwrap_or_default();
                // Takes the same time wherever they differ.
                self.mac(id, at_s, body).verify_slice(&given).is_ok()
            })
    }

    fn mac(&self, id: &str, at_s: u64, body: &[u8]) -> Hmac<sha2::Sha256> {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(self.0.as_slice())
            .expect("a key of any length will do");
        for part in [id.as_bytes(), b".", at_s.to_string().as_bytes(), b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> HookRequest {
        HookRequest {
            signer: PublicKey::of(&SigningKey::from_bytes(&[7; 32])),
            at: Timestamp::from_unix_millis(1_790_000_000_000),
            call: HookCall::Add {
                url: "https://example.org/x".to_owned(),
                kinds: vec![13, 19],
            },
        }
    }

    #[test]
    fn a_request_fits_one_key_and_one_network() {
        let network = NetworkName::parse("test").unwrap();
        let key = SigningKey::from_bytes(&[7; 32]);
        let signed = request().sign(&network, &key);
        let read = SignedHookRequest::decode(&signed.encode()).unwrap();
        assert_eq!(read, signed);
        assert_eq!(read.verify(&network), Ok(()));
        assert!(read.verify(&NetworkName::parse("other").unwrap()).is_err());
        let mut other = signed;
        other.request.call = HookCall::List;
        assert!(other.verify(&network).is_err());
        let theirs = request().sign(&network, &SigningKey::from_bytes(&[8; 32]));
        assert!(theirs.verify(&network).is_err());
        let id = request().hook();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("hook_1".parse::<HookId>(), Err(BadHookId));
    }

    #[test]
    fn the_bytes_of_a_request_are_pinned() {
        let bytes = encode(&request());
        let (signer, rest) = bytes.split_at(32);
        assert_eq!(signer, request().signer.as_bytes());
        let mut want = 1_790_000_000_000_u64.to_le_bytes().to_vec();
        want.extend([0, 21, 0, 0, 0]);
        want.extend(b"https://example.org/x");
        want.extend([2, 0, 0, 0, 13, 19]);
        assert_eq!(rest, want);
        assert_eq!(encode(&HookCall::List), [1]);
        let hook = request().hook();
        assert_eq!(encode(&HookCall::Remove { hook })[0], 2);
        assert_eq!(encode(&HookCall::Test { hook })[0], 3);
    }

    #[test]
    fn too_long_requests_are_not_read() {
        let network = NetworkName::parse("test").unwrap();
        let mut long = request();
        long.call = HookCall::Add {
            url: "x".repeat(HOOK_URL_BYTES_MAX + 1),
            kinds: vec![],
        };
        let signed = long.sign(&network, &SigningKey::from_bytes(&[7; 32]));
        assert_eq!(SignedHookRequest::decode(&signed.encode()), None);
        let mut trailing = request()
            .sign(&network, &SigningKey::from_bytes(&[7; 32]))
            .encode();
        trailing.push(0);
        assert_eq!(SignedHookRequest::decode(&trailing), None);
    }

    /// The example of the Standard Webhooks specification's own libraries.
    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key).unwrap();
        mac.update(b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        assert_eq!(
            STANDARD.encode(mac.finalize().into_bytes()),
            "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        let secret = HookSecret::parse(&format!("whsec_{}", STANDARD.encode([5; 32]))).unwrap();
        assert_eq!(HookSecret::parse(&secret.expose()), Some(secret.clone()));
        let header = secret.sign("dev-7", 1_614_265_330, b"{}");
        let ok = |id: &str, body: &[u8], header: &str, now| {
            secret.verify(id, 1_614_265_330, body, header, now)
        };
        assert!(ok("dev-7", b"{}", &header, 1_614_265_331));
        assert!(ok(
            "dev-7",
            b"{}",
            &format!("v1,xx {header}"),
            1_614_265_331
        ));
        assert!(!ok("dev-8", b"{}", &header, 1_614_265_331));
        assert!(!ok("dev-7", b"[]", &header, 1_614_265_331));
        assert!(!ok(
            "dev-7",
            b"{}",
            &header,
            1_614_265_331 + 2 * TIME_SLACK_S
        ));
        assert!(!ok("dev-7", b"{}", "v1,", 1_614_265_331));
    }
}
