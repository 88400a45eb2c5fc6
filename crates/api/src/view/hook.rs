//! Hooks, and the notices that they send.

use market::{NetworkName, PublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventView, TimeView, text};
use crate::hook::HookId;

/// An address to which notices of an account's events are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookView {
    /// Its id.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<HookId>")]
    pub id: HookId,
    /// Where notices go.
    pub url: String,
    /// Of which kinds of events.
    pub events: Vec<String>,
    /// The key that added it.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub key: PublicKey,
    /// When it was added.
    pub added_at: TimeView,
    /// Whether it sends.
    pub state: HookState,
    /// Notices that the receiver took.
    pub delivered: u64,
    /// Notices given up after the last attempt.
    pub given_up: u64,
    /// Number of the last event that is dealt with; `None` before the first.
    pub last_event: Option<u64>,
    /// The notice that could not be delivered so far, and why.
    pub failing: Option<HookFailureView>,
    /// What notices are signed with; only in the answer to the request that adds the hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Whether a hook sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// It does.
    Active,
    /// Too many notices in a row were given up; a test that works sets it going again where it stopped.
    Suspended,
}

/// A notice that could not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookFailureView {
    /// Number of the event.
    pub event: u64,
    /// Attempts so far.
    pub attempts: u32,
    /// When the first was made.
    pub since: TimeView,
    /// When the next is made; `None` when there is none.
    pub next_at: Option<TimeView>,
    /// What went wrong at the last.
    pub why: String,
}

/// Hooks that a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HooksView {
    /// The hooks: all of the account, or the one that was added, removed or tested.
    pub items: Vec<HookView>,
    /// What came of a test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<HookTestView>,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HookTestView {
    /// Whether the receiver took the notice.
    pub delivered: bool,
    /// How long it took.
    pub took_ms: u64,
    /// What went wrong, if it did not.
    pub why: Option<String>,
}

/// What a notice says: the body of the `POST`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoticeView {
    /// The notice's id, the same on every repeat: `NETWORK-NUMBER` of the event, or `test-TIME`.
    pub id: String,
    /// The hook that sends it.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<HookId>")]
    pub hook: HookId,
    /// The network.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<NetworkName>")]
    pub network: NetworkName,
    /// What happened; `None` in a test.
    pub event: Option<EventView>,
}
