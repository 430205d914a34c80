//! See ARCHITECTURE.md.

pub mod flv;
pub mod fmp4;
pub mod hls;
pub mod media;
pub mod rtmp;
