//! Fragments: `moof` and `mdat` (§8.8).

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    boxes::{put_box, put_full_box},
    track_id,
};
use crate::media::{Kind, Sample};

/// Samples of one track that follow each other.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The track.
    pub kind: Kind,
    /// Its samples; at least one.
    pub samples: &'a [Sample],
    /// When the last one ends, in µs.
    pub end: u64,
}

/// An HLS segment: `styp` and one fragment of the given runs. Runs without samples are left out.
pub fn segment(sequence: u32, runs: &[Run<'_>]) -> Bytes {
    let bytes: usize = runs
        .iter()
        .flat_map(|r| r.samples)
        .map(|s| s.data.len())
        .sum();
    let samples: usize = runs.iter().map(|r| r.samples.len()).sum();
    let mut out = BytesMut::with_capacity(bytes + samples * 16 + 256);
    put_box(&mut out, b"styp", |out| {
        out.put_slice(b"msdh\0\0\0\0msdhiso6")
    });
    put_fragment(&mut out, sequence, runs);
    out.freeze()
}

/// `trun` flags (§8.8.8.1).
mod trun {
    pub const DATA_OFFSET: u32 = 0x1;
    pub const DURATION: u32 = 0x100;
    pub const SIZE: u32 = 0x200;
    pub const FLAGS: u32 = 0x400;
    pub const COMPOSITION: u32 = 0x800;
}

/// Appends one fragment of the given runs.
pub(super) fn put_fragment(out: &mut BytesMut, sequence: u32, runs: &[Run<'_>]) {
    const DEFAULT_BASE_IS_MOOF: u32 = 0x02_0000;
    let start = out.len();
    // Where each run's data offset stands, to be filled in when the `moof` is whole.
    let mut offsets = Vec::with_capacity(runs.len());
    put_box(out, b"moof", |out| {
        put_full_box(out, b"mfhd", 0, 0, |out| out.put_u32(sequence));
        for run in runs {
            let Some(first) = run.samples.first() else {
                continue;
            };
            put_box(out, b"traf", |out| {
                put_full_box(out, b"tfhd", 0, DEFAULT_BASE_IS_MOOF, |out| {
                    out.put_u32(track_id(run.kind));
                });
                put_full_box(out, b"tfdt", 1, 0, |out| out.put_u64(first.timestamp));
                offsets.push((put_run(out, run), run));
            });
        }
    });
    let mut data_offset = out.len() - start + 8;
    for (at, run) in offsets {
        // Far below 4 GB: at most the frames of one group number.
        out[at..at + 4].copy_from_slice(&(data_offset as u32).to_be_bytes());
        data_offset += run.samples.iter().map(|s| s.data.len()).sum::<usize>();
    }
    put_box(out, b"mdat", |out| {
        for sample in runs.iter().flat_map(|run| run.samples) {
            out.put_slice(&sample.data);
        }
    });
}

/// Appends a `trun` (§8.8.8); gives where its data offset stands.
fn put_run(out: &mut BytesMut, run: &Run<'_>) -> usize {
    let mut flags = trun::DATA_OFFSET | trun::DURATION | trun::SIZE | trun::FLAGS;
    if run.kind == Kind::Video {
        flags |= trun::COMPOSITION;
    }
    let mut offset = 0;
    // Version 1: composition offsets may be negative.
    put_full_box(out, b"trun", 1, flags, |out| {
        out.put_u32(run.samples.len() as u32);
        offset = out.len();
        out.put_u32(0);
        let ends = run.samples.iter().skip(1).map(|s| s.timestamp);
        // A fragment says durations, not times: where a timestamp goes back, the time it takes
        // is made up for by the next ones.
        let mut time = run.samples.first().map_or(0, |s| s.timestamp);
        for (sample, end) in run.samples.iter().zip(ends.chain([run.end])) {
            let duration = u32::try_from(end.saturating_sub(time)).unwrap_or(u32::MAX);
            time += u64::from(duration);
            out.put_u32(duration);
            out.put_u32(sample.data.len() as u32);
            out.put_u32(sample_flags(sample));
            if run.kind == Kind::Video {
                let offset = sample.composition;
                out.put_i32(offset.clamp(i32::MIN.into(), i32::MAX.into()) as i32);
            }
        }
    });
    offset
}

/// §8.8.3.1.
fn sample_flags(sample: &Sample) -> u32 {
    const DEPENDS: u32 = 1 << 24;
    const DEPENDS_NOT: u32 = 2 << 24;
    const DEPENDED_ON: u32 = 1 << 22;
    const NOT_DEPENDED_ON: u32 = 2 << 22;
    const NOT_SYNC: u32 = 1 << 16;
    let on_it = if sample.discardable {
        NOT_DEPENDED_ON
    } else {
        DEPENDED_ON
    };
    match (sample.kind, sample.key) {
        (Kind::Audio, _) => DEPENDS_NOT,
        (Kind::Video, true) => DEPENDS_NOT | on_it,
        (Kind::Video, false) => DEPENDS | NOT_SYNC | on_it,
    }
}
