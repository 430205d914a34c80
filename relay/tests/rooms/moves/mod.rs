//! Rooms that move to and fro between two placement groups.

mod controller;
mod ending;
mod faults;
mod hosts;
mod lines;
#[cfg(test)]
mod tests;
pub mod world;

use crate::world::{client, disk, follower, history, net, record};
