//! From a file to tags.

use bytes::{Buf, Bytes, BytesMut};

/// The largest tag, in bytes: as much as an RTMP message may hold.
pub const MAX_TAG: usize = crate::rtmp::chunk::MAX_MESSAGE;

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// 8 audio, 9 video, 18 script data.
    pub tag_type: u8,
    /// In ms.
    pub timestamp: u32,
    /// The body.
    pub body: Bytes,
}

/// Why bytes are no FLV file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Not the first bytes of an FLV file.
    #[error("not FLV: begins with {0:02x?}")]
    Signature([u8; 4]),
    /// The header says it is longer than any is.
    #[error("FLV header of {0} bytes")]
    Header(u32),
    /// A tag longer than [`MAX_TAG`].
    #[error("FLV tag of {0} bytes; the limit is {MAX_TAG}")]
    TagSize(usize),
}

const FILE_HEADER: usize = 9;
const TAG_HEADER: usize = 11;
const BACK_POINTER: usize = 4;

/// Reads tags from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    begun: bool,
}

impl Reader {
    /// At the start of a file.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// More bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole tag; `None` until more bytes come.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, ReadError> {
        if !self.begun && !self.file_header()? {
            return Ok(None);
        }
        let Some(header) = self.buffer.first_chunk::<TAG_HEADER>() else {
            return Ok(None);
        };
        let [tag_type, s2, s1, s0, t2, t1, t0, t3, ..] = *header;
        let len = u32::from_be_bytes([0, s2, s1, s0]) as usize;
        if len > MAX_TAG {
            return Err(ReadError::TagSize(len));
        }
        if self.buffer.len() < TAG_HEADER + len + BACK_POINTER {
            return Ok(None);
        }
        self.buffer.advance(TAG_HEADER);
        let body = self.buffer.split_to(len).freeze();
        self.buffer.advance(BACK_POINTER);
        Ok(Some(Tag {
            // The upper bits are reserved and the encryption's (§E.4.1).
            tag_type: tag_type & 0x1f,
            timestamp: u32::from_be_bytes([t3, t2, t1, t0]),
            body,
        }))
    }

    fn file_header(&mut self) -> Result<bool, ReadError> {
        let Some(header) = self.buffer.first_chunk::<FILE_HEADER>() else {
            return Ok(false);
        };
        let [a, b, c, version, _, o3, o2, o1, o0] = *header;
        if [a, b, c, version] != *b"FLV\x01" {
            return Err(ReadError::Signature([a, b, c, version]));
        }
        let offset = u32::from_be_bytes([o3, o2, o1, o0]);
        if !(FILE_HEADER as u32..=64).contains(&offset) {
            return Err(ReadError::Header(offset));
        }
        let size = offset as usize + BACK_POINTER;
        if self.buffer.len() < size {
            return Ok(false);
        }
        self.buffer.advance(size);
        self.begun = true;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flv::mux::put_tag;

    fn read(bytes: &[u8], step: usize) -> Result<Vec<Tag>, ReadError> {
        let mut reader = Reader::new();
        let mut tags = Vec::new();
        for part in bytes.chunks(step) {
            reader.push(part);
            while let Some(tag) = reader.next_tag()? {
                tags.push(tag);
            }
        }
        Ok(tags)
    }

    #[test]
    fn refuses_what_is_not_flv() {
        assert_eq!(read(b"GIF89a...", 9), Err(ReadError::Signature(*b"GIF8")));
        assert_eq!(
            read(b"FLV\x01\x05\xff\0\0\0", 9),
            Err(ReadError::Header(0xff00_0000))
        );
        let mut big = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        big.extend([9, 0x40, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(read(&big, 99), Err(ReadError::TagSize(MAX_TAG + 1)));
    }

    proptest! {
        #[test]
        fn round_trip_however_the_bytes_are_split(
            tags in proptest::collection::vec(
                (prop_oneof![Just(8u8), Just(9), Just(18)], any::<u32>(), 0usize..300), 0..9),
            step in 1usize..99,
        ) {
            let tags: Vec<Tag> = tags.into_iter().map(|(tag_type, timestamp, len)| Tag {
                tag_type, timestamp, body: vec![7; len].into(),
            }).collect();
            let mut bytes = BytesMut::from(&b"FLV\x01\x05\0\0\0\x09\0\0\0\0"[..]);
            for tag in &tags {
                put_tag(&mut bytes, tag.tag_type, tag.timestamp, |out| {
                    out.extend_from_slice(&tag.body);
                });
            }
            prop_assert_eq!(read(&bytes, step).unwrap(), tags);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
            file.extend(bytes);
            let _ = read(&file, 50);
        }
    }
}
