//! The message envelope: what the room log orders (WIRE.md, "Envelope"). Bodies are opaque.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    control::{get_room, put_room},
};
use crate::ids::{RoomName, SessionId};

/// Largest body, in bytes.
pub const MAX_BODY: usize = 16 << 10;
/// Longest topic, in bytes.
pub const MAX_TOPIC: usize = 64;
/// Longest state key, in bytes.
pub const MAX_KEY: usize = 128;
/// Longest member name, in bytes.
pub const MAX_MEMBER: usize = 128;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// Ordered, kept for a while.
    Log = 1,
    /// Ordered; the newest per key is the room's state.
    State = 2,
    /// Not ordered, not kept.
    Ephemeral = 3,
}

impl Class {
    /// The class's name, as users write it.
    pub fn name(self) -> &'static str {
        match self {
            Class::Log => "log",
            Class::State => "state",
            Class::Ephemeral => "ephemeral",
        }
    }
}

/// One message of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The room.
    pub room: RoomName,
    /// The publisher's session.
    pub session: SessionId,
    /// Rises by one a message in a session; makes resending safe.
    pub n: u64,
    /// What becomes of it.
    pub class: Class,
    /// What it is about.
    pub topic: String,
    /// The state's key; a label for [`Class::Ephemeral`]; None for [`Class::Log`].
    pub key: Option<String>,
    /// Only if the key's revision is this (0: only if there is no such key).
    pub expected: Option<u64>,
    /// The key's revision after this message; 0 outside [`Class::State`]. Given by the leader.
    pub revision: u64,
    /// Who wrote it.
    pub from: String,
    /// For whom it is; None: for everybody.
    pub recipient: Option<String>,
    /// The leader's wall clock in ms since the Unix epoch, never decreasing; 0 before ordering.
    pub at: u64,
    /// Its place in the room's order; 0 before ordering and for [`Class::Ephemeral`].
    pub seq: u64,
    /// Opaque; an empty body of [`Class::State`] deletes the key.
    pub body: Bytes,
}

impl Envelope {
    /// Appends the envelope.
    pub fn encode(&self, out: &mut BytesMut) {
        put_room(out, &self.room);
        out.put_slice(&self.session.0);
        out.varint(self.n);
        out.put_u8(self.class as u8);
        out.prefixed(self.topic.as_bytes());
        out.option(self.key.as_ref(), |out, key| out.prefixed(key.as_bytes()));
        out.option(self.expected, Writer::varint);
        out.varint(self.revision);
        out.prefixed(self.from.as_bytes());
        out.option(self.recipient.as_ref(), |out, member| {
            out.prefixed(member.as_bytes())
        });
        out.varint(self.at);
        out.varint(self.seq);
        out.prefixed(&self.body);
    }

    /// Reads an envelope; fields after the known ones are ignored.
    pub fn decode(bytes: Bytes) -> Result<Envelope, Error> {
        let mut r = Reader::new(bytes);
        Ok(Envelope {
            room: get_room(&mut r)?,
            session: SessionId(r.array("session")?),
            n: r.varint("n")?,
            class: match r.u8("class")? {
                1 => Class::Log,
                2 => Class::State,
                3 => Class::Ephemeral,
                value => {
                    return Err(Error::Unknown {
                        what: "class",
                        value: value.into(),
                    });
                }
            },
            topic: r.text("topic", MAX_TOPIC)?,
            key: r.option("key", |r| r.text("key", MAX_KEY))?,
            expected: r.option("expected revision", |r| r.varint("expected revision"))?,
            revision: r.varint("revision")?,
            from: r.text("from", MAX_MEMBER)?,
            recipient: r.option("recipient", |r| r.text("recipient", MAX_MEMBER))?,
            at: r.varint("at")?,
            seq: r.varint("seq")?,
            body: r.bytes("body", MAX_BODY)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::ids::{Room, Tenant};

    fn envelope() -> Envelope {
        Envelope {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("r").unwrap(),
            },
            session: SessionId([0xab; 16]),
            n: 17,
            class: Class::State,
            topic: "hand".into(),
            key: Some("hand/m1".into()),
            expected: Some(0),
            revision: 1,
            from: "m1".into(),
            recipient: None,
            at: 1_000_000,
            seq: 64,
            body: Bytes::from_static(b"true"),
        }
    }

    #[test]
    fn golden_bytes() {
        let mut out = BytesMut::new();
        envelope().encode(&mut out);
        let golden = b"\x07default\x01r\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\xab\x11\x02\x04hand\x01\x07hand/m1\x01\x00\x01\x02m1\x00\x80\x0f\x42\x40\x40\x40\x04true";
        assert_eq!(&out[..], golden);
    }

    #[test]
    fn a_large_body_is_refused_with_the_limit() {
        let mut out = BytesMut::new();
        Envelope {
            body: vec![0; MAX_BODY + 1].into(),
            ..envelope()
        }
        .encode(&mut out);
        let refused = Envelope::decode(out.freeze()).unwrap_err();
        assert_eq!(refused.to_string(), "body is 16385; the limit is 16384");
    }

    proptest! {
        #[test]
        fn envelopes_come_back(
            session: [u8; 16], n in 0u64..1 << 62, class in 1u8..=3, topic in "[ -~]{0,64}", key in option::of("[ -~]{0,128}"),
            expected in option::of(0u64..1 << 62), numbers: [u32; 3], recipient in option::of("[ -~]{0,128}"), body in vec(any::<u8>(), 0..500),
        ) {
            let class = [Class::Log, Class::State, Class::Ephemeral][usize::from(class) - 1];
            let [revision, at, seq] = numbers.map(u64::from);
            let sent = Envelope { session: SessionId(session), n, class, topic, key, expected, revision, recipient, at, seq, body: body.into(), ..envelope() };
            let mut out = BytesMut::new();
            sent.encode(&mut out);
            prop_assert_eq!(Envelope::decode(out.freeze()), Ok(sent));
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
            let _ = Envelope::decode(bytes.into());
        }
    }
}
