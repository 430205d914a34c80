//! One room's order.

mod body;
mod encoding;
mod history;
mod presence;
mod retention;
mod sessions;
mod state;
#[cfg(test)]
mod tests;

use longspan_proto::{
    ids::{RoomName, SessionId},
    time::Time,
    wire::{
        envelope::{Class, Envelope, MAX_BODY, MAX_KEY, MAX_MEMBER, MAX_TOPIC},
        roster::{self, Roster},
    },
};

pub use self::retention::Retention;
use self::{
    history::History,
    presence::{Change, Presence},
    sessions::Sessions,
    state::Keyed,
};
use super::{Limits, Refusal};

/// A room: see the [module](super).
#[derive(Debug)]
pub struct Room {
    limits: Limits,
    retention: Retention,
    seq: u64,
    at: u64,
    keyed: Keyed,
    sessions: Sessions,
    history: History,
    presence: Presence,
}

/// A message was taken, now or before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the order; 0 for an ephemeral message.
    pub seq: u64,
    /// What is to be published, with `seq`, `at` and `revision` filled in; None: the message was
    /// sent again.
    pub new: Option<Envelope>,
}

/// A room's state at one place in the order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The newest message included.
    pub seq: u64,
    /// Its time: ms since the Unix epoch.
    pub at: u64,
    /// The newest message of each key, by key.
    pub keys: Vec<Envelope>,
    /// The newest ordered messages without a hole, the last one at `seq`.
    pub history: Vec<Envelope>,
}

impl Room {
    /// A fresh room whose first message will be `after` + 1.
    pub fn new(limits: Limits, after: u64) -> Room {
        Room {
            retention: Retention::most(&limits),
            limits,
            seq: after,
            at: 0,
            keyed: Keyed::default(),
            sessions: Sessions::default(),
            history: History::default(),
            presence: Presence::default(),
        }
    }

    /// The newest place given.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Takes a message, or says why not. `wall` is the wall clock in ms since the Unix epoch;
    /// should it go back, `at` stays.
    ///
    /// In each session numbers are taken in rising order, each at most once. One that was refused
    /// may be used again or left out; one that never came may not be left out. The same message
    /// again is answered as before, be it an ack or a conflict.
    pub fn publish(
        &mut self,
        now: Time,
        wall: u64,
        mut message: Envelope,
    ) -> Result<Accepted, Refusal> {
        let (session, n) = (message.session, message.n);
        let digest = sessions::digest(&message);
        if let Some(seq) = self.sessions.enter(&self.limits, now, session, n, digest)? {
            return Ok(Accepted { seq, new: None });
        }
        let checked = match self.sessions.conflicted(session, n, digest) {
            Some(held) => Err(Refusal::Conflict {
                key: message.key.clone().unwrap_or_default(),
                held,
                expected: message.expected.unwrap_or(0),
            }),
            None => self.check(&message).inspect_err(|refusal| {
                if let Refusal::Conflict { held, .. } = refusal {
                    let (sessions, limits) = (&mut self.sessions, &self.limits);
                    sessions.refused(limits, session, n, *held, digest);
                }
            }),
        };
        checked?;

        let at = self.at.max(wall);
        self.at = at;
        message.at = at;
        message.expected = None;
        message.seq = 0;
        message.revision = 0;
        if message.class != Class::Ephemeral {
            self.seq += 1;
            message.seq = self.seq;
            if message.class == Class::State {
                message.revision = self.seq;
                self.keyed.put(message.clone());
            }
            self.history.push(&self.retention, message.clone());
        }
        self.sessions
            .acked(&self.limits, session, n, message.seq, digest);
        Ok(Accepted {
            seq: message.seq,
            new: Some(message),
        })
    }

    fn check(&self, message: &Envelope) -> Result<(), Refusal> {
        check_shape(message)?;
        if message.class == Class::State {
            self.keyed.check(&self.limits, message)?;
        }
        Ok(())
    }
    /// The edge refused the numbers `first..=last` of a session: they will never come. Numbers
    /// that would leave a hole are ignored.
    pub fn pass_over(&mut self, now: Time, session: SessionId, first: u64, last: u64) {
        self.sessions
            .pass_over(&self.limits, now, session, first, last);
    }

    /// The highest number held of a session; 0 for one that is not known yet.
    pub fn held(&mut self, now: Time, session: SessionId) -> Result<u64, Refusal> {
        self.sessions.held(&self.limits, now, session)
    }

    /// The same, without counting as a use of the session; 0 also for one that was forgotten.
    pub fn peek_held(&self, session: SessionId) -> u64 {
        self.sessions.peek_held(session)
    }

    /// An edge says who its members of this room (`name`) are; what is to be published of it.
    pub fn take_roster(
        &mut self,
        wall: u64,
        name: &RoomName,
        roster: Roster,
    ) -> Result<Vec<Envelope>, Refusal> {
        let session = roster.session;
        self.presence.take(roster)?;
        Ok(self.settle_presence(wall, name, session))
    }

    /// Nothing is heard of an edge any more: its members are gone, unless it told a newer roster
    /// than this.
    pub fn lapse(
        &mut self,
        wall: u64,
        name: &RoomName,
        session: SessionId,
        version: u64,
    ) -> Vec<Envelope> {
        match self.presence.lapse(session, version) {
            true => self.settle_presence(wall, name, session),
            false => Vec::new(),
        }
    }

    /// Renews the summary of many members, if it does not tell the truth any more.
    pub fn count_members(&mut self, wall: u64, name: &RoomName) -> Option<Envelope> {
        let change = self.presence.count(self.at.max(wall))?;
        Some(self.put(wall, name, SessionId([0; 16]), change))
    }

    /// Which roster of an edge is held; 0: none, it is to be told again.
    pub fn roster_held(&self, session: SessionId) -> u64 {
        self.presence.held(session)
    }

    /// The edges that have members here, and the versions of their rosters.
    pub fn edges(&self) -> impl Iterator<Item = (SessionId, u64)> {
        self.presence.edges()
    }

    /// Whether [`Room::count_members`] is due.
    pub fn is_count_stale(&self) -> bool {
        self.presence.is_stale()
    }

    fn settle_presence(&mut self, wall: u64, name: &RoomName, session: SessionId) -> Vec<Envelope> {
        let changes = self.presence.settle(self.at.max(wall));
        let put = |change| self.put(wall, name, session, change);
        changes.into_iter().map(put).collect()
    }

    /// The room itself changes its state: from nobody.
    fn put(&mut self, wall: u64, name: &RoomName, session: SessionId, change: Change) -> Envelope {
        self.at = self.at.max(wall);
        self.seq += 1;
        let message = Envelope {
            room: name.clone(),
            session,
            n: 0,
            class: Class::State,
            topic: roster::TOPIC.into(),
            key: Some(change.key),
            expected: None,
            revision: self.seq,
            from: String::new(),
            recipient: None,
            at: self.at,
            seq: self.seq,
            body: change.body,
        };
        self.keyed.put(message.clone());
        self.history.push(&self.retention, message.clone());
        message
    }

    /// How much of the order is kept from now on; no more than the limits allow.
    pub fn retain(&mut self, wanted: Retention) {
        self.retention = wanted.within(&self.limits);
        self.history.trim(&self.retention, self.at);
    }

    /// How much of the order is kept.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Lets go of the older half of the retained messages, by what they cost.
    pub fn halve(&mut self) {
        let half = Retention {
            bytes: self.history.bytes() / 2,
            ..self.retention
        };
        self.history.trim(&half, self.at);
    }

    /// The retained messages after place `seq`, for whoever saw everything up to there; None if
    /// some of them are gone, or `seq` was never given: the state is to be taken first.
    pub fn since(&self, seq: u64) -> Option<impl Iterator<Item = &Envelope>> {
        let known = self.first()..=self.seq + 1;
        known.contains(&(seq + 1)).then(|| {
            self.history
                .iter()
                .skip_while(move |message| message.seq <= seq)
        })
    }

    /// The place of the oldest message that is retained; that of the next one if none is.
    pub fn first(&self) -> u64 {
        self.history.first().unwrap_or(self.seq + 1)
    }

    /// The time of the newest message, in ms since the Unix epoch.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// What it costs in memory, about, in bytes.
    pub fn cost(&self) -> usize {
        self.keyed.bytes() + self.history.bytes() + self.sessions.cost() + self.presence.cost()
    }

    /// The state now, and the retained messages up to it.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            seq: self.seq,
            at: self.at,
            keys: self.keyed.iter().cloned().collect(),
            history: self.history.iter().cloned().collect(),
        }
    }
}

/// Whether class, key and expected revision of a message fit together, and its parts are within
/// bounds, whatever the room holds.
pub(super) fn check_shape(message: &Envelope) -> Result<(), Refusal> {
    let key = message.key.as_deref();
    for (what, len, limit) in [
        ("body", message.body.len(), MAX_BODY),
        ("topic", message.topic.len(), MAX_TOPIC),
        ("key", key.unwrap_or_default().len(), MAX_KEY),
        ("from", message.from.len(), MAX_MEMBER),
    ] {
        if len > limit {
            return Err(Refusal::TooLong { what, len, limit });
        }
    }
    match (message.class, key) {
        (Class::State, None | Some("")) => {
            return Err(Refusal::WrongClass("class state needs a key"));
        }
        (Class::Log, Some(_)) => return Err(Refusal::WrongClass("class log takes no key")),
        _ if message.class != Class::State && message.expected.is_some() => {
            return Err(Refusal::WrongClass(
                "an expected revision needs class state",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// What a message costs in memory, about: its variable parts and a fixed share.
fn cost(message: &Envelope) -> usize {
    const FIXED: usize = 160;
    FIXED
        + message.body.len()
        + message.topic.len()
        + message.from.len()
        + message.key.as_deref().unwrap_or_default().len()
}
