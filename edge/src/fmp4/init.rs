//! The init segment: what a decoder must know before the first fragment.

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    TIMESCALE,
    boxes::{put_box, put_full_box},
    track_id,
};
use crate::media::{AudioTrack, Catalog, TrackInfo, VideoTrack};

/// The init segment (`ftyp`, `moov`) of a stream. The same catalog gives the same bytes.
pub fn init(catalog: &Catalog) -> Bytes {
    let mut out = BytesMut::with_capacity(2_048);
    put_box(&mut out, b"ftyp", |out| {
        out.put_slice(b"iso6\0\0\0\0iso6avc1mp41");
    });
    put_box(&mut out, b"moov", |out| {
        put_movie_header(out);
        for track in &catalog.tracks {
            put_track(out, track);
        }
        put_box(out, b"mvex", |out| {
            for track in &catalog.tracks {
                // §8.8.3: defaults, all of which the fragments override.
                put_full_box(out, b"trex", 0, 0, |out| {
                    out.put_u32(track_id(track.kind()));
                    out.put_u32(1);
                    out.put_bytes(0, 12);
                });
            }
        });
    });
    out.freeze()
}

/// The unity matrix (§6.2.2).
fn put_matrix(out: &mut BytesMut) {
    for value in [0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x4000_0000] {
        out.put_u32(value);
    }
}

/// §8.2.2.
fn put_movie_header(out: &mut BytesMut) {
    put_full_box(out, b"mvhd", 0, 0, |out| {
        out.put_bytes(0, 8);
        out.put_u32(TIMESCALE);
        out.put_u32(0); // duration: in the fragments
        out.put_u32(0x10000); // rate
        out.put_u16(0x100); // volume
        out.put_bytes(0, 10);
        put_matrix(out);
        out.put_bytes(0, 24);
        out.put_u32(3); // next track id
    });
}

fn put_track(out: &mut BytesMut, track: &TrackInfo) {
    let id = track_id(track.kind());
    let (volume, width, height) = match track {
        TrackInfo::Video(v) => (0, v.width, v.height),
        TrackInfo::Audio(_) => (0x100, 0, 0),
    };
    put_box(out, b"trak", |out| {
        // §8.3.2; flags: enabled, in the movie.
        put_full_box(out, b"tkhd", 0, 3, |out| {
            out.put_bytes(0, 8);
            out.put_u32(id);
            out.put_bytes(0, 4 + 4 + 8 + 2 + 2);
            out.put_u16(volume);
            out.put_u16(0);
            put_matrix(out);
            out.put_u32(width << 16);
            out.put_u32(height << 16);
        });
        put_box(out, b"mdia", |out| put_media(out, track));
    });
}

fn put_media(out: &mut BytesMut, track: &TrackInfo) {
    put_full_box(out, b"mdhd", 0, 0, |out| {
        out.put_bytes(0, 8);
        out.put_u32(TIMESCALE);
        out.put_u32(0);
        out.put_u16(0x55c4); // language "und" (§8.4.2.3)
        out.put_u16(0);
    });
    let (handler, name): (&[u8; 4], &[u8]) = match track {
        TrackInfo::Video(_) => (b"vide", b"video\0"),
        TrackInfo::Audio(_) => (b"soun", b"audio\0"),
    };
    put_full_box(out, b"hdlr", 0, 0, |out| {
        out.put_u32(0);
        out.put_slice(handler);
        out.put_bytes(0, 12);
        out.put_slice(name);
    });
    put_box(out, b"minf", |out| {
        match track {
            TrackInfo::Video(_) => put_full_box(out, b"vmhd", 0, 1, |out| out.put_bytes(0, 8)),
            TrackInfo::Audio(_) => put_full_box(out, b"smhd", 0, 0, |out| out.put_bytes(0, 4)),
        }
        put_box(out, b"dinf", |out| {
            put_full_box(out, b"dref", 0, 0, |out| {
                out.put_u32(1);
                put_full_box(out, b"url ", 0, 1, |_| {}); // in this file
            });
        });
        put_box(out, b"stbl", |out| {
            put_full_box(out, b"stsd", 0, 0, |out| {
                out.put_u32(1);
                match track {
                    TrackInfo::Video(video) => put_avc1(out, video),
                    TrackInfo::Audio(audio) => put_mp4a(out, audio),
                }
            });
            // No samples here: all are in the fragments.
            put_full_box(out, b"stts", 0, 0, |out| out.put_u32(0));
            put_full_box(out, b"stsc", 0, 0, |out| out.put_u32(0));
            put_full_box(out, b"stsz", 0, 0, |out| out.put_u64(0));
            put_full_box(out, b"stco", 0, 0, |out| out.put_u32(0));
        });
    });
}

/// ISO/IEC 14496-15 §5.4.2.1.
fn put_avc1(out: &mut BytesMut, video: &VideoTrack) {
    put_box(out, b"avc1", |out| {
        out.put_bytes(0, 6);
        out.put_u16(1); // data reference
        out.put_bytes(0, 16);
        out.put_u16(u16::try_from(video.width).unwrap_or(u16::MAX));
        out.put_u16(u16::try_from(video.height).unwrap_or(u16::MAX));
        out.put_u32(0x48_0000); // 72 dpi, as the specification wants
        out.put_u32(0x48_0000);
        out.put_u32(0);
        out.put_u16(1); // one picture a sample
        out.put_bytes(0, 32); // compressor's name
        out.put_u16(24); // depth
        out.put_i16(-1);
        put_box(out, b"avcC", |out| out.put_slice(&video.config));
    });
}

/// ISO/IEC 14496-14 §5.6.
fn put_mp4a(out: &mut BytesMut, audio: &AudioTrack) {
    put_box(out, b"mp4a", |out| {
        out.put_bytes(0, 6);
        out.put_u16(1); // data reference
        out.put_bytes(0, 8);
        out.put_u16(u16::from(audio.channels));
        out.put_u16(16); // bits a sample
        out.put_u32(0);
        // 16.16 bits; a higher rate stands in the decoder config only (ISO/IEC 14496-12 §12.2.3).
        out.put_u32(u16::try_from(audio.sample_rate).map_or(0, |rate| u32::from(rate) << 16));
        put_full_box(out, b"esds", 0, 0, |out| put_es_descriptor(out, audio));
    });
}

/// ISO/IEC 14496-1 §7.2.6.5.
fn put_es_descriptor(out: &mut BytesMut, audio: &AudioTrack) {
    const ES: u8 = 3;
    const DECODER_CONFIG: u8 = 4;
    const DECODER_SPECIFIC: u8 = 5;
    const SYNC_LAYER: u8 = 6;
    const HEADER: usize = 5;
    let specific = audio.config.len();
    let decoder = 13 + HEADER + specific;
    put_descriptor(out, ES, 3 + HEADER + decoder + HEADER + 1);
    out.put_u16(0); // id: of the track
    out.put_u8(0);
    put_descriptor(out, DECODER_CONFIG, decoder);
    out.put_u8(0x40); // MPEG-4 audio
    out.put_u8(0x15); // an audio stream
    out.put_uint(0, 3);
    let bitrate = audio
        .bitrate
        .and_then(|b| u32::try_from(b).ok())
        .unwrap_or(0);
    out.put_u32(bitrate); // highest
    out.put_u32(bitrate); // average
    put_descriptor(out, DECODER_SPECIFIC, specific);
    out.put_slice(&audio.config);
    put_descriptor(out, SYNC_LAYER, 1);
    out.put_u8(2); // as in MP4 files
}

/// Tag and length, in the four-byte form (ISO/IEC 14496-1 §8.3.3).
fn put_descriptor(out: &mut BytesMut, tag: u8, len: usize) {
    out.put_u8(tag);
    for shift in [21, 14, 7] {
        out.put_u8(0x80 | (len >> shift & 0x7f) as u8);
    }
    out.put_u8((len & 0x7f) as u8);
}
