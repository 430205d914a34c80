//! Fragmented MP4 (ISO/IEC 14496-12), the form that HLS and Media Source Extensions take.
//!
//! * [`init`]: the init segment of a stream.
//! * [`segment`]: the samples of one group number, both tracks, as an HLS segment.
//! * [`Live`]: an endless low-latency file, one fragment per sample.
//!
//! Every track has the timescale [`TIMESCALE`], so that the model's µs stand in the file exactly.
//! Decode times are the stream's own, never rebased.

mod boxes;
mod fragment;
mod init;
mod live;

pub use fragment::{Run, segment};
pub use init::init;
pub use live::Live;

use crate::media::Kind;

/// Media time units a second. The model's own unit: every timestamp a publisher can write (RTMP's
/// ms, RTP's 90 kHz rounded to µs at the border) is exact, and so is every difference.
pub const TIMESCALE: u32 = 1_000_000;

/// The track's number in all files we write.
const fn track_id(kind: Kind) -> u32 {
    match kind {
        Kind::Video => 1,
        Kind::Audio => 2,
    }
}

#[cfg(test)]
mod tests;
