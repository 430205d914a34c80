//! What an edge holds of a room: its state, its newest messages, and where each reader stands.
//! Pure.
//!
//! A member is a cursor into it: whoever stalls holds nothing but the cursor, and is told with a
//! gap and the state once the messages it missed are gone. Whoever comes back is given no more of what
//! it missed than the room's policy keeps; whoever stayed and lags is not bound by that.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use longspan_proto::wire::{
    envelope::{Class, Envelope},
    roster,
};
use longspan_relay::roomlog::{Retention, Snapshot};

use super::wire::{Event, StateEntry};

/// What is read of the summary that stands for many members.
#[derive(serde::Deserialize)]
struct Summary {
    count: u64,
}

/// How much a room may hold here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Ordered messages, the oldest go first: how far a member may lag or resume.
    pub messages: usize,
    /// What they cost, in bytes.
    pub bytes: usize,
    /// Ephemeral messages, the oldest go first, silently.
    pub ephemeral: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            messages: 1_024,
            bytes: 8 << 20,
            ephemeral: 128,
        }
    }
}

/// Which log it is: that of a placement group, whoever leads it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Log {
    /// The group.
    pub group: u64,
    /// Raised when the group was made anew.
    pub era: u16,
}

impl std::fmt::Display for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "group-{}-{}", self.group, self.era)
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct View {
    limits: Limits,
    /// What whoever comes back may be given of the messages held.
    kept: Retention,
    id: Option<Log>,
    /// Counts the logs seen: places of two of them mean nothing to each other.
    epoch: u64,
    seq: u64,
    keys: BTreeMap<String, Arc<Event>>,
    /// Without a hole, the last one at `seq`.
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    /// None: a newer one of the same label came.
    ephemeral: VecDeque<Option<Arc<Event>>>,
    /// Where the newest one of a label stands, counted from the first ever.
    labels: HashMap<Label, u64>,
    /// How many ephemeral messages came before those held.
    ephemeral_gone: u64,
}

/// Where a reader stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    epoch: u64,
    seq: u64,
    ephemeral: u64,
    /// While it lags by more than a batch, it is spared state that is written again.
    skips: bool,
}

impl Cursor {
    /// The same for a reader who, while it lags by more than a batch, is not given messages of class
    /// `state` whose key a later one writes again: it ends with the same state, sooner.
    pub fn skipping(self, skips: bool) -> Cursor {
        Cursor { skips, ..self }
    }
}

/// What became of an ordered message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// It is the next one.
    New,
    /// It was known.
    Known,
    /// Messages before it are missing; it was not taken.
    Hole,
}

/// What a reader gets next.
#[derive(Debug)]
pub enum Next {
    /// Nothing is new.
    Nothing,
    /// These; the cursor stands behind them.
    Events(Batch),
    /// Messages are missing. The cursor stands at the state as it is now.
    Gap {
        /// The first that is missing.
        from: u64,
        /// The last that is missing.
        to: u64,
    },
}

/// Messages that a reader gets together.
#[derive(Debug, Default)]
pub struct Batch {
    /// Ordered ones first; at least one message.
    pub events: Vec<Arc<Event>>,
    /// Places before the last ordered one that were left out, see [`Cursor::skipping`].
    pub skipped: u64,
}

impl View {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> View {
        View {
            limits,
            kept: Retention::ALL,
            id: None,
            epoch: 0,
            seq: 0,
            keys: BTreeMap::new(),
            events: VecDeque::new(),
            bytes: 0,
            ephemeral: VecDeque::new(),
            labels: HashMap::new(),
            ephemeral_gone: 0,
        }
    }

    /// Whether a state was loaded.
    pub fn is_loaded(&self) -> bool {
        self.id.is_some()
    }

    /// Whether what is held is of this log.
    pub fn is_of(&self, log: Log) -> bool {
        self.id == Some(log)
    }

    /// The log's name for members.
    pub fn log(&self) -> String {
        self.id.unwrap_or_default().to_string()
    }

    /// The newest message known.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// From now on whoever comes back is given so much at most of the messages it missed.
    pub fn keep(&mut self, kept: Retention) {
        self.kept = kept;
    }

    /// Takes the leader's state. Where its retained messages reach back to what is known, no reader
    /// misses anything. An older state of the same log is ignored.
    pub fn load(&mut self, log: Log, snapshot: Snapshot) {
        let same = self.id == Some(log);
        if same && snapshot.seq < self.seq {
            return;
        }
        if !same {
            self.id = Some(log);
            self.epoch += 1;
            self.clear_events();
        } else if snapshot
            .history
            .first()
            .is_none_or(|first| first.seq > self.seq + 1)
            && snapshot.seq > self.seq
        {
            self.clear_events();
        }
        let known = self.events.back().map_or(0, |event| event.message().seq);
        for message in snapshot.history {
            if message.seq > known {
                self.push(Arc::new(Event::new(message)));
            }
        }
        self.keys = snapshot
            .keys
            .into_iter()
            .filter_map(|message| Some((message.key.clone()?, Arc::new(Event::new(message)))))
            .collect();
        self.seq = snapshot.seq;
    }

    /// Takes the next message of the log.
    pub fn apply(&mut self, message: Envelope) -> Applied {
        if message.seq <= self.seq {
            return Applied::Known;
        }
        if message.seq > self.seq + 1 {
            return Applied::Hole;
        }
        self.seq = message.seq;
        let event = Arc::new(Event::new(message));
        if event.message().class == Class::State
            && let Some(key) = event.message().key.clone()
        {
            if event.message().body.is_empty() {
                self.keys.remove(&key);
            } else {
                self.keys.insert(key, event.clone());
            }
        }
        self.push(event);
        Applied::New
    }

    /// Takes an ephemeral message. An older one of the same label (writer, topic, key) is of no use
    /// any more to a reader who has not seen it.
    pub fn apply_ephemeral(&mut self, message: Envelope) {
        let at = self.ephemeral_gone + self.ephemeral.len() as u64;
        if let Some(label) = label(&message)
            && let Some(older) = self.labels.insert(label, at)
            && let Some(slot) = self
                .ephemeral
                .get_mut((older - self.ephemeral_gone) as usize)
        {
            *slot = None;
        }
        self.ephemeral
            .push_back(Some(Arc::new(Event::new(message))));
        if self.ephemeral.len() > self.limits.ephemeral {
            // The newest of its label is what is left of it.
            if let Some(label) = self
                .ephemeral
                .pop_front()
                .flatten()
                .and_then(|e| label(e.message()))
            {
                self.labels.remove(&label);
            }
            self.ephemeral_gone += 1;
        }
    }

    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.cost();
        self.events.push_back(event);
        while self.events.len() > self.limits.messages || self.bytes > self.limits.bytes {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= oldest.cost();
        }
    }

    fn clear_events(&mut self) {
        self.events.clear();
        self.bytes = 0;
    }

    /// How many members the room counts, where they are too many to be named.
    pub fn crowd(&self) -> Option<u64> {
        let summary = self.keys.get(roster::TOPIC)?;
        let read = ciborium::from_reader::<Summary, _>(&summary.message().body[..]);
        read.ok().map(|summary| summary.count)
    }

    /// A reader who begins now.
    pub fn now(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            seq: self.seq,
            ephemeral: self.ephemeral_gone + self.ephemeral.len() as u64,
            skips: false,
        }
    }

    /// A reader who comes back, and saw everything up to `seq` of this log.
    pub fn after(&self, seq: u64) -> Cursor {
        let missed = self.seq.saturating_sub(seq);
        // No further than it missed: a crowd that comes back missed little.
        let held = self.events.iter().rev();
        let messages = held.take(missed as usize).map(|event| event.message());
        match (self.kept.keeps(messages) as u64) < missed {
            true => self.lost(seq),
            false => Cursor { seq, ..self.now() },
        }
    }

    /// A reader who saw up to `seq` of another log.
    pub fn lost(&self, seq: u64) -> Cursor {
        Cursor {
            epoch: self.epoch.wrapping_sub(1),
            seq,
            ..self.now()
        }
    }

    /// What is next for a reader, at most `messages` and about `bytes`.
    pub fn next(&self, cursor: &mut Cursor, messages: usize, bytes: usize) -> Next {
        if cursor.epoch != self.epoch || cursor.seq + 1 < self.first() {
            let gap = Next::Gap {
                from: cursor.seq + 1,
                to: self.seq,
            };
            *cursor = self.now().skipping(cursor.skips);
            return gap;
        }
        let lags = cursor.skips && self.seq.saturating_sub(cursor.seq) > messages as u64;
        let (mut taken, mut skipped) = (Vec::new(), 0);
        let mut size = 0;
        // A cursor may be ahead: its reader came from a quicker edge.
        let skip = (cursor.seq + 1 - self.first()) as usize;
        for event in self.events.iter().skip(skip) {
            if lags && self.is_written_again(event) {
                continue;
            }
            size += event.message().body.len() + 128;
            if taken.len() >= messages || (size > bytes && !taken.is_empty()) {
                break;
            }
            // What was left out before it; what is behind it is looked at again.
            skipped += event.message().seq - cursor.seq - 1;
            cursor.seq = event.message().seq;
            taken.push(event.clone());
        }
        let skip = cursor.ephemeral.saturating_sub(self.ephemeral_gone) as usize;
        cursor.ephemeral = cursor.ephemeral.max(self.ephemeral_gone);
        for slot in self.ephemeral.iter().skip(skip) {
            if let Some(event) = slot {
                size += event.message().body.len() + 128;
                if taken.len() >= messages || (size > bytes && !taken.is_empty()) {
                    break;
                }
                taken.push(event.clone());
            }
            cursor.ephemeral += 1;
        }
        if taken.is_empty() {
            Next::Nothing
        } else {
            let events = taken;
            Next::Events(Batch { events, skipped })
        }
    }

    /// Whether a later message that is held too writes its key, so that nobody needs it for the state.
    fn is_written_again(&self, event: &Event) -> bool {
        let message = event.message();
        let Some(key) = message
            .key
            .as_ref()
            .filter(|_| message.class == Class::State)
        else {
            return false;
        };
        match self.keys.get(key) {
            Some(newest) => newest.message().seq > message.seq,
            // Deleted; the deletion itself may be this one.
            None => !message.body.is_empty(),
        }
    }

    /// The oldest place held; the one after the newest if none is.
    fn first(&self) -> u64 {
        self.events
            .front()
            .map_or(self.seq + 1, |event| event.message().seq)
    }

    /// The state now, cut into pieces of about `bytes`; one at least.
    pub fn state(&self, bytes: usize) -> Vec<BTreeMap<String, StateEntry>> {
        let mut chunks = vec![BTreeMap::new()];
        let mut size = 0;
        for (key, event) in &self.keys {
            let message = event.message();
            let cost = 96 + 2 * key.len() + message.from.len() + message.body.len();
            if size > 0 && size + cost > bytes {
                chunks.push(BTreeMap::new());
                size = 0;
            }
            size += cost;
            if let Some(chunk) = chunks.last_mut() {
                chunk.insert(key.clone(), StateEntry::from(message));
            }
        }
        chunks
    }
}

/// Who wrote it, about what, under which key.
type Label = (String, String, String);

fn label(message: &Envelope) -> Option<Label> {
    let key = message.key.clone()?;
    Some((message.from.clone(), message.topic.clone(), key))
}

#[cfg(test)]
mod tests;
