//! Generations as they are given out, and who holds a stream under which.

use longspan_proto::ids::{Generation, NodeId, RoomName, Stream};

use super::{Claim, Event, Granted, Held, Now, Refused, State, record};
use crate::store::{Compare, Entry, LeaseId};

impl State {
    /// What was given out last, as the store and memory know it, and the compare that makes sure
    /// of it.
    pub(super) fn last_issued(
        &self,
        key: String,
        entry: Option<&Entry>,
        held: Option<record::Issued>,
    ) -> Result<(Compare, Option<record::Issued>), Refused> {
        let Some(entry) = entry else {
            return Ok((Compare::Absent(key), held));
        };
        let stored: record::Issued = record::read(&entry.value).ok_or_else(|| {
            // Never overwritten: what cannot be read may be higher than anything given out here.
            Refused::Unavailable(format!("the record {key} cannot be read by this version"))
        })?;
        let last = match held {
            Some(held) if held.generation > stored.generation => held,
            _ => stored,
        };
        Ok((Compare::Revision(key, entry.revision), Some(last)))
    }

    /// Above everything given out before.
    pub(super) fn next_issued(
        &self,
        last: Option<record::Issued>,
        unix_seconds: u64,
    ) -> record::Issued {
        match last {
            None => record::Issued {
                generation: Generation::new(self.era, 1),
                hls_base: unix_seconds,
            },
            Some(last) => {
                let (era, counter) = (last.generation.era(), last.generation.counter());
                let generation = if self.era > era {
                    Generation::new(self.era, 1)
                } else {
                    Generation::new(era, counter + 1)
                };
                record::Issued {
                    generation,
                    hls_base: unix_seconds.max(last.hls_base + 1),
                }
            }
        }
    }

    /// The commit happened: this publisher holds the stream.
    pub(super) fn hold(&mut self, now: Now, claim: &Claim, granted: Granted) {
        let (room, stream) = (&claim.room, &claim.stream);
        let record = record::Stream {
            origin: claim.edge.clone(),
            generation: granted.generation,
            hls_base: granted.hls_base,
            identity: claim.identity.clone(),
            claimed_ms: now.unix_ms,
        };
        let held = Held {
            record,
            session: claim.session,
        };
        self.claims.undoubt(room, stream);
        let before = self.set_stream(room, stream, held);
        self.event(Event::StreamClaimed {
            room: room.clone(),
            stream: stream.clone(),
            origin: claim.edge.clone(),
            generation: granted.generation,
            took_over: before.map(|held| held.record.origin),
        });
        self.tell_room(room);
        self.place_room(now, room);
    }

    pub(super) fn release(
        &mut self,
        now: Now,
        session: LeaseId,
        room: &RoomName,
        stream: &Stream,
        generation: Generation,
    ) {
        let held = self.rooms.get(room).and_then(|r| r.streams.get(stream));
        let is_his = held
            .is_some_and(|held| held.record.generation == generation && held.session == session);
        if is_his {
            self.stream_gone(now, room, stream);
            self.drop_record(room, stream);
        }
    }

    /// Nobody publishes the stream any more.
    pub(super) fn stream_gone(&mut self, now: Now, name: &RoomName, stream: &Stream) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let Some(held) = room.streams.remove(stream) else {
            return;
        };
        room.mark_idle(now.time);
        let holder = self.claims.holders.get_mut(&held.record.origin);
        if let Some(streams) = holder {
            streams.remove(&(name.clone(), stream.clone()));
        }
        self.event(Event::StreamEnded {
            room: name.clone(),
            stream: stream.clone(),
            generation: held.record.generation,
        });
        self.tell_room(name);
    }

    pub(super) fn set_stream(
        &mut self,
        name: &RoomName,
        stream: &Stream,
        held: Held,
    ) -> Option<Held> {
        let entry = (name.clone(), stream.clone());
        let holders = &mut self.claims.holders;
        let origin = held.record.origin.clone();
        let room = self.rooms.entry(name.clone()).or_default();
        room.idle = None;
        let before = room.streams.insert(stream.clone(), held);
        if let Some(before) = &before
            && let Some(streams) = holders.get_mut(&before.record.origin)
        {
            streams.remove(&entry);
        }
        holders.entry(origin).or_default().insert(entry);
        before
    }

    pub(super) fn forget_holder(&mut self, edge: &NodeId) {
        self.claims.holders.remove(edge);
    }
}
