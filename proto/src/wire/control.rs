//! What neighbours say on a connection's control stream (WIRE.md, "Control stream").

use bytes::Bytes;

use crate::ids::{BootId, NodeId, Position, Region, TrackId};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Forwards tracks between nodes.
    Relay = 1,
    /// Stands near users.
    Edge = 2,
}

/// The first message in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The newest wire version the sender speaks.
    pub version: u16,
    /// The oldest it speaks.
    pub min_version: u16,
    /// Optional features, one bit each; unknown bits are ignored.
    pub features: u64,
    /// Who it is; must be a name in its certificate.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Tells restarts apart.
    pub boot: BootId,
    /// Where it runs.
    pub region: Region,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The newest group, from its first frame.
    Latest,
    /// This position, or the first one after it that is still held.
    At(Position),
}

/// Asks the receiver for a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Chosen by the subscriber, never reused on a connection.
    pub id: u64,
    /// What is wanted.
    pub track: TrackId,
    /// The nodes still to cross after the receiver, the origin last. Empty: the receiver is the
    /// origin.
    pub path: Vec<NodeId>,
    /// The nodes crossed so far, the first subscriber first, the sender last.
    pub crossed: Vec<NodeId>,
    /// Where to start.
    pub start: Start,
    /// Expected rate in bits per second; 0: unknown.
    pub rate: u64,
    /// How old a frame may be before it is worthless, in ms; 0: never.
    pub budget_ms: u32,
    /// The room ticket (see `Ticket`); may be empty where the receiver requires none.
    pub ticket: Bytes,
}

/// A subscription was confirmed: the sender itself has the track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ok {
    /// The subscription.
    pub id: u64,
    /// The nodes the track crosses, the origin first, the sender last.
    pub chain: Vec<NodeId>,
    /// The first position that will be sent, where it is known already.
    pub first: Option<Position>,
}

/// The way the track takes to the sender changed. Sent before the first frame of the new way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The subscription.
    pub id: u64,
    /// The new chain, as in [`Ok`].
    pub chain: Vec<NodeId>,
}

/// Why a subscription was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndReason {
    /// The owner finished the track.
    Finished = 0,
    /// No such track here.
    NotFound = 1,
    /// It would have been a loop.
    Loop = 2,
    /// More than the hop limit.
    TooManyHops = 3,
    /// The merged path would break the latency budget.
    OverBudget = 4,
    /// The link or node is full.
    OverCapacity = 5,
    /// The ticket does not allow it.
    Forbidden = 6,
    /// The next hop is not connected, or went away and no other way was found.
    Unreachable = 7,
    /// No confirmation came in time.
    Timeout = 8,
    /// A limit of the receiver was reached; the message names it.
    Limit = 9,
    /// A newer generation took over.
    Superseded = 10,
}

/// A subscription was refused or ended; no group follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The subscription.
    pub id: u64,
    /// Why.
    pub reason: EndReason,
    /// The same in words, for logs; at most 256 bytes.
    pub message: String,
}

/// The subscriber leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The subscription.
    pub id: u64,
}

/// Frames of a group were dropped on purpose (a reset stream may lose its header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDropped {
    /// The subscription.
    pub id: u64,
    /// The group.
    pub group: u64,
    /// The first frame that will not come; all later ones of the group will not come either.
    pub from_frame: u64,
}

/// Everything that is said on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Subscribe`].
    Subscribe(Subscribe),
    /// See [`Ok`].
    Ok(Ok),
    /// See [`Update`].
    Update(Update),
    /// See [`End`].
    End(End),
    /// See [`Unsubscribe`].
    Unsubscribe(Unsubscribe),
    /// See [`GroupDropped`].
    GroupDropped(GroupDropped),
    /// The sender will close soon; leave it. The deadline is in ms from now.
    GoAway {
        /// Milliseconds until the sender closes.
        deadline_ms: u32,
    },
}
