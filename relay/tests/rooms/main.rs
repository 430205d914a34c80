//! Rooms kept by placement groups, in virtual time: publishers who send again, followers, and every fault of the
//! lab, from a seed (`relay/examples/room_seeds.rs` plays one by hand).
//!
//! `world` is what all of it shares: hosts on disks over a network, what breaks, and the laws. `groups` is one group
//! whose members are replaced; `moves` is rooms that go to and fro between two.

mod groups;
mod moves;
mod world;
