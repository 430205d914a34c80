//! The one media model inside Longspan: what every gateway converts to and from at its border.
//!
//! A publisher's tags become [`Sample`]s; [`Grouper`] cuts them into groups and frames of the
//! `video` and `audio` tracks; [`Catalog`] describes them. At a viewer's edge [`Sample`]s are read
//! from frames, put in order by [`Assembler`], and written by a muxer (`flv`, `fmp4`, `rtmp`).
//!
//! Everything here is pure: time and bytes are arguments.

pub mod aac;
mod assembler;
mod bits;
mod catalog;
mod grouper;
pub mod h264;
mod payload;
mod queue;
mod sample;
mod timeline;

pub use assembler::{Assembled, Assembler, GroupStart, MAX_HELD, MAX_WAIT, TrackEvent};
pub use catalog::{AudioTrack, Catalog, CatalogError, MAX_CATALOG, TrackInfo, VideoTrack};
pub use grouper::{AUDIO_GROUP, Cut, Grouper, MAX_AUDIO_GROUP, MAX_GROUP_SPAN, MIN_VIDEO_GROUP};
pub use payload::{MAX_CONFIG, PayloadError};
pub use sample::{Kind, Sample};
pub use timeline::{SPLICE_GAP, Timeline};
