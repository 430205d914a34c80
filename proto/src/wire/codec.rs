//! The primitives all messages are made of (WIRE.md, "Primitives").

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::NameError;

/// The largest value of a QUIC varint (RFC 9000 §16).
pub const MAX_VARINT: u64 = (1 << 62) - 1;

/// Why bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The message ends before its last field.
    #[error("{what} ends early")]
    Short {
        /// The field.
        what: &'static str,
    },
    /// A length or count is above its limit.
    #[error("{what} is {value}; the limit is {limit}")]
    Limit {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// A code that is not known.
    #[error("{what} {value} is not known")]
    Unknown {
        /// The field.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// A name that is not well formed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Utf8 {
        /// The field.
        what: &'static str,
    },
    /// A tag or signature that does not fit.
    #[error("the {what} does not fit")]
    Forged {
        /// What did not fit.
        what: &'static str,
    },
}

/// Reads fields off the front of a message. Slices share the message's memory.
#[derive(Debug, Clone)]
pub struct Reader {
    rest: Bytes,
}

impl Reader {
    /// Reads `message`.
    pub fn new(message: Bytes) -> Reader {
        Reader { rest: message }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Everything that is left.
    pub fn rest(self) -> Bytes {
        self.rest
    }

    /// The next `len` bytes.
    pub fn take(&mut self, what: &'static str, len: usize) -> Result<Bytes, Error> {
        if self.rest.len() < len {
            return Err(Error::Short { what });
        }
        Ok(self.rest.split_to(len))
    }

    /// The next `N` bytes, by value.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let bytes = self.take(what, N)?;
        let mut array = [0; N];
        array.copy_from_slice(&bytes);
        Ok(array)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, Error> {
        Ok(self.array::<1>(what)?[0])
    }

    /// A QUIC varint.
    pub fn varint(&mut self, what: &'static str) -> Result<u64, Error> {
        let (value, len) = peek_varint(&self.rest).ok_or(Error::Short { what })?;
        let _ = self.rest.split_to(len);
        Ok(value)
    }

    /// A varint of at most `limit`.
    pub fn varint_up_to(&mut self, what: &'static str, limit: u64) -> Result<u64, Error> {
        match self.varint(what)? {
            value if value > limit => Err(Error::Limit { what, value, limit }),
            value => Ok(value),
        }
    }

    /// A length and that many bytes, at most `limit`.
    pub fn bytes(&mut self, what: &'static str, limit: usize) -> Result<Bytes, Error> {
        let len = self.varint_up_to(what, limit as u64)?;
        self.take(what, len as usize)
    }

    /// Text of at most `limit` bytes.
    pub fn text(&mut self, what: &'static str, limit: usize) -> Result<String, Error> {
        let bytes = self.bytes(what, limit)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Error::Utf8 { what }),
        }
    }

    /// A name; its own limit applies.
    pub fn name<T>(&mut self, what: &'static str) -> Result<T, Error>
    where
        T: TryFrom<String, Error = NameError>,
    {
        Ok(T::try_from(self.text(what, 255)?)?)
    }

    /// A count and that many names.
    pub fn names<T>(&mut self, what: &'static str, limit: usize) -> Result<Vec<T>, Error>
    where
        T: TryFrom<String, Error = NameError>,
    {
        let count = self.varint_up_to(what, limit as u64)?;
        (0..count).map(|_| self.name(what)).collect()
    }

    /// A byte 0 (absent) or 1 and the value.
    pub fn option<T>(
        &mut self,
        what: &'static str,
        read: impl FnOnce(&mut Reader) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match self.u8(what)? {
            0 => Ok(None),
            1 => read(self).map(Some),
            value => Err(Error::Unknown {
                what,
                value: value.into(),
            }),
        }
    }
}

/// The varint at the front of `bytes` and its length; None if it is not whole.
pub fn peek_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1 << (first >> 6);
    let tail = bytes.get(1..len)?;
    let value = tail.iter().fold(u64::from(first & 0x3f), |value, byte| {
        value << 8 | u64::from(*byte)
    });
    Some((value, len))
}

/// Writes fields.
pub trait Writer {
    /// A QUIC varint; values above [`MAX_VARINT`] are a bug of the caller.
    fn varint(&mut self, value: u64);
    /// A length and the bytes.
    fn prefixed(&mut self, bytes: &[u8]);
    /// A count and the names.
    fn names<T: AsRef<str>>(&mut self, names: &[T]);
    /// A byte 0 (absent) or 1 and the value.
    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T));
}

impl Writer for BytesMut {
    fn varint(&mut self, value: u64) {
        match value {
            0..0x40 => self.put_u8(value as u8),
            0x40..0x4000 => self.put_u16(1 << 14 | value as u16),
            0x4000..0x4000_0000 => self.put_u32(2 << 30 | value as u32),
            _ => {
                debug_assert!(value <= MAX_VARINT);
                self.put_u64(3 << 62 | value);
            }
        }
    }

    fn prefixed(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.put_slice(bytes);
    }

    fn names<T: AsRef<str>>(&mut self, names: &[T]) {
        self.varint(names.len() as u64);
        for name in names {
            self.prefixed(name.as_ref().as_bytes());
        }
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.put_u8(0),
            Some(value) => {
                self.put_u8(1);
                write(self, value);
            }
        }
    }
}

/// Maps a signed value to an unsigned one with small magnitudes first: 0, -1, 1, -2, …
pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 9000 §A.1.
    #[test]
    fn varints_are_quics() {
        for (value, bytes) in [
            (37, &[0x25][..]),
            (15_293, &[0x7b, 0xbd]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (
                151_288_809_941_952_652,
                &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c],
            ),
        ] {
            let mut out = BytesMut::new();
            out.varint(value);
            assert_eq!(&out[..], bytes);
            assert_eq!(peek_varint(bytes), Some((value, bytes.len())));
            assert_eq!(peek_varint(&bytes[..bytes.len() - 1]), None);
        }
    }

    proptest! {
        #[test]
        fn varints_come_back(value in 0..=MAX_VARINT) {
            let mut out = BytesMut::new();
            out.varint(value);
            prop_assert_eq!(peek_varint(&out), Some((value, out.len())));
        }

        #[test]
        fn zigzag_comes_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
