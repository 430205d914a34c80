//! The room's keyed state: the newest message of each key.

use std::collections::BTreeMap;

use longspan_proto::wire::envelope::Envelope;

use super::{Limits, Refusal, cost};

#[derive(Debug, Default)]
pub(super) struct Keyed {
    by_key: BTreeMap<String, Envelope>,
    bytes: usize,
    /// Of each member who wrote a key last: how many, and what they cost.
    by_member: BTreeMap<String, Share>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Share {
    keys: usize,
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
        self.check_share(limits, held, message)
    }

    /// Whether the member holds no more than it may, then.
    fn check_share(
        &self,
        limits: &Limits,
        held: Option<&Envelope>,
        message: &Envelope,
    ) -> Result<(), Refusal> {
        let share = self
            .by_member
            .get(&message.from)
            .copied()
            .unwrap_or_default();
        let own = held.filter(|held| held.from == message.from);
        let full = |what, limit| {
            Err(Refusal::MemberFull {
                member: message.from.clone(),
                what,
                limit,
            })
        };
        if own.is_none() && share.keys >= limits.member_keys {
            return full("keys", limits.member_keys);
        }
        if share.bytes - own.map_or(0, cost) + cost(message) > limits.member_bytes {
            return full("bytes of state", limits.member_bytes);
        }
        Ok(())
    }

    /// Makes a change that was checked; an empty body deletes.
    pub fn put(&mut self, message: Envelope) {
        let key = message.key.clone().unwrap_or_default();
        let before = if message.body.is_empty() {
            self.by_key.remove(&key)
        } else {
            let share = self.by_member.entry(message.from.clone()).or_default();
            share.keys += 1;
            share.bytes += cost(&message);
            self.bytes += cost(&message);
            self.by_key.insert(key, message)
        };
        if let Some(before) = before {
            self.bytes -= cost(&before);
            self.take_share(&before);
        }
    }

    fn take_share(&mut self, gone: &Envelope) {
        if let Some(share) = self.by_member.get_mut(&gone.from) {
            share.keys -= 1;
            share.bytes -= cost(gone);
            if share.keys == 0 {
                self.by_member.remove(&gone.from);
            }
        }
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
