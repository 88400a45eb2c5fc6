//! What became of a transaction.

use market::codec::TxId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{TimeView, text};
use crate::problem::Problem;

/// A transaction's receipt, or the word that it waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TxView {
    /// The transaction.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<TxId>")]
    pub id: TxId,
    /// Where it stands.
    pub status: TxStatus,
    /// The block that has it, once final.
    pub height: Option<u64>,
    /// That block's time.
    pub time: Option<TimeView>,
    /// Its place in the block.
    pub index: Option<u32>,
    /// Why it had no effect, when rejected.
    pub problem: Option<Problem>,
}

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TxStatus {
    /// Waits for inclusion.
    Pending,
    /// In a finalized block, with effect.
    Applied,
    /// In a finalized block, without effect but its nonce.
    Rejected,
}

impl TxView {
    /// Makes the view of a transaction that waits.
    pub const fn pending(id: TxId) -> Self {
        Self {
            id,
            status: TxStatus::Pending,
            height: None,
            time: None,
            index: None,
            problem: None,
        }
    }

    /// Returns the receipt of an applied transaction, or why it had no effect.
    pub fn applied(self) -> Result<Self, Box<Problem>> {
        match (self.status, self.problem) {
            (TxStatus::Rejected, Some(problem)) => Err(Box::new(problem)),
            (_, problem) => Ok(Self { problem, ..self }),
        }
    }
}
