//! Supply: providers, machines, beats, standing offers.

pub(crate) mod beat;
pub(crate) mod machine;
pub(crate) mod offer;
pub(crate) mod provider;
