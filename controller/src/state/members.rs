//! Who is there: joining, leaving, the directory, and each node's table.

use std::{sync::Arc, time::Duration};

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::{Generation, NodeId, RoomName},
    wire::Role,
};
use longspan_topology::{
    encoding,
    routes::{Routes, Version},
};

use super::{
    Call, Close, Conn, DIRECTORY_EVERY, Event, Join, Node, Now, Output, Said, State, edges,
    key::Key, record, sync::Purpose,
};
use crate::{routes::Member, store::LeaseId};

/// A table that a node refused is pushed again after this, or with the next change: what was wrong
/// may have been a passing matter, such as a node it did not know yet.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// Which table a node has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TableState {
    /// What it holds if it took all it was told: a push is what changed since.
    pub told: Option<Arc<Routes>>,
    /// Pushed last.
    pub sent: Option<Version>,
    /// Taken last.
    pub acked: Option<Version>,
    /// Refused last, and why.
    pub nacked: Option<(Version, String)>,
}

impl Node {
    pub(super) fn is_relay(&self) -> bool {
        self.info.role == Role::Relay
    }
}

impl State {
    pub(super) fn joined(&mut self, now: Now, conn: Conn, join: Join, fresh: LeaseId) {
        let (info, mut session) = (join.node.clone(), join.session);
        let mut join = join;
        let held = std::mem::take(&mut join.groups);
        let id = info.id.clone();
        if let Some(known) = self.nodes.get(&id) {
            if let Some(old) = known.conn {
                self.conns.remove(&old);
                self.outputs
                    .push_back(Output::Close(old, Close::Replaced(id.clone())));
            }
            if known.info.boot != info.boot {
                let lease = known.lease;
                session = 0;
                self.remove_node(now, &id);
                self.mirror.retain(|_, stored| stored.lease != Some(lease));
                if self.store_up {
                    self.call(Purpose::Revoke, Call::Revoke(lease));
                }
            }
        }
        let disk = self.own_disk(&info, join.disk);
        let taken = self
            .nodes
            .values()
            .any(|n| n.lease == session && n.info.id != id);
        let lease = if session > 0 && !taken {
            session
        } else {
            fresh
        };
        let node = self
            .nodes
            .entry(id.clone())
            .or_insert_with(|| Node::new(info.clone(), lease, now.time));
        node.info = info;
        node.conn = Some(conn);
        node.asked.clear();
        node.heard = now.time;
        node.keep = true;
        node.dirty = node.all_keys();
        node.table = TableState::default();
        node.status = None;
        node.disk = Some(disk);
        node.groups.clear();
        node.holds.clear();
        node.groups_told.clear();
        node.moves_told = control::Moves::default();
        node.policies.clear();
        node.policies_told = control::Policies::default();
        let (lease, holds_table) = (node.lease, join.held.is_some());
        self.conns.insert(conn, id.clone());
        let welcome = control::Welcome {
            session: lease,
            ttl_ms: self.limits.lease_ttl.as_millis() as u32,
            ticket_key: Default::default(),
        };
        self.event(Event::NodeJoined { node: id.clone() });
        self.say(conn, to_node::Message::Welcome(welcome));
        self.adopt_joined(now, join, lease);
        self.adopt_groups(now, &id, held);
        self.sync(&id);
        self.membership_changed(now);
        if !holds_table || self.settling.until().is_none() {
            let known = self.directory_now();
            self.say(conn, to_node::Message::Directory(known));
        }
        self.tell_its_groups(&id);
        self.tell_moves();
        self.look_at_policies(now);
        self.router.push_to(now.time, &id);
        self.place_rooms(now);
    }

    /// A node has seen more than this store ever gave out: it was restored from a backup, or is
    /// another one. What it gives out from now on is above what it forgot.
    pub(super) fn may_have_forgotten(&mut self, highest: Generation, table: Option<Version>) {
        let mut seen = Some(highest.era()).filter(|era| *era > self.era);
        if let Some(table) = table {
            let era = u16::try_from(table.era).unwrap_or(u16::MAX);
            if (era, table.election) > (self.era, self.election) {
                seen = seen.max(Some(era));
            }
        }
        if let Some(era) = seen {
            self.outputs
                .push_back(Output::RaiseEra(era.saturating_add(1)));
        }
    }

    pub(super) fn left(&mut self, now: Now, conn: Conn) {
        let Some(id) = self.conns.remove(&conn) else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(&id) {
            node.conn = None;
            node.heard = now.time;
        }
        self.event(Event::NodeLeft { node: id });
        self.membership_changed(now);
    }

    /// A node is there no more: nor are its streams, nor is it in rooms.
    pub(super) fn remove_node(&mut self, now: Now, id: &NodeId) {
        let Some(node) = self.nodes.remove(id) else {
            return;
        };
        if let Some(conn) = node.conn {
            self.conns.remove(&conn);
        }
        self.event(Event::NodeGone { node: id.clone() });
        for (room, stream) in self.claims.held_by(id) {
            self.stream_gone(now, &room, &stream);
        }
        self.forget_holder(id);
        let rooms: Vec<RoomName> = node.rooms.iter().cloned().collect();
        for room in rooms {
            self.edge_gone(now, &room, id);
        }
        self.settle_without(now, id);
        self.router.forget(id);
        self.membership_changed(now);
    }

    pub(super) fn said(&mut self, now: Now, conn: Conn, said: Said) {
        let Some(id) = self.conns.get(&conn).cloned() else {
            return;
        };
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.heard = now.time;
        match said {
            Said::Heartbeat => {
                node.keep = true;
                self.sync(&id);
            }
            Said::Links(links) => {
                self.router.report(now.time, &id, &links);
                self.settle_without(now, &id);
            }
            Said::Ack(version) => node.table.acked = Some(version),
            Said::Nack {
                version,
                reason,
                send_whole,
            } => {
                node.table.nacked = Some((version, reason.clone()));
                node.table.told = None;
                let pause = match send_whole {
                    true => Duration::ZERO,
                    false => REFUSED_RETRY,
                };
                self.router.push_to(now.time + pause, &id);
                self.event(Event::TableRefused {
                    node: id,
                    version: shown(version),
                    reason,
                });
            }
            Said::Attached(relays) => {
                if node.info.attached != relays {
                    node.info.attached = relays;
                    node.dirty.insert(Key::Node(id.clone()));
                    self.sync(&id);
                    self.directory_changed(now);
                    self.router.changed(now.time);
                }
            }
            Said::Watch {
                room,
                viewers,
                members,
            } => self.watch(now, &id, room, viewers, members),
            Said::Unwatch(room) => self.unwatch(now, &id, &room),
            Said::Status(status, groups, moves, policies) => {
                node.status = Some(status);
                self.groups_told_by(now, &id, groups);
                self.moves_told_by(now, &id, moves);
                self.policies_told_by(&id, policies);
            }
            Said::Traced(ticket, tracks) => self.traced(&id, ticket, tracks),
        }
    }

    pub(super) fn era_raised(&mut self, now: Now, era: u16) {
        if era > self.era {
            self.era = era;
            self.event(Event::EraRaised { era });
            self.look_at_policies(now);
            self.router.push_all(now.time);
        }
    }

    pub(super) fn membership_changed(&mut self, now: Now) {
        self.look_at_groups(now);
        self.router.changed(now.time);
        self.directory_changed(now);
    }

    fn directory_changed(&mut self, now: Now) {
        self.directory = Default::default();
        self.directory_due.get_or_insert(now.time + DIRECTORY_EVERY);
    }

    /// All nodes, as they are told of each other.
    pub(super) fn directory(&mut self) -> &[control::Node] {
        if self.directory.is_empty() {
            let nodes = self.nodes.values();
            self.directory = Arc::new(nodes.map(|node| told(&node.info)).collect());
        }
        &self.directory
    }

    /// The same with what operators ask of them now.
    fn directory_now(&mut self) -> control::Directory {
        let unix_ms = self.now.unix_ms;
        let mut nodes = self.directory().to_vec();
        for (id, asked) in self.overrides.of_nodes() {
            if let Some(entry) = nodes.iter_mut().find(|entry| entry.id == id.as_str()) {
                edges::put(entry, asked, unix_ms);
            }
        }
        control::Directory { nodes }
    }

    pub(super) fn tell_directory(&mut self) {
        self.directory_due = None;
        let message = to_node::Message::Directory(self.directory_now());
        let conns: Vec<Conn> = self.conns.keys().copied().collect();
        for conn in conns {
            self.say(conn, message.clone());
        }
    }

    fn say(&mut self, conn: Conn, message: to_node::Message) {
        let message = Some(message);
        self.outputs
            .push_back(Output::Push(conn, ToNode { message }));
    }

    /// Who is there, what it is, and whether it reports.
    pub(super) fn routing_nodes(&self) -> Vec<Member> {
        let nodes = self.nodes.values();
        nodes
            .map(|n| Member::new(&n.info, n.conn.is_some()))
            .collect()
    }

    /// Computes tables if something changed, and pushes those that differ.
    pub(super) fn route(&mut self, now: Now) {
        self.routing_paused |= now.time >= self.lead_until;
        let due = self.router.due().is_some_and(|due| due <= now.time);
        if self.routing_paused || !due || self.settling.until().is_some() {
            return;
        }
        let routed = self.router.recompute(now, &self.routing_nodes());
        for switch in routed.switches {
            self.event(Event::RouteSwitched(switch));
        }
        if routed.push.is_empty() {
            return;
        }
        // A table names nodes: whoever is told of it must have been told of them.
        if self.directory_due.is_some() {
            self.tell_directory();
        }
        self.table_n += 1;
        let version = self.version();
        self.event(Event::TablesPushed {
            version: shown(version),
            nodes: routed.push.len(),
        });
        for id in routed.push {
            let Some(table) = self.router.table(&id) else {
                continue;
            };
            if let Some(node) = self.nodes.get_mut(&id)
                && let Some(conn) = node.conn
            {
                let routes = Arc::new(table.routes(version));
                let message = match &node.table.told {
                    Some(told) => encoding::change(told, &routes),
                    None => encoding::whole(&routes),
                };
                node.table.sent = Some(version);
                node.table.told = Some(routes);
                self.say(conn, to_node::Message::Table(message));
            }
        }
    }
}

/// A node as other nodes are told of it.
fn told(info: &record::Node) -> control::Node {
    let role = match info.role {
        Role::Relay => control::Role::Relay,
        Role::Edge => control::Role::Edge,
    };
    control::Node {
        id: info.id.to_string(),
        role: role.into(),
        boot_id: info.boot.0,
        region: info.region.to_string(),
        zone: info.zone.to_string(),
        country: info.country.clone(),
        city: info.city.clone(),
        latitude: info.lat,
        longitude: info.lon,
        quic_addresses: info.quic.clone(),
        http_url: info.http.clone(),
        rtmp_url: info.rtmp.clone(),
        admin_url: info.admin.clone(),
        version: info.version.clone(),
        attached: info.attached.iter().map(ToString::to_string).collect(),
        // What is asked of it is put in when it is told.
        ..control::Node::default()
    }
}

/// `era.election.n`.
pub fn shown(version: Version) -> String {
    format!("{}.{}.{}", version.era, version.election, version.n)
}

/// Great-circle distance (haversine, mean Earth radius 6,371 km).
pub(super) fn distance_km(a: &record::Node, b: &record::Node) -> f64 {
    let (lat_a, lat_b) = (a.lat.to_radians(), b.lat.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let lon = half((b.lon - a.lon).to_radians());
    let h = half(lat_b - lat_a) + lat_a.cos() * lat_b.cos() * lon;
    2.0 * 6_371.0 * h.sqrt().min(1.0).asin()
}
