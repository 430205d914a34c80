//! The state machine of a replicated log: all rooms of one placement group. Pure.
//!
//! Contract: `apply(entry)` in the log's order is the only way in. It reads no clock (an entry
//! brings its time), draws nothing at random and never fails: whatever it refuses it refuses
//! everywhere. So members fed with the same entries hold the same bytes, and leader, followers
//! and whoever was restored from a snapshot go one way.

mod entry;
mod moves;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{
    ids::{RoomName, SessionId},
    time::Time,
    wire::{
        envelope::{Class, Envelope},
        moving::Came,
        room::Answer,
        roster::Roster,
    },
};

use self::moves::{Leaving, Moves};
pub use self::{
    entry::{Command, Entry},
    moves::{MAX_ROOM, Whereabouts},
    snapshot::MAX_SNAPSHOT,
};
use super::{GROUP, Limits, Refusal, Retention, Room};

/// See the [module](self).
#[derive(Debug)]
pub struct Machine {
    limits: Limits,
    at: u64,
    /// Places up to here may have been given in rooms that are forgotten.
    floor: u64,
    rooms: BTreeMap<RoomName, Held>,
    /// Rooms that are on their way to or from another group.
    moves: Moves,
    /// What the rooms cost together, those that are still to come included.
    cost: usize,
}

#[derive(Debug)]
struct Held {
    room: Room,
    /// Its last use, by the log's time in ms.
    used: u64,
    /// The newest move of the room that this group heard of; 0: none.
    word: u64,
    /// It began in another group, or was away meanwhile.
    came: Option<Came>,
    /// It is closed, and about to move.
    leaving: Option<Leaving>,
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// What whoever asked hears; None where nobody asked.
    pub answer: Option<Answer>,
    /// What is to be published, in this order.
    pub published: Vec<Envelope>,
    /// A room that is gone, or another took its place.
    pub forgotten: Option<RoomName>,
    /// Nothing was done: the room is about to move, or is in another group. Whoever asked is to
    /// ask again, wherever the room will be.
    pub shut: bool,
}

impl Machine {
    /// No room yet. The limits are part of the state: members with other limits would part ways.
    pub fn new(limits: Limits) -> Machine {
        Machine {
            limits,
            at: 0,
            floor: 0,
            rooms: BTreeMap::new(),
            moves: Moves::default(),
            cost: 0,
        }
    }

    /// The log's time, in ms since the Unix epoch: the newest of the entries' times.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The most that is kept of a room's order, and what is kept of a new one's.
    pub fn most(&self) -> Retention {
        Retention::most(&self.limits)
    }

    /// The same, where it is more than `wanted`: that.
    pub fn bounded(&self, wanted: Retention) -> Retention {
        wanted.within(&self.limits)
    }

    /// What the rooms cost together in memory, about, in bytes.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// How many rooms there are.
    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// A room, to be read.
    pub fn room(&self, name: &RoomName) -> Option<&Room> {
        self.rooms.get(name).map(|held| &held.room)
    }

    /// All rooms, to be read.
    pub fn rooms(&self) -> impl Iterator<Item = (&RoomName, &Room)> {
        self.rooms.iter().map(|(name, held)| (name, &held.room))
    }

    /// The rooms and when each was last used, by the log's time in ms.
    pub fn used(&self) -> impl Iterator<Item = (&RoomName, u64)> {
        self.rooms.iter().map(|(name, held)| (name, held.used))
    }

    /// Applies the log's next entry. Its time never takes the log's time back.
    pub fn apply(&mut self, entry: Entry) -> Outcome {
        self.at = self.at.max(entry.at);
        let mut outcome = Outcome {
            answer: None,
            published: Vec::new(),
            forgotten: None,
            shut: false,
        };
        self.moves.tidy(self.at, &mut self.cost);
        if let Some(room) = entry.command.used()
            && self.is_shut(room)
        {
            outcome.shut = true;
            return outcome;
        }
        match entry.command {
            Command::Publish(message) => {
                let (session, n) = (message.session, message.n);
                let answer = match self.publish(message) {
                    Ok(accepted) => {
                        outcome.published.extend(accepted.new);
                        Answer::Acked {
                            session,
                            n,
                            seq: accepted.seq,
                        }
                    }
                    Err(refusal) => refusal.answer(session, n),
                };
                outcome.answer = Some(answer);
            }
            Command::PassOver {
                room,
                session,
                first,
                last,
            } => {
                // Refused where there is no place: the publisher hears it with its next message.
                let _ = self.change(&room, 0, |room, now, _| {
                    room.pass_over(now, session, first, last);
                });
            }
            Command::Ask { room, session } => {
                let held = match self.rooms.contains_key(&room) {
                    true => self
                        .change(&room, 0, |room, now, _| room.held(now, session))
                        .and_then(|held| held),
                    false => Ok(0),
                };
                outcome.answer = Some(match held {
                    Ok(n) => Answer::Held { session, n },
                    Err(refusal) => refusal.answer(session, 0),
                });
            }
            Command::Retain { room, retention } => {
                let _ = self.change(&room, 0, |room, _, _| room.retain(retention));
            }
            Command::Forget { room, unused_since } => {
                outcome.forgotten = self.forget(&room, unused_since).then_some(room);
            }
            Command::Roster { room, roster } => {
                let (session, version) = (roster.session, roster.version);
                outcome.answer = Some(match self.take_roster(&room, roster) {
                    Ok((held, published)) => {
                        outcome.published = published;
                        Answer::Present {
                            session,
                            version: held,
                        }
                    }
                    Err(refusal) => refusal.answer(session, version),
                });
            }
            Command::Lapse {
                room,
                session,
                version,
            } => {
                let lapse = |of: &mut Room, _, at| of.lapse(at, &room, session, version);
                outcome.published = self.change_known(&room, lapse).unwrap_or_default();
            }
            Command::Count { room } => {
                let count = |of: &mut Room, _, at| of.count_members(at, &room);
                outcome
                    .published
                    .extend(self.change_known(&room, count).flatten());
            }
            Command::Close { room, to, log } => self.close(&room, to, log),
            Command::Reopen { room, word } => self.reopen(&room, word),
            Command::Gone { room, word } => outcome.forgotten = self.gone(room, word),
            Command::Settled { room, word } => self.moves.settled(&room, word),
            Command::Part {
                room,
                word,
                index,
                last,
                bytes,
            } => {
                if let Err(refusal) = self.take_part(&room, word, index, last, &bytes) {
                    outcome.answer = Some(refusal.answer(SessionId([0; 16]), 0));
                }
            }
            Command::Open { room, word } => outcome.forgotten = self.open(room, word),
            Command::Drop { room, word } => self.moves.drop(&room, word, &mut self.cost),
        }
        outcome
    }

    fn publish(&mut self, message: Envelope) -> Result<super::Accepted, Refusal> {
        if message.class == Class::Ephemeral {
            return Err(Refusal::WrongClass("class ephemeral has no place in a log"));
        }
        let deletes = message.class == Class::State && message.body.is_empty();
        let adds = if deletes { 0 } else { message.body.len() };
        let name = message.room.clone();
        self.change(&name, adds, |room, now, at| room.publish(now, at, message))?
    }

    /// The roster of the edge that is held then, and what is to be published.
    fn take_roster(
        &mut self,
        name: &RoomName,
        roster: Roster,
    ) -> Result<(u64, Vec<Envelope>), Refusal> {
        let session = roster.session;
        // Whoever has no members any more takes no room, and makes none.
        let (ended, version) = (roster.count == 0, roster.version);
        let adds = roster.names.iter().map(String::len).sum();
        let take = |room: &mut Room, _: Time, at: u64| {
            let published = room.take_roster(at, name, roster)?;
            Ok((room.roster_held(session), published))
        };
        match ended {
            false => self.change(name, adds, take)?,
            true => {
                let taken = self.change_known(name, take).transpose()?;
                Ok((
                    version,
                    taken.map_or(Vec::new(), |(_, published)| published),
                ))
            }
        }
    }

    /// Changes a room if it is there.
    fn change_known<T>(
        &mut self,
        name: &RoomName,
        change: impl FnOnce(&mut Room, Time, u64) -> T,
    ) -> Option<T> {
        match self.rooms.contains_key(name) {
            // Nothing is added, so nothing is refused.
            true => self.change(name, 0, change).ok(),
            false => None,
        }
    }

    /// Changes a room, which begins if it is not there, and keeps the account of what all cost.
    fn change<T>(
        &mut self,
        name: &RoomName,
        adds: usize,
        change: impl FnOnce(&mut Room, Time, u64) -> T,
    ) -> Result<T, Refusal> {
        let new = !self.rooms.contains_key(name);
        if new && self.rooms.len() >= self.limits.rooms {
            return Err(Refusal::TooManyRooms {
                limit: self.limits.rooms,
            });
        }
        if new || adds > 0 {
            self.make_place(adds)?;
        }
        let (limits, floor) = (&self.limits, self.floor);
        let held = self.rooms.entry(name.clone()).or_insert_with(|| Held {
            room: Room::new(limits.clone(), floor),
            used: 0,
            word: 0,
            came: None,
            leaving: None,
        });
        let before = if new { 0 } else { cost(name, &held.room) };
        held.used = self.at;
        let now = Time::ZERO + Duration::from_millis(self.at);
        let changed = change(&mut held.room, now, self.at);
        self.cost = self.cost - before + cost(name, &held.room);
        Ok(changed)
    }

    /// Sees to it that `adds` bytes find a place: every room's retained messages give way first.
    fn make_place(&mut self, adds: usize) -> Result<(), Refusal> {
        let limit = self.limits.log_bytes;
        while self.cost.saturating_add(adds) > limit {
            let before = self.cost;
            for held in self.rooms.values_mut() {
                let room = held.room.cost();
                held.room.halve();
                self.cost -= room - held.room.cost();
            }
            if self.cost == before {
                return Err(Refusal::Full {
                    what: "bytes with its neighbours",
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Forgets a room unless it was used after this time, or an edge has members in it. Its places are never given again: in
    /// the same generation they may still be in caches.
    fn forget(&mut self, name: &RoomName, unused_since: u64) -> bool {
        let Some(held) = self.rooms.get(name) else {
            return false;
        };
        if held.used > unused_since || held.room.edges().next().is_some() {
            return false;
        }
        self.floor = self.floor.max(held.room.seq().next_multiple_of(GROUP));
        self.let_go(name)
    }

    /// Removes a room; whether there was one.
    fn let_go(&mut self, name: &RoomName) -> bool {
        let Some(held) = self.rooms.remove(name) else {
            return false;
        };
        self.cost -= cost(name, &held.room);
        true
    }
}

/// What a room costs with its name.
fn cost(name: &RoomName, room: &Room) -> usize {
    const FIXED: usize = 512;
    FIXED + name.tenant.len() + name.room.len() + room.cost()
}
