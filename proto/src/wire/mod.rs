//! The binary format between nodes. `proto/WIRE.md` is normative; each module cites its section.
//!
//! Decoding never panics and never allocates more than the input's own length.

mod control;
mod frame;

pub use control::{
    End, EndReason, GroupDropped, Hello, Message, Ok, Role, Start, Subscribe, Unsubscribe, Update,
};
pub use frame::{Flags, Frame, GroupHeader, MAX_FRAME, Priority};
