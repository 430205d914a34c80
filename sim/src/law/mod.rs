//! What must always hold, by its number in DESIGN §8. A law that is broken panics with its name;
//! [`crate::run`] catches that, and looks for the shortest sequence of operations that breaks the
//! same law.
//!
//! Checked as it happens: what cores and controllers say, what viewers see. Checked after every
//! step: what every core holds that was touched since.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use longspan_proto::{
    ids::{Generation, NodeId, Position, TrackId},
    time::Time,
    wire::{Message, Start},
};
use longspan_relay::forward::{Input, PeerKey, TrackView};
use longspan_topology::{
    paths::MAX_INTERMEDIATES,
    routes::{Routes, Version},
};

use crate::{Layout, World};

/// The name of each law, as a failure tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// §8.3: no forwarding loop. What is told crosses no node twice; cycles of upstreams end.
    NoLoop,
    /// §8.4, §8.5: every cache, queue and number of moves within its bound.
    BoundedMemory,
    /// §8.2: every live subscriber is fed within its bound after the last fault, also without
    /// controllers.
    Fed,
    /// §8.1 for tracks: a resumption skips no position that a cache held.
    NothingSkipped,
    /// §3: both ends of a link that loses everything, be it in one direction, know.
    BlackholesKnown,
    /// §3: groups dropped on purpose are announced; none is missing silently.
    DropsAnnounced,
    /// §8.6: a table is never replaced by an older one.
    NewestTable,
    /// §8.6: a generation is given out once, and only upwards.
    GenerationsRise,
    /// §8.6: only the elected controller writes.
    OnlyTheLeaderWrites,
    /// §4: at most three relays between two.
    ShortPaths,
    /// §4: whoever is fed well stays where it is.
    Calm,
    /// §8.4: what nobody wants is forgotten.
    Rest,
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Law::NoLoop => "no loop (§8.3)",
            Law::BoundedMemory => "bounded memory (§8.4, §8.5)",
            Law::Fed => "fed within its bound (§8.2)",
            Law::NothingSkipped => "nothing skipped (§8.1)",
            Law::BlackholesKnown => "blackholes known (§3)",
            Law::DropsAnnounced => "drops announced (§3)",
            Law::NewestTable => "the newest table (§8.6)",
            Law::GenerationsRise => "generations rise (§8.6)",
            Law::OnlyTheLeaderWrites => "only the leader writes (§8.6)",
            Law::ShortPaths => "short paths (§4)",
            Law::Calm => "calm (§4)",
            Law::Rest => "rest (§8.4)",
        };
        f.write_str(name)
    }
}

#[track_caller]
fn broken(law: Law, why: fmt::Arguments<'_>) -> ! {
    panic!("{law}: {why}")
}

macro_rules! holds {
    ($law:expr, $holds:expr, $($why:tt)*) => {
        if !$holds {
            broken($law, format_args!($($why)*));
        }
    };
}

mod fed;

/// A cycle lives as long as news of a chain travels around it, not longer.
const CYCLE_FOR: Duration = Duration::from_secs(2);
/// An idle link is probed once a second: four probes, a round trip, and the verdict's own probes.
const KNOWN_WITHIN: Duration = Duration::from_secs(8);

/// Where a peer's subscriptions asked to start, by their numbers.
type Asked = HashMap<u64, (TrackId, Position)>;

/// What was seen so far.
pub(crate) struct Laws {
    /// When cycles of upstreams were seen.
    cycles: BTreeMap<(usize, TrackId), Time>,
    /// What peers asked for, at each node.
    asked: Vec<HashMap<PeerKey, Asked>>,
    touched: BTreeSet<usize>,
    /// Each node's upstream by track, as last looked at.
    upstreams: Vec<HashMap<TrackId, usize>>,
}

impl Laws {
    pub fn new(nodes: usize) -> Laws {
        Laws {
            cycles: BTreeMap::new(),
            asked: vec![HashMap::new(); nodes],
            touched: BTreeSet::new(),
            upstreams: vec![HashMap::new(); nodes],
        }
    }

    pub fn touched(&mut self, node: usize) {
        self.touched.insert(node);
    }

    pub fn forget(&mut self, node: usize) {
        self.upstreams[node].clear();
        self.asked[node].clear();
    }

    /// A core hears something.
    pub fn hears(&mut self, node: usize, input: &Input) {
        let asked = &mut self.asked[node];
        match input {
            Input::Control { peer, message } => match message {
                Message::Subscribe(subscribe) => {
                    if let Start::At(start) = subscribe.start {
                        let wish = (subscribe.track.clone(), start);
                        asked.entry(*peer).or_default().insert(subscribe.id, wish);
                    }
                }
                Message::Unsubscribe(over) => {
                    if let Some(asked) = asked.get_mut(peer) {
                        asked.remove(&over.id);
                    }
                }
                _ => {}
            },
            Input::PeerDown { peer } => {
                asked.remove(peer);
            }
            _ => {}
        }
    }

    /// [`Law::NoLoop`] of what a viewer is told.
    pub fn path(&self, path: &[NodeId]) {
        for (at, node) in path.iter().enumerate() {
            let twice = path[..at].contains(node);
            holds!(Law::NoLoop, !twice, "{path:?} crosses {node} twice");
        }
    }

    /// [`Law::BoundedMemory`]: no subscription has more groups open than the other side allows.
    pub fn open_sends(&self, open: usize) {
        holds!(
            Law::BoundedMemory,
            open <= 64,
            "{open} groups are open on one subscription"
        );
    }

    /// [`Law::NewestTable`], [`Law::ShortPaths`] and [`Law::NoLoop`] of a table that a node takes.
    pub fn table(&self, me: &NodeId, held: Option<Version>, taken: &Routes, layout: &Layout) {
        let version = taken.version;
        holds!(
            Law::NewestTable,
            held.is_none_or(|held| held <= version),
            "{me} takes {version:?} in place of {held:?}"
        );
        for path in taken.paths.values().flatten() {
            let between = path.hops.len().saturating_sub(1);
            let at_edge = usize::from(layout.is_edge(layout.index(me)));
            holds!(
                Law::ShortPaths,
                between <= MAX_INTERMEDIATES + at_edge,
                "{me} is told {path:?}"
            );
            for (at, hop) in path.hops.iter().enumerate() {
                let twice = path.hops[..at].iter().any(|h| h.node == hop.node);
                holds!(
                    Law::NoLoop,
                    !twice && hop.node != *me,
                    "{me} is told {path:?}"
                );
            }
        }
    }

    /// [`Law::GenerationsRise`].
    pub fn generation(&self, slot: usize, before: Option<Generation>, now: Generation) {
        holds!(
            Law::GenerationsRise,
            before.is_none_or(|before| before < now),
            "stream {slot} had {before:?} and is given {now:?}"
        );
    }

    /// [`Law::OnlyTheLeaderWrites`].
    pub fn commit(&self, who: &NodeId, leader: Option<&NodeId>) {
        holds!(
            Law::OnlyTheLeaderWrites,
            leader == Some(who),
            "{who} writes while {leader:?} leads"
        );
    }
}

impl World {
    /// The laws of what is held, for every core that was touched since.
    pub fn check(&mut self) {
        let touched = std::mem::take(&mut self.laws.touched);
        for node in &touched {
            self.check_core(*node);
        }
        self.no_cycle(&touched);
    }

    /// [`Law::BlackholesKnown`].
    pub fn blackholes_known(&self) {
        let long_ago = |at: Time| self.now.saturating_since(at) >= KNOWN_WITHIN;
        for (at, link) in self.links.iter().enumerate() {
            if link.cut == [false; 2] || !long_ago(link.cut_since) {
                continue;
            }
            for side in 0..2 {
                let node = self.end(at, side);
                let since = link.conns[side].and_then(|id| self.conns[id as usize].as_deref());
                let since = since.map(|conn| conn.halves[side].opened);
                let could = self.runs(node)
                    && long_ago(self.nodes[node].went_on)
                    && since.is_some_and(long_ago);
                holds!(
                    Law::BlackholesKnown,
                    !could || !self.is_up(at, side),
                    "{} still trusts its link to {}, cut {:?} since {:?}",
                    self.layout.name(node),
                    self.layout.name(self.end(at, 1 - side)),
                    link.cut,
                    link.cut_since
                );
            }
        }
    }

    fn check_core(&mut self, at: usize) {
        let Some(core) = &self.nodes[at].core else {
            return;
        };
        let name = self.layout.name(at);
        let local = self.nodes[at].clock.shows(self.now);
        let (stats, config, tracks) = (core.stats(), core.config(), core.tracks());
        let moving = tracks.iter().filter(|t| t.moving_to.is_some()).count();
        let bytes: usize = tracks.iter().map(|t| t.bytes).sum();
        let groups: usize = tracks.iter().map(|t| t.groups).sum();
        let cache = &config.cache;
        let is_bounded = stats.cache_bytes <= cache.node_bytes
            && stats.tracks <= config.limits.tracks
            && stats.moves <= config.limits.moves
            && stats.moves <= moving
            && (stats.cache_bytes, stats.cache_groups) == (bytes, groups);
        holds!(Law::BoundedMemory, is_bounded, "{name}: {stats:?}");
        let mut upstreams = HashMap::new();
        for track in &tracks {
            let fits = track.bytes <= cache.track_bytes && track.groups <= cache.groups;
            holds!(Law::BoundedMemory, fits, "{name}: {track:?}");
            for group in &track.held {
                let age = group.superseded.map(|at| local.saturating_since(at));
                // A stopped node evicts when it goes on.
                let state = &self.nodes[at];
                let rests = state.stopped || state.went_on == self.now;
                let is_young = age.is_none_or(|age| age <= cache.max_age) || rests;
                holds!(Law::BoundedMemory, is_young, "{name}: {track:?}");
            }
            let chain = &track.chain;
            self.laws.path(chain);
            holds!(
                Law::NoLoop,
                chain.last().is_none_or(|last| last == name),
                "{name} ends {chain:?}"
            );
            if let [.., upstream, _] = &chain[..] {
                upstreams.insert(track.track.clone(), self.layout.index(upstream));
            }
        }
        self.laws.upstreams[at] = upstreams;
    }

    /// [`Law::NoLoop`]: a cycle of upstreams is found out by those in it.
    fn no_cycle(&mut self, touched: &BTreeSet<usize>) {
        let upstreams = &self.laws.upstreams;
        let mut seen = BTreeSet::new();
        for from in touched {
            for track in upstreams[*from].keys() {
                let mut at = *from;
                for _ in 0..upstreams.len() {
                    match upstreams[at].get(track) {
                        Some(next) if next == from => {
                            seen.insert((*from, track.clone()));
                            break;
                        }
                        Some(next) => at = *next,
                        None => break,
                    }
                }
            }
        }
        self.laws
            .cycles
            .retain(|cycle, _| seen.contains(cycle) || !touched.contains(&cycle.0));
        let stopped = self.nodes.iter().any(|n| n.stopped);
        for cycle in seen {
            let since = *self.laws.cycles.entry(cycle.clone()).or_insert(self.now);
            let lives = self.now.saturating_since(since);
            holds!(
                Law::NoLoop,
                lives < CYCLE_FOR || stopped,
                "a cycle of upstreams at {} lives for {lives:?}: {}",
                self.layout.name(cycle.0),
                cycle.1
            );
        }
    }

    /// [`Law::NothingSkipped`]: no position is skipped that a core, or the one it asks, holds.
    pub(crate) fn said(&self, node: usize, peer: PeerKey, message: &Message) {
        let Some(core) = &self.nodes[node].core else {
            return;
        };
        match message {
            Message::Subscribe(subscribe) => {
                let Start::At(start) = subscribe.start else {
                    return;
                };
                if let Some(track) = core.track(&subscribe.track) {
                    asks_for_what_it_lacks(start, &track);
                }
            }
            Message::Ok(ok) => {
                let asked = self.laws.asked[node].get(&peer);
                let asked = asked.and_then(|asked| asked.get(&ok.id));
                let (Some((track, start)), Some(first)) = (asked, ok.first) else {
                    return;
                };
                if let Some(track) = core.track(track) {
                    gives_what_it_holds(*start, first, &track);
                }
            }
            _ => {}
        }
    }

    /// [`Law::Calm`]: how often each core lost or moved an upstream; it must not change while
    /// nothing happens.
    pub fn moves(&self) -> Vec<(u64, u64)> {
        let cores = self.nodes.iter().filter_map(|n| n.core.as_ref());
        cores
            .map(|core| core.stats())
            .map(|s| (s.upstream_lost, s.moves_failed))
            .collect()
    }

    /// [`Law::Calm`].
    pub fn calm(&self, before: &[(u64, u64)]) {
        let now = self.moves();
        holds!(
            Law::Calm,
            now == before,
            "still looking for better, by node: {before:?}, then {now:?}"
        );
    }

    /// [`Law::Rest`]: nobody watches any more; nothing is taken from anyone, and nothing held.
    pub fn rest(&self) {
        for (at, node) in self.nodes.iter().enumerate() {
            let name = self.layout.name(at);
            let Some(core) = &node.core else { continue };
            let stats = core.stats();
            let mut tracks = core.tracks();
            tracks.retain(|t| t.chain.len() != 1);
            holds!(Law::Rest, tracks.is_empty(), "{name} still has {tracks:?}");
            holds!(
                Law::Rest,
                (stats.subscriptions, stats.moves) == (0, 0),
                "{name}: {stats:?}"
            );
        }
    }
}

fn asks_for_what_it_lacks(start: Position, track: &TrackView) {
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
        holds!(
            Law::NothingSkipped,
            !group.open || end >= start,
            "{start:?} skips {end:?}: {track:?}"
        );
    }
    if let Some(last) = track.held.last() {
        holds!(
            Law::NothingSkipped,
            start.group <= last.group + 1,
            "{start:?} skips groups: {track:?}"
        );
    }
}

fn gives_what_it_holds(start: Position, first: Position, track: &TrackView) {
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
        holds!(
            Law::NothingSkipped,
            !skipped,
            "{start:?} answered by {first:?}: {track:?}"
        );
    }
}
