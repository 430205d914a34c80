//! What the core counts. The driver turns it into metrics.

use longspan_proto::{
    ids::{NodeId, Position, TrackId},
    time::Time,
};

/// Counts of one core: gauges of now and counters since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tracks known, cached ones without receivers included.
    pub tracks: usize,
    /// Receivers: subscriptions of peers and of this node.
    pub subscriptions: usize,
    /// Bytes in all caches, frames' overhead included.
    pub cache_bytes: usize,
    /// Groups in all caches.
    pub cache_groups: usize,
    /// Connected peers.
    pub peers: usize,
    /// Make-before-break moves under way.
    pub moves: usize,
    /// The same, away from neighbours in trouble.
    pub rescues: usize,
    /// Frames accepted into a cache.
    pub frames_received: u64,
    /// Frames handed to peers, each receiver counted.
    pub frames_forwarded: u64,
    /// Frames handed to local consumers.
    pub frames_local: u64,
    /// Frames that were held already.
    pub frames_duplicate: u64,
    /// Frames that arrived after a hole in their group, or after its end was announced.
    pub frames_gap: u64,
    /// Frames of streams or subscriptions this node no longer (or never) had.
    pub frames_unknown: u64,
    /// Frames that found the cache full of newest groups.
    pub frames_cache_full: u64,
    /// Groups dropped for one receiver: older than its budget.
    pub groups_stale: u64,
    /// Groups dropped for one receiver: evicted before it had taken them.
    pub groups_evicted: u64,
    /// Groups dropped for one receiver: they never arrived whole.
    pub groups_broken: u64,
    /// Upstreams lost (connection gone, ended, or timed out).
    pub upstream_lost: u64,
    /// Moves to a better upstream that were completed.
    pub moves_done: u64,
    /// Tracks that left a full link.
    pub shed: u64,
    /// Moves given up.
    pub moves_failed: u64,
    /// Moves away from a neighbour in trouble that were given up because it was heard again.
    pub rescues_spared: u64,
    /// Subscriptions refused or ended by this node, by reason.
    pub refused: Rejected,
    /// Peers asked to be disconnected for breaking the protocol.
    pub disconnects: u64,
    /// What peers or the driver said that made no sense and was ignored.
    pub ignored: u64,
}

/// Ended subscriptions by reason; the names are those of `EndReason`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejected([u64; 11]);

impl Rejected {
    /// The names, in the order of `EndReason`'s numbers.
    const NAMES: [&'static str; 11] = [
        "finished",
        "not_found",
        "loop",
        "too_many_hops",
        "over_budget",
        "over_capacity",
        "forbidden",
        "unreachable",
        "timeout",
        "limit",
        "superseded",
    ];

    /// Each reason's name and count.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Self::NAMES.into_iter().zip(self.0)
    }

    pub(super) fn count(&mut self, reason: longspan_proto::wire::EndReason) {
        self.0[reason as usize] += 1;
    }
}

/// One track as it stands, for `/debug` and for checking invariants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackView {
    /// The track.
    pub track: TrackId,
    /// The nodes it crosses, the origin first, this node last; empty while not confirmed.
    pub chain: Vec<NodeId>,
    /// The neighbour it is moving to.
    pub moving_to: Option<NodeId>,
    /// Receivers.
    pub receivers: usize,
    /// Bytes in its cache.
    pub bytes: usize,
    /// Groups in its cache.
    pub groups: usize,
    /// The last position received.
    pub last: Option<Position>,
    /// What is held, oldest first.
    pub held: Vec<GroupView>,
}

/// One group as it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupView {
    /// Its number.
    pub group: u64,
    /// The first frame held.
    pub first: u64,
    /// The first frame not held: all in between are.
    pub end: u64,
    /// More may come.
    pub open: bool,
    /// When a newer group began.
    pub superseded: Option<Time>,
}
