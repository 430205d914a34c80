//! Rooms that are on their way from one group to another (docs/decisions/room-move.md).
//!
//! The log of the group that keeps the room decides. It closes the room (nothing changes in it any
//! more, so that every leader hands over the same bytes), and ends the move with one entry: `reopen`,
//! the room stays, or `gone`, the room is the other group's. The other group holds a copy that means
//! nothing until it is told that the room is gone there: `open`. A move has a number, its *word*,
//! which rises from one move of a room to the next: whatever is late of an earlier one is ignored.

mod encoding;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use longspan_proto::{
    ids::RoomName,
    wire::{
        Error, Reader,
        moving::{Arrived, Came, LogId, Moved},
    },
};

use super::{Held, Machine, Refusal, Room, cost, entry::Command};

pub(super) use self::encoding::decode_move;

/// Rooms that come at once, and moves that the other group is still to be told the end of. When full
/// no further one is begun.
const MOVES: usize = 64;
/// The largest room that is taken, in bytes: state and history at their limits, and thousands of busy
/// sessions.
pub const MAX_ROOM: usize = 64 << 20;
/// Rooms that went elsewhere and are remembered, so that whoever comes late is sent after them; the
/// oldest go first. About 300 bytes each.
const AWAY: usize = 16_384;
/// For how long, by the log's time in ms: an edge that no controller has told for a day asks in vain.
const AWAY_AGE: u64 = 24 * 3_600_000;
/// A room of which only some parts came is forgotten after this (ms): nobody relies on it.
const PARTS_AGE: u64 = 60_000;
/// The other group is told for so long (ms) that a room it had begun to take stays here.
const BACK_AGE: u64 = 600_000;

/// The first byte of a room on its way.
const VERSION: u8 = 1;

/// Where a room is, by the log of one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts<'a> {
    /// Nothing is known of it: if it is anywhere, it is here.
    Unknown,
    /// It is here.
    Here,
    /// It is here, closed, about to move there.
    Leaving(&'a Moved),
    /// It is to come here.
    Coming,
    /// It went there.
    Away(&'a Moved),
}

/// A closed room's way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Leaving {
    to: Moved,
    /// Where it began, if not elsewhere.
    log: LogId,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Moves {
    away: BTreeMap<RoomName, Away>,
    back: BTreeMap<RoomName, Back>,
    coming: BTreeMap<RoomName, Coming>,
    /// When something of it is over next, by the log's time in ms.
    due: Option<u64>,
    /// Counts what changed of all that; no part of the state.
    changes: u64,
}

#[derive(Debug)]
struct Away {
    to: Moved,
    at: u64,
    /// The other group serves it.
    settled: bool,
}

/// It stayed, and the other group may hold a copy.
#[derive(Debug)]
struct Back {
    to: Moved,
    at: u64,
}

#[derive(Debug)]
struct Coming {
    word: u64,
    /// When a part came last.
    at: u64,
    load: Load,
}

#[derive(Debug)]
enum Load {
    Parts { count: u64, bytes: BytesMut },
    Whole(Box<Held>),
}

impl Machine {
    /// Where the room is.
    pub fn whereabouts(&self, name: &RoomName) -> Whereabouts<'_> {
        if let Some(held) = self.rooms.get(name) {
            let leaving = held.leaving.as_ref();
            return leaving.map_or(Whereabouts::Here, |leaving| {
                Whereabouts::Leaving(&leaving.to)
            });
        }
        if let Some(away) = self.moves.away.get(name) {
            return Whereabouts::Away(&away.to);
        }
        match self.moves.coming.contains_key(name) {
            true => Whereabouts::Coming,
            false => Whereabouts::Unknown,
        }
    }

    /// Whether the room began in another group, or was away.
    pub fn came(&self, name: &RoomName) -> Option<Came> {
        self.rooms.get(name)?.came
    }

    /// The newest move of the room that this group heard of; 0: none.
    pub fn word(&self, name: &RoomName) -> u64 {
        let here = self.rooms.get(name).map_or(0, |held| held.word);
        let away = self.moves.away.get(name).map_or(0, |away| away.to.word);
        here.max(away)
    }

    /// What is to be answered to the group from which the room comes.
    pub fn arrived(&self, name: &RoomName, word: u64) -> Arrived {
        if self.word(name) >= word {
            return Arrived::Open;
        }
        match self.moves.coming.get(name) {
            Some(coming) if coming.word > word => {
                Arrived::Refused(format!("move {} of the room is under way", coming.word))
            }
            Some(coming) if coming.word == word => match &coming.load {
                Load::Parts { count, .. } => Arrived::Parts(*count),
                Load::Whole(_) => Arrived::Whole,
            },
            _ => Arrived::Parts(0),
        }
    }

    /// A closed room, as it goes on its way: the same bytes at every member.
    pub fn export(&self, name: &RoomName) -> Option<Bytes> {
        let held = self.rooms.get(name)?;
        let leaving = held.leaving.as_ref()?;
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        held.came
            .map_or(leaving.log, |came| came.log)
            .encode(&mut out);
        held.room.encode(&mut out);
        Some(out.freeze())
    }

    /// The rooms that are closed, and where they are to go.
    pub fn leaving(&self) -> impl Iterator<Item = (&RoomName, &Moved)> {
        self.rooms.iter().filter_map(|(name, held)| {
            let leaving = held.leaving.as_ref()?;
            Some((name, &leaving.to))
        })
    }

    /// Moves whose end the other group is to be told: whether the room went.
    pub fn unsettled(&self) -> impl Iterator<Item = (&RoomName, &Moved, bool)> {
        let away = self.moves.away.iter().filter(|(_, away)| !away.settled);
        let away = away.map(|(name, away)| (name, &away.to, true));
        let back = self.moves.back.iter();
        away.chain(back.map(|(name, back)| (name, &back.to, false)))
    }

    /// Changes whenever a room closed, opened, came or went.
    pub fn moves_changed(&self) -> u64 {
        self.moves.changes
    }

    /// Whether nothing may change in the room here.
    pub(super) fn is_shut(&self, name: &RoomName) -> bool {
        matches!(
            self.whereabouts(name),
            Whereabouts::Leaving(_) | Whereabouts::Coming | Whereabouts::Away(_)
        )
    }

    pub(super) fn has_moves(&self) -> bool {
        let known = |held: &Held| held.word > 0;
        self.rooms.values().any(known) || !self.moves.is_empty()
    }

    pub(super) fn close(&mut self, name: &RoomName, to: Moved, log: LogId) {
        let waiting = self.leaving().count() + self.unsettled().count();
        if to.word <= self.word(name) || waiting >= MOVES || !self.may_end(name) {
            return;
        }
        // A room that has no place here has nothing to move.
        if self.change(name, 0, |_, _, _| ()).is_err() {
            return;
        }
        if let Some(held) = self.rooms.get_mut(name) {
            held.word = to.word;
            held.leaving = Some(Leaving { to, log });
            self.moves.changes += 1;
        }
    }

    pub(super) fn reopen(&mut self, name: &RoomName, word: u64) {
        let leaves = matches!(self.whereabouts(name), Whereabouts::Leaving(_));
        if !(leaves || self.may_end(name)) || self.change(name, 0, |_, _, _| ()).is_err() {
            return;
        }
        let Some(held) = self.rooms.get_mut(name).filter(|held| held.word <= word) else {
            return;
        };
        // Should the move not have begun, it never will.
        held.word = word;
        if let Some(Leaving { to, .. }) = held.leaving.take() {
            let at = self.at;
            self.moves.back.insert(name.clone(), Back { to, at });
        }
        self.moves.changed();
    }

    /// Whether a move of the room can begin or end here: it did not go, and is not still to come.
    fn may_end(&self, name: &RoomName) -> bool {
        let moves = &self.moves;
        !moves.away.contains_key(name) && !moves.coming.contains_key(name)
    }

    /// The room, if it went.
    pub(super) fn gone(&mut self, name: RoomName, word: u64) -> Option<RoomName> {
        let held = self.rooms.get_mut(&name)?;
        let leaving = held.leaving.take_if(|leaving| leaving.to.word == word)?;
        self.let_go(&name);
        let away = Away {
            to: leaving.to,
            at: self.at,
            settled: false,
        };
        self.moves.away.insert(name.clone(), away);
        self.moves.changed();
        Some(name)
    }

    /// Takes a part of a room that is to come. What it may not take, or not yet, changes nothing.
    pub(super) fn take_part(
        &mut self,
        name: &RoomName,
        word: u64,
        index: u64,
        last: bool,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        if word <= self.word(name) {
            return Ok(());
        }
        let known = self.moves.coming.get(name);
        let expected = match known.filter(|coming| coming.word >= word) {
            Some(coming) if coming.word > word => return Ok(()),
            Some(Coming {
                load: Load::Whole(_),
                ..
            }) => return Ok(()),
            Some(Coming {
                load: Load::Parts { count, .. },
                ..
            }) => *count,
            None => 0,
        };
        if index != expected {
            return Ok(());
        }
        if index == 0 {
            self.moves.drop(name, word, &mut self.cost);
            if self.moves.coming.len() >= MOVES {
                let why = format!("{MOVES} rooms come here already, the limit");
                return Err(Refusal::NotMoved(why));
            }
        }
        let taken = self.put_part(name, word, last, bytes);
        if taken.is_err() {
            self.moves.drop(name, word, &mut self.cost);
        }
        taken
    }

    fn put_part(
        &mut self,
        name: &RoomName,
        word: u64,
        last: bool,
        part: &[u8],
    ) -> Result<(), Refusal> {
        self.make_place(part.len())?;
        let at = self.at;
        let coming = self.moves.coming.entry(name.clone());
        let coming = coming.or_insert_with(|| Coming {
            word,
            at,
            load: Load::Parts {
                count: 0,
                bytes: BytesMut::new(),
            },
        });
        coming.at = at;
        let Load::Parts { count, bytes } = &mut coming.load else {
            return Ok(());
        };
        *count += 1;
        bytes.put_slice(part);
        let size = bytes.len();
        let whole = last.then(|| bytes.split().freeze());
        self.cost += part.len();
        self.moves.changed();
        if size > MAX_ROOM {
            // What was split off is no part of the account any more.
            self.cost -= whole.map_or(0, |whole| whole.len());
            let why = format!("the room has more than {MAX_ROOM} bytes, the limit");
            return Err(Refusal::NotMoved(why));
        }
        let Some(whole) = whole else {
            return Ok(());
        };
        self.cost -= whole.len();
        let held = self.read(word, whole);
        let held = held.map_err(|why| Refusal::NotMoved(format!("it cannot be read: {why}")))?;
        let others = self.moves.coming.values();
        let others = others.filter(|coming| matches!(coming.load, Load::Whole(_)));
        let limit = self.limits.rooms;
        if self.rooms.len() + others.count() >= limit && !self.rooms.contains_key(name) {
            return Err(Refusal::TooManyRooms { limit });
        }
        let costs = cost(name, &held.room);
        self.make_place(costs)?;
        self.cost += costs;
        if let Some(coming) = self.moves.coming.get_mut(name) {
            coming.load = Load::Whole(Box::new(held));
        }
        Ok(())
    }

    fn read(&self, word: u64, bytes: Bytes) -> Result<Held, Error> {
        let mut r = Reader::new(bytes);
        match r.u8("room's version")? {
            VERSION => {}
            value => {
                return Err(Error::Unknown {
                    what: "room's version",
                    value: value.into(),
                });
            }
        }
        let log = LogId::decode(&mut r)?;
        Ok(Held {
            room: Room::decode(&self.limits, r.rest())?,
            used: self.at,
            word,
            came: Some(Came { word, log }),
            leaving: None,
        })
    }

    /// The room, if one of an earlier word had to give way.
    pub(super) fn open(&mut self, name: RoomName, word: u64) -> Option<RoomName> {
        let whole = |coming: &Coming| coming.word == word && matches!(coming.load, Load::Whole(_));
        if !self.moves.coming.get(&name).is_some_and(whole) {
            return None;
        }
        let coming = self.moves.coming.remove(&name)?;
        let Load::Whole(mut held) = coming.load else {
            return None;
        };
        let replaced = self.let_go(&name).then(|| name.clone());
        held.used = self.at;
        self.moves.away.remove(&name);
        self.rooms.insert(name, *held);
        self.moves.changed();
        replaced
    }
}

impl Moves {
    pub fn is_empty(&self) -> bool {
        self.away.is_empty() && self.back.is_empty() && self.coming.is_empty()
    }

    /// What the rooms that come cost.
    pub fn cost(&self) -> usize {
        let of = |(name, coming): (&RoomName, &Coming)| match &coming.load {
            Load::Parts { bytes, .. } => bytes.len(),
            Load::Whole(held) => cost(name, &held.room),
        };
        self.coming.iter().map(of).sum()
    }

    pub fn settled(&mut self, name: &RoomName, word: u64) {
        if let Some(away) = self.away.get_mut(name)
            && away.to.word == word
        {
            away.settled = true;
        }
        if self.back.get(name).is_some_and(|back| back.to.word == word) {
            self.back.remove(name);
        }
        self.changed();
    }

    /// Forgets what came of a room by this move, or by an earlier one.
    pub fn drop(&mut self, name: &RoomName, word: u64, account: &mut usize) {
        if self.coming.get(name).is_some_and(|c| c.word <= word)
            && let Some(coming) = self.coming.remove(name)
        {
            *account -= match &coming.load {
                Load::Parts { bytes, .. } => bytes.len(),
                Load::Whole(held) => cost(name, &held.room),
            };
            self.changed();
        }
    }

    /// Forgets what is over at the log's time `at`.
    pub fn tidy(&mut self, at: u64, account: &mut usize) {
        if self.due.is_none_or(|due| at < due) {
            return;
        }
        let over = |since: u64, age: u64| at.saturating_sub(since) >= age;
        self.away
            .retain(|_, away| !away.settled || !over(away.at, AWAY_AGE));
        self.back.retain(|_, back| !over(back.at, BACK_AGE));
        let parts = self.coming.iter().filter(|(_, coming)| {
            matches!(coming.load, Load::Parts { .. }) && over(coming.at, PARTS_AGE)
        });
        let parts: Vec<(RoomName, u64)> = parts.map(|(name, c)| (name.clone(), c.word)).collect();
        for (name, word) in parts {
            self.drop(&name, word, account);
        }
        self.changed();
    }

    fn changed(&mut self) {
        self.changes += 1;
        while self.away.len() > AWAY {
            let settled = self.away.iter().filter(|(_, away)| away.settled);
            let oldest = settled.min_by_key(|(_, away)| away.at);
            let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                break;
            };
            self.away.remove(&oldest);
        }
        let away = self.away.values().filter(|away| away.settled);
        let away = away.map(|away| away.at + AWAY_AGE);
        let back = self.back.values().map(|back| back.at + BACK_AGE);
        let parts = self
            .coming
            .values()
            .filter(|coming| matches!(coming.load, Load::Parts { .. }));
        let parts = parts.map(|coming| coming.at + PARTS_AGE);
        self.due = away.chain(back).chain(parts).min();
    }
}

impl Command {
    /// The room that it uses, or changes.
    pub(super) fn used(&self) -> Option<&RoomName> {
        match self {
            Command::Publish(message) => Some(&message.room),
            Command::PassOver { room, .. }
            | Command::Ask { room, .. }
            | Command::Retain { room, .. }
            | Command::Forget { room, .. }
            | Command::Roster { room, .. }
            | Command::Lapse { room, .. }
            | Command::Count { room } => Some(room),
            Command::Close { .. }
            | Command::Reopen { .. }
            | Command::Gone { .. }
            | Command::Settled { .. }
            | Command::Part { .. }
            | Command::Open { .. }
            | Command::Drop { .. } => None,
        }
    }
}
