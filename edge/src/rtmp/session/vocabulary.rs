//! The words between a session and its driver.

use bytes::Bytes;

use crate::{
    media::Kind,
    rtmp::{Target, amf0, chunk},
};

/// What happens to a session.
#[derive(Debug, Clone)]
pub enum Input {
    /// Bytes arrived.
    Bytes(Bytes),
    /// Yes to the [`Event::Publish`] or [`Event::Play`] that was asked last.
    Accept,
    /// No to it, or the end of it later: said to the client, after which the session is closed.
    Reject {
        /// As NetStream names it, such as `NetStream.Publish.BadName`.
        code: &'static str,
        /// In words, for the client's log.
        description: String,
    },
    /// For a player: the stream's `onMetaData`, as JSON.
    Metadata(serde_json::Map<String, serde_json::Value>),
    /// For a player: a tag body, with its timestamp in ms.
    Media {
        /// Audio or video.
        kind: Kind,
        /// Decode time in ms; wraps at 2^32.
        timestamp: u32,
        /// The tag body (`flv::sample_body`).
        body: Bytes,
    },
    /// For a player: the stream has ended.
    End,
}

/// What a session asks of its driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send these bytes, in order.
    Send(Bytes),
    /// Something the edge must know or decide.
    Event(Event),
}

/// What a client does.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It wants to publish; answer [`Input::Accept`] or [`Input::Reject`] before going on: media
    /// that a hasty client sent already may follow.
    Publish(Target),
    /// It wants to play; answer [`Input::Accept`] or [`Input::Reject`].
    Play(Target),
    /// The publisher's `onMetaData`, as JSON.
    Metadata(serde_json::Map<String, serde_json::Value>),
    /// A tag body of the publisher's.
    Media {
        /// Audio or video.
        kind: Kind,
        /// Decode time in ms; wraps at 2^32.
        timestamp: u32,
        /// The tag body.
        body: Bytes,
    },
    /// The client is done publishing or playing, was rejected, or its stream has ended: send what
    /// is left and close.
    Closed,
}

/// Why a session cannot go on: the client broke the protocol or a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The first byte is not RTMP's version 3.
    #[error("handshake begins with {0:#04x}, not RTMP version 3")]
    Version(u8),
    /// The chunk stream is broken.
    #[error(transparent)]
    Chunk(#[from] chunk::Error),
    /// A command or metadata cannot be read.
    #[error(transparent)]
    Amf(#[from] amf0::Error),
    /// A message is shorter than its type needs.
    #[error("message of type {kind} has {len} bytes, which is too short")]
    Short {
        /// The message type.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// A message type a client of ours has no use for.
    #[error("message type {0} is not supported")]
    MessageType(u8),
    /// A command that does not begin with its name and transaction number.
    #[error("command does not begin with a name and a number")]
    Command,
    /// A command out of its order.
    #[error("command {name:?} {why}")]
    Order {
        /// The command.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
}
