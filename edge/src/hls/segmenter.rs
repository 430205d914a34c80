//! From groups to segments.

use bytes::Bytes;
use longspan_proto::ids::Generation;

use crate::media::{Catalog, Kind, TrackEvent};

/// One segment: the video and the audio group of one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The generation it is of.
    pub generation: Generation,
    /// Its media sequence number: the catalog's `hls_base` plus the group's number.
    pub sequence: u64,
    /// How long it plays, in µs.
    pub duration: u64,
    /// Wall clock at the origin edge when its first sample entered: µs since the Unix epoch.
    pub origin_time: u64,
    /// The init segment it needs.
    pub init: Bytes,
    /// `styp`, `moof`, `mdat`; empty if the group was lost: a gap.
    pub data: Bytes,
}

/// Makes segments of one generation's groups.
#[derive(Debug)]
pub struct Segmenter {}

impl Segmenter {
    /// For a generation of a stream.
    pub fn new(_generation: Generation, _catalog: &Catalog) -> Segmenter {
        Segmenter {}
    }

    /// Something happened on a track.
    pub fn handle(&mut self, _kind: Kind, _event: TrackEvent) {}

    /// The generation is over: what is there becomes the last segment.
    pub fn finish(&mut self) {}

    /// The next whole segment, in order.
    pub fn poll_segment(&mut self) -> Option<Segment> {
        None
    }
}
