//! One node's table, as data.

use std::collections::{BTreeMap, BTreeSet};

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
    /// For each relay the paths to it, best first, of the default policy class.
    pub paths: Paths,
    /// The same for every other policy class, by its number.
    pub classes: BTreeMap<u8, Paths>,
    /// Links (from, to) on these paths that take no new track unless nothing else reaches.
    pub full: BTreeSet<(NodeId, NodeId)>,
}

/// For each relay the paths to it, best first.
pub type Paths = BTreeMap<NodeId, Vec<Path>>;

/// Whether a cost moved so far that it is told anew.
pub(super) fn is_other_cost(told: u64, now: u64) -> bool {
    let large = ((told as f64 * COST_SHARE) as u64).max(COST_US);
    told.abs_diff(now) >= large
}

impl Table {
    /// Keeps what a node was told before wherever the ways are the same and no cost is clearly
    /// another: so what is here is what the node has, and little of it changes.
    pub fn keep_told(&mut self, before: &Table) {
        keep_told(&mut self.paths, &before.paths);
        for (class, paths) in &mut self.classes {
            if let Some(before) = before.classes.get(class) {
                keep_told(paths, before);
            }
        }
    }

    /// The paths of a class.
    pub fn of(&self, class: u8) -> Option<&Paths> {
        match class {
            0 => Some(&self.paths),
            class => self.classes.get(&class),
        }
    }

    /// As it is pushed.
    pub fn routes(&self, version: Version) -> Routes {
        Routes {
            version,
            neighbours: self.neighbours.clone(),
            paths: self.paths.clone(),
            classes: self.classes.clone(),
            full: self.full.clone(),
            ..Routes::default()
        }
    }
}

impl From<Routes> for Table {
    fn from(routes: Routes) -> Table {
        Table {
            neighbours: routes.neighbours,
            paths: routes.paths,
            classes: routes.classes,
            full: routes.full,
        }
    }
}

fn keep_told(now: &mut Paths, before: &Paths) {
    let same_path = |a: &Path, b: &Path| a.hops == b.hops && !is_other_cost(a.cost_us, b.cost_us);
    for (to, paths) in now {
        let Some(told) = before.get(to).filter(|told| told.len() == paths.len()) else {
            continue;
        };
        if told
            .iter()
            .zip(&*paths)
            .all(|(told, path)| same_path(told, path))
        {
            paths.clone_from(told);
        }
    }
}
