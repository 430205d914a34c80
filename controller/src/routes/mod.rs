//! From measured links to each node's table: pure.
//!
//! A path is told from the node that wants a track towards its origin. Frames flow against it, so it
//! is chosen by the links in *their* direction: where `a` pulls from `b`, what counts is the link from
//! `b` to `a` (docs/decisions/paths-the-way-frames-go.md).
//!
//! Links come from reports; [`paths`](longspan_topology::paths) finds the ways, `chosen` decides
//! whether a better one is worth moving to. Tables are computed at most once an interval, only when
//! something changed, and only what the change may touch.
//!
//! * `links`: what was reported. `capacity`: what links carry, as configured. `overrides`, `pins`: what operators ask for. `member`: nodes.
//! * `world`: the graph out of these. `chosen`: a policy class's paths in use.
//! * `table`: what a node is told. `explain`: why.

mod capacity;
mod chosen;
mod explain;
mod links;
mod member;
mod overrides;
mod pins;
mod table;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use longspan_proto::{ids::NodeId, time::Time};
use longspan_topology::{
    graph::Graph,
    hysteresis::Verdict,
    paths::Way,
    policy::{Class, Classes, TooMany},
};
use serde::Serialize;

pub use capacity::{BadCapacity, Capacities};
pub use explain::Explained;
pub use links::{LinkView, Report};
pub use member::Member;
pub use overrides::{CostOverride, NodeOverride, Overrides};
pub use pins::PinRefused;
pub use table::Table;

pub use crate::state::Now;

use chosen::{Chosen, Lost, Move};
use world::World;

/// A path is kept at least this long, unless it fails (DESIGN §4 "hold time"). Above it, a link
/// whose delay swings would move a lesson to and fro.
pub const HOLD: Duration = Duration::from_secs(5);
/// Moves of one computation that are told one by one: when a large relay dies, tens of thousands of
/// pairs move, and an event for each would drown what matters. The rest is counted.
const MOVES_TOLD: usize = 256;

/// One move from a path to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switch {
    /// When, Unix ms.
    pub at_ms: u64,
    /// Of which policy class; 0 is the default.
    pub class: u8,
    /// Where the path begins.
    pub from: NodeId,
    /// Where it leads.
    pub to: NodeId,
    /// The nodes of the old path after `from`.
    pub before: Vec<NodeId>,
    /// The nodes of the new path after `from`; empty: none is left.
    pub after: Vec<NodeId>,
    /// Why.
    pub reason: String,
}

/// What a computation gave.
#[derive(Debug, Default)]
pub struct Routed {
    /// Nodes whose table is to be pushed.
    pub push: Vec<NodeId>,
    /// Primary paths that moved.
    pub switches: Vec<Switch>,
    /// How many more moved than are told one by one.
    pub more_moves: usize,
}

/// Links, and the tables they give.
#[derive(Clone)]
pub struct Router {
    world: World,
    classes: Classes,
    /// By class number.
    chosen: Vec<Chosen>,
    tables: BTreeMap<NodeId, Table>,
    /// Tables that their nodes were not told.
    unsent: BTreeSet<NodeId>,
    /// Nodes whose table another controller computed: its paths are not in use here yet.
    adopted: BTreeSet<NodeId>,
    switches: VecDeque<Switch>,
    max_switches: usize,
    every: Duration,
    last: Option<Time>,
    /// Since when something changed.
    dirty: Option<Time>,
}

impl Router {
    /// Keeps `max_switches` moves in memory, and computes at most once `every`.
    pub fn new(max_switches: usize, every: Duration) -> Router {
        let world = World::default();
        let classes = Classes::default();
        let chosen = classes
            .iter()
            .map(|(_, class)| Chosen::new(&world.graph, class));
        Router {
            chosen: chosen.collect(),
            world,
            classes,
            tables: BTreeMap::new(),
            unsent: BTreeSet::new(),
            adopted: BTreeSet::new(),
            switches: VecDeque::new(),
            max_switches,
            every,
            last: None,
            dirty: None,
        }
    }

    /// What links carry, from the next report on.
    pub fn set_capacities(&mut self, capacities: Capacities) {
        self.world.capacities = capacities;
    }

    /// All links that end at `to`, as `to` measured them. One that is not named is down.
    pub fn report(&mut self, now: Time, to: &NodeId, reports: &[Report]) {
        if self.world.report(to, reports) {
            self.changed(now);
        }
    }

    /// What operators ask for, all of it; takes effect at the next computation.
    pub fn set_overrides(&mut self, now: Time, overrides: Overrides) {
        if self.world.set_overrides(overrides) {
            self.changed(now);
        }
    }

    /// What operators ask for now.
    pub fn overrides(&self) -> &Overrides {
        &self.world.overrides
    }

    /// Whether the path from `from` over `nodes` (the destination last) can be pinned now.
    pub fn check_pin(&self, from: &NodeId, nodes: &[NodeId]) -> Result<(), PinRefused> {
        pins::check(&self.world, from, nodes)
    }

    /// The number of a policy class, which rooms' records and tickets carry. A new one gets its
    /// paths at the next computation; one above the limit is refused.
    pub fn class(&mut self, now: Time, class: &Class) -> Result<u8, TooMany> {
        let number = self.classes.number(class)?;
        if usize::from(number) == self.chosen.len() {
            self.chosen.push(Chosen::new(&self.world.graph, class));
            self.changed(now);
        }
        Ok(number)
    }

    /// The policy classes there are.
    pub fn classes(&self) -> &Classes {
        &self.classes
    }

    /// Something besides links changed (membership, sessions).
    pub fn changed(&mut self, now: Time) {
        self.dirty = Some(self.dirty.map_or(now, |due| due.min(now)));
    }

    /// Every table is pushed at the next computation.
    pub fn push_all(&mut self, now: Time) {
        self.unsent.extend(self.tables.keys().cloned());
        self.changed(now);
    }

    /// The table a node routes by, where none is known here: another controller computed it. Its
    /// paths are left as one's own would be, and not within the hold time.
    pub fn adopt(&mut self, now: Time, node: &NodeId, table: Table) {
        if !self.tables.contains_key(node) {
            self.tables.insert(node.clone(), table);
            self.adopted.insert(node.clone());
            self.changed(now);
        }
    }

    /// This node's table is pushed at the next computation.
    pub fn push_to(&mut self, now: Time, node: &NodeId) {
        self.unsent.insert(node.clone());
        self.changed(now);
    }

    /// The node is gone, and its links.
    pub fn forget(&mut self, node: &NodeId) {
        self.world.forget(node);
        self.tables.remove(node);
        self.unsent.remove(node);
        self.adopted.remove(node);
    }

    /// When [`recompute`](Router::recompute) has something to do.
    pub fn due(&self) -> Option<Time> {
        let dirty = self.dirty?;
        Some(match self.last {
            Some(last) => dirty.max(last + self.every),
            None => dirty,
        })
    }

    /// The table a node should have.
    pub fn table(&self, node: &NodeId) -> Option<&Table> {
        self.tables.get(node)
    }

    /// The shortest measured round trip between two nodes, over whatever net, in µs.
    pub fn rtt_us(&self, a: &NodeId, b: &NodeId) -> Option<u64> {
        let both = [self.world.links.rtt_us(a, b), self.world.links.rtt_us(b, a)];
        both.into_iter().flatten().min()
    }

    /// Relays that must be connected to each other whatever the choice of neighbours, in pairs:
    /// they are in one placement group.
    pub fn set_fellows(&mut self, now: Time, fellows: BTreeSet<(NodeId, NodeId)>) {
        if self.world.set_fellows(fellows) {
            self.changed(now);
        }
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = (&NodeId, &Table)> {
        self.tables.iter()
    }

    /// All links, in order.
    pub fn links(&self) -> Vec<LinkView> {
        self.world.view()
    }

    /// The newest moves last.
    pub fn switches(&self) -> impl DoubleEndedIterator<Item = &Switch> {
        self.switches.iter()
    }

    /// Computes all tables. `members`: who is there, and who has a session (others' reports of
    /// what arrives at them have stopped).
    pub fn recompute(&mut self, now: Now, members: &[Member]) -> Routed {
        self.dirty = None;
        self.last = Some(now.time);
        let before = self.world.set_members(members);
        if before.is_some() || self.world.has_new_fellows() {
            let used = self.chosen.first();
            let relays = before.as_ref().unwrap_or(&self.world.graph).relays();
            let used = used.map(|chosen| chosen.used(relays));
            let used: BTreeSet<(usize, usize)> = used.into_iter().flatten().collect();
            self.world.set_neighbours(before.as_ref(), &used);
        }
        let changes = self.world.weigh();
        let mut routed = Routed::default();
        for class in 0..self.chosen.len() {
            let chosen = &mut self.chosen[class];
            let mut lost = Vec::new();
            match &before {
                Some(before) => (*chosen, lost) = chosen.moved_to(before, &self.world.graph),
                None => chosen.update(&self.world.graph, &changes.steps),
            }
            for node in &self.adopted {
                let table = self
                    .tables
                    .get(node)
                    .and_then(|table| table.of(class as u8));
                if let (Some(from), Some(paths)) = (self.world.graph.number(node), table) {
                    chosen.adopt(now.time, &self.world.graph, from, paths);
                }
            }
            self.choose(now, class as u8, &mut routed);
            if let Some(before) = &before {
                for lost in lost {
                    self.tell_lost(now, class as u8, before, &lost, &mut routed);
                }
            }
        }
        let graph = &self.world.graph;
        self.adopted.retain(|node| graph.number(node).is_none());
        let is_fresh = changes.is_other;
        for from in 0..self.world.graph.names().len() {
            self.tell(from, is_fresh, &mut routed);
        }
        for switch in &routed.switches {
            if self.switches.len() >= self.max_switches {
                self.switches.pop_front();
            }
            self.switches.push_back(switch.clone());
        }
        routed
    }

    fn choose(&mut self, now: Now, class: u8, routed: &mut Routed) {
        let Router { chosen, world, .. } = self;
        let Some(chosen) = chosen.get_mut(usize::from(class)) else {
            return;
        };
        let graph = &world.graph;
        let pins = pins::resolve(world, &chosen.paths);
        let pinned = |from, to| pins.get(&(from, to)).copied();
        chosen.choose(now.time, graph, pinned, |moved| {
            if routed.switches.len() < MOVES_TOLD {
                routed.switches.push(switch(now, class, graph, &moved));
            } else {
                routed.more_moves += 1;
            }
        });
    }

    /// Makes a node's table anew if it should have another, and notes whether to push it.
    fn tell(&mut self, from: usize, is_fresh: bool, routed: &mut Routed) {
        let graph = &self.world.graph;
        let id = &graph.names()[from];
        let known = self.tables.get(id);
        let is_due = is_fresh
            || known.is_none_or(|known| known.classes.len() + 1 != self.chosen.len())
            || self.chosen.iter().any(|chosen| chosen.is_due(graph, from));
        let mut differs = false;
        if is_due {
            let mut table = self.world.table(from, &self.chosen);
            if let Some(known) = known {
                table.keep_told(known);
            }
            differs = known != Some(&table);
            if differs {
                self.tables.insert(id.clone(), table);
                for chosen in &mut self.chosen {
                    chosen.sent(graph, from);
                }
            }
        }
        if self.unsent.remove(id) || differs {
            routed.push.push(id.clone());
        }
    }

    /// A path that a node left which is gone.
    fn tell_lost(&self, now: Now, class: u8, before: &Graph, lost: &Lost, routed: &mut Routed) {
        if routed.switches.len() >= MOVES_TOLD {
            routed.more_moves += 1;
            return;
        }
        let graph = &self.world.graph;
        let old = chosen::nodes(before, &lost.before, lost.from, lost.to);
        let gone = old.iter().find(|node| graph.number(node).is_none());
        let after = lost.now.and_then(|(from, to)| {
            let chosen = self.chosen.get(usize::from(class))?;
            let (way, _) = chosen.pair(graph, from, to).ways[0]?;
            Some(chosen::nodes(graph, &way, from, to))
        });
        routed.switches.push(Switch {
            at_ms: now.unix_ms,
            class,
            from: before.names()[lost.from].clone(),
            to: before.names()[lost.to].clone(),
            reason: gone.map_or_else(String::new, |node| format!("{node} is gone")),
            before: old,
            after: after.unwrap_or_default(),
        });
    }

    /// The nodes a stream crosses from its origin to `at` by the tables, without `at` and backwards;
    /// none: there is no way now.
    pub fn way(
        &self,
        class: u8,
        at: &NodeId,
        origin: &NodeId,
        attached: &[NodeId],
    ) -> Option<Vec<NodeId>> {
        let candidates = explain::candidates(self, class, at, origin, attached);
        candidates.into_iter().next().map(|best| best.nodes)
    }

    /// Why a stream goes the way it goes from `at` to its origin, in the default policy class.
    pub fn explain(&self, at: &NodeId, origin: &NodeId, attached: &[NodeId]) -> Explained {
        self.explain_in(0, at, origin, attached)
    }

    /// The same in another policy class.
    pub fn explain_in(
        &self,
        class: u8,
        at: &NodeId,
        origin: &NodeId,
        attached: &[NodeId],
    ) -> Explained {
        explain::explain(self, class, at, origin, attached)
    }
}

fn switch(now: Now, class: u8, graph: &Graph, moved: &Move) -> Switch {
    let (from, to) = (moved.from, moved.to);
    let nodes = |way: &Way| chosen::nodes(graph, way, from, to);
    let reason = match moved.verdict {
        Verdict::Failed if moved.after.is_none() => "no path is left".to_owned(),
        Verdict::Failed => "a link of the old path is down".to_owned(),
        Verdict::Better { gain_us } => {
            format!("the new path is {:.1} ms faster", gain_us as f64 / 1_000.0)
        }
        Verdict::Cheaper { saved } => {
            format!("a GB costs {} less on the new path", f64::from(saved) / 1e6)
        }
        Verdict::Drained => "a node of the old path is draining".to_owned(),
        Verdict::Pinned => "an operator pinned the new path".to_owned(),
        Verdict::SmallGain { .. } | Verdict::Held => "kept".to_owned(),
    };
    Switch {
        at_ms: now.unix_ms,
        class,
        from: graph.names()[from].clone(),
        to: graph.names()[to].clone(),
        before: nodes(&moved.before),
        after: moved.after.as_ref().map(nodes).unwrap_or_default(),
        reason,
    }
}

#[cfg(test)]
mod tests;
