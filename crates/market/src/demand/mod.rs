//! Demand: jobs, their orders in the book, bids, placement, leases, and what comes due.

pub(crate) mod auction;
pub(crate) mod bid;
pub(crate) mod due;
pub(crate) mod ending;
pub(crate) mod extend;
pub(crate) mod job;
pub(crate) mod lease;
pub(crate) mod order;
pub(crate) mod require;
