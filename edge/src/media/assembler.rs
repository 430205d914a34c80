//! From the groups of a video and an audio track to samples in timestamp order.

use std::time::Duration;

use longspan_proto::time::Time;

use super::{Kind, Sample, queue::Queue};

/// How long a sample waits for the other track, or a group for the rest of the group before it.
/// Two tracks of one stream travel the same path and are cut at the same edge; what is later than
/// this is not worth delaying the other track for.
pub const MAX_WAIT: Duration = Duration::from_millis(150);

/// The most samples held per track. When full, the older group is given up.
pub const MAX_HELD: usize = 1_024;

/// What happens on one track; the driver makes it from the subscription's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackEvent {
    /// A group begins.
    Group(GroupStart),
    /// A sample of a group.
    Sample {
        /// The group.
        group: u64,
        /// The sample's number in it.
        index: u64,
        /// The sample.
        sample: Sample,
    },
    /// The group is complete.
    End {
        /// The group.
        group: u64,
    },
    /// The rest of the group will not come.
    Dropped {
        /// The group.
        group: u64,
    },
}

/// A group's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupStart {
    /// The group's number.
    pub group: u64,
    /// The number of the first sample that comes (above 0 after a resume).
    pub first_index: u64,
    /// Media time of its first sample in µs.
    pub timestamp: u64,
    /// Wall clock at the origin edge when the first sample entered it: µs since the Unix epoch.
    pub origin_time: u64,
}

/// A sample in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The group it is of.
    pub group: u64,
    /// Set on the first sample of a group.
    pub begins: Option<GroupStart>,
    /// The sample.
    pub sample: Sample,
}

/// Puts the samples of a video and an audio track in timestamp order.
///
/// After each [`handle`](Assembler::handle), and at [`poll_timeout`](Assembler::poll_timeout),
/// call [`poll`](Assembler::poll) until `None`. A sample waits at most [`MAX_WAIT`] for the other
/// track, and not at all where the other track's rhythm says that nothing earlier will come. So
/// the order is by timestamp unless a track is late; within a track it always is as published.
#[derive(Debug)]
pub struct Assembler {
    /// Video, audio; `None` where the stream has no such track.
    tracks: [Option<Queue>; 2],
}

impl Assembler {
    /// For a stream with these tracks.
    pub fn new(video: bool, audio: bool) -> Assembler {
        Assembler {
            tracks: [
                video.then(|| Queue::new(Kind::Video)),
                audio.then(|| Queue::new(Kind::Audio)),
            ],
        }
    }

    /// Something happened on a track. What is said of a track the stream does not have is
    /// ignored.
    pub fn handle(&mut self, now: Time, kind: Kind, event: TrackEvent) {
        if let Some(queue) = &mut self.tracks[kind as usize] {
            queue.handle(now, event);
        }
    }

    /// The next sample whose turn it is.
    pub fn poll(&mut self, now: Time) -> Option<Assembled> {
        for queue in self.tracks.iter_mut().flatten() {
            queue.settle(now);
        }
        let (kind, _) = self.first()?;
        let full = self.tracks.iter().flatten().any(Queue::is_full);
        if !full && self.waits_until(kind).is_some_and(|until| now < until) {
            return None;
        }
        self.tracks[kind as usize].as_mut()?.pop()
    }

    /// When to poll again if nothing happens until then.
    pub fn poll_timeout(&self) -> Option<Time> {
        let waiting = self.first().and_then(|(kind, _)| self.waits_until(kind));
        let given_up = self.tracks.iter().flatten().filter_map(Queue::timeout);
        given_up.chain(waiting).min()
    }

    /// The earlier of the two heads.
    fn first(&self) -> Option<(Kind, u64)> {
        let head = |kind: Kind| {
            let (timestamp, _) = self.tracks[kind as usize].as_ref()?.head()?;
            Some((kind, timestamp))
        };
        let heads = Kind::ALL.into_iter().filter_map(head);
        heads.min_by_key(|(_, timestamp)| *timestamp)
    }

    /// Until when the head of this track waits for the other one; `None` if it need not.
    fn waits_until(&self, kind: Kind) -> Option<Time> {
        let (timestamp, since) = self.tracks[kind as usize].as_ref()?.head()?;
        let other = self.tracks[kind.other() as usize].as_ref()?;
        let waits = other.head().is_none() && !other.is_past(timestamp);
        waits.then(|| since + MAX_WAIT)
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
}
