//! A real node in a temporary folder.

mod solo;
mod world;
