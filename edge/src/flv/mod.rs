//! FLV (Adobe's "Video File Format Specification", version 10.1): tags, their bodies, files.
//!
//! * [`Ingest`]: a publisher's tag bodies to a [`Catalog`](crate::media::Catalog) and samples.
//! * [`Muxer`]: samples to an endless FLV file; [`sample_body`] and its like: to the tag bodies
//!   an RTMP player is sent.
//! * [`Reader`]: a file to tags; [`Loop`]: a file played again and again.

mod body;
mod ingest;
mod looping;
mod mux;
mod read;

pub use body::{BodyError, is_config, is_key, sample_body};
pub use ingest::{Ingest, IngestError, Ingested, MAX_HELD, MAX_HOLD_MS};
pub use looping::{Loop, LoopError};
pub use mux::{Muxer, config_bodies, metadata};
pub use read::{MAX_TAG, ReadError, Reader, Tag};

/// Tag types (§E.4.1).
pub(crate) mod tag_type {
    pub const AUDIO: u8 = 8;
    pub const VIDEO: u8 = 9;
    pub const SCRIPT: u8 = 18;
}
