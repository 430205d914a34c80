//! How much of a room's order is kept.

use std::time::Duration;

use longspan_proto::{control, wire::envelope::Envelope};

use super::{Limits, cost};

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
    /// Everything.
    pub const ALL: Retention = Retention {
        messages: usize::MAX,
        bytes: usize::MAX,
        age: Duration::MAX,
    };

    /// As a controller tells it: what it leaves out is not bounded.
    pub fn told(told: &control::Retention) -> Retention {
        let number = |told: Option<u64>| {
            told.map_or(usize::MAX, |told| {
                usize::try_from(told).unwrap_or(usize::MAX)
            })
        };
        Retention {
            messages: number(told.messages),
            bytes: number(told.bytes),
            age: told.age_ms.map_or(Duration::MAX, Duration::from_millis),
        }
    }

    /// As a controller is told it.
    pub fn to_control(self) -> control::Retention {
        control::Retention {
            messages: Some(self.messages as u64),
            bytes: Some(self.bytes as u64),
            age_ms: Some(u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// How many of a room's messages it keeps, told the newest first.
    pub fn keeps<'a>(&self, newest_first: impl IntoIterator<Item = &'a Envelope>) -> usize {
        let age = u64::try_from(self.age.as_millis()).unwrap_or(u64::MAX);
        let (mut count, mut bytes, mut newest) = (0, 0_usize, None);
        for message in newest_first {
            let newest = *newest.get_or_insert(message.at);
            bytes += cost(message);
            let kept = count < self.messages
                && bytes <= self.bytes
                && newest.saturating_sub(message.at) <= age;
            if !kept {
                break;
            }
            count += 1;
        }
        count
    }

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
