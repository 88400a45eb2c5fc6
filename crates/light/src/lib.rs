//! The light client: certificate, header, state proof; no engine.
