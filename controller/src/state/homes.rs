//! Each room's home relay: who gives its messages their order. Placed on a ring over the relays
//! nearest to the room; another one, under a higher generation, when it dies.

use longspan_proto::{
    ids::{NodeId, Region, RoomName, Stream, Zone},
    wire::Role,
};
use longspan_topology::ring::Ring;

use super::{Call, Done, Event, Now, State, key::Key, members, record, sync::Purpose};
use crate::store::{Compare, Error, Write};

/// How often a placement begins anew because the store changed meanwhile.
const ATTEMPTS: u32 = 5;

/// Where a placement stands.
#[derive(Debug)]
pub(super) enum Step {
    /// The last generation is being read, for this relay.
    Read(NodeId, u32),
    /// The record is being written.
    Commit(record::Room, Vec<Write>, u32),
}

impl State {
    /// Gives a room that is in use a home if it has none that lives.
    pub(super) fn place_home(&mut self, now: Now, name: &RoomName) {
        self.place(now, name, 0);
    }

    fn place(&mut self, now: Now, name: &RoomName, attempt: u32) {
        if !self.store_up || self.settling.until().is_some() {
            return;
        }
        let Some(room) = self.rooms.get(name) else {
            return;
        };
        let homeless = match &room.home {
            Some(home) => {
                let since = room
                    .leaves_home
                    .map(|since| now.time.saturating_since(since));
                let left = since.is_some_and(|since| since >= super::VACANT);
                left || self.is_gone(&home.relay, home.boot)
            }
            None => true,
        };
        if room.placing || !room.is_used() {
            return;
        }
        if !homeless {
            return self.place_in_group(now, name, 0);
        }
        let record_is_there = self.mirror.contains_key(&Key::Room(name.clone()));
        let (purpose, call) = match self.choose_home(name) {
            Some(relay) => {
                let key = Key::Generation(name.clone(), Stream::room()).to_string();
                let step = Step::Read(relay, attempt);
                (Purpose::Home(name.clone(), step), Call::Read(key))
            }
            None if record_is_there => return self.place_in_group(now, name, 0),
            None => {
                let key = Key::Room(name.clone()).to_string();
                let record = record::Room {
                    home: None,
                    created_ms: now.unix_ms,
                    group: None,
                };
                let writes = vec![Write::Put {
                    key: key.clone(),
                    value: record::write(&record),
                    lease: None,
                }];
                let call = self.fenced(vec![Compare::Absent(key)], writes.clone());
                let step = Step::Commit(record, writes, ATTEMPTS);
                (Purpose::Home(name.clone(), step), call)
            }
        };
        self.call(purpose, call);
        if let Some(room) = self.rooms.get_mut(name) {
            room.placing = true;
        }
    }

    /// The room's place on the ring of the region its first edge is in, or of the nearest region
    /// that has a relay.
    fn choose_home(&mut self, name: &RoomName) -> Option<NodeId> {
        // One that is cordoned or drains gets no more, if there is another.
        let free = |n: &&super::Node| self.overrides.node(&n.info.id).is_none();
        let relays = || {
            self.nodes
                .values()
                .filter(|n| n.is_relay() && n.conn.is_some())
        };
        let all_asked = !relays().any(|n| free(&n));
        let may = |n: &super::Node| {
            let is_relay = n.is_relay() && n.conn.is_some();
            is_relay && (all_asked || self.overrides.node(&n.info.id).is_none())
        };
        let region = self.region_near(name, may)?;
        let (nodes, overrides) = (&self.nodes, &self.overrides);
        let ring = self.rings.entry(region.clone()).or_insert_with(|| {
            let relays = nodes
                .values()
                .filter(|n| n.info.role == Role::Relay && n.conn.is_some())
                .filter(|n| all_asked || overrides.node(&n.info.id).is_none());
            let in_region = relays.filter(|n| n.info.region == region);
            Ring::new(in_region.map(|n| (n.info.id.clone(), Zone::clone(&n.info.zone))))
        });
        ring.home(name).cloned()
    }

    /// The region of the room's first edge, or the nearest one to it that has a relay which `may`.
    pub(super) fn region_near(
        &self,
        name: &RoomName,
        may: impl Fn(&super::Node) -> bool,
    ) -> Option<Region> {
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

    pub(super) fn home_step(
        &mut self,
        now: Now,
        name: RoomName,
        step: Step,
        result: Result<Done, Error>,
    ) {
        let Some(room) = self.rooms.get_mut(&name) else {
            return;
        };
        match (step, result) {
            (Step::Read(relay, attempt), Ok(Done::Entry(entry))) => {
                let created_ms = match room.created_ms {
                    0 => now.unix_ms,
                    known => known,
                };
                let group = room.group;
                let held = room.home.as_ref().map(|home| record::Issued {
                    generation: home.generation,
                    hls_base: 0,
                });
                let key = Key::Generation(name.clone(), Stream::room()).to_string();
                let last = self.last_issued(key.clone(), entry.as_ref(), held);
                let boot = self.nodes.get(&relay).map(|node| node.info.boot);
                let (Ok((compare, last)), Some(boot)) = (last, boot) else {
                    self.placed(&name);
                    return;
                };
                let issued = record::Issued {
                    hls_base: 0,
                    ..self.next_issued(last, 0)
                };
                let record = record::Room {
                    home: Some(record::Home {
                        relay,
                        boot,
                        generation: issued.generation,
                    }),
                    created_ms,
                    group,
                };
                let put = |key: String, value| Write::Put {
                    key,
                    value,
                    lease: None,
                };
                let writes = vec![
                    put(key, record::write(&issued)),
                    put(Key::Room(name.clone()).to_string(), record::write(&record)),
                ];
                let call = self.fenced(vec![compare], writes.clone());
                let step = Step::Commit(record, writes, attempt);
                self.call(Purpose::Home(name, step), call);
            }
            (Step::Commit(record, writes, _), Ok(Done::Committed(revision))) => {
                room.created_ms = record.created_ms;
                self.mirror_writes(&writes, revision);
                self.placed(&name);
                if let Some(home) = record.home {
                    self.set_home(&name, home);
                }
                // It may have gone while it was being written.
                self.place_home(now, &name);
            }
            (Step::Commit(_, _, attempt), Err(Error::Conflict)) if attempt < ATTEMPTS => {
                self.placed(&name);
                self.place(now, &name, attempt + 1);
            }
            // Tried again when the store is back, or at the next sweep.
            _ => self.placed(&name),
        }
    }

    fn placed(&mut self, name: &RoomName) {
        if let Some(room) = self.rooms.get_mut(name) {
            room.placing = false;
        }
    }

    fn set_home(&mut self, name: &RoomName, home: record::Home) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let event = Event::HomePlaced {
            room: name.clone(),
            relay: home.relay.clone(),
            generation: home.generation,
            before: room.home.as_ref().map(|h| h.relay.clone()),
        };
        room.home = Some(home);
        room.leaves_home = None;
        self.event(event);
        self.tell_room(name);
    }

    /// Homes on draining relays that hold no messages at all move: first nobody is told of them any
    /// more, and if the relay holds none still after [`VACANT`](super::VACANT), they get another.
    /// A relay that holds any keeps all its homes: what is in a log would be lost with it.
    pub(super) fn move_empty_homes(&mut self, now: Now) {
        if self.homes_due.is_none_or(|due| due > now.time) || self.settling.until().is_some() {
            return;
        }
        let drains = self.overrides.has_drains();
        self.homes_due = drains.then(|| now.time + super::LOOK_AT_HOMES);
        let (mut tell, mut place) = (Vec::new(), Vec::new());
        for (name, room) in &self.rooms {
            let Some(home) = &room.home else { continue };
            let node = self.nodes.get(&home.relay);
            let held = node.filter(|node| node.conn.is_some());
            let held = held.and_then(|node| node.status).map(|status| status.logs);
            let is_empty = held == Some(0) && self.overrides.is_draining(&home.relay);
            let is_known = |edge: &NodeId| self.nodes.get(edge).is_some_and(|n| n.conn.is_some());
            let mut edges = room.edges.iter();
            let is_quiet = edges.all(|(edge, serving)| serving.members == 0 && is_known(edge));
            match room.leaves_home {
                None if is_empty && is_quiet => tell.push((name.clone(), Some(now.time))),
                None => {}
                Some(_) if !is_empty => tell.push((name.clone(), None)),
                Some(since) if now.time.saturating_since(since) >= super::VACANT => {
                    place.push(name.clone());
                }
                Some(_) => {}
            }
        }
        for (name, leaves) in tell {
            if let Some(room) = self.rooms.get_mut(&name) {
                room.leaves_home = leaves;
            }
            self.tell_room(&name);
        }
        for name in place {
            self.place_home(now, &name);
        }
    }

    /// Homes that a node was, or may now be; and the same for groups.
    pub(super) fn place_homes(&mut self, now: Now) {
        let has_disks = self.nodes.values().any(|n| self.free_disk(n).is_some());
        let homeless = self.rooms.iter().filter(|(_, room)| match &room.home {
            Some(home) => {
                let is_in_none = room.group.is_none() && has_disks;
                is_in_none || self.is_gone(&home.relay, home.boot)
            }
            None => true,
        });
        let names: Vec<RoomName> = homeless.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.place_home(now, &name);
        }
    }
}
