//! What happens.

use longspan_proto::ids::{Generation, NodeId, Region, RoomName, Stream};
use serde::{Serialize, Serializer};

use super::record;
use crate::{routes::Switch, store::Revision};

/// Something that happened, for `/api/v1/events`, the log and the audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum Event {
    /// This controller leads, or the store is back.
    Leading {
        /// The election's revision.
        election: Revision,
        /// The store's era.
        era: u16,
    },
    /// The store cannot be reached; what runs goes on.
    StoreLost,
    /// The store had forgotten something.
    EraRaised {
        /// The new era.
        era: u16,
    },
    /// A node opened its session.
    NodeJoined {
        /// Which.
        node: NodeId,
    },
    /// A node's session ended; its lease runs on.
    NodeLeft {
        /// Which.
        node: NodeId,
    },
    /// A node's lease ended, or another run of it took its place.
    NodeGone {
        /// Which.
        node: NodeId,
    },
    /// A publisher got a stream.
    StreamClaimed {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// The stream.
        stream: Stream,
        /// Where.
        origin: NodeId,
        /// The fencing number.
        #[serde(serialize_with = "text")]
        generation: Generation,
        /// Where the one before was, if it still held it.
        took_over: Option<NodeId>,
    },
    /// A publisher is gone.
    StreamEnded {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// The stream.
        stream: Stream,
        /// Its fencing number.
        #[serde(serialize_with = "text")]
        generation: Generation,
    },
    /// Placement groups were made for a region.
    GroupsMade {
        /// Whose rooms are placed in them.
        region: Region,
        /// Their names.
        groups: Vec<String>,
    },
    /// Another is to belong to a placement group, or somebody has left it.
    GroupChanged {
        /// Which.
        #[serde(serialize_with = "text")]
        group: record::GroupId,
        /// Of its record now.
        revision: u64,
        /// What, and why.
        reason: String,
    },
    /// A relay's disk knew some placement groups better than the store.
    GroupsRestored {
        /// Whose disk.
        node: NodeId,
        /// How many.
        groups: usize,
        /// The first of them.
        #[serde(serialize_with = "text")]
        first: record::GroupId,
    },
    /// What a relay's disk remembers of some placement groups was not believed.
    GroupsRefused {
        /// Which relay.
        node: NodeId,
        /// How many.
        groups: usize,
        /// Why the first of them was not.
        reason: String,
    },
    /// A relay has the disk of another: it gets no part in placement groups.
    DiskRefused {
        /// Which relay.
        node: NodeId,
        /// The disk, in hex.
        disk: String,
        /// Whose it is.
        of: NodeId,
    },
    /// An operator wants a room's log to be kept by another group.
    RoomMoveAsked {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// The group that keeps it.
        #[serde(serialize_with = "text")]
        from: record::GroupId,
        /// The group that shall.
        #[serde(serialize_with = "text")]
        to: record::GroupId,
        /// Which move of the room.
        #[serde(serialize_with = "text")]
        word: record::Word,
        /// Why.
        reason: String,
        /// Who.
        owner: String,
    },
    /// Another group keeps a room's log.
    RoomMoved {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// Where it was.
        #[serde(serialize_with = "text")]
        from: record::GroupId,
        /// Where it is.
        #[serde(serialize_with = "text")]
        to: record::GroupId,
        /// By which move.
        #[serde(serialize_with = "text")]
        word: record::Word,
    },
    /// A room stayed where it is.
    RoomMoveFailed {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// Where it is.
        #[serde(serialize_with = "text")]
        from: record::GroupId,
        /// Where it was to go.
        #[serde(serialize_with = "text")]
        to: record::GroupId,
        /// By which move.
        #[serde(serialize_with = "text")]
        word: record::Word,
        /// Why it did not.
        reason: String,
    },
    /// An operator wants so much of a room's order kept.
    RoomPolicySet {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// How much.
        keep: record::Keep,
        /// Why.
        reason: String,
        /// Who.
        owner: String,
    },
    /// An operator wants as much kept of a room's order as its group gives.
    RoomPolicyReset {
        /// The room.
        #[serde(serialize_with = "text")]
        room: RoomName,
        /// Why.
        reason: String,
        /// Who.
        owner: String,
    },
    /// An operator asked for something.
    OverrideSet {
        /// About what, in words.
        target: String,
        /// What.
        what: record::Wish,
        /// Why.
        reason: String,
        /// Who.
        owner: String,
        /// Until when, Unix ms; none: until it is taken back.
        until_ms: Option<u64>,
    },
    /// What an operator asked for was taken back, or its time is over.
    OverrideEnded {
        /// About what, in words.
        target: String,
        /// Why.
        reason: String,
        /// Who; empty: nobody.
        owner: String,
    },
    /// A primary path moved.
    RouteSwitched(Switch),
    /// Tables were pushed.
    TablesPushed {
        /// `era.election.n`.
        version: String,
        /// To how many nodes.
        nodes: usize,
    },
    /// A node refused a table.
    TableRefused {
        /// Which.
        node: NodeId,
        /// `era.election.n`.
        version: String,
        /// What it said.
        reason: String,
    },
}

fn text<T: std::fmt::Display, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(value)
}
