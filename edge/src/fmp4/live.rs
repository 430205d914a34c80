//! An endless low-latency file: one fragment per sample.

use bytes::Bytes;

use crate::media::{Assembled, Catalog};

/// Writes an endless file for Media Source Extensions. What it writes is the same for every
/// viewer: a newcomer is sent [`Live::init`], then whatever is written from a video key frame on.
#[derive(Debug)]
pub struct Live {}

impl Live {
    /// For a stream.
    pub fn new(_catalog: &Catalog) -> Live {
        Live {}
    }

    /// The init segment.
    pub fn init(&self) -> Bytes {
        Bytes::new()
    }

    /// The fragment of a sample; before the first of a group a `prft` box.
    pub fn sample(&mut self, _sample: &Assembled) -> Bytes {
        Bytes::new()
    }
}
