//! One node's route table: the ways from it to every relay, and where edges are attached.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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

/// A way from the table's owner (not named) to a destination (named last). Frames come against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    /// The hops, never empty.
    pub hops: Vec<Hop>,
    /// Expected delivery latency of what comes from the destination, in µs.
    pub cost_us: u64,
}

/// What one node knows of the ways to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// Which table this is.
    pub version: Version,
    /// Whom to be connected to.
    pub neighbours: Vec<NodeId>,
    /// For each relay the paths to it, best first, of the default policy class.
    pub paths: BTreeMap<NodeId, Vec<Path>>,
    /// The same for every other policy class, by its number.
    pub classes: BTreeMap<u8, BTreeMap<NodeId, Vec<Path>>>,
    /// Links (sender, receiver) on these paths that take no new track unless nothing else reaches.
    pub full: BTreeSet<(NodeId, NodeId)>,
    /// For each edge the relays it is attached to, best first.
    pub attached: HashMap<NodeId, Vec<NodeId>>,
}

impl Routes {
    /// The explicit paths from the table's owner `me` to `origin`, best first: each a list of
    /// nodes without `me`, `origin` last. A relay is reached by its paths; an edge through the
    /// relays it is attached to. Empty: no way is known.
    pub fn ways(&self, me: &NodeId, origin: &NodeId) -> Vec<Vec<NodeId>> {
        self.ways_of(0, me, origin)
    }

    /// The same for a policy class. One that the table does not hold has none: another class's
    /// paths might cross a country that it forbids.
    pub fn ways_of(&self, class: u8, me: &NodeId, origin: &NodeId) -> Vec<Vec<NodeId>> {
        let ways = self.priced_of(class, me, origin).into_iter();
        ways.map(|(_, way)| way).collect()
    }

    /// As [`ways`](Routes::ways), each with its cost in µs (to an edge: to where it is attached).
    pub fn priced(&self, me: &NodeId, origin: &NodeId) -> Vec<(u64, Vec<NodeId>)> {
        self.priced_of(0, me, origin)
    }

    /// The same for a policy class.
    pub fn priced_of(&self, class: u8, me: &NodeId, origin: &NodeId) -> Vec<(u64, Vec<NodeId>)> {
        let known = match class {
            0 => Some(&self.paths),
            class => self.classes.get(&class),
        };
        let Some(known) = known else {
            return Vec::new();
        };
        if let Some(paths) = known.get(origin) {
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
            for path in known.get(relay).into_iter().flatten() {
                let mut way = nodes(path);
                way.push(origin.clone());
                ways.push((path.cost_us, way));
            }
        }
        ways.sort_by_key(|(cost, _)| *cost);
        ways
    }

    /// The relays over which an edge is reached and to which a path of the default class leads, best
    /// first.
    pub fn entries<'a>(&'a self, edge: &NodeId) -> impl Iterator<Item = &'a NodeId> {
        let attached = self.attached.get(edge).into_iter().flatten();
        attached.filter(|relay| self.paths.contains_key(*relay))
    }

    /// Whether a way of [`ways`](Routes::ways) is open to a new track: it crosses no full link.
    pub fn is_open(&self, me: &NodeId, way: &[NodeId]) -> bool {
        let pulling = std::iter::once(me).chain(way);
        let mut links = pulling
            .zip(way)
            .map(|(receiver, sender)| (sender.clone(), receiver.clone()));
        self.full.is_empty() || !links.any(|link| self.full.contains(&link))
    }
}

fn nodes(path: &Path) -> Vec<NodeId> {
    path.hops.iter().map(|hop| hop.node.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn paths(text: &[(&str, u64)]) -> Vec<Path> {
        let hop = |name: &str| Hop {
            node: node(name),
            net: Net::internet(),
        };
        let path = |(nodes, cost_us): &(&str, u64)| Path {
            hops: nodes.split(' ').map(hop).collect(),
            cost_us: *cost_us,
        };
        text.iter().map(path).collect()
    }

    #[test]
    fn each_class_has_its_own_ways_and_none_of_anothers() {
        let routes = Routes {
            paths: [(node("d"), paths(&[("b d", 20), ("c d", 30)]))].into(),
            classes: [(3, [(node("d"), paths(&[("c d", 30)]))].into())].into(),
            attached: [(node("e-1"), vec![node("d")])].into(),
            ..Routes::default()
        };
        let ways = |class, to| routes.ways_of(class, &node("a"), &node(to)).len();
        assert_eq!([ways(0, "d"), ways(3, "d"), ways(4, "d")], [2, 1, 0]);
        assert_eq!([ways(0, "e-1"), ways(3, "e-1"), ways(4, "e-1")], [2, 1, 0]);
        assert_eq!(
            routes.ways(&node("a"), &node("d")),
            [["b", "d"].map(node), ["c", "d"].map(node)]
        );
    }

    #[test]
    fn a_way_over_a_full_link_is_not_open() {
        let routes = Routes {
            full: [(node("d"), node("b"))].into(),
            ..Routes::default()
        };
        let is_open = |way: &[&str]| {
            let way: Vec<NodeId> = way.iter().map(|name| node(name)).collect();
            routes.is_open(&node("a"), &way)
        };
        assert!(!is_open(&["b", "d"]));
        assert!(is_open(&["d", "b"]) && is_open(&["b"]) && is_open(&[]));
    }
}
