//! The public contract as others see it: JSON, problems, and the client against real sockets.

#[cfg(test)]
mod client;
#[cfg(test)]
mod problems;
#[cfg(test)]
mod views;
