//! From a publisher's tags to samples.

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::body::{Body, BodyError};
use crate::media::{AudioTrack, Catalog, Kind, Sample, TrackInfo, VideoTrack, aac, h264};

/// How long the first samples are held back for a decoder config that the metadata promises, or
/// that may still come where there is no metadata, in ms of media time.
pub const MAX_HOLD_MS: u64 = 1_000;

/// The most samples held back for it.
pub const MAX_HELD: usize = 256;

/// What comes of a tag.
#[derive(Debug, Clone, PartialEq)]
pub enum Ingested {
    /// The stream is made of this from now on. Comes before the first sample; again when a
    /// decoder config or the metadata changes. `hls_base` is left 0: the edge sets it.
    Catalog(Catalog),
    /// A sample. Its `config` is set where the decoder config is new.
    Sample(Sample),
}

/// Why a tag is refused; the publisher cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// The tag's body is not one we carry.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The H.264 decoder config cannot be read.
    #[error("H.264 decoder config: {0}")]
    Video(#[from] h264::Error),
    /// The AAC decoder config cannot be read.
    #[error("AAC decoder config: {0}")]
    Audio(#[from] aac::Error),
}

/// Makes samples of a publisher's tag bodies.
#[derive(Debug, Default)]
pub struct Ingest {
    metadata: Option<Map<String, Json>>,
    video: Option<(Bytes, h264::Config)>,
    audio: Option<(Bytes, aac::Config)>,
    /// The config in force has not been in a sample yet.
    fresh: [bool; 2],
    /// The catalog was given.
    described: bool,
    /// The catalog that was given is no longer true.
    changed: bool,
    held: Vec<Sample>,
    /// The last timestamp, in ms that do not wrap.
    last: Option<u64>,
}

impl Ingest {
    /// For a new publisher.
    pub fn new() -> Ingest {
        Ingest::default()
    }

    /// `onMetaData` came.
    pub fn metadata(&mut self, metadata: Map<String, Json>) -> Vec<Ingested> {
        self.changed |= self.described && self.metadata.as_ref() != Some(&metadata);
        self.metadata = Some(metadata);
        Vec::new()
    }

    /// A tag body came; `timestamp` in ms, wrapping at 2^32.
    pub fn media(
        &mut self,
        kind: Kind,
        timestamp: u32,
        body: Bytes,
    ) -> Result<Vec<Ingested>, IngestError> {
        let ms = self.unwrap(timestamp);
        match Body::parse(kind, body)? {
            Body::Nothing => {}
            Body::Config(config) => self.config(kind, config)?,
            Body::Media {
                key,
                composition,
                data,
            } => return Ok(self.sample(kind, ms, key, composition, data)),
        }
        Ok(Vec::new())
    }

    /// Continues the timestamps where they wrap: each is the one nearest to the last.
    fn unwrap(&mut self, timestamp: u32) -> u64 {
        let ms = match self.last {
            None => u64::from(timestamp),
            Some(last) => {
                let step = timestamp.wrapping_sub(last as u32) as i32;
                last.checked_add_signed(i64::from(step))
                    .unwrap_or(u64::from(timestamp))
            }
        };
        self.last = Some(ms);
        ms
    }

    fn config(&mut self, kind: Kind, config: Bytes) -> Result<(), IngestError> {
        let known = match kind {
            Kind::Video => self.video.as_ref().map(|(bytes, _)| bytes),
            Kind::Audio => self.audio.as_ref().map(|(bytes, _)| bytes),
        };
        // Encoders repeat it; an empty one (OBS, without audio) says nothing.
        if known == Some(&config) || config.is_empty() {
            return Ok(());
        }
        match kind {
            Kind::Video => self.video = Some((config.clone(), h264::Config::parse(&config)?)),
            Kind::Audio => self.audio = Some((config.clone(), aac::Config::parse(&config)?)),
        }
        self.fresh[kind as usize] = true;
        self.changed = self.described;
        Ok(())
    }

    fn sample(
        &mut self,
        kind: Kind,
        ms: u64,
        key: bool,
        composition: i32,
        data: Bytes,
    ) -> Vec<Ingested> {
        let (config, discardable) = match (kind, &self.video, &self.audio) {
            (Kind::Video, Some((bytes, config)), _) => {
                (bytes, !key && config.is_discardable(&data))
            }
            (Kind::Audio, _, Some((bytes, _))) => (bytes, false),
            // Nobody could decode it.
            _ => return Vec::new(),
        };
        let fresh = std::mem::take(&mut self.fresh[kind as usize]);
        let sample = Sample {
            kind,
            timestamp: ms * 1_000,
            composition: i64::from(composition) * 1_000,
            key,
            discardable,
            config: fresh.then(|| config.clone()),
            data,
        };
        if self.described {
            let catalog = std::mem::take(&mut self.changed).then(|| self.catalog());
            let catalog = catalog.map(Ingested::Catalog);
            return catalog
                .into_iter()
                .chain([Ingested::Sample(sample)])
                .collect();
        }
        self.held.push(sample);
        if !self.is_ready(ms) {
            return Vec::new();
        }
        self.described = true;
        let held = std::mem::take(&mut self.held);
        [Ingested::Catalog(self.catalog())]
            .into_iter()
            .chain(held.into_iter().map(Ingested::Sample))
            .collect()
    }

    /// Whether all decoder configs that are to be expected have come, or were waited for enough.
    fn is_ready(&self, ms: u64) -> bool {
        let expected = |name: &str| match &self.metadata {
            None => true,
            Some(metadata) => match metadata.get(name) {
                None | Some(Json::Null) => false,
                Some(codec) => codec.as_f64() != Some(0.0),
            },
        };
        let here = (self.video.is_some() || !expected("videocodecid"))
            && (self.audio.is_some() || !expected("audiocodecid"));
        let waited = self
            .held
            .first()
            .map_or(0, |first| ms.saturating_sub(first.timestamp / 1_000));
        here || waited >= MAX_HOLD_MS || self.held.len() >= MAX_HELD
    }

    fn catalog(&self) -> Catalog {
        let metadata = self.metadata.clone().unwrap_or_default();
        let number = |names: &[&str]| {
            let found = names.iter().find_map(|name| metadata.get(*name));
            found.and_then(Json::as_f64).filter(|n| *n > 0.0)
        };
        // onMetaData gives rates in kbit/s.
        let bitrate = |name| number(&[name]).map(|kbits| (kbits * 1_000.0) as u64);
        let mut tracks = Vec::new();
        if let Some((bytes, config)) = &self.video {
            tracks.push(TrackInfo::Video(VideoTrack {
                name: Kind::Video.track(),
                codec: config.codec(),
                config: bytes.clone(),
                width: config.width,
                height: config.height,
                framerate: number(&["framerate", "videoframerate"]),
                bitrate: bitrate("videodatarate"),
                b_frames: config.reorders,
            }));
        }
        if let Some((bytes, config)) = &self.audio {
            tracks.push(TrackInfo::Audio(AudioTrack {
                name: Kind::Audio.track(),
                codec: config.codec(),
                config: bytes.clone(),
                sample_rate: config.sample_rate,
                channels: config.channels,
                bitrate: bitrate("audiodatarate"),
            }));
        }
        Catalog {
            tracks,
            encoder: metadata
                .get("encoder")
                .and_then(Json::as_str)
                .map(str::to_owned),
            metadata,
            ..Catalog::default()
        }
    }
}

#[cfg(test)]
mod tests;
