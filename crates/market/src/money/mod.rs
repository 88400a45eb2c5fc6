//! Money: double entry, treasurers, what a lease costs.

pub(crate) mod ledger;
pub(crate) mod meter;
pub(crate) mod settle;
pub(crate) mod treasury;
