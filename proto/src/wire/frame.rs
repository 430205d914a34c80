//! Groups and frames (WIRE.md, "Groups" and "Frames").

use bytes::Bytes;

/// The largest payload of one frame: 1 MB (DESIGN's "opaque and atomic").
pub const MAX_FRAME: usize = 1 << 20;

/// What goes first when a link is full. Lower values go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Audio and messages.
    Realtime = 0,
    /// Room state, catalogs.
    State = 1,
    /// Video frames that others depend on from the group's start.
    VideoKey = 2,
    /// Other video frames.
    VideoDelta = 3,
}

/// What a forwarder may know of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Decodable without earlier frames.
    pub key: bool,
    /// No later frame depends on it.
    pub discardable: bool,
    /// Sent from a cache to catch up, not live.
    pub replay: bool,
    /// Temporal layer, 0..=3.
    pub layer: u8,
}

/// One frame, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Media time in µs, on the stream's own timeline.
    pub timestamp: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Priority`].
    pub priority: Priority,
    /// Opaque; at most [`MAX_FRAME`].
    pub payload: Bytes,
}

/// What stands once at the start of each group's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHeader {
    /// The subscription this group answers, as numbered by the subscriber.
    pub subscription: u64,
    /// The group's number in the track.
    pub group: u64,
    /// The number of the first frame on this stream (above 0 after a resume).
    pub first_frame: u64,
    /// Media time of the group's first frame in µs; frame timestamps are coded against it.
    pub timestamp: u64,
    /// Wall clock at the origin edge when the group's first frame entered it: µs since the Unix
    /// epoch, UTC.
    pub origin_time: u64,
    /// The sender is catching up from its cache.
    pub replay: bool,
}
