//! The core's limits, as data. Every queue, cache and retry is bounded by one of them.

use std::time::Duration;

use longspan_proto::{ids::NodeId, wire::Role};

/// How a [`super::Forwarder`] is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// What it is. An edge serves its own tracks only and never stands in the middle of a path.
    pub role: Role,
    /// How much of each track is kept.
    pub cache: CacheConfig,
    /// How much others may ask for.
    pub limits: Limits,
    /// The most nodes between a track's origin and a subscriber, both not counted: the access
    /// relay at either end and at most three relays between those (DESIGN §4).
    pub hop_limit: usize,
    /// The round trip that is assumed where none was measured.
    pub rtt: Duration,
    /// How long beyond one round trip a subscription waits for its confirmation (DESIGN §3).
    pub confirm_margin: Duration,
    /// How long a lost track is looked for on behalf of this node's own consumers before they
    /// are told the end. Peers are told as soon as every known way has failed once: they may
    /// know others.
    pub retry_for: Duration,
    /// The pause after the first round of ways failed; doubled each round.
    pub retry_first: Duration,
    /// The longest such pause.
    pub retry_max: Duration,
    /// How long a track without receivers is still taken from upstream.
    pub linger: Duration,
    /// A track that left its upstream for trouble, or for a link's cost, stays so long where it
    /// went before it goes back or on (DESIGN §4).
    pub hold: Duration,
}

impl Config {
    /// The defaults for a node.
    pub fn new(node: NodeId, role: Role) -> Config {
        Config {
            node,
            role,
            cache: CacheConfig::default(),
            limits: Limits::default(),
            hop_limit: 5,
            rtt: Duration::from_millis(500),
            confirm_margin: Duration::from_millis(250),
            retry_for: Duration::from_secs(10),
            retry_first: Duration::from_millis(50),
            retry_max: Duration::from_secs(1),
            linger: Duration::from_secs(2),
            hold: Duration::from_secs(5),
        }
    }
}

/// How much of each track is kept. The newest group of a track outlives the age bound (a catalog
/// may be said once an hour) but no byte bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Bytes of one track, frames' overhead included. When full, its oldest whole groups go; a
    /// single group that is larger loses its rest.
    pub track_bytes: usize,
    /// Bytes of all tracks together. When full, the oldest whole groups of any track go; if only
    /// newest groups are left, the group that grows loses its rest.
    pub node_bytes: usize,
    /// How long a group is kept after a newer one began.
    pub max_age: Duration,
    /// Groups of one track.
    pub groups: usize,
}

impl Default for CacheConfig {
    fn default() -> Self {
        CacheConfig {
            track_bytes: 16 << 20,
            node_bytes: 256 << 20,
            max_age: Duration::from_secs(10),
            groups: 256,
        }
    }
}

/// How much others may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Tracks known at once; more subscriptions are refused with `Limit`.
    pub tracks: usize,
    /// Subscriptions of one peer; more are refused with `Limit`.
    pub subscriptions_per_peer: usize,
    /// Incoming groups open at once on one subscription; a peer that opens more is disconnected.
    pub open_groups: usize,
    /// Outgoing groups open at once on one subscription: below [`Limits::open_groups`] of any
    /// neighbour. The next group waits until one is complete or dropped.
    pub open_sends: usize,
    /// Make-before-break moves under way at once; the others wait in a queue.
    pub moves: usize,
    /// The same for moves away from a neighbour in trouble, which wait for nothing else: what is
    /// heard and said first, pictures after.
    pub rescues: usize,
    /// How often one move is tried again when the new way refuses; then the next route table is
    /// waited for.
    pub move_attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tracks: 16_384,
            subscriptions_per_peer: 16_384,
            open_groups: 64,
            open_sends: 32,
            moves: 64,
            rescues: 1_024,
            move_attempts: 5,
        }
    }
}
