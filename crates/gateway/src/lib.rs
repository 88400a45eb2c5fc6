//! HTTP on one port: REST, events.
