//! The newest messages, for members who come back. Bounded in messages, bytes and age.

use std::collections::VecDeque;

use longspan_proto::wire::envelope::Envelope;

use super::{Retention, cost};

#[derive(Debug, Default)]
pub(super) struct History {
    messages: VecDeque<Envelope>,
    bytes: usize,
}

impl History {
    /// Keeps a message; the oldest give way.
    pub fn push(&mut self, retention: &Retention, message: Envelope) {
        let at = message.at;
        self.bytes += cost(&message);
        self.messages.push_back(message);
        self.trim(retention, at);
    }

    /// Lets go of what is too much, or too old at the log's time `at` (ms).
    pub fn trim(&mut self, retention: &Retention, at: u64) {
        let age = u64::try_from(retention.age.as_millis()).unwrap_or(u64::MAX);
        while let Some(oldest) = self.messages.front() {
            if self.messages.len() <= retention.messages
                && self.bytes <= retention.bytes
                && at.saturating_sub(oldest.at) <= age
            {
                break;
            }
            self.bytes -= cost(oldest);
            self.messages.pop_front();
        }
    }

    /// The place of the oldest one kept.
    pub fn first(&self) -> Option<u64> {
        self.messages.front().map(|message| message.seq)
    }

    /// What it holds, by the measure its limit is in.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.messages.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.messages.iter()
    }

    /// As it was, message by message.
    pub fn restore(&mut self, message: Envelope) {
        self.bytes += cost(&message);
        self.messages.push_back(message);
    }
}
