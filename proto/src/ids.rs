//! Names and numbers that identify things. Parsed at the border; inside, an invalid one cannot
//! be written down.

use std::{borrow::Borrow, fmt, ops::Deref, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("{what} is empty")]
    Empty {
        /// What kind of name it is.
        what: &'static str,
    },
    /// The name is longer than its limit.
    #[error("{what} is {len} bytes long; the limit is {limit}")]
    TooLong {
        /// What kind of name it is.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The name holds a character it may not hold.
    #[error("{what} {name:?} holds {found:?}; allowed are {allowed}")]
    Character {
        /// What kind of name it is.
        what: &'static str,
        /// The name.
        name: String,
        /// The first character that is not allowed.
        found: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
}

fn check(
    what: &'static str,
    name: &str,
    limit: usize,
    allowed: &'static str,
    allows: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > limit {
        return Err(NameError::TooLong {
            what,
            len: name.len(),
            limit,
        });
    }
    match name.chars().find(|c| !allows(*c)) {
        Some(found) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            found,
            allowed,
        }),
        None => Ok(()),
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $limit:literal, $allowed:literal, $allows:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The longest it may be, in bytes.
            pub const MAX_LEN: usize = $limit;

            /// Parses a name.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check($what, name, $limit, $allowed, $allows)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(s: &str) -> Result<Self, NameError> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(s: String) -> Result<Self, NameError> {
                Self::new(&s)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Deref for $type {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn slug(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'
}

/// RFC 3986 §2.3 "unreserved": what stands in a URL path without escaping.
fn unreserved(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~')
}

name!(
    /// A node's name, unique in the backbone; also the name in its certificate.
    NodeId, "node id", 63, "a-z, 0-9 and -", slug
);
name!(
    /// Where a node runs, such as `cn-beijing`.
    Region, "region", 63, "a-z, 0-9 and -", slug
);
name!(
    /// One IDC inside a region.
    Zone, "zone", 63, "a-z, 0-9 and -", slug
);
name!(
    /// One way between two nodes: `internet`, or a leased line by name.
    Net, "net", 63, "a-z, 0-9 and -", slug
);
name!(
    /// A customer of the operator.
    Tenant, "tenant", 64, "letters, digits and -._~", unreserved
);
name!(
    /// One classroom, inside a tenant.
    Room, "room", 128, "letters, digits and -._~", unreserved
);
name!(
    /// One programme in a room. A leading `@` is ours: `@room` holds the room's message tracks.
    Stream, "stream", 128, "letters, digits and -._~@", |c| unreserved(c) || c == '@'
);
name!(
    /// One track of a stream, such as `catalog`, `video` or `audio`.
    Track, "track", 64, "letters, digits and -._~", unreserved
);

impl Net {
    /// The public internet: the net of a link that names none.
    pub fn internet() -> Net {
        Net("internet".into())
    }
}

impl Tenant {
    /// The tenant of whoever names none.
    pub fn default_tenant() -> Tenant {
        Tenant("default".into())
    }
}

impl Stream {
    /// The reserved stream that holds a room's message tracks (`log`, `snapshot`, `ephemeral`).
    pub fn room() -> Stream {
        Stream("@room".into())
    }

    /// Whether the name is reserved to us; users may not publish it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('@')
    }
}

impl Track {
    /// A room's ordered messages, in the stream `@room`.
    pub fn log() -> Track {
        Track("log".into())
    }

    /// A room's ephemeral messages, in the stream `@room`.
    pub fn ephemeral() -> Track {
        Track("ephemeral".into())
    }

    /// The same track of a room that was moved to another placement group, by this move (WIRE.md,
    /// "Moving a room"): under one generation it may be there, away, and there again.
    pub fn since_move(self, word: u64) -> Track {
        Track(format!("{}-{word}", self.0).into())
    }
}

/// Tells a node's restarts apart: drawn at random when the process starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// A member's session: 128 random bits of the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The fencing number of an owner (a stream's origin, a room log's leader). Higher wins; never
/// reused. The upper 16 bits are the store's era, the lower 48 a counter: a store restored from a
/// backup raises its era, so that what it forgot cannot come again.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation(pub u64);

impl Generation {
    /// From a store era and a counter below 2^48.
    pub fn new(era: u16, counter: u64) -> Generation {
        debug_assert!(counter < 1 << 48);
        Generation(u64::from(era) << 48 | counter)
    }

    /// The store's era.
    pub fn era(self) -> u16 {
        (self.0 >> 48) as u16
    }

    /// The counter inside the era.
    pub fn counter(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.era(), self.counter())
    }
}

/// A room of a tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomName {
    /// Whose room it is.
    pub tenant: Tenant,
    /// Its name.
    pub room: Room,
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.room)
    }
}

impl fmt::Debug for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One track in one generation of its owner: what is subscribed to, cached and forwarded.
///
/// The generation is part of the identity, so frames of two owners can never mix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrackId {
    /// The room.
    pub room: RoomName,
    /// The programme in it.
    pub stream: Stream,
    /// The track of the programme.
    pub track: Track,
    /// The owner's fencing number.
    pub generation: Generation,
}

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{}/{}@{}",
            self.room, self.stream, self.track, self.generation
        )
    }
}

impl fmt::Debug for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A place in a track (the generation is in the [`TrackId`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The group.
    pub group: u64,
    /// The frame in the group, from 0.
    pub frame: u64,
}
