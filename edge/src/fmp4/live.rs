//! An endless low-latency file: one fragment per sample.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    boxes::put_full_box,
    fragment::{Run, put_fragment},
    init, track_id,
};
use crate::media::{Assembled, Catalog, GroupStart, Kind, Sample, aac};

/// How long a picture is taken to last before the second one came, in µs, where the catalog does
/// not tell.
const DEFAULT_PICTURE: u64 = 40_000;

/// A sample that seems to last longer is taken to last this long, in µs: after a pause the last
/// step says nothing.
const MAX_DURATION: u64 = 1_000_000;

/// Writes an endless file for Media Source Extensions. What it writes is the same for every
/// viewer: a newcomer is sent [`Live::init`], then whatever is written from a video key frame on.
///
/// When a sample is written nobody knows when the next one comes, so its duration is that of the
/// step before it; each fragment's decode time is exact.
#[derive(Debug)]
pub struct Live {
    catalog: Catalog,
    init: Bytes,
    sequence: u32,
    /// The track whose groups are stamped with the origin's wall clock.
    reference: Kind,
    steps: [u64; 2],
    last: [Option<u64>; 2],
}

impl Live {
    /// For a stream.
    pub fn new(catalog: &Catalog) -> Live {
        let rate = catalog.video().and_then(|v| v.framerate);
        let picture = rate
            .filter(|rate| *rate >= 1.0)
            .map_or(DEFAULT_PICTURE, |rate| (1_000_000.0 / rate) as u64);
        let slice = catalog
            .audio()
            .and_then(|a| aac::Config::parse(&a.config).ok())
            .map_or(DEFAULT_PICTURE, |config| config.frame_duration());
        Live {
            catalog: catalog.clone(),
            init: init(catalog),
            sequence: 0,
            reference: if catalog.has(Kind::Video) {
                Kind::Video
            } else {
                Kind::Audio
            },
            steps: [picture, slice],
            last: [None, None],
        }
    }

    /// The init segment.
    pub fn init(&self) -> Bytes {
        self.init.clone()
    }

    /// The fragment of a sample; before the first of a group a `prft` box, and before all that an
    /// init segment where the decoder config is new.
    pub fn sample(&mut self, it: &Assembled) -> Bytes {
        let sample = &it.sample;
        let slot = sample.kind as usize;
        if let Some(last) = self.last[slot].replace(sample.timestamp) {
            let step = sample.timestamp.saturating_sub(last);
            if (1..=MAX_DURATION).contains(&step) {
                self.steps[slot] = step;
            }
        }
        let mut out = BytesMut::with_capacity(sample.data.len() + 192);
        if let Some(config) = &sample.config
            && self.catalog.set_config(sample.kind, config)
        {
            self.init = init(&self.catalog);
            out.put_slice(&self.init);
        }
        if let Some(start) = &it.begins
            && sample.kind == self.reference
        {
            put_producer_time(&mut out, start, sample);
        }
        self.sequence = self.sequence.wrapping_add(1);
        let run = Run {
            kind: sample.kind,
            samples: std::slice::from_ref(sample),
            end: sample.timestamp + self.steps[slot],
        };
        put_fragment(&mut out, self.sequence, &[run]);
        out.freeze()
    }
}

/// `prft` (§8.16.5): the wall clock at which the group's first sample entered the backbone, beside
/// that sample's presentation time.
fn put_producer_time(out: &mut BytesMut, start: &GroupStart, sample: &Sample) {
    /// The time is when the frame came out of the encoder: the nearest to entering our edge.
    const ENCODER_OUTPUT: u32 = 1;
    /// Seconds from 1900 (NTP, RFC 5905 §6) to 1970.
    const NTP_TO_UNIX: u64 = 2_208_988_800;
    let seconds = start.origin_time / 1_000_000 + NTP_TO_UNIX;
    let fraction = ((start.origin_time % 1_000_000) << 32) / 1_000_000;
    let media_time = if sample.timestamp == start.timestamp {
        sample.presentation()
    } else {
        start.timestamp
    };
    put_full_box(out, b"prft", 1, ENCODER_OUTPUT, |out| {
        out.put_u32(track_id(sample.kind));
        // NTP's seconds wrap in 2036, as its era does.
        out.put_u64(seconds << 32 | fraction);
        out.put_u64(media_time);
    });
}
