//! The newest messages, for members who come back. Bounded in messages and bytes.

use std::collections::VecDeque;

use longspan_proto::wire::envelope::Envelope;

use super::{Limits, cost};

#[derive(Debug, Default)]
pub(super) struct History {
    messages: VecDeque<Envelope>,
    bytes: usize,
}

impl History {
    /// Keeps a message; the oldest give way.
    pub fn push(&mut self, limits: &Limits, message: Envelope) {
        self.bytes += cost(&message);
        self.messages.push_back(message);
        while self.messages.len() > limits.history_messages || self.bytes > limits.history_bytes {
            let Some(oldest) = self.messages.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.messages.iter()
    }
}
