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

fn begin(group: u64, ms: u64) -> TrackEvent {
    TrackEvent::Group(GroupStart {
        group,
        first_index: 0,
        timestamp: ms * 1_000,
        origin_time: 7,
    })
}

fn video(group: u64, index: u64, ms: u64) -> TrackEvent {
    TrackEvent::Sample {
        group,
        index,
        sample: sample(Kind::Video, ms, index == 0),
    }
}

fn audio(group: u64, index: u64, ms: u64) -> TrackEvent {
    TrackEvent::Sample {
        group,
        index,
        sample: sample(Kind::Audio, ms, true),
    }
}

fn at(ms: u64) -> Time {
    Time::from_micros(ms * 1_000)
}

/// What comes out by `now`: `v` or `a` and the ms.
fn drain(assembler: &mut Assembler, now: Time) -> Vec<String> {
    std::iter::from_fn(|| assembler.poll(now))
        .map(|a| {
            let name = &a.sample.kind.name()[..1];
            format!("{name}{}", a.sample.timestamp / 1_000)
        })
        .collect()
}

#[test]
fn orders_by_timestamp_and_does_not_wait_for_what_will_be_later() {
    let mut it = Assembler::new(true, true);
    it.handle(at(0), Kind::Video, begin(0, 0));
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    assert_eq!(drain(&mut it, at(0)), [""; 0]);
    it.handle(at(1), Kind::Audio, begin(0, 0));
    it.handle(at(1), Kind::Audio, audio(0, 0, 0));
    // Audio at 0 shows that video at 0 is first; audio itself may have video before it.
    assert_eq!(drain(&mut it, at(1)), ["v0"]);
    it.handle(at(40), Kind::Video, video(0, 1, 40));
    assert_eq!(drain(&mut it, at(40)), ["a0"]);
    it.handle(at(41), Kind::Audio, audio(0, 1, 23));
    assert_eq!(drain(&mut it, at(41)), ["a23", "v40"]);
    // Video's rhythm says the next is at 80: audio before it does not wait.
    it.handle(at(60), Kind::Audio, audio(0, 2, 46));
    it.handle(at(70), Kind::Audio, audio(0, 3, 69));
    assert_eq!(drain(&mut it, at(70)), ["a46", "a69"]);
    assert_eq!(it.poll_timeout(), None);
}

#[test]
fn waits_for_a_late_track_no_longer_than_the_bound() {
    let mut it = Assembler::new(true, true);
    it.handle(at(5), Kind::Video, video(0, 0, 0));
    let until = at(5) + MAX_WAIT;
    assert_eq!(it.poll_timeout(), Some(until));
    let just_before = until - Duration::from_micros(1);
    assert_eq!(drain(&mut it, just_before), [""; 0]);
    assert_eq!(drain(&mut it, until), ["v0"]);
}

#[test]
fn a_stream_of_one_track_never_waits() {
    let mut it = Assembler::new(false, true);
    it.handle(at(5), Kind::Audio, audio(0, 0, 0));
    assert_eq!(drain(&mut it, at(5)), ["a0"]);
}

#[test]
fn says_where_a_group_begins() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, begin(3, 0));
    it.handle(at(0), Kind::Video, video(3, 0, 0));
    it.handle(at(0), Kind::Video, video(3, 1, 40));
    let first = it.poll(at(0)).unwrap();
    assert_eq!(first.begins.map(|b| (b.group, b.origin_time)), Some((3, 7)));
    assert_eq!(it.poll(at(0)).unwrap().begins, None);
}

#[test]
fn a_newer_group_waits_for_the_rest_of_the_older() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    it.handle(at(1), Kind::Video, video(1, 0, 80));
    assert_eq!(drain(&mut it, at(1)), ["v0"]);
    it.handle(at(2), Kind::Video, video(0, 1, 40));
    it.handle(at(2), Kind::Video, TrackEvent::End { group: 0 });
    assert_eq!(drain(&mut it, at(2)), ["v40", "v80"]);
}

#[test]
fn an_older_group_is_given_up_when_the_bound_is_over() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    assert_eq!(drain(&mut it, at(0)), ["v0"]);
    it.handle(at(10), Kind::Video, video(1, 0, 80));
    assert_eq!(it.poll_timeout(), Some(at(10) + MAX_WAIT));
    assert_eq!(drain(&mut it, at(10) + MAX_WAIT), ["v80"]);
    // What comes of it later is too late.
    it.handle(at(300), Kind::Video, video(0, 1, 40));
    assert_eq!(drain(&mut it, at(999)), [""; 0]);
}

#[test]
fn skips_to_a_key_frame_after_a_loss() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    it.handle(at(0), Kind::Video, video(0, 2, 80));
    it.handle(at(0), Kind::Video, TrackEvent::Dropped { group: 0 });
    it.handle(at(0), Kind::Video, video(1, 0, 200));
    assert_eq!(drain(&mut it, at(0)), ["v0", "v200"]);
    it.handle(at(0), Kind::Video, TrackEvent::End { group: 1 });
    // A whole group is missing, and what follows begins without a key frame.
    it.handle(at(0), Kind::Video, video(3, 1, 400));
    it.handle(at(0), Kind::Video, TrackEvent::End { group: 3 });
    it.handle(at(0), Kind::Video, video(4, 0, 600));
    assert_eq!(drain(&mut it, at(0)), ["v600"]);
}

#[test]
fn a_group_that_continues_without_a_key_frame_is_kept_if_nothing_is_missing() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    it.handle(at(0), Kind::Video, TrackEvent::End { group: 0 });
    it.handle(
        at(0),
        Kind::Video,
        TrackEvent::Sample {
            group: 1,
            index: 0,
            sample: sample(Kind::Video, 40, false),
        },
    );
    assert_eq!(drain(&mut it, at(0)), ["v0", "v40"]);
}

#[test]
fn a_resume_is_seamless() {
    let mut it = Assembler::new(true, false);
    it.handle(at(0), Kind::Video, begin(0, 0));
    it.handle(at(0), Kind::Video, video(0, 0, 0));
    it.handle(at(0), Kind::Video, video(0, 1, 40));
    it.handle(at(0), Kind::Video, begin(0, 0));
    it.handle(at(0), Kind::Video, video(0, 1, 40));
    it.handle(at(0), Kind::Video, video(0, 2, 80));
    assert_eq!(drain(&mut it, at(0)), ["v0", "v40", "v80"]);
}

#[test]
fn what_is_held_is_bounded() {
    let mut it = Assembler::new(true, true);
    for index in 0..=MAX_HELD as u64 {
        it.handle(at(0), Kind::Video, video(0, index, index));
    }
    // Full: the oldest go without waiting for audio, the rest wait again.
    assert_eq!(drain(&mut it, at(0)), ["v0", "v1"]);
}

proptest! {
    /// Whatever happens, each track comes out as published, and nothing stays.
    #[test]
    fn each_track_stays_in_order(
        events in proptest::collection::vec(
            (any::<bool>(), 0u64..6, 0u64..6, 0u8..8, 0u64..400), 0..200)
    ) {
        let mut it = Assembler::new(true, true);
        let mut now = 0;
        let mut last = [None, None];
        let mut check = |it: &mut Assembler, now| {
            while let Some(out) = it.poll(at(now)) {
                let place = (out.group, out.sample.timestamp);
                let slot = &mut last[out.sample.kind as usize];
                prop_assert!(slot.is_none_or(|before| before < place));
                *slot = Some(place);
            }
            Ok(())
        };
        for (is_video, group, index, what, later) in events {
            now += later;
            let kind = if is_video { Kind::Video } else { Kind::Audio };
            let event = match what {
                0 => TrackEvent::End { group },
                1 => TrackEvent::Dropped { group },
                2 => begin(group, group * 10),
                _ if is_video => video(group, index, group * 10 + index),
                _ => audio(group, index, group * 10 + index),
            };
            it.handle(at(now), kind, event);
            check(&mut it, now)?;
        }
        now += 10_000;
        check(&mut it, now)?;
        prop_assert_eq!(it.poll_timeout(), None);
    }
}
