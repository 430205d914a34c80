//! The room's keyed state: the newest message of each key.

use std::collections::BTreeMap;

use longspan_proto::wire::envelope::Envelope;

use super::{Limits, Refusal, cost};

#[derive(Debug, Default)]
pub(super) struct Keyed {
    by_key: BTreeMap<String, Envelope>,
    bytes: usize,
}

impl Keyed {
    /// Whether the change may be made.
    pub fn check(&self, limits: &Limits, message: &Envelope) -> Result<(), Refusal> {
        let key = message.key.as_deref().unwrap_or_default();
        let held = self.by_key.get(key);
        let revision = held.map_or(0, |held| held.revision);
        if let Some(expected) = message.expected
            && expected != revision
        {
            return Err(Refusal::Conflict {
                key: key.to_owned(),
                held: revision,
                expected,
            });
        }
        if message.body.is_empty() {
            return Ok(());
        }
        if held.is_none() && self.by_key.len() >= limits.keys {
            return Err(Refusal::Full {
                what: "keys",
                limit: limits.keys,
            });
        }
        if self.bytes - held.map_or(0, cost) + cost(message) > limits.state_bytes {
            return Err(Refusal::Full {
                what: "bytes of state",
                limit: limits.state_bytes,
            });
        }
        Ok(())
    }

    /// Makes a change that was checked; an empty body deletes.
    pub fn put(&mut self, message: Envelope) {
        let key = message.key.clone().unwrap_or_default();
        let before = if message.body.is_empty() {
            self.by_key.remove(&key)
        } else {
            self.bytes += cost(&message);
            self.by_key.insert(key, message)
        };
        self.bytes -= before.as_ref().map_or(0, cost);
    }

    /// What it holds, by the measure its limit is in.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// As it was, key by key.
    pub fn restore(&mut self, message: Envelope) {
        self.put(message);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Envelope> {
        self.by_key.values()
    }
}
