//! What the state is told, and what it tells.

use std::time::Duration;

use longspan_proto::{
    control::ToNode,
    ids::{Generation, NodeId, RoomName, Stream, Track},
    time::Time,
};
use longspan_topology::routes::{Routes, Version};
use serde::Serialize;

use super::{
    event::Event,
    key::Target,
    moves::{Begun, Move, MoveReport},
    policies::{KeepRoom, Kept, PolicyReport, PolicyView},
    record::{self, GroupId, Wish},
    traces::RoomTrace,
};
use crate::store::{self, Batch, Entry, LeaseId, Revision, Snapshot, Txn};

/// What the clocks say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// The monotonic clock.
    pub time: Time,
    /// Wall clock, ms since the Unix epoch.
    pub unix_ms: u64,
}

/// A session's connection, numbered by the driver; never reused.
pub type Conn = u64;
/// A call of a publisher that waits for an answer, numbered by the driver; never reused.
pub type Ticket = u64;
/// A call on the store, numbered here.
pub type CallId = u64;

/// Who asks for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The session (lease) of the edge.
    pub session: LeaseId,
    /// The edge.
    pub edge: NodeId,
    /// The room.
    pub room: RoomName,
    /// The stream.
    pub stream: Stream,
    /// Who publishes.
    pub identity: String,
}

/// What happens to the controller.
#[derive(Debug)]
pub enum Input {
    /// It leads, and this is what the store holds: at first, and whenever the store was lost and
    /// is back (then by a new election or the same one).
    Leading {
        /// The revision of the election record.
        election: Revision,
        /// The store's era.
        era: u16,
        /// The records of nodes, tenants, groups and wishes.
        snapshot: Snapshot,
    },
    /// It leads for the election's TTL from this time on, as far as the store knows.
    Renewed(Time),
    /// The store cannot be reached.
    StoreLost,
    /// The era was raised.
    Era(u16),
    /// Something below [`ROOT`](super::key::ROOT) changed.
    Changed(Batch),
    /// A call's result; what was read comes as entries.
    Called(CallId, Result<Done, store::Error>),
    /// A node opened its session.
    Joined {
        /// On this connection.
        conn: Conn,
        /// A random id above 0, used if it gets a new session.
        fresh: LeaseId,
        /// What it says.
        join: Box<Join>,
    },
    /// A session's connection ended.
    Left(Conn),
    /// A node said something.
    Said(Conn, Said),
    /// A publisher asks for a stream.
    Claim(Ticket, Claim),
    /// An operator asks for something.
    Change(Ticket, Change),
    /// An operator asks for the ways of a room's tracks.
    Trace(Ticket, RoomName),
    /// An operator wants a room's log to be kept by another group.
    Move(Ticket, Move),
    /// An operator wants so much of a room's order kept.
    Keep(Ticket, KeepRoom),
    /// A publisher gives a stream back.
    Release {
        /// The session of its edge.
        session: LeaseId,
        /// The room.
        room: RoomName,
        /// The stream.
        stream: Stream,
        /// What it was given.
        generation: Generation,
    },
}

/// What a node says first.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// What it says of itself.
    pub node: record::Node,
    /// The session it had, or 0.
    pub session: LeaseId,
    /// The highest generation it has seen.
    pub highest: Generation,
    /// The newest table it took.
    pub table: Option<Version>,
    /// The table it routes by.
    pub held: Option<Routes>,
    /// The streams it was given and has not given back.
    pub streams: Vec<HeldStream>,
    /// It carries tracks now.
    pub carries: bool,
    /// The file of its room logs; 0: it keeps none.
    pub disk: u64,
    /// The placement groups it has a part in, as its disk remembers them.
    pub groups: Vec<HeldGroup>,
}

/// A placement group as a relay's disk remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldGroup {
    /// Which.
    pub id: GroupId,
    /// See [`record::Group`].
    pub era: u16,
    /// Of the record.
    pub revision: u64,
    /// Who shall belong to it.
    pub members: Vec<record::Member>,
    /// Whom it began with.
    pub born: Vec<u64>,
    /// Whose place another takes.
    pub leaving: Vec<record::Member>,
}

/// What a member of a placement group knows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStatus {
    /// Which group.
    pub id: GroupId,
    /// Which member says so.
    pub number: u64,
    /// The member that leads; 0: none that is known.
    pub leader: u64,
    /// Under which generation it leads.
    pub generation: Generation,
    /// Who has a vote.
    pub voters: Vec<u64>,
    /// Who is being told, and has none.
    pub learners: Vec<u64>,
    /// How far its log is applied here.
    pub applied: u64,
    /// Rooms whose logs it has.
    pub rooms: u32,
    /// Why it can go no further; empty: it runs.
    pub halted: String,
    /// The most it keeps of a room; none: it does not say.
    pub most: Option<Kept>,
}

/// A stream that a node was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldStream {
    /// The room.
    pub room: RoomName,
    /// The stream.
    pub stream: Stream,
    /// The fencing number.
    pub generation: Generation,
    /// The HLS media sequence number of group 0.
    pub hls_base: u64,
    /// Who publishes.
    pub identity: String,
}

/// What a node has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Subscriptions it serves.
    pub subscriptions: u32,
    /// Tracks it holds.
    pub tracks: u32,
    /// Relays connected to it.
    pub relays: u32,
    /// Edges connected to it.
    pub edges: u32,
}

/// A track's way to the node that tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TracedTrack {
    /// The stream.
    pub stream: Stream,
    /// The track.
    pub track: Track,
    /// The generation.
    pub generation: Generation,
    /// The nodes it crosses, the origin first; empty while none is confirmed.
    pub chain: Vec<NodeId>,
    /// Receivers there.
    pub receivers: u32,
}

/// What a node says after joining.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// It lives.
    Heartbeat,
    /// All links that end at it.
    Links(Vec<crate::routes::Report>),
    /// It took a table.
    Ack(Version),
    /// It refused one.
    Nack {
        /// Which.
        version: Version,
        /// Why.
        reason: String,
        /// It does not hold the one that it changes.
        send_whole: bool,
    },
    /// The relays it is attached to, best first.
    Attached(Vec<NodeId>),
    /// It serves a room.
    Watch {
        /// The room.
        room: RoomName,
        /// Viewers there.
        viewers: u32,
        /// Members there.
        members: u32,
    },
    /// It serves it no longer.
    Unwatch(RoomName),
    /// What it has to do, of each placement group it has a part in, of each move of a room away
    /// from one, and of each policy of a room in those that it leads.
    Status(Status, Vec<GroupStatus>, Vec<MoveReport>, Vec<PolicyReport>),
    /// The answer to a [`Trace`](longspan_proto::control::Trace).
    Traced(u64, Vec<TracedTrack>),
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// About what.
    pub target: Target,
    /// What.
    pub ask: Ask,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asks.
    pub owner: String,
    /// For how long; none: until it is taken back.
    pub ttl: Option<Duration>,
    /// Also where somebody is left without a place: an edge is drained and no other takes its members.
    pub force: bool,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// This, in place of what was asked before.
    Set(Wish),
    /// The node or link is cordoned no more.
    Uncordon,
    /// The node is drained no more.
    Undrain,
    /// Whatever was asked counts no more.
    Clear,
}

/// A wish was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// It was not so before.
    pub changed: bool,
}

/// Why a wish was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unchanged {
    /// What it names is not there.
    NotFound {
        /// What is not there.
        what: String,
        /// The name that may have been meant.
        near: Option<String>,
    },
    /// It cannot be had.
    Refused(String),
    /// The store decides, and cannot be reached or did not answer.
    Unavailable(String),
}

/// A call on the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// The entry of exactly this key.
    Read(String),
    /// See [`store::Store::commit`].
    Commit(Txn),
    /// The same with a record of the audit, written together.
    Audited(Txn, serde_json::Value),
    /// See [`store::Store::grant`].
    Grant(LeaseId, Duration),
    /// See [`store::Store::keep_alive`].
    KeepAlive(LeaseId),
    /// See [`store::Store::revoke`].
    Revoke(LeaseId),
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// A read: the entry, if it exists.
    Entry(Option<Entry>),
    /// A commit: its revision.
    Committed(Revision),
    /// A lease's matter.
    Lease,
}

/// Why a publisher did not get a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Another identity holds it.
    #[error("stream {stream} of room {room} is held by another publisher, at {origin}")]
    Held {
        /// The room.
        room: RoomName,
        /// The stream.
        stream: Stream,
        /// Where its publisher is.
        origin: NodeId,
    },
    /// The name is reserved.
    #[error("stream name {0}: names that begin with @ are reserved")]
    Reserved(Stream),
    /// No such session.
    #[error("session {session:x} of {edge} is not known here; join first")]
    NoSession {
        /// The session told.
        session: LeaseId,
        /// The edge told.
        edge: NodeId,
    },
    /// A bound.
    #[error("{what}: the limit of {limit} is reached")]
    Limit {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
    /// It cannot be decided now.
    #[error("{0}")]
    Unavailable(String),
}

/// A stream was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The fencing number.
    pub generation: Generation,
    /// The HLS media sequence number of group 0.
    pub hls_base: u64,
}

/// Why a session is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Close {
    /// The same node joined again.
    #[error("{0} joined again on another connection")]
    Replaced(NodeId),
    /// A bound of a session.
    #[error("{what}: the limit of {limit} is reached")]
    Limit {
        /// What is bounded.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Make this call on the store; its result comes back as [`Input::Called`].
    Call(CallId, Call),
    /// Raise the store's era at least to this, while leading; the result comes back as [`Input::Era`].
    RaiseEra(u16),
    /// Say this to a node.
    Push(Conn, ToNode),
    /// End a session.
    Close(Conn, Close),
    /// Answer a claim.
    Claimed(Ticket, Result<Granted, Refused>),
    /// Answer a change.
    Changed(Ticket, Result<Changed, Unchanged>),
    /// Answer the wish to move a room.
    Moving(Ticket, Result<Begun, Unchanged>),
    /// Answer the wish to keep so much of a room.
    Kept(Ticket, Result<PolicyView, Unchanged>),
    /// Answer a trace; none: there is no such room.
    Traced(Ticket, Option<Box<RoomTrace>>),
    /// Something that operators may want to know.
    Event(Event),
}
