//! A provider: a pure core and the driver around it.
