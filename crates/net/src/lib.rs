//! The data plane between tenant, keeper and machine.
