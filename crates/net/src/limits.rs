//! How much an endpoint takes from others.

use std::time::Duration;

/// Bounds of one endpoint; tests set smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections that others hold, handshakes included: 128 × (receive + send window) is 128 MiB at worst.
    pub connections: usize,
    /// Connections of one peer: a tenant following a few leases from a few terminals.
    pub connections_per_peer: usize,
    /// Streams of one connection at a time.
    pub streams_per_connection: u32,
    /// Log streams of all connections at a time; each holds one chunk.
    pub log_streams: usize,
    /// For a handshake: two round trips with two retransmissions.
    pub handshake: Duration,
    /// For a request to arrive once its stream is open.
    pub request: Duration,
    /// For a source to answer; what it does is local.
    pub source: Duration,
    /// For a peer to take what is written before it is cut off.
    pub stall: Duration,
    /// How long a connection without streams stays.
    pub idle: Duration,
    /// Silence in a log stream after which a keepalive frame is sent.
    pub keepalive: Duration,
    /// Between two checks that a followed lease's grant still holds.
    pub recheck: Duration,
    /// Longest log stream; the client resumes with a fresh one.
    pub stream_total: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            connections_per_peer: 8,
            streams_per_connection: 8,
            log_streams: 64,
            handshake: Duration::from_secs(5),
            request: Duration::from_secs(5),
            source: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            idle: Duration::from_secs(10),
            keepalive: Duration::from_secs(4),
            recheck: Duration::from_secs(30),
            stream_total: Duration::from_hours(6),
        }
    }
}
