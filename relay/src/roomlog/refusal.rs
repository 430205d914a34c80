use longspan_proto::{ids::SessionId, wire::room::Answer};

/// Why a message, or a call, was not taken. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A number was left out.
    #[error("n jumps to {n}; the next one expected is {expected}")]
    Jumped {
        /// What was sent.
        n: u64,
        /// What would have been taken.
        expected: u64,
    },
    /// The number is below the highest held, and what it was answered is not known any more.
    #[error("n goes back to {n}; the highest held is {held}")]
    WentBack {
        /// What was sent.
        n: u64,
        /// The highest held.
        held: u64,
    },
    /// The number was used for another message before.
    #[error("n {n} was another message before, acked as seq {seq}")]
    Reused {
        /// The number.
        n: u64,
        /// The place of the first message.
        seq: u64,
    },
    /// The session was forgotten.
    #[error("the session is not known any more; begin a new one with n 1")]
    SessionExpired,
    /// A part of the message is too long.
    #[error("{what} has {len} bytes; the limit is {limit}")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Key, expected revision and class do not fit together.
    #[error("{0}")]
    WrongClass(&'static str),
    /// The compare-and-set found another revision.
    #[error("{key:?} is at revision {held}, not {expected} (0: there is no such key)")]
    Conflict {
        /// The key.
        key: String,
        /// Its revision now; 0 if there is none.
        held: u64,
        /// What the publisher expected.
        expected: u64,
    },
    /// The room has as many of something as it may.
    #[error("the room holds {limit} {what}; no more are taken")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The member holds as much of the room's state as it may.
    #[error("{member:?} holds {limit} {what}; no more are taken of it")]
    MemberFull {
        /// Who.
        member: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A room that is to come from another group is not taken; why.
    #[error("{0}")]
    NotMoved(String),
    /// This node has as many rooms as it may.
    #[error("this node holds {limit} rooms; no more are taken")]
    TooManyRooms {
        /// The limit.
        limit: usize,
    },
}

impl Refusal {
    /// What the publisher of message `n` hears; 0 for a question.
    pub fn answer(&self, session: SessionId, n: u64) -> Answer {
        Answer::Refused {
            session,
            n,
            slug: self.slug().to_owned(),
            limit: self.limit(),
            message: self.to_string(),
        }
    }

    /// For programs and counters.
    pub fn slug(&self) -> &'static str {
        match self {
            Refusal::Jumped { .. } => "n_jumped",
            Refusal::WentBack { .. } => "n_went_back",
            Refusal::Reused { .. } => "n_reused",
            Refusal::SessionExpired => "session_expired",
            Refusal::TooLong { .. } => "too_long",
            Refusal::WrongClass(_) => "wrong_class",
            Refusal::Conflict { .. } => "conflict",
            Refusal::Full { .. } => "room_full",
            Refusal::MemberFull { .. } => "member_full",
            Refusal::NotMoved(_) => "not_moved",
            Refusal::TooManyRooms { .. } => "too_many_rooms",
        }
    }

    /// The limit that was reached; for a number out of order the one that would be taken, for a
    /// conflict the revision held.
    pub fn limit(&self) -> Option<u64> {
        match self {
            Refusal::Jumped { expected, .. } => Some(*expected),
            Refusal::WentBack { held, .. } => Some(*held),
            Refusal::Conflict { held, .. } => Some(*held),
            Refusal::TooLong { limit, .. }
            | Refusal::Full { limit, .. }
            | Refusal::MemberFull { limit, .. }
            | Refusal::TooManyRooms { limit } => Some(*limit as u64),
            _ => None,
        }
    }
}
