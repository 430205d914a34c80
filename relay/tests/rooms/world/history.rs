//! The order that members tell, and what must hold of it while the world plays. What publishers and
//! readers see of it is for the judge, at the end (see `record`).

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{
    ids::{RoomName, SessionId},
    wire::envelope::Envelope,
};
use longspan_relay::roomlog::Snapshot;

use super::record::Record;

/// A law that is broken: which, and how.
pub type Broken = String;

#[derive(Debug, Default)]
pub struct History {
    /// One room's order, as the first member told it.
    rooms: BTreeMap<RoomName, Vec<Envelope>>,
    acked: BTreeSet<(SessionId, u64)>,
    /// By group and term.
    leaders: BTreeMap<(u64, u64), usize>,
    pub record: Record,
}

impl History {
    /// A host's member leads its group in this term.
    pub fn leads(&mut self, of: u64, term: u64, host: usize) -> Result<(), Broken> {
        match *self.leaders.entry((of, term)).or_insert(host) {
            other if other != host => Err(format!(
                "one leader a term: hosts {other} and {host} lead group {of} in term {term}"
            )),
            _ => Ok(()),
        }
    }

    /// Terms with a leader.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }

    /// A host tells the next message of its log.
    pub fn published(&mut self, host: usize, message: &Envelope) -> Result<(), Broken> {
        let order = self.rooms.entry(message.room.clone()).or_default();
        let next = order.len() as u64 + 1;
        if message.seq < next {
            let first = &order[message.seq as usize - 1];
            return match first == message {
                true => Ok(()),
                false => Err(format!(
                    "one order: host {host} tells {message:?} where {first:?} was told"
                )),
            };
        }
        if message.seq > next {
            return Err(format!(
                "no hole: host {host} tells {} of {} after {}",
                message.seq,
                message.room,
                next - 1
            ));
        }
        if order.last().is_some_and(|last| last.at > message.at) {
            return Err(format!("time: {message:?} is older than the one before"));
        }
        order.push(message.clone());
        Ok(())
    }

    /// A publisher is told that its message has a place.
    pub fn acked(&mut self, mark: (SessionId, u64)) {
        self.acked.insert(mark);
    }

    /// The highest number of a session that its publisher knows to be taken.
    pub fn acked_up_to(&self, session: SessionId) -> u64 {
        let all = (session, 0)..=(session, u64::MAX);
        self.acked.range(all).next_back().map_or(0, |(_, n)| *n)
    }

    /// How long a room's order is.
    pub fn newest(&self, room: &RoomName) -> u64 {
        self.rooms.get(room).map_or(0, |order| order.len() as u64)
    }

    pub fn message(&self, room: &RoomName, seq: u64) -> Option<&Envelope> {
        self.rooms.get(room)?.get((seq as usize).checked_sub(1)?)
    }

    pub fn rooms(&self) -> impl Iterator<Item = &RoomName> {
        self.rooms.keys()
    }

    /// What a member holds of a room's newest messages is what was told.
    pub fn holds(&self, room: &RoomName, read: &Snapshot) -> Result<(), Broken> {
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
