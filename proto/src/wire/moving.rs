//! What two placement groups say when a room moves from one to the other, and what edges are told of
//! it (WIRE.md, "Moving a room").

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    control::MAX_REASON,
};
use crate::ids::NodeId;

/// Nodes that are named of a placement group at most.
pub const MAX_NODES: usize = 16;
/// Bytes of a room in one part: with its head it fits an entry of a group's log.
pub const PART: usize = 16 << 10;

/// Which log a room's places are of: that of the group in which it began, wherever it was moved
/// since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogId {
    /// The placement group.
    pub group: u64,
    /// Raised when the group was made anew.
    pub era: u16,
}

/// A room did not begin in the group that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// The move that brought it. Moves of a room have rising numbers.
    pub word: u64,
    /// Where it began.
    pub log: LogId,
}

/// Where a room was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// By this move. Whoever knows of a later one knows better.
    pub word: u64,
    /// The group that keeps the room since.
    pub group: u64,
    /// The nodes that belonged to it then.
    pub nodes: Vec<NodeId>,
}

/// Up, on a `move` call: from a member of the group that keeps the room. Each is answered by an
/// [`Arrived`], in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carry {
    /// A part of the room.
    Part {
        /// By which move.
        word: u64,
        /// Which part, from 0.
        index: u64,
        /// It is the last.
        last: bool,
        /// At most [`PART`].
        bytes: Bytes,
    },
    /// The room is yours: serve it.
    Open {
        /// By which move.
        word: u64,
    },
    /// The move was taken back: forget what came of the room.
    Drop {
        /// Which move.
        word: u64,
    },
}

/// Down, on a `move` call: what the callee's group holds of the room and the move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// So many parts, without a hole; not the last.
    Parts(u64),
    /// All of it. Nobody is served before [`Carry::Open`].
    Whole,
    /// The room is served there, or was, and was moved on.
    Open,
    /// It will not be taken; why, in at most 256 bytes.
    Refused(String),
}

impl LogId {
    /// Appends it.
    pub fn encode(self, out: &mut BytesMut) {
        out.varint(self.group);
        out.varint(self.era.into());
    }

    /// Reads it.
    pub fn decode(r: &mut Reader) -> Result<LogId, Error> {
        Ok(LogId {
            group: r.varint("log's group")?,
            era: r.varint_up_to("log's era", u16::MAX.into())? as u16,
        })
    }
}

impl Came {
    /// Appends it.
    pub fn encode(self, out: &mut BytesMut) {
        out.varint(self.word);
        self.log.encode(out);
    }

    /// Reads it.
    pub fn decode(r: &mut Reader) -> Result<Came, Error> {
        Ok(Came {
            word: r.varint("word")?,
            log: LogId::decode(r)?,
        })
    }
}

impl Moved {
    /// Appends it.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(self.word);
        out.varint(self.group);
        out.names(&self.nodes);
    }

    /// Reads it.
    pub fn decode(r: &mut Reader) -> Result<Moved, Error> {
        Ok(Moved {
            word: r.varint("word")?,
            group: r.varint("group")?,
            nodes: r.names("nodes", MAX_NODES)?,
        })
    }
}

impl Carry {
    /// Which move it is about.
    pub fn word(&self) -> u64 {
        match self {
            Carry::Part { word, .. } | Carry::Open { word } | Carry::Drop { word } => *word,
        }
    }

    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Carry::Part {
                word,
                index,
                last,
                bytes,
            } => {
                out.put_u8(1);
                out.varint(*word);
                out.varint(*index);
                out.put_u8(u8::from(*last));
                out.prefixed(bytes);
            }
            Carry::Open { word } => {
                out.put_u8(2);
                out.varint(*word);
            }
            Carry::Drop { word } => {
                out.put_u8(3);
                out.varint(*word);
            }
        }
    }

    /// Reads a message's body.
    pub fn decode(body: Bytes) -> Result<Carry, Error> {
        let mut r = Reader::new(body);
        let kind = r.u8("carry")?;
        let word = r.varint("word")?;
        Ok(match kind {
            1 => Carry::Part {
                word,
                index: r.varint("index")?,
                last: match r.u8("last")? {
                    0 => false,
                    1 => true,
                    value => return Err(unknown("last", value)),
                },
                bytes: r.bytes("part", PART)?,
            },
            2 => Carry::Open { word },
            3 => Carry::Drop { word },
            value => return Err(unknown("carry", value)),
        })
    }
}

impl Arrived {
    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Arrived::Parts(parts) => {
                out.put_u8(1);
                out.varint(*parts);
            }
            Arrived::Whole => out.put_u8(2),
            Arrived::Open => out.put_u8(3),
            Arrived::Refused(why) => {
                out.put_u8(4);
                let end = why.floor_char_boundary(MAX_REASON);
                out.prefixed(&why.as_bytes()[..end]);
            }
        }
    }

    /// Reads a message's body; None: it is something else (a [`Lead`](super::room::Lead)).
    pub fn decode(body: Bytes) -> Result<Option<Arrived>, Error> {
        let mut r = Reader::new(body);
        Ok(match r.u8("arrived")? {
            1 => Some(Arrived::Parts(r.varint("parts")?)),
            2 => Some(Arrived::Whole),
            3 => Some(Arrived::Open),
            4 => Some(Arrived::Refused(r.text("reason text", MAX_REASON)?)),
            _ => None,
        })
    }
}

fn unknown(what: &'static str, value: u8) -> Error {
    Error::Unknown {
        what,
        value: value.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn bytes(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::new();
        encode(&mut out);
        out.freeze()
    }

    #[test]
    fn golden_bytes() {
        let part = Carry::Part {
            word: 64,
            index: 2,
            last: true,
            bytes: Bytes::from_static(b"xy"),
        };
        assert_eq!(
            bytes(|out| part.encode(out)),
            &b"\x01\x40\x40\x02\x01\x02xy"[..]
        );
        let open = Carry::Open { word: 5 };
        assert_eq!(bytes(|out| open.encode(out)), &b"\x02\x05"[..]);
        let drop = Carry::Drop { word: 5 };
        assert_eq!(bytes(|out| drop.encode(out)), &b"\x03\x05"[..]);
        for (arrived, want) in [
            (Arrived::Parts(64), &b"\x01\x40\x40"[..]),
            (Arrived::Whole, b"\x02"),
            (Arrived::Open, b"\x03"),
            (Arrived::Refused("no".into()), b"\x04\x02no"),
        ] {
            assert_eq!(bytes(|out| arrived.encode(out)), want);
        }
    }

    #[test]
    fn a_part_above_the_limit_is_refused() {
        let part = Carry::Part {
            word: 1,
            index: 0,
            last: false,
            bytes: vec![0; PART + 1].into(),
        };
        let error = Carry::decode(bytes(|out| part.encode(out))).unwrap_err();
        assert_eq!(error.to_string(), "part is 16385; the limit is 16384");
        let long = Arrived::Refused("é".repeat(200));
        let read = Arrived::decode(bytes(|out| long.encode(out))).unwrap();
        assert!(matches!(read, Some(Arrived::Refused(why)) if why.len() == MAX_REASON));
    }

    proptest! {
        #[test]
        fn all_come_back(word in 0u64..1 << 62, index in 0u64..1 << 62, last: bool, part in vec(any::<u8>(), 0..300), why in "[ -~]{0,256}") {
            let part = Carry::Part { word, index, last, bytes: part.into() };
            for carry in [part, Carry::Open { word }, Carry::Drop { word }] {
                prop_assert_eq!(Carry::decode(bytes(|out| carry.encode(out))), Ok(carry));
            }
            for arrived in [Arrived::Parts(index), Arrived::Whole, Arrived::Open, Arrived::Refused(why)] {
                prop_assert_eq!(Arrived::decode(bytes(|out| arrived.encode(out))), Ok(Some(arrived)));
            }
        }

        #[test]
        fn any_bytes_are_answered(body in vec(any::<u8>(), 0..100)) {
            let body = Bytes::from(body);
            let _ = Carry::decode(body.clone());
            let _ = Arrived::decode(body);
        }
    }
}
