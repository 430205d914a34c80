//! A [`Sample`] as the payload of a frame:
//!
//! ```text
//! varint   composition offset in µs, zigzag
//! varint   length of the decoder config, 0 except in a group's first frame
//! bytes    decoder config
//! bytes    sample data, to the end
//! ```
//!
//! The varints are QUIC's (RFC 9000 §16).

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::wire::{Flags, Frame, MAX_FRAME, Priority};

use super::{Kind, Sample};

/// The longest decoder config, in bytes. Real ones have some tens; an avcC of 31 SPS and 255 PPS
/// may be larger, and no encoder writes one.
pub const MAX_CONFIG: usize = 16 * 1024;

/// Largest value of a four-or-eight byte varint (RFC 9000 §16).
const MAX_VARINT: u64 = (1 << 62) - 1;

/// Why a sample does not fit a frame, or a payload is no sample.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The payload would exceed what a frame may hold.
    #[error("{kind} sample takes {len} bytes; the limit of a frame is {MAX_FRAME}")]
    TooLarge {
        /// Of which kind.
        kind: Kind,
        /// How long the payload would be.
        len: usize,
    },
    /// The decoder config is longer than [`MAX_CONFIG`].
    #[error("{kind} decoder config has {len} bytes; the limit is {MAX_CONFIG}")]
    ConfigTooLarge {
        /// Of which kind.
        kind: Kind,
        /// How long it is (or says it is).
        len: u64,
    },
    /// The composition offset does not fit.
    #[error("composition offset {0} µs is out of range")]
    Composition(i64),
    /// The payload ends inside its header.
    #[error("{kind} payload of {len} bytes ends inside its header")]
    Truncated {
        /// Of which kind.
        kind: Kind,
        /// The payload's length.
        len: usize,
    },
}

impl Sample {
    /// The sample as a frame; the payload is newly allocated.
    pub fn to_frame(&self) -> Result<Frame, PayloadError> {
        let config = self.config.as_deref().unwrap_or_default();
        if config.len() > MAX_CONFIG {
            return Err(PayloadError::ConfigTooLarge {
                kind: self.kind,
                len: config.len() as u64,
            });
        }
        let composition = zigzag(self.composition);
        if composition > MAX_VARINT {
            return Err(PayloadError::Composition(self.composition));
        }
        let mut payload = BytesMut::with_capacity(16 + config.len() + self.data.len());
        put_varint(&mut payload, composition);
        put_varint(&mut payload, config.len() as u64);
        payload.put_slice(config);
        payload.put_slice(&self.data);
        if payload.len() > MAX_FRAME {
            return Err(PayloadError::TooLarge {
                kind: self.kind,
                len: payload.len(),
            });
        }
        Ok(Frame {
            timestamp: self.timestamp,
            flags: Flags {
                key: self.key,
                discardable: self.discardable,
                replay: false,
                layer: 0,
            },
            priority: match self.kind {
                Kind::Audio => Priority::Realtime,
                Kind::Video if self.key => Priority::VideoKey,
                Kind::Video => Priority::VideoDelta,
            },
            payload: payload.freeze(),
        })
    }

    /// The sample a frame of a track of this kind carries; config and data are slices of the
    /// frame's payload, not copies.
    pub fn from_frame(kind: Kind, frame: &Frame) -> Result<Sample, PayloadError> {
        let truncated = PayloadError::Truncated {
            kind,
            len: frame.payload.len(),
        };
        let mut at = 0;
        let mut varint = || {
            let (value, len) = get_varint(&frame.payload[at..]).ok_or(truncated.clone())?;
            at += len;
            Ok(value)
        };
        let composition = unzigzag(varint()?);
        let config_len = varint()?;
        if config_len > MAX_CONFIG as u64 {
            return Err(PayloadError::ConfigTooLarge {
                kind,
                len: config_len,
            });
        }
        let end = at + config_len as usize;
        if end > frame.payload.len() {
            return Err(truncated);
        }
        Ok(Sample {
            kind,
            timestamp: frame.timestamp,
            composition,
            key: frame.flags.key,
            discardable: frame.flags.discardable,
            config: (config_len > 0).then(|| frame.payload.slice(at..end)),
            data: frame.payload.slice(end..),
        })
    }
}

fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

fn unzigzag(v: u64) -> i64 {
    (v >> 1) as i64 ^ -((v & 1) as i64)
}

fn put_varint(out: &mut BytesMut, v: u64) {
    match v {
        0..=0x3f => out.put_u8(v as u8),
        0x40..=0x3fff => out.put_u16(0x4000 | v as u16),
        0x4000..=0x3fff_ffff => out.put_u32(0x8000_0000 | v as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | v),
    }
}

/// The value and its length, if it is all there.
fn get_varint(input: &[u8]) -> Option<(u64, usize)> {
    let len = 1 << (input.first()? >> 6);
    let bytes = input.get(..len)?;
    let value = bytes[1..]
        .iter()
        .fold(u64::from(bytes[0] & 0x3f), |v, b| v << 8 | u64::from(*b));
    Some((value, len))
}

/// An empty `Bytes` would say "config of length 0", which the payload cannot: there is none then.
impl Sample {
    /// Attaches a decoder config; an empty one is none.
    pub fn with_config(mut self, config: Bytes) -> Sample {
        self.config = (!config.is_empty()).then_some(config);
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn video(composition: i64, config: Option<&'static [u8]>, data: &'static [u8]) -> Sample {
        Sample {
            kind: Kind::Video,
            timestamp: 1_000_000,
            composition,
            key: true,
            discardable: false,
            config: config.map(Bytes::from_static),
            data: Bytes::from_static(data),
        }
    }

    #[test]
    fn golden() {
        let frame = video(80_000, Some(&[1, 0x64]), &[0, 0, 0, 1, 0x65])
            .to_frame()
            .unwrap();
        // 80,000 zigzag is 160,000 = 0x27100: a four-byte varint.
        assert_eq!(
            &frame.payload[..],
            [0x80, 0x02, 0x71, 0x00, 2, 1, 0x64, 0, 0, 0, 1, 0x65]
        );
        assert_eq!(frame.priority, Priority::VideoKey);
        let frame = video(-1, None, &[7]).to_frame().unwrap();
        assert_eq!(&frame.payload[..], [1, 0, 7]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut big = video(0, None, &[]);
        big.data = vec![0; MAX_FRAME].into();
        assert_eq!(
            big.to_frame(),
            Err(PayloadError::TooLarge {
                kind: Kind::Video,
                len: MAX_FRAME + 2
            })
        );
        big.data = big.data.slice(2..);
        assert!(big.to_frame().is_ok());
        assert_eq!(
            video(i64::MAX, None, &[]).to_frame(),
            Err(PayloadError::Composition(i64::MAX))
        );
    }

    #[test]
    fn refuses_a_config_beyond_the_payload() {
        let frame = |payload: &'static [u8]| Frame {
            payload: Bytes::from_static(payload),
            ..video(0, None, &[]).to_frame().unwrap()
        };
        for payload in [&[][..], &[0], &[0, 3, 1, 2], &[0x80, 0]] {
            assert_eq!(
                Sample::from_frame(Kind::Video, &frame(payload)),
                Err(PayloadError::Truncated {
                    kind: Kind::Video,
                    len: payload.len()
                })
            );
        }
    }

    proptest! {
        #[test]
        fn round_trip(
            timestamp: u64,
            composition in -(1i64 << 60)..(1i64 << 60),
            video: bool,
            key: bool,
            discardable: bool,
            config in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..99)),
            data in proptest::collection::vec(any::<u8>(), 0..999),
        ) {
            let sample = Sample {
                kind: if video { Kind::Video } else { Kind::Audio },
                timestamp, composition, key, discardable,
                config: config.map(Bytes::from),
                data: data.into(),
            };
            let frame = sample.to_frame().unwrap();
            prop_assert_eq!(Sample::from_frame(sample.kind, &frame).unwrap(), sample);
        }

        #[test]
        fn garbage_never_panics(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut frame = video(0, None, &[]).to_frame().unwrap();
            frame.payload = payload.into();
            let _ = Sample::from_frame(Kind::Audio, &frame);
        }
    }
}
