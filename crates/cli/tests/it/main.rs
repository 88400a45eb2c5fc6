//! The program as people run it: real processes, real containers, real HTTP, in a home folder of its own.

mod bad_input;
mod demo;
mod world;
