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
mod tests;
