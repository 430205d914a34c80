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

impl Hello {
    /// The version this connection speaks with `other`: the lower of the two newest. None: one
    /// side does not speak it any more (WIRE.md, "Versions").
    pub fn agree(&self, other: &Hello) -> Option<u16> {
        let version = self.version.min(other.version);
        (version >= self.min_version && version >= other.min_version).then_some(version)
    }
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

/// A subscription was refused or ended; no group is opened any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The subscription.
    pub id: u64,
    /// Why.
    pub reason: EndReason,
    /// How many groups' streams were opened for it: the last of them may still be on their way, each
    /// on its own.
    pub streams: u64,
    /// The reason in words, for logs; at most 256 bytes.
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
                out.varint(m.streams);
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
                streams: r.varint("streams")?,
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
mod tests;
