//! The chunk stream: messages cut into chunks (§5.3).

use std::collections::HashMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest message, in bytes. A frame holds 1 MB; the rest is for messages we refuse with a
/// reason instead of a broken connection.
pub const MAX_MESSAGE: usize = 4 << 20;

/// The most chunk streams a peer may use. Real clients use five.
pub const MAX_CHUNK_STREAMS: usize = 64;

/// The most bytes of unfinished messages a peer may make us hold, over all its chunk streams.
pub const MAX_PARTIAL: usize = 8 << 20;

/// The chunk size both sides begin with (§5.4.1).
pub const DEFAULT_CHUNK_SIZE: usize = 128;

/// A timestamp field of this value says that the timestamp follows in 32 bits (§5.3.1.3).
const EXTENDED: u32 = 0xff_ffff;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The chunk stream it came on (or goes on).
    pub chunk_stream: u32,
    /// In ms; wraps at 2^32.
    pub timestamp: u32,
    /// The message type id.
    pub kind: u8,
    /// The message stream it belongs to; 0 is the connection itself.
    pub stream: u32,
    /// Its bytes.
    pub payload: Bytes,
}

/// How a peer broke the chunk stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message longer than [`MAX_MESSAGE`].
    #[error("message of type {kind} has {len} bytes; the limit is {MAX_MESSAGE}")]
    MessageSize {
        /// Its type.
        kind: u8,
        /// The length it declares.
        len: usize,
    },
    /// More than [`MAX_PARTIAL`] bytes of unfinished messages.
    #[error("more than {MAX_PARTIAL} bytes of unfinished messages")]
    Partial,
    /// More than [`MAX_CHUNK_STREAMS`].
    #[error("chunk stream {0} would be one more than {MAX_CHUNK_STREAMS}")]
    ChunkStreams(u32),
    /// The first chunk of a chunk stream relies on a header that never came.
    #[error("chunk stream {stream} begins with a chunk of type {fmt}; it must be 0")]
    NoHeader {
        /// The chunk stream.
        stream: u32,
        /// The chunk's type.
        fmt: u8,
    },
    /// A new message header in the middle of a message.
    #[error("chunk stream {stream}: a header of type {fmt} inside an unfinished message")]
    Interrupted {
        /// The chunk stream.
        stream: u32,
        /// The chunk's type.
        fmt: u8,
    },
    /// A chunk size of 0, or with the highest bit set.
    #[error("chunk size {0:#x} is not between 1 and 0x7fffffff")]
    ChunkSize(u32),
}

/// Reads messages from bytes as they come.
#[derive(Debug)]
pub struct Reader {
    buffer: BytesMut,
    chunk_size: usize,
    streams: HashMap<u32, Incoming>,
    partial: usize,
}

/// What is remembered of a chunk stream: its last header, and the message being read.
#[derive(Debug, Default)]
struct Incoming {
    timestamp: u32,
    delta: u32,
    len: usize,
    kind: u8,
    stream: u32,
    extended: bool,
    payload: BytesMut,
    /// A message has begun and is not whole.
    open: bool,
}

/// A chunk's header, read but not yet believed.
struct Header {
    fmt: u8,
    chunk_stream: u32,
    /// The three-byte field or the extended one; a delta unless `fmt` is 0.
    time: u32,
    extended: bool,
    len: usize,
    kind: u8,
    stream: u32,
    /// How many bytes the header takes.
    size: usize,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            buffer: BytesMut::new(),
            chunk_size: DEFAULT_CHUNK_SIZE,
            streams: HashMap::new(),
            partial: 0,
        }
    }
}

impl Reader {
    /// More bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The peer's chunk size from its next chunk on (§5.4.1).
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if size == 0 || size > 0x7fff_ffff {
            return Err(Error::ChunkSize(size));
        }
        self.chunk_size = size as usize;
        Ok(())
    }

    /// The peer gives up its unfinished message on a chunk stream (§5.4.2).
    pub fn abort(&mut self, chunk_stream: u32) {
        if let Some(incoming) = self.streams.get_mut(&chunk_stream) {
            self.partial -= incoming.payload.len();
            incoming.payload = BytesMut::new();
            incoming.open = false;
        }
    }

    /// The next whole message; `None` until more bytes come. Call it until `None` after each
    /// push, applying what messages say (chunk size, abort) in between.
    pub fn next_message(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let begun = self
                .streams
                .get(&header.chunk_stream)
                .filter(|s| s.open)
                .map_or(0, |s| s.payload.len());
            let take = (header.len - begun).min(self.chunk_size);
            if self.buffer.len() < header.size + take {
                return Ok(None);
            }
            self.buffer.advance(header.size);
            let chunk = self.buffer.split_to(take);
            if let Some(message) = self.chunk(header, chunk)? {
                return Ok(Some(message));
            }
        }
    }

    /// Reads a header without consuming it.
    fn header(&self) -> Result<Option<Header>, Error> {
        let mut input = &self.buffer[..];
        let Some((fmt, chunk_stream)) = basic_header(&mut input) else {
            return Ok(None);
        };
        let last = self.streams.get(&chunk_stream);
        let open = last.is_some_and(|s| s.open);
        if last.is_none() && fmt != 0 {
            return Err(Error::NoHeader {
                stream: chunk_stream,
                fmt,
            });
        }
        if last.is_none() && self.streams.len() == MAX_CHUNK_STREAMS {
            return Err(Error::ChunkStreams(chunk_stream));
        }
        if open && fmt != 3 {
            return Err(Error::Interrupted {
                stream: chunk_stream,
                fmt,
            });
        }
        if input.len() < [11, 7, 3, 0][usize::from(fmt)] {
            return Ok(None);
        }
        let mut header = Header {
            fmt,
            chunk_stream,
            time: last.map_or(0, |s| s.delta),
            extended: last.is_some_and(|s| s.extended),
            len: last.map_or(0, |s| s.len),
            kind: last.map_or(0, |s| s.kind),
            stream: last.map_or(0, |s| s.stream),
            size: 0,
        };
        if fmt <= 2 {
            header.time = input.get_uint(3) as u32;
            header.extended = header.time == EXTENDED;
        }
        if fmt <= 1 {
            header.len = input.get_uint(3) as usize;
            header.kind = input.get_u8();
        }
        if fmt == 0 {
            header.stream = input.get_u32_le();
        }
        if header.len > MAX_MESSAGE {
            return Err(Error::MessageSize {
                kind: header.kind,
                len: header.len,
            });
        }
        if header.extended {
            let Some(field) = input.first_chunk::<4>() else {
                return Ok(None);
            };
            let field = u32::from_be_bytes(*field);
            // §5.3.1.3 repeats the field in the chunks of type 3, but some encoders do not. In
            // the middle of a message four bytes that differ from it are payload.
            if !open || last.is_some_and(|s| s.delta == field) {
                input.advance(4);
                header.time = field;
            }
        }
        header.size = self.buffer.len() - input.len();
        Ok(Some(header))
    }

    /// Applies a chunk that is all there.
    fn chunk(&mut self, header: Header, chunk: BytesMut) -> Result<Option<Message>, Error> {
        let incoming = self.streams.entry(header.chunk_stream).or_default();
        if !incoming.open {
            incoming.open = true;
            incoming.timestamp = match header.fmt {
                0 => header.time,
                _ => incoming.timestamp.wrapping_add(header.time),
            };
            // After a chunk of type 0, a message of type 3 adds that timestamp (§5.3.1.2.4).
            incoming.delta = header.time;
            incoming.extended = header.extended;
            incoming.len = header.len;
            incoming.kind = header.kind;
            incoming.stream = header.stream;
        }
        let payload = if incoming.payload.is_empty() && chunk.len() == incoming.len {
            chunk.freeze()
        } else {
            self.partial += chunk.len();
            if self.partial > MAX_PARTIAL {
                return Err(Error::Partial);
            }
            incoming.payload.extend_from_slice(&chunk);
            if incoming.payload.len() < incoming.len {
                return Ok(None);
            }
            self.partial -= incoming.payload.len();
            std::mem::take(&mut incoming.payload).freeze()
        };
        incoming.open = false;
        Ok(Some(Message {
            chunk_stream: header.chunk_stream,
            timestamp: incoming.timestamp,
            kind: incoming.kind,
            stream: incoming.stream,
            payload,
        }))
    }
}

/// The chunk type and the chunk stream id (§5.3.1.1).
fn basic_header(input: &mut &[u8]) -> Option<(u8, u32)> {
    let first = *input.first()?;
    let (id, size) = match first & 0x3f {
        0 => (64 + u32::from(*input.get(1)?), 2),
        1 => (
            64 + u32::from(*input.get(1)?) + 256 * u32::from(*input.get(2)?),
            3,
        ),
        id => (u32::from(id), 1),
    };
    input.advance(size);
    Some((first >> 6, id))
}

/// Writes a message as chunks of `chunk_size`, each run of header bytes and each piece of payload
/// (shared, not copied) handed to `out` in order.
///
/// Every message begins with a full header (type 0) and an absolute timestamp, so what is written
/// does not depend on what went before: a message may be left out, and one writing serves many
/// players.
///
/// # Panics
///
/// If the chunk stream is not between 2 and 63, which is all we use.
pub fn write(message: &Message, chunk_size: usize, mut out: impl FnMut(Bytes)) {
    let id = u8::try_from(message.chunk_stream).expect("our chunk streams are below 64");
    assert!((2..64).contains(&id), "chunk stream {id}");
    let extended = message.timestamp >= EXTENDED;
    let mut header = BytesMut::with_capacity(16);
    header.put_u8(id);
    header.put_uint(u64::from(message.timestamp.min(EXTENDED)), 3);
    header.put_uint(message.payload.len() as u64, 3);
    header.put_u8(message.kind);
    header.put_u32_le(message.stream);
    let mut left = message.payload.clone();
    loop {
        if extended {
            header.put_u32(message.timestamp);
        }
        out(header.freeze());
        if left.is_empty() {
            return;
        }
        out(left.split_to(left.len().min(chunk_size)));
        if left.is_empty() {
            return;
        }
        header = BytesMut::with_capacity(5);
        header.put_u8(0xc0 | id);
    }
}

#[cfg(test)]
mod tests;
