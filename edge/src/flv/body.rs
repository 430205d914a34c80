//! Tag bodies (§E.4.2, §E.4.3): the same in FLV files and in RTMP messages.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::media::{Kind, Sample};

/// Why a tag body is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It ends inside its header.
    #[error("{kind} tag of {len} bytes ends inside its header")]
    Short {
        /// Of which kind.
        kind: Kind,
        /// Its length.
        len: usize,
    },
    /// A codec we do not carry.
    #[error("{kind} codec {codec} is not supported; publish H.264 video and AAC audio")]
    Codec {
        /// Of which kind.
        kind: Kind,
        /// The codec's name.
        codec: String,
    },
}

/// What a tag body carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// A decoder config: avcC or AudioSpecificConfig.
    Config(Bytes),
    /// A picture or a slice of sound.
    Media {
        /// Decodable alone.
        key: bool,
        /// Composition time offset in ms.
        composition: i32,
        /// The coded bytes.
        data: Bytes,
    },
    /// Nothing to decode: the end of a sequence, a seek marker.
    Nothing,
}

const AVC: u8 = 7;
const AAC: u8 = 10;
/// AAC, 44 kHz, 16 bit, stereo: what AAC tags say whatever the config says (§E.4.2.1).
const AAC_HEADER: u8 = 0xaf;
const KEY_FRAME: u8 = 1;
const INTER_FRAME: u8 = 2;
const COMMAND_FRAME: u8 = 5;

const SEQUENCE_HEADER: u8 = 0;
const CODED: u8 = 1;

/// Enhanced RTMP, version 2: a FourCC instead of the codec's number.
mod enhanced {
    pub const VIDEO_FLAG: u8 = 0x80;
    pub const AUDIO_FORMAT: u8 = 9;
    pub const SEQUENCE_START: u8 = 0;
    pub const CODED_FRAMES: u8 = 1;
    pub const CODED_FRAMES_X: u8 = 3;
}

impl Body {
    pub(super) fn parse(kind: Kind, body: Bytes) -> Result<Body, BodyError> {
        if body.is_empty() {
            // Some encoders send empty audio tags for silence.
            return Ok(Body::Nothing);
        }
        match kind {
            Kind::Video => parse_video(body),
            Kind::Audio => parse_audio(body),
        }
    }
}

fn parse_video(mut body: Bytes) -> Result<Body, BodyError> {
    let short = BodyError::Short {
        kind: Kind::Video,
        len: body.len(),
    };
    let first = body.get_u8();
    let frame_type = first >> 4 & 7;
    if frame_type == COMMAND_FRAME {
        return Ok(Body::Nothing);
    }
    let key = frame_type == KEY_FRAME;
    if first & enhanced::VIDEO_FLAG != 0 {
        let packet = first & 0x0f;
        let fourcc = take_fourcc(&mut body).ok_or(short.clone())?;
        if fourcc != *b"avc1" {
            return Err(codec_of(Kind::Video, fourcc_name(fourcc)));
        }
        return Ok(match packet {
            enhanced::SEQUENCE_START => Body::Config(body),
            enhanced::CODED_FRAMES => Body::Media {
                key,
                composition: take_i24(&mut body).ok_or(short)?,
                data: body,
            },
            enhanced::CODED_FRAMES_X => Body::Media {
                key,
                composition: 0,
                data: body,
            },
            _ => Body::Nothing,
        });
    }
    if first & 0x0f != AVC {
        return Err(codec_of(Kind::Video, video_codec(first & 0x0f)));
    }
    if body.is_empty() {
        return Err(short);
    }
    let packet = body.get_u8();
    let composition = take_i24(&mut body).ok_or(short)?;
    Ok(match packet {
        SEQUENCE_HEADER => Body::Config(body),
        CODED => Body::Media {
            key,
            composition,
            data: body,
        },
        _ => Body::Nothing,
    })
}

fn parse_audio(mut body: Bytes) -> Result<Body, BodyError> {
    let short = BodyError::Short {
        kind: Kind::Audio,
        len: body.len(),
    };
    let first = body.get_u8();
    let media = |data| Body::Media {
        key: true,
        composition: 0,
        data,
    };
    match first >> 4 {
        AAC => {
            if body.is_empty() {
                return Err(short);
            }
            Ok(match body.get_u8() {
                SEQUENCE_HEADER => Body::Config(body),
                CODED => media(body),
                _ => Body::Nothing,
            })
        }
        enhanced::AUDIO_FORMAT => {
            let fourcc = take_fourcc(&mut body).ok_or(short)?;
            if fourcc != *b"mp4a" {
                return Err(codec_of(Kind::Audio, fourcc_name(fourcc)));
            }
            Ok(match first & 0x0f {
                enhanced::SEQUENCE_START => Body::Config(body),
                enhanced::CODED_FRAMES => media(body),
                _ => Body::Nothing,
            })
        }
        format => Err(codec_of(Kind::Audio, audio_codec(format))),
    }
}

fn take_fourcc(body: &mut Bytes) -> Option<[u8; 4]> {
    let fourcc = *body.first_chunk()?;
    body.advance(4);
    Some(fourcc)
}

fn take_i24(body: &mut Bytes) -> Option<i32> {
    (body.len() >= 3).then(|| body.get_int(3) as i32)
}

fn codec_of(kind: Kind, codec: impl Into<String>) -> BodyError {
    BodyError::Codec {
        kind,
        codec: codec.into(),
    }
}

fn fourcc_name(fourcc: [u8; 4]) -> String {
    let name = match &fourcc {
        b"hvc1" => "HEVC",
        b"av01" => "AV1",
        b"vp08" => "VP8",
        b"vp09" => "VP9",
        b"vvc1" => "VVC",
        b"Opus" => "Opus",
        b"fLaC" => "FLAC",
        b"ac-3" => "AC-3",
        b"ec-3" => "E-AC-3",
        b".mp3" => "MP3",
        other => return format!("{:?} (Enhanced RTMP)", other.escape_ascii().to_string()),
    };
    format!("{name} (Enhanced RTMP)")
}

/// §E.4.3.1, `CodecID`.
fn video_codec(id: u8) -> String {
    let name = match id {
        2 => "Sorenson H.263",
        3 => "Screen video",
        4 => "VP6",
        5 => "VP6 with alpha",
        6 => "Screen video 2",
        8 => "H.263",
        9 => "MPEG-4 part 2",
        // Not in the specification; widely used in China before Enhanced RTMP.
        12 => "HEVC",
        13 => "AV1",
        _ => return format!("number {id}"),
    };
    name.to_owned()
}

/// §E.4.2.1, `SoundFormat`.
fn audio_codec(format: u8) -> String {
    let name = match format {
        0 | 3 => "PCM",
        1 => "ADPCM",
        2 | 14 => "MP3",
        4..=6 => "Nellymoser",
        7 => "G.711 A-law",
        8 => "G.711 mu-law",
        11 => "Speex",
        13 => "Opus",
        _ => return format!("number {format}"),
    };
    name.to_owned()
}

/// Whether a tag body carries a decoder config.
pub fn is_config(kind: Kind, body: &[u8]) -> bool {
    match (kind, body) {
        (Kind::Video, [first, packet, ..]) => {
            first & enhanced::VIDEO_FLAG == 0 && *packet == SEQUENCE_HEADER
        }
        (Kind::Audio, [first, packet, ..]) => first >> 4 == AAC && *packet == SEQUENCE_HEADER,
        _ => false,
    }
}

/// Whether a video tag body is a key frame.
pub fn is_key(body: &[u8]) -> bool {
    body.first().is_some_and(|first| first >> 4 == KEY_FRAME)
}

/// The tag body that carries a decoder config.
pub(super) fn config_body(kind: Kind, config: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + config.len());
    match kind {
        Kind::Video => body.put_slice(&[KEY_FRAME << 4 | AVC, SEQUENCE_HEADER, 0, 0, 0]),
        Kind::Audio => body.put_slice(&[AAC_HEADER, SEQUENCE_HEADER]),
    }
    body.put_slice(config);
    body.freeze()
}

/// The tag body that carries a sample (without its decoder config).
pub fn sample_body(sample: &Sample) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + sample.data.len());
    put_sample_body(sample, &mut body);
    body.freeze()
}

pub(super) fn put_sample_body(sample: &Sample, body: &mut BytesMut) {
    match sample.kind {
        Kind::Video => {
            let frame_type = if sample.key { KEY_FRAME } else { INTER_FRAME };
            body.put_u8(frame_type << 4 | AVC);
            body.put_u8(CODED);
            // The difference of whole ms, so that presentation times do not drift by rounding.
            let ms = sample.presentation() as i64 / 1_000 - sample.timestamp as i64 / 1_000;
            body.put_int(ms.clamp(-0x80_0000, 0x7f_ffff), 3);
        }
        Kind::Audio => body.put_slice(&[AAC_HEADER, CODED]),
    }
    body.put_slice(&sample.data);
}

#[cfg(test)]
mod tests;
