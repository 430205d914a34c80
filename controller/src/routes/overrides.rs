//! What operators ask of routing, as plain data: the store's records and the API fill it in.

use std::collections::BTreeMap;

use longspan_proto::ids::{Net, NodeId};
pub use longspan_topology::cost::CostOverride;

/// Everything in force now. [`Router::set_overrides`](super::Router::set_overrides) replaces all
/// of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// By node.
    pub nodes: BTreeMap<NodeId, NodeOverride>,
    /// By (sender, receiver, net), one direction of frames each; without a net: over every net. Where
    /// both say something, a cordon of either counts, and of the rest what is said with the net.
    pub links: BTreeMap<(NodeId, NodeId, Option<Net>), LinkOverride>,
    /// By (from, to): the path to take, as the nodes after `from`, `to` the last. Check it with
    /// [`Router::check_pin`](super::Router::check_pin) before it is stored; one that has become
    /// impossible is passed over and `explain` says why.
    pub pins: BTreeMap<(NodeId, NodeId), Vec<NodeId>>,
}

/// What is asked of a node. Paths may begin and end at it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeOverride {
    /// No path crosses it.
    Cordoned,
    /// No path crosses it while there is another way; what crosses it now moves away.
    Draining,
}

/// What is asked of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkOverride {
    /// No path takes it.
    pub cordoned: bool,
    /// What it costs beside what is measured.
    pub cost: Option<CostOverride>,
    /// Price of a GB in millionths of the operator's currency; none: as configured, else free.
    pub price: Option<u32>,
    /// What it carries at most, in bit/s; none: as configured.
    pub capacity_bps: Option<u64>,
}

impl Overrides {
    /// What is asked of one link.
    pub(super) fn link(&self, from: &NodeId, to: &NodeId, net: &Net) -> LinkOverride {
        if self.links.is_empty() {
            return LinkOverride::default();
        }
        let ends = |net| (from.clone(), to.clone(), net);
        let own = self
            .links
            .get(&ends(Some(net.clone())))
            .copied()
            .unwrap_or_default();
        let all = self.links.get(&ends(None)).copied().unwrap_or_default();
        LinkOverride {
            cordoned: own.cordoned || all.cordoned,
            cost: own.cost.or(all.cost),
            price: own.price.or(all.price),
            capacity_bps: own.capacity_bps.or(all.capacity_bps),
        }
    }
}
