//! The last segments of a stream, and the playlist that names them.

use bytes::Bytes;

use super::{Name, Segment};

/// The last segments of a stream.
#[derive(Debug, Default)]
pub struct Window {}

impl Window {
    /// Without segments.
    pub fn new() -> Window {
        Window::default()
    }

    /// Takes the next segment; one that is not after those already listed is refused (`false`).
    pub fn push(&mut self, _segment: Segment) -> bool {
        true
    }

    /// The media playlist; `None` before the first segment.
    pub fn playlist(&self) -> Option<String> {
        None
    }

    /// An init segment or a segment that is still held (a little longer than it is listed).
    pub fn get(&self, _name: &Name) -> Option<Bytes> {
        None
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        0
    }
}
