//! From a publisher's tags to samples.

use bytes::Bytes;

use crate::media::{Catalog, Kind, Sample};

/// What comes of a tag.
#[derive(Debug, Clone, PartialEq)]
pub enum Ingested {
    /// The stream is made of this from now on. Comes before the first sample; again when a
    /// decoder config or the metadata changes. `hls_base` is left 0: the edge sets it.
    Catalog(Catalog),
    /// A sample. Its `config` is set where the decoder config is new.
    Sample(Sample),
}

/// Why a tag is refused; the publisher cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {}

/// Makes samples of a publisher's tag bodies.
#[derive(Debug, Default)]
pub struct Ingest {}

impl Ingest {
    /// For a new publisher.
    pub fn new() -> Ingest {
        Ingest::default()
    }

    /// `onMetaData` came.
    pub fn metadata(
        &mut self,
        _metadata: serde_json::Map<String, serde_json::Value>,
    ) -> Vec<Ingested> {
        Vec::new()
    }

    /// A tag body came; `timestamp` in ms, wrapping at 2^32.
    pub fn media(
        &mut self,
        _kind: Kind,
        _timestamp: u32,
        _body: Bytes,
    ) -> Result<Vec<Ingested>, IngestError> {
        Ok(Vec::new())
    }
}
