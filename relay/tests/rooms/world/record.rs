//! What publishers, followers and members say and hear, for the judge.

use std::collections::BTreeMap;

use longspan_lab::history::{self, Event, Mark, State, What, Write};
use longspan_proto::{
    ids::RoomName,
    time::Time,
    wire::envelope::{Class, Envelope},
};
use longspan_relay::roomlog::Snapshot;

use super::history::Broken;

/// Numbers of who is heard: publishers by their own, then these and theirs.
pub const FOLLOWER: u32 = 100;
pub const HOST: u32 = 200;

#[derive(Debug, Default)]
pub struct Record {
    pub now: Time,
    rooms: BTreeMap<RoomName, Vec<Event>>,
}

impl Record {
    pub fn note(&mut self, room: &RoomName, member: u32, what: What) {
        let at = self.now;
        let events = self.rooms.entry(room.clone()).or_default();
        events.push(Event { at, member, what });
    }

    /// A publisher is about to say it.
    pub fn says(&mut self, member: u32, message: &Envelope) {
        let write = match (message.class, &message.key) {
            (Class::State, Some(key)) => Some(Write {
                key: key.as_str().into(),
                expected: message.expected,
                deletes: message.body.is_empty(),
            }),
            _ => None,
        };
        let mark = mark(message);
        self.note(&message.room, member, What::Says { mark, write });
    }

    pub fn gets(&mut self, member: u32, message: &Envelope) {
        let (seq, mark) = (message.seq, mark(message));
        self.note(&message.room, member, What::Gets { seq, mark });
    }

    /// The first law that is broken, if one is.
    pub fn judge(&self) -> Result<(), Broken> {
        for (room, events) in &self.rooms {
            let verdict = history::judge(events);
            if let Some(broken) = verdict.broken.first() {
                let count = verdict.count.values().sum::<u64>();
                let lines: Vec<String> = broken.to_string().lines().map(str::to_owned).collect();
                return Err(format!("{} ({room}, {count} in all)", lines.join(" | ")));
            }
        }
        Ok(())
    }
}

fn mark(message: &Envelope) -> Mark {
    Mark {
        session: message.session,
        n: message.n,
    }
}

/// A state as the judge knows it.
pub fn state(snapshot: &Snapshot) -> State {
    let entry = |message: &Envelope| {
        let key = message.key.as_deref()?;
        Some((key.into(), (message.revision, mark(message))))
    };
    snapshot.keys.iter().filter_map(entry).collect()
}
