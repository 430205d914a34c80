//! HLS (RFC 8216): segments and playlists of one stream.
//!
//! * [`Segmenter`]: groups of both tracks to fMP4 segments.
//! * [`Window`]: the last segments and the playlist that names them.
//! * [`Name`]: what stands behind `/hls/ROOM/STREAM/`.
//!
//! `index.m3u8` is the media playlist itself: there is one rendition, and a multivariant playlist
//! before it would only cost a newcomer another round trip.

mod date;
mod name;
mod segmenter;
mod window;

pub use name::Name;
pub use segmenter::{GIVE_UP_AFTER, MAX_PENDING, Segment, Segmenter};
pub use window::{HELD, LISTED, MAX_BYTES, Window};
