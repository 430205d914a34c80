//! Fragments: frames cut into datagrams for long lossy links (WIRE.md, "Fragments"; specified,
//! sent by no node yet).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    codec::{Error, Reader, Writer},
    frame::MAX_FRAME,
};

/// The type of a datagram that carries a fragment.
pub const FRAGMENT_DATAGRAM: u64 = 3;
/// Payload bytes in every fragment but a frame's last, network-wide: no hop cuts again.
pub const FRAGMENT_LEN: usize = 1_100;
/// Most fragments of a frame.
pub const MAX_FRAGMENTS: usize = MAX_FRAME.div_ceil(FRAGMENT_LEN);

/// One piece of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// The subscription it answers.
    pub subscription: u64,
    /// The group.
    pub group: u64,
    /// The frame in the group.
    pub frame: u64,
    /// Which piece, from 0.
    pub index: u16,
    /// How many pieces the frame has.
    pub count: u16,
    /// [`FRAGMENT_LEN`] bytes; fewer in the last piece. The first piece begins with the frame's
    /// header.
    pub payload: Bytes,
}

impl Fragment {
    /// Appends the datagram.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(FRAGMENT_DATAGRAM);
        out.varint(self.subscription);
        out.varint(self.group);
        out.varint(self.frame);
        out.put_u16(self.index);
        out.put_u16(self.count);
        out.put_slice(&self.payload);
    }

    /// Reads a datagram.
    pub fn decode(datagram: Bytes) -> Result<Fragment, Error> {
        let mut r = Reader::new(datagram);
        match r.varint("datagram type")? {
            FRAGMENT_DATAGRAM => {}
            value => {
                return Err(Error::Unknown {
                    what: "datagram type",
                    value,
                });
            }
        }
        let (subscription, group, frame) = (
            r.varint("subscription")?,
            r.varint("group")?,
            r.varint("frame")?,
        );
        let index = u16::from_be_bytes(r.array("fragment index")?);
        let count = u16::from_be_bytes(r.array("fragment count")?);
        let payload = r.rest();
        if usize::from(count) > MAX_FRAGMENTS {
            return Err(Error::Limit {
                what: "fragment count",
                value: count.into(),
                limit: MAX_FRAGMENTS as u64,
            });
        }
        if index >= count {
            return Err(Error::Limit {
                what: "fragment index",
                value: index.into(),
                limit: u64::from(count).saturating_sub(1),
            });
        }
        let whole = payload.len() == FRAGMENT_LEN;
        if !whole && (index + 1 < count || payload.len() > FRAGMENT_LEN) {
            return Err(Error::Unknown {
                what: "fragment length",
                value: payload.len() as u64,
            });
        }
        Ok(Fragment {
            subscription,
            group,
            frame,
            index,
            count,
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn fragment(index: u16, count: u16, payload: Vec<u8>) -> Fragment {
        Fragment {
            subscription: 5,
            group: 64,
            frame: 3,
            index,
            count,
            payload: payload.into(),
        }
    }

    fn encoded(fragment: &Fragment) -> Bytes {
        let mut out = BytesMut::new();
        fragment.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn golden_bytes() {
        assert_eq!(
            &encoded(&fragment(1, 2, b"end".to_vec()))[..],
            b"\x03\x05\x40\x40\x03\x00\x01\x00\x02end"
        );
    }

    #[test]
    fn pieces_that_cannot_be_are_refused() {
        let refused = |index, count, len| {
            Fragment::decode(encoded(&fragment(index, count, vec![0; len])))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(refused(2, 2, 1), "fragment index is 2; the limit is 1");
        assert_eq!(refused(0, 2, 1_099), "fragment length 1099 is not known");
        assert_eq!(refused(1, 2, 1_101), "fragment length 1101 is not known");
        assert_eq!(
            refused(0, 1_000, 1_100),
            "fragment count is 1000; the limit is 954"
        );
    }

    proptest! {
        #[test]
        fn fragments_come_back(count in 1u16..=954, at in 0.0f64..1.0, last in vec(any::<u8>(), 0..=FRAGMENT_LEN)) {
            let index = (f64::from(count) * at) as u16;
            let payload = if index + 1 == count { last } else { vec![9; FRAGMENT_LEN] };
            let fragment = fragment(index, count, payload);
            prop_assert_eq!(Fragment::decode(encoded(&fragment)), Ok(fragment));
        }

        #[test]
        fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..1_200)) {
            let _ = Fragment::decode(bytes.into());
        }
    }
}
