//! A room's whole state as bytes, and back. Canonical: two rooms that were fed the same are the
//! same bytes.

use bytes::{Bytes, BytesMut};
use longspan_proto::wire::{Error, Reader, Writer, envelope::Envelope, room::MAX_ENVELOPE};

use super::{
    Limits, Retention, Room,
    presence::{LISTED, Presence},
    sessions::Sessions,
};

impl Room {
    /// Appends the room.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(self.seq);
        out.varint(self.at);
        self.retention.encode(out);
        out.varint(self.keyed.len() as u64);
        for message in self.keyed.iter() {
            put(out, message);
        }
        out.varint(self.history.len() as u64);
        for message in self.history.iter() {
            put(out, message);
        }
        self.sessions.encode(out);
        self.presence.encode(out);
    }

    /// Reads a room that is within these limits.
    pub fn decode(limits: &Limits, bytes: Bytes) -> Result<Room, Error> {
        let mut r = Reader::new(bytes);
        let mut room = Room::new(limits.clone(), r.varint("seq")?);
        room.at = r.varint("at")?;
        room.retention = Retention::decode(&mut r)?.within(limits);
        // Presence has its keys whatever the members filled.
        let keys = limits.keys + LISTED + 1;
        for _ in 0..r.varint_up_to("keys", keys as u64)? {
            room.keyed.restore(get(&mut r)?);
        }
        for _ in 0..r.varint_up_to("history", limits.history_messages as u64)? {
            room.history.restore(get(&mut r)?);
        }
        room.sessions = Sessions::decode(limits, &mut r)?;
        if r.remaining() > 0 {
            room.presence = Presence::decode(&mut r)?;
        }
        Ok(room)
    }
}

impl Retention {
    /// Appends it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(self.messages as u64);
        out.varint(self.bytes as u64);
        out.varint(self.age.as_millis() as u64);
    }

    /// Reads it.
    pub fn decode(r: &mut Reader) -> Result<Retention, Error> {
        Ok(Retention {
            messages: r.varint("retained messages")? as usize,
            bytes: r.varint("retained bytes")? as usize,
            age: std::time::Duration::from_millis(r.varint("retained age")?),
        })
    }
}

fn put(out: &mut BytesMut, message: &Envelope) {
    let mut one = BytesMut::new();
    message.encode(&mut one);
    out.prefixed(&one);
}

fn get(r: &mut Reader) -> Result<Envelope, Error> {
    Envelope::decode(r.bytes("envelope", MAX_ENVELOPE)?)
}
