//! The server side of RTMP (Adobe's "Real-Time Messaging Protocol", 1.0), pure.
//!
//! One [`Session`] per connection: feed it [`Input`]s, then drain [`Output`]s with
//! [`Session::poll_output`] until `None`. It never blocks, never reads a clock, and holds at most
//! [`chunk::MAX_PARTIAL`] bytes of unfinished messages plus what was not drained.
//!
//! A publisher's audio and video arrive as tag bodies, the same bytes as in FLV: `flv::Ingest`
//! makes samples of them. A player is sent tag bodies likewise.

pub mod amf0;
pub mod chunk;
mod handshake;
mod session;
mod target;

pub use session::{Error, Event, Input, Output, Session};
pub use target::{APP, Target, TargetError};
