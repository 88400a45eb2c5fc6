//! What the gateway answers, split by noun.
//!
//! Rules that hold everywhere:
//! - ids, keys and closed sets are their text (`job_…`, `on-demand`); in Rust they are the ledger's own types
//! - money is `{"micros": "1320000", "display": "$1.320000"}`, see [`MoneyView`]; the string is exact, the twin is to read
//! - instants are RFC 3339 in UTC with exactly three decimals, so they are exact in milliseconds, see [`TimeView`]
//! - durations are numbers whose name ends in `_ms`, sizes in `_bytes`, processor time in `_milli`
//! - lists are `{"items": […], "next": cursor or null}`, see [`Page`]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod account;
mod event;
mod hook;
mod job;
mod lease;
mod plan;
mod provider;
mod quantity;
mod status;
pub mod text;
mod tx;

pub use account::{AccountView, KeyView, PostingView, RedemptionView};
pub use event::{EventKindView, EventView};
pub use hook::{HookFailureView, HookState, HookTestView, HookView, HooksView, NoticeView};
pub use job::{BidView, JobEndView, JobView, OrderView, RequirementView};
pub use lease::{BillView, EndReasonView, LeaseStateView, LeaseView, RunView, WorkView};
pub use plan::{CandidateView, ExplanationView, FunnelView, RelaxationView};
pub use provider::{DeviceView, MachineView, OfferView, PricesView, ProviderView};
pub use quantity::{MoneyView, TimeView};
pub use status::{KeeperView, ParamsView, StatusView};
pub use tx::{TxStatus, TxView};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The things, in the list's order.
    pub items: Vec<T>,
    /// Cursor of the next page, to be passed as `after`; `None` on the last.
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// Makes a list's only page.
    pub const fn only(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}
