//! From samples to tags.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    body::{config_body, put_sample_body},
    tag_type,
};
use crate::{
    media::{Catalog, Kind, Sample},
    rtmp::amf0::{self, Value},
};

/// Writes an endless FLV file. What it writes for one viewer is right for every other one of the
/// same stream, so one muxer serves all: a newcomer is sent [`Muxer::header`], then whatever is
/// written from then on (from a key frame).
#[derive(Debug)]
pub struct Muxer {
    metadata: Bytes,
    flags: u8,
    configs: [Option<Bytes>; 2],
}

const HAS_VIDEO: u8 = 1;
const HAS_AUDIO: u8 = 4;

impl Muxer {
    /// For a stream.
    pub fn new(catalog: &Catalog) -> Muxer {
        let mut muxer = Muxer {
            metadata: Bytes::new(),
            flags: 0,
            configs: [None, None],
        };
        muxer.describe(catalog);
        muxer
    }

    fn describe(&mut self, catalog: &Catalog) {
        let metadata = [
            Value::string("onMetaData"),
            Value::EcmaArray(amf0::members_from_json(&metadata(catalog))),
        ];
        self.metadata = amf0::encode(&metadata).freeze();
        self.flags = 0;
        if let Some(video) = catalog.video() {
            self.flags |= HAS_VIDEO;
            self.configs[Kind::Video as usize] = Some(video.config.clone());
        }
        if let Some(audio) = catalog.audio() {
            self.flags |= HAS_AUDIO;
            self.configs[Kind::Audio as usize] = Some(audio.config.clone());
        }
    }

    /// What a viewer is sent first: file header, `onMetaData`, and the decoder configs in force.
    pub fn header(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.metadata.len() + 256);
        out.put_slice(b"FLV\x01");
        out.put_u8(self.flags);
        out.put_u32(9);
        out.put_u32(0);
        self.put_description(&mut out, 0);
        out.freeze()
    }

    fn put_description(&self, out: &mut BytesMut, ms: u32) {
        put_tag(out, tag_type::SCRIPT, ms, |out| {
            out.put_slice(&self.metadata)
        });
        for kind in Kind::ALL {
            if let Some(config) = &self.configs[kind as usize] {
                put_tag(out, tag_of(kind), ms, |out| {
                    out.put_slice(&config_body(kind, config));
                });
            }
        }
    }

    /// The stream is made of something else from now on, such as after a change of publisher: the
    /// tags that say so, at a time in µs.
    pub fn catalog(&mut self, catalog: &Catalog, timestamp: u64) -> Bytes {
        self.describe(catalog);
        let mut out = BytesMut::with_capacity(self.metadata.len() + 256);
        self.put_description(&mut out, millis(timestamp));
        out.freeze()
    }

    /// The tag of a sample, before it a tag with the decoder config where that is new.
    pub fn sample(&mut self, sample: &Sample) -> Bytes {
        let ms = millis(sample.timestamp);
        let mut out = BytesMut::with_capacity(64 + sample.data.len());
        let config = &mut self.configs[sample.kind as usize];
        if sample.config.is_some() && sample.config != *config {
            config.clone_from(&sample.config);
            let body = config_body(sample.kind, sample.config.as_deref().unwrap_or_default());
            put_tag(&mut out, tag_of(sample.kind), ms, |out| {
                out.put_slice(&body)
            });
        }
        put_tag(&mut out, tag_of(sample.kind), ms, |out| {
            put_sample_body(sample, out);
        });
        out.freeze()
    }
}

/// The tag bodies that carry a catalog's decoder configs: what an RTMP player is sent first.
pub fn config_bodies(catalog: &Catalog) -> Vec<(Kind, Bytes)> {
    let video = catalog.video().map(|v| (Kind::Video, &v.config));
    let audio = catalog.audio().map(|a| (Kind::Audio, &a.config));
    [video, audio]
        .into_iter()
        .flatten()
        .map(|(kind, config)| (kind, config_body(kind, config)))
        .collect()
}

/// The `onMetaData` a viewer is sent: the publisher's, without what is said of a file and is not
/// true of a live stream, and with what players look for.
pub fn metadata(catalog: &Catalog) -> serde_json::Map<String, serde_json::Value> {
    let mut metadata = catalog.metadata.clone();
    for of_a_file in ["duration", "filesize", "keyframes", "lasttimestamp"] {
        metadata.remove(of_a_file);
    }
    if let Some(video) = catalog.video() {
        metadata.insert("width".into(), video.width.into());
        metadata.insert("height".into(), video.height.into());
        metadata.insert("videocodecid".into(), 7.into());
    }
    if let Some(audio) = catalog.audio() {
        metadata.insert("audiosamplerate".into(), audio.sample_rate.into());
        metadata.insert("stereo".into(), (audio.channels > 1).into());
        metadata.insert("audiocodecid".into(), 10.into());
    }
    metadata
}

/// FLV's and RTMP's time: ms that wrap at 2^32.
fn millis(micros: u64) -> u32 {
    (micros / 1_000) as u32
}

fn tag_of(kind: Kind) -> u8 {
    match kind {
        Kind::Video => tag_type::VIDEO,
        Kind::Audio => tag_type::AUDIO,
    }
}

/// Appends a tag and its back pointer (§E.4.1); `body` appends the body.
pub(super) fn put_tag(out: &mut BytesMut, tag_type: u8, ms: u32, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(tag_type);
    out.put_uint(0, 3);
    out.put_uint(u64::from(ms & 0xff_ffff), 3);
    out.put_u8((ms >> 24) as u8);
    out.put_uint(0, 3);
    body(out);
    let len = (out.len() - start - 11) as u32;
    out[start + 1..start + 4].copy_from_slice(&len.to_be_bytes()[1..]);
    out.put_u32(len + 11);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_tag_with_an_extended_timestamp() {
        let mut muxer = Muxer::new(&Catalog::default());
        let sample = Sample {
            kind: Kind::Audio,
            timestamp: 0x0102_0304 * 1_000,
            composition: 0,
            key: true,
            discardable: false,
            config: Some(Bytes::from_static(&[0x12, 0x10])),
            data: Bytes::from_static(&[7]),
        };
        let config = [
            8, 0, 0, 4, 2, 3, 4, 1, 0, 0, 0, 0xaf, 0, 0x12, 0x10, 0, 0, 0, 15,
        ];
        let data = [8, 0, 0, 3, 2, 3, 4, 1, 0, 0, 0, 0xaf, 1, 7, 0, 0, 0, 14];
        assert_eq!(muxer.sample(&sample), [&config[..], &data].concat());
        // The same config again says nothing new.
        assert_eq!(muxer.sample(&sample), &data[..]);
    }

    #[test]
    fn golden_header() {
        let header = Muxer::new(&Catalog::default()).header();
        assert_eq!(&header[..13], b"FLV\x01\x00\0\0\0\x09\0\0\0\0");
        assert_eq!(&header[24..37], b"\x02\x00\x0aonMetaData");
    }

    #[test]
    fn time_wraps_as_rtmp_does() {
        assert_eq!(millis(((1 << 32) + 5) * 1_000), 5);
    }
}
