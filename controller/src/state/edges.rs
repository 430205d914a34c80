//! Edges that are cordoned and drained: who is at them, and who takes them.

use longspan_proto::{control, ids::NodeId};
use serde::Serialize;

use super::{
    Node, State, Unchanged,
    record::{Override, Wish},
};

/// Names of other edges that a refusal tells, each with what is wrong with it.
const TOLD: usize = 4;

/// Who is at an edge, as it said last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Members of rooms' messages.
    pub members: u64,
    /// Viewers over FLV, MP4 and RTMP. Those over HLS are seen in the subscriptions only.
    pub viewers: u64,
    /// Streams that are published there.
    pub publishers: usize,
}

/// What draining an edge would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeDrainPlan {
    /// The edge.
    pub node: NodeId,
    /// Who is at it.
    #[serde(flatten)]
    pub load: Load,
    /// Publishers' streams, `tenant/room/stream`: they stay until they end by themselves.
    pub streams: Vec<String>,
    /// The edges that would take its members, the nearest first.
    pub takers: Vec<NodeId>,
    /// Why it would be refused without force.
    pub refused: Option<String>,
}

impl State {
    /// Who is at a node; nobody is at a relay.
    pub(super) fn load(&self, node: &Node) -> Load {
        let id = &node.info.id;
        let mut load = Load::default();
        for name in &node.rooms {
            let room = self.rooms.get(name);
            if let Some(serving) = room.and_then(|room| room.edges.get(id)) {
                load.members += u64::from(serving.members);
                load.viewers += u64::from(serving.viewers);
            }
        }
        load.publishers = self.claims.holders.get(id).map_or(0, |held| held.len());
        load
    }

    /// Whether it could go and nobody would notice.
    pub(super) fn is_empty_edge(&self, node: &Node) -> bool {
        // Subscriptions outlive members and viewers a little, and HLS has nothing else.
        let idle = node.status.is_some_and(|status| status.subscriptions == 0);
        idle && self.load(node) == Load::default()
    }

    /// Whether a node is known, and is an edge.
    pub fn is_edge(&self, id: &NodeId) -> bool {
        self.nodes.get(id).is_some_and(|node| !node.is_relay())
    }

    /// What draining an edge would do.
    pub fn view_edge_drain(&self, edge: &NodeId) -> Result<EdgeDrainPlan, Unchanged> {
        let node = self.nodes.get(edge).ok_or_else(|| self.no_node(edge))?;
        let streams = self.claims.held_by(edge);
        let streams = streams
            .iter()
            .map(|(room, stream)| format!("{room}/{stream}"));
        let mut takers: Vec<&Node> = self.takers(node).collect();
        takers.sort_by(|a, b| {
            let elsewhere = |other: &Node| other.info.region != node.info.region;
            let far = |other: &Node| super::members::distance_km(&node.info, &other.info);
            elsewhere(a)
                .cmp(&elsewhere(b))
                .then(far(a).total_cmp(&far(b)))
        });
        Ok(EdgeDrainPlan {
            node: edge.clone(),
            load: self.load(node),
            streams: streams.collect(),
            takers: takers.into_iter().map(|it| it.info.id.clone()).collect(),
            refused: self.check_edge_drain(node).err(),
        })
    }

    /// Whether there is somebody to take an edge's members.
    pub(super) fn check_edge_drain(&self, edge: &Node) -> Result<(), String> {
        if self.takers(edge).next().is_some() {
            return Ok(());
        }
        let others: Vec<&Node> = self.other_edges(edge).collect();
        let told = others.iter().take(TOLD).map(|other| {
            let id = &other.info.id;
            match self.overrides.node(id).map(|asked| &asked.what) {
                _ if other.conn.is_none() => format!("{id} is down"),
                Some(Wish::Drain { .. }) => format!("{id} drains too"),
                Some(_) => format!("{id} is cordoned"),
                None => format!("{id} tells no URL"),
            }
        });
        let mut why: Vec<String> = told.collect();
        if others.len() > TOLD {
            why.push(format!("and so on for {} others", others.len() - TOLD));
        }
        let why = match why.is_empty() {
            true => "it is the only edge".to_owned(),
            false => why.join(", "),
        };
        Err(format!(
            "no other edge takes the members of {}: {why}; with force it is drained all the same, \
             and they have nowhere to go",
            edge.info.id
        ))
    }

    fn other_edges(&self, edge: &Node) -> impl Iterator<Item = &Node> {
        let id = edge.info.id.clone();
        let nodes = self.nodes.values();
        nodes.filter(move |node| !node.is_relay() && node.info.id != id)
    }

    /// Edges that newcomers may go to.
    fn takers(&self, edge: &Node) -> impl Iterator<Item = &Node> {
        self.other_edges(edge).filter(|other| {
            let asked = self.overrides.node(&other.info.id);
            other.conn.is_some() && asked.is_none() && !other.info.http.is_empty()
        })
    }
}

/// Puts what operators ask of a node in its entry of a directory that is told at `unix_ms`.
pub(super) fn put(entry: &mut control::Node, asked: &Override, unix_ms: u64) {
    match asked.what {
        Wish::Drain { deadline_ms } => {
            let left = deadline_ms.saturating_sub(unix_ms);
            entry.draining = true;
            entry.drain_left_ms = u32::try_from(left).unwrap_or(u32::MAX);
        }
        Wish::Cordon => entry.cordoned = true,
        Wish::CostAdded { .. } | Wish::CostFactor { .. } | Wish::Pin { .. } => {}
    }
}
