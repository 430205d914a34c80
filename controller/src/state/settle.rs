//! What a controller that begins to lead does not do yet.
//!
//! It knows no link, and where all controllers were gone for longer than leases live it knows no
//! node, room or stream either, while all of them run. A table out of half the links, a directory
//! of half the nodes, or a room without its streams would tear down what runs. So nodes that hold a table are told none of these until the relays of before have
//! come back and reported, or [`SETTLE`] has passed.

use std::{collections::BTreeSet, time::Duration};

use longspan_proto::{ids::NodeId, time::Time};

use super::{Join, Now, State, record};
use crate::store::LeaseId;

/// The longest it takes: a node notices after 5 s that its controller is stopped (a ping every 2 s,
/// answered within 3 s), may ask that one once more (a welcome within 2 s), and looks for another at
/// least every 2 s.
const SETTLE: Duration = Duration::from_secs(10);

/// Whether, and for whom, is waited.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// Since when this controller leads.
    began: Option<Time>,
    until: Option<Time>,
    /// Relays to be heard of.
    relays: BTreeSet<NodeId>,
    /// The store had lost nodes that run, or loses them now: who else there is, nobody knows.
    forgot: bool,
}

impl Settling {
    /// Until when, if it is not over.
    pub fn until(&self) -> Option<Time> {
        self.until
    }

    /// A node's lease ended. If it was not heard of yet it may run all the same: without a controller
    /// nobody kept its lease alive, and who else there is, nobody knows.
    pub fn lease_ended(&mut self, node: &NodeId) {
        self.forgot |= self.relays.contains(node);
    }

    /// The relay need not be waited for any more. Whether none is left.
    fn heard(&mut self, relay: &NodeId) -> bool {
        self.relays.remove(relay) && self.relays.is_empty() && !self.forgot
    }
}

impl State {
    /// This controller begins to lead.
    pub(super) fn settle(&mut self, now: Now) {
        let relays = self.nodes.values().filter(|n| n.is_relay());
        let relays: BTreeSet<NodeId> = relays.map(|n| n.info.id.clone()).collect();
        self.settling = Settling {
            began: Some(now.time),
            until: (!relays.is_empty()).then(|| now.time + SETTLE),
            relays,
            forgot: false,
        };
    }

    /// A relay reported, or is gone.
    pub(super) fn settle_without(&mut self, now: Now, relay: &NodeId) {
        if self.settling.heard(relay) {
            self.settled(now);
        }
    }

    /// Takes over what a node brings along.
    pub(super) fn adopt_joined(&mut self, now: Now, join: Join, lease: LeaseId) {
        let id = &join.node.id;
        if let Some(held) = join.held {
            let mut names = held.paths.keys();
            let is_stranger = |node: &NodeId| node != id && !self.nodes.contains_key(node);
            let forgot = join.carries && names.any(is_stranger);
            let settle_end = self.settling.began.map(|began| began + SETTLE);
            if forgot && settle_end.is_some_and(|end| now.time < end) {
                self.settling.until = settle_end;
                self.settling.forgot = true;
            }
            if let Some(node) = self.nodes.get_mut(id) {
                node.table.told = Some(held.clone().into());
            }
            self.router.adopt(now.time, id, held.into());
        }
        for held in join.streams {
            let (room, stream) = (held.room, held.stream);
            // Of what the store knows, only the node's own record can be an older one.
            let known = self.rooms.get(&room).and_then(|r| r.streams.get(&stream));
            let stands = known.is_some_and(|known| {
                known.record.origin != *id || known.record.generation >= held.generation
            });
            if stands || self.claims.is_busy(&room, &stream) {
                continue;
            }
            if self.rooms.len() >= self.limits.rooms && !self.rooms.contains_key(&room) {
                continue;
            }
            let record = record::Stream {
                origin: id.clone(),
                generation: held.generation,
                hls_base: held.hls_base,
                identity: held.identity,
                claimed_ms: now.unix_ms,
            };
            // Put in the store with the node's records, unless a later generation was given out.
            let session = lease;
            self.set_stream(&room, &stream, super::Held { record, session });
            self.tell_room(&room);
        }
    }

    /// From now on everything is told and moved.
    pub(super) fn settled(&mut self, now: Now) {
        self.settling.until = None;
        self.settling.relays.clear();
        // Rooms name nodes, and so do tables.
        self.tell_directory();
        let rooms: Vec<_> = self.rooms.keys().cloned().collect();
        for room in rooms {
            self.tell_room(&room);
        }
        self.place_rooms(now);
    }
}
