//! File names behind `/hls/ROOM/STREAM/`, the same on every edge.

use std::fmt;

use longspan_proto::ids::Generation;

/// What a URL behind `/hls/ROOM/STREAM/` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// `index.m3u8`: the media playlist.
    Playlist,
    /// `init-HASH.mp4`: an init segment, named by what is in it.
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
    pub fn parse(file: &str) -> Option<Name> {
        let name = Name::read(file)?;
        // One spelling per name, so that caches hold each file once.
        (name.to_string() == file).then_some(name)
    }

    fn read(file: &str) -> Option<Name> {
        if file == "index.m3u8" {
            return Some(Name::Playlist);
        }
        if let Some(hash) = file.strip_prefix("init-") {
            let hash = hash.strip_suffix(".mp4")?;
            return Some(Name::Init(u64::from_str_radix(hash, 16).ok()?));
        }
        let (generation, sequence) = file.strip_suffix(".m4s")?.split_once('-')?;
        let (era, counter) = generation.split_once('.')?;
        let counter: u64 = counter.parse().ok()?;
        if counter >= 1 << 48 {
            return None;
        }
        Some(Name::Segment {
            generation: Generation::new(era.parse().ok()?, counter),
            sequence: sequence.parse().ok()?,
        })
    }

    /// The name of an init segment: FNV-1a over its bytes. It tells apart the configs of one
    /// stream; a publisher who makes two of his own collide harms himself.
    pub fn of_init(init: &[u8]) -> Name {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        Name::Init(init.iter().fold(OFFSET, mix))
    }

    /// As in `Content-Type`.
    pub fn content_type(&self) -> &'static str {
        match self {
            Name::Playlist => "application/vnd.apple.mpegurl",
            Name::Init(_) | Name::Segment { .. } => "video/mp4",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Playlist => f.write_str("index.m3u8"),
            Name::Init(hash) => write!(f, "init-{hash:016x}.mp4"),
            Name::Segment {
                generation,
                sequence,
            } => write!(f, "{generation}-{sequence}.m4s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        let segment = Name::Segment {
            generation: Generation::new(1, 7),
            sequence: 4_711,
        };
        for (file, name) in [
            ("index.m3u8", Name::Playlist),
            ("init-00000000000000ff.mp4", Name::Init(255)),
            ("1.7-4711.m4s", segment),
        ] {
            assert_eq!(Name::parse(file), Some(name));
            assert_eq!(name.to_string(), file);
        }
        // The published test vector of FNV-1a.
        assert_eq!(Name::of_init(b"a"), Name::Init(0xaf63_dc4c_8601_ec8c));
    }

    #[test]
    fn refuses_other_spellings() {
        for file in [
            "",
            "index.m3u",
            "init-ff.mp4",
            "init-00000000000000FF.mp4",
            "1.7-04711.m4s",
            "1.7-+1.m4s",
            "1.281474976710656-1.m4s",
            "65536.1-1.m4s",
            "../1.7-1.m4s",
        ] {
            assert_eq!(Name::parse(file), None, "{file}");
        }
    }
}
