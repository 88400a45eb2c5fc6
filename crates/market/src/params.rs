//! Every tunable with its unit, default and reason; and what a network starts from.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    codec::PublicKey,
    units::{BasisPoints, Millis, Money, Timestamp},
};

/// A network's name: 1 to 48 of `a-z 0-9 -`; part of everything that is signed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize)]
pub struct NetworkName(String);

impl NetworkName {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 48;

    /// Parses a name; `None` when it is empty, too long or has other characters.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::LEN_MAX).contains(&text.len());
        let plain = text
            .bytes()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
        (fits && plain).then(|| Self(text.to_owned()))
    }

    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BorshDeserialize for NetworkName {
    fn deserialize_reader<R: std::io::Read>(reader: &mut R) -> std::io::Result<Self> {
        let text = String::deserialize_reader(reader)?;
        Self::parse(&text).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
    }
}

/// What a network starts from.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// The network's name.
    pub network: NetworkName,
    /// Time of block 0.
    pub time: Timestamp,
    /// Keys that may issue and redeem dollars.
    pub treasurers: Vec<PublicKey>,
    /// The tunables.
    pub params: Params,
}

/// The tunables. They are on the ledger, so that every validator uses the same.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Params {
    /// Smallest first deposit of an account; keeps the table of accounts from being filled for free.
    pub first_deposit_min: Money,
    /// Share of settled value that goes to the fee pool.
    pub fee: BasisPoints,
    /// How often a machine with leases beats.
    pub beat_leased: Millis,
    /// How often a machine without leases beats.
    pub beat_idle: Millis,
    /// Silence after which a leased machine is suspect: two and a half missed beats.
    pub suspect_after: Millis,
    /// Silence after which its leases end as provider-lost: six missed beats.
    pub lost_after: Millis,
    /// Base of the start deadline; image bytes over offered bandwidth are added.
    pub start_base: Millis,
    /// Bandwidth assumed for machines that state none, in bytes per second.
    pub start_bandwidth_floor: u64,
    /// How far a machine's ready instant may lie before the block time.
    pub clock_tolerance: Millis,
    /// Longest distance of blocks of a healthy network that has nothing to do.
    pub heartbeat: Millis,
    /// How much later than expected a block may come; the excess is a gap of the chain and moves liveness deadlines. A
    /// block is expected when `next_due` comes, and at the latest one heartbeat after its parent.
    pub gap_after: Millis,
    /// Time after a gap within which beats made during it are accepted for charging.
    pub gap_grace: Millis,
    /// A failed exit this soon after ready costs the tenant nothing.
    pub early_exit: Millis,
    /// Cancelling after the award pays for at most this much time at the lease's rate when it has not run longer.
    pub cancel_minimum: Millis,
    /// Time of its price that an order reserves while it waits in the book.
    pub order_reserve: Millis,
    /// Longest bid window a job may ask for.
    pub window_max: Millis,
    /// Longest time an order may wait in the book.
    pub order_wait_max: Millis,
    /// Longest duration of a job.
    pub duration_max: Millis,
    /// Time after which anyone may release a hold of an ended job, and a redemption returns.
    pub release_after: Millis,
    /// Collateral of a spot lease until it is ready; on-demand and reserved ones put up an hour's price until the end.
    pub start_collateral: Millis,
    /// Shortest notice of an eviction that keeps the collateral of on-demand and reserved leases.
    pub drain_notice: Millis,
    /// Longest notice that a spot offer may state; bounds how long a silent, preempted lease lives.
    pub preempt_notice_max: Millis,
    /// Audit lag of jobs without verification.
    pub audit_lag_none: Millis,
    /// Audit lag of sampled jobs.
    pub audit_lag_sampled: Millis,
    /// Timers that one block handles; the rest wait for the next, charged at their due instant.
    pub timers_per_block: u32,
    /// Live things one account may have (offers, machines, open jobs): bounds the memory that a deposit buys.
    pub live_per_account: u32,
    /// How long ended jobs and leases stay in the live state.
    pub retention: Millis,
}

impl Params {
    /// Returns the silence after which a machine without running leases is down: three missed beats.
    pub const fn idle_silence(&self) -> Millis {
        let twice = self.beat_idle.saturating_add(self.beat_idle);
        twice.saturating_add(self.beat_idle)
    }

    /// Returns how far a reported end may lie behind the last good beat: two missed beats.
    pub const fn beat_slack(&self) -> Millis {
        self.beat_leased.saturating_add(self.beat_leased)
    }
}

impl Default for Params {
    fn default() -> Self {
        Self {
            first_deposit_min: Money::from_micros(100_000),
            fee: BasisPoints::from_bps(250),
            beat_leased: Millis::from_secs(10),
            beat_idle: Millis::from_secs(60),
            suspect_after: Millis::from_secs(25),
            lost_after: Millis::from_secs(60),
            start_base: Millis::from_secs(60),
            start_bandwidth_floor: 5_000_000,
            clock_tolerance: Millis::from_secs(2),
            heartbeat: Millis::from_secs(10),
            gap_after: Millis::from_secs(5),
            gap_grace: Millis::from_secs(60),
            early_exit: Millis::from_secs(10),
            cancel_minimum: Millis::from_secs(60),
            order_reserve: Millis::from_secs(60),
            window_max: Millis::from_secs(600),
            order_wait_max: Millis::from_secs(7 * 86_400),
            duration_max: Millis::from_secs(365 * 86_400),
            release_after: Millis::from_secs(3_600),
            start_collateral: Millis::from_secs(600),
            drain_notice: Millis::from_secs(600),
            preempt_notice_max: Millis::from_secs(3_600),
            audit_lag_none: Millis::ZERO,
            audit_lag_sampled: Millis::from_secs(86_400),
            timers_per_block: 2_000,
            live_per_account: 100_000,
            retention: Millis::from_secs(7 * 86_400),
        }
    }
}
