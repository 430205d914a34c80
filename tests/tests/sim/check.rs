//! What must hold of every core, at every step.

use std::collections::HashMap;

use longspan_proto::{
    ids::Position,
    time::Time,
    wire::{Message, Start},
};
use longspan_relay::forward::{Input, PeerKey, StreamKey, TrackView};

use super::world::World;

/// When cycles of upstreams were seen; they may live until the chain that tells of them is here.
#[derive(Debug, Default)]
pub struct Checked {
    cycles: HashMap<(usize, String), Time>,
    /// Where peers' subscriptions asked to start.
    asked: HashMap<(usize, PeerKey, u64), (String, Position)>,
}

impl Checked {
    /// A core hears something.
    pub fn hears(&mut self, node: usize, input: &Input) {
        if let Input::Control {
            peer,
            message: Message::Subscribe(subscribe),
        } = input
            && let Start::At(start) = subscribe.start
        {
            let asked = (subscribe.track.to_string(), start);
            self.asked.insert((node, *peer, subscribe.id), asked);
        }
    }
}

/// A cycle lives as long as news of a chain travels around it, not longer.
const CYCLE_FOR_US: u64 = 2_000_000;

/// Bounds, sums and chains of every core.
pub fn cores(world: &mut World) {
    let mut upstreams: HashMap<(usize, String), usize> = HashMap::new();
    for (at, node) in world.nodes.iter().enumerate() {
        let Some(core) = &node.core else { continue };
        let name = &world.graph.names[at];
        let (stats, config, tracks) = (core.stats(), core.config(), core.tracks());
        let cache = &config.cache;
        assert!(stats.cache_bytes <= cache.node_bytes, "{name}: {stats:?}");
        assert!(stats.tracks <= config.limits.tracks, "{name}: {stats:?}");
        assert!(stats.moves <= config.limits.moves, "{name}: {stats:?}");
        let moving = tracks.iter().filter(|t| t.moving_to.is_some()).count();
        assert!(stats.moves <= moving, "{name}: {stats:?}");
        assert_eq!(
            stats.cache_bytes,
            tracks.iter().map(|t| t.bytes).sum::<usize>()
        );
        assert_eq!(
            stats.cache_groups,
            tracks.iter().map(|t| t.groups).sum::<usize>()
        );
        for track in &tracks {
            assert!(track.bytes <= cache.track_bytes, "{name}: {track:?}");
            assert!(track.groups <= cache.groups, "{name}: {track:?}");
            for group in &track.held {
                let age = group.superseded.map(|at| world.now.saturating_since(at));
                assert!(
                    age.is_none_or(|age| age <= cache.max_age),
                    "{name}: {track:?}"
                );
            }
            let chain = &track.chain;
            for (n, node) in chain.iter().enumerate() {
                assert!(!chain[..n].contains(node), "{name}: a loop: {chain:?}");
            }
            if let Some(last) = chain.last() {
                assert_eq!(last, name);
            }
            if let [.., upstream, _] = &chain[..] {
                let upstream = world.graph.index(upstream);
                upstreams.insert((at, track.track.to_string()), upstream);
            }
        }
    }
    let cyclic = |from: &(usize, String)| {
        let mut at = from.clone();
        for _ in 0..upstreams.len() {
            match upstreams.get(&at) {
                Some(next) if *next == from.0 => return true,
                Some(next) => at.0 = *next,
                None => return false,
            }
        }
        false
    };
    let cycles: Vec<_> = upstreams
        .keys()
        .filter(|from| cyclic(from))
        .cloned()
        .collect();
    world.checked.cycles.retain(|from, _| cycles.contains(from));
    for from in cycles {
        let since = *world
            .checked
            .cycles
            .entry(from.clone())
            .or_insert(world.now);
        let age = world.now.as_micros() - since.as_micros();
        assert!(age < CYCLE_FOR_US, "a cycle of upstreams at {from:?}");
    }
}

fn held<'t>(tracks: &'t [TrackView], track: &str) -> Option<&'t TrackView> {
    tracks.iter().find(|t| t.track.to_string() == track)
}

/// What a core says: no position is skipped that it, or the one it asks, holds.
pub fn said(world: &World, node: usize, peer: PeerKey, message: &Message) {
    let Some(core) = &world.nodes[node].core else {
        return;
    };
    match message {
        Message::Subscribe(subscribe) => {
            let Start::At(start) = subscribe.start else {
                return;
            };
            let tracks = core.tracks();
            let Some(track) = held(&tracks, &subscribe.track.to_string()) else {
                return;
            };
            if let [.., upstream, _] = &track.chain[..]
                && track.moving_to.as_ref() == Some(upstream)
            {
                // Beside the leg from the same neighbour: it fetches what was before.
                return;
            }
            for group in &track.held {
                let end = Position {
                    group: group.group,
                    frame: group.end,
                };
                assert!(
                    !group.open || end >= start,
                    "{start:?} skips {end:?}: {track:?}"
                );
            }
            if let Some(last) = track.held.last() {
                assert!(
                    start.group <= last.group + 1,
                    "{start:?} skips groups: {track:?}"
                );
            }
        }
        Message::Ok(ok) => {
            let asked = world.checked.asked.get(&(node, peer, ok.id));
            let (Some((track, start)), Some(first)) = (asked, ok.first) else {
                return;
            };
            let tracks = core.tracks();
            let Some(track) = held(&tracks, track) else {
                return;
            };
            for group in track.held.iter().filter(|g| g.group >= start.group) {
                let from = match group.group == start.group {
                    true => start.frame.max(group.first),
                    false => group.first,
                };
                let held = Position {
                    group: group.group,
                    frame: from,
                };
                let skipped = held < first && from < group.end;
                assert!(!skipped, "{start:?} answered by {first:?}: {track:?}");
            }
        }
        _ => {}
    }
}

/// No subscription has more groups open than the other side allows.
pub fn open_sends(sent: &HashMap<StreamKey, u64>, subscription: u64) {
    let open = sent.values().filter(|s| **s == subscription).count();
    assert!(open <= 64, "{open} groups are open on one subscription");
}
