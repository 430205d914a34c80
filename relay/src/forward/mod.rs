//! The forwarding core: pure. Feed it [`Input`]s with the time; then drain [`Output`]s with
//! `poll_output`, take what may be sent to each peer with `poll_transmit` whenever that peer's
//! connection has room, and call `handle_timeout` at `poll_timeout`.
//!
//! The core never holds a payload per receiver: each receiver is a cursor into the group caches
//! of its tracks, so a slow one costs only itself.
//!
//! `poll_transmit` may itself ask for something (a dropped group is announced on the control
//! stream), so outputs are drained after it as well.
//!
//! * [`Forwarder`]: the core.
//! * [`Config`]: its limits.
//! * [`Stats`]: what it counts.

use std::{sync::Arc, time::Duration};

use longspan_proto::{
    ids::{NodeId, TrackId},
    wire::{EndReason, Frame, GroupHeader, Message, Role, Start},
};
use longspan_topology::{link, routes::Routes};

mod cache;
mod config;
mod core;
mod downstream;
mod failover;
mod feed;
mod hedge;
mod life;
mod local;
mod moves;
mod peer;
mod receiver;
mod shed;
mod slab;
mod stats;
#[cfg(test)]
mod tests;
mod track;
mod transmit;
mod turn;
mod upstream;

pub use config::{CacheConfig, Config, Limits};
pub use core::Forwarder;
pub use failover::Failover;
pub use stats::{GroupView, Rejected, Stats, TrackView};
pub(crate) use transmit::urgency;

/// A connected neighbour, numbered by the driver; a number is never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKey(pub u64);

/// A group's stream with a peer. Incoming ones are numbered by the driver, outgoing ones by the
/// core; a number is never reused for a peer and direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(pub u64);

/// A subscription of this node's own (an edge's viewer hub), numbered by the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalKey(pub u64);

/// What happens to the core.
#[derive(Debug, Clone)]
pub enum Input {
    /// A connection to a neighbour is ready (hellos exchanged and checked).
    PeerUp {
        /// The driver's number for it.
        peer: PeerKey,
        /// Who it is.
        node: NodeId,
        /// What it is.
        role: Role,
    },
    /// The connection is gone; nothing more will come from it.
    PeerDown {
        /// The connection.
        peer: PeerKey,
    },
    /// Something was said on the control stream.
    Control {
        /// By whom.
        peer: PeerKey,
        /// What; a hello never arrives here.
        message: Message,
    },
    /// A group's stream was opened by the peer.
    GroupOpened {
        /// The peer.
        peer: PeerKey,
        /// The driver's number for the stream.
        stream: StreamKey,
        /// Its header.
        header: GroupHeader,
    },
    /// A whole frame arrived.
    Frame {
        /// The peer.
        peer: PeerKey,
        /// On which stream.
        stream: StreamKey,
        /// The frame.
        frame: Frame,
        /// How old the frame is now, in µs: its age at the sender plus the flight.
        age_us: u64,
    },
    /// The peer finished the stream: the group is complete.
    GroupFinished {
        /// The peer.
        peer: PeerKey,
        /// The stream.
        stream: StreamKey,
    },
    /// The peer reset the stream, or it broke: the group stays incomplete.
    GroupReset {
        /// The peer.
        peer: PeerKey,
        /// The stream.
        stream: StreamKey,
    },
    /// A new route table.
    Routes(Arc<Routes>),
    /// The measured round trip to a peer; bounds how long an answer is waited for.
    Rtt {
        /// The peer.
        peer: PeerKey,
        /// The round trip.
        rtt: Duration,
    },
    /// The life of the link to a peer changed; the connection stays. A suspected one is avoided by
    /// new tracks, and its tracks are asked for elsewhere, to move as soon as they come from there;
    /// if it is heard again before, they stay. One that is down is not used at all.
    Link {
        /// The peer.
        peer: PeerKey,
        /// What changed.
        event: link::Event,
    },
    /// The link from a peer costs so much more, in µs, than the route table knows: its tracks move
    /// where another way of the table is better by that.
    Cost {
        /// The peer.
        peer: PeerKey,
        /// 0: no more than the table says.
        extra_us: u64,
    },

    /// What goes to a peer now, and what the link to it carries. At its limit it takes no new
    /// subscription.
    Load {
        /// The peer.
        peer: PeerKey,
        /// In bit/s.
        sent_bps: u64,
        /// In bit/s.
        capacity_bps: u64,
    },

    /// This node is the origin of a track from now on.
    Publish {
        /// The track.
        track: TrackId,
    },
    /// This node's own track begins a group; the one before is complete.
    PublishGroup {
        /// The track.
        track: TrackId,
        /// The group's number; greater than the one before.
        group: u64,
        /// Media time of its first frame in µs.
        timestamp: u64,
        /// Wall clock in µs since the Unix epoch.
        origin_time: u64,
    },
    /// The next frame of the group that was begun last.
    PublishFrame {
        /// The track.
        track: TrackId,
        /// The frame.
        frame: Frame,
    },
    /// This node's own track ends.
    Unpublish {
        /// The track.
        track: TrackId,
    },

    /// A consumer inside this node wants a track.
    Subscribe {
        /// The driver's number for it.
        local: LocalKey,
        /// What it wants.
        track: TrackId,
        /// Where the track enters the backbone (this node itself, an edge or a relay).
        origin: NodeId,
        /// Where to start.
        start: Start,
        /// How old a frame may be before it is worthless, in ms; 0: never.
        budget_ms: u32,
    },
    /// The consumer leaves.
    Unsubscribe {
        /// The consumer.
        local: LocalKey,
    },
}

/// What the core asks of the driver.
#[derive(Debug, Clone)]
pub enum Output {
    /// Say this on the control stream.
    Control {
        /// To whom.
        peer: PeerKey,
        /// What.
        message: Message,
    },
    /// `poll_transmit` of this peer has something now (said once until it is drained).
    Ready {
        /// The peer.
        peer: PeerKey,
    },
    /// The peer need not send the rest of this incoming stream (QUIC STOP_SENDING).
    Stop {
        /// The peer.
        peer: PeerKey,
        /// The incoming stream.
        stream: StreamKey,
    },
    /// The peer broke the protocol; close the connection with this reason.
    Disconnect {
        /// The peer.
        peer: PeerKey,
        /// What it did.
        reason: String,
    },
    /// A track that was in trouble comes from elsewhere now.
    Healed {
        /// What the trouble was.
        trouble: Trouble,
        /// From the first suspicion to the first frame (or, of a silent track, the confirmation).
        took: Duration,
    },
    /// Something for a consumer inside this node, in order.
    Local {
        /// The consumer.
        local: LocalKey,
        /// What.
        event: LocalEvent,
    },
}

/// Why a track left its upstream without a route table's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nothing came from the neighbour.
    Silence,
    /// The neighbour does not hear this node.
    OneWay,
    /// The connection is gone.
    Closed,
    /// The link became worse than another way.
    Degraded,
    /// The neighbour said that it will close.
    Leaving,
    /// A node on the track's way has lost it.
    Upstream,
}

impl Trouble {
    /// For logs and metrics (`longspan_failovers_total{cause}`).
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Silence => "silence",
            Trouble::OneWay => "one_way",
            Trouble::Closed => "closed",
            Trouble::Degraded => "degraded",
            Trouble::Leaving => "leaving",
            Trouble::Upstream => "upstream",
        }
    }
}

impl From<link::Cause> for Trouble {
    fn from(cause: link::Cause) -> Trouble {
        match cause {
            link::Cause::Silence => Trouble::Silence,
            link::Cause::OneWay => Trouble::OneWay,
        }
    }
}

/// What a local consumer sees. Frames of one group come in order; a newer group may begin before
/// an older one is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalEvent {
    /// The subscription is confirmed, or its way changed. Origin first, this node last.
    Path(Vec<NodeId>),
    /// A group begins (`first_frame` above 0 after a resume).
    Group(GroupHeader),
    /// The next frame of a group.
    Frame {
        /// The group.
        group: u64,
        /// The frame's number in it.
        index: u64,
        /// The frame.
        frame: Frame,
    },
    /// The group is complete.
    GroupEnd {
        /// The group.
        group: u64,
    },
    /// The rest of the group, from this frame on, will not come.
    GroupDropped {
        /// The group.
        group: u64,
        /// The first missing frame.
        from_frame: u64,
    },
    /// Nothing more will come.
    End {
        /// Why.
        reason: EndReason,
        /// The same in words.
        message: String,
    },
}

/// The next thing to put on a peer's connection.
#[derive(Debug, Clone)]
pub enum Transmit {
    /// Open a unidirectional stream and write the header.
    Open {
        /// The core's number for the stream.
        stream: StreamKey,
        /// The header.
        header: GroupHeader,
        /// For quinn's stream priority: higher goes first.
        urgency: i32,
    },
    /// Write a frame.
    Frame {
        /// The stream.
        stream: StreamKey,
        /// The frame; its payload is shared, not copied.
        frame: Frame,
        /// How old the frame is now, in µs.
        age_us: u64,
    },
    /// Finish the stream.
    Finish {
        /// The stream.
        stream: StreamKey,
    },
    /// Reset the stream: what was not sent yet is worthless.
    Reset {
        /// The stream.
        stream: StreamKey,
    },
}
