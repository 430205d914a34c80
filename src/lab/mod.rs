//! What the binary does with the emulated world: the control listener of `up` and of a lab, and
//! the lab itself, in which unmodified programs run on hosts of its own.

pub mod control;
pub mod exec;
mod options;
pub mod programs;
pub mod run;
pub mod selftest;
