//! One placement group of three members.

mod asking;
mod ending;
mod faults;
mod hosts;
#[cfg(test)]
mod tests;
pub mod world;

use crate::world::{client, disk, follower, history, net, record};
