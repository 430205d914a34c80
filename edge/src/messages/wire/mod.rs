//! What members and the edge say to each other (docs/messages.md), in two encodings of one shape:
//! JSON in text frames, CBOR (RFC 8949) in binary frames.

mod body;
mod incoming;
mod outgoing;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub use body::Body;
pub use incoming::{Incoming, Invalid, Publish, Resume, decode};
pub(super) use outgoing::framed;
pub use outgoing::{Event, Limits, Outgoing, StateEntry, batch};

/// How deep a body may be nested. Both encodings' readers stop here.
pub const MAX_DEPTH: usize = 100;

/// Above this a message is not read, only its `n`, so that it can be answered: a body of 16 KB
/// whose every byte JSON writes as six (`\u0000`), and the rest of the message.
pub const MAX_MESSAGE: usize = 100 << 10;

/// Numbers above this are not exact in JavaScript: 2^53 − 1.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// How a connection's messages are written; chosen by the WebSocket subprotocol (RFC 6455 §1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `longspan.v1+json`, and whoever names no subprotocol.
    Json,
    /// `longspan.v1+cbor`.
    Cbor,
}

impl Encoding {
    /// All of them, by subprotocol; the first is preferred.
    pub const PROTOCOLS: [&str; 2] = ["longspan.v1+json", "longspan.v1+cbor"];

    /// The encoding of a subprotocol.
    pub fn of(protocol: &str) -> Option<Encoding> {
        match protocol {
            "longspan.v1+json" => Some(Encoding::Json),
            "longspan.v1+cbor" => Some(Encoding::Cbor),
            _ => None,
        }
    }

    /// What a message is in it.
    fn map(self) -> &'static str {
        match self {
            Encoding::Json => "an object in JSON",
            Encoding::Cbor => "a map in CBOR",
        }
    }

    fn write(self, value: &impl serde::Serialize) -> Bytes {
        let mut out = Vec::new();
        let written = match self {
            Encoding::Json => serde_json::to_writer(&mut out, value).map_err(|e| e.to_string()),
            Encoding::Cbor => ciborium::into_writer(value, &mut out).map_err(|e| e.to_string()),
        };
        if let Err(error) = written {
            // Everything written is text, numbers and bodies that were checked when they came.
            tracing::error!(%error, "a message could not be written");
        }
        out.into()
    }
}
