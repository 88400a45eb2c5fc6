//! The gateway over real HTTP, in front of a real node.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod curl;
#[cfg(test)]
mod events;
#[cfg(test)]
mod hooks;
#[cfg(test)]
mod keeper;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod world;
