//! Whom an edge has of a room: how a room's log learns who is there (WIRE.md, "Room calls").

use bytes::{BufMut, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    envelope::MAX_MEMBER,
};
use crate::ids::SessionId;

/// The topic of what a room's log says of presence; also the key of its summary, and before a
/// `/` the first part of its members' keys.
pub const TOPIC: &str = "presence";
/// Names in a roster, at most.
pub const MAX_NAMES: usize = 500;
/// Bytes of all names in a roster, at most: with the rest it fits an entry of a group's log.
pub const MAX_NAMES_BYTES: usize = 16 << 10;

/// One edge's members of one room. Declares, not changes: the newest version is the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roster {
    /// The edge's own session in the room; drawn at random when it begins to serve the room.
    pub session: SessionId,
    /// Rises with each roster of the session, from 1.
    pub version: u64,
    /// Whether `names` are all of them.
    pub whole: bool,
    /// How many members there are; 0 ends the session's part in the room.
    pub count: u64,
    /// How many came since the session began.
    pub joins: u64,
    /// How many left.
    pub leaves: u64,
    /// Their names, each once; if not whole, a sample.
    pub names: Vec<String>,
}

impl Roster {
    /// Appends the roster.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.session.0);
        out.varint(self.version);
        out.put_u8(u8::from(self.whole));
        out.varint(self.count);
        out.varint(self.joins);
        out.varint(self.leaves);
        out.varint(self.names.len() as u64);
        for name in &self.names {
            out.prefixed(name.as_bytes());
        }
    }

    /// Reads a roster that is within its limits.
    pub fn decode(r: &mut Reader) -> Result<Roster, Error> {
        let session = SessionId(r.array("session")?);
        let version = r.varint("version")?;
        let whole = match r.u8("whole")? {
            0 => false,
            1 => true,
            value => {
                return Err(Error::Unknown {
                    what: "whole",
                    value: value.into(),
                });
            }
        };
        let (count, joins, leaves) = (r.varint("count")?, r.varint("joins")?, r.varint("leaves")?);
        let mut names = Vec::new();
        let mut bytes = 0;
        for _ in 0..r.varint_up_to("names", MAX_NAMES as u64)? {
            let name = r.text("name", MAX_MEMBER)?;
            bytes += name.len();
            if bytes > MAX_NAMES_BYTES {
                return Err(Error::Limit {
                    what: "names' bytes",
                    value: bytes as u64,
                    limit: MAX_NAMES_BYTES as u64,
                });
            }
            names.push(name);
        }
        Ok(Roster {
            session,
            version,
            whole,
            count,
            joins,
            leaves,
            names,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn roster(names: Vec<String>) -> Roster {
        Roster {
            session: SessionId([0xab; 16]),
            version: 3,
            whole: true,
            count: names.len() as u64,
            joins: 70,
            leaves: 5,
            names,
        }
    }

    fn bytes(roster: &Roster) -> BytesMut {
        let mut out = BytesMut::new();
        roster.encode(&mut out);
        out
    }

    fn read(bytes: BytesMut) -> Result<Roster, Error> {
        Roster::decode(&mut Reader::new(bytes.freeze()))
    }

    #[test]
    fn golden_bytes() {
        let roster = roster(vec!["anna".into(), "m-1".into()]);
        let want = [
            &[0xab; 16][..],
            b"\x03\x01\x02\x40\x46\x05\x02\x04anna\x03m-1",
        ]
        .concat();
        assert_eq!(bytes(&roster), want);
    }

    #[test]
    fn names_are_bounded_in_number_and_bytes() {
        let of = |count, len: usize| read(bytes(&roster(vec!["n".repeat(len); count])));
        assert!(of(MAX_NAMES, 32).is_ok());
        assert_eq!(
            of(MAX_NAMES + 1, 1).unwrap_err().to_string(),
            "names is 501; the limit is 500"
        );
        assert!(of(128, MAX_MEMBER).is_ok());
        assert_eq!(
            of(129, MAX_MEMBER).unwrap_err().to_string(),
            "names' bytes is 16512; the limit is 16384"
        );
    }

    proptest! {
        #[test]
        fn rosters_come_back(session: [u8; 16], numbers: [u32; 4], whole: bool, names in vec("[ -~]{0,20}", 0..9)) {
            let [version, count, joins, leaves] = numbers.map(u64::from);
            let sent = Roster { session: SessionId(session), version, whole, count, joins, leaves, names };
            prop_assert_eq!(read(bytes(&sent)), Ok(sent));
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(BytesMut::from(&bytes[..]));
        }
    }
}
