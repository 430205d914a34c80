//! What a connected client asks for, and what it is answered.

use bytes::Bytes;

use super::Target;
use crate::media::Kind;

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
        /// The tag body (`flv::body`).
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
    /// It wants to publish; answer [`Input::Accept`] or [`Input::Reject`].
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
    /// The client is done publishing or playing, or was rejected: send what is left and close.
    Closed,
}

/// Why a session cannot go on: the client broke the protocol or a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {}

/// One connection.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// A fresh connection. `nonce` is random: it fills the handshake.
    pub fn new(_nonce: u64) -> Session {
        Session {}
    }

    /// Takes an input. After an error only [`Session::poll_output`] makes sense (it may hold the
    /// reason for the client); then close.
    pub fn handle(&mut self, _input: Input) -> Result<(), Error> {
        Ok(())
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        None
    }
}
