//! What an edge and the leader of a room's group say on the calls `publish` and `state` (WIRE.md, "Room calls").

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    envelope::Envelope,
    moving::{Came, Moved},
    roster::Roster,
};
use crate::ids::{Generation, NodeId, SessionId};

/// The type of a unidirectional stream of small packets of placement groups, each with its length.
pub const PACKETS_STREAM: u64 = 4;
/// The type of a unidirectional stream that is one large packet of a placement group.
pub const PACKET_STREAM: u64 = 5;
/// Longest slug of a refusal, in bytes.
pub const MAX_SLUG: usize = 32;
/// Longest text of a refusal, in bytes.
pub const MAX_TEXT: usize = 256;
/// An encoded envelope is never longer than this, in bytes: its fields at their limits.
pub const MAX_ENVELOPE: usize = 18 << 10;
/// A part of the state stops growing here, in bytes.
pub const PART: usize = 64 << 10;

/// Up, on a `publish` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Give this message its place. Answered by [`Answer::Acked`] or [`Answer::Refused`].
    Publish(Envelope),
    /// The edge refused these numbers of the session itself: they will never come. Not answered.
    PassOver {
        /// The session.
        session: SessionId,
        /// The first number that will not come.
        first: u64,
        /// The last.
        last: u64,
    },
    /// Which number of the session is the highest held? Answered by [`Answer::Held`], or
    /// [`Answer::Refused`] with n 0 if the session is over.
    Ask {
        /// The session.
        session: SessionId,
    },
    /// These are the edge's members of the room. Answered by
    /// [`Answer::Present`], or [`Answer::Refused`] with the version as n.
    Roster(Roster),
    /// The edge is alive, and these are still its members. Answered by
    /// [`Answer::Present`].
    Beat {
        /// The edge's own session in the room.
        session: SessionId,
    },
}

/// Down, on a `publish` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The message has its place; the same again if it was sent again.
    Acked {
        /// The publisher's session.
        session: SessionId,
        /// The publisher's number.
        n: u64,
        /// The place; 0 for an ephemeral message, which has none.
        seq: u64,
    },
    /// The message was not taken.
    Refused {
        /// The publisher's session.
        session: SessionId,
        /// The publisher's number.
        n: u64,
        /// Why, for programs; at most [`MAX_SLUG`] bytes.
        slug: String,
        /// The limit that was reached, if it was one.
        limit: Option<u64>,
        /// Why, in words; at most [`MAX_TEXT`] bytes.
        message: String,
    },
    /// The answer to [`Request::Ask`].
    Held {
        /// The session.
        session: SessionId,
        /// The highest number held; 0 for none.
        n: u64,
    },
    /// The answer to [`Request::Roster`] and [`Request::Beat`].
    Present {
        /// The edge's own session in the room.
        session: SessionId,
        /// Which of its rosters is held; 0 for none: it is to be told again.
        version: u64,
    },
}

/// Down, on a `state` call, in this order: one `Begin`, any number of `Keys`, any number of
/// `History`, one `End`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What follows is true at this place in the order.
    Begin {
        /// The newest message included.
        seq: u64,
        /// Its time: ms since the Unix epoch.
        at: u64,
    },
    /// The newest message of some keys.
    Keys(Vec<Envelope>),
    /// Retained messages, each one place after the one before, the last one at `seq`.
    History(Vec<Envelope>),
    /// That was all.
    End,
}

/// Down, on a call to a placement group: first of all [`Lead::Under`]; [`Lead::Elsewhere`] and
/// [`Lead::Moved`] are the last word, [`Lead::Moved`] may be the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lead {
    /// The callee leads.
    Under {
        /// Under this generation: that of the room's tracks here.
        generation: Generation,
        /// The room was moved here: so are its tracks named. None: it began here.
        came: Option<Came>,
    },
    /// It leads no more. What is not answered may have been done; it is to be asked of the group's
    /// next leader.
    Elsewhere {
        /// The node of the next leader, if it is known already.
        node: Option<NodeId>,
    },
    /// Another group keeps the room. What is not answered may have been done; it is to be asked
    /// there.
    Moved(Moved),
}

impl Lead {
    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Lead::Under { generation, came } => {
                out.put_u8(8);
                out.put_u64(generation.0);
                if let Some(came) = came {
                    came.encode(out);
                }
            }
            Lead::Elsewhere { node } => {
                out.put_u8(9);
                out.option(node.as_ref(), |out, node| out.prefixed(node.as_bytes()));
            }
            Lead::Moved(moved) => {
                out.put_u8(10);
                moved.encode(out);
            }
        }
    }

    /// Reads a message's body; None: it is something else.
    pub fn decode(body: Bytes) -> Result<Option<Lead>, Error> {
        let mut r = Reader::new(body);
        Ok(match r.u8("lead")? {
            8 => Some(Lead::Under {
                generation: Generation(u64::from_be_bytes(r.array("generation")?)),
                came: match r.remaining() {
                    0 => None,
                    _ => Some(Came::decode(&mut r)?),
                },
            }),
            9 => Some(Lead::Elsewhere {
                node: r.option("node", |r| r.name("node"))?,
            }),
            10 => Some(Lead::Moved(Moved::decode(&mut r)?)),
            _ => None,
        })
    }
}

impl Request {
    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Request::Publish(envelope) => {
                out.put_u8(1);
                envelope.encode(out);
            }
            Request::PassOver {
                session,
                first,
                last,
            } => {
                out.put_u8(2);
                out.put_slice(&session.0);
                out.varint(*first);
                out.varint(*last);
            }
            Request::Ask { session } => {
                out.put_u8(3);
                out.put_slice(&session.0);
            }
            Request::Roster(roster) => {
                out.put_u8(4);
                roster.encode(out);
            }
            Request::Beat { session } => {
                out.put_u8(5);
                out.put_slice(&session.0);
            }
        }
    }

    /// Reads a message's body.
    pub fn decode(body: Bytes) -> Result<Request, Error> {
        let mut r = Reader::new(body);
        Ok(match r.u8("request")? {
            1 => Request::Publish(Envelope::decode(r.rest())?),
            2 => Request::PassOver {
                session: SessionId(r.array("session")?),
                first: r.varint("first")?,
                last: r.varint("last")?,
            },
            3 => Request::Ask {
                session: SessionId(r.array("session")?),
            },
            4 => Request::Roster(Roster::decode(&mut r)?),
            5 => Request::Beat {
                session: SessionId(r.array("session")?),
            },
            value => return Err(unknown("request", value)),
        })
    }
}

impl Answer {
    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Answer::Acked { session, n, seq } => {
                out.put_u8(1);
                out.put_slice(&session.0);
                out.varint(*n);
                out.varint(*seq);
            }
            Answer::Refused {
                session,
                n,
                slug,
                limit,
                message,
            } => {
                out.put_u8(2);
                out.put_slice(&session.0);
                out.varint(*n);
                out.prefixed(head(slug, MAX_SLUG).as_bytes());
                out.option(*limit, Writer::varint);
                out.prefixed(head(message, MAX_TEXT).as_bytes());
            }
            Answer::Held { session, n } => {
                out.put_u8(3);
                out.put_slice(&session.0);
                out.varint(*n);
            }
            Answer::Present { session, version } => {
                out.put_u8(4);
                out.put_slice(&session.0);
                out.varint(*version);
            }
        }
    }

    /// Reads a message's body.
    pub fn decode(body: Bytes) -> Result<Answer, Error> {
        let mut r = Reader::new(body);
        let kind = r.u8("answer")?;
        let session = SessionId(r.array("session")?);
        let n = r.varint("n")?;
        Ok(match kind {
            1 => Answer::Acked {
                session,
                n,
                seq: r.varint("seq")?,
            },
            2 => Answer::Refused {
                session,
                n,
                slug: r.text("slug", MAX_SLUG)?,
                limit: r.option("limit", |r| r.varint("limit"))?,
                message: r.text("message", MAX_TEXT)?,
            },
            3 => Answer::Held { session, n },
            4 => Answer::Present {
                session,
                version: n,
            },
            value => return Err(unknown("answer", value)),
        })
    }
}

impl Part {
    /// Appends the message's body.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Part::Begin { seq, at } => {
                out.put_u8(1);
                out.varint(*seq);
                out.varint(*at);
            }
            Part::Keys(envelopes) => put_envelopes(out, 2, envelopes),
            Part::History(envelopes) => put_envelopes(out, 3, envelopes),
            Part::End => out.put_u8(4),
        }
    }

    /// Reads a message's body.
    pub fn decode(body: Bytes) -> Result<Part, Error> {
        let mut r = Reader::new(body);
        Ok(match r.u8("part")? {
            1 => Part::Begin {
                seq: r.varint("seq")?,
                at: r.varint("at")?,
            },
            2 => Part::Keys(get_envelopes(r)?),
            3 => Part::History(get_envelopes(r)?),
            4 => Part::End,
            value => return Err(unknown("part", value)),
        })
    }
}

fn put_envelopes(out: &mut BytesMut, kind: u8, envelopes: &[Envelope]) {
    out.put_u8(kind);
    let mut one = BytesMut::new();
    for envelope in envelopes {
        one.clear();
        envelope.encode(&mut one);
        out.prefixed(&one);
    }
}

fn get_envelopes(mut r: Reader) -> Result<Vec<Envelope>, Error> {
    let mut envelopes = Vec::new();
    while r.remaining() > 0 {
        envelopes.push(Envelope::decode(r.bytes("envelope", MAX_ENVELOPE)?)?);
    }
    Ok(envelopes)
}

fn unknown(what: &'static str, value: u8) -> Error {
    Error::Unknown {
        what,
        value: value.into(),
    }
}

/// As much of the text as fits.
fn head(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::{
        ids::{Room, RoomName, Tenant},
        wire::{
            envelope::{Class, MAX_BODY, MAX_KEY, MAX_MEMBER, MAX_TOPIC},
            moving::LogId,
        },
    };

    const SESSION: SessionId = SessionId([0xab; 16]);

    fn envelope(body: usize) -> Envelope {
        Envelope {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("r").unwrap(),
            },
            session: SESSION,
            n: 1,
            class: Class::Log,
            topic: "t".into(),
            key: None,
            expected: None,
            revision: 0,
            from: "m".into(),
            recipient: None,
            at: 2,
            seq: 3,
            body: vec![b'x'; body].into(),
        }
    }

    fn bytes(encode: impl FnOnce(&mut BytesMut)) -> Bytes {
        let mut out = BytesMut::new();
        encode(&mut out);
        out.freeze()
    }

    #[test]
    fn golden_bytes() {
        let one = b"\x07default\x01r\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\x01\x01\x01t\x00\x00\x00\x01m\x00\x02\x03\x01x";
        let session = [0xab; 16];
        let golden = |request: Request, start: u8, rest: &[u8]| {
            let want = [&[start][..], rest].concat();
            assert_eq!(bytes(|out| request.encode(out)), want);
        };
        golden(Request::Publish(envelope(1)), 1, one);
        let pass = Request::PassOver {
            session: SESSION,
            first: 5,
            last: 64,
        };
        golden(pass, 2, &[&session[..], b"\x05\x40\x40"].concat());
        golden(Request::Ask { session: SESSION }, 3, &session);
        golden(Request::Beat { session: SESSION }, 5, &session);
        let nobody = Roster {
            session: SESSION,
            version: 2,
            whole: true,
            count: 0,
            joins: 1,
            leaves: 1,
            names: Vec::new(),
        };
        let want = [&session[..], b"\x02\x01\x00\x01\x01\x00"].concat();
        golden(Request::Roster(nobody), 4, &want);

        let acked = Answer::Acked {
            session: SESSION,
            n: 1,
            seq: 2,
        };
        let want = [&b"\x01"[..], &session, b"\x01\x02"].concat();
        assert_eq!(bytes(|out| acked.encode(out)), want);
        let refused = Answer::Refused {
            session: SESSION,
            n: 1,
            slug: "full".into(),
            limit: Some(9),
            message: "no".into(),
        };
        let want = [&b"\x02"[..], &session, b"\x01\x04full\x01\x09\x02no"].concat();
        assert_eq!(bytes(|out| refused.encode(out)), want);
        let held = Answer::Held {
            session: SESSION,
            n: 7,
        };
        let want = [&b"\x03"[..], &session, b"\x07"].concat();
        assert_eq!(bytes(|out| held.encode(out)), want);

        let present = Answer::Present {
            session: SESSION,
            version: 9,
        };
        let want = [&b"\x04"[..], &session, b"\x09"].concat();
        assert_eq!(bytes(|out| present.encode(out)), want);

        let under = |came| Lead::Under {
            generation: Generation::new(1, 5),
            came,
        };
        assert_eq!(
            bytes(|out| under(None).encode(out)),
            &b"\x08\x00\x01\x00\x00\x00\x00\x00\x05"[..]
        );
        let log = LogId { group: 7, era: 1 };
        let came = under(Some(Came { word: 64, log }));
        assert_eq!(
            bytes(|out| came.encode(out)),
            &b"\x08\x00\x01\x00\x00\x00\x00\x00\x05\x40\x40\x07\x01"[..]
        );
        let moved = Lead::Moved(Moved {
            word: 64,
            group: 9,
            nodes: vec![NodeId::new("hk-1").unwrap()],
        });
        assert_eq!(
            bytes(|out| moved.encode(out)),
            &b"\x0a\x40\x40\x09\x01\x04hk-1"[..]
        );
        let node = Some(NodeId::new("hk-1").unwrap());
        let elsewhere = Lead::Elsewhere { node };
        assert_eq!(bytes(|out| elsewhere.encode(out)), &b"\x09\x01\x04hk-1"[..]);

        let begin = Part::Begin { seq: 3, at: 2 };
        assert_eq!(bytes(|out| begin.encode(out)), &b"\x01\x03\x02"[..]);
        let want = [&b"\x02"[..], &[one.len() as u8], one].concat();
        assert_eq!(bytes(|out| Part::Keys(vec![envelope(1)]).encode(out)), want);
        let want = [&b"\x03"[..], &[one.len() as u8], one].concat();
        assert_eq!(
            bytes(|out| Part::History(vec![envelope(1)]).encode(out)),
            want
        );
        assert_eq!(bytes(|out| Part::End.encode(out)), &b"\x04"[..]);
    }

    #[test]
    fn the_largest_envelope_fits() {
        let largest = Envelope {
            room: RoomName {
                tenant: Tenant::new(&"t".repeat(Tenant::MAX_LEN)).unwrap(),
                room: Room::new(&"r".repeat(Room::MAX_LEN)).unwrap(),
            },
            topic: "t".repeat(MAX_TOPIC),
            key: Some("k".repeat(MAX_KEY)),
            expected: Some((1 << 62) - 1),
            from: "m".repeat(MAX_MEMBER),
            recipient: Some("m".repeat(MAX_MEMBER)),
            ..envelope(MAX_BODY)
        };
        assert!(bytes(|out| largest.encode(out)).len() <= MAX_ENVELOPE);
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let refused = Answer::Refused {
            session: SESSION,
            n: 1,
            slug: "s".repeat(99),
            limit: None,
            message: "é".repeat(200) + "x",
        };
        let Ok(Answer::Refused { slug, message, .. }) =
            Answer::decode(bytes(|out| refused.encode(out)))
        else {
            panic!("it is a refusal")
        };
        assert_eq!((slug.len(), message.len()), (MAX_SLUG, MAX_TEXT));
    }

    proptest! {
        #[test]
        fn all_come_back(session: [u8; 16], n in 0u64..1 << 62, seq in 0u64..1 << 62, slug in "[a-z_]{0,32}",
                         limit in option::of(0u64..1 << 62), message in "[ -~]{0,256}", sizes in vec(0usize..2_000, 0..5)) {
            let session = SessionId(session);
            let envelopes: Vec<_> = sizes.into_iter().map(envelope).collect();
            for request in [
                Request::PassOver { session, first: n, last: seq },
                Request::Ask { session },
                Request::Beat { session },
                Request::Publish(envelope(n as usize % 3_000)),
            ] {
                prop_assert_eq!(Request::decode(bytes(|out| request.encode(out))), Ok(request));
            }
            for answer in [
                Answer::Acked { session, n, seq },
                Answer::Refused { session, n, slug, limit, message },
                Answer::Held { session, n },
                Answer::Present { session, version: n },
            ] {
                prop_assert_eq!(Answer::decode(bytes(|out| answer.encode(out))), Ok(answer));
            }
            let came = Came { word: seq, log: LogId { group: n, era: 3 } };
            for lead in [
                Lead::Under { generation: Generation(n), came: None },
                Lead::Under { generation: Generation(n), came: Some(came) },
                Lead::Elsewhere { node: None },
                Lead::Moved(Moved { word: n, group: seq, nodes: vec![NodeId::new("a").unwrap()] }),
            ] {
                prop_assert_eq!(Lead::decode(bytes(|out| lead.encode(out))), Ok(Some(lead)));
            }
            for part in [Part::Begin { seq, at: n }, Part::Keys(envelopes.clone()), Part::History(envelopes), Part::End] {
                prop_assert_eq!(Part::decode(bytes(|out| part.encode(out))), Ok(part));
            }
        }

        #[test]
        fn any_bytes_are_answered(body in vec(any::<u8>(), 0..200)) {
            let body = Bytes::from(body);
            let _ = Request::decode(body.clone());
            let _ = Answer::decode(body.clone());
            let _ = Lead::decode(body.clone());
            let _ = Part::decode(body);
        }
    }
}
