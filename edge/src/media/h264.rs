//! H.264 (ITU-T H.264, ISO/IEC 14496-15): what a gateway must know of it.

use super::bits::Bits;

/// The largest picture we describe, in pixels a side: level 6.2 allows 16,384.
const MAX_SIDE: u32 = 16_384;

/// Why a decoder config is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends too early.
    #[error("avcC of {0} bytes is cut short")]
    Truncated(usize),
    /// Not version 1; an encoder that sends Annex B start codes shows here.
    #[error("avcC version {0} is not 1")]
    Version(u8),
    /// No sequence parameter set in it.
    #[error("avcC holds no sequence parameter set")]
    NoSps,
    /// The sequence parameter set cannot be read.
    #[error("sequence parameter set cannot be read")]
    Sps,
    /// The picture has no area, or too much.
    #[error("picture of {width}x{height} is not between 1 and {MAX_SIDE} a side")]
    Size {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

/// What an avcC record (ISO/IEC 14496-15 §5.3.3.1) says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `profile_idc`, constraint flags, `level_idc`.
    pub profile: [u8; 3],
    /// How many bytes the length before each NAL unit has.
    pub length_size: usize,
    /// Shown width in pixels, cropping applied.
    pub width: u32,
    /// Shown height in pixels, cropping applied.
    pub height: u32,
    /// Pictures may be shown in another order than they are decoded (B-frames).
    pub reorders: bool,
}

impl Config {
    /// Reads an avcC record.
    pub fn parse(avcc: &[u8]) -> Result<Config, Error> {
        let truncated = Error::Truncated(avcc.len());
        let [version, p0, p1, p2, lengths, sps_count, sets @ ..] = avcc else {
            return Err(truncated);
        };
        if *version != 1 {
            return Err(Error::Version(*version));
        }
        if sps_count & 0x1f == 0 {
            return Err(Error::NoSps);
        }
        let (len, sets) = sets.split_first_chunk::<2>().ok_or(truncated.clone())?;
        let sps = sets
            .get(..usize::from(u16::from_be_bytes(*len)))
            .ok_or(truncated)?;
        let sps = Sps::parse(sps).ok_or(Error::Sps)?;
        let sides = 1..=MAX_SIDE;
        if !sides.contains(&sps.width) || !sides.contains(&sps.height) {
            return Err(Error::Size {
                width: sps.width,
                height: sps.height,
            });
        }
        Ok(Config {
            profile: [*p0, *p1, *p2],
            length_size: usize::from(lengths & 3) + 1,
            width: sps.width,
            height: sps.height,
            reorders: sps.reorders,
        })
    }

    /// As in RFC 6381 §3.3: `avc1.PPCCLL`.
    pub fn codec(&self) -> String {
        let [p, c, l] = self.profile;
        format!("avc1.{p:02x}{c:02x}{l:02x}")
    }

    /// Whether no other picture depends on this one: all its slices have `nal_ref_idc` 0
    /// (H.264 §7.4.1). What cannot be read is taken to matter.
    pub fn is_discardable(&self, data: &[u8]) -> bool {
        let mut left = data;
        let mut slices = 0;
        while !left.is_empty() {
            let Some((len, rest)) = left.split_at_checked(self.length_size) else {
                return false;
            };
            let len = len.iter().fold(0, |v, b| v << 8 | usize::from(*b));
            let Some((nal, rest)) = rest.split_at_checked(len) else {
                return false;
            };
            left = rest;
            match nal.first() {
                Some(header) if (1..=5).contains(&(header & 0x1f)) => {
                    if header >> 5 & 3 != 0 {
                        return false;
                    }
                    slices += 1;
                }
                _ => {}
            }
        }
        slices > 0
    }
}

/// What we need of a sequence parameter set (H.264 §7.3.2.1.1).
struct Sps {
    width: u32,
    height: u32,
    reorders: bool,
}

impl Sps {
    fn parse(nal: &[u8]) -> Option<Sps> {
        const SPS: u8 = 7;
        let (header, payload) = nal.split_first()?;
        if header & 0x1f != SPS {
            return None;
        }
        let rbsp = unescape(payload);
        let mut bits = Bits::new(&rbsp);
        let profile = bits.bits(8)?;
        bits.bits(16)?; // constraint flags and level
        bits.ue()?; // id
        let mut chroma = 1;
        // §7.3.2.1.1: the profiles that write their chroma format.
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma = bits.ue()?;
            if chroma > 3 {
                return None;
            }
            if chroma == 3 && bits.flag()? {
                chroma = 0; // separate planes: cropped as monochrome is
            }
            bits.ue()?; // bit depth of luma
            bits.ue()?; // bit depth of chroma
            bits.bit()?; // lossless
            if bits.flag()? {
                let lists = if chroma == 3 { 12 } else { 8 };
                for list in 0..lists {
                    if bits.flag()? {
                        skip_scaling_list(&mut bits, if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.ue()?; // frame number's bits
        let order = bits.ue()?;
        match order {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.bit()?;
                bits.se()?;
                bits.se()?;
                for _ in 0..bits.ue()?.min(255) {
                    bits.se()?;
                }
            }
            _ => {}
        }
        bits.ue()?; // reference frames
        bits.bit()?; // gaps allowed
        let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
        let map_height = bits.ue()?.checked_add(1)?.checked_mul(16)?;
        let frames_only = bits.bit()?;
        if frames_only == 0 {
            bits.bit()?; // adaptive
        }
        let height = map_height.checked_mul(2 - frames_only)?;
        bits.bit()?; // direct 8x8 inference
        let (mut crop_x, mut crop_y) = (0, 0);
        if bits.flag()? {
            // §7.4.2.1.1, CropUnitX and CropUnitY.
            let unit_x: u32 = if matches!(chroma, 1 | 2) { 2 } else { 1 };
            let unit_y = (if chroma == 1 { 2 } else { 1 }) * (2 - frames_only);
            crop_x = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
            crop_y = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?;
        }
        // Without the hint: order type 2 shows pictures as decoded, and baseline has no B slices.
        const BASELINE: u32 = 66;
        let may_reorder = order != 2 && profile != BASELINE;
        let reorders = if bits.flag()? {
            match reorder_hint(&mut bits) {
                Some(Some(frames)) => frames > 0,
                Some(None) | None => may_reorder,
            }
        } else {
            may_reorder
        };
        Some(Sps {
            width: width.checked_sub(crop_x)?,
            height: height.checked_sub(crop_y)?,
            reorders,
        })
    }
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: usize) -> Option<()> {
    let (mut last, mut next) = (8, 8);
    for _ in 0..size {
        if next != 0 {
            next = i32::wrapping_add(last, bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// `max_num_reorder_frames` of the VUI (H.264 §E.1.1): the outer `None` where the VUI is cut
/// short, the inner where it does not say.
fn reorder_hint(bits: &mut Bits<'_>) -> Option<Option<u32>> {
    const EXTENDED_SAR: u32 = 255;
    if bits.flag()? && bits.bits(8)? == EXTENDED_SAR {
        bits.bits(32)?;
    }
    if bits.flag()? {
        bits.bit()?; // overscan
    }
    if bits.flag()? {
        bits.bits(4)?; // video format, full range
        if bits.flag()? {
            bits.bits(24)?; // colours
        }
    }
    if bits.flag()? {
        bits.ue()?; // chroma location
        bits.ue()?;
    }
    if bits.flag()? {
        bits.bits(32)?; // timing
        bits.bits(32)?;
        bits.bit()?;
    }
    let nal_hrd = bits.flag()?;
    if nal_hrd {
        skip_hrd(bits)?;
    }
    let vcl_hrd = bits.flag()?;
    if vcl_hrd {
        skip_hrd(bits)?;
    }
    if nal_hrd || vcl_hrd {
        bits.bit()?; // low delay
    }
    bits.bit()?; // pic_struct
    if !bits.flag()? {
        return Some(None);
    }
    bits.bit()?; // motion vectors over picture boundaries
    for _ in 0..4 {
        bits.ue()?; // sizes and motion vector lengths
    }
    Some(Some(bits.ue()?))
}

fn skip_hrd(bits: &mut Bits<'_>) -> Option<()> {
    let count = bits.ue()?;
    bits.bits(8)?;
    for _ in 0..=count.min(31) {
        bits.ue()?;
        bits.ue()?;
        bits.bit()?;
    }
    bits.bits(20)?;
    Some(())
}

/// Removes emulation prevention bytes (H.264 §7.4.1): 00 00 03 becomes 00 00.
fn unescape(payload: &[u8]) -> Vec<u8> {
    let mut rbsp = Vec::with_capacity(payload.len());
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        rbsp.push(byte);
    }
    rbsp
}

#[cfg(test)]
pub(crate) mod tests;
