//! What the edge says.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::wire::envelope::{Class, Envelope};
use serde::Serialize;

use super::{Body, Encoding};

/// What the edge says to a member.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub enum Outgoing {
    /// The answer to the hello.
    Welcome {
        /// Who the member is: the `from` of its messages.
        member: Arc<str>,
        /// Which log the places are in; changes only if the leader of the room's log was lost.
        log: String,
        /// The place after which messages follow.
        seq: u64,
        /// The highest number of the session that the room holds.
        n: u64,
        /// The state at `seq`; absent for whoever resumes: it has it.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<BTreeMap<String, StateEntry>>,
        /// Whether more of the state follows in `state` messages.
        more: bool,
        /// What this edge allows.
        limits: Limits,
    },
    /// The state, or more of it. After a `gap` the first one replaces what the member held.
    State {
        /// Which log.
        log: String,
        /// The place this state is true at.
        seq: u64,
        /// By key.
        state: BTreeMap<String, StateEntry>,
        /// Whether more of the state follows.
        more: bool,
    },
    /// A message has its place.
    Ack {
        /// Its number.
        n: u64,
        /// Its place; absent for an ephemeral message.
        #[serde(skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// Messages `from..=to` will not come; the state follows. If the log is another than before,
    /// `from` was a place in the old one and `to` is one in the new.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
        /// Which log follows.
        log: String,
    },
    /// Something was not done.
    Err {
        /// The message's number, where it could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// Why, for programs.
        error: String,
        /// Why, in words.
        message: String,
        /// The limit, if it was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u64>,
    },
    /// This edge is about to stop: the member is to connect to another one, and resume.
    Goaway {
        /// The connection is closed after so long.
        deadline_ms: u64,
        /// Other edges' URLs, the nearest first.
        alternatives: Vec<String>,
    },
    /// The answer to a ping.
    Pong,
}

/// What an edge allows a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Bytes of a body, measured as CBOR.
    pub body: usize,
    /// Messages a second in the long run.
    pub rate: u32,
    /// Messages at once.
    pub burst: u32,
    /// Messages that are not answered yet.
    pub unanswered: usize,
}

/// The newest message of a key.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StateEntry {
    /// For `if`: the place of the message that wrote it.
    pub revision: u64,
    /// Who wrote it.
    pub from: String,
    /// When: ms since the Unix epoch.
    pub at: u64,
    /// What it is about.
    pub topic: String,
    /// The value.
    pub body: Body,
}

impl From<&Envelope> for StateEntry {
    fn from(message: &Envelope) -> StateEntry {
        StateEntry {
            revision: message.revision,
            from: message.from.clone(),
            at: message.at,
            topic: message.topic.clone(),
            body: Body::from_bytes(&message.body),
        }
    }
}

/// A message of the room, written at most once per encoding however many members read it.
#[derive(Debug)]
pub struct Event {
    message: Envelope,
    json: OnceLock<Bytes>,
    cbor: OnceLock<Bytes>,
}

#[derive(Serialize)]
struct Ev<'a> {
    t: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    from: &'a str,
    at: u64,
    class: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    body: Body,
}

impl Event {
    /// From the leader of the room's log.
    pub fn new(message: Envelope) -> Event {
        Event {
            message,
            json: OnceLock::new(),
            cbor: OnceLock::new(),
        }
    }

    /// The message.
    pub fn message(&self) -> &Envelope {
        &self.message
    }

    /// What it costs in memory, about: the message, and both encodings.
    pub fn cost(&self) -> usize {
        512 + 3 * self.message.body.len()
    }

    /// As members read it.
    pub fn written(&self, encoding: Encoding) -> &Bytes {
        let written = match encoding {
            Encoding::Json => &self.json,
            Encoding::Cbor => &self.cbor,
        };
        written.get_or_init(|| {
            let message = &self.message;
            encoding.write(&Ev {
                t: "ev",
                seq: (message.class != Class::Ephemeral).then_some(message.seq),
                from: &message.from,
                at: message.at,
                class: message.class.name(),
                topic: &message.topic,
                key: message.key.as_deref(),
                body: Body::from_bytes(&message.body),
            })
        })
    }
}

impl Outgoing {
    /// Writes it.
    pub fn write(&self, encoding: Encoding) -> Bytes {
        encoding.write(self)
    }
}

/// Several events as one message, `evs`, which says how many places among them were left out; one
/// event as itself.
pub fn batch(encoding: Encoding, events: &[Arc<Event>], skipped: u64) -> Bytes {
    if let ([event], 0) = (events, skipped) {
        return event.written(encoding).clone();
    }
    let size: usize = events.iter().map(|e| e.written(encoding).len() + 1).sum();
    let mut out = BytesMut::with_capacity(size + 64);
    match encoding {
        Encoding::Json => {
            out.extend_from_slice(br#"{"t":"evs","#);
            if skipped > 0 {
                out.extend_from_slice(format!(r#""skipped":{skipped},"#).as_bytes());
            }
            out.extend_from_slice(br#""evs":["#);
            for (index, event) in events.iter().enumerate() {
                if index > 0 {
                    out.extend_from_slice(b",");
                }
                out.extend_from_slice(event.written(encoding));
            }
            out.extend_from_slice(b"]}");
        }
        Encoding::Cbor => {
            // RFC 8949 §3: a map of two or three, text "t": text "evs", text "skipped": a number of
            // eight bytes, text "evs": an array that ends by a break (§3.2.1).
            match skipped {
                0 => out.extend_from_slice(b"\xa2\x61t\x63evs"),
                skipped => {
                    out.extend_from_slice(b"\xa3\x61t\x63evs\x67skipped\x1b");
                    out.put_u64(skipped);
                }
            }
            out.extend_from_slice(b"\x63evs\x9f");
            for event in events {
                out.extend_from_slice(event.written(encoding));
            }
            out.extend_from_slice(b"\xff");
        }
    }
    out.freeze()
}

/// A written message as a whole frame of a server's, which is not masked (RFC 6455 §5.2).
pub(in super::super) fn framed(encoding: Encoding, written: &[u8]) -> Bytes {
    const FIN: u8 = 0x80;
    let opcode = match encoding {
        Encoding::Json => 1,
        Encoding::Cbor => 2,
    };
    let mut out = BytesMut::with_capacity(written.len() + 10);
    out.put_u8(FIN | opcode);
    match written.len() {
        len @ 0..126 => out.put_u8(len as u8),
        len @ 126..65_536 => {
            out.put_u8(126);
            out.put_u16(len as u16);
        }
        len => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
    out.extend_from_slice(written);
    out.freeze()
}
