//! What an edge is told at its start.

use std::{net::SocketAddr, time::Duration};

use crate::{auth, live::ring, messages};

/// An edge's configuration.
pub struct Config {
    /// The forwarding node inside it. Where `http_url` or `rtmp_url` is empty, the address that
    /// was bound is told to the others.
    pub node: longspan_relay::node::Config,
    /// Where HTTP listens (TCP).
    pub http: SocketAddr,
    /// Where RTMP listens (TCP).
    pub rtmp: SocketAddr,
    /// Who may enter.
    pub auth: auth::Config,
    /// See [`Limits`].
    pub limits: Limits,
}

/// How much of everything one edge takes. What is over a limit is refused with an error that
/// names it, and counted in `longspan_rejected_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Viewers over FLV, MP4 and RTMP together.
    pub viewers: usize,
    /// Streams that are watched here at once, whatever the number of their viewers.
    pub streams: usize,
    /// Rooms somebody here is in, or asked for lately.
    pub rooms: usize,
    /// Streams published here at once.
    pub publishers: usize,
    /// TCP connections to the HTTP listener; one over it is closed unanswered.
    pub http_connections: usize,
    /// TCP connections to the RTMP listener; one over it is closed unanswered.
    pub rtmp_connections: usize,
    /// What a stream's viewers share, per format in use.
    pub ring: ring::Limits,
    /// Of members and their messages.
    pub messages: messages::Limits,
    /// How old a frame may be before the backbone drops it rather than deliver it.
    pub budget: Duration,
    /// How long a room or a stream is kept after its last viewer.
    pub linger: Duration,
    /// How long viewers stay connected while nobody publishes their stream.
    pub publisher_grace: Duration,
    /// A connection that takes no byte for this long is closed.
    pub stall: Duration,
    /// How long an RTMP client may take to say what it wants, and an HTTP client for its headers.
    pub setup: Duration,
    /// A publisher who sends nothing for this long is closed.
    pub publisher_idle: Duration,
    /// How long a request waits for the state of a room that is asked for the first time.
    pub room_wait: Duration,
    /// How long a viewer waits for the first picture of a stream that is on.
    pub first_picture: Duration,
    /// How long the first request for a playlist waits for the first segment.
    pub first_segment: Duration,
    /// How long a stream is cut into HLS segments after the last request for one.
    pub hls_linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            viewers: 10_000,
            streams: 1_000,
            rooms: 2_000,
            publishers: 500,
            http_connections: 20_000,
            rtmp_connections: 5_000,
            ring: ring::Limits::default(),
            messages: messages::Limits::default(),
            // A lecture's: nobody talks back, so a late picture is better than none, until it is
            // so late that the next group does more good.
            budget: Duration::from_secs(4),
            linger: Duration::from_secs(10),
            publisher_grace: Duration::from_secs(30),
            stall: Duration::from_secs(30),
            setup: Duration::from_secs(10),
            publisher_idle: Duration::from_secs(30),
            room_wait: Duration::from_secs(2),
            // Longer than the usual longest distance between key frames: 10 s.
            first_picture: Duration::from_secs(15),
            first_segment: Duration::from_secs(15),
            // Longer than a player with a full buffer needs to ask again.
            hls_linger: Duration::from_secs(60),
        }
    }
}
