//! The tracks in which a room's messages leave the leader of its group.

use std::{collections::HashMap, time::Duration};

use bytes::BytesMut;
use longspan_proto::{
    ids::{Generation, RoomName, Stream, Track, TrackId},
    time::Time,
    wire::{
        Flags, Frame, Priority,
        envelope::{Class, Envelope},
    },
};

use super::{GROUP, position};
use crate::node::{Handle, Publisher};

/// A group of ephemeral messages is cut after this long: a newcomer starts at a group's first
/// frame and has no use for what was said before.
const EPHEMERAL_GROUP: Duration = Duration::from_secs(1);

pub(super) struct Tracks {
    handle: Handle,
    rooms: HashMap<RoomName, Room>,
}

struct Room {
    generation: Generation,
    /// The move that brought the room here; 0: none.
    word: u64,
    log: Publisher,
    /// Media time of the log's group that was begun last: that of its first message. All its
    /// frames bear it (a room may be silent for longer than a frame's timestamp can say; a
    /// message's own time stands in its envelope).
    log_time: u64,
    ephemeral: Publisher,
    group: Ephemeral,
}

/// The group of ephemeral messages that was begun last.
#[derive(Default)]
struct Ephemeral {
    number: u64,
    frames: u64,
    began: Time,
    time: u64,
}

impl Tracks {
    pub fn new(handle: Handle) -> Tracks {
        Tracks {
            handle,
            rooms: HashMap::new(),
        }
    }

    /// The room's tracks exist from now on; whether they are new. `word`: the move that brought it here.
    pub fn begin(&mut self, name: &RoomName, generation: Generation, word: u64) -> bool {
        let known = self.rooms.get(name);
        if known.is_some_and(|room| (room.generation, room.word) == (generation, word)) {
            return false;
        }
        let publish = |of: Track| {
            let named = match word {
                0 => of,
                word => of.since_move(word),
            };
            self.handle.publish(track(name, generation, named))
        };
        let room = Room {
            generation,
            word,
            log: publish(Track::log()),
            log_time: 0,
            ephemeral: publish(Track::ephemeral()),
            group: Ephemeral::default(),
        };
        self.rooms.insert(name.clone(), room);
        true
    }

    /// The room is gone.
    pub fn forget(&mut self, name: &RoomName) {
        self.rooms.remove(name);
    }

    /// All rooms are gone.
    pub fn clear(&mut self) {
        self.rooms.clear();
    }

    /// Puts what is retained of a room's order into its log, which has just begun: whoever followed
    /// it under another generation goes on after what it has seen. The places before it in its group
    /// are left empty.
    pub fn retained(&mut self, name: &RoomName, now: Time, room: &super::Room) {
        let Some(messages) = room.since(room.first() - 1) else {
            return;
        };
        let first = position(room.first());
        if first.frame > 0
            && let Some(track) = self.rooms.get_mut(name)
        {
            let time = room.at() * 1_000;
            track.log_time = time;
            track.log.group(first.group, time, time);
            for index in 0..first.frame {
                track.log.frame(Frame {
                    timestamp: time,
                    flags: Flags {
                        key: index == 0,
                        ..Flags::default()
                    },
                    priority: Priority::Realtime,
                    payload: bytes::Bytes::new(),
                });
            }
        }
        for message in messages {
            self.publish(name, now, message);
        }
    }

    /// A new message: in the room's order, or ephemeral.
    pub fn publish(&mut self, name: &RoomName, now: Time, message: &Envelope) {
        let Some(room) = self.rooms.get_mut(name) else {
            return;
        };
        let mut payload = BytesMut::with_capacity(256 + message.body.len());
        message.encode(&mut payload);
        let frame = |timestamp, key, discardable| Frame {
            timestamp,
            flags: Flags {
                key,
                discardable,
                ..Flags::default()
            },
            priority: Priority::Realtime,
            payload: payload.freeze(),
        };
        let time = message.at * 1_000;
        if message.class == Class::Ephemeral {
            let first = room.group.next(now, message.at);
            if first {
                room.group.time = time;
                room.ephemeral.group(room.group.number, time, time);
            }
            room.ephemeral.frame(frame(room.group.time, first, true));
        } else {
            let at = position(message.seq);
            if at.frame == 0 {
                room.log_time = time;
                room.log.group(at.group, time, time);
            }
            room.log.frame(frame(room.log_time, at.frame == 0, false));
        }
    }
}

impl Ephemeral {
    /// Counts a message in; whether it is the first of a new group. Groups are numbered by time
    /// so that they rise also after the room was forgotten.
    fn next(&mut self, now: Time, at_ms: u64) -> bool {
        let cut = self.number == 0
            || self.frames == GROUP
            || now.saturating_since(self.began) >= EPHEMERAL_GROUP;
        if cut {
            self.number = at_ms.max(self.number + 1);
            self.frames = 0;
            self.began = now;
        }
        self.frames += 1;
        cut
    }
}

fn track(room: &RoomName, generation: Generation, track: Track) -> TrackId {
    TrackId {
        room: room.clone(),
        stream: Stream::room(),
        track,
        generation,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ephemeral_groups_are_cut_by_count_and_by_time() {
        let mut group = Ephemeral::default();
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        assert!(group.next(at(0), 5_000));
        assert!(!group.next(at(999), 5_999));
        assert!(group.next(at(1_000), 6_000));
        assert_eq!(group.number, 6_000);
        for _ in 1..GROUP {
            assert!(!group.next(at(1_000), 6_000));
        }
        assert!(group.next(at(1_000), 6_000));
        assert_eq!(group.number, 6_001);
    }
}
