//! Calls: source-routed, bidirectional, flow-controlled (WIRE.md, "Calls").

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer, peek_varint},
    control::{MAX_PATH, MAX_REASON, MAX_TICKET, get_room, put_room},
};
use crate::ids::{Generation, NodeId, RoomName};

/// The type of a bidirectional stream that carries a call.
pub const CALL_STREAM: u64 = 2;
/// The largest message on a call: 1 MB, as a frame.
pub const MAX_CALL_MESSAGE: usize = 1 << 20;
/// The largest opening of a call, in bytes.
pub const MAX_OPEN: usize = 4096;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verb {
    /// Publish messages in a room; each message up is an envelope, each down an answer.
    Publish = 1,
    /// The room's keyed state and the seq it includes.
    State = 2,
    /// A key frame of a track is wanted.
    KeyFrame = 3,
    /// What rate the path carries.
    RateHint = 4,
    /// Each hop adds itself and its clock.
    Trace = 5,
    /// Brings a room's log from one placement group to another (WIRE.md, "Moving a room").
    Move = 6,
}

/// How a call begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// What is asked for.
    pub verb: Verb,
    /// The nodes still to cross after the receiver; empty: the receiver serves it.
    pub path: Vec<NodeId>,
    /// The nodes crossed so far, the caller first.
    pub crossed: Vec<NodeId>,
    /// The room it concerns.
    pub room: RoomName,
    /// The fencing number of the owner it is meant for.
    pub generation: Generation,
    /// The room ticket; may be empty where the receiver requires none.
    pub ticket: Bytes,
    /// The placement group it is meant for; 0: none, `generation` says who is meant.
    pub group: u64,
}

/// The first thing the callee says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Messages may follow in both directions.
    Accepted,
    /// Nothing follows.
    Refused {
        /// Why.
        status: Status,
        /// The same in words; at most 256 bytes.
        message: String,
    },
}

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Status {
    /// The next hop is not connected.
    Unreachable = 1,
    /// Nobody serves this verb here.
    NotServed = 2,
    /// Too many calls at once.
    Busy = 3,
    /// The generation is not the current one.
    StaleGeneration = 4,
    /// The ticket does not allow it.
    Forbidden = 5,
    /// A node would be crossed twice, or too many.
    BadPath = 6,
    /// A limit was reached; the message names it.
    Limit = 7,
    /// Another member leads the group; the message is the name of its node.
    Elsewhere = 8,
    /// The group has no leader now, or this node has no part in it.
    Unavailable = 9,
}

impl Open {
    /// Appends the stream type, the length and the opening.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::with_capacity(128);
        body.put_u8(self.verb as u8);
        body.names(&self.path);
        body.names(&self.crossed);
        put_room(&mut body, &self.room);
        body.put_u64(self.generation.0);
        body.prefixed(&self.ticket);
        body.varint(self.group);
        out.varint(CALL_STREAM);
        out.prefixed(&body);
    }

    /// Reads an opening (without stream type and length).
    pub fn decode(body: Bytes) -> Result<Open, Error> {
        let mut r = Reader::new(body);
        Ok(Open {
            verb: match r.u8("verb")? {
                1 => Verb::Publish,
                2 => Verb::State,
                3 => Verb::KeyFrame,
                4 => Verb::RateHint,
                5 => Verb::Trace,
                6 => Verb::Move,
                value => {
                    return Err(Error::Unknown {
                        what: "verb",
                        value: value.into(),
                    });
                }
            },
            path: r.names("path", MAX_PATH)?,
            crossed: r.names("crossed", MAX_PATH)?,
            room: get_room(&mut r)?,
            generation: Generation(u64::from_be_bytes(r.array("generation")?)),
            ticket: r.bytes("ticket", MAX_TICKET)?,
            // Of a sender that knows of no groups.
            group: match r.remaining() {
                0 => 0,
                _ => r.varint("group")?,
            },
        })
    }
}

impl Reply {
    /// The body of the first message down (to be length-prefixed like every message).
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Reply::Accepted => out.put_u8(0),
            Reply::Refused { status, message } => {
                out.put_u8(*status as u8);
                let mut end = message.len().min(MAX_REASON);
                while !message.is_char_boundary(end) {
                    end -= 1;
                }
                out.prefixed(&message.as_bytes()[..end]);
            }
        }
    }

    /// Reads it.
    pub fn decode(body: Bytes) -> Result<Reply, Error> {
        let mut r = Reader::new(body);
        let status = match r.u8("status")? {
            0 => return Ok(Reply::Accepted),
            1 => Status::Unreachable,
            2 => Status::NotServed,
            3 => Status::Busy,
            4 => Status::StaleGeneration,
            5 => Status::Forbidden,
            6 => Status::BadPath,
            7 => Status::Limit,
            8 => Status::Elsewhere,
            9 => Status::Unavailable,
            value => {
                return Err(Error::Unknown {
                    what: "status",
                    value: value.into(),
                });
            }
        };
        Ok(Reply::Refused {
            status,
            message: r.text("reason text", MAX_REASON)?,
        })
    }
}

/// Cuts a byte stream into length-prefixed messages, whatever the chunks. Holds at most one
/// message and one chunk.
#[derive(Debug)]
pub struct MessageReader {
    buffer: BytesMut,
    what: &'static str,
    limit: usize,
}

impl MessageReader {
    /// For messages of at most `limit` bytes; `what` names them in errors.
    pub fn new(what: &'static str, limit: usize) -> MessageReader {
        MessageReader {
            buffer: BytesMut::new(),
            what,
            limit,
        }
    }

    /// Adds a chunk.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.put_slice(chunk);
    }

    /// Takes out what was pushed and not polled: bytes that belong to another reader.
    pub fn take_rest(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }

    /// Whether the stream may end here.
    pub fn is_whole(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The next message without its length; None: more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<Bytes>, Error> {
        let Some((len, at)) = peek_varint(&self.buffer) else {
            return Ok(None);
        };
        if len > self.limit as u64 {
            return Err(Error::Limit {
                what: self.what,
                value: len,
                limit: self.limit as u64,
            });
        }
        let len = len as usize;
        if self.buffer.len() - at < len {
            return Ok(None);
        }
        let _ = self.buffer.split_to(at);
        Ok(Some(self.buffer.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::ids::{Room, Tenant};

    fn open(path: Vec<NodeId>, verb: Verb) -> Open {
        Open {
            verb,
            path,
            crossed: vec![NodeId::new("a").unwrap()],
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("r").unwrap(),
            },
            generation: Generation::new(0, 3),
            ticket: Bytes::from_static(b"t"),
            group: 7,
        }
    }

    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        open(vec![NodeId::new("b").unwrap()], Verb::Publish).encode(&mut out);
        assert_eq!(
            &out[..],
            b"\x02\x1c\x01\x01\x01b\x01\x01a\x07default\x01r\x00\x00\x00\x00\x00\x00\x00\x03\x01t\x07"
        );
        out.clear();
        Reply::Refused {
            status: Status::Busy,
            message: "full".into(),
        }
        .encode(&mut out);
        assert_eq!(&out[..], b"\x03\x04full");
        out.clear();
        Reply::Refused {
            status: Status::Elsewhere,
            message: "hk-1".into(),
        }
        .encode(&mut out);
        assert_eq!(&out[..], b"\x08\x04hk-1");
    }

    #[test]
    fn an_opening_without_a_group_is_for_none() {
        let mut out = BytesMut::new();
        open(Vec::new(), Verb::State).encode(&mut out);
        let body = out.freeze().slice(2..);
        let without = Open::decode(body.slice(..body.len() - 1)).unwrap();
        assert_eq!(without.group, 0);
        assert_eq!(Open::decode(body).unwrap().group, 7);
    }

    #[test]
    fn a_message_above_the_limit_is_refused() {
        let mut reader = MessageReader::new("message", 10);
        reader.push(&[11]);
        assert_eq!(
            reader.poll().unwrap_err().to_string(),
            "message is 11; the limit is 10"
        );
    }

    proptest! {
        #[test]
        fn openings_come_back(names in vec("[a-z0-9-]{1,63}", 0..=MAX_PATH), verb in 0usize..6) {
            let verb = [Verb::Publish, Verb::State, Verb::KeyFrame, Verb::RateHint, Verb::Trace, Verb::Move][verb];
            let open = open(names.iter().map(|n| NodeId::new(n).unwrap()).collect(), verb);
            let mut out = BytesMut::new();
            open.encode(&mut out);
            let mut reader = MessageReader::new("opening", MAX_OPEN);
            reader.push(&out[1..]);
            prop_assert_eq!(Open::decode(reader.poll().unwrap().unwrap()), Ok(open));
            prop_assert!(reader.is_whole());
        }

        #[test]
        fn replies_come_back(code in 0u8..=9, message in ".{0,60}") {
            let mut body = BytesMut::new();
            body.put_u8(code);
            body.prefixed(message.as_bytes());
            let reply = Reply::decode(body.freeze()).unwrap();
            let mut out = BytesMut::new();
            reply.encode(&mut out);
            prop_assert_eq!(u64::from(out[0]), u64::from(code));
            prop_assert_eq!(Reply::decode(out.freeze()), Ok(reply));
        }

        #[test]
        fn messages_come_back_whatever_the_chunks(messages in vec(vec(any::<u8>(), 0..200), 0..6), cut in 1usize..50) {
            let mut out = BytesMut::new();
            for message in &messages { out.prefixed(message); }
            let mut reader = MessageReader::new("message", 200);
            let mut got = Vec::new();
            for chunk in out.chunks(cut) {
                reader.push(chunk);
                while let Some(message) = reader.poll().unwrap() { got.push(message.to_vec()); }
            }
            prop_assert!(reader.is_whole());
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..100)) {
            let bytes = Bytes::from(bytes);
            let _ = Open::decode(bytes.clone());
            let _ = Reply::decode(bytes);
        }
    }
}
