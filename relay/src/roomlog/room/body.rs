//! The few bodies that a room writes itself, in CBOR (RFC 8949 §3) like all others.

use bytes::{BufMut, Bytes, BytesMut};

/// What is told of a room with many members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    pub count: u64,
    /// A second, since the summary before.
    pub joins: u64,
    /// A second, since the summary before.
    pub leaves: u64,
    /// Some of the members.
    pub sample: Vec<String>,
}

impl Summary {
    /// `{"count": …, "joins": …, "leaves": …, "sample": […]}`
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        head(&mut out, 5, 4);
        for (name, value) in [
            ("count", self.count),
            ("joins", self.joins),
            ("leaves", self.leaves),
        ] {
            text(&mut out, name);
            head(&mut out, 0, value);
        }
        text(&mut out, "sample");
        head(&mut out, 4, self.sample.len() as u64);
        for name in &self.sample {
            text(&mut out, name);
        }
        out.freeze()
    }
}

/// `{"member": name}`
pub(super) fn member(name: &str) -> Bytes {
    let mut out = BytesMut::new();
    head(&mut out, 5, 1);
    text(&mut out, "member");
    text(&mut out, name);
    out.freeze()
}

fn text(out: &mut BytesMut, text: &str) {
    head(out, 3, text.len() as u64);
    out.put_slice(text.as_bytes());
}

/// A major type and its argument, in the shortest form (RFC 8949 §4.2.1).
fn head(out: &mut BytesMut, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.put_u8(major | argument as u8),
        24..=0xff => out.put_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.put_u8(major | 25);
            out.put_u16(argument as u16);
        }
        0x1_0000..=0xffff_ffff => {
            out.put_u8(major | 26);
            out.put_u32(argument as u32);
        }
        _ => {
            out.put_u8(major | 27);
            out.put_u64(argument);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        assert_eq!(&member("anna")[..], b"\xa1\x66member\x64anna");
        let summary = Summary {
            count: 10_000,
            joins: 24,
            leaves: 0,
            sample: vec!["a".into()],
        };
        let want = b"\xa4\x65count\x19\x27\x10\x65joins\x18\x18\x66leaves\x00\x66sample\x81\x61a";
        assert_eq!(&summary.encode()[..], want);
        let mut large = BytesMut::new();
        head(&mut large, 0, 1 << 16);
        head(&mut large, 0, 1 << 32);
        let want = b"\x1a\x00\x01\x00\x00\x1b\x00\x00\x00\x01\x00\x00\x00\x00";
        assert_eq!(&large[..], want);
    }
}
