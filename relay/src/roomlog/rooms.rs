//! The rooms a node is home of, fenced by generation. Pure.

use std::collections::{HashMap, VecDeque};

use longspan_proto::{
    ids::{Generation, RoomName},
    time::Time,
};

use super::{GROUP, Limits, Refusal, Room};

/// See the [module](super).
#[derive(Debug)]
pub struct Rooms {
    limits: Limits,
    rooms: HashMap<RoomName, Entry>,
    forgotten: HashMap<RoomName, Forgotten>,
    forgotten_order: VecDeque<RoomName>,
    dropped: Vec<(RoomName, Generation)>,
}

#[derive(Debug)]
struct Entry {
    generation: Generation,
    room: Room,
    holders: usize,
    used: Time,
}

/// What must outlive a room: no place is given twice in a generation.
#[derive(Debug, Clone, Copy)]
struct Forgotten {
    generation: Generation,
    seq: u64,
}

impl Rooms {
    /// No room yet.
    pub fn new(limits: Limits) -> Rooms {
        Rooms {
            limits,
            rooms: HashMap::new(),
            forgotten: HashMap::new(),
            forgotten_order: VecDeque::new(),
            dropped: Vec::new(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// The room under this generation. A newer generation than the one known starts a fresh room
    /// and the older is dropped; an older one is refused.
    pub fn get(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
    ) -> Result<&mut Room, Refusal> {
        self.entry(now, name, generation)
            .map(|entry| &mut entry.room)
    }

    /// The same, and it will not be forgotten before it is released.
    pub fn hold(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
    ) -> Result<&mut Room, Refusal> {
        let entry = self.entry(now, name, generation)?;
        entry.holders += 1;
        Ok(&mut entry.room)
    }

    /// Gives back what was held under this generation.
    pub fn release(&mut self, now: Time, name: &RoomName, generation: Generation) {
        if let Some(entry) = self.rooms.get_mut(name)
            && entry.generation == generation
        {
            entry.holders = entry.holders.saturating_sub(1);
            entry.used = now;
        }
    }

    /// Forgets rooms that nobody held for too long.
    pub fn forget_idle(&mut self, now: Time) {
        let idle: Vec<RoomName> = self
            .rooms
            .iter()
            .filter(|(_, entry)| {
                entry.holders == 0 && now.saturating_since(entry.used) > self.limits.room_idle
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in idle {
            self.forget(&name);
        }
    }

    /// Rooms that are gone since the last call, for whoever keeps something beside them.
    pub fn take_dropped(&mut self) -> Vec<(RoomName, Generation)> {
        std::mem::take(&mut self.dropped)
    }

    fn entry(
        &mut self,
        now: Time,
        name: &RoomName,
        asked: Generation,
    ) -> Result<&mut Entry, Refusal> {
        let active = self.rooms.get(name).map(|entry| entry.generation);
        let forgotten = self.forgotten.get(name).copied();
        let known = active.or(forgotten.map(|f| f.generation));
        match known {
            Some(held) if asked < held => return Err(Refusal::StaleGeneration { asked, held }),
            _ if active == Some(asked) => {}
            _ => self.begin(now, name, asked, forgotten)?,
        }
        match self.rooms.get_mut(name) {
            Some(entry) => {
                entry.used = now;
                Ok(entry)
            }
            None => Err(Refusal::TooManyRooms {
                limit: self.limits.rooms,
            }),
        }
    }

    fn begin(
        &mut self,
        now: Time,
        name: &RoomName,
        generation: Generation,
        forgotten: Option<Forgotten>,
    ) -> Result<(), Refusal> {
        if let Some(older) = self.rooms.remove(name) {
            self.dropped.push((name.clone(), older.generation));
        }
        if self.rooms.len() >= self.limits.rooms {
            self.give_way()?;
        }
        // In a generation that was known before, the order goes on in a new group of the track:
        // what may still be cached of the last one keeps its meaning.
        let after = match forgotten {
            Some(f) if f.generation == generation => f.seq.next_multiple_of(GROUP),
            _ => 0,
        };
        let room = Room::new(self.limits.clone(), after);
        self.rooms.insert(
            name.clone(),
            Entry {
                generation,
                room,
                holders: 0,
                used: now,
            },
        );
        if self.forgotten.remove(name).is_some() {
            self.forgotten_order.retain(|other| other != name);
        }
        Ok(())
    }

    /// Makes place for one room.
    fn give_way(&mut self) -> Result<(), Refusal> {
        let idle = self
            .rooms
            .iter()
            .filter(|(_, entry)| entry.holders == 0)
            .min_by(|a, b| (a.1.used, a.0).cmp(&(b.1.used, b.0)))
            .map(|(name, _)| name.clone());
        match idle {
            Some(name) => {
                self.forget(&name);
                Ok(())
            }
            None => Err(Refusal::TooManyRooms {
                limit: self.limits.rooms,
            }),
        }
    }

    fn forget(&mut self, name: &RoomName) {
        let Some(entry) = self.rooms.remove(name) else {
            return;
        };
        let generation = entry.generation;
        self.dropped.push((name.clone(), generation));
        let last = Forgotten {
            generation,
            seq: entry.room.seq(),
        };
        if self.forgotten.insert(name.clone(), last).is_none() {
            self.forgotten_order.push_back(name.clone());
        }
        if self.forgotten.len() > self.limits.forgotten_rooms
            && let Some(oldest) = self.forgotten_order.pop_front()
        {
            self.forgotten.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longspan_proto::ids::{Room as Name, Tenant};

    use super::*;

    fn name(name: &str) -> RoomName {
        RoomName {
            tenant: Tenant::default_tenant(),
            room: Name::new(name).unwrap(),
        }
    }

    fn generation(counter: u64) -> Generation {
        Generation::new(0, counter)
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn rooms(limit: usize) -> Rooms {
        Rooms::new(Limits {
            rooms: limit,
            room_idle: Duration::from_secs(60),
            forgotten_rooms: 2,
            ..Limits::default()
        })
    }

    #[test]
    fn an_older_generation_is_refused_and_a_newer_one_starts_afresh() {
        let mut rooms = rooms(9);
        let math = name("math");
        rooms.get(at(0), &math, generation(5)).unwrap();
        let stale = rooms.get(at(0), &math, generation(4)).unwrap_err();
        assert_eq!(stale.slug(), "stale_generation");
        assert_eq!(stale.to_string(), "generation 0.4 is stale; 0.5 is known");
        rooms.get(at(0), &math, generation(6)).unwrap();
        assert_eq!(rooms.take_dropped(), [(math.clone(), generation(5))]);
        assert!(rooms.get(at(0), &math, generation(5)).is_err());
        assert_eq!(rooms.len(), 1);
    }

    #[test]
    fn only_idle_rooms_are_forgotten() {
        let mut rooms = rooms(9);
        rooms.get(at(0), &name("left"), generation(1)).unwrap();
        rooms.hold(at(0), &name("held"), generation(1)).unwrap();
        rooms.forget_idle(at(60));
        assert_eq!(rooms.len(), 2);
        rooms.forget_idle(at(61));
        assert_eq!(rooms.take_dropped(), [(name("left"), generation(1))]);
        rooms.release(at(61), &name("held"), generation(1));
        rooms.forget_idle(at(121));
        assert_eq!(rooms.len(), 1);
        rooms.forget_idle(at(122));
        assert!(rooms.is_empty());
    }

    #[test]
    fn a_forgotten_room_never_gives_a_place_twice() {
        let mut rooms = rooms(9);
        let math = name("math");
        rooms.get(at(0), &math, generation(3)).unwrap();
        rooms.rooms.get_mut(&math).unwrap().room = Room::new(Limits::default(), 300);
        rooms.forget_idle(at(100));
        assert!(rooms.get(at(100), &math, generation(2)).is_err());
        let again = rooms.get(at(100), &math, generation(3)).unwrap();
        assert_eq!(again.seq(), 2 * GROUP);
    }

    #[test]
    fn when_full_the_one_idle_longest_gives_way() {
        let mut rooms = rooms(2);
        rooms.get(at(1), &name("a"), generation(1)).unwrap();
        rooms.get(at(0), &name("b"), generation(1)).unwrap();
        rooms.hold(at(2), &name("c"), generation(1)).unwrap();
        assert_eq!(rooms.take_dropped(), [(name("b"), generation(1))]);
        rooms.hold(at(3), &name("d"), generation(1)).unwrap();
        assert_eq!(
            rooms.get(at(4), &name("e"), generation(1)).unwrap_err(),
            Refusal::TooManyRooms { limit: 2 }
        );
    }

    #[test]
    fn what_is_remembered_of_forgotten_rooms_is_bounded() {
        let mut rooms = rooms(1);
        for room in ["a", "b", "c", "d", "e"] {
            rooms.get(at(0), &name(room), generation(1)).unwrap();
        }
        assert_eq!(rooms.forgotten.len(), 2);
        assert_eq!(rooms.forgotten_order, [name("c"), name("d")]);
    }
}
