//! Cuts a stream's samples into groups, at the edge where they enter the backbone.

use longspan_proto::wire::Frame;

use super::{Kind, PayloadError, Sample};

/// A video group lasts at least this long, in µs of media time: a publisher with a key frame in
/// every picture shall not make a stream per frame.
pub const MIN_VIDEO_GROUP: u64 = 1_000_000;

/// How long a group of a stream without video lasts, in µs of media time.
pub const AUDIO_GROUP: u64 = 1_000_000;

/// How long an audio group may last while no video is cut (a long GOP, a camera that stopped), in
/// µs of media time: groups are what caches drop and HLS serves.
pub const MAX_AUDIO_GROUP: u64 = 20_000_000;

/// How far a timestamp may be from its group's first one, in µs: frame headers code the
/// difference as a zigzag varint of at most 4 bytes, so 29 bits and a sign (WIRE.md, "Frames").
pub const MAX_GROUP_SPAN: u64 = (1 << 29) - 1;

/// What to do on a track, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cut {
    /// Begin a group; the track's one before is complete.
    Group {
        /// The track.
        kind: Kind,
        /// Its number: the first is 0, later ones rise.
        group: u64,
        /// Media time of the first frame, in µs.
        timestamp: u64,
        /// Wall clock when the first frame entered, in µs since the Unix epoch.
        origin_time: u64,
    },
    /// The next frame of the track's group.
    Frame {
        /// The track.
        kind: Kind,
        /// The frame.
        frame: Frame,
    },
}

/// Cuts samples into groups. The rules:
///
/// * video is cut at a key frame if its group has lasted [`MIN_VIDEO_GROUP`], and at any key
///   frame with another decoder config; the first group begins at the first key frame, what comes
///   before it is dropped;
/// * audio is cut at its first frame after a video cut, with the video group's number;
/// * without video, audio is cut every [`AUDIO_GROUP`];
/// * whatever the kind, a group ends where a timestamp would be further than [`MAX_GROUP_SPAN`]
///   from its first one, or audio has not been cut for [`MAX_AUDIO_GROUP`]. Such a cut takes the
///   next number of both tracks, so that equal numbers stay side by side.
#[derive(Debug)]
pub struct Grouper {
    video: bool,
    /// The number the last cut took; `None` before the first.
    number: Option<u64>,
    tracks: [Option<Open>; 2],
    configs: [Option<bytes::Bytes>; 2],
    /// The decoder config differs from the one the open group began with.
    changed: [bool; 2],
}

/// A track's open group.
#[derive(Debug, Clone, Copy)]
struct Open {
    group: u64,
    timestamp: u64,
}

impl Grouper {
    /// For a stream that has video, or has not.
    pub fn new(video: bool) -> Grouper {
        Grouper {
            video,
            number: None,
            tracks: [None; 2],
            configs: [None, None],
            changed: [false; 2],
        }
    }

    /// Takes the next sample in the order of arrival. A sample's `config` says that the decoder
    /// config is this from now on; it need not be repeated. `wall` is the wall clock in µs since
    /// the Unix epoch. Gives one frame, before it a group where one begins; nothing for video
    /// before the first key frame.
    pub fn push(&mut self, mut sample: Sample, wall: u64) -> Result<Vec<Cut>, PayloadError> {
        let kind = sample.kind;
        let slot = kind as usize;
        if let Some(config) = sample.config.take()
            && self.configs[slot].as_ref() != Some(&config)
        {
            self.configs[slot] = Some(config);
            self.changed[slot] = true;
        }
        let Some(number) = self.cut(&sample) else {
            if self.tracks[slot].is_none() {
                return Ok(Vec::new());
            }
            let frame = sample.to_frame()?;
            return Ok(vec![Cut::Frame { kind, frame }]);
        };
        sample.config = self.configs[slot].clone();
        let frame = sample.to_frame()?;
        self.number = Some(number.max(self.number.unwrap_or(0)));
        self.changed[slot] = false;
        let timestamp = sample.timestamp;
        self.tracks[slot] = Some(Open {
            group: number,
            timestamp,
        });
        Ok(vec![
            Cut::Group {
                kind,
                group: number,
                timestamp,
                origin_time: wall,
            },
            Cut::Frame { kind, frame },
        ])
    }

    /// The number of the group this sample begins, if it begins one.
    fn cut(&self, sample: &Sample) -> Option<u64> {
        let changed = self.changed[sample.kind as usize];
        let next = self.number.map_or(0, |n| n + 1);
        let latest = self.number.unwrap_or(0);
        let Some(open) = self.tracks[sample.kind as usize] else {
            return match sample.kind {
                Kind::Audio => Some(latest),
                // The first audio group may have begun already: number 0 is of both.
                Kind::Video if sample.key => Some(latest),
                Kind::Video => None,
            };
        };
        let span = sample.timestamp.abs_diff(open.timestamp);
        let lasted = sample.timestamp.saturating_sub(open.timestamp);
        if span > MAX_GROUP_SPAN {
            return Some(next);
        }
        match sample.kind {
            Kind::Video => {
                let cut = sample.key && (changed || lasted >= MIN_VIDEO_GROUP);
                cut.then_some(next)
            }
            Kind::Audio if open.group < latest => Some(latest),
            Kind::Audio => {
                let limit = if self.video {
                    MAX_AUDIO_GROUP
                } else {
                    AUDIO_GROUP
                };
                (changed || lasted >= limit).then_some(next)
            }
        }
    }
}
