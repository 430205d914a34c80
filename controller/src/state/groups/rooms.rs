//! Which group keeps a room's log: the room's place on the ring over the groups of its region,
//! once; a room that is in use gets one.

use longspan_proto::ids::{Region, RoomName};
use longspan_topology::ring::GroupRing;

use super::super::{Call, Done, Now, State, key::Key, record, record::GroupId, sync::Purpose};
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

impl State {
    /// Places a room that is in use in a group if it is in none; else asks for groups to be made.
    pub(in super::super) fn place_in_group(&mut self, now: Now, name: &RoomName, attempt: u32) {
        if !self.store_up || self.settling.until().is_some() {
            return;
        }
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        if room.group.is_some() || room.placing || !room.is_used() {
            return;
        }
        let Some(region) = self.region_near(name, |node| self.free_disk(node).is_some()) else {
            return;
        };
        if self.groups_missing(&region) > 0 {
            self.groups.wanted.insert(region);
            self.look_at_groups(now);
            return;
        }
        let Some(group) = self.group_on_ring(&region, name) else {
            return;
        };
        if !self
            .groups
            .known
            .get(&group)
            .is_some_and(|known| known.stored)
        {
            // A relay brought it along; rooms are placed when the store has it.
            return;
        }
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        room.placing = true;
        let key = Key::Room(name.clone());
        let compare = match self.mirror.get(&key) {
            Some(stored) => Compare::Revision(key.to_string(), stored.revision),
            None => Compare::Absent(key.to_string()),
        };
        let record = record::Room {
            home: room.home.clone(),
            created_ms: match room.created_ms {
                0 => now.unix_ms,
                known => known,
            },
            group: Some(group),
        };
        let writes = vec![Write::Put {
            key: key.to_string(),
            value: record::write(&record),
            lease: None,
        }];
        let is_there = Compare::Present(Key::Group(group).to_string());
        let call: Call = self.fenced(vec![compare, is_there], writes.clone());
        let placed = Placed {
            room: name.clone(),
            record,
            writes,
            attempt,
        };
        self.call(Purpose::Placed(Box::new(placed)), call);
    }

    pub(in super::super) fn placed_in_group(
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
                // Its home may have gone meanwhile.
                self.place_home(now, &name);
            }
            Err(Error::Conflict) if placed.attempt < ATTEMPTS => {
                self.place_in_group(now, &name, placed.attempt + 1);
            }
            // Tried again when the store is back, or at the next sweep.
            _ => {}
        }
    }

    fn group_on_ring(&mut self, region: &Region, room: &RoomName) -> Option<GroupId> {
        let known = &self.groups.known;
        let ring = self.groups.rings.entry(region.clone()).or_insert_with(|| {
            let here = known.iter().filter(|(_, k)| k.record.region == *region);
            GroupRing::new(here.map(|(id, _)| id.0))
        });
        ring.group(room).map(longspan_proto::ids::Generation)
    }
}
