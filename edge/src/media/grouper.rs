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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn sample(kind: Kind, ms: u64, key: bool) -> Sample {
        Sample {
            kind,
            timestamp: ms * 1_000,
            composition: 0,
            key,
            discardable: false,
            config: None,
            data: Bytes::new(),
        }
    }

    /// `v3@1000` for a video group, `.` for a frame.
    fn cuts(grouper: &mut Grouper, kind: Kind, ms: u64, key: bool) -> String {
        told(grouper.push(sample(kind, ms, key), 9).unwrap())
    }

    fn told(cuts: Vec<Cut>) -> String {
        cuts.into_iter()
            .map(|cut| match cut {
                Cut::Group {
                    kind,
                    group,
                    timestamp,
                    ..
                } => format!("{}{group}@{}", &kind.name()[..1], timestamp / 1_000),
                Cut::Frame { .. } => ".".to_owned(),
            })
            .collect()
    }

    #[test]
    fn cuts_at_key_frames_a_second_apart_and_audio_beside_them() {
        let mut it = Grouper::new(true);
        assert_eq!(cuts(&mut it, Kind::Video, 0, false), "");
        assert_eq!(cuts(&mut it, Kind::Audio, 0, true), "a0@0.");
        assert_eq!(cuts(&mut it, Kind::Video, 40, true), "v0@40.");
        assert_eq!(cuts(&mut it, Kind::Audio, 46, true), ".");
        assert_eq!(cuts(&mut it, Kind::Video, 1_039, true), ".");
        assert_eq!(cuts(&mut it, Kind::Video, 1_040, true), "v1@1040.");
        assert_eq!(cuts(&mut it, Kind::Audio, 1_030, true), "a1@1030.");
        assert_eq!(cuts(&mut it, Kind::Audio, 1_053, true), ".");
        assert_eq!(cuts(&mut it, Kind::Video, 3_000, false), ".");
    }

    #[test]
    fn audio_alone_is_cut_every_second() {
        let mut it = Grouper::new(false);
        assert_eq!(cuts(&mut it, Kind::Audio, 500, true), "a0@500.");
        assert_eq!(cuts(&mut it, Kind::Audio, 1_499, true), ".");
        assert_eq!(cuts(&mut it, Kind::Audio, 1_500, true), "a1@1500.");
    }

    #[test]
    fn audio_goes_on_when_video_stops_and_numbers_stay_side_by_side() {
        let mut it = Grouper::new(true);
        cuts(&mut it, Kind::Video, 0, true);
        cuts(&mut it, Kind::Audio, 0, true);
        assert_eq!(cuts(&mut it, Kind::Audio, 19_999, true), ".");
        assert_eq!(cuts(&mut it, Kind::Audio, 20_000, true), "a1@20000.");
        assert_eq!(cuts(&mut it, Kind::Video, 21_000, true), "v2@21000.");
        assert_eq!(cuts(&mut it, Kind::Audio, 21_000, true), "a2@21000.");
    }

    #[test]
    fn timestamps_that_a_frame_header_cannot_hold_begin_a_group() {
        let mut it = Grouper::new(true);
        let span = MAX_GROUP_SPAN / 1_000;
        assert_eq!(cuts(&mut it, Kind::Video, 0, true), "v0@0.");
        assert_eq!(cuts(&mut it, Kind::Video, span, false), ".");
        assert_eq!(
            cuts(&mut it, Kind::Video, span + 1, false),
            format!("v1@{}.", span + 1)
        );
        // And back.
        assert_eq!(cuts(&mut it, Kind::Video, 0, false), "v2@0.");
        assert_eq!(cuts(&mut it, Kind::Audio, 0, true), "a2@0.");
    }

    #[test]
    fn each_group_begins_with_the_decoder_config_and_a_new_one_cuts() {
        let mut it = Grouper::new(true);
        let config = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        let mut push = |ms, key, with| {
            let mut sample = sample(Kind::Video, ms, key);
            sample.config = with;
            let cuts = it.push(sample, 9).unwrap();
            let Some(Cut::Frame { frame, .. }) = cuts.last() else {
                panic!("no frame");
            };
            let config = Sample::from_frame(Kind::Video, frame).unwrap().config;
            (told(cuts), config)
        };
        assert_eq!(push(0, true, config(&[1])), ("v0@0.".into(), config(&[1])));
        assert_eq!(push(40, false, None), (".".into(), None));
        assert_eq!(push(1_000, true, None), ("v1@1000.".into(), config(&[1])));
        assert_eq!(push(1_040, false, config(&[2])), (".".into(), None));
        assert_eq!(push(1_080, true, None), ("v2@1080.".into(), config(&[2])));
        // The same one again is nothing new.
        assert_eq!(push(1_120, true, config(&[2])), (".".into(), None));
    }

    proptest! {
        /// The rules that others rely on, for any order of arrival.
        #[test]
        fn invariants(
            video: bool,
            samples in proptest::collection::vec(
                (any::<bool>(), any::<bool>(), prop_oneof![9 => 0u64..60_000, 1 => 0u64..9_000_000_000]),
                0..300),
        ) {
            let mut it = Grouper::new(video);
            let mut open: [Option<(u64, u64)>; 2] = [None, None];
            let mut highest = None;
            for (is_video, key, ms) in samples {
                let kind = if is_video && video { Kind::Video } else { Kind::Audio };
                for cut in it.push(sample(kind, ms, key || kind == Kind::Audio), 9).unwrap() {
                    match cut {
                        Cut::Group { kind, group, timestamp, .. } => {
                            let slot = &mut open[kind as usize];
                            // Rising within a track, and no number is left out over both.
                            prop_assert!(slot.is_none_or(|(before, _)| before < group));
                            prop_assert!(group <= highest.map_or(0, |h: u64| h + 1));
                            highest = highest.max(Some(group));
                            *slot = Some((group, timestamp));
                        }
                        Cut::Frame { kind, frame } => {
                            let (_, first) = open[kind as usize].expect("a group is open");
                            prop_assert!(frame.timestamp.abs_diff(first) <= MAX_GROUP_SPAN);
                        }
                    }
                }
            }
        }
    }
}
