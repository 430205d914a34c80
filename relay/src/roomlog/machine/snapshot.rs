//! The machine's whole state as bytes, and back. Canonical: two machines that were fed the same
//! are the same bytes.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::wire::{Error, Reader, Writer};

use super::{
    Held, Limits, Machine, Moves, Room, cost,
    entry::{get_room, put_room},
    moves,
};

/// The first byte. Another one is refused: a member must not guess.
const VERSION: u8 = 3;
/// As before, and its rooms stay where they are.
const WITHOUT_MOVES: u8 = 2;
/// As before, and its rooms know of no presence and of no member's share.
const WITHOUT_PRESENCE: u8 = 1;

/// The largest snapshot that is read, in bytes: twice what the default limits let rooms cost,
/// which counts more for each message than its encoding takes.
pub const MAX_SNAPSHOT: usize = 512 << 20;

impl Machine {
    /// The whole state.
    pub fn snapshot(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.cost / 2);
        // Members that know of no moves read what has none.
        let version = match self.has_moves() {
            true => VERSION,
            false => WITHOUT_MOVES,
        };
        out.put_u8(version);
        put_limits(&mut out, &self.limits);
        out.varint(self.at);
        out.varint(self.floor);
        out.varint(self.rooms.len() as u64);
        let mut one = BytesMut::new();
        for (name, held) in &self.rooms {
            put_room(&mut out, name);
            out.varint(held.used);
            if version == VERSION {
                held.encode_move(&mut out);
            }
            one.clear();
            held.room.encode(&mut one);
            out.prefixed(&one);
        }
        if version == VERSION {
            self.moves.encode(&mut out);
        }
        out.freeze()
    }

    /// Reads what [`Machine::snapshot`] wrote.
    pub fn restore(bytes: Bytes) -> Result<Machine, Error> {
        if bytes.len() > MAX_SNAPSHOT {
            return Err(Error::Limit {
                what: "snapshot",
                value: bytes.len() as u64,
                limit: MAX_SNAPSHOT as u64,
            });
        }
        let mut r = Reader::new(bytes);
        let version = r.u8("snapshot's version")?;
        match version {
            VERSION | WITHOUT_MOVES | WITHOUT_PRESENCE => {}
            value => {
                return Err(Error::Unknown {
                    what: "snapshot's version",
                    value: value.into(),
                });
            }
        }
        let mut machine = Machine::new(get_limits(&mut r, version)?);
        machine.at = r.varint("at")?;
        machine.floor = r.varint("floor")?;
        for _ in 0..r.varint_up_to("rooms", machine.limits.rooms as u64)? {
            let name = get_room(&mut r)?;
            let used = r.varint("used")?;
            let (word, came, leaving) = match version {
                VERSION => moves::decode_move(&mut r)?,
                _ => (0, None, None),
            };
            let room = Room::decode(&machine.limits, r.bytes("room", MAX_SNAPSHOT)?)?;
            machine.cost += cost(&name, &room);
            let held = Held {
                room,
                used,
                word,
                came,
                leaving,
            };
            machine.rooms.insert(name, held);
        }
        if version == VERSION {
            machine.moves = Moves::decode(&machine.limits, &mut r)?;
            machine.cost += machine.moves.cost();
        }
        Ok(machine)
    }
}

fn put_limits(out: &mut BytesMut, limits: &Limits) {
    for number in [
        limits.rooms,
        limits.sessions,
        limits.keys,
        limits.state_bytes,
        limits.history_messages,
        limits.history_bytes,
        limits.acks,
        limits.ended_sessions,
        limits.forgotten_rooms,
        limits.log_bytes,
        limits.member_keys,
        limits.member_bytes,
    ] {
        out.varint(number as u64);
    }
    for time in [limits.history_age, limits.session_idle, limits.room_idle] {
        out.varint(time.as_millis() as u64);
    }
}

fn get_limits(r: &mut Reader, version: u8) -> Result<Limits, Error> {
    let mut number = || r.varint("limit").map(|number| number as usize);
    let (rooms, sessions, keys, state_bytes) = (number()?, number()?, number()?, number()?);
    let (history_messages, history_bytes, acks) = (number()?, number()?, number()?);
    let (ended_sessions, forgotten_rooms, log_bytes) = (number()?, number()?, number()?);
    let (member_keys, member_bytes) = match version {
        // All of the room's, as it was.
        WITHOUT_PRESENCE => (keys, state_bytes),
        _ => (number()?, number()?),
    };
    let mut time = || r.varint("limit").map(Duration::from_millis);
    Ok(Limits {
        rooms,
        sessions,
        keys,
        state_bytes,
        history_messages,
        history_bytes,
        history_age: time()?,
        acks,
        session_idle: time()?,
        ended_sessions,
        room_idle: time()?,
        forgotten_rooms,
        log_bytes,
        member_keys,
        member_bytes,
    })
}
