//! What neighbours say on a connection's control stream (WIRE.md, "Control stream").

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Error, Reader, Writer};
use crate::ids::{BootId, Generation, NodeId, Position, Region, RoomName, TrackId};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Forwards tracks between nodes.
    Relay = 1,
    /// Stands near users.
    Edge = 2,
}

/// The first message in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The newest wire version the sender speaks.
    pub version: u16,
    /// The oldest it speaks.
    pub min_version: u16,
    /// Optional features, one bit each; unknown bits are ignored.
    pub features: u64,
    /// Who it is; must be a name in its certificate.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Tells restarts apart.
    pub boot: BootId,
    /// Where it runs.
    pub region: Region,
}

/// Where a subscription starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The newest group, from its first frame.
    Latest,
    /// This position, or the first one after it that is still held.
    At(Position),
}

/// Asks the receiver for a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// Chosen by the subscriber, never reused on a connection.
    pub id: u64,
    /// What is wanted.
    pub track: TrackId,
    /// The nodes still to cross after the receiver, the origin last. Empty: the receiver is the
    /// origin.
    pub path: Vec<NodeId>,
    /// The nodes crossed so far, the first subscriber first, the sender last.
    pub crossed: Vec<NodeId>,
    /// Where to start.
    pub start: Start,
    /// Expected rate in bits per second; 0: unknown.
    pub rate: u64,
    /// How old a frame may be before it is worthless, in ms; 0: never.
    pub budget_ms: u32,
    /// The room ticket (see `Ticket`); may be empty where the receiver requires none.
    pub ticket: Bytes,
}

/// A subscription was confirmed: the sender itself has the track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ok {
    /// The subscription.
    pub id: u64,
    /// The nodes the track crosses, the origin first, the sender last.
    pub chain: Vec<NodeId>,
    /// The first position that will be sent, where it is known already.
    pub first: Option<Position>,
}

/// The way the track takes to the sender changed. Sent before the first frame of the new way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The subscription.
    pub id: u64,
    /// The new chain, as in [`Ok`].
    pub chain: Vec<NodeId>,
}

/// Why a subscription was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndReason {
    /// The owner finished the track.
    Finished = 0,
    /// No such track here.
    NotFound = 1,
    /// It would have been a loop.
    Loop = 2,
    /// More than the hop limit.
    TooManyHops = 3,
    /// The merged path would break the latency budget.
    OverBudget = 4,
    /// The link or node is full.
    OverCapacity = 5,
    /// The ticket does not allow it.
    Forbidden = 6,
    /// The next hop is not connected, or went away and no other way was found.
    Unreachable = 7,
    /// No confirmation came in time.
    Timeout = 8,
    /// A limit of the receiver was reached; the message names it.
    Limit = 9,
    /// A newer generation took over.
    Superseded = 10,
}

/// A subscription was refused or ended; no group follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The subscription.
    pub id: u64,
    /// Why.
    pub reason: EndReason,
    /// The same in words, for logs; at most 256 bytes.
    pub message: String,
}

/// The subscriber leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The subscription.
    pub id: u64,
}

/// Frames of a group were dropped on purpose (a reset stream may lose its header).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDropped {
    /// The subscription.
    pub id: u64,
    /// The group.
    pub group: u64,
    /// The first frame that will not come; all later ones of the group will not come either.
    pub from_frame: u64,
}

/// Everything that is said on the control stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Subscribe`].
    Subscribe(Subscribe),
    /// See [`Ok`].
    Ok(Ok),
    /// See [`Update`].
    Update(Update),
    /// See [`End`].
    End(End),
    /// See [`Unsubscribe`].
    Unsubscribe(Unsubscribe),
    /// See [`GroupDropped`].
    GroupDropped(GroupDropped),
    /// The sender will close soon; leave it. The deadline is in ms from now.
    GoAway {
        /// Milliseconds until the sender closes.
        deadline_ms: u32,
    },
}

/// The largest control message, type and body: 64 KB (WIRE.md, "Control stream").
pub const MAX_MESSAGE: usize = 64 << 10;
/// Most nodes a path or chain may name: an edge, three intermediate relays between two others, an
/// edge, and room for a hop limit that grows.
pub const MAX_PATH: usize = 16;
/// Longest reason text, in bytes.
pub const MAX_REASON: usize = 256;
/// Largest ticket, in bytes.
pub const MAX_TICKET: usize = 512;

/// Message types at or above this are skipped where they are not known (WIRE.md, "Versions").
pub const IGNORABLE: u64 = 0x40;

const HELLO: u64 = 0;
const SUBSCRIBE: u64 = 1;
const OK: u64 = 2;
const UPDATE: u64 = 3;
const END: u64 = 4;
const UNSUBSCRIBE: u64 = 5;
const GROUP_DROPPED: u64 = 6;
const GO_AWAY: u64 = 7;

impl Message {
    /// Appends the message: length, type, body.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::with_capacity(64);
        self.encode_body(&mut body);
        out.varint(body.len() as u64);
        out.put_slice(&body);
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Message::Hello(m) => {
                out.varint(HELLO);
                out.put_u16(m.version);
                out.put_u16(m.min_version);
                out.put_u64(m.features);
                out.prefixed(m.node.as_bytes());
                out.put_u8(m.role as u8);
                out.put_u64(m.boot.0);
                out.prefixed(m.region.as_bytes());
            }
            Message::Subscribe(m) => {
                out.varint(SUBSCRIBE);
                out.varint(m.id);
                put_track(out, &m.track);
                out.names(&m.path);
                out.names(&m.crossed);
                match m.start {
                    Start::Latest => out.put_u8(0),
                    Start::At(position) => {
                        out.put_u8(1);
                        put_position(out, position);
                    }
                }
                out.varint(m.rate);
                out.varint(m.budget_ms.into());
                out.prefixed(&m.ticket);
            }
            Message::Ok(m) => {
                out.varint(OK);
                out.varint(m.id);
                out.names(&m.chain);
                out.option(m.first, put_position);
            }
            Message::Update(m) => {
                out.varint(UPDATE);
                out.varint(m.id);
                out.names(&m.chain);
            }
            Message::End(m) => {
                out.varint(END);
                out.varint(m.id);
                out.put_u8(m.reason as u8);
                out.prefixed(clip(&m.message, MAX_REASON).as_bytes());
            }
            Message::Unsubscribe(m) => {
                out.varint(UNSUBSCRIBE);
                out.varint(m.id);
            }
            Message::GroupDropped(m) => {
                out.varint(GROUP_DROPPED);
                out.varint(m.id);
                out.varint(m.group);
                out.varint(m.from_frame);
            }
            Message::GoAway { deadline_ms } => {
                out.varint(GO_AWAY);
                out.varint((*deadline_ms).into());
            }
        }
    }

    /// Reads one message (type and body, without the length). None: a type to be skipped.
    pub fn decode(message: Bytes) -> Result<Option<Message>, Error> {
        let mut r = Reader::new(message);
        Ok(Some(match r.varint("message type")? {
            HELLO => Message::Hello(Hello {
                version: u16::from_be_bytes(r.array("version")?),
                min_version: u16::from_be_bytes(r.array("min_version")?),
                features: u64::from_be_bytes(r.array("features")?),
                node: r.name("node")?,
                role: match r.u8("role")? {
                    1 => Role::Relay,
                    2 => Role::Edge,
                    value => {
                        return Err(Error::Unknown {
                            what: "role",
                            value: value.into(),
                        });
                    }
                },
                boot: BootId(u64::from_be_bytes(r.array("boot")?)),
                region: r.name("region")?,
            }),
            SUBSCRIBE => Message::Subscribe(Subscribe {
                id: r.varint("subscription")?,
                track: get_track(&mut r)?,
                path: r.names("path", MAX_PATH)?,
                crossed: r.names("crossed", MAX_PATH)?,
                start: match r.u8("start")? {
                    0 => Start::Latest,
                    1 => Start::At(get_position(&mut r)?),
                    value => {
                        return Err(Error::Unknown {
                            what: "start",
                            value: value.into(),
                        });
                    }
                },
                rate: r.varint("rate")?,
                budget_ms: r.varint_up_to("budget_ms", u32::MAX.into())? as u32,
                ticket: r.bytes("ticket", MAX_TICKET)?,
            }),
            OK => Message::Ok(Ok {
                id: r.varint("subscription")?,
                chain: r.names("chain", MAX_PATH)?,
                first: r.option("first", get_position)?,
            }),
            UPDATE => Message::Update(Update {
                id: r.varint("subscription")?,
                chain: r.names("chain", MAX_PATH)?,
            }),
            END => Message::End(End {
                id: r.varint("subscription")?,
                reason: EndReason::from_code(r.u8("reason")?)?,
                message: r.text("reason text", MAX_REASON)?,
            }),
            UNSUBSCRIBE => Message::Unsubscribe(Unsubscribe {
                id: r.varint("subscription")?,
            }),
            GROUP_DROPPED => Message::GroupDropped(GroupDropped {
                id: r.varint("subscription")?,
                group: r.varint("group")?,
                from_frame: r.varint("frame")?,
            }),
            GO_AWAY => Message::GoAway {
                deadline_ms: r.varint_up_to("deadline", u32::MAX.into())? as u32,
            },
            value if value >= IGNORABLE => return Ok(None),
            value => {
                return Err(Error::Unknown {
                    what: "message type",
                    value,
                });
            }
        }))
    }
}

impl EndReason {
    /// From its code on the wire.
    pub fn from_code(code: u8) -> Result<EndReason, Error> {
        use EndReason::*;
        let all = [
            Finished,
            NotFound,
            Loop,
            TooManyHops,
            OverBudget,
            OverCapacity,
            Forbidden,
            Unreachable,
            Timeout,
            Limit,
            Superseded,
        ];
        all.get(usize::from(code)).copied().ok_or(Error::Unknown {
            what: "end reason",
            value: code.into(),
        })
    }
}

/// The start of `text` that fits into `limit` bytes.
fn clip(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
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

fn put_track(out: &mut BytesMut, track: &TrackId) {
    put_room(out, &track.room);
    out.prefixed(track.stream.as_bytes());
    out.prefixed(track.track.as_bytes());
    out.put_u64(track.generation.0);
}

fn get_track(r: &mut Reader) -> Result<TrackId, Error> {
    Ok(TrackId {
        room: get_room(r)?,
        stream: r.name("stream")?,
        track: r.name("track")?,
        generation: Generation(u64::from_be_bytes(r.array("generation")?)),
    })
}

fn put_position(out: &mut BytesMut, position: Position) {
    out.varint(position.group);
    out.varint(position.frame);
}

fn get_position(r: &mut Reader) -> Result<Position, Error> {
    Ok(Position {
        group: r.varint("group")?,
        frame: r.varint("frame")?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::ids::{Room, Stream, Tenant, Track};

    fn track() -> TrackId {
        TrackId {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("r").unwrap(),
            },
            stream: Stream::new("s").unwrap(),
            track: Track::new("video").unwrap(),
            generation: Generation::new(1, 7),
        }
    }

    fn encoded(message: &Message) -> Vec<u8> {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out.to_vec()
    }

    fn decoded(bytes: &[u8]) -> Message {
        let (len, at) = super::super::codec::peek_varint(bytes).unwrap();
        assert_eq!(bytes.len() - at, len as usize);
        Message::decode(Bytes::copy_from_slice(&bytes[at..]))
            .unwrap()
            .unwrap()
    }

    /// WIRE.md's examples: a change here is a new version of the format.
    #[test]
    fn golden_bytes() {
        let node = |n: &str| NodeId::new(n).unwrap();
        for (message, golden) in [
            (
                Message::Hello(Hello {
                    version: 1,
                    min_version: 1,
                    features: 0,
                    node: node("hk-relay-1"),
                    role: Role::Relay,
                    boot: BootId(0x0102_0304_0506_0708),
                    region: Region::new("hk").unwrap(),
                }),
                &b"\x24\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x0ahk-relay-1\x01\x01\x02\x03\x04\x05\x06\x07\x08\x02hk"[..],
            ),
            (
                Message::Subscribe(Subscribe {
                    id: 5,
                    track: track(),
                    path: vec![node("b"), node("c")],
                    crossed: vec![node("a")],
                    start: Start::At(Position { group: 64, frame: 3 }),
                    rate: 1_000_000,
                    budget_ms: 400,
                    ticket: Bytes::new(),
                }),
                b"\x2f\x01\x05\x07default\x01r\x01s\x05video\x00\x01\x00\x00\x00\x00\x00\x07\x02\x01b\x01c\x01\x01a\x01\x40\x40\x03\x80\x0f\x42\x40\x41\x90\x00",
            ),
            (
                Message::Ok(Ok { id: 5, chain: vec![node("c"), node("b")], first: Some(Position { group: 64, frame: 3 }) }),
                b"\x0b\x02\x05\x02\x01c\x01b\x01\x40\x40\x03",
            ),
            (Message::Update(Update { id: 5, chain: vec![node("c")] }), b"\x05\x03\x05\x01\x01c"),
            (
                Message::End(End { id: 5, reason: EndReason::Loop, message: "loop".into() }),
                b"\x08\x04\x05\x02\x04loop",
            ),
            (Message::Unsubscribe(Unsubscribe { id: 5 }), b"\x02\x05\x05"),
            (Message::GroupDropped(GroupDropped { id: 5, group: 64, from_frame: 2 }), b"\x05\x06\x05\x40\x40\x02"),
            (Message::GoAway { deadline_ms: 400 }, b"\x03\x07\x41\x90"),
        ] {
            assert_eq!(encoded(&message), golden, "{message:?}");
            assert_eq!(decoded(golden), message);
        }
    }

    #[test]
    fn unknown_types_are_skipped_only_in_the_ignorable_range() {
        assert_eq!(
            Message::decode(Bytes::from_static(b"\x40\x40abc")),
            Ok(None)
        );
        let refused = Message::decode(Bytes::from_static(b"\x3f"));
        assert_eq!(
            refused,
            Err(Error::Unknown {
                what: "message type",
                value: 0x3f
            })
        );
    }

    #[test]
    fn limits_are_named() {
        let mut out = BytesMut::new();
        out.put_u8(3);
        out.put_u8(1);
        out.varint(17);
        let refused = Message::decode(out.freeze()).unwrap_err();
        assert_eq!(refused.to_string(), "chain is 17; the limit is 16");
        let long = Message::End(End {
            id: 1,
            reason: EndReason::Limit,
            message: "é".repeat(200),
        });
        let Message::End(end) = decoded(&encoded(&long)) else {
            panic!("an end")
        };
        assert_eq!(end.message, "é".repeat(128));
    }

    fn names() -> impl Strategy<Value = Vec<NodeId>> {
        vec(
            "[a-z0-9-]{1,63}".prop_map(|n| NodeId::new(&n).unwrap()),
            0..=MAX_PATH,
        )
    }

    fn position() -> impl Strategy<Value = Position> {
        (0..1u64 << 62, 0..1u64 << 62).prop_map(|(group, frame)| Position { group, frame })
    }

    proptest! {
        #[test]
        fn subscriptions_come_back(
            id in 0..1u64 << 62, generation: u64, path in names(), crossed in names(),
            start in prop_oneof![Just(Start::Latest), position().prop_map(Start::At)],
            rate in 0..1u64 << 62, budget_ms: u32, ticket in vec(any::<u8>(), 0..=MAX_TICKET),
        ) {
            let track = TrackId { generation: Generation(generation), ..track() };
            let message = Message::Subscribe(Subscribe { id, track, path, crossed, start, rate, budget_ms, ticket: ticket.into() });
            prop_assert_eq!(decoded(&encoded(&message)), message);
        }

        #[test]
        fn answers_come_back(id in 0..1u64 << 62, chain in names(), first in proptest::option::of(position()), code in 0u8..=10, text in ".{0,60}") {
            for message in [
                Message::Ok(Ok { id, chain: chain.clone(), first }),
                Message::Update(Update { id, chain: chain.clone() }),
                Message::End(End { id, reason: EndReason::from_code(code).unwrap(), message: text.clone() }),
            ] {
                prop_assert_eq!(decoded(&encoded(&message)), message);
            }
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Message::decode(bytes.into());
        }
    }
}
