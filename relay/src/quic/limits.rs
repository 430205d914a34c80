//! The transport's limits: set, not inherited (DESIGN §3, "Transport").

use std::time::Duration;

/// Unidirectional streams (groups) a neighbour may have open towards us.
pub const UNI_STREAMS: u32 = 16_384;
/// Bytes a neighbour may send beyond what was read, over all streams.
pub const RECEIVE_WINDOW: u32 = 32 << 20;
/// The same for one stream: two of the largest frames, so that one stalled group or call cannot
/// take the connection's window for itself.
pub const STREAM_RECEIVE_WINDOW: u32 = 2 << 20;
/// Bytes handed to QUIC and not acknowledged, at most: 2 × the product of 200 Mbit/s and 320 ms.
/// In running it is held at the congestion window plus [`UNSENT`].
pub const SEND_WINDOW: u64 = 16 << 20;
/// Bytes handed to QUIC beyond what the congestion window lets out: what is decided too early.
pub const UNSENT: u64 = 64 << 10;
/// Bytes taken from the core and not yet accepted by QUIC; from there on nothing more is taken
/// (one frame may exceed it).
pub const IN_HAND: usize = 64 << 10;
/// What a link carries, in bits a second, unless the operator says otherwise.
pub const LINK_CAPACITY: u64 = 200_000_000;
/// The congestion window until the round trip is known, and its floor: a key frame of 80 KB and
/// its audio leave in one flight. RFC 6928's 14,720 B are for strangers; links here belong to
/// one operator.
pub const INITIAL_WINDOW: u64 = 128 << 10;
/// Small packets of placement groups that wait for one neighbour. When full, the next is lost, and
/// counted: Raft repeats.
pub const PACKETS: usize = 4_096;
/// Their bytes; a few round trips of the fastest log over the longest link.
pub const PACKET_BYTES: usize = 8 << 20;
/// Large packets of one neighbour that are read, or wait to be taken in, at once: so many times the
/// longest packet of memory. The next waits, unread.
pub const LARGE_PACKETS: usize = 1;
/// A large packet of which nothing comes for so long is given up.
pub const LARGE_PACKET_STALL: Duration = Duration::from_secs(10);
/// Nothing heard for so long: the connection is gone.
pub const IDLE: Duration = Duration::from_secs(20);
/// A packet at least so often while nothing else is sent: a quarter of [`IDLE`].
pub const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// From the first packet to the end of the hellos; a slower peer is refused.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes of strangers under way at once; more are refused.
pub const HANDSHAKES: usize = 1_024;
/// Kernel buffers of the UDP socket, as far as the system allows.
pub const SOCKET_BUFFER: usize = 8 << 20;
/// A dialed relay that has not answered by then is not waited for: an edge tries the next one
/// beside it. The longest round trip on Earth is well below half of it.
pub const DIAL_PATIENCE: Duration = Duration::from_millis(1_500);
/// The first pause before dialing a neighbour again; doubled each time.
pub const REDIAL_FIRST: Duration = Duration::from_millis(200);
/// The longest such pause.
pub const REDIAL_MAX: Duration = Duration::from_secs(5);
/// The longest such pause while an older connection stands beside that is down: it may heal at any
/// moment.
pub const REDIAL_BESIDE_MAX: Duration = Duration::from_secs(1);
/// A connection that stood so long resets the pauses.
pub const REDIAL_RESET: Duration = Duration::from_secs(10);
/// How long a connection that the table no longer names is kept: running tracks move first.
pub const UNWANTED: Duration = Duration::from_secs(30);
/// A datagram carries at least this much over any network we run on: 1,280 B (IPv6's minimum)
/// less IPv6 and UDP headers.
pub const INITIAL_MTU: u16 = 1_232;
/// The wire version spoken, and the oldest understood (WIRE.md, "Versions").
pub const VERSION: u16 = 1;
/// See [`VERSION`]: there is no older one yet.
pub const MIN_VERSION: u16 = 1;

/// Codes of QUIC's CONNECTION_CLOSE (WIRE.md, "Connections").
pub mod close {
    /// Orderly.
    pub const DONE: u32 = 0;
    /// The peer broke the protocol.
    pub const PROTOCOL: u32 = 1;
    /// No common wire version.
    pub const VERSION: u32 = 2;
    /// The certificate does not name who the hello says it is.
    pub const IDENTITY: u32 = 3;
    /// Another connection of the pair stays.
    pub const DUPLICATE: u32 = 4;
    /// Refused: not a neighbour, or a limit.
    pub const REFUSED: u32 = 5;
}

/// Codes of RESET_STREAM and STOP_SENDING (WIRE.md, "Streams").
pub mod stream {
    /// Not wanted any more.
    pub const UNWANTED: u32 = 0;
    /// Dropped on purpose.
    pub const STALE: u32 = 1;
    /// A stream of an unknown type.
    pub const UNKNOWN: u32 = 3;
    /// A message above its limit, or malformed.
    pub const MALFORMED: u32 = 4;
}
