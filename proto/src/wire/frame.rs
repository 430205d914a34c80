//! Groups and frames (WIRE.md, "Groups" and "Frames").

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{Error, Reader, Writer, unzigzag, zigzag};
use crate::time::Time;

/// The largest payload of one frame: 1 MB (DESIGN's "opaque and atomic").
pub const MAX_FRAME: usize = 1 << 20;

/// What goes first when a link is full. Lower values go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Audio and messages.
    Realtime = 0,
    /// Room state, catalogs.
    State = 1,
    /// Video frames that others depend on from the group's start.
    VideoKey = 2,
    /// Other video frames.
    VideoDelta = 3,
}

/// What a forwarder may know of a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags {
    /// Decodable without earlier frames.
    pub key: bool,
    /// No later frame depends on it.
    pub discardable: bool,
    /// Sent from a cache to catch up, not live.
    pub replay: bool,
    /// Temporal layer, 0..=3.
    pub layer: u8,
}

/// One frame, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Media time in µs, on the stream's own timeline.
    pub timestamp: u64,
    /// See [`Flags`].
    pub flags: Flags,
    /// See [`Priority`].
    pub priority: Priority,
    /// Opaque; at most [`MAX_FRAME`].
    pub payload: Bytes,
}

/// What stands once at the start of each group's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHeader {
    /// The subscription this group answers, as numbered by the subscriber.
    pub subscription: u64,
    /// The group's number in the track.
    pub group: u64,
    /// The number of the first frame on this stream (above 0 after a resume).
    pub first_frame: u64,
    /// Media time of the group's first frame in µs; frame timestamps are coded against it.
    pub timestamp: u64,
    /// Wall clock at the origin edge when the group's first frame entered it: µs since the Unix
    /// epoch, UTC.
    pub origin_time: u64,
    /// The sender is catching up from its cache.
    pub replay: bool,
}

/// The type of a unidirectional stream that carries a group (WIRE.md, "Streams").
pub const GROUP_STREAM: u64 = 1;
/// Longest frame header, in bytes.
pub const MAX_FRAME_HEADER: usize = 12;
/// Longest group header with its stream type, in bytes: a type, six varints, a byte.
pub const MAX_GROUP_HEADER: usize = 8 * 6 + 2;
/// A frame's timestamp is at most this far from its group's, either way, in µs (a 4-byte varint of
/// a zigzag value): about 268 s. An origin begins a new group before that.
pub const MAX_TIMESTAMP_DELTA: u64 = (1 << 29) - 1;

impl GroupHeader {
    /// Appends the stream type and the header.
    pub fn encode(&self, out: &mut BytesMut) {
        out.varint(GROUP_STREAM);
        out.varint(self.subscription);
        out.varint(self.group);
        out.varint(self.first_frame);
        out.varint(self.timestamp);
        out.varint(self.origin_time);
        out.put_u8(u8::from(self.replay));
    }

    /// Reads the header after the stream type.
    pub fn decode(r: &mut Reader) -> Result<GroupHeader, Error> {
        Ok(GroupHeader {
            subscription: r.varint("subscription")?,
            group: r.varint("group")?,
            first_frame: r.varint("first frame")?,
            timestamp: r.varint("group timestamp")?,
            origin_time: r.varint("origin time")?,
            // Unknown bits are ignored: a newer sender may set them.
            replay: r.u8("group flags")? & 1 == 1,
        })
    }
}

/// A moment of the sender's monotonic clock, less the frame's age at that moment: 24 bits of
/// 16 µs (WIRE.md, "Clocks").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u32);

impl Stamp {
    /// One unit in µs.
    pub const UNIT: u64 = 16;
    const BITS: u32 = 24;
    /// The greatest age a stamp tells, in µs: 2 minutes. Half the range (134 s) is the limit beyond which an
    /// age wraps and an old frame looks new; the rest is left to queues and drifting clocks.
    pub const MAX_AGE: u64 = 120_000_000;

    /// Of a frame that is `age_us` old at `now`; an age above [`Stamp::MAX_AGE`] is told as that.
    pub fn new(now: Time, age_us: u64) -> Stamp {
        let micros = now.as_micros().wrapping_sub(age_us.min(Self::MAX_AGE));
        Stamp((micros / Self::UNIT) as u32 & ((1 << Self::BITS) - 1))
    }

    /// Receiver's clock minus the stamp, in µs modulo the stamp's range, taken as signed around
    /// `expected` (the link's usual raw difference).
    pub fn raw_difference(self, now: Time, expected: i64) -> i64 {
        let range = (1i64 << Self::BITS) * Self::UNIT as i64;
        let difference =
            (now.as_micros() as i64).wrapping_sub(i64::from(self.0) * Self::UNIT as i64);
        let around = (difference.wrapping_sub(expected)).rem_euclid(range);
        let around = if around > range / 2 {
            around - range
        } else {
            around
        };
        expected.wrapping_add(around)
    }
}

impl Frame {
    /// Appends the header of this frame in a group that begins at `group_timestamp`. A timestamp
    /// out of range is a bug of the origin; it is clamped.
    pub fn encode_header(&self, group_timestamp: u64, stamp: Stamp, out: &mut BytesMut) {
        let limit = MAX_TIMESTAMP_DELTA as i64;
        let delta = (self.timestamp as i64).wrapping_sub(group_timestamp as i64);
        debug_assert!(
            (-limit..=limit).contains(&delta),
            "{delta} µs from the group's start"
        );
        let flags = u8::from(self.flags.key)
            | u8::from(self.flags.discardable) << 1
            | u8::from(self.flags.replay) << 2
            | (self.flags.layer & 3) << 3
            | (self.priority as u8) << 5;
        out.put_u8(flags);
        out.put_uint(stamp.0.into(), 3);
        out.varint(zigzag(delta.clamp(-limit, limit)));
        out.varint(self.payload.len() as u64);
    }
}

impl Priority {
    fn from_bits(bits: u8) -> Priority {
        match bits & 3 {
            0 => Priority::Realtime,
            1 => Priority::State,
            2 => Priority::VideoKey,
            _ => Priority::VideoDelta,
        }
    }
}

/// What comes out of a group's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupEvent {
    /// The header, first.
    Header(GroupHeader),
    /// A whole frame and the sender's stamp.
    Frame(Frame, Stamp),
}

/// Reads a group's stream (after its type), whatever the chunks. Holds at most one frame.
#[derive(Debug, Default)]
pub struct GroupReader {
    /// What has arrived and is not consumed: chunks in order.
    chunks: VecDeque<Bytes>,
    len: usize,
    group_timestamp: Option<u64>,
    /// The header of the frame whose payload is awaited, and the payload's length.
    pending: Option<(Frame, Stamp, usize)>,
}

impl GroupReader {
    /// Adds a chunk.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// Whether the stream may end here: no header or frame is cut.
    pub fn is_whole(&self) -> bool {
        self.len == 0 && self.pending.is_none() && self.group_timestamp.is_some()
    }

    /// The next event; None: more bytes are needed.
    pub fn poll(&mut self) -> Result<Option<GroupEvent>, Error> {
        let Some(group_timestamp) = self.group_timestamp else {
            let Some(header) = self.header(MAX_GROUP_HEADER, GroupHeader::decode)? else {
                return Ok(None);
            };
            self.group_timestamp = Some(header.timestamp);
            return Ok(Some(GroupEvent::Header(header)));
        };
        if self.pending.is_none() {
            let read = |r: &mut Reader| {
                let flags = r.u8("frame flags")?;
                let stamp = r.array::<3>("stamp")?;
                let delta = r.varint_up_to("timestamp", (MAX_TIMESTAMP_DELTA << 1) | 1)?;
                let len = r.varint_up_to("frame length", MAX_FRAME as u64)? as usize;
                let frame = Frame {
                    timestamp: (group_timestamp as i64)
                        .wrapping_add(unzigzag(delta))
                        .max(0) as u64,
                    flags: Flags {
                        key: flags & 1 != 0,
                        discardable: flags & 2 != 0,
                        replay: flags & 4 != 0,
                        layer: flags >> 3 & 3,
                    },
                    priority: Priority::from_bits(flags >> 5),
                    payload: Bytes::new(),
                };
                Ok((
                    frame,
                    Stamp(u32::from_be_bytes([0, stamp[0], stamp[1], stamp[2]])),
                    len,
                ))
            };
            self.pending = self.header(MAX_FRAME_HEADER, read)?;
        }
        match self.pending.take() {
            Some((mut frame, stamp, len)) if self.len >= len => {
                frame.payload = self.take(len);
                Ok(Some(GroupEvent::Frame(frame, stamp)))
            }
            pending => {
                self.pending = pending;
                Ok(None)
            }
        }
    }

    /// Reads a header of at most `limit` bytes, if it is whole.
    fn header<T>(
        &mut self,
        limit: usize,
        read: impl FnOnce(&mut Reader) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let mut front = BytesMut::with_capacity(limit);
        for chunk in &self.chunks {
            let room = limit - front.len();
            front.put_slice(&chunk[..room.min(chunk.len())]);
        }
        let offered = front.len();
        let mut reader = Reader::new(front.freeze());
        match read(&mut reader) {
            Ok(value) => {
                let used = offered - reader.remaining();
                self.take(used);
                Ok(Some(value))
            }
            Err(Error::Short { .. }) if offered < limit => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next `len` bytes, which are there: without a copy where one chunk holds them.
    fn take(&mut self, len: usize) -> Bytes {
        self.len -= len;
        if len == 0 {
            return Bytes::new();
        }
        let first = self.chunks.front_mut().expect("counted bytes are there");
        if first.len() > len {
            return first.split_to(len);
        }
        if first.len() == len {
            return self.chunks.pop_front().expect("just seen");
        }
        let mut whole = BytesMut::with_capacity(len);
        while whole.len() < len {
            let mut chunk = self.chunks.pop_front().expect("counted bytes are there");
            let part = chunk.split_to(chunk.len().min(len - whole.len()));
            whole.put_slice(&part);
            if !chunk.is_empty() {
                self.chunks.push_front(chunk);
            }
        }
        whole.freeze()
    }
}

#[cfg(test)]
mod tests;
