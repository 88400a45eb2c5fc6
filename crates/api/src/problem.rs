//! Every error as an RFC 9457 problem: one table of codes, each with status, title and hints.
//!
//! The ledger's rejects, the reasons why a transaction is inadmissible, and everything that a gateway or the data plane
//! can refuse are one closed set, [`Code`]. Exit codes are the command line's, which walks [`Code::ALL`].

use std::fmt;

use market::{Inadmissible, Money, Reject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An error as it travels: RFC 9457 problem details with what people need next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{detail}  [{code}]")]
pub struct Problem {
    /// `urn:tradewind:problem:` and the code.
    #[serde(rename = "type", default)]
    pub type_urn: String,
    /// The code's short, fixed description.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// Stable code, see [`Code`]; a text, so that a newer server's code can be read.
    pub code: String,
    /// What is wrong this time.
    pub detail: String,
    /// Next steps, best first; never empty.
    #[serde(default)]
    pub hints: Vec<String>,
    /// What the refused thing cost, in micro-dollars, where money was involved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub charged_micros: Option<String>,
    /// Number of the request, to find it in the node's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Problem {
    /// Makes the problem of a code, with what is wrong this time.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            type_urn: format!("urn:tradewind:problem:{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            code: code.as_str().to_owned(),
            detail: detail.into(),
            hints: code.hints().iter().map(|hint| (*hint).to_owned()).collect(),
            charged_micros: None,
            request_id: None,
        }
    }

    /// Puts a hint for this very case before the code's own.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.insert(0, hint.into());
        self
    }

    /// Says what was charged.
    pub fn charged(mut self, amount: Money) -> Self {
        self.charged_micros = Some(amount.micros().to_string());
        self
    }

    /// Returns the code; `None` for one that this build does not know.
    pub fn known(&self) -> Option<Code> {
        Code::parse(&self.code)
    }
}

impl From<&Reject> for Problem {
    /// A rejected transaction costs nothing but its nonce.
    fn from(reject: &Reject) -> Self {
        Self::new(Code::from(reject), reject.to_string()).charged(Money::ZERO)
    }
}

impl From<&Inadmissible> for Problem {
    fn from(why: &Inadmissible) -> Self {
        Self::new(Code::from(why), why.to_string()).charged(Money::ZERO)
    }
}

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $title:literal, [$($hint:literal),+ $(,)?];)*) => {
        /// Every code. The text is stable; variants may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(
                #[doc = concat!("`", $code, "`: ", $title, ".")]
                $variant,
            )*
        }

        impl Code {
            /// All codes.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the stable text.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// Returns the HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// Returns the short, fixed description.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)* }
            }

            /// Returns the next steps, best first; at least one.
            pub const fn hints(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($hint),+],)* }
            }
        }
    };
}

codes! {
    // The ledger's rejects.
    NotAllowed = "not-allowed", 403, "the key may not do this", [
        "sign with the account's owner key",
        "let the owner authorize this key for the role: tradewind account",
    ];
    KeyBudget = "key-budget", 403, "the key's own budget is used up", [
        "sign with the account's owner key",
        "let the owner authorize the key anew with a larger budget",
    ];
    Funds = "insufficient-funds", 422, "not enough available money", [
        "deposit more dollars, or lower the budget: tradewind account show",
        "money held by ended jobs returns by itself within the hour",
    ];
    DepositTooSmall = "deposit-too-small", 422, "the first deposit is too small", [
        "send at least the minimum shown",
    ];
    ZeroAmount = "zero-amount", 422, "the amount is zero", ["give an amount above zero"];
    Overflow = "overflow", 422, "the amount is too large", ["give a smaller amount, price or count"];
    ReferenceUsed = "reference-used", 409, "the outside reference was used before", [
        "look whether the payment was booked already before booking it again",
    ];
    NotTreasurer = "not-treasurer", 403, "the key is no treasurer of this network", [
        "sign with a treasurer's key, see treasurers in /api/v1/status",
    ];
    NoRedemption = "no-redemption", 404, "there is no such redemption", [
        "it may be confirmed, refused or returned already: look at the account's postings",
    ];
    NoAccount = "no-account", 404, "there is no such account", [
        "an account opens with its first deposit; check the id",
        "ask the treasurer to issue to the account",
    ];
    KeyInUse = "key-in-use", 409, "the key is in use already", ["use a fresh key"];
    NoKey = "no-key", 404, "the account has no such key", ["list the account's keys and use one of them"];
    NotProvider = "not-provider", 403, "the account is no provider", [
        "open a provider first: tradewind provider start",
    ];
    AlreadyProvider = "already-provider", 409, "the account is a provider already", [
        "go on: add a machine, or place an offer",
    ];
    BondReserved = "bond-reserved", 409, "live leases reserve the bond", [
        "withdraw at most what is free",
        "wait until the leases have ended",
    ];
    NoMachine = "no-machine", 404, "there is no such machine", [
        "list machines: tradewind machine list",
        "a retired machine is gone; add it anew",
    ];
    MachineState = "machine-state", 409, "the machine takes no leases now", [
        "resume it, or let it beat again",
        "choose another machine",
    ];
    MachineBusy = "machine-busy", 409, "live leases use the machine", [
        "drain it and wait for its leases to end",
    ];
    Devices = "bad-devices", 422, "the device list is not valid", [
        "name devices by index, ascending, each once",
    ];
    NoOffer = "no-offer", 404, "there is no such offer", [
        "list offers: tradewind offers",
        "it may have expired; place it anew",
    ];
    BadTime = "bad-time", 422, "an instant is not within the allowed time", [
        "check this machine's clock against time in /api/v1/status",
    ];
    BeatChain = "beat-chain", 409, "the beat does not continue the machine's chain", [
        "read next_beat and beat_link of the machine and go on from there",
        "only one agent may run per machine",
    ];
    BadField = "bad-field", 422, "a field's value is not accepted", ["change the field named in the detail"];
    Unsupported = "unsupported", 422, "this network does not support that yet", [
        "leave the field named in the detail at its default",
    ];
    NoJob = "no-job", 404, "there is no such job", [
        "list jobs: tradewind jobs",
        "ended jobs leave the ledger after a week; their events remain",
    ];
    JobEnded = "job-ended", 409, "the job has ended", ["open a new job: tradewind run"];
    TooMany = "too-many", 429, "the account has too many of these", ["end some of them first"];
    NoOrder = "no-order", 404, "there is no such order in the book", [
        "it may be placed or expired already: look at its job",
    ];
    OrderClosed = "order-closed", 409, "the order takes no bids", ["bid on another order"];
    Unmet = "unmet", 422, "the bid does not meet the order", [
        "change what the detail names, or bid with another machine",
    ];
    NoBid = "no-bid", 404, "there is no such bid", [
        "it may be won, lost or void already: look at the events of its order",
    ];
    NoLease = "no-lease", 404, "there is no such lease", ["list the job's leases: tradewind job show"];
    LeaseState = "lease-state", 409, "the lease is not in a state where this is possible", [
        "look at its state and try again: tradewind lease show",
    ];
    NotSpot = "not-spot", 409, "the lease is not a spot lease", [
        "drain the machine with an eviction time instead",
    ];
    HoldLive = "hold-live", 409, "the hold cannot be released yet", [
        "cancel the job, or wait for the hold's deadline",
    ];
    TermTooLong = "term-too-long", 422, "the provider does not lend for so long", [
        "extend by less: the detail says how long the machine is lent",
        "open another job for the rest: tradewind run",
    ];

    // Why a transaction cannot be in a block.
    BadSignature = "bad-signature", 400, "the signature does not fit", [
        "check that the client uses this network's name: see /api/v1/status",
        "sign with the key named as signer",
    ];
    UnknownKey = "unknown-key", 403, "the network does not know the key", [
        "deposit to the key's account first",
        "let an account owner authorize the key",
    ];
    KeyEnded = "key-ended", 403, "the key was revoked or has expired", [
        "sign with the account's owner key",
        "let the owner authorize another key",
    ];
    Nonce = "wrong-nonce", 409, "the nonce is not the key's next one", [
        "read next_nonce of the key and sign again",
        "do not sign with one key in two places at once",
    ];
    Expired = "tx-expired", 409, "the transaction expired before it was included", [
        "sign again with a later expiry",
        "check this machine's clock",
    ];
    OutOfBounds = "out-of-bounds", 422, "a list or number is out of its bounds", [
        "shorten the list, or lower the number, that the detail names",
    ];

    // The gateway and its keeper.
    BadRequest = "bad-request", 400, "the request cannot be read", [
        "check the query and the body against the reference",
    ];
    BadId = "bad-id", 400, "the id cannot be read", ["copy the whole id with its prefix, as job_… or acc_…"];
    AmbiguousId = "ambiguous-id", 409, "several ids begin like this", ["give more characters of the id"];
    BadTransaction = "bad-transaction", 400, "the bytes are no transaction", [
        "send the canonical bytes, or {\"tx\": \"hex\"}",
        "use a client of this network's version",
    ];
    TxExpiry = "tx-expiry", 422, "the transaction's expiry is not within the next day", [
        "sign with an expiry a few minutes ahead",
        "check this machine's clock against time in /api/v1/status",
    ];
    PoolFull = "pool-full", 503, "too many transactions wait", [
        "wait a few seconds and try again",
        "use another node of the network",
    ];
    KeyQueueFull = "key-queue-full", 429, "too many transactions of this key wait", [
        "wait until some of them are final",
    ];
    NonceTaken = "nonce-taken", 409, "another transaction with this nonce waits already", [
        "read next_nonce of the key and sign again",
        "do not sign with one key in two places at once",
    ];
    TxDropped = "tx-dropped", 409, "the transaction expired or was superseded while it waited", [
        "read next_nonce of the key and sign again",
    ];
    NotFound = "not-found", 404, "there is nothing at this address", [
        "look at the reference for the address",
    ];
    NoTransaction = "no-transaction", 404, "the node does not know the transaction", [
        "submit it again: the same bytes are never applied twice",
        "it may have expired: sign again",
    ];
    NoProvider = "no-provider", 404, "there is no such provider", [
        "list offers to see providers: tradewind offers",
    ];
    NoProof = "no-proof", 409, "there is no proof of this record now", [
        "wait for the next block and ask again",
        "ask without a proof",
    ];
    EventsGone = "events-gone", 410, "the node no longer has these events", [
        "start from the oldest event, or ask a node with a longer history",
    ];
    NoHook = "no-hook", 404, "the account has no such hook here", [
        "list the account's hooks: tradewind notify list",
        "hooks belong to the node that they were added at: name it with --endpoint",
    ];
    BadHook = "bad-hook", 422, "the hook's address or events are not accepted", [
        "use an http:// or https:// address of a host that the whole internet can reach",
        "for a receiver in the node's own network its operator must allow it: tradewind node start --private-hooks",
    ];
    HooksOff = "hooks-off", 409, "this node sends no notices", [
        "use another node of the network",
        "follow events instead: tradewind job events JOB --follow",
    ];
    MethodNotAllowed = "method-not-allowed", 405, "the address does not take this method", [
        "look at the reference for the method",
    ];
    TooLarge = "too-large", 413, "the body is too large", [
        "send less: transactions and sealed manifests are at most 64 KiB",
    ];
    MediaType = "media-type", 415, "the body's media type is not accepted", [
        "send application/octet-stream or application/json",
    ];
    TooManyRequests = "too-many-requests", 429, "too many requests at once", ["wait a second and try again"];
    RateLimited = "rate-limited", 429, "too many requests lately", [
        "wait as many seconds as Retry-After says",
        "follow /api/v1/events instead of asking again and again",
    ];
    IdempotencyReused = "idempotency-reused", 409, "the idempotency key was used for another request", [
        "send each request with a key of its own",
    ];
    IdempotencyRunning = "idempotency-running", 409, "the first request with this idempotency key is still under way", [
        "wait for its answer, then send it again to see the same",
    ];
    Overloaded = "overloaded", 503, "the node has more work than it can take", [
        "wait a few seconds and try again",
        "use another node of the network",
    ];
    NotReady = "not-ready", 503, "the node does not follow the network yet", [
        "wait until /readyz says yes",
        "look at the node's log",
    ];
    Stopping = "stopping", 503, "the node is stopping", ["use another node, or wait until it is back"];
    Timeout = "timeout", 504, "the answer did not come in time", [
        "ask for the receipt later: nothing is lost",
        "look at /readyz of the node",
    ];
    NotKeeper = "not-keeper", 409, "this node is not a keeper of the job", [
        "send the manifest to a keeper that the job names",
    ];
    NoManifest = "no-manifest", 404, "the keeper has no manifest of this job", [
        "send it again: tradewind run keeps a copy until the job ends",
    ];
    UnsignedManifest = "unsigned-manifest", 403, "the job is not on the ledger, and nothing shows that it will be yours", [
        "send the manifest again once the job is final",
        "sign the upload with the key that opens the job: header Tradewind-Claim",
    ];
    BadManifest = "bad-manifest", 422, "the sealed manifest is not the one that the job names", [
        "seal the same manifest and salt that the job's digest was made from",
    ];
    KeeperFull = "keeper-full", 507, "the keeper has no room", [
        "end jobs that are not needed",
        "name another keeper",
    ];
    Internal = "internal", 500, "the node failed; this is a bug", ["report it with the request id"];

    // Planning, the data plane, and what only a client can see.
    NoMatch = "no-match", 422, "no machine can run this job", [
        "raise the price, or relax what the plan names",
        "let the job wait for capacity",
    ];
    NotAuthorized = "not-authorized", 403, "the peer refuses: the asker may not have this", [
        "sign the grant with a key of the lease's tenant",
        "a manifest is handed only to the machine of a live lease",
    ];
    NoSuchLease = "no-such-lease", 404, "the peer has nothing of this lease", [
        "the lease may not have started yet, or its output was wiped",
        "look where it runs: tradewind lease show",
    ];
    ExpiredGrant = "expired-grant", 403, "the grant has expired", [
        "ask again: each command signs a fresh grant",
        "check this machine's clock",
    ];
    Busy = "busy", 429, "the peer serves too many others now", ["wait a few seconds and try again"];
    Unavailable = "unavailable", 503, "something failed on the peer's side", [
        "wait a few seconds and try again",
    ];
    ProtocolMismatch = "protocol-mismatch", 409, "the other side speaks another version", [
        "update the older side",
    ];
    Unreachable = "unreachable", 503, "the node or machine cannot be reached", [
        "check the address and that it runs: tradewind status",
    ];
    BadReply = "bad-reply", 502, "the answer cannot be read", [
        "check that the address is a tradewind gateway of this version",
    ];
}

impl Code {
    /// Reads the stable text.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&Reject> for Code {
    fn from(reject: &Reject) -> Self {
        match reject {
            Reject::NotAllowed => Self::NotAllowed,
            Reject::KeyBudget { .. } => Self::KeyBudget,
            Reject::Funds { .. } => Self::Funds,
            Reject::DepositTooSmall { .. } => Self::DepositTooSmall,
            Reject::ZeroAmount => Self::ZeroAmount,
            Reject::Overflow => Self::Overflow,
            Reject::ReferenceUsed => Self::ReferenceUsed,
            Reject::NotTreasurer => Self::NotTreasurer,
            Reject::NoRedemption(_) => Self::NoRedemption,
            Reject::NoAccount(_) => Self::NoAccount,
            Reject::KeyInUse => Self::KeyInUse,
            Reject::NoKey => Self::NoKey,
            Reject::NotProvider => Self::NotProvider,
            Reject::AlreadyProvider => Self::AlreadyProvider,
            Reject::BondReserved { .. } => Self::BondReserved,
            Reject::NoMachine(_) => Self::NoMachine,
            Reject::MachineState(_) => Self::MachineState,
            Reject::MachineBusy(_) => Self::MachineBusy,
            Reject::Devices => Self::Devices,
            Reject::NoOffer(_) => Self::NoOffer,
            Reject::BadTime { .. } => Self::BadTime,
            Reject::BeatChain { .. } => Self::BeatChain,
            Reject::BadField { .. } => Self::BadField,
            Reject::Unsupported { .. } => Self::Unsupported,
            Reject::NoJob(_) => Self::NoJob,
            Reject::JobEnded(_) => Self::JobEnded,
            Reject::TooMany { .. } => Self::TooMany,
            Reject::NoOrder(_) => Self::NoOrder,
            Reject::OrderClosed(_) => Self::OrderClosed,
            Reject::Unmet(_) => Self::Unmet,
            Reject::NoBid(_) => Self::NoBid,
            Reject::NoLease(_) => Self::NoLease,
            Reject::LeaseState(_) => Self::LeaseState,
            Reject::NotSpot(_) => Self::NotSpot,
            Reject::HoldLive(_) => Self::HoldLive,
            Reject::TermTooLong { .. } => Self::TermTooLong,
        }
    }
}

impl From<&Inadmissible> for Code {
    fn from(why: &Inadmissible) -> Self {
        match why {
            Inadmissible::BadSignature => Self::BadSignature,
            Inadmissible::UnknownKey => Self::UnknownKey,
            Inadmissible::KeyEnded => Self::KeyEnded,
            Inadmissible::Nonce { .. } => Self::Nonce,
            Inadmissible::Expired => Self::Expired,
            Inadmissible::OutOfBounds { .. } => Self::OutOfBounds,
        }
    }
}
