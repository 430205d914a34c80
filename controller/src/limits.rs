//! The named bounds of a controller, and what happens when each is reached.

use std::time::Duration;

use crate::routes::Capacities;

/// Every bound of a controller.
#[derive(Debug, Clone)]
pub struct Limits {
    /// What links carry. One above 80 % of it takes no new track unless nothing else reaches.
    pub capacities: Capacities,
    /// How long a node's records outlive its last heartbeat (DESIGN §7: 15 s).
    pub lease_ttl: Duration,
    /// How long a controller leads after it was last able to renew its election. A third of it
    /// passes between renewals. When the leader dies another one leads after this and what etcd
    /// takes to see a lease's end (it looks twice a second): within 5 s. etcd's shortest lease is 2 s.
    pub election_ttl: Duration,
    /// Pushes waiting for one node. A node that does not read is disconnected when it is full.
    pub session_queue: usize,
    /// Sessions at once. Another node is answered RESOURCE_EXHAUSTED.
    pub sessions: usize,
    /// Rooms one node may watch. Another is answered RESOURCE_EXHAUSTED, ending the session.
    pub rooms_per_node: usize,
    /// Rooms in memory. Another is answered RESOURCE_EXHAUSTED; idle ones go after an hour.
    pub rooms: usize,
    /// Streams in one room. Another claim is answered RESOURCE_EXHAUSTED.
    pub streams_per_room: usize,
    /// Link reports in one message. A longer message ends the session with INVALID_ARGUMENT.
    pub links_per_report: usize,
    /// Events kept for one reader of `/api/v1/events`. A reader that lags is told how many it
    /// missed, and goes on with the newest.
    pub events: usize,
    /// Route switches kept for `routes/explain` and the log. Older ones are forgotten.
    pub switches: usize,
    /// Claims and releases waiting for the store. Another is answered UNAVAILABLE.
    pub commits: usize,
    /// Placement groups in the store. Regions that have none yet get none any more, and their rooms
    /// no replicated log; groups that relays bring along beyond it are refused.
    pub groups: usize,
    /// How long after its lease's end a relay's parts in placement groups are given to another: a
    /// member is not replaced for a blip. With the lease (15 s) it is replaced 25 s after its last
    /// word, so that redundancy is back within 30 s of a lasting loss (DESIGN §5).
    pub member_grace: Duration,
    /// What operators ask for at once (cordons, drains, costs, pins). Another is refused.
    pub overrides: usize,
    /// Rooms for which operators wish how much of their order is kept. Another is refused.
    pub policies: usize,
    /// Traces of rooms under way. Another is answered with what the tables say only.
    pub traces: usize,
    /// Tables are computed at most this often (when something changed).
    pub recompute_every: Duration,
    /// How long one call to the store may take; what it decides is then unknown and the store
    /// counts as lost.
    pub store_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            capacities: Capacities::default(),
            lease_ttl: Duration::from_secs(15),
            election_ttl: Duration::from_secs(3),
            session_queue: 1_024,
            sessions: 4_096,
            rooms_per_node: 16_384,
            rooms: 262_144,
            streams_per_room: 256,
            links_per_report: 4_096,
            events: 1_024,
            switches: 256,
            commits: 4_096,
            groups: 4_096,
            member_grace: Duration::from_secs(10),
            overrides: 4_096,
            policies: 4_096,
            traces: 64,
            recompute_every: Duration::from_millis(250),
            store_timeout: Duration::from_secs(3),
        }
    }
}
