//! What would happen to a job: who matches at what price, or why nobody does.

use market::{AccountId, LeaseSource, MachineId, Name, OfferId, reject::Unmet};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MoneyView, text};

/// The answer to a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExplanationView {
    /// How many standing offers there are.
    pub offers: u64,
    /// How many of them match.
    pub matching: u64,
    /// The best of them, the one that would be taken first; at most twenty.
    pub matches: Vec<CandidateView>,
    /// How many offers each requirement turned away first, in the order in which they are checked.
    pub funnel: Vec<FunnelView>,
    /// Single changes that would match, when nothing does.
    pub relaxations: Vec<RelaxationView>,
}

/// An offer that matches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CandidateView {
    /// The offer.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<OfferId>")]
    pub offer: OfferId,
    /// Whose.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<AccountId>")]
    pub provider: AccountId,
    /// The provider's name.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub provider_name: Option<Name>,
    /// On which machine.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<MachineId>")]
    pub machine: MachineId,
    /// Model of the machine's first device.
    #[serde(default, with = "text::option")]
    #[schemars(with = "Option<text::Written<Name>>")]
    pub model: Option<Name>,
    /// Price per device-hour.
    pub per_device_hour: MoneyView,
    /// How long the budget pays for it, at most the job's own longest duration.
    pub lasts_ms: u64,
    /// The most that one run of the full duration costs; never above the budget.
    pub worst_case: MoneyView,
}

/// One step of the match funnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FunnelView {
    /// The requirement.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Unmet>")]
    pub unmet: Unmet,
    /// What it means, to read.
    pub text: String,
    /// How many offers failed it first.
    pub turned_away: u64,
    /// How many were left after it.
    pub left: u64,
}

/// A change that would match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RelaxationView {
    /// The requirement to give way.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<Unmet>")]
    pub unmet: Unmet,
    /// The change, to read: `raise the price cap to $1.340000 per device-hour`.
    pub text: String,
    /// The flag of `tradewind run` that makes the change, where one alone does: `--max-price 1.34`.
    #[serde(default)]
    pub flag: Option<String>,
    /// How many offers would match then.
    pub offers: u64,
    /// The price per device-hour of the best of them.
    pub per_device_hour: Option<MoneyView>,
}

/// Returns the text of what a lease was made from.
pub(crate) fn source_text(source: LeaseSource) -> String {
    match source {
        LeaseSource::Offer(id) => id.to_string(),
        LeaseSource::Bid(id) => id.to_string(),
    }
}
