use proptest::prelude::*;

use super::*;
use crate::media::{AudioTrack, TrackInfo, VideoTrack, h264};

fn catalog() -> Catalog {
    Catalog {
        tracks: vec![
            TrackInfo::Video(VideoTrack {
                name: Kind::Video.track(),
                codec: "avc1.64001e".into(),
                config: Bytes::from_static(h264::tests::HIGH_640X360),
                width: 640,
                height: 360,
                framerate: None,
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
        hls_base: 100,
        ..Catalog::default()
    }
}

fn segmenter() -> Segmenter {
    Segmenter::new(Generation::new(0, 7), &catalog())
}

fn begin(group: u64, ms: u64) -> TrackEvent {
    TrackEvent::Group(GroupStart {
        group,
        first_index: 0,
        timestamp: ms * 1_000,
        origin_time: 5_000_000 + ms * 1_000,
    })
}

fn sample(kind: Kind, group: u64, index: u64, ms: u64) -> TrackEvent {
    TrackEvent::Sample {
        group,
        index,
        sample: Sample {
            kind,
            timestamp: ms * 1_000,
            composition: 0,
            key: index == 0 || kind == Kind::Audio,
            discardable: false,
            config: None,
            data: Bytes::from_static(b"data"),
        },
    }
}

/// A group of two samples, complete.
fn whole(it: &mut Segmenter, kind: Kind, group: u64, ms: u64) {
    it.handle(kind, begin(group, ms));
    it.handle(kind, sample(kind, group, 0, ms));
    it.handle(kind, sample(kind, group, 1, ms + 40));
    it.handle(kind, TrackEvent::End { group });
}

/// (sequence, duration in ms, tracks in it) of what is whole by now.
fn drain(it: &mut Segmenter) -> Vec<(u64, u64, usize)> {
    std::iter::from_fn(|| it.poll_segment())
        .map(|s| {
            let tracks = s.data.windows(4).filter(|w| w == b"traf").count();
            (s.sequence, s.duration / 1_000, tracks)
        })
        .collect()
}

#[test]
fn a_segment_is_whole_when_both_tracks_went_on() {
    let mut it = segmenter();
    whole(&mut it, Kind::Video, 0, 0);
    whole(&mut it, Kind::Audio, 0, 10);
    assert_eq!(drain(&mut it), []);
    it.handle(Kind::Video, begin(1, 2_000));
    assert_eq!(drain(&mut it), []);
    it.handle(Kind::Audio, begin(1, 2_010));
    let segment = it.poll_segment().unwrap();
    assert_eq!((segment.sequence, segment.duration), (100, 2_000_000));
    assert_eq!(segment.origin_time, 5_000_000);
    assert_eq!(segment.init, fmp4::init(&catalog()));
    assert_eq!(it.pending, 0);
}

#[test]
fn the_last_segment_ends_with_its_last_sample() {
    let mut it = segmenter();
    whole(&mut it, Kind::Video, 0, 0);
    whole(&mut it, Kind::Audio, 0, 10);
    it.finish();
    assert_eq!(drain(&mut it), [(100, 80, 2)]);
}

#[test]
fn pictures_do_not_wait_for_sound_for_ever() {
    let mut it = segmenter();
    whole(&mut it, Kind::Video, 0, 0);
    whole(&mut it, Kind::Video, 1, 2_000);
    assert_eq!(drain(&mut it), []);
    it.handle(Kind::Video, begin(GIVE_UP_AFTER, 4_000));
    assert_eq!(drain(&mut it), [(100, 2_000, 1)]);
    // What comes later of it is ignored.
    whole(&mut it, Kind::Audio, 0, 0);
    assert_eq!(it.pending, 8);
}

#[test]
fn a_number_without_whole_video_gives_no_segment() {
    let mut it = segmenter();
    it.handle(Kind::Video, begin(0, 0));
    it.handle(Kind::Video, sample(Kind::Video, 0, 0, 0));
    it.handle(Kind::Video, TrackEvent::Dropped { group: 0 });
    whole(&mut it, Kind::Audio, 0, 0);
    whole(&mut it, Kind::Video, 1, 2_000);
    whole(&mut it, Kind::Audio, 1, 2_000);
    // A join in the middle of a group, and a missing sample.
    for kind in Kind::ALL {
        it.handle(kind, begin(2, 4_000));
        it.handle(kind, sample(kind, 2, 0, 4_000));
        it.handle(kind, sample(kind, 2, 2, 4_080));
        it.handle(kind, TrackEvent::End { group: 2 });
    }
    whole(&mut it, Kind::Video, 3, 6_000);
    whole(&mut it, Kind::Audio, 3, 6_000);
    it.finish();
    assert_eq!(drain(&mut it), [(101, 2_000, 2), (103, 80, 2)]);
}

#[test]
fn sound_goes_on_alone_where_the_camera_stopped() {
    let mut it = segmenter();
    whole(&mut it, Kind::Video, 0, 0);
    whole(&mut it, Kind::Audio, 0, 0);
    whole(&mut it, Kind::Audio, 1, 20_000);
    whole(&mut it, Kind::Video, 2, 21_000);
    whole(&mut it, Kind::Audio, 2, 21_000);
    it.finish();
    assert_eq!(
        drain(&mut it),
        [(100, 21_000, 2), (101, 1_000, 1), (102, 80, 2)]
    );
}

#[test]
fn a_new_config_has_a_new_init_segment() {
    let mut it = segmenter();
    whole(&mut it, Kind::Video, 0, 0);
    it.handle(Kind::Video, begin(1, 2_000));
    let mut event = sample(Kind::Video, 1, 0, 2_000);
    let TrackEvent::Sample { sample, .. } = &mut event else {
        unreachable!("made as a sample");
    };
    sample.config = Some(Bytes::from_static(h264::tests::BASELINE_1080));
    it.handle(Kind::Video, event);
    it.finish();
    let [first, second] = [it.poll_segment().unwrap(), it.poll_segment().unwrap()];
    assert_ne!(first.init, second.init);
    let config = h264::tests::BASELINE_1080;
    assert!(second.init.windows(config.len()).any(|w| w == config));
}

#[test]
fn what_waits_is_bounded() {
    let mut it = segmenter();
    it.handle(Kind::Video, begin(0, 0));
    let mut event = sample(Kind::Video, 0, 0, 0);
    let TrackEvent::Sample { sample, .. } = &mut event else {
        unreachable!("made as a sample");
    };
    sample.data = vec![0; MAX_PENDING].into();
    it.handle(Kind::Video, event);
    assert_eq!(it.pending, MAX_PENDING);
    it.handle(Kind::Video, self::sample(Kind::Video, 0, 1, 40));
    assert_eq!(it.pending, 0);
    it.finish();
    assert_eq!(drain(&mut it), []);
}

proptest! {
    /// Whatever comes, numbers rise, and nothing stays behind.
    #[test]
    fn invariants(
        events in proptest::collection::vec(
            (any::<bool>(), 0u64..8, 0u64..4, 0u8..8), 0..200)
    ) {
        let mut it = segmenter();
        let mut last = None;
        for (video, group, index, what) in events {
            let kind = if video { Kind::Video } else { Kind::Audio };
            it.handle(kind, match what {
                0 => TrackEvent::End { group },
                1 => TrackEvent::Dropped { group },
                2 => begin(group, group * 10),
                _ => sample(kind, group, index, group * 10 + index),
            });
            while let Some(segment) = it.poll_segment() {
                prop_assert!(last < Some(segment.sequence));
                last = Some(segment.sequence);
            }
        }
        it.finish();
        prop_assert_eq!(it.pending, 0);
    }
}
