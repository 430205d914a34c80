//! What a node tells of itself: what it has to do, and the ways of a room's tracks.

use longspan_proto::{
    control::{NodeStatus, Trace, TracedTrack},
    wire::Role,
};

use crate::shared::Shared;

/// Tracks told of one room at most; a room has a handful of streams of a few tracks each.
const TRACED: usize = 1_024;

/// What the node has to do now.
pub(super) fn status(shared: &Shared) -> NodeStatus {
    let stats = shared.engine.view(|core| core.stats());
    let peers = shared.peers.all();
    let port = shared.groups.as_ref();
    let of = port.map_or_else(Default::default, |port| port.status());
    let count = |role: Role| peers.iter().filter(|peer| peer.role == role).count() as u32;
    NodeStatus {
        subscriptions: stats.subscriptions as u32,
        tracks: stats.tracks as u32,
        relays: count(Role::Relay),
        edges: count(Role::Edge),
        groups: of.groups,
        moves: of.moves,
        policies: of.policies,
    }
}

/// The ways of a room's tracks to this node, as the nodes on them have confirmed them.
pub(super) fn traced(shared: &Shared, asked: &Trace) -> Vec<TracedTrack> {
    let tracks = shared.engine.view(|core| core.tracks());
    let of_room = tracks.into_iter().filter(|view| {
        let room = &view.track.room;
        *room.tenant == *asked.tenant && *room.room == *asked.room
    });
    of_room
        .take(TRACED)
        .map(|view| TracedTrack {
            stream: view.track.stream.to_string(),
            track: view.track.track.to_string(),
            generation: view.track.generation.0,
            chain: view.chain.iter().map(ToString::to_string).collect(),
            receivers: view.receivers as u32,
        })
        .collect()
}
