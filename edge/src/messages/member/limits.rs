use std::time::Duration;

/// How much a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Messages a second in the long run; one more is answered `rate_limited`.
    pub rate: u32,
    /// Messages at once.
    pub burst: u32,
    /// Messages not answered yet; one more is answered `too_many_unanswered`. At most what the
    /// leader remembers acks of (256).
    pub unanswered: usize,
    /// Messages refused in a row before the member is sent away, `too_many_errors`.
    pub errors: u32,
    /// Gaps within [`Limits::gap_window`] before the member is sent away, `too_slow`.
    pub gaps: u32,
    /// See [`Limits::gaps`].
    pub gap_window: Duration,
    /// A connection that has not said hello by then is closed.
    pub hello: Duration,
    /// How long a hello waits for the room before the member is told `unavailable`; the welcome
    /// follows when the room is there.
    pub join: Duration,
    /// How often a silent connection is pinged.
    pub keepalive: Duration,
    /// A connection that is silent for longer, pings unanswered, is closed.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            rate: 50,
            burst: 200,
            unanswered: 200,
            errors: 1_000,
            gaps: 4,
            gap_window: Duration::from_secs(60),
            hello: Duration::from_secs(10),
            join: Duration::from_secs(3),
            keepalive: Duration::from_secs(20),
            idle: Duration::from_secs(60),
        }
    }
}
