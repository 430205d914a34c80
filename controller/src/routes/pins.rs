//! Paths that operators pin.

use longspan_proto::ids::NodeId;
use longspan_topology::paths::MAX_INTERMEDIATES;

use super::{NodeOverride, Router};

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
    /// Two nodes that follow each other have no link that is up.
    #[error("no link from {from} to {to} is up")]
    NoLink {
        /// Where it should begin.
        from: NodeId,
        /// Where it should lead.
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

pub(super) fn check(router: &Router, from: &NodeId, nodes: &[NodeId]) -> Result<(), PinRefused> {
    let Some((_, crossed)) = nodes.split_last() else {
        return Err(PinRefused::Empty { from: from.clone() });
    };
    if crossed.len() > MAX_INTERMEDIATES {
        return Err(PinRefused::TooLong {
            crossed: crossed.len(),
            limit: MAX_INTERMEDIATES,
        });
    }
    let mut seen = std::collections::BTreeSet::from([from]);
    if let Some(node) = nodes.iter().find(|node| !seen.insert(node)) {
        return Err(PinRefused::Loop { node: node.clone() });
    }
    for node in crossed {
        let what = match router.overrides.nodes.get(node) {
            None => continue,
            Some(NodeOverride::Cordoned) => "cordoned",
            Some(NodeOverride::Draining) => "draining",
        };
        let node = node.clone();
        return Err(PinRefused::Closed { node, what });
    }
    for (from, to) in std::iter::once(from).chain(nodes).zip(nodes) {
        if !router.links.any_up(from, to) {
            let (from, to) = (from.clone(), to.clone());
            return Err(PinRefused::NoLink { from, to });
        }
    }
    Ok(())
}
