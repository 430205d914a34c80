//! AAC (ISO/IEC 14496-3): what a gateway must know of it.

use super::bits::Bits;

/// Why a decoder config is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("AudioSpecificConfig of {0} bytes is cut short")]
    Truncated(usize),
    /// An audio object type that is no AAC.
    #[error("audio object type {0} is not AAC")]
    ObjectType(u32),
    /// A reserved sampling frequency.
    #[error("sampling frequency index {0} is reserved")]
    Rate(u32),
    /// A reserved channel configuration.
    #[error("channel configuration {0} is reserved")]
    Channels(u32),
}

/// What an AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1) says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// 2: AAC-LC; 5: with SBR (HE-AAC); 29: with PS too (HE-AAC v2).
    pub object_type: u8,
    /// Decoded samples a second; with SBR the doubled rate.
    pub sample_rate: u32,
    /// Decoded channels; 0 where only the stream tells (a program config element).
    pub channels: u8,
    /// How long one frame plays, in decoded samples of the core codec.
    pub frame_samples: u32,
    /// The core codec's rate: `sample_rate` without SBR, mostly half of it with.
    pub core_rate: u32,
}

const LC: u32 = 2;
const SBR: u32 = 5;
const ER_BSAC: u32 = 22;
const PS: u32 = 29;
const ESCAPE: u32 = 31;

/// §1.6.3.4, Table 1.18.
const RATES: [u32; 13] = [
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
];

impl Config {
    /// Reads an AudioSpecificConfig.
    pub fn parse(config: &[u8]) -> Result<Config, Error> {
        let mut bits = Bits::new(config);
        let truncated = Error::Truncated(config.len());
        let mut object_type = object_type(&mut bits).ok_or(truncated)?;
        let core_rate = rate(&mut bits).ok_or(truncated)??;
        let channels = bits.bits(4).ok_or(truncated)?;
        let mut sample_rate = core_rate;
        let mut core_type = object_type;
        if matches!(object_type, SBR | PS) {
            // Explicit signalling, hierarchical (§1.6.6.1).
            sample_rate = rate(&mut bits).ok_or(truncated)??;
            core_type = self::object_type(&mut bits).ok_or(truncated)?;
            if core_type == ER_BSAC {
                return Err(Error::ObjectType(core_type));
            }
        }
        // 1: Main, 2: LC, 3: SSR, 4: LTP; 17, 19, 23, 39 their error-resilient and low-delay kin.
        if !matches!(core_type, 1..=4 | 17 | 19 | 23 | 39) {
            return Err(Error::ObjectType(core_type));
        }
        let short_frame = bits.flag().ok_or(truncated)?;
        if !matches!(object_type, SBR | PS)
            && let Some(extended) = backward_compatible_sbr(&mut bits, core_type)
        {
            (object_type, sample_rate) = extended;
        }
        let channels = match channels {
            0..=6 => channels as u8,
            7 | 12 | 14 => 8,
            11 => 7,
            other => return Err(Error::Channels(other)),
        };
        Ok(Config {
            object_type: object_type as u8,
            sample_rate,
            // PS makes stereo of a mono core.
            channels: if object_type == PS { 2 } else { channels },
            frame_samples: match (core_type, short_frame) {
                (23 | 39, false) => 512,
                (23 | 39, true) => 480,
                (_, false) => 1_024,
                (_, true) => 960,
            },
            core_rate,
        })
    }

    /// As in RFC 6381 §3.3: `mp4a.40.N`.
    pub fn codec(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }

    /// How long one frame plays, in µs.
    pub fn frame_duration(&self) -> u64 {
        u64::from(self.frame_samples) * 1_000_000 / u64::from(self.core_rate)
    }
}

fn object_type(bits: &mut Bits<'_>) -> Option<u32> {
    match bits.bits(5)? {
        ESCAPE => Some(32 + bits.bits(6)?),
        object_type => Some(object_type),
    }
}

/// The outer `None` at the end of the bits.
fn rate(bits: &mut Bits<'_>) -> Option<Result<u32, Error>> {
    const EXPLICIT: u32 = 15;
    let index = bits.bits(4)?;
    if index == EXPLICIT {
        let rate = bits.bits(24)?;
        return Some(if rate == 0 {
            Err(Error::Rate(index))
        } else {
            Ok(rate)
        });
    }
    Some(RATES.get(index as usize).copied().ok_or(Error::Rate(index)))
}

/// SBR told behind an AAC-LC config that old decoders read no further (§1.6.6.2): the object
/// type and the rate.
fn backward_compatible_sbr(bits: &mut Bits<'_>, core_type: u32) -> Option<(u32, u32)> {
    const SYNC_SBR: u32 = 0x2b7;
    const SYNC_PS: u32 = 0x548;
    if core_type != LC {
        return None;
    }
    if bits.flag()? {
        bits.bits(14)?; // core coder delay
    }
    bits.bit()?; // extension flag
    if bits.bits(11)? != SYNC_SBR || object_type(bits)? != SBR || !bits.flag()? {
        return None;
    }
    let rate = rate(bits)?.ok()?;
    let ps = bits.bits(11) == Some(SYNC_PS) && bits.flag() == Some(true);
    Some((if ps { PS } else { SBR }, rate))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(config: &[u8]) -> (String, u32, u8, u32) {
        let config = Config::parse(config).unwrap();
        (
            config.codec(),
            config.sample_rate,
            config.channels,
            config.core_rate,
        )
    }

    #[test]
    fn golden() {
        let lc = |rate, channels| ("mp4a.40.2".to_owned(), rate, channels, rate);
        assert_eq!(parsed(&[0x12, 0x10]), lc(44_100, 2));
        assert_eq!(parsed(&[0x11, 0x88]), lc(48_000, 1));
        // ffmpeg's, with an SBR extension that says there is none.
        assert_eq!(parsed(&[0x12, 0x10, 0x56, 0xe5, 0x00]), lc(44_100, 2));
        // An explicit rate of 37,800.
        assert_eq!(parsed(&[0x17, 0x80, 0x49, 0xd4, 0x10]), lc(37_800, 2));
        // HE-AAC, hierarchical and backward compatible; HE-AAC v2.
        assert_eq!(
            parsed(&[0x2b, 0x11, 0x88, 0x00]),
            ("mp4a.40.5".into(), 48_000, 2, 24_000)
        );
        assert_eq!(
            parsed(&[0x13, 0x10, 0x56, 0xe5, 0x98]),
            ("mp4a.40.5".into(), 48_000, 2, 24_000)
        );
        assert_eq!(
            parsed(&[0xeb, 0x09, 0x88, 0x00]),
            ("mp4a.40.29".into(), 48_000, 2, 24_000)
        );
    }

    #[test]
    fn frame_duration() {
        let config = Config::parse(&[0x12, 0x10]).unwrap();
        assert_eq!(config.frame_duration(), 23_219);
    }

    #[test]
    fn refuses() {
        assert_eq!(Config::parse(&[0x12]), Err(Error::Truncated(1)));
        assert_eq!(Config::parse(&[0x02, 0x10]), Err(Error::ObjectType(0)));
        assert_eq!(Config::parse(&[0x16, 0x90]), Err(Error::Rate(13)));
        assert_eq!(Config::parse(&[0x12, 0x78]), Err(Error::Channels(15)));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(config in proptest::collection::vec(any::<u8>(), 0..12)) {
            if let Ok(config) = Config::parse(&config) {
                config.frame_duration();
            }
        }
    }
}
