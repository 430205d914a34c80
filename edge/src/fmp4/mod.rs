//! Fragmented MP4 (ISO/IEC 14496-12), the form that HLS and Media Source Extensions take.
//!
//! Every track has the timescale [`TIMESCALE`], so that the model's µs stand in the file exactly.

mod live;

pub use live::Live;

/// Media time units a second. The model's own unit: every timestamp a publisher can write (RTMP's
/// ms, RTP's 90 kHz rounded to µs at the border) is exact, and so is every difference.
pub const TIMESCALE: u32 = 1_000_000;
