//! Ids, keys and closed sets as JSON text.
//!
//! Use as `#[serde(with = "text")]`, and [`option`], [`list`] for those. In Rust the field keeps the ledger's type.

use std::{borrow::Cow, marker::PhantomData};

use market::{
    AccountId, BidId, Claims, DeviceClass, Digest, Interface, Isolation, JobId, LeaseId, MachineId,
    MachineState, Name, NetworkName, OfferId, OrderId, ProviderState, PublicKey, RedemptionId,
    SlaClass, Tier,
    codec::TxId,
    event::{BidEnd, LeasePhase, Purpose, Slot},
    reject::Unmet,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serializer, de};

use crate::hook::HookId;

/// A value with one text form.
pub trait Text: Sized {
    /// Writes the text.
    fn to_text(&self) -> String;
    /// Reads it back; `None` for anything else.
    fn from_text(text: &str) -> Option<Self>;
    /// What the text looks like.
    const FORM: Form;
}

/// What a value's text looks like, for those who have no Rust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any text that matches this regular expression (ECMA 262).
    Pattern(&'static str),
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Form {
    /// Returns the JSON schema of such a text.
    pub fn schema(self) -> Schema {
        match self {
            Self::Pattern(pattern) => json_schema!({ "type": "string", "pattern": pattern }),
            Self::Words(words) => json_schema!({ "type": "string", "enum": words }),
        }
    }
}

/// Stands in schemas for a value that is its text in JSON.
#[derive(Debug)]
pub struct Written<T>(PhantomData<T>);

impl<T: Text> JsonSchema for Written<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        std::any::type_name::<T>().into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        T::FORM.schema()
    }
}

/// Writes a value as its text.
pub fn serialize<T: Text, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&value.to_text())
}

/// Reads a value from its text.
pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    parse(&String::deserialize(deserializer)?)
}

fn parse<T: Text, E: de::Error>(text: &str) -> Result<T, E> {
    T::from_text(text).ok_or_else(|| {
        let short: String = text.chars().take(64).collect();
        E::custom(format_args!("{short:?} is not what is expected here"))
    })
}

/// The same for a value that may be absent (`null`).
pub mod option {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Text, parse};

    /// Writes text or `null`.
    pub fn serialize<T: Text, S: Serializer>(
        value: &Option<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&value.to_text()),
            None => serializer.serialize_none(),
        }
    }

    /// Reads text or `null`.
    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<T>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| parse(&text))
            .transpose()
    }
}

/// The same for a list.
pub mod list {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Text, parse};

    /// Writes an array of texts.
    pub fn serialize<T: Text, S: Serializer>(
        values: &[T],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(Text::to_text))
    }

    /// Reads an array of texts.
    pub fn deserialize<'de, T: Text, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<T>, D::Error> {
        Vec::<String>::deserialize(deserializer)?
            .iter()
            .map(|text| parse(text))
            .collect()
    }
}

macro_rules! text_of {
    ($($type:ty, $pattern:literal => $parse:expr),* $(,)?) => { $(
        impl Text for $type {
            const FORM: Form = Form::Pattern($pattern);

            fn to_text(&self) -> String {
                self.to_string()
            }

            fn from_text(text: &str) -> Option<Self> {
                $parse(text)
            }
        }
    )* };
}

text_of! {
    AccountId, "^acc_[0-9a-z]{52}$" => |t: &str| t.parse().ok(),
    MachineId, "^mch_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    OfferId, "^off_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    JobId, "^job_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    OrderId, "^ord_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    BidId, "^bid_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    LeaseId, "^lse_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    RedemptionId, "^red_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    PublicKey, "^key_[0-9a-z]{52}$" => Self::parse,
    HookId, "^hook_[0-9a-z]{26}$" => |t: &str| t.parse().ok(),
    TxId, "^tx_[0-9a-z]{52}$" => Self::parse,
    Name, "^[!-~]([ -~]{0,62}[!-~])?$" => Self::parse,
    NetworkName, "^[a-z0-9-]{1,48}$" => Self::parse,
    Digest, "^[0-9a-f]{64}$" => parse_digest,
}

/// Reads 64 lower-case hexadecimal digits.
pub fn parse_digest(text: &str) -> Option<Digest> {
    let bytes = parse_hex(text)?;
    bytes.try_into().ok().map(Digest)
}

/// Reads lower-case hexadecimal digits, two a byte; the caller bounds the length.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?))
        .collect()
}

/// Writes lower-case hexadecimal digits, two a byte.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
            write!(out, "{byte:02x}").expect("writing to a string does not fail");
            out
        })
}

macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),* $(,)? })*) => { $(
        impl Text for $type {
            const FORM: Form = Form::Words(&[$( $word, )*]);

            fn to_text(&self) -> String {
                match self { $( Self::$variant => $word, )* }.to_owned()
            }

            fn from_text(text: &str) -> Option<Self> {
                match text { $( $word => Some(Self::$variant), )* _ => None }
            }
        }
    )* };
}

words! {
    Tier { Spot = "spot", OnDemand = "on-demand", Reserved = "reserved" }
    Isolation { None = "none", Container = "container", Vm = "vm", Tee = "tee" }
    DeviceClass { Cpu = "cpu", Nvidia = "nvidia", Amd = "amd", Intel = "intel" }
    Interface { Host = "host", Pcie = "pcie", Module = "module" }
    SlaClass { None = "none", P990 = "99.0", P995 = "99.5", P999 = "99.9" }
    Claims { VerifiedOnly = "verified-only", Allowed = "allowed" }
    ProviderState { Active = "active", Suspended = "suspended", Leaving = "leaving" }
    LeasePhase {
        Awarded = "awarded", Running = "running", Suspect = "suspect", Preempting = "preempting",
        Paused = "paused", Ended = "ended",
    }
    BidEnd { Lost = "lost", Void = "void", Withdrawn = "withdrawn", OrderClosed = "order-closed" }
    Purpose {
        Issue = "issue", Redeem = "redeem", Transfer = "transfer", Escrow = "escrow", Refund = "refund",
        Charge = "charge", Fee = "fee", Pay = "pay", Bond = "bond", Forfeit = "forfeit",
    }
    Unmet {
        Online = "online", Tier = "tier", Model = "model", Vram = "vram", Interface = "interface",
        DevicesFree = "devices-free", Fabric = "fabric", Cpu = "cpu", Memory = "memory", Disk = "disk",
        Isolation = "isolation", Region = "region", Latency = "latency", Certificate = "certificate",
        Reliability = "reliability", Sla = "sla", Unverified = "unverified", Provider = "provider",
        Excluded = "excluded", Term = "term", Bond = "bond", Price = "price", Budget = "budget",
    }
}

/// Returns the word for a machine's state.
pub const fn machine_state(state: &MachineState) -> &'static str {
    match state {
        MachineState::Active => "active",
        MachineState::Draining { .. } => "draining",
        MachineState::Down => "down",
        MachineState::Retired => "retired",
    }
}

/// A place of dollars: its kind, and what it belongs to after a colon, as `available:acc_…`.
impl Text for Slot {
    const FORM: Form = Form::Pattern(
        "^(outside|fees|insurance|(available|hold|redemption|bond|payable):[a-z]+_[0-9a-z]+)$",
    );

    fn to_text(&self) -> String {
        match self {
            Self::Outside => "outside".to_owned(),
            Self::Available(id) => format!("available:{id}"),
            Self::Hold(id) => format!("hold:{id}"),
            Self::Redemption(id) => format!("redemption:{id}"),
            Self::Bond(id) => format!("bond:{id}"),
            Self::Payable(id) => format!("payable:{id}"),
            Self::Fees => "fees".to_owned(),
            Self::Insurance => "insurance".to_owned(),
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        match text.split_once(':').unwrap_or((text, "")) {
            ("outside", "") => Some(Self::Outside),
            ("fees", "") => Some(Self::Fees),
            ("insurance", "") => Some(Self::Insurance),
            ("available", id) => id.parse().ok().map(Self::Available),
            ("hold", id) => id.parse().ok().map(Self::Hold),
            ("redemption", id) => id.parse().ok().map(Self::Redemption),
            ("bond", id) => id.parse().ok().map(Self::Bond),
            ("payable", id) => id.parse().ok().map(Self::Payable),
            _ => None,
        }
    }
}
