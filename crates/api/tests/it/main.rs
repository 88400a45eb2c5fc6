//! The public contract as others see it: JSON, problems, and the client against real sockets.

mod client;
mod problems;
mod views;
