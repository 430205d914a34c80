//! What a stream is made of: the one frame of each group of its `catalog` track, as JSON.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use longspan_proto::ids::Track;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Kind, MAX_CONFIG, aac, h264};

/// The largest catalog, in bytes of JSON.
pub const MAX_CATALOG: usize = 64 * 1024;

/// The most tracks a catalog may name: one video and one audio in this version.
const MAX_TRACKS: usize = 8;

/// The version of the format this module reads and writes.
const VERSION: u32 = 1;

/// Why bytes are no catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Longer than [`MAX_CATALOG`].
    #[error("catalog has {0} bytes; the limit is {MAX_CATALOG}")]
    TooLarge(usize),
    /// Not the JSON it should be.
    #[error("catalog: {0}")]
    Json(#[from] serde_json::Error),
    /// A version this node does not know.
    #[error("catalog version {0} is unknown; this node reads {VERSION}")]
    Version(u32),
    /// More tracks than allowed.
    #[error("catalog names {0} tracks; the limit is {MAX_TRACKS}")]
    Tracks(usize),
}

/// A stream's description.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The version of the format; 1.
    pub version: u32,
    /// Its tracks, video first.
    pub tracks: Vec<TrackInfo>,
    /// The publisher's `onMetaData`, as JSON.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Added to a group's number it gives the HLS media sequence number of its segment.
    #[serde(default)]
    pub hls_base: u64,
    /// The publisher's program, as it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
}

/// One track of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum TrackInfo {
    /// Pictures.
    Video(VideoTrack),
    /// Sound.
    Audio(AudioTrack),
}

/// A video track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VideoTrack {
    /// The track's name.
    pub name: Track,
    /// As in RFC 6381: `avc1.PPCCLL`.
    pub codec: String,
    /// The avcC record (ISO/IEC 14496-15 §5.3.3.1).
    #[serde(with = "base64_bytes")]
    pub config: Bytes,
    /// Shown width in pixels.
    pub width: u32,
    /// Shown height in pixels.
    pub height: u32,
    /// Pictures a second, if the publisher said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framerate: Option<f64>,
    /// Bits a second, if the publisher said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
    /// Whether pictures may be shown in another order than they are decoded, by the SPS.
    #[serde(default)]
    pub b_frames: bool,
}

/// An audio track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AudioTrack {
    /// The track's name.
    pub name: Track,
    /// As in RFC 6381: `mp4a.40.N`.
    pub codec: String,
    /// The AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1).
    #[serde(with = "base64_bytes")]
    pub config: Bytes,
    /// Decoded samples a second.
    pub sample_rate: u32,
    /// Decoded channels.
    pub channels: u8,
    /// Bits a second, if the publisher said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u64>,
}

impl TrackInfo {
    /// What the track carries.
    pub fn kind(&self) -> Kind {
        match self {
            TrackInfo::Video(_) => Kind::Video,
            TrackInfo::Audio(_) => Kind::Audio,
        }
    }
}

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            version: VERSION,
            tracks: Vec::new(),
            metadata: serde_json::Map::new(),
            hls_base: 0,
            encoder: None,
        }
    }
}

impl Catalog {
    /// Reads the payload of a catalog frame.
    pub fn decode(json: &[u8]) -> Result<Catalog, CatalogError> {
        if json.len() > MAX_CATALOG {
            return Err(CatalogError::TooLarge(json.len()));
        }
        let catalog: Catalog = serde_json::from_slice(json)?;
        if catalog.version != VERSION {
            return Err(CatalogError::Version(catalog.version));
        }
        if catalog.tracks.len() > MAX_TRACKS {
            return Err(CatalogError::Tracks(catalog.tracks.len()));
        }
        Ok(catalog)
    }

    /// The payload of a catalog frame. Metadata that would make it too large is left out: it is
    /// the publisher's, and no viewer needs it to decode.
    pub fn encode(&self) -> Result<Bytes, CatalogError> {
        let json = serde_json::to_vec(self)?;
        if json.len() <= MAX_CATALOG {
            return Ok(json.into());
        }
        let json = serde_json::to_vec(&Catalog {
            metadata: serde_json::Map::new(),
            ..self.clone()
        })?;
        if json.len() > MAX_CATALOG {
            return Err(CatalogError::TooLarge(json.len()));
        }
        Ok(json.into())
    }

    /// The video track, if there is one.
    pub fn video(&self) -> Option<&VideoTrack> {
        self.tracks.iter().find_map(|t| match t {
            TrackInfo::Video(v) => Some(v),
            TrackInfo::Audio(_) => None,
        })
    }

    /// The audio track, if there is one.
    pub fn audio(&self) -> Option<&AudioTrack> {
        self.tracks.iter().find_map(|t| match t {
            TrackInfo::Audio(a) => Some(a),
            TrackInfo::Video(_) => None,
        })
    }

    /// Whether there is a track of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.tracks.iter().any(|t| t.kind() == kind)
    }

    /// Puts a decoder config in the place of the one of this kind's track, and what follows from
    /// it. `false` if it is the same, cannot be read, or there is no such track.
    pub fn set_config(&mut self, kind: Kind, config: &Bytes) -> bool {
        let track = self.tracks.iter_mut().find(|t| t.kind() == kind);
        match track {
            Some(TrackInfo::Video(video)) if video.config != *config => {
                let Ok(parsed) = h264::Config::parse(config) else {
                    return false;
                };
                video.codec = parsed.codec();
                video.width = parsed.width;
                video.height = parsed.height;
                video.b_frames = parsed.reorders;
                video.config = config.clone();
                true
            }
            Some(TrackInfo::Audio(audio)) if audio.config != *config => {
                let Ok(parsed) = aac::Config::parse(config) else {
                    return false;
                };
                audio.codec = parsed.codec();
                audio.sample_rate = parsed.sample_rate;
                audio.channels = parsed.channels;
                audio.config = config.clone();
                true
            }
            _ => false,
        }
    }

    /// As in RFC 6381, for a MIME type's `codecs`: `avc1.64001f,mp4a.40.2`.
    pub fn codecs(&self) -> String {
        let codecs: Vec<&str> = self
            .tracks
            .iter()
            .map(|t| match t {
                TrackInfo::Video(v) => v.codec.as_str(),
                TrackInfo::Audio(a) => a.codec.as_str(),
            })
            .collect();
        codecs.join(",")
    }
}

mod base64_bytes {
    use super::*;

    pub fn serialize<S: Serializer>(bytes: &Bytes, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = BASE64_STANDARD.decode(text).map_err(de::Error::custom)?;
        if bytes.len() > MAX_CONFIG {
            return Err(de::Error::custom(format_args!(
                "config has {} bytes; the limit is {MAX_CONFIG}",
                bytes.len()
            )));
        }
        Ok(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson() -> Catalog {
        let mut metadata = serde_json::Map::new();
        metadata.insert("encoder".into(), "Lavf59".into());
        Catalog {
            tracks: vec![
                TrackInfo::Video(VideoTrack {
                    name: Kind::Video.track(),
                    codec: "avc1.64001f".into(),
                    config: Bytes::from_static(&[1, 0x64, 0, 0x1f]),
                    width: 1280,
                    height: 720,
                    framerate: Some(25.0),
                    bitrate: None,
                    b_frames: true,
                }),
                TrackInfo::Audio(AudioTrack {
                    name: Kind::Audio.track(),
                    codec: "mp4a.40.2".into(),
                    config: Bytes::from_static(&[0x12, 0x10]),
                    sample_rate: 44_100,
                    channels: 2,
                    bitrate: None,
                }),
            ],
            metadata,
            hls_base: 700,
            encoder: Some("Lavf59".into()),
            ..Catalog::default()
        }
    }

    #[test]
    fn golden() {
        let json = r#"{"version":1,"tracks":[{"kind":"video","name":"video","codec":"avc1.64001f","config":"AWQAHw==","width":1280,"height":720,"framerate":25.0,"b_frames":true},{"kind":"audio","name":"audio","codec":"mp4a.40.2","config":"EhA=","sample_rate":44100,"channels":2}],"metadata":{"encoder":"Lavf59"},"hls_base":700,"encoder":"Lavf59"}"#;
        assert_eq!(lesson().encode().unwrap(), json.as_bytes());
        assert_eq!(Catalog::decode(json.as_bytes()).unwrap(), lesson());
        assert_eq!(lesson().codecs(), "avc1.64001f,mp4a.40.2");
    }

    #[test]
    fn leaves_out_metadata_that_is_too_large() {
        let mut catalog = lesson();
        catalog
            .metadata
            .insert("junk".into(), "x".repeat(MAX_CATALOG).into());
        let back = Catalog::decode(&catalog.encode().unwrap()).unwrap();
        assert!(back.metadata.is_empty());
        assert_eq!(back.tracks, catalog.tracks);
    }

    #[test]
    fn refuses_with_the_reason() {
        let refused = |json: &[u8]| Catalog::decode(json).unwrap_err().to_string();
        assert_eq!(
            refused(br#"{"version":2,"tracks":[]}"#),
            "catalog version 2 is unknown; this node reads 1"
        );
        assert!(refused(b"[").starts_with("catalog: EOF"));
        assert!(
            refused(br#"{"version":1,"tracks":[{"kind":"smell"}]}"#)
                .contains("unknown variant `smell`")
        );
        assert_eq!(
            refused(&vec![b' '; MAX_CATALOG + 1]),
            "catalog has 65537 bytes; the limit is 65536"
        );
    }
}
