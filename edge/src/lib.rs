//! See ARCHITECTURE.md.

pub mod auth;
pub mod flv;
pub mod fmp4;
pub mod hls;
pub mod live;
pub mod media;
pub mod rtmp;
