//! From samples to tags.

use bytes::Bytes;

use crate::media::{Catalog, Kind, Sample};

/// Writes an endless FLV file. What it writes for one viewer is right for every other one of the
/// same stream, so one muxer serves all: a newcomer is sent [`Muxer::header`], then whatever is
/// written from then on (from a key frame).
#[derive(Debug)]
pub struct Muxer {}

impl Muxer {
    /// For a stream.
    pub fn new(_catalog: &Catalog) -> Muxer {
        Muxer {}
    }

    /// What a viewer is sent first: file header, `onMetaData`, and the decoder configs in force.
    pub fn header(&self) -> Bytes {
        Bytes::new()
    }

    /// The stream is made of something else from now on: the tags that say so.
    pub fn catalog(&mut self, _catalog: &Catalog) -> Bytes {
        Bytes::new()
    }

    /// The tag of a sample, before it a tag with the decoder config where that is new.
    pub fn sample(&mut self, _sample: &Sample) -> Bytes {
        Bytes::new()
    }
}

/// The tag bodies that carry a catalog's decoder configs: what an RTMP player is sent first.
pub fn config_bodies(_catalog: &Catalog) -> Vec<(Kind, Bytes)> {
    Vec::new()
}

/// The tag body that carries a sample.
pub fn sample_body(_sample: &Sample) -> Bytes {
    Bytes::new()
}
