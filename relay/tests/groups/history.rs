//! What was done and told, and the laws it must keep.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{
    ids::{RoomName, SessionId},
    wire::envelope::{Class, Envelope},
};
use longspan_relay::roomlog::{Snapshot, group::Member};

/// A law that is broken: which, and how.
pub type Broken = String;

/// One room's order, as the first member told it.
#[derive(Debug, Default)]
struct Order {
    messages: Vec<Envelope>,
    /// Key → revision, after the last message.
    revisions: BTreeMap<String, u64>,
    /// The newest place anybody was told.
    told: u64,
}

#[derive(Debug, Default)]
pub struct History {
    rooms: BTreeMap<RoomName, Order>,
    taken: BTreeMap<(SessionId, u64), (RoomName, u64)>,
    /// What a publisher expected of the key.
    expected: BTreeMap<(SessionId, u64), u64>,
    acked: BTreeSet<(SessionId, u64)>,
    refused: BTreeSet<(SessionId, u64)>,
    leaders: BTreeMap<u64, Member>,
}

impl History {
    /// A publisher writes this, possibly again.
    pub fn writes(&mut self, message: &Envelope) {
        if let Some(expected) = message.expected {
            self.expected.insert((message.session, message.n), expected);
        }
    }

    /// A member leads in this term.
    pub fn leads(&mut self, term: u64, member: Member) -> Result<(), Broken> {
        match *self.leaders.entry(term).or_insert(member) {
            other if other != member => Err(format!(
                "one leader a term: {other:?} and {member:?} lead in term {term}"
            )),
            _ => Ok(()),
        }
    }

    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// A member tells the next message of its log.
    pub fn published(&mut self, member: Member, message: &Envelope) -> Result<(), Broken> {
        let order = self.rooms.entry(message.room.clone()).or_default();
        let next = order.messages.len() as u64 + 1;
        if message.seq < next {
            let first = &order.messages[message.seq as usize - 1];
            return match first == message {
                true => Ok(()),
                false => Err(format!(
                    "one order: {member:?} tells {message:?} where {first:?} was told"
                )),
            };
        }
        if message.seq > next {
            return Err(format!(
                "no hole: {member:?} tells {} of {} after {}",
                message.seq,
                message.room,
                next - 1
            ));
        }
        let mark = (message.session, message.n);
        let place = (message.room.clone(), message.seq);
        if self.refused.contains(&mark) {
            return Err(format!("refusals are true: {message:?} was refused"));
        }
        if let Some(first) = self.taken.insert(mark, place) {
            return Err(format!("exactly once: {message:?} stands at {first:?} too"));
        }
        if order
            .messages
            .last()
            .is_some_and(|last| last.at > message.at)
        {
            return Err(format!("time: {message:?} is older than the one before"));
        }
        if message.class == Class::State {
            let key = message.key.clone().unwrap_or_default();
            let held = order.revisions.get(&key).copied().unwrap_or(0);
            if let Some(expected) = self.expected.get(&mark)
                && *expected != held
            {
                return Err(format!(
                    "compare and set: {message:?} expected {expected}, held {held}"
                ));
            }
            match message.body.is_empty() {
                true => order.revisions.remove(&key),
                false => order.revisions.insert(key, message.seq),
            };
        }
        order.messages.push(message.clone());
        Ok(())
    }

    /// A publisher is told that its message stands at `seq`.
    pub fn acked(
        &mut self,
        room: &RoomName,
        mark: (SessionId, u64),
        seq: u64,
    ) -> Result<(), Broken> {
        let order = self.rooms.entry(room.clone()).or_default();
        if self.taken.get(&mark) != Some(&(room.clone(), seq)) {
            return Err(format!(
                "acks are true: {mark:?} was told {seq}, but stands at {:?}",
                self.taken.get(&mark)
            ));
        }
        order.told = order.told.max(seq);
        self.acked.insert(mark);
        Ok(())
    }

    /// A publisher is told that its message was not taken.
    pub fn refused(&mut self, mark: (SessionId, u64)) -> Result<(), Broken> {
        if let Some(place) = self.taken.get(&mark) {
            return Err(format!("refusals are true: {mark:?} stands at {place:?}"));
        }
        self.refused.insert(mark);
        Ok(())
    }

    /// The highest number of a session that its publisher knows to be taken.
    pub fn acked_up_to(&self, session: SessionId) -> u64 {
        let all = (session, 0)..=(session, u64::MAX);
        self.acked.range(all).next_back().map_or(0, |(_, n)| *n)
    }

    /// The newest place of a room that anybody was told.
    pub fn told(&self, room: &RoomName) -> u64 {
        self.rooms.get(room).map_or(0, |order| order.told)
    }

    /// How long a room's order is.
    pub fn newest(&self, room: &RoomName) -> u64 {
        self.rooms
            .get(room)
            .map_or(0, |order| order.messages.len() as u64)
    }

    pub fn message(&self, room: &RoomName, seq: u64) -> Option<&Envelope> {
        let order = self.rooms.get(room)?;
        order.messages.get((seq as usize).checked_sub(1)?)
    }

    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.rooms.keys()
    }

    /// A snapshot was read; when it was asked for, `told` was the newest place told to anybody.
    pub fn read(&self, room: &RoomName, told: u64, read: &Snapshot) -> Result<(), Broken> {
        if read.seq < told {
            return Err(format!(
                "reads are not stale: {} of {room} was read when {told} had been told",
                read.seq
            ));
        }
        self.is_true(room, read)
    }

    /// Whether a snapshot says what the order up to its place says.
    pub fn is_true(&self, room: &RoomName, read: &Snapshot) -> Result<(), Broken> {
        let mut keys: BTreeMap<&str, &Envelope> = BTreeMap::new();
        for seq in 1..=read.seq {
            let message = self
                .message(room, seq)
                .ok_or_else(|| format!("no hole: {room} has no {seq}, but was read"))?;
            if let Some(key) = message.key.as_deref() {
                match message.body.is_empty() {
                    true => keys.remove(key),
                    false => keys.insert(key, message),
                };
            }
        }
        if !read.keys.iter().eq(keys.into_values()) {
            return Err(format!(
                "read your writes: the state of {room} at {} is not its messages'",
                read.seq
            ));
        }
        let first = read.seq + 1 - read.history.len() as u64;
        for (message, seq) in read.history.iter().zip(first..) {
            if self.message(room, seq) != Some(message) {
                return Err(format!(
                    "one order: {room} is said to have {message:?} at {seq}"
                ));
            }
        }
        Ok(())
    }
}
