//! The codes of QUIC's CONNECTION_CLOSE, RESET_STREAM and STOP_SENDING (WIRE.md, "Connections" and
//! "Streams").

/// Why a connection is closed (application codes).
pub mod close {
    /// Shut down in order.
    pub const DONE: u32 = 0;
    /// The peer broke the protocol; the reason says how.
    pub const PROTOCOL: u32 = 1;
    /// No common version of the format.
    pub const VERSION: u32 = 2;
    /// The certificate does not carry the node id that the hello tells.
    pub const IDENTITY: u32 = 3;
    /// Another connection of the same pair took over.
    pub const DUPLICATE: u32 = 4;
    /// Not a neighbour, or a limit of the receiver.
    pub const REFUSED: u32 = 5;
    /// No hello in time.
    pub const TIMEOUT: u32 = 6;
}

/// Why a stream is reset, or its sender asked to stop.
pub mod stream {
    /// Not wanted any more: unsubscribed or superseded.
    pub const UNWANTED: u32 = 0;
    /// Dropped on purpose; GROUP_DROPPED tells which frames.
    pub const STALE: u32 = 1;
    /// The sender's own copy stayed incomplete.
    pub const INCOMPLETE: u32 = 2;
    /// The stream's type is not known.
    pub const UNKNOWN_TYPE: u32 = 3;
    /// A message on it was above its limit or malformed.
    pub const MALFORMED: u32 = 4;
}
