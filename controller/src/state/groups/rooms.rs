//! A room's record, and which group keeps its log: the room's place on the ring over the groups of its
//! region, once; a room that is in use gets one.

use longspan_proto::ids::{Region, RoomName};
use longspan_topology::ring::Ring;

use super::super::{
    Call, Done, Node, Now, State, key::Key, members, record, record::GroupId, sync::Purpose,
};
use crate::store::{Compare, Error, Write};

/// How often a placement begins anew because the store changed meanwhile.
const ATTEMPTS: u32 = 5;

/// What is being written.
#[derive(Debug)]
pub(in super::super) struct Placed {
    room: RoomName,
    record: record::Room,
    writes: Vec<Write>,
    attempt: u32,
}

impl super::super::Room {
    /// As the store is to hold it.
    pub(in super::super) fn record(&self) -> record::Room {
        record::Room {
            created_ms: self.created_ms,
            group: self.group,
            moved: self.moved,
            moving: self.moving.clone(),
            last_move: self.last_move.clone(),
        }
    }
}

impl State {
    /// Rooms that have no record, or are in no group, and can be given one now.
    pub(in super::super) fn place_rooms(&mut self, now: Now) {
        let is_placed = |name: &RoomName| self.mirror.contains_key(&Key::Room(name.clone()));
        let rooms = self.rooms.iter();
        let unplaced = rooms.filter(|(name, room)| room.group.is_none() || !is_placed(name));
        let names: Vec<RoomName> = unplaced.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.place_room(now, &name);
        }
    }

    /// Makes the record of a room that is in use, if there is none, and places it in a group, if it is
    /// in none and there is one; else asks for groups to be made.
    pub(in super::super) fn place_room(&mut self, now: Now, name: &RoomName) {
        self.place(now, name, 0);
    }

    fn place(&mut self, now: Now, name: &RoomName, attempt: u32) {
        if !self.store_up || self.settling.until().is_some() {
            return;
        }
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        if room.placing || !room.is_used() {
            return;
        }
        let key = Key::Room(name.clone());
        let stored = self.mirror.get(&key).map(|stored| stored.revision);
        let was = room.group;
        if was.is_some() && stored.is_some() {
            return;
        }
        let group = was.or_else(|| self.group_for(now, name));
        if group.is_none() && stored.is_some() {
            return;
        }
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.placing = true;
        let compare = match stored {
            Some(revision) => Compare::Revision(key.to_string(), revision),
            None => Compare::Absent(key.to_string()),
        };
        let is_there = group.map(|group| Compare::Present(Key::Group(group).to_string()));
        let record = record::Room {
            created_ms: match room.created_ms {
                0 => now.unix_ms,
                known => known,
            },
            group,
            ..room.record()
        };
        let writes = vec![Write::Put {
            key: key.to_string(),
            value: record::write(&record),
            lease: None,
        }];
        let compares = std::iter::once(compare).chain(is_there).collect();
        let call: Call = self.fenced(compares, writes.clone());
        let placed = Placed {
            room: name.clone(),
            record,
            writes,
            attempt,
        };
        self.call(Purpose::Placed(Box::new(placed)), call);
    }

    /// The group that a room which is in none is placed in; none: there is none yet.
    fn group_for(&mut self, now: Now, name: &RoomName) -> Option<GroupId> {
        let region = self.region_near(name, |node| self.free_disk(node).is_some())?;
        if self.groups_missing(&region) > 0 {
            self.groups.wanted.insert(region);
            self.look_at_groups(now);
            return None;
        }
        let group = self.group_on_ring(&region, name)?;
        // One that a relay brought along is not used before the store has it.
        let known = self.groups.known.get(&group);
        known.is_some_and(|known| known.stored).then_some(group)
    }

    /// The region of the room's first edge, or the nearest one to it that has a relay which `may`.
    fn region_near(&self, name: &RoomName, may: impl Fn(&Node) -> bool) -> Option<Region> {
        let room = self.rooms.get(name)?;
        let first = room.edges.iter().min_by_key(|(_, s)| s.since_ms);
        let first = first.map(|(edge, _)| edge);
        let origin = room.streams.values().next().map(|h| &h.record.origin);
        let at = &self.nodes.get(first.or(origin)?)?.info;
        let relays = self.nodes.values().filter(|node| may(node));
        let nearest = relays.map(|n| &n.info).min_by(|a, b| {
            let rank = |n: &record::Node| {
                let here = n.region != at.region;
                (here, members::distance_km(at, n))
            };
            let (a_rank, b_rank) = (rank(a), rank(b));
            let order = a_rank.0.cmp(&b_rank.0).then(a_rank.1.total_cmp(&b_rank.1));
            order.then_with(|| a.id.cmp(&b.id))
        });
        nearest.map(|info| info.region.clone())
    }

    pub(in super::super) fn room_placed(
        &mut self,
        now: Now,
        placed: Placed,
        result: Result<Done, Error>,
    ) {
        let name = placed.room;
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        room.placing = false;
        match result {
            Ok(Done::Committed(revision)) => {
                room.group = placed.record.group;
                room.created_ms = placed.record.created_ms;
                self.mirror_writes(&placed.writes, revision);
                self.tell_room(&name);
                self.look_at_policies(now);
                // There may be a group for it by now.
                self.place_room(now, &name);
            }
            Err(Error::Conflict) if placed.attempt < ATTEMPTS => {
                self.place(now, &name, placed.attempt + 1);
            }
            // Tried again when the store is back, or at the next sweep.
            _ => {}
        }
    }

    fn group_on_ring(&mut self, region: &Region, room: &RoomName) -> Option<GroupId> {
        let known = &self.groups.known;
        let ring = self.groups.rings.entry(region.clone()).or_insert_with(|| {
            let here = known.iter().filter(|(_, k)| k.record.region == *region);
            Ring::new(here.map(|(id, _)| id.0))
        });
        ring.group(room).map(longspan_proto::ids::Generation)
    }
}
