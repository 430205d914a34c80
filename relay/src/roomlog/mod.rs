//! The room log: gives each message its place, and keeps it at three relays.
//!
//! * [`Room`]: pure: one room's order, sessions, keyed state and retained messages.
//! * [`machine`]: pure: the rooms of a replicated log, as its state machine.
//! * [`group`]: pure: one member of a placement group, which replicates such a log by Raft.
//! * [`mover`]: pure: brings rooms from the group that keeps them to another.
//! * [`policy`]: pure: brings what operators want kept of rooms into the log of their group.
//! * [`disk`]: what members of this node write.
//! * `host`: the driver of a node's groups; `calls`: what edges ask of them.
//! * `arrivals`: takes rooms that other groups hand over.
//! * [`service`]: takes the calls of edges for them; `tracks`: what leaves a leader.
//!
//! Contract of the pure part: `publish(now, wall, message)` either takes the message whole and
//! answers with its place, or changes nothing that others see and says why. It reads no clock and
//! draws nothing at random, so that replicas fed with the same calls are the same.

mod arrivals;
mod calls;
pub mod disk;
pub mod group;
pub(crate) mod host;
mod limits;
pub mod machine;
pub mod mover;
pub mod policy;
mod refusal;
mod room;
pub mod service;
mod tracks;

pub use limits::Limits;
pub use refusal::Refusal;
pub use room::{Accepted, Retention, Room, Snapshot};

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
