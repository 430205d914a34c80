//! Paths that operators pin.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::ids::NodeId;
use longspan_topology::paths::{MAX_INTERMEDIATES, Paths, Way};

use super::{NodeOverride, world::World};

/// Why a path cannot be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinRefused {
    /// It names nothing but its beginning.
    #[error("a pinned path from {from} names no destination")]
    Empty {
        /// Where it begins.
        from: NodeId,
    },
    /// It crosses more relays than a path may.
    #[error("the path crosses {crossed} relays; the limit is {limit}")]
    TooLong {
        /// How many.
        crossed: usize,
        /// How many it may.
        limit: usize,
    },
    /// It visits a node twice.
    #[error("the path visits {node} twice")]
    Loop {
        /// Which.
        node: NodeId,
    },
    /// It crosses, or leads to, an edge.
    #[error("{node} is an edge; paths lead over relays to relays")]
    Edge {
        /// Which.
        node: NodeId,
    },
    /// The link that frames would take between two nodes, against the path, is cordoned.
    #[error("the link from {from} to {to} is cordoned")]
    Cordoned {
        /// The sending end.
        from: NodeId,
        /// The receiving end.
        to: NodeId,
    },
    /// Two nodes that follow each other have no link that is up. It is named as frames would take
    /// it: against the path.
    #[error("no link from {from} to {to} is up both ways")]
    NoLink {
        /// The sending end.
        from: NodeId,
        /// The receiving end.
        to: NodeId,
    },
    /// It crosses a node that carries nothing for others.
    #[error("{node} is {what}; no path may cross it")]
    Closed {
        /// Which.
        node: NodeId,
        /// `cordoned`, `draining`.
        what: &'static str,
    },
}

/// Whether a path can be pinned: whether it could be taken, by what is reported now.
pub(super) fn check(world: &World, from: &NodeId, nodes: &[NodeId]) -> Result<(), PinRefused> {
    let Some((_, crossed)) = nodes.split_last() else {
        return Err(PinRefused::Empty { from: from.clone() });
    };
    if crossed.len() > MAX_INTERMEDIATES {
        return Err(PinRefused::TooLong {
            crossed: crossed.len(),
            limit: MAX_INTERMEDIATES,
        });
    }
    let mut seen = BTreeSet::from([from]);
    if let Some(node) = nodes.iter().find(|node| !seen.insert(node)) {
        return Err(PinRefused::Loop { node: node.clone() });
    }
    if let Some(node) = nodes.iter().find(|node| world.is_edge(node)) {
        return Err(PinRefused::Edge { node: node.clone() });
    }
    for node in crossed {
        let what = match world.overrides.nodes.get(node) {
            None => continue,
            Some(NodeOverride::Cordoned) => "cordoned",
            Some(NodeOverride::Draining) => "draining",
        };
        let node = node.clone();
        return Err(PinRefused::Closed { node, what });
    }
    for (to, from) in [from].into_iter().chain(nodes).zip(nodes) {
        let mut nets = world.links.up(from, to).peekable();
        let is_up = nets.peek().is_some();
        let is_open = nets.any(|net| !world.overrides.link(from, to, net).cordoned);
        let (from, to) = (from.clone(), to.clone());
        if !is_up {
            return Err(PinRefused::NoLink { from, to });
        }
        if !is_open {
            return Err(PinRefused::Cordoned { from, to });
        }
    }
    Ok(())
}

/// The pinned paths that a class can take now, by the numbers of their ends.
pub(super) fn resolve(world: &World, paths: &Paths) -> BTreeMap<(usize, usize), Way> {
    let pins = world.overrides.pins.iter();
    let resolved = pins.filter_map(|((from, to), nodes)| {
        let ends = (world.graph.number(from)?, world.graph.number(to)?);
        check(world, from, nodes).ok()?;
        let (last, crossed) = nodes.split_last()?;
        let mids = crossed
            .iter()
            .map(|node| u16::try_from(world.graph.number(node)?).ok());
        let mids: Vec<u16> = mids.collect::<Option<_>>()?;
        // What the class forbids stays forbidden.
        let way = paths.over(&world.graph, ends.0, ends.1, &mids)?;
        (last == to).then_some((ends, way))
    });
    resolved.collect()
}
