//! The binary format between nodes. `proto/WIRE.md` is normative; each module cites its section.
//!
//! Decoding never panics and never allocates more than the input's own length.

pub mod call;
mod codec;
pub mod codes;
mod control;
pub mod envelope;
pub mod fragment;
mod frame;
pub mod moving;
pub mod probe;
pub mod room;
pub mod roster;
pub mod ticket;

pub use codec::{Error, MAX_VARINT, Reader, Writer, peek_varint};
pub use control::{
    End, EndReason, GroupDropped, Hello, IGNORABLE, MAX_MESSAGE, MAX_PATH, MAX_REASON, MAX_TICKET,
    Message, Ok, Role, Start, Subscribe, Unsubscribe, Update,
};
pub use frame::{
    Flags, Frame, GROUP_STREAM, GroupEvent, GroupHeader, GroupReader, MAX_FRAME, MAX_FRAME_HEADER,
    MAX_TIMESTAMP_DELTA, Priority, Stamp,
};
