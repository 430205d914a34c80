//! File names behind `/hls/ROOM/STREAM/`, the same on every edge.

use longspan_proto::ids::Generation;

/// What a URL behind `/hls/ROOM/STREAM/` names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// `index.m3u8`: the media playlist.
    Playlist,
    /// `init-HASH.mp4`: an init segment.
    Init(u64),
    /// `GENERATION-SEQUENCE.m4s`: a segment.
    Segment {
        /// The generation of the stream's owner.
        generation: Generation,
        /// Its media sequence number.
        sequence: u64,
    },
}

impl Name {
    /// Reads a file name.
    pub fn parse(_file: &str) -> Option<Name> {
        None
    }
}
