//! What stands in a replicated log.

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::{
    ids::{RoomName, SessionId},
    wire::{
        Error, Reader, Writer,
        envelope::Envelope,
        moving::{LogId, Moved, PART},
        roster::Roster,
    },
};

use super::super::room::Retention;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The clock of the leader that wrote it: ms since the Unix epoch.
    pub at: u64,
    /// What is to be done.
    pub command: Command,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Give this message its place.
    Publish(Envelope),
    /// These numbers of the session will never come: its edge refused them, or they were
    /// ephemeral.
    PassOver {
        /// The room.
        room: RoomName,
        /// The session.
        session: SessionId,
        /// The first number that will not come.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Which number of the session is the highest held? Counts as a use of the session.
    Ask {
        /// The room.
        room: RoomName,
        /// The session.
        session: SessionId,
    },
    /// How much of the room's order is kept from now on.
    Retain {
        /// The room.
        room: RoomName,
        /// So much.
        retention: Retention,
    },
    /// Nobody is in the room any more: let it go.
    Forget {
        /// The room.
        room: RoomName,
        /// Unless it was used after this time (the log's, ms).
        unused_since: u64,
    },
    /// An edge says who its members of the room are.
    Roster {
        /// The room.
        room: RoomName,
        /// Who they are.
        roster: Roster,
    },
    /// Nothing was heard of an edge's session for too long: its members are gone.
    Lapse {
        /// The room.
        room: RoomName,
        /// The edge's session.
        session: SessionId,
        /// Unless it told a newer roster than this.
        version: u64,
    },
    /// Say how many members there are, if that changed and they are too many to be named.
    Count {
        /// The room.
        room: RoomName,
    },
    /// The room is to be moved: nothing changes in it from here on, unless the move is taken back.
    Close {
        /// The room.
        room: RoomName,
        /// Where to, and by which move.
        to: Moved,
        /// This very log, for a room that began in it.
        log: LogId,
    },
    /// This move of the room is over, or will never be: the room stays.
    Reopen {
        /// The room.
        room: RoomName,
        /// Which move.
        word: u64,
    },
    /// The other group has all of the closed room: it is the other's from here on.
    Gone {
        /// The room.
        room: RoomName,
        /// By which move.
        word: u64,
    },
    /// The other group knows how the move ended.
    Settled {
        /// The room.
        room: RoomName,
        /// Which move.
        word: u64,
    },
    /// A part of a room that is to come.
    Part {
        /// The room.
        room: RoomName,
        /// By which move.
        word: u64,
        /// Which part, from 0.
        index: u64,
        /// It is the last.
        last: bool,
        /// At most 16 KB.
        bytes: Bytes,
    },
    /// The room that came is this group's from here on.
    Open {
        /// The room.
        room: RoomName,
        /// By which move.
        word: u64,
    },
    /// The room that was to come stays where it is.
    Drop {
        /// The room.
        room: RoomName,
        /// By which move.
        word: u64,
    },
}

impl Entry {
    /// The entry's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.varint(self.at);
        match &self.command {
            Command::Publish(message) => {
                out.put_u8(1);
                message.encode(&mut out);
            }
            Command::PassOver {
                room,
                session,
                first,
                last,
            } => {
                out.put_u8(2);
                put_room(&mut out, room);
                out.put_slice(&session.0);
                out.varint(*first);
                out.varint(*last);
            }
            Command::Ask { room, session } => {
                out.put_u8(3);
                put_room(&mut out, room);
                out.put_slice(&session.0);
            }
            Command::Retain { room, retention } => {
                out.put_u8(4);
                put_room(&mut out, room);
                retention.encode(&mut out);
            }
            Command::Forget { room, unused_since } => {
                out.put_u8(5);
                put_room(&mut out, room);
                out.varint(*unused_since);
            }
            Command::Roster { room, roster } => {
                out.put_u8(6);
                put_room(&mut out, room);
                roster.encode(&mut out);
            }
            Command::Lapse {
                room,
                session,
                version,
            } => {
                out.put_u8(7);
                put_room(&mut out, room);
                out.put_slice(&session.0);
                out.varint(*version);
            }
            Command::Count { room } => {
                out.put_u8(8);
                put_room(&mut out, room);
            }
            Command::Close { room, to, log } => {
                out.put_u8(9);
                put_room(&mut out, room);
                to.encode(&mut out);
                log.encode(&mut out);
            }
            Command::Reopen { room, word } => put_word(&mut out, 10, room, *word),
            Command::Gone { room, word } => put_word(&mut out, 11, room, *word),
            Command::Settled { room, word } => put_word(&mut out, 12, room, *word),
            Command::Part {
                room,
                word,
                index,
                last,
                bytes,
            } => {
                put_word(&mut out, 13, room, *word);
                out.varint(*index);
                out.put_u8(u8::from(*last));
                out.prefixed(bytes);
            }
            Command::Open { room, word } => put_word(&mut out, 14, room, *word),
            Command::Drop { room, word } => put_word(&mut out, 15, room, *word),
        }
        out.freeze()
    }

    /// Reads an entry. A kind that is not known is an error: a member that skipped it would part
    /// ways with the others.
    pub fn decode(bytes: Bytes) -> Result<Entry, Error> {
        let mut r = Reader::new(bytes);
        let at = r.varint("at")?;
        let command = match r.u8("command")? {
            1 => Command::Publish(Envelope::decode(r.rest())?),
            2 => Command::PassOver {
                room: get_room(&mut r)?,
                session: SessionId(r.array("session")?),
                first: r.varint("first")?,
                last: r.varint("last")?,
            },
            3 => Command::Ask {
                room: get_room(&mut r)?,
                session: SessionId(r.array("session")?),
            },
            4 => Command::Retain {
                room: get_room(&mut r)?,
                retention: Retention::decode(&mut r)?,
            },
            5 => Command::Forget {
                room: get_room(&mut r)?,
                unused_since: r.varint("unused since")?,
            },
            6 => Command::Roster {
                room: get_room(&mut r)?,
                roster: Roster::decode(&mut r)?,
            },
            7 => Command::Lapse {
                room: get_room(&mut r)?,
                session: SessionId(r.array("session")?),
                version: r.varint("version")?,
            },
            8 => Command::Count {
                room: get_room(&mut r)?,
            },
            9 => Command::Close {
                room: get_room(&mut r)?,
                to: Moved::decode(&mut r)?,
                log: LogId::decode(&mut r)?,
            },
            kind @ 10..=15 => {
                let (room, word) = (get_room(&mut r)?, r.varint("word")?);
                match kind {
                    10 => Command::Reopen { room, word },
                    11 => Command::Gone { room, word },
                    12 => Command::Settled { room, word },
                    13 => Command::Part {
                        room,
                        word,
                        index: r.varint("index")?,
                        last: r.u8("last")? != 0,
                        bytes: r.bytes("part", PART)?,
                    },
                    14 => Command::Open { room, word },
                    _ => Command::Drop { room, word },
                }
            }
            value => {
                return Err(Error::Unknown {
                    what: "command",
                    value: value.into(),
                });
            }
        };
        Ok(Entry { at, command })
    }
}

fn put_word(out: &mut BytesMut, kind: u8, room: &RoomName, word: u64) {
    out.put_u8(kind);
    put_room(out, room);
    out.varint(word);
}

pub(super) fn put_room(out: &mut BytesMut, room: &RoomName) {
    out.prefixed(room.tenant.as_bytes());
    out.prefixed(room.room.as_bytes());
}

pub(super) fn get_room(r: &mut Reader) -> Result<RoomName, Error> {
    Ok(RoomName {
        tenant: r.name("tenant")?,
        room: r.name("room")?,
    })
}
