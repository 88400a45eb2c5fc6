//! The data plane on loopback: real endpoints, real connections.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod latency;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod support;
