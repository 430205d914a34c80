//! One node's route table: the ways from it to every relay, and where edges are attached.

use std::collections::{BTreeMap, HashMap};

use longspan_proto::ids::{Net, NodeId};

/// (store era, election revision, n); compared in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The store's era.
    pub era: u32,
    /// The store revision at which the computing controller was elected.
    pub election: u64,
    /// Counts the tables of one election.
    pub n: u64,
}

/// One link of a path and the node it leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Where the link leads.
    pub node: NodeId,
    /// Over which net.
    pub net: Net,
}

/// A way from the table's owner (not named) to a destination (named last).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The hops, never empty.
    pub hops: Vec<Hop>,
    /// Expected delivery latency in µs.
    pub cost_us: u64,
}

/// What one node knows of the ways to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// Which table this is.
    pub version: Version,
    /// Whom to be connected to.
    pub neighbours: Vec<NodeId>,
    /// For each relay the paths to it, best first.
    pub paths: BTreeMap<NodeId, Vec<Path>>,
    /// For each edge the relays it is attached to, best first.
    pub attached: HashMap<NodeId, Vec<NodeId>>,
}

impl Routes {
    /// The explicit paths from the table's owner `me` to `origin`, best first: each a list of
    /// nodes without `me`, `origin` last. A relay is reached by its paths; an edge through the
    /// relays it is attached to. Empty: no way is known.
    pub fn ways(&self, me: &NodeId, origin: &NodeId) -> Vec<Vec<NodeId>> {
        let ways = self.priced(me, origin).into_iter();
        ways.map(|(_, way)| way).collect()
    }

    /// The same, each with its cost in µs (to an edge: to where it is attached).
    pub fn priced(&self, me: &NodeId, origin: &NodeId) -> Vec<(u64, Vec<NodeId>)> {
        if let Some(paths) = self.paths.get(origin) {
            let mut paths: Vec<&Path> = paths.iter().collect();
            paths.sort_by_key(|p| p.cost_us);
            return paths.into_iter().map(|p| (p.cost_us, nodes(p))).collect();
        }
        let mut ways: Vec<(u64, Vec<NodeId>)> = Vec::new();
        for relay in self.attached.get(origin).into_iter().flatten() {
            if relay == me {
                ways.push((0, vec![origin.clone()]));
                continue;
            }
            for path in self.paths.get(relay).into_iter().flatten() {
                let mut way = nodes(path);
                way.push(origin.clone());
                ways.push((path.cost_us, way));
            }
        }
        ways.sort_by_key(|(cost, _)| *cost);
        ways
    }
}

fn nodes(path: &Path) -> Vec<NodeId> {
    path.hops.iter().map(|hop| hop.node.clone()).collect()
}
