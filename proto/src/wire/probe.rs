//! Probes: what neighbours say beside QUIC, on the same UDP sockets, to measure a link (WIRE.md,
//! "Probes").

use std::time::Duration;

use aws_lc_rs::hmac;
use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Error, Reader};
use crate::{ids::BootId, time::Time};

/// First byte of a probe: QUIC's fixed bit (0x40, RFC 9000 §17.2) is clear, so no QUIC packet of
/// ours begins with it.
pub const FIRST_BYTE: u8 = 0x2a;
/// Length of the truncated HMAC-SHA256 tag, in bytes.
pub const TAG_LEN: usize = 8;
/// Length of a probe, in bytes.
pub const LEN: usize = 1 + 8 + 4 + 8 + 1 + 4 + 8 + 4 + 4 + 2 + TAG_LEN;
/// Label under which the key is exported from the TLS session (RFC 8446 §7.5).
pub const EXPORT_LABEL: &[u8] = b"EXPORTER-longspan-probe";

/// Flag: the echo was heard; without it its fields are 0.
const HEARD: u8 = 1 << 0;
/// Flag: an answer is wanted at once.
const ANSWER: u8 = 1 << 1;

/// The key of one session; both ends export the same (see [`Probe::decode`]).
#[derive(Debug, Clone)]
pub struct Key(hmac::Key);

impl Key {
    /// From exported key material.
    pub fn new(secret: &[u8; 32]) -> Key {
        Key(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }
}

/// The last probe that was heard from the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Its number.
    pub seq: u32,
    /// Its send time, by the other side's clock.
    pub sent: Time,
    /// How long ago it came, in µs.
    pub held_us: u32,
}

/// One probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Tells the sender's restarts apart.
    pub boot: BootId,
    /// Rises by one a probe.
    pub seq: u32,
    /// The sender's clock.
    pub sent: Time,
    /// The newest probe heard; None before the first.
    pub echo: Option<Echo>,
    /// How many probes of the other side were heard since the session began: with the sender's
    /// own count this gives the loss of the direction towards the sender.
    pub heard: u32,
    /// The sender's next probe leaves at the latest so many ms after this one: so that the
    /// receiver knows when silence begins, whatever the sender's cadence is now.
    pub next_ms: u16,
    /// The sender wants a probe back at once. One that is sent for this reason alone does not
    /// ask for an answer itself.
    pub answer: bool,
}

/// Whether a datagram is a probe and not QUIC's.
pub fn is_probe(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|byte| byte & 0x40 == 0)
}

impl Probe {
    /// See [`Probe::next_ms`].
    pub fn next(&self) -> Duration {
        Duration::from_millis(self.next_ms.into())
    }

    /// The datagram.
    pub fn encode(&self, key: &Key) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u8(FIRST_BYTE);
        out.put_u64(self.boot.0);
        out.put_u32(self.seq);
        out.put_u64(self.sent.as_micros());
        let heard = if self.echo.is_some() { HEARD } else { 0 };
        let answer = if self.answer { ANSWER } else { 0 };
        out.put_u8(heard | answer);
        let echo = self.echo.unwrap_or(Echo {
            seq: 0,
            sent: Time::ZERO,
            held_us: 0,
        });
        out.put_u32(echo.seq);
        out.put_u64(echo.sent.as_micros());
        out.put_u32(echo.held_us);
        out.put_u32(self.heard);
        out.put_u16(self.next_ms);
        let tag = hmac::sign(&key.0, &out);
        out.put_slice(&tag.as_ref()[..TAG_LEN]);
        out.freeze()
    }

    /// Reads and checks a datagram. Both directions share the key, so that a probe can be thrown
    /// back or repeated: the caller drops one whose boot id is not the peer's, and counts none
    /// twice whose number is not newer than the newest.
    pub fn decode(datagram: &[u8], key: &Key) -> Result<Probe, Error> {
        if datagram.len() != LEN {
            let value = datagram.len() as u64;
            return Err(Error::Unknown {
                what: "probe length",
                value,
            });
        }
        let (body, tag) = datagram.split_at(LEN - TAG_LEN);
        let expected = hmac::sign(&key.0, body);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.as_ref()[..TAG_LEN], tag)
            .map_err(|_| Error::Forged {
                what: "probe's tag",
            })?;
        let mut r = Reader::new(Bytes::copy_from_slice(body));
        match r.u8("first byte")? {
            FIRST_BYTE => {}
            value => {
                return Err(Error::Unknown {
                    what: "first byte",
                    value: value.into(),
                });
            }
        }
        let boot = BootId(u64::from_be_bytes(r.array("boot")?));
        let seq = u32::from_be_bytes(r.array("seq")?);
        let sent = Time::from_micros(u64::from_be_bytes(r.array("sent")?));
        let flags = r.u8("flags")?;
        let echo = Echo {
            seq: u32::from_be_bytes(r.array("echoed seq")?),
            sent: Time::from_micros(u64::from_be_bytes(r.array("echoed time")?)),
            held_us: u32::from_be_bytes(r.array("held")?),
        };
        let heard = u32::from_be_bytes(r.array("heard")?);
        let next_ms = u16::from_be_bytes(r.array("next")?);
        Ok(Probe {
            boot,
            seq,
            sent,
            echo: (flags & HEARD != 0).then_some(echo),
            heard,
            next_ms,
            answer: flags & ANSWER != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn golden_bytes() {
        let probe = Probe {
            boot: BootId(0x0102_0304_0506_0708),
            seq: 9,
            sent: Time::from_micros(1_000_000),
            echo: Some(Echo {
                seq: 8,
                sent: Time::from_micros(2_000_000),
                held_us: 500,
            }),
            heard: 7,
            next_ms: 25,
            answer: true,
        };
        let bytes = probe.encode(&Key::new(&KEY));
        let body = b"\x2a\x01\x02\x03\x04\x05\x06\x07\x08\x00\x00\x00\x09\x00\x00\x00\x00\x00\x0f\x42\x40\x03\x00\x00\x00\x08\x00\x00\x00\x00\x00\x1e\x84\x80\x00\x00\x01\xf4\x00\x00\x00\x07\x00\x19";
        assert_eq!(&bytes[..LEN - TAG_LEN], body);
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), body);
        assert_eq!(&bytes[LEN - TAG_LEN..], &tag.as_ref()[..TAG_LEN]);
        assert!(is_probe(&bytes));
    }

    #[test]
    fn another_key_or_a_changed_byte_is_refused() {
        let probe = Probe {
            boot: BootId(1),
            seq: 1,
            sent: Time::ZERO,
            echo: None,
            heard: 0,
            next_ms: 1_000,
            answer: false,
        };
        let good = probe.encode(&Key::new(&KEY));
        assert_eq!(Probe::decode(&good, &Key::new(&KEY)), Ok(probe));
        let forged = Error::Forged {
            what: "probe's tag",
        };
        assert_eq!(
            Probe::decode(&good, &Key::new(&[8; 32])),
            Err(forged.clone())
        );
        for at in 0..LEN {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert_eq!(
                Probe::decode(&bad, &Key::new(&KEY)),
                Err(forged.clone()),
                "byte {at}"
            );
        }
    }

    proptest! {
        #[test]
        fn probes_come_back(boot: u64, seq: u32, sent: u64, echo in proptest::option::of(any::<(u32, u64, u32)>()), heard: u32, next_ms: u16, answer: bool) {
            let echo = echo.map(|(seq, sent, held_us)| Echo { seq, sent: Time::from_micros(sent), held_us });
            let probe = Probe { boot: BootId(boot), seq, sent: Time::from_micros(sent), echo, heard, next_ms, answer };
            let key = Key::new(&KEY);
            prop_assert_eq!(Probe::decode(&probe.encode(&key), &key), Ok(probe));
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Probe::decode(&bytes, &Key::new(&KEY));
        }
    }
}
