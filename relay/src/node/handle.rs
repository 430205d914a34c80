//! What a running node offers to the process around it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use longspan_proto::{
    control::{GroupStatus, Groups, MoveStatus, Moves, RoomState},
    ids::{Generation, NodeId, RoomName, Stream, TrackId},
    time::Time,
    wire::{Role, Start, call::Open, call::Verb, moving::Moved},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{
    Call, CallError, Claim, ClaimError, Directory, Fixed, IncomingCall, Publisher, RoomWatch,
    Subscription, media::Subscribe,
};
use crate::{calls, forward::Trouble, shared::Shared};

/// The way to a running node. Cheap to clone; outlives the node harmlessly.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// The node's name.
    pub fn id(&self) -> &NodeId {
        &self.shared.config.node
    }

    /// Where its QUIC listens, the port drawn if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.shared.endpoint.address
    }

    /// Whether it can do its work; else why not, in words for `/readyz`.
    pub fn ready(&self) -> Result<(), String> {
        let shared = &self.shared;
        if shared.stop.is_cancelled() {
            return Err("shutting down".into());
        }
        let told = shared.directory.borrow().nodes.is_empty();
        if told && let Err(why) = shared.control.state() {
            return Err(format!(
                "no controller was reached and none is remembered: {why}"
            ));
        }
        if shared.config.role == Role::Edge && shared.attached().is_empty() {
            return Err("attached to no relay".into());
        }
        Ok(())
    }

    /// Makes this node the origin of a track until the publisher is dropped.
    pub fn publish(&self, track: TrackId) -> Publisher {
        Publisher::new(self.shared.engine.clone(), track)
    }

    /// Takes a track that enters the backbone at `origin`, until the subscription is dropped. A
    /// frame older than `budget` is worthless and may be dropped on the way; zero: never.
    pub fn subscribe(
        &self,
        track: TrackId,
        origin: NodeId,
        start: Start,
        budget: Duration,
    ) -> Subscription {
        let input = Subscribe {
            origin,
            start,
            budget_ms: budget.as_millis().try_into().unwrap_or(u32::MAX),
        };
        Subscription::new(self.shared.engine.clone(), track, input)
    }

    /// Calls a node over the best way that works; `open.path` and `open.crossed` are filled in.
    /// Returns once the callee accepted.
    pub async fn call(&self, to: &NodeId, open: Open) -> Result<Call, CallError> {
        let me = self.id();
        if to == me {
            return self.shared.served.call_self(me, open).await;
        }
        let ways = self.shared.ways.borrow().ways(me, to);
        calls::open(&self.shared, to, open, ways).await
    }

    /// Serves calls of a verb from now on. At most [`super::Limits::waiting_calls`] wait; more
    /// are answered `busy`. A later server of the same verb takes the place of the earlier.
    pub fn serve(&self, verb: Verb) -> mpsc::Receiver<IncomingCall> {
        self.shared.served.serve(verb)
    }

    /// All nodes as last told; kept when the controller is gone.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.shared.directory.subscribe()
    }

    /// Where a node can be reached from here, best way first: each the nodes after this one.
    pub fn ways(&self, to: &NodeId) -> Vec<Vec<NodeId>> {
        self.shared.ways.borrow().ways(self.id(), to)
    }

    /// For an edge: the relays it is attached to now, best first.
    pub fn attached(&self) -> Vec<NodeId> {
        self.shared.attached()
    }

    /// Asks to be told of a room until the watch is dropped.
    pub fn watch_room(&self, room: RoomName) -> RoomWatch {
        RoomWatch::new(self.shared.rooms.clone(), room)
    }

    /// Takes a stream for the publisher `identity` (empty: anonymous) at this node.
    pub async fn claim(
        &self,
        room: &RoomName,
        stream: &Stream,
        identity: &str,
    ) -> Result<Claim, ClaimError> {
        let control = &self.shared.control;
        control.claim(self.id(), room, stream, identity).await
    }

    /// Gives a stream back. A newer generation is not concerned. If it fails, the claim ends with
    /// this node's lease.
    pub async fn release(
        &self,
        room: &RoomName,
        stream: &Stream,
        generation: Generation,
    ) -> Result<(), ClaimError> {
        self.shared.control.release(room, stream, generation).await
    }

    /// Replaces the world of a node that runs without a controller (see
    /// [`super::Config::fixed`]). Subscriptions and calls made afterwards use it.
    pub fn set_world(&self, world: Fixed) {
        self.shared
            .directory
            .send_replace(Arc::new(world.directory));
        self.shared.routes.send_replace(Arc::new(world.routes));
        self.shared.tell_core();
    }

    /// Tells this node of a room it watches, where no controller does (see
    /// [`super::Config::fixed`]). An older revision than the one held is ignored.
    pub fn tell_room(&self, room: RoomState) {
        self.shared.rooms.told(room);
    }

    /// Tells this node its placement groups, where no controller does (see
    /// [`super::Config::fixed`]).
    pub fn tell_groups(&self, groups: Groups) {
        if let Some(port) = &self.shared.groups {
            port.tell(groups);
        }
    }

    /// Tells this node which rooms are to leave its placement groups, where no controller does (see
    /// [`super::Config::fixed`]).
    pub fn tell_moves(&self, moves: Moves) {
        if let Some(port) = &self.shared.groups {
            port.tell_moves(moves);
        }
    }

    /// How far those moves are, as far as this node knows.
    pub fn moves(&self) -> Vec<MoveStatus> {
        let port = self.shared.groups.as_ref();
        port.map_or_else(Vec::new, |port| port.status().moves)
    }

    /// The group that kept a room said where the room was moved. Counts until the controllers tell of
    /// this move, or a later one; so an edge goes on without them.
    pub fn room_moved(&self, room: &RoomName, moved: &Moved) {
        self.shared.rooms.moved(room, moved);
    }

    /// Which file the room logs of this node are kept in; 0: it keeps none.
    pub fn disk(&self) -> u64 {
        self.shared.groups.as_ref().map_or(0, |port| port.disk)
    }

    /// What this node knows of the placement groups it has a part in.
    pub fn groups(&self) -> Vec<GroupStatus> {
        let port = self.shared.groups.as_ref();
        port.map_or_else(Vec::new, |port| port.status().groups)
    }

    /// The state of things for `/debug`: peers, tracks, table.
    pub fn debug(&self) -> Value {
        let shared = &self.shared;
        let now = shared.engine.clock().now();
        let peers: Vec<Value> = shared
            .peers
            .all()
            .into_iter()
            .map(|peer| {
                let measured = peer.link.measured();
                let quic = peer.conn.stats();
                let path = quic.path;
                json!({
                    "node": peer.node,
                    "role": format!("{:?}", peer.role).to_lowercase(),
                    "region": peer.region,
                    "boot": format!("{:016x}", peer.boot.0),
                    "address": peer.conn.remote_address().to_string(),
                    "dialed": peer.dialed,
                    "leaving": peer.is_leaving(),
                    "up_seconds": now.saturating_since(peer.since).as_secs(),
                    "life": format!("{:?}", measured.life).to_lowercase(),
                    "need": format!("{:?}", peer.need(now)).to_lowercase(),
                    "rtt_us": measured.metrics.map(|m| m.rtt_us),
                    "raw_delay_us": measured.metrics.map(|m| m.raw_delay_us),
                    "jitter_p95_us": measured.metrics.map(|m| m.jitter_p95_us),
                    "loss": measured.metrics.map(|m| m.loss),
                    "beyond_table_us": peer.link.extra_us(now),
                    "quic": {
                        "rtt_us": path.rtt.as_micros() as u64,
                        "congestion_window": path.cwnd,
                        "lost_packets": path.lost_packets,
                        "lost_bytes": path.lost_bytes,
                        "sent_packets": path.sent_packets,
                        "sent_bytes": quic.udp_tx.bytes,
                        "mtu": path.current_mtu,
                    },
                })
            })
            .collect();
        let tracks: Vec<Value> = shared
            .engine
            .view(|core| core.tracks())
            .into_iter()
            .map(|track| {
                json!({
                    "track": track.track.to_string(),
                    "chain": track.chain,
                    "moving_to": track.moving_to,
                    "receivers": track.receivers,
                    "bytes": track.bytes,
                    "groups": track.groups,
                    "last": track.last.map(|p| json!({"group": p.group, "frame": p.frame})),
                })
            })
            .collect();
        let failovers: Vec<Value> = shared
            .engine
            .view(|core| core.failovers().cloned().collect::<Vec<_>>())
            .into_iter()
            .map(|failover| {
                let ms = |us: u128| us as f64 / 1_000.0;
                let refused: Vec<String> = failover
                    .refused
                    .iter()
                    .map(|(node, reason)| match reason {
                        Some(reason) => format!("{node}: {reason:?}"),
                        None => format!("{node}: no answer"),
                    })
                    .collect();
                let after = |at: Time| ms(at.saturating_since(failover.since).as_micros());
                json!({
                    "track": failover.track.to_string(),
                    "trouble": failover.trouble.map(Trouble::as_str),
                    "to": failover.to,
                    "asked": failover.asked.iter().map(|way| way.iter().map(NodeId::as_str).collect::<Vec<_>>()).collect::<Vec<_>>(),
                    "refused": refused,
                    "ago_ms": ms(now.saturating_since(failover.since).as_micros()),
                    "asked_after_ms": after(failover.asked_at),
                    "confirmed_after_ms": failover.confirmed_at.map(after),
                    "taken_after_ms": after(failover.taken_at),
                })
            })
            .collect();
        let routes = shared.ways.borrow().clone();
        let paths: serde_json::Map<String, Value> = routes
            .paths
            .iter()
            .map(|(to, paths)| {
                let paths: Vec<Value> = paths
                    .iter()
                    .map(|path| {
                        let nodes: Vec<&NodeId> = path.hops.iter().map(|hop| &hop.node).collect();
                        json!({"nodes": nodes, "cost_us": path.cost_us})
                    })
                    .collect();
                (to.to_string(), Value::from(paths))
            })
            .collect();
        let version = routes.version;
        json!({
            "node": self.id(),
            "ready": self.ready().err(),
            "controller": shared.control.state().err(),
            "peers": peers,
            "tracks": tracks,
            "failovers": failovers,
            "rooms": shared.rooms.len(),
            "groups": self.groups().iter().map(group).collect::<Vec<_>>(),
            "table": {
                "version": {"era": version.era, "election": version.election, "n": version.n},
                "neighbours": routes.neighbours,
                "paths": paths,
            },
            "stats": format!("{:?}", shared.engine.view(|core| core.stats())),
        })
    }
}

fn group(status: &GroupStatus) -> Value {
    let generation = Generation(status.generation);
    json!({
        "group": status.id,
        "member": status.number,
        "leader": status.leader,
        "generation": generation.to_string(),
        "voters": status.voters,
        "learners": status.learners,
        "applied": status.applied,
        "rooms": status.rooms,
        "halted": status.halted,
    })
}
