//! The backbone as a graph: nodes and directed links, as measured.

use std::collections::BTreeMap;

use longspan_proto::{
    ids::{Net, NodeId},
    wire::Role,
};

/// What is measured of one direction of a link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// Receiver's clock minus sender's clock at arrival in µs: the one-way delay plus the offset
    /// of the two clocks. Over a path all offsets but those of its ends cancel.
    pub raw_delay_us: i64,
    /// Smoothed round-trip time in µs.
    pub rtt_us: u64,
    /// 95th percentile of the delay above its floor, in µs.
    pub jitter_p95_us: u64,
    /// Share of packets lost, 0 … 1.
    pub loss: f64,
}

/// One direction of a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Over which net.
    pub net: Net,
    /// Packets arrive.
    pub up: bool,
    /// What was measured.
    pub metrics: Metrics,
}

/// Nodes and the links between them. Ordered, so that the same world gives the same paths.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: BTreeMap<NodeId, Role>,
    links: BTreeMap<(NodeId, NodeId), Vec<Link>>,
}

impl Graph {
    /// Adds a node, or changes its role.
    pub fn add_node(&mut self, node: NodeId, role: Role) {
        self.nodes.insert(node, role);
    }

    /// Sets the link from `from` to `to` over `link.net`. Ignored while one of them is unknown.
    pub fn set_link(&mut self, from: NodeId, to: NodeId, link: Link) {
        if from == to || !self.nodes.contains_key(&from) || !self.nodes.contains_key(&to) {
            return;
        }
        let links = self.links.entry((from, to)).or_default();
        match links.iter_mut().find(|l| l.net == link.net) {
            Some(known) => *known = link,
            None => {
                links.push(link);
                links.sort_by(|a, b| a.net.cmp(&b.net));
            }
        }
    }

    /// All nodes with their roles, in order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeId, Role)> {
        self.nodes.iter().map(|(node, role)| (node, *role))
    }

    /// All links, in order.
    pub fn links(&self) -> impl Iterator<Item = (&NodeId, &NodeId, &Link)> {
        self.links
            .iter()
            .flat_map(|((from, to), links)| links.iter().map(move |link| (from, to, link)))
    }

    /// A node's role.
    pub fn role(&self, node: &NodeId) -> Option<Role> {
        self.nodes.get(node).copied()
    }
}
