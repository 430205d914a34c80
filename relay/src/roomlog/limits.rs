use std::time::Duration;

/// What the log of a group keeps at most. Each is answered with an error that names it.
///
/// The size of one message is bounded by the envelope's codec (body 16 KB, key 128 bytes, topic
/// 64, member 128). The worst room costs `state_bytes` + `history_bytes` + `sessions` × 6 KB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rooms in memory. When full, the room idle longest gives way if nobody holds it; else new
    /// rooms are refused.
    pub rooms: usize,
    /// Sessions of a room that are remembered; new ones are refused when full.
    pub sessions: usize,
    /// Keys of a room's state; new keys are refused when full.
    pub keys: usize,
    /// Keys whose value one member wrote last; its next new one is refused when full, so that nobody
    /// takes all of the room's.
    pub member_keys: usize,
    /// What these cost, in bytes.
    pub member_bytes: usize,
    /// Bytes of a room's state: keys, topics, members and bodies.
    pub state_bytes: usize,
    /// Ordered messages kept for members who come back; the oldest go first.
    pub history_messages: usize,
    /// Their bytes.
    pub history_bytes: usize,
    /// Their age, by the log's own time.
    pub history_age: Duration,
    /// Acks kept per session for messages that are sent again. An edge lets a member have fewer
    /// messages unanswered than this.
    pub acks: usize,
    /// How long a session is remembered past its last use (DESIGN §5: ten minutes).
    pub session_idle: Duration,
    /// Ids of forgotten sessions, so that a late resend is refused and not taken twice; the
    /// oldest go first. 16 bytes each.
    pub ended_sessions: usize,
    /// How long a room that nobody holds is remembered past its last use.
    pub room_idle: Duration,
    /// Forgotten rooms whose place in the order is remembered, so that it is never given twice in
    /// a generation; the oldest go first.
    pub forgotten_rooms: usize,
    /// What all rooms of a replicated log cost together, in bytes. When full, nothing that takes
    /// more room is taken; deletions are. Bounds a snapshot.
    pub log_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rooms: 4_096,
            sessions: 20_000,
            keys: 10_000,
            member_keys: 2_000,
            member_bytes: 1 << 20,
            state_bytes: 4 << 20,
            history_messages: 1_024,
            history_bytes: 2 << 20,
            history_age: Duration::from_secs(24 * 3_600),
            acks: 256,
            session_idle: Duration::from_secs(600),
            ended_sessions: 65_536,
            room_idle: Duration::from_secs(3_600),
            forgotten_rooms: 65_536,
            log_bytes: 256 << 20,
        }
    }
}
