//! The program as people run it: real processes, real containers, real HTTP, in a home folder of its own.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod halts;
#[cfg(test)]
mod hands;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod lend;
#[cfg(test)]
mod notify;
#[cfg(test)]
mod provide;
#[cfg(test)]
mod several;
#[cfg(test)]
mod tenant;
#[cfg(test)]
mod world;
