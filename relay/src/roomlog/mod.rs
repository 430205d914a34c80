//! The room log at a room's home: gives each message its place.
//!
//! * [`Room`]: pure: one room's order, sessions, keyed state and retained messages.
//! * [`Rooms`]: pure: the rooms of a node, fenced by generation.
//! * [`machine`]: pure: the rooms of a replicated log, as its state machine.
//! * [`group`]: pure: one member of a placement group, which replicates such a log by Raft.
//! * [`disk`]: what members of this node write.
//! * `host`: the driver of a node's groups; `calls`: what edges ask of them.
//! * [`service`]: the driver of rooms with one home: answers calls and publishes the tracks `log` and
//!   `ephemeral`.
//!
//! Contract of the pure part: `publish(now, wall, message)` either takes the message whole and
//! answers with its place, or changes nothing that others see and says why. It reads no clock and
//! draws nothing at random, so that replicas fed with the same calls are the same.

mod calls;
pub mod disk;
pub mod group;
pub(crate) mod host;
mod limits;
pub mod machine;
mod refusal;
mod room;
mod rooms;
pub mod service;
mod tracks;

pub use limits::Limits;
pub use refusal::Refusal;
pub use room::{Accepted, Retention, Room, Snapshot};
pub use rooms::Rooms;

/// Messages in a group of the track `log`. Fixed (WIRE.md, "Room calls"): it makes a message's
/// position a matter of arithmetic.
pub const GROUP: u64 = 256;

use longspan_proto::ids::Position;

/// Where message `seq` (from 1) stands in the track `log`.
pub fn position(seq: u64) -> Position {
    let index = seq.saturating_sub(1);
    Position {
        group: index / GROUP,
        frame: index % GROUP,
    }
}
