//! One coded picture or one slice of coded sound.

use std::fmt;

use bytes::Bytes;
use longspan_proto::ids::Track;

/// What a track carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// H.264 pictures, length-prefixed NAL units (AVCC, ISO/IEC 14496-15 §5.3).
    Video,
    /// AAC raw data blocks, without ADTS headers.
    Audio,
}

impl Kind {
    /// Both kinds, video first.
    pub const ALL: [Kind; 2] = [Kind::Video, Kind::Audio];

    /// The name of the one track of this kind in a stream.
    pub fn track(self) -> Track {
        Track::new(self.name()).expect("a constant of letters")
    }

    /// `video` or `audio`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Video => "video",
            Kind::Audio => "audio",
        }
    }

    /// The other one.
    pub const fn other(self) -> Kind {
        match self {
            Kind::Video => Kind::Audio,
            Kind::Audio => Kind::Video,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One coded picture or one slice of coded sound, on the stream's own timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Which track it is of.
    pub kind: Kind,
    /// When it is decoded, in µs on the stream's own timeline.
    pub timestamp: u64,
    /// When it is shown, in µs after `timestamp` (not 0 where there are B-frames; may be
    /// negative).
    pub composition: i64,
    /// Decodable without earlier samples. Every audio sample is.
    pub key: bool,
    /// No other sample depends on it.
    pub discardable: bool,
    /// What the decoder must know first: an avcC record (H.264) or an AudioSpecificConfig (AAC).
    /// Stands in the first sample of each group, and elsewhere never.
    pub config: Option<Bytes>,
    /// The coded bytes, exactly as published.
    pub data: Bytes,
}

impl Sample {
    /// When it is shown, in µs; never before 0.
    pub fn presentation(&self) -> u64 {
        self.timestamp.saturating_add_signed(self.composition)
    }
}
