//! One node's table, as data.

use std::collections::BTreeMap;

use longspan_proto::{control, ids::NodeId};
use longspan_topology::routes::{Path, Version};

/// A told cost is told anew when it moved by this share …
const COST_SHARE: f64 = 0.03;
/// … and by at least this many µs (as for moving a path).
const COST_US: u64 = 3_000;

/// Whom a node shall be connected to, and its ways to every relay.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Whom it shall be connected to.
    pub neighbours: Vec<NodeId>,
    /// For each relay the paths to it, best first.
    pub paths: BTreeMap<NodeId, Vec<Path>>,
}

impl Table {
    /// Whether a node that has this one needs `other`: other ways, or costs that are clearly
    /// others.
    pub fn differs(&self, other: &Table) -> bool {
        let same_path = |a: &Path, b: &Path| {
            let moved = a.cost_us.abs_diff(b.cost_us);
            let large = ((a.cost_us as f64 * COST_SHARE) as u64).max(COST_US);
            a.hops == b.hops && moved < large
        };
        let same_paths = |a: &Vec<Path>, b: &Vec<Path>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_path(a, b))
        };
        self.neighbours != other.neighbours
            || self.paths.len() != other.paths.len()
            || self.paths.iter().any(|(to, paths)| {
                let theirs = other.paths.get(to);
                !theirs.is_some_and(|theirs| same_paths(paths, theirs))
            })
    }

    /// As it is pushed.
    pub fn message(&self, version: Version) -> control::Table {
        let route = |(to, paths): (&NodeId, &Vec<Path>)| control::Route {
            destination: to.to_string(),
            paths: paths.iter().map(path).collect(),
        };
        control::Table {
            version: Some(control::TableVersion {
                era: version.era,
                election: version.election,
                n: version.n,
            }),
            neighbours: self.neighbours.iter().map(ToString::to_string).collect(),
            routes: self.paths.iter().map(route).collect(),
        }
    }
}

fn path(path: &Path) -> control::Path {
    let hops = path.hops.iter().map(|hop| control::Hop {
        node: hop.node.to_string(),
        net: hop.net.to_string(),
    });
    control::Path {
        hops: hops.collect(),
        cost_us: path.cost_us,
    }
}
