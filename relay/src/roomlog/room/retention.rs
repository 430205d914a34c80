//! How much of a room's order is kept.

use std::time::Duration;

use super::Limits;

/// Messages in order are kept while all three hold; the oldest go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most so many.
    pub messages: usize,
    /// What they cost together, in bytes.
    pub bytes: usize,
    /// No older than this, by the log's own time.
    pub age: Duration,
}

impl Retention {
    /// As much as the limits allow.
    pub fn most(limits: &Limits) -> Retention {
        Retention {
            messages: limits.history_messages,
            bytes: limits.history_bytes,
            age: limits.history_age,
        }
    }

    /// The same, cut to what the limits allow.
    pub fn within(self, limits: &Limits) -> Retention {
        let most = Retention::most(limits);
        Retention {
            messages: self.messages.min(most.messages),
            bytes: self.bytes.min(most.bytes),
            age: self.age.min(most.age),
        }
    }
}
