//! The backbone as a graph: relays, the edges that hang on them, and what each step of a path costs.
//!
//! A path is named from the node that wants a track towards the track's origin, and frames flow
//! against it. So the *step* from `a` to `b`, by which `a` pulls from `b`, weighs what the *link*
//! from `b` to `a` weighs: its delay, jitter, loss, price and load. [`Graph::set_link`] is the one
//! place where a link becomes a step; everything behind it ([`Graph::weights`] and all of
//! [`paths`](crate::paths)) speaks of steps.
//!
//! Nodes are numbered: relays by name, then edges by name. It lives as long as its set of nodes;
//! links change in place.

use std::collections::HashMap;

use longspan_proto::{
    ids::{Net, NodeId},
    wire::Role,
};

use crate::{
    clocks,
    cost::{self, CostOverride},
};

/// ISO 3166-1 alpha-2.
pub type Country = [u8; 2];

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

/// One direction of a link, as measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Link {
    /// Over which net.
    pub net: Net,
    /// Packets arrive.
    pub up: bool,
    /// What was measured.
    pub metrics: Metrics,
}

/// Whether paths may cross a node. They may begin and end at it in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transit {
    /// They may.
    #[default]
    Open,
    /// Only while there is no other way.
    Draining,
    /// They may not: it is cordoned.
    Closed,
}

/// A node, as far as paths care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Edges carry nothing for others.
    pub role: Role,
    /// Where it stands; none: unknown, which no residency set allows.
    pub country: Option<Country>,
    /// Whether paths may cross it.
    pub transit: Transit,
}

impl Node {
    /// An open node of no known country.
    pub fn new(role: Role) -> Node {
        Node {
            role,
            country: None,
            transit: Transit::Open,
        }
    }
}

/// What one direction of a link that can be used weighs in a path.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// Over which net.
    pub net: Net,
    /// Expected delivery latency without jitter, plus the offset of the two clocks, in µs.
    pub cost_us: i64,
    /// 95th percentile of the jitter, in µs. By itself, since it adds in quadrature.
    pub jitter_us: u32,
    /// The clocks' offset, as far as round trips tell it, in µs.
    pub offset_us: i64,
    /// Price of a GB in millionths of the operator's currency.
    pub price: u32,
    /// Above its share of the capacity: it takes nothing new unless nothing else reaches.
    pub full: bool,
    /// No path takes it.
    pub cordoned: bool,
}

impl Weight {
    /// Of a link as measured, free and unbounded.
    pub fn new(net: Net, metrics: &Metrics) -> Weight {
        Weight::as_asked(net, metrics, None)
    }

    /// The same with what an operator says of its cost.
    pub fn as_asked(net: Net, metrics: &Metrics, asked: Option<CostOverride>) -> Weight {
        let terms = cost::terms_as(metrics, asked);
        Weight {
            net,
            cost_us: terms.total() - terms.jitter,
            jitter_us: terms.jitter as u32,
            offset_us: cost::offset(metrics),
            price: 0,
            full: false,
            cordoned: false,
        }
    }
}

/// What the difference of two clocks leaves of a link's cost may be, in µs, either way. No link is
/// believed to be slower (a geostationary satellite's hop is 0.3 s); a cost beyond it after the
/// clocks' offsets were estimated anew is nonsense of a report, and is cut to it.
pub(crate) const COST_LIMIT: i32 = 4_000_000;

/// Nodes and the links between them. Ordered, so that the same world gives the same paths.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    names: Vec<NodeId>,
    nodes: Vec<Node>,
    numbers: HashMap<NodeId, usize>,
    relays: usize,
    /// Of steps, at `from * relays + to`: by net. Nothing leads to an edge.
    weights: Vec<Vec<Weight>>,
    /// What each node's clock is ahead of the others', in µs, as far as round trips tell it.
    clocks: Vec<i64>,
    /// Counts the estimates of `clocks`; 0: none yet.
    epoch: u64,
    /// A link's cost went out of bounds by the present estimate.
    skewed: bool,
}

impl Graph {
    /// Nodes without links. At most 65,535.
    pub fn new(nodes: impl IntoIterator<Item = (NodeId, Node)>) -> Graph {
        let mut nodes: Vec<(NodeId, Node)> = nodes.into_iter().collect();
        nodes.sort_by(|(a, x), (b, y)| {
            let is_edge = |node: &Node| node.role != Role::Relay;
            (is_edge(x), a).cmp(&(is_edge(y), b))
        });
        nodes.dedup_by(|(a, _), (b, _)| a == b);
        // Numbers in paths are 16 bits wide; the highest means "none".
        nodes.truncate(usize::from(u16::MAX));
        let relays = nodes.iter().filter(|(_, n)| n.role == Role::Relay).count();
        let (names, nodes): (Vec<_>, Vec<_>) = nodes.into_iter().unzip();
        let numbers = names.iter().cloned().enumerate();
        Graph {
            numbers: numbers.map(|(number, name)| (name, number)).collect(),
            relays,
            weights: vec![Vec::new(); nodes.len() * relays],
            clocks: vec![0; nodes.len()],
            epoch: 0,
            skewed: false,
            names,
            nodes,
        }
    }

    /// All nodes: relays, then edges.
    pub fn names(&self) -> &[NodeId] {
        &self.names
    }

    /// How many of them are relays.
    pub fn relays(&self) -> usize {
        self.relays
    }

    /// A node's number.
    pub fn number(&self, node: &NodeId) -> Option<usize> {
        self.numbers.get(node).copied()
    }

    /// A node by its number.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The step by which a node pulls from a relay, by net: the links from `to` to `from`.
    pub fn weights(&self, from: usize, to: usize) -> &[Weight] {
        &self.weights[from * self.relays + to]
    }

    /// Sets all links from a relay to another node, in the direction of frames; whether that
    /// changed anything. They are the step from `receiver` to `sender`. No path leads to an edge or
    /// from a node to itself.
    pub fn set_link(&mut self, sender: usize, receiver: usize, weights: Vec<Weight>) -> bool {
        if sender == receiver || sender >= self.relays {
            return false;
        }
        self.set_step(receiver, sender, weights)
    }

    fn set_step(&mut self, from: usize, to: usize, mut weights: Vec<Weight>) -> bool {
        weights.sort_by(|a, b| a.net.cmp(&b.net));
        weights.truncate(usize::from(u8::MAX));
        let present = &self.weights[from * self.relays + to];
        if *present == weights {
            return false;
        }
        let in_bounds = |w: &Weight| {
            let (limit, cost) = (i64::from(COST_LIMIT), self.above_clocks(from, to, w));
            cost >= -limit && cost <= limit - i64::from(w.jitter_us)
        };
        // One that was out of bounds stays cut: estimating anew did not help it.
        self.skewed |= !weights.iter().all(in_bounds) && present.iter().all(in_bounds);
        self.weights[from * self.relays + to] = weights;
        true
    }

    /// Estimates the clocks anew if that is needed. Call it after a run of changes.
    pub fn settle(&mut self) {
        if self.skewed || self.epoch == 0 {
            self.clocks = clocks::estimate(self);
            self.skewed = false;
            self.epoch += 1;
        }
    }

    /// Which estimate of the clocks is in force; costs are comparable within one.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A step's cost without the clocks' offset and without jitter, and its jitter, in µs. The
    /// first, and both together, are cut to ± [`COST_LIMIT`].
    pub(crate) fn cost(&self, from: usize, to: usize, weight: &Weight) -> (i32, i32) {
        let (limit, cost) = (i64::from(COST_LIMIT), self.above_clocks(from, to, weight));
        let cost = cost.clamp(-limit, limit) as i32;
        let jitter = weight.jitter_us.min((COST_LIMIT - cost) as u32);
        (cost, jitter as i32)
    }

    /// Without the clocks' offset. Of a step the receiver's clock is the one at its beginning.
    fn above_clocks(&self, from: usize, to: usize, weight: &Weight) -> i64 {
        let apart = self.clocks[from].saturating_sub(self.clocks[to]);
        weight.cost_us.saturating_sub(apart)
    }
}
