//! From measured links to each node's table: pure.
//!
//! Links come from reports; [`paths`](longspan_topology::paths) finds the ways; hysteresis decides
//! whether a better one is worth moving to. Tables are computed at most once an interval, and only
//! when something changed.

mod explain;
mod links;
mod overrides;
mod pins;
mod table;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use longspan_proto::{ids::NodeId, time::Time, wire::Role};
use longspan_topology::{
    hysteresis::{self, Verdict},
    paths::Index,
    routes::Path,
};
use serde::Serialize;

pub use explain::Explained;
pub use links::{LinkView, Report};
pub use overrides::{CostOverride, NodeOverride, Overrides};
pub use pins::PinRefused;
pub use table::Table;

use crate::state::Now;
use links::Links;

/// A path is kept at least this long, unless it fails (DESIGN §4 "hold time"). Above it, a link
/// whose delay swings would move a lesson to and fro.
pub const HOLD: Duration = Duration::from_secs(5);

/// One move from a path to another.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Switch {
    /// When, Unix ms.
    pub at_ms: u64,
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
}

/// Links, and the tables they give.
#[derive(Clone)]
pub struct Router {
    links: Links,
    tables: BTreeMap<NodeId, Table>,
    /// Tables that their nodes were not told.
    unsent: std::collections::BTreeSet<NodeId>,
    moved: HashMap<(NodeId, NodeId), Time>,
    switches: VecDeque<Switch>,
    max_switches: usize,
    every: Duration,
    last: Option<Time>,
    /// Since when something changed.
    dirty: Option<Time>,
    overrides: Overrides,
}

impl Router {
    /// Keeps `max_switches` moves in memory, and computes at most once `every`.
    pub fn new(max_switches: usize, every: Duration) -> Router {
        Router {
            links: Links::default(),
            tables: BTreeMap::new(),
            unsent: Default::default(),
            moved: HashMap::new(),
            switches: VecDeque::new(),
            max_switches,
            every,
            last: None,
            dirty: None,
            overrides: Overrides::default(),
        }
    }

    /// All links that end at `to`, as `to` measured them. One that is not named is down.
    pub fn report(&mut self, now: Time, to: &NodeId, reports: &[Report]) {
        if self.links.report(to, reports) {
            self.changed(now);
        }
    }

    /// Something besides links changed (membership, sessions).
    pub fn changed(&mut self, now: Time) {
        self.dirty = Some(self.dirty.map_or(now, |due| due.min(now)));
    }

    /// What operators ask for, all of it; takes effect at the next computation.
    pub fn set_overrides(&mut self, now: Time, overrides: Overrides) {
        if self.overrides != overrides {
            self.overrides = overrides;
            self.changed(now);
        }
    }

    /// What operators ask for now.
    pub fn overrides(&self) -> &Overrides {
        &self.overrides
    }

    /// Whether the path from `from` over `nodes` (the destination last) can be pinned now.
    pub fn check_pin(&self, from: &NodeId, nodes: &[NodeId]) -> Result<(), PinRefused> {
        pins::check(self, from, nodes)
    }

    /// Every table is pushed at the next computation.
    pub fn push_all(&mut self, now: Time) {
        self.unsent.extend(self.tables.keys().cloned());
        self.changed(now);
    }

    /// The table a node routes by, where none is known here: another controller computed it. Its
    /// paths are left as one's own would be, and not within the hold time.
    pub fn adopt(&mut self, now: Time, node: &NodeId, table: Table) {
        if self.tables.contains_key(node) {
            return;
        }
        for to in table.paths.keys() {
            self.moved.insert((node.clone(), to.clone()), now);
        }
        self.tables.insert(node.clone(), table);
    }

    /// This node's table is pushed at the next computation.
    pub fn push_to(&mut self, now: Time, node: &NodeId) {
        self.unsent.insert(node.clone());
        self.changed(now);
    }

    /// The node is gone, and its links.
    pub fn forget(&mut self, node: &NodeId) {
        self.links.forget(node);
        self.tables.remove(node);
        self.unsent.remove(node);
        self.moved
            .retain(|(from, to), _| from != node && to != node);
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

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = (&NodeId, &Table)> {
        self.tables.iter()
    }

    /// All links, in order.
    pub fn links(&self) -> Vec<LinkView> {
        self.links.view()
    }

    /// The newest moves last.
    pub fn switches(&self) -> impl DoubleEndedIterator<Item = &Switch> {
        self.switches.iter()
    }

    /// Computes all tables. `nodes`: who is there, and who has a session (others' reports of
    /// what arrives at them have stopped).
    pub fn recompute(&mut self, now: Now, nodes: &[(NodeId, Role, bool)]) -> Routed {
        self.dirty = None;
        self.last = Some(now.time);
        let graph = self.links.graph(nodes);
        let index = Index::new(&graph);
        let relays: Vec<&NodeId> = nodes
            .iter()
            .filter(|(_, role, _)| *role == Role::Relay)
            .map(|(id, _, _)| id)
            .collect();
        let mut routed = Routed::default();
        for (id, role, _) in nodes {
            let neighbours = match role {
                Role::Relay => relays
                    .iter()
                    .filter(|r| **r != id)
                    .copied()
                    .cloned()
                    .collect(),
                // An edge chooses its relays itself, by the directory and by what answers.
                Role::Edge => Vec::new(),
            };
            let known = self.tables.get(id);
            let mut table = Table {
                neighbours,
                paths: BTreeMap::new(),
            };
            for (to, found) in index.from(id) {
                let before = known.and_then(|t| t.paths.get(&to)).and_then(|p| p.first());
                let pair = (id.clone(), to);
                let moved = self.moved.get(&pair).copied();
                let (paths, verdict) = self.links.choose(now.time, id, before, found, moved);
                if let (Some(before), Some(verdict)) = (before, verdict) {
                    self.moved.insert(pair.clone(), now.time);
                    let after = paths.first();
                    routed
                        .switches
                        .push(switch(now, &pair, before, after, verdict));
                }
                table.paths.insert(pair.1, paths);
            }
            for (to, before) in known.iter().flat_map(|known| &known.paths) {
                if let (false, Some(before)) = (table.paths.contains_key(to), before.first()) {
                    let pair = (id.clone(), to.clone());
                    let gone = switch(now, &pair, before, None, Verdict::Failed);
                    routed.switches.push(gone);
                }
            }
            if let Some(known) = known {
                table.keep_told(known);
            }
            let differs = known != Some(&table);
            let unsent = self.unsent.remove(id);
            if differs {
                self.tables.insert(id.clone(), table);
            }
            if differs || unsent {
                routed.push.push(id.clone());
            }
        }
        self.links.computed();
        for switch in &routed.switches {
            if self.switches.len() >= self.max_switches {
                self.switches.pop_front();
            }
            self.switches.push_back(switch.clone());
        }
        routed
    }

    /// Why a stream goes the way it goes from `at` to its origin.
    pub fn explain(&self, at: &NodeId, origin: &NodeId, attached: &[NodeId]) -> Explained {
        explain::explain(self, at, origin, attached)
    }
}

fn switch(
    now: Now,
    (from, to): &(NodeId, NodeId),
    before: &Path,
    after: Option<&Path>,
    verdict: Verdict,
) -> Switch {
    let nodes = |path: &Path| path.hops.iter().map(|hop| hop.node.clone()).collect();
    let reason = match verdict {
        Verdict::Failed => "a link of the old path is down".to_owned(),
        Verdict::Better { gain_us } => {
            format!("the new path is {:.1} ms faster", gain_us as f64 / 1_000.0)
        }
        Verdict::SmallGain { .. } | Verdict::Held => "kept".to_owned(),
    };
    Switch {
        at_ms: now.unix_ms,
        from: from.clone(),
        to: to.clone(),
        before: nodes(before),
        after: after.map(nodes).unwrap_or_default(),
        reason,
    }
}

/// Judges whether to move from the path in use to a candidate; see [`hysteresis::judge`].
fn judge(present: Option<u64>, candidate: u64, now: Time, moved: Option<Time>) -> Verdict {
    hysteresis::judge(present, candidate, now, moved, HOLD)
}

#[cfg(test)]
mod tests;
