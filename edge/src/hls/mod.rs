//! HLS (RFC 8216): segments and playlists of one stream.
//!
//! * [`Segmenter`]: groups of both tracks to fMP4 segments.
//! * [`Window`]: the last segments and the playlist that names them.
//! * [`Name`]: what stands behind `/hls/ROOM/STREAM/`.

mod name;
mod segmenter;
mod window;

pub use name::Name;
pub use segmenter::{Segment, Segmenter};
pub use window::Window;
