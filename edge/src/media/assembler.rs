//! From the groups of a video and an audio track to samples in timestamp order.

use std::time::Duration;

use longspan_proto::time::Time;

use super::{Kind, Sample};

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
#[derive(Debug)]
pub struct Assembler {}

impl Assembler {
    /// For a stream with these tracks.
    pub fn new(_video: bool, _audio: bool) -> Assembler {
        Assembler {}
    }

    /// Something happened on a track.
    pub fn handle(&mut self, _now: Time, _kind: Kind, _event: TrackEvent) {}

    /// The next sample whose turn it is.
    pub fn poll(&mut self, _now: Time) -> Option<Assembled> {
        None
    }

    /// When to poll again if nothing happens until then.
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
}
