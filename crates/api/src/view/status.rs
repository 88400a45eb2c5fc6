//! What a gateway says of itself and of its network.

use market::{Keeper, NetworkName, Params, PublicKey, System};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MoneyView, TimeView, text};

/// A gateway and its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StatusView {
    /// The network's name: part of everything that is signed.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<NetworkName>")]
    pub network: NetworkName,
    /// The group key under which blocks are certified, in hexadecimal.
    pub group_key: String,
    /// The node's software version.
    pub version: String,
    /// The last finalized block.
    pub height: u64,
    /// Its time.
    pub time: TimeView,
    /// The same in milliseconds since the Unix epoch, for signers that set expiries.
    pub time_ms: u64,
    /// The gateway's own clock.
    pub now: TimeView,
    /// Number of the next event: what a stream that wants only news starts after is this minus one.
    pub next_event: u64,
    /// Transactions that wait for inclusion.
    pub pending: u64,
    /// Whether the node follows the network; the same as `/readyz`.
    pub ready: bool,
    /// Why not.
    pub not_ready: Option<String>,
    /// The keeper that this node runs.
    pub keeper: Option<KeeperView>,
    /// Keys that may issue and redeem.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<text::Written<PublicKey>>")]
    pub treasurers: Vec<PublicKey>,
    /// Dollars issued minus dollars redeemed.
    pub issued: MoneyView,
    /// Fees taken.
    pub fees: MoneyView,
    /// The insurance pool.
    pub insurance: MoneyView,
    /// The tunables that clients need.
    pub params: ParamsView,
}

/// A keeper: who holds an encrypted manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KeeperView {
    /// The address that the data plane dials.
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub endpoint: PublicKey,
    /// Receives the job key (X25519).
    #[serde(with = "text")]
    #[schemars(with = "text::Written<PublicKey>")]
    pub seal: PublicKey,
    /// Where the endpoint may be dialled, as `ip:port`; known for this node's own keeper.
    #[serde(default)]
    pub dial: Vec<String>,
}

impl KeeperView {
    /// Returns the keeper as a job names it.
    pub const fn keeper(&self) -> Keeper {
        Keeper {
            endpoint: self.endpoint,
            seal: self.seal,
        }
    }
}

impl From<&Keeper> for KeeperView {
    fn from(keeper: &Keeper) -> Self {
        Self {
            endpoint: keeper.endpoint,
            seal: keeper.seal,
            dial: Vec::new(),
        }
    }
}

/// The tunables that clients need; all of them are in the system record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParamsView {
    /// Smallest first deposit of an account.
    pub first_deposit_min: MoneyView,
    /// Share of settled value that goes to the fee pool, in hundredths of a percent.
    pub fee_bps: u16,
    /// How often a machine with leases beats.
    pub beat_leased_ms: u64,
    /// How often a machine without leases beats.
    pub beat_idle_ms: u64,
    /// Silence after which a leased machine is suspect.
    pub suspect_after_ms: u64,
    /// Silence after which its leases end.
    pub lost_after_ms: u64,
    /// Base of the start deadline.
    pub start_base_ms: u64,
    /// How far a machine's ready instant may lie before the block time.
    pub clock_tolerance_ms: u64,
    /// Time that cancelling after the award pays for, at most.
    pub cancel_minimum_ms: u64,
    /// Time of its price that an order reserves while it waits.
    pub order_reserve_ms: u64,
    /// Longest bid window.
    pub window_max_ms: u64,
    /// Longest time an order may wait.
    pub order_wait_max_ms: u64,
    /// Longest duration of a job.
    pub duration_max_ms: u64,
}

impl From<&Params> for ParamsView {
    fn from(params: &Params) -> Self {
        Self {
            first_deposit_min: params.first_deposit_min.into(),
            fee_bps: params.fee.bps(),
            beat_leased_ms: params.beat_leased.millis(),
            beat_idle_ms: params.beat_idle.millis(),
            suspect_after_ms: params.suspect_after.millis(),
            lost_after_ms: params.lost_after.millis(),
            start_base_ms: params.start_base.millis(),
            clock_tolerance_ms: params.clock_tolerance.millis(),
            cancel_minimum_ms: params.cancel_minimum.millis(),
            order_reserve_ms: params.order_reserve.millis(),
            window_max_ms: params.window_max.millis(),
            order_wait_max_ms: params.order_wait_max.millis(),
            duration_max_ms: params.duration_max.millis(),
        }
    }
}

impl StatusView {
    /// Makes the view of the system record; the node's own facts are left at their defaults for the caller to fill in.
    pub fn of_system(system: &System) -> Self {
        Self {
            network: system.network.clone(),
            group_key: String::new(),
            version: String::new(),
            height: system.height.number(),
            time: system.time.into(),
            time_ms: system.time.unix_millis(),
            now: TimeView::default(),
            next_event: system.next_event,
            pending: 0,
            ready: false,
            not_ready: None,
            keeper: None,
            treasurers: system.treasurers.clone(),
            issued: system.issued.into(),
            fees: system.fees.into(),
            insurance: system.insurance.into(),
            params: ParamsView::from(&system.params),
        }
    }
}
