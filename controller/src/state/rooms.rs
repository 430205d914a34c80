//! Who serves which room, and telling them what is in it.

use std::collections::btree_map;

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::{NodeId, RoomName},
    time::Time,
    wire::Role,
};

use super::{
    Close, Done, Now, Output, ROOM_IDLE, ROOM_SWEEP, Room, Serving, State, key::Key, sync::Purpose,
};
use crate::store::{Compare, Error, Write};

/// Idle rooms whose records are deleted in one sweep; the rest waits for the next.
const SWEEP_ROOMS: usize = 256;

impl State {
    pub(super) fn watch(
        &mut self,
        now: Now,
        id: &NodeId,
        name: RoomName,
        viewers: u32,
        members: u32,
    ) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let per_node = self.limits.rooms_per_node;
        let bounds = [
            (
                !node.rooms.contains(&name) && node.rooms.len() >= per_node,
                "rooms one node watches",
                per_node,
            ),
            (
                !self.rooms.contains_key(&name) && self.rooms.len() >= self.limits.rooms,
                "rooms",
                self.limits.rooms,
            ),
        ];
        if let Some((_, what, limit)) = bounds.into_iter().find(|(is_over, ..)| *is_over) {
            if let Some(conn) = node.conn {
                self.outputs
                    .push_back(Output::Close(conn, Close::Limit { what, limit }));
            }
            return;
        }
        let conn = node.conn;
        let is_new = node.rooms.insert(name.clone());
        // What it watched over another connection may have changed meanwhile.
        let asks_anew = node.asked.insert(name.clone());
        let room = self.rooms.entry(name.clone()).or_default();
        room.idle = None;
        let mut joined = false;
        if node.info.role == Role::Edge {
            let entry = room.edges.entry(id.clone());
            joined = matches!(entry, btree_map::Entry::Vacant(_));
            let serving = entry.or_insert(Serving {
                since_ms: now.unix_ms,
                ..Serving::default()
            });
            serving.viewers = viewers;
            serving.members = members;
        } else {
            room.relays.insert(id.clone());
        }
        if is_new || joined {
            node.dirty.insert(Key::Edge(name.clone(), id.clone()));
            self.sync(id);
            self.place_room(now, &name);
        }
        if joined {
            self.tell_room(&name);
        } else if self.settling.until().is_none()
            && let (true, Some(conn)) = (asks_anew, conn)
            && let Some(message) = self.room_message(&name)
        {
            self.outputs.push_back(Output::Push(conn, message));
        }
    }

    pub(super) fn unwatch(&mut self, now: Now, id: &NodeId, name: &RoomName) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.asked.remove(name);
        if node.rooms.remove(name) {
            node.dirty.insert(Key::Edge(name.clone(), id.clone()));
            self.edge_gone(now, name, id);
            self.sync(id);
        }
    }

    /// The node does not serve the room any more.
    pub(super) fn edge_gone(&mut self, now: Now, name: &RoomName, id: &NodeId) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.relays.remove(id);
        let was_there = room.edges.remove(id).is_some();
        room.mark_idle(now.time);
        if was_there {
            self.tell_room(name);
        }
    }

    /// Tells everybody who watches the room.
    pub(super) fn tell_room(&mut self, name: &RoomName) {
        if self.settling.until().is_some() {
            return;
        }
        let Some(message) = self.room_message(name) else {
            return;
        };
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let watchers = room.edges.keys().chain(&room.relays);
        let conns = watchers.filter_map(|id| self.nodes.get(id)?.conn);
        for conn in conns {
            self.outputs.push_back(Output::Push(conn, message.clone()));
        }
    }

    fn room_message(&self, name: &RoomName) -> Option<ToNode> {
        let room = self.rooms.get(name)?;
        let streams = room.streams.iter().map(|(stream, held)| {
            let record = &held.record;
            control::StreamState {
                stream: stream.to_string(),
                origin: record.origin.to_string(),
                generation: record.generation.0,
                hls_base: record.hls_base,
                claimed_ms: record.claimed_ms,
            }
        });
        let state = control::RoomState {
            tenant: name.tenant.to_string(),
            room: name.room.to_string(),
            revision: self.told_revision(),
            streams: streams.collect(),
            edges: room.edges.keys().map(ToString::to_string).collect(),
            group: room.group.map_or(0, |group| group.0),
            members: room
                .group
                .map_or_else(Vec::new, |group| self.told_members(group)),
            moved: room.moved.map_or(0, |word| word.0),
            keep: self.told_keep(name),
        };
        Some(ToNode {
            message: Some(to_node::Message::Room(state)),
        })
    }

    /// The revision nodes compare: the store's, below its era as in a generation, so that it does
    /// not fall when a restored store begins lower (its era is raised then).
    pub(super) fn told_revision(&self) -> u64 {
        u64::from(self.era) << 48 | self.revision & ((1 << 48) - 1)
    }

    /// Deletes the records of rooms that nobody used for long; what looked away is looked at again.
    pub(super) fn sweep(&mut self, now: Now) {
        self.sweep_due = now.time + ROOM_SWEEP;
        if !self.store_up {
            return;
        }
        self.end_the_unheard(now);
        self.place_rooms(now);
        self.forget_policies();
        let idle = |room: &Room| {
            let rests = !room.is_used() && !room.forgetting && room.moving.is_none();
            let since = room.idle.filter(|_| rests);
            since.is_some_and(|since| now.time.saturating_since(since) >= ROOM_IDLE)
        };
        let idle = self.rooms.iter().filter(|(_, room)| idle(room));
        let names: Vec<RoomName> = idle
            .map(|(name, _)| name.clone())
            .take(SWEEP_ROOMS)
            .collect();
        for name in names {
            let key = Key::Room(name.clone());
            let Some(stored) = self.mirror.get(&key) else {
                self.rooms.remove(&name);
                continue;
            };
            let compares = vec![Compare::Revision(key.to_string(), stored.revision)];
            let call = self.fenced(compares, vec![Write::Delete(key.to_string())]);
            self.call(Purpose::Forget(name.clone()), call);
            if let Some(room) = self.rooms.get_mut(&name) {
                room.forgetting = true;
            }
        }
    }

    pub(super) fn forgotten(&mut self, now: Now, name: &RoomName, result: Result<Done, Error>) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.forgetting = false;
        if result.is_err() {
            return;
        }
        self.mirror.remove(&Key::Room(name.clone()));
        if room.is_used() {
            // Somebody came meanwhile: its record is made again.
            self.place_room(now, name);
        } else {
            self.rooms.remove(name);
        }
    }
}

impl Room {
    /// Whether anybody is in it.
    pub(super) fn is_used(&self) -> bool {
        !self.edges.is_empty() || !self.streams.is_empty() || !self.relays.is_empty()
    }

    pub(super) fn mark_idle(&mut self, now: Time) {
        if !self.is_used() {
            self.idle.get_or_insert(now);
        }
    }
}
