//! FLV (Adobe's "Video File Format Specification", version 10.1): tags, their bodies, files.
//!
//! * [`Ingest`]: a publisher's tag bodies to a [`Catalog`](crate::media::Catalog) and samples.
//! * [`Muxer`]: samples to an endless FLV file, and to the tag bodies an RTMP player is sent.
//! * [`Reader`]: a file to tags.

mod ingest;
mod mux;
mod read;

pub use ingest::{Ingest, IngestError, Ingested};
pub use mux::{Muxer, config_bodies, sample_body};
pub use read::{ReadError, Reader, Tag};
