//! From a file to tags.

use bytes::Bytes;

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
pub enum ReadError {}

/// Reads tags from bytes as they come.
#[derive(Debug, Default)]
pub struct Reader {}

impl Reader {
    /// At the start of a file.
    pub fn new() -> Reader {
        Reader::default()
    }

    /// More bytes.
    pub fn push(&mut self, _bytes: &[u8]) {}

    /// The next whole tag; `None` until more bytes come.
    pub fn next_tag(&mut self) -> Result<Option<Tag>, ReadError> {
        Ok(None)
    }
}
