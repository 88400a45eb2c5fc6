//! Containers on one machine: images, shims, runtimes.
