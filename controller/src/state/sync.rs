//! Bringing nodes' leases and records to the store, a call at a time.

use std::collections::BTreeSet;

use longspan_proto::ids::{Generation, NodeId, RoomName, Stream};

use super::{
    Call, CallId, Done, Event, Node, Now, Output, State, key::Key, members::TableState, record,
};
use crate::store::{Compare, Error, LeaseId, MAX_OPERATIONS, Txn, Write};

/// What a call was made for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// A node's lease.
    Grant(NodeId, LeaseId),
    /// A node's lease.
    Keep(NodeId, LeaseId),
    /// A node's records; the writes, to be mirrored when they are done.
    Sync(NodeId, Vec<Write>),
    /// An old lease of a node that came back as another run.
    Revoke,
    /// See `claims`.
    Claim(RoomName, Stream),
    /// A record without its holder is deleted.
    Drop(RoomName, Stream, Generation),
    /// A held stream is put again.
    Restore(RoomName, Stream, Vec<Write>),
    /// Records of placement groups; see `groups`.
    Groups(Box<super::groups::Made>),
    /// A room is placed in a group.
    Placed(Box<super::groups::Placed>),
    /// A room's move begins, or ends; see `moves`.
    Move(Box<super::moves::Made>),
    /// See `policies`.
    Policy(Box<super::policies::Made>),
    /// An idle room's record is deleted.
    Forget(RoomName),
    /// See `overrides`.
    Change(Box<super::overrides::Made>),
}

impl State {
    pub(super) fn call(&mut self, purpose: Purpose, call: Call) -> CallId {
        self.next_call += 1;
        self.calls.insert(self.next_call, purpose);
        self.outputs.push_back(Output::Call(self.next_call, call));
        self.next_call
    }

    /// A commit that happens only while this controller leads.
    pub(super) fn fenced(&self, mut compares: Vec<Compare>, writes: Vec<Write>) -> Call {
        let election = Key::Election.to_string();
        compares.push(Compare::Revision(election, self.election));
        Call::Commit(Txn { compares, writes })
    }

    pub(super) fn called(&mut self, now: Now, id: CallId, result: Result<Done, Error>) {
        let Some(purpose) = self.calls.remove(&id) else {
            return;
        };
        if let Err(Error::Unavailable(_)) = &result {
            self.store_lost();
        }
        match purpose {
            Purpose::Grant(node, lease) => self.granted(now, &node, lease, id, result),
            Purpose::Keep(node, lease) => self.kept(now, &node, lease, id, result),
            Purpose::Sync(node, writes) => self.synced(now, &node, id, writes, result),
            Purpose::Revoke => {}
            Purpose::Claim(room, stream) => self.claim_step(now, room, stream, result),
            Purpose::Drop(room, stream, generation) => match result {
                Ok(_) => {
                    self.mirror.remove(&Key::Stream(room, stream));
                }
                // Changed meanwhile: whoever did it knows better.
                Err(Error::Conflict) => {}
                Err(_) => self.claims.doubt(room, stream, generation),
            },
            Purpose::Restore(room, stream, writes) => {
                self.restored(now, room, stream, &writes, result);
            }
            Purpose::Groups(made) => self.groups_made(now, *made, result),
            Purpose::Placed(placed) => self.room_placed(now, *placed, result),
            Purpose::Move(made) => self.move_made(now, *made, result),
            Purpose::Policy(made) => self.policy_made(now, *made, result),
            Purpose::Forget(room) => self.forgotten(now, &room, result),
            Purpose::Change(made) => self.change_made(now, *made, result),
        }
    }

    pub(super) fn store_lost(&mut self) {
        if std::mem::replace(&mut self.store_up, false) {
            self.event(Event::StoreLost);
        }
    }

    /// Brings one node's lease and records to the store, a call at a time.
    pub(super) fn sync(&mut self, id: &NodeId) {
        if !self.store_up || self.election == 0 {
            return;
        }
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        if node.calling.is_some() {
            return;
        }
        let lease = node.lease;
        let (purpose, call) = if !node.granted {
            let ttl = self.limits.lease_ttl;
            (Purpose::Grant(id.clone(), lease), Call::Grant(lease, ttl))
        } else if node.keep {
            (Purpose::Keep(id.clone(), lease), Call::KeepAlive(lease))
        } else {
            let (writes, done) = self.differing(id);
            let Some(node) = self.nodes.get_mut(id) else {
                return;
            };
            for key in done {
                node.dirty.remove(&key);
            }
            if writes.is_empty() {
                self.restore_streams(id);
                return;
            }
            let call = self.fenced(Vec::new(), writes.clone());
            (Purpose::Sync(id.clone(), writes), call)
        };
        let call = self.call(purpose, call);
        if let Some(node) = self.nodes.get_mut(id) {
            node.calling = Some(call);
        }
    }

    /// The writes for up to one commit's worth of dirty keys, and the keys they settle.
    fn differing(&self, id: &NodeId) -> (Vec<Write>, Vec<Key>) {
        let (mut writes, mut done) = (Vec::new(), Vec::new());
        let Some(node) = self.nodes.get(id) else {
            return (writes, done);
        };
        for key in &node.dirty {
            if writes.len() == MAX_OPERATIONS - 1 {
                break;
            }
            done.push(key.clone());
            let stored = self.mirror.get(key);
            match self.wanted(node, key) {
                Some(value) => {
                    let same =
                        stored.is_some_and(|s| *s.value == *value && s.lease == Some(node.lease));
                    if !same {
                        let lease = Some(node.lease);
                        let key = key.to_string();
                        writes.push(Write::Put { key, value, lease });
                    }
                }
                None if stored.is_some() => writes.push(Write::Delete(key.to_string())),
                None => {}
            }
        }
        (writes, done)
    }

    /// What a node's key should hold.
    fn wanted(&self, node: &Node, key: &Key) -> Option<String> {
        match key {
            Key::Node(_) => Some(record::write(&node.info)),
            Key::Edge(name, edge) => {
                let serving = self.rooms.get(name)?.edges.get(edge)?;
                let since_ms = serving.since_ms;
                let watched = node.rooms.contains(name);
                watched.then(|| record::write(&record::Edge { since_ms }))
            }
            _ => None,
        }
    }

    fn granted(
        &mut self,
        now: Now,
        id: &NodeId,
        lease: LeaseId,
        call: CallId,
        result: Result<Done, Error>,
    ) {
        let Some(node) = self.calling(id, lease, call) else {
            return;
        };
        // There already: an earlier grant whose answer was lost.
        let is_there = matches!(result, Ok(_) | Err(Error::LeaseExists(_)));
        if is_there {
            node.granted = true;
            node.keep |= result.is_err();
            node.dirty = node.all_keys();
        }
        if is_there {
            self.sync(id);
            self.lease_is_there(now, id);
        }
    }

    fn kept(
        &mut self,
        now: Now,
        id: &NodeId,
        lease: LeaseId,
        call: CallId,
        result: Result<Done, Error>,
    ) {
        let Some(node) = self.calling(id, lease, call) else {
            return;
        };
        match result {
            Ok(_) => node.keep = false,
            Err(Error::LeaseNotFound(_)) => self.lease_lost(id),
            Err(_) => return,
        }
        self.sync(id);
        self.lease_is_there(now, id);
    }

    fn synced(
        &mut self,
        _now: Now,
        id: &NodeId,
        call: CallId,
        writes: Vec<Write>,
        result: Result<Done, Error>,
    ) {
        let lease = self.nodes.get(id).map_or(0, |node| node.lease);
        let known = self.calling(id, lease, call).is_some();
        match result {
            Ok(Done::Committed(revision)) => self.mirror_writes(&writes, revision),
            Err(Error::LeaseNotFound(_)) if known => {
                self.lease_lost(id);
            }
            // Deposed: the driver learns it from the election itself. Lost: all is compared
            // anew when the store is back.
            _ => return,
        }
        if known {
            self.sync(id);
        }
    }

    /// The node, if the call is the one it waits for; it waits no longer.
    fn calling(&mut self, id: &NodeId, lease: LeaseId, call: CallId) -> Option<&mut Node> {
        let node = self.nodes.get_mut(id)?;
        if node.lease != lease || node.calling != Some(call) {
            return None;
        }
        node.calling = None;
        Some(node)
    }

    /// The store has ended a lease whose node is still here.
    pub(super) fn lease_lost(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.granted = false;
        node.dirty = node.all_keys();
        let lease = Some(node.lease);
        self.mirror.retain(|_, stored| stored.lease != lease);
    }

    /// Puts the streams a node holds but the store has lost, each under the generation it has,
    /// unless a later one was given out.
    fn restore_streams(&mut self, id: &NodeId) {
        let Some(node) = self.nodes.get(id) else {
            return;
        };
        let lease = node.lease;
        let mut lost = Vec::new();
        for (name, stream) in self.claims.held_by(id) {
            let key = Key::Stream(name.clone(), stream.clone());
            let free = !self.claims.is_busy(&name, &stream);
            if free && !self.mirror.contains_key(&key) {
                lost.push((name, stream));
            }
        }
        for (name, stream) in lost {
            let Some(held) = self.rooms.get(&name).and_then(|r| r.streams.get(&stream)) else {
                continue;
            };
            if held.session != lease {
                continue;
            }
            let issued = record::write(&record::Issued {
                generation: held.record.generation,
                hls_base: held.record.hls_base,
            });
            let generation = Key::Generation(name.clone(), stream.clone()).to_string();
            let key = Key::Stream(name.clone(), stream.clone()).to_string();
            let compares = vec![
                Compare::Value(generation, issued),
                Compare::Absent(key.clone()),
            ];
            let value = record::write(&held.record);
            let lease = Some(lease);
            let writes = vec![Write::Put { key, value, lease }];
            let call = self.fenced(compares, writes.clone());
            self.claims.occupy(&name, &stream);
            self.call(Purpose::Restore(name, stream, writes), call);
        }
    }

    fn restored(
        &mut self,
        now: Now,
        name: RoomName,
        stream: Stream,
        writes: &[Write],
        result: Result<Done, Error>,
    ) {
        match result {
            Ok(Done::Committed(revision)) => {
                self.mirror_writes(writes, revision);
                self.tell_room(&name);
            }
            Err(Error::Conflict) => self.stream_gone(now, &name, &stream),
            _ => {}
        }
        self.next_claim(now, name, stream);
    }

    /// Deletes a stream's record that nobody holds.
    pub(super) fn drop_record(&mut self, name: &RoomName, stream: &Stream) {
        let key = Key::Stream(name.clone(), stream.clone());
        let Some(stored) = self.mirror.get(&key) else {
            return;
        };
        let Some(record) = record::read::<record::Stream>(&stored.value) else {
            return;
        };
        if !self.store_up {
            self.claims
                .doubt(name.clone(), stream.clone(), record.generation);
            return;
        }
        self.claims.undoubt(name, stream);
        let compares = vec![Compare::Revision(key.to_string(), stored.revision)];
        let call = self.fenced(compares, vec![Write::Delete(key.to_string())]);
        let purpose = Purpose::Drop(name.clone(), stream.clone(), record.generation);
        self.call(purpose, call);
    }
}

impl Node {
    pub(super) fn new(
        info: record::Node,
        lease: LeaseId,
        heard: longspan_proto::time::Time,
    ) -> Node {
        Node {
            info,
            lease,
            conn: None,
            heard,
            rooms: BTreeSet::new(),
            asked: BTreeSet::new(),
            granted: false,
            calling: None,
            keep: false,
            dirty: BTreeSet::new(),
            table: TableState::default(),
            status: None,
            disk: None,
            groups: Default::default(),
            holds: BTreeSet::new(),
            groups_told: Vec::new(),
            moves_told: Default::default(),
            policies: Default::default(),
            policies_told: Default::default(),
        }
    }

    /// All records that end with its lease, but for its streams.
    pub(super) fn all_keys(&self) -> BTreeSet<Key> {
        let id = &self.info.id;
        let edges = self.rooms.iter();
        edges
            .map(|room| Key::Edge(room.clone(), id.clone()))
            .chain([Key::Node(id.clone())])
            .collect()
    }
}
