//! Boxes (ISO/IEC 14496-12 §4.2).

use bytes::{BufMut, BytesMut};

/// Appends a box; `body` appends what is in it.
pub(super) fn put_box(out: &mut BytesMut, name: &[u8; 4], body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(name);
    body(out);
    // What we write is bounded by the frames of a group, far below 4 GB.
    let len = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends a full box: with a version and 24 bits of flags.
pub(super) fn put_full_box(
    out: &mut BytesMut,
    name: &[u8; 4],
    version: u8,
    flags: u32,
    body: impl FnOnce(&mut BytesMut),
) {
    put_box(out, name, |out| {
        out.put_u32(u32::from(version) << 24 | flags);
        body(out);
    });
}
