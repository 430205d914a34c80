//! What operators are shown of the state.

use longspan_proto::ids::{NodeId, Region, RoomName, Stream};
use serde::Serialize;

use longspan_topology::routes::Path;

use super::{
    GroupView, Load, MoveView, NodeGroup, State, Status, Unchanged, key::Target, members,
    members::TableState, record,
};
use crate::routes::{Explained, LinkView, NodeOverride};

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    /// What it says of itself.
    #[serde(flatten)]
    pub info: record::Node,
    /// It has a session.
    pub up: bool,
    /// `up`, `down`; `cordoned`; `draining`, `drained` (it has nothing to do any more).
    pub state: &'static str,
    /// What operators ask of it.
    #[serde(rename = "override")]
    pub asked: Option<record::Override>,
    /// What it has to do, as it said last.
    pub status: Option<Status>,
    /// The file of its room logs, in hex; none: it keeps none.
    pub disk: Option<String>,
    /// The parts it has in placement groups.
    pub groups: Vec<NodeGroup>,
    /// How many of those groups it leads.
    pub leads: usize,
    /// Edges that have no better relay; to others it is a standby at most.
    pub edges: usize,
    /// Rooms it serves.
    pub rooms: usize,
    /// Who is at it.
    #[serde(flatten)]
    pub load: Load,
    /// The table it was pushed last, `era.election.n`.
    pub table_sent: Option<String>,
    /// The table it took last.
    pub table_acked: Option<String>,
    /// The table it refused last, and why.
    pub table_refused: Option<(String, String)>,
}

/// A link with what operators ask of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskedLink {
    /// As it is measured.
    #[serde(flatten)]
    pub link: LinkView,
    /// Cordons and costs in force.
    #[serde(rename = "overrides")]
    pub asked: Vec<record::Override>,
}

/// What draining a relay would move.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DrainPlan {
    /// The relay.
    pub node: NodeId,
    /// What it has to do now.
    pub status: Option<Status>,
    /// Primary paths that cross it now and would not.
    pub paths: Vec<Move>,
    /// Primary paths that would go on crossing it: nothing else reaches.
    pub stay: Vec<Move>,
    /// Edges whose best relay it is; they would attach elsewhere.
    pub edges: Vec<NodeId>,
    /// Placement groups in which another relay takes its place.
    pub groups: Vec<NodeGroup>,
}

/// A path that would move.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Move {
    /// Where it begins.
    pub from: NodeId,
    /// Where it leads.
    pub to: NodeId,
    /// The nodes after `from` now.
    pub before: Vec<NodeId>,
    /// And then; empty: none.
    pub after: Vec<NodeId>,
}

/// Whether it is no end, but on the way.
fn crosses(path: &Path, node: &NodeId) -> bool {
    let inner = path.hops.split_last().map_or(&[][..], |(_, inner)| inner);
    inner.iter().any(|hop| hop.node == *node)
}

fn nodes(path: &Path) -> Vec<NodeId> {
    path.hops.iter().map(|hop| hop.node.clone()).collect()
}

/// A stream of a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StreamView {
    /// Its name.
    pub stream: Stream,
    /// Where it enters.
    pub origin: NodeId,
    /// `era.counter`.
    pub generation: String,
    /// The HLS media sequence number of group 0.
    pub hls_base: u64,
    /// When it was claimed, Unix ms.
    pub claimed_ms: u64,
}

/// The way of one stream to one edge, by the tables.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WayView {
    /// The stream.
    pub stream: Stream,
    /// The nodes it crosses, the origin first, this edge last; empty: there is no way now.
    pub path: Vec<NodeId>,
}

/// An edge of a room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeView {
    /// Its name.
    pub edge: NodeId,
    /// Since when it serves the room, Unix ms.
    pub since_ms: u64,
    /// As it said last.
    pub viewers: u32,
    /// As it said last.
    pub members: u32,
    /// How each stream comes here.
    pub ways: Vec<WayView>,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoomView {
    /// Its name.
    pub room: String,
    /// Whose it is.
    pub tenant: String,
    /// When it was made, Unix ms.
    pub created_ms: u64,
    /// The placement group that keeps its log.
    pub group: Option<String>,
    /// The move that brought it there, `era.counter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<String>,
    /// It is on its way to another group.
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub moving: Option<MoveView>,
    /// How the last move ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_move: Option<record::LastMove>,
    /// That group; only where one room is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<GroupView>,
    /// What is published.
    pub streams: Vec<StreamView>,
    /// Who serves it.
    pub edges: Vec<EdgeView>,
}

/// How many there are of what, for gauges.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Relays, edges.
    pub nodes: [usize; 2],
    /// Rooms in memory.
    pub rooms: usize,
    /// Streams held.
    pub streams: usize,
    /// Placement groups; those of them that are reduced; those that are stopped.
    pub groups: [usize; 3],
    /// The store can be reached.
    pub store_up: bool,
}

impl State {
    /// All nodes, by name.
    pub fn view_nodes(&self) -> Vec<NodeView> {
        let mut parts = self.view_parts();
        let nodes = self.nodes.values().map(|node| {
            let groups = parts.remove(&node.info.id).unwrap_or_default();
            let TableState {
                sent,
                acked,
                nacked,
                ..
            } = &node.table;
            NodeView {
                info: node.info.clone(),
                up: node.conn.is_some(),
                state: self.view_state(node),
                asked: self.overrides.node(&node.info.id).cloned(),
                status: node.status,
                disk: node
                    .disk
                    .filter(|disk| *disk != 0)
                    .map(|disk| format!("{disk:016x}")),
                leads: groups.iter().filter(|part| part.role == "leader").count(),
                groups,
                edges: self.edges_at(&node.info.id).count(),
                rooms: node.rooms.len(),
                load: self.load(node),
                table_sent: sent.map(members::shown),
                table_acked: acked.map(members::shown),
                table_refused: nacked
                    .as_ref()
                    .map(|(version, why)| (members::shown(*version), why.clone())),
            }
        });
        nodes.collect()
    }

    fn view_state(&self, node: &super::Node) -> &'static str {
        let asked = self.overrides.node(&node.info.id);
        match asked.map(|asked| &asked.what) {
            _ if node.conn.is_none() => "down",
            None => "up",
            Some(record::Wish::Drain { .. }) if self.is_drained(node) => "drained",
            Some(record::Wish::Drain { .. }) => "draining",
            Some(_) => "cordoned",
        }
    }

    /// Whether nothing would be missed if it went.
    fn is_drained(&self, node: &super::Node) -> bool {
        if !node.is_relay() {
            return self.is_empty_edge(node);
        }
        let idle = node.status.is_some_and(|s| s.subscriptions == 0);
        let id = &node.info.id;
        idle && !self.has_part(id) && self.edges_at(id).next().is_none()
    }

    /// Edges whose best relay this is.
    fn edges_at(&self, relay: &NodeId) -> impl Iterator<Item = &NodeId> {
        let edges = self
            .nodes
            .values()
            .filter(move |node| node.conn.is_some() && node.info.attached.first() == Some(relay));
        edges.map(|node| &node.info.id)
    }

    /// What draining a relay would move.
    pub fn view_drain(&self, relay: &NodeId) -> Result<DrainPlan, Unchanged> {
        let node = self.nodes.get(relay).ok_or_else(|| self.no_node(relay))?;
        if !node.is_relay() {
            let why = format!("{relay} is an edge: no path crosses it");
            return Err(Unchanged::Refused(why));
        }
        let mut router = self.router.clone();
        let mut asked = router.overrides().clone();
        asked.nodes.insert(relay.clone(), NodeOverride::Draining);
        router.set_overrides(self.now.time, asked);
        router.recompute(self.now, &self.routing_nodes());
        let mut plan = DrainPlan {
            node: relay.clone(),
            status: node.status,
            paths: Vec::new(),
            stay: Vec::new(),
            edges: Vec::new(),
            groups: self.view_parts().remove(relay).unwrap_or_default(),
        };
        for (from, table) in self.router.tables() {
            for (to, paths) in &table.paths {
                let Some(before) = paths.first().filter(|path| crosses(path, relay)) else {
                    continue;
                };
                let after = router.table(from).and_then(|table| table.paths.get(to));
                let after = after.and_then(|paths| paths.first());
                let moves = after.filter(|after| !crosses(after, relay));
                let list = match moves {
                    Some(_) => &mut plan.paths,
                    None => &mut plan.stay,
                };
                list.push(Move {
                    from: from.clone(),
                    to: to.clone(),
                    before: nodes(before),
                    after: moves.map(nodes).unwrap_or_default(),
                });
            }
        }
        plan.edges = self.edges_at(relay).cloned().collect();
        Ok(plan)
    }

    /// All links, with what operators ask of them.
    pub fn view_links(&self) -> Vec<AskedLink> {
        let links = self.router.links().into_iter();
        let view = |link: LinkView| {
            let asked = self.overrides.iter().filter_map(|(target, asked)| {
                let (Target::Cordon(of) | Target::Cost(of)) = target else {
                    return None;
                };
                let same = of.from == link.from && of.to == link.to;
                let net = of.net.as_ref().is_none_or(|net| *net == link.net);
                (same && net).then(|| asked.clone())
            });
            AskedLink {
                asked: asked.collect(),
                link,
            }
        };
        links.map(view).collect()
    }

    /// The newest tables' version, `era.election.n`.
    pub fn view_version(&self) -> String {
        members::shown(self.version())
    }

    /// All rooms, by name, without ways.
    pub fn view_rooms(&self) -> Vec<RoomView> {
        let names = self.rooms.keys();
        names.filter_map(|name| self.view(name, false)).collect()
    }

    /// One room, with the ways of its streams to its edges.
    pub fn view_room(&self, name: &RoomName) -> Option<RoomView> {
        self.view(name, true)
    }

    fn view(&self, name: &RoomName, with_ways: bool) -> Option<RoomView> {
        let room = self.rooms.get(name)?;
        let streams = room.streams.iter().map(|(stream, held)| StreamView {
            stream: stream.clone(),
            origin: held.record.origin.clone(),
            generation: held.record.generation.to_string(),
            hls_base: held.record.hls_base,
            claimed_ms: held.record.claimed_ms,
        });
        let edges = room.edges.iter().map(|(edge, serving)| EdgeView {
            edge: edge.clone(),
            since_ms: serving.since_ms,
            viewers: serving.viewers,
            members: serving.members,
            ways: if with_ways {
                let streams = room.streams.iter();
                let way = |(stream, held): (&Stream, &super::Held)| WayView {
                    stream: stream.clone(),
                    path: self.way(edge, &held.record.origin),
                };
                streams.map(way).collect()
            } else {
                Vec::new()
            },
        });
        Some(RoomView {
            room: name.room.to_string(),
            tenant: name.tenant.to_string(),
            created_ms: room.created_ms,
            group: room.group.map(|group| group.to_string()),
            moved: room.moved.map(|word| word.to_string()),
            moving: room.moving.clone().map(|asked| MoveView {
                asked,
                stage: room.stage,
            }),
            last_move: room.last_move.clone(),
            placement: room
                .group
                .filter(|_| with_ways)
                .and_then(|group| self.view_group(group)),
            streams: streams.collect(),
            edges: edges.collect(),
        })
    }

    /// How a track comes from its origin to an edge by the tables: what the edge's own
    /// [`Routes::ways`](longspan_topology::routes::Routes::ways) would say, reversed.
    pub(super) fn way(&self, edge: &NodeId, origin: &NodeId) -> Vec<NodeId> {
        if edge == origin {
            return vec![edge.clone()];
        }
        let Some(nodes) = self.router.way(0, edge, origin, self.attached(origin)) else {
            return Vec::new();
        };
        let mut path: Vec<NodeId> = nodes.into_iter().rev().collect();
        path.push(edge.clone());
        path
    }

    fn attached(&self, node: &NodeId) -> &[NodeId] {
        self.nodes.get(node).map_or(&[], |n| &n.info.attached)
    }

    /// Why the streams of a room take the way they take to `from`. `None`: no such room.
    pub fn view_explained(
        &self,
        name: &RoomName,
        from: &NodeId,
    ) -> Option<Vec<(Stream, Explained)>> {
        let room = self.rooms.get(name)?;
        let explained = room.streams.iter().map(|(stream, held)| {
            let origin = &held.record.origin;
            let why = self.router.explain(from, origin, self.attached(origin));
            (stream.clone(), why)
        });
        Some(explained.collect())
    }

    /// An edge of a region; one with a session if there is any.
    pub fn edge_in(&self, region: &Region) -> Option<NodeId> {
        let edges = self.nodes.values();
        let here = edges.filter(|n| !n.is_relay() && n.info.region == *region);
        here.max_by_key(|n| n.conn.is_some())
            .map(|n| n.info.id.clone())
    }

    /// Whether a node is known.
    pub fn knows(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        let relays = self.nodes.values().filter(|n| n.is_relay()).count();
        Counts {
            nodes: [relays, self.nodes.len() - relays],
            rooms: self.rooms.len(),
            streams: self.rooms.values().map(|r| r.streams.len()).sum(),
            groups: self.count_groups(),
            store_up: self.store_up,
        }
    }
}
