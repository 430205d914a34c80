//! What stands in the store, as far as is known, and what that says about who is there.

use longspan_proto::ids::{NodeId, RoomName};

use super::{
    Call, Event, Held, Mirrored, Node, Now, Room, Serving, State, key::Key, record, sync::Purpose,
};
use crate::store::{self, Batch, Entry, LeaseId, Revision, Snapshot, Write};

impl State {
    /// The store is (again) there, and holds `snapshot`.
    pub(super) fn leading(&mut self, now: Now, election: Revision, era: u16, snapshot: Snapshot) {
        let first = self.election == 0;
        self.election = election;
        self.era = self.era.max(era);
        self.revision = self.revision.max(snapshot.revision);
        self.store_up = true;
        self.sweep_due = now.time + super::ROOM_SWEEP;
        // Calls from before tell nothing any more: what they did stands in the snapshot.
        self.calls.clear();
        for node in self.nodes.values_mut() {
            node.calling = None;
        }
        for room in self.rooms.values_mut() {
            room.placing = false;
            room.forgetting = false;
        }
        self.mirror.clear();
        for entry in &snapshot.entries {
            if let Some(key) = Key::parse(&entry.key) {
                self.mirror.insert(key, mirrored(entry));
            }
        }
        self.event(Event::Leading {
            election,
            era: self.era,
        });
        self.read_overrides(now);
        self.read_policies(now);
        self.revoke_stale_runs();
        self.adopt(now);
        self.moves_compared(now);
        if first {
            self.settle(now);
        }
        self.groups_compared(now);
        self.end_the_unheard(now);
        self.rejoin_all(now);
        self.resume_claims(now);
        let rooms: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for room in rooms {
            self.place_room(now, &room);
        }
        self.membership_changed(now);
        // The version moves on also where no path changed: nodes see that somebody leads.
        self.router.push_all(now.time);
    }

    /// Ends leases of earlier runs of nodes that are here as another run.
    fn revoke_stale_runs(&mut self) {
        let stale = |node: &Node| {
            let stored = self.mirror.get(&Key::Node(node.info.id.clone()))?;
            let lease = stored.lease?;
            (node.conn.is_some() && lease != node.lease).then_some(lease)
        };
        let leases: Vec<LeaseId> = self.nodes.values().filter_map(stale).collect();
        for lease in leases {
            self.mirror.retain(|_, stored| stored.lease != Some(lease));
            self.call(Purpose::Revoke, Call::Revoke(lease));
        }
    }

    /// Takes over what the store knows and memory does not.
    fn adopt(&mut self, now: Now) {
        let stored: Vec<(Key, Mirrored)> = self
            .mirror
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, stored) in stored {
            self.adopt_one(now, key, &stored);
        }
    }

    fn adopt_one(&mut self, now: Now, key: Key, stored: &Mirrored) {
        match (key, stored.lease) {
            (Key::Node(id), Some(lease)) => {
                if let Some(info) = record::read::<record::Node>(&stored.value)
                    && !self.nodes.contains_key(&id)
                {
                    let mut node = Node::new(info, lease, now.time);
                    node.granted = true;
                    self.nodes.insert(id, node);
                    self.membership_changed(now);
                }
            }
            (Key::Override(target), _) => {
                if let Some(asked) = record::read::<record::Override>(&stored.value) {
                    self.override_stored(now, target, Some(asked));
                }
            }
            (Key::Room(name), _) => {
                let Some(stored) = record::read::<record::Room>(&stored.value) else {
                    return;
                };
                self.room_stored(name, stored);
                self.look_at_policies(now);
            }
            (Key::Policy(name), _) => {
                if let Some(policy) = record::read(&stored.value) {
                    self.policy_stored(now, name, Some(policy));
                }
            }
            (Key::Group(id), _) => {
                if let Some(group) = record::read::<record::Group>(&stored.value) {
                    self.group_stored(now, id, group);
                }
            }
            (Key::Stream(name, stream), Some(lease)) => {
                let Some(record) = record::read::<record::Stream>(&stored.value) else {
                    return;
                };
                if self.claims.is_doubted(&name, &stream, record.generation) {
                    self.drop_record(&name, &stream);
                    return;
                }
                let known = self.rooms.get(&name).and_then(|r| r.streams.get(&stream));
                if known.is_none_or(|known| known.record.generation < record.generation) {
                    let session = lease;
                    self.set_stream(&name, &stream, Held { record, session });
                    self.tell_room(&name);
                }
            }
            (Key::Edge(name, edge), Some(_)) => {
                let Some(record) = record::read::<record::Edge>(&stored.value) else {
                    return;
                };
                let room = self.rooms.entry(name.clone()).or_default();
                let serving = Serving {
                    since_ms: record.since_ms,
                    ..Serving::default()
                };
                room.edges.entry(edge.clone()).or_insert(serving);
                if let Some(node) = self.nodes.get_mut(&edge) {
                    node.rooms.insert(name);
                }
            }
            _ => {}
        }
    }

    pub(super) fn changed(&mut self, now: Now, batch: Batch) {
        self.revision = self.revision.max(batch.revision);
        for event in batch.events {
            match event {
                store::Event::Put(entry) => {
                    let Some(key) = Key::parse(&entry.key) else {
                        continue;
                    };
                    let known = self.mirror.get(&key);
                    if known.is_some_and(|known| known.revision >= entry.revision) {
                        continue;
                    }
                    let stored = mirrored(&entry);
                    self.mirror.insert(key.clone(), stored.clone());
                    self.adopt_one(now, key, &stored);
                }
                store::Event::Delete(key) => {
                    let Some(key) = Key::parse(&key) else {
                        continue;
                    };
                    let known = self.mirror.get(&key);
                    if known.is_some_and(|known| known.revision > batch.revision) {
                        continue;
                    }
                    let gone = self.mirror.remove(&key);
                    self.deleted(now, key, gone.and_then(|gone| gone.lease));
                }
            }
        }
    }

    /// A record is gone from the store. Its node may still be here: then it is put again.
    fn deleted(&mut self, now: Now, key: Key, lease: Option<LeaseId>) {
        match key {
            Key::Node(id) => {
                let Some(node) = self.nodes.get_mut(&id) else {
                    return;
                };
                if node.conn.is_none() && lease.is_none_or(|lease| lease == node.lease) {
                    self.settling.lease_ended(&id);
                    self.remove_node(now, &id);
                    self.place_rooms(now);
                } else if lease == Some(node.lease) {
                    node.granted = false;
                    node.dirty.insert(Key::Node(id.clone()));
                    self.sync(&id);
                }
            }
            Key::Edge(name, edge) => {
                if let Some(node) = self.nodes.get_mut(&edge)
                    && node.rooms.contains(&name)
                    && node.conn.is_some()
                {
                    node.dirty.insert(Key::Edge(name, edge.clone()));
                    self.sync(&edge);
                } else {
                    self.edge_gone(now, &name, &edge);
                }
            }
            Key::Stream(name, stream) => {
                let Some(held) = self.rooms.get(&name).and_then(|r| r.streams.get(&stream)) else {
                    return;
                };
                let (origin, session) = (held.record.origin.clone(), held.session);
                if lease.is_some_and(|lease| lease != session) {
                    return;
                }
                let node = self.nodes.get(&origin);
                if node.is_some_and(|n| n.conn.is_some() && n.lease == session) {
                    self.sync(&origin);
                } else {
                    self.stream_gone(now, &name, &stream);
                }
            }
            Key::Override(target) => self.override_stored(now, target, None),
            Key::Policy(name) => self.policy_stored(now, name, None),
            Key::Group(id) => self.group_deleted(now, id),
            Key::Room(_) | Key::Generation(..) | Key::LastGroup | Key::Election => {}
        }
    }

    /// Nodes without a session and without a record ended while nobody looked.
    pub(super) fn end_the_unheard(&mut self, now: Now) {
        let unheard = |node: &&Node| {
            node.conn.is_none()
                && !self.mirror.contains_key(&Key::Node(node.info.id.clone()))
                && now.time.saturating_since(node.heard) >= self.limits.lease_ttl
        };
        let gone: Vec<NodeId> = self
            .nodes
            .values()
            .filter(unheard)
            .map(|node| node.info.id.clone())
            .collect();
        for id in gone {
            self.remove_node(now, &id);
        }
        // And what is left of those that are not known at all.
        let orphans = |room: &Room, nodes: &std::collections::BTreeMap<NodeId, Node>| {
            let edges = room.edges.keys().filter(|e| !nodes.contains_key(*e));
            let streams = room.streams.iter().filter(|(_, held)| {
                let origin = nodes.get(&held.record.origin);
                origin.is_none_or(|n| n.lease != held.session)
            });
            (
                edges.cloned().collect::<Vec<_>>(),
                streams.map(|(s, _)| s.clone()).collect::<Vec<_>>(),
            )
        };
        let names: Vec<RoomName> = self.rooms.keys().cloned().collect();
        for name in names {
            let Some(room) = self.rooms.get(&name) else {
                continue;
            };
            let (edges, streams) = orphans(room, &self.nodes);
            for edge in edges {
                if !self
                    .mirror
                    .contains_key(&Key::Edge(name.clone(), edge.clone()))
                {
                    self.edge_gone(now, &name, &edge);
                }
            }
            for stream in streams {
                let key = Key::Stream(name.clone(), stream.clone());
                if !self.mirror.contains_key(&key) {
                    self.stream_gone(now, &name, &stream);
                }
            }
        }
    }

    /// Everything of connected nodes is compared with the store anew.
    fn rejoin_all(&mut self, _now: Now) {
        let ids: Vec<NodeId> = self.nodes.keys().cloned().collect();
        for id in ids {
            let Some(node) = self.nodes.get_mut(&id) else {
                continue;
            };
            if node.conn.is_none() {
                continue;
            }
            node.keep = true;
            node.dirty = node.all_keys();
            self.sync(&id);
        }
    }

    pub(super) fn mirror_writes(&mut self, writes: &[Write], revision: Revision) {
        self.revision = self.revision.max(revision);
        for write in writes {
            let Some(key) = Key::parse(write.key()) else {
                continue;
            };
            let known = self.mirror.get(&key);
            if known.is_some_and(|known| known.revision > revision) {
                continue;
            }
            match write {
                Write::Put { value, lease, .. } => {
                    let stored = Mirrored {
                        revision,
                        lease: *lease,
                        value: value.as_str().into(),
                    };
                    self.mirror.insert(key, stored);
                }
                Write::Delete(_) => {
                    self.mirror.remove(&key);
                }
            }
        }
    }
}

fn mirrored(entry: &Entry) -> Mirrored {
    Mirrored {
        revision: entry.revision,
        lease: entry.lease,
        value: entry.value.clone(),
    }
}
