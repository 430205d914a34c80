//! One node's table, as data.

use std::collections::BTreeMap;

use longspan_proto::ids::NodeId;
use longspan_topology::routes::{Path, Routes, Version};

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
    /// Keeps what a node was told before wherever the ways are the same and no cost is clearly
    /// another: so what is here is what the node has, and little of it changes.
    pub fn keep_told(&mut self, before: &Table) {
        let same_path = |a: &Path, b: &Path| {
            let moved = a.cost_us.abs_diff(b.cost_us);
            let large = ((a.cost_us as f64 * COST_SHARE) as u64).max(COST_US);
            a.hops == b.hops && moved < large
        };
        for (to, paths) in &mut self.paths {
            let Some(told) = before.paths.get(to) else {
                continue;
            };
            let is_same = told.len() == paths.len()
                && told
                    .iter()
                    .zip(&*paths)
                    .all(|(told, path)| same_path(told, path));
            if is_same {
                paths.clone_from(told);
            }
        }
    }

    /// As it is pushed.
    pub fn routes(&self, version: Version) -> Routes {
        Routes {
            version,
            neighbours: self.neighbours.clone(),
            paths: self.paths.clone(),
            ..Routes::default()
        }
    }
}

impl From<Routes> for Table {
    fn from(routes: Routes) -> Table {
        Table {
            neighbours: routes.neighbours,
            paths: routes.paths,
        }
    }
}
