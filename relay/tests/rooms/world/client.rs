//! A publisher: numbers its messages, keeps a few under way, and sends again what was not answered,
//! wherever it is told that the leader is.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use longspan_lab::history::{Mark, What};
use longspan_proto::{
    ids::{Room, RoomName, SessionId, Tenant},
    time::Time,
    wire::{
        envelope::{Class, Envelope},
        room::Answer,
    },
};
use longspan_relay::roomlog::{
    Snapshot,
    group::{Member, Unserved},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{
    history::{Broken, History},
    record,
};

/// Messages under way at once.
const WINDOW: usize = 4;
/// Before whoever was sent away tries again.
const PAUSE: Duration = Duration::from_millis(60);
/// Whoever does not answer for so long is asked no more.
const PATIENCE: Duration = Duration::from_millis(700);

/// What is said to a member's relay.
#[derive(Debug, Clone)]
pub enum Ask {
    Publish(Envelope),
    /// `acked`: the highest number its publisher knew to be taken when it was asked.
    Held {
        room: RoomName,
        session: SessionId,
        acked: u64,
    },
    /// `asked`: when.
    Read {
        room: RoomName,
        asked: Time,
    },
}

/// What is heard back.
#[derive(Debug, Clone)]
pub enum Told {
    Answer(Answer),
    Unserved(Unserved),
    Held { n: u64, acked: u64 },
    State { asked: Time, state: Box<Snapshot> },
    Nothing,
}

#[derive(Debug)]
pub struct Client {
    id: u8,
    life: u8,
    pub room: RoomName,
    next: u64,
    waiting: VecDeque<Envelope>,
    /// Which relay is asked.
    pub to: usize,
    /// Counts the connections: what an older one says of a failure is of no use.
    pub attempt: u64,
    progress: Time,
    /// It was sent away: when it tries again.
    pause: Option<Time>,
    revisions: BTreeMap<String, u64>,
    pub left: u32,
    pub resent: u64,
    pub conflicts: u64,
    pub expired: u64,
    pub reads: u64,
}

impl Client {
    pub fn new(id: u8, messages: u32) -> Client {
        Client {
            id,
            life: 0,
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new(&format!("room-{}", id % 2)).expect("a name"),
            },
            next: 1,
            waiting: VecDeque::new(),
            to: 0,
            attempt: 0,
            progress: Time::ZERO,
            pause: None,
            revisions: BTreeMap::new(),
            left: messages,
            resent: 0,
            conflicts: 0,
            expired: 0,
            reads: 0,
        }
    }

    fn session(&self) -> SessionId {
        let mut id = [self.id; 16];
        id[15] = self.life;
        SessionId(id)
    }

    pub fn is_done(&self) -> bool {
        self.left == 0 && self.waiting.is_empty()
    }

    /// Its own clock: gives up on whoever is silent, or says something new.
    pub fn wake(
        &mut self,
        now: Time,
        dice: &mut ChaCha8Rng,
        history: &mut History,
        hosts: usize,
    ) -> Vec<Ask> {
        if let Some(until) = self.pause {
            if now < until {
                return Vec::new();
            }
            self.pause = None;
            return self.again(now, history);
        }
        if !self.waiting.is_empty() && now.saturating_since(self.progress) > PATIENCE {
            self.to = dice.random_range(0..hosts);
            return self.again(now, history);
        }
        if dice.random_ratio(1, 5) {
            return vec![Ask::Read {
                room: self.room.clone(),
                asked: now,
            }];
        }
        if self.left == 0 || self.waiting.len() >= WINDOW {
            return Vec::new();
        }
        if self.waiting.is_empty() {
            self.progress = now;
        }
        self.left -= 1;
        let message = self.message(dice);
        self.next += 1;
        history.record.says(self.id.into(), &message);
        self.waiting.push_back(message.clone());
        vec![Ask::Publish(message)]
    }

    fn message(&self, dice: &mut ChaCha8Rng) -> Envelope {
        let mut message = Envelope {
            room: self.room.clone(),
            session: self.session(),
            n: self.next,
            class: Class::Log,
            topic: "chat".into(),
            key: None,
            expected: None,
            revision: 0,
            from: format!("m{}", self.id),
            recipient: None,
            at: 0,
            seq: 0,
            body: Bytes::from(format!("{} {}", self.id, self.next)),
        };
        if dice.random_ratio(1, 2) {
            let key = format!("key-{}", dice.random_range(0..3));
            message.class = Class::State;
            message.expected = dice
                .random_ratio(1, 2)
                .then(|| self.revisions.get(&key).copied().unwrap_or(0));
            if dice.random_ratio(1, 6) {
                message.body = Bytes::new();
            }
            message.key = Some(key);
        }
        message
    }

    /// A new connection: what is held is asked first, then everything unanswered comes again.
    pub fn again(&mut self, now: Time, history: &History) -> Vec<Ask> {
        self.attempt += 1;
        self.progress = now;
        self.resent += self.waiting.len() as u64;
        let held = Ask::Held {
            room: self.room.clone(),
            session: self.session(),
            acked: history.acked_up_to(self.session()),
        };
        let again = self.waiting.iter().cloned().map(Ask::Publish);
        std::iter::once(held).chain(again).collect()
    }

    /// An answer comes; what is to be said then.
    pub fn hear(
        &mut self,
        now: Time,
        dice: &mut ChaCha8Rng,
        history: &mut History,
        hosts: usize,
        attempt: u64,
        told: Told,
    ) -> Result<Vec<Ask>, Broken> {
        let current = attempt == self.attempt;
        match told {
            Told::Answer(Answer::Acked { session, n, seq }) => {
                let mark = Mark { session, n };
                let room = &self.room;
                history
                    .record
                    .note(room, self.id.into(), What::Acked { mark, seq });
                history.acked((session, n));
                self.done(now, session, n);
            }
            Told::Held { n, acked } if n < acked => {
                return Err(format!(
                    "nothing acked is forgotten: {n} is held where {acked} had been acked"
                ));
            }
            Told::Answer(Answer::Refused {
                session, n, slug, ..
            }) if session == self.session() => {
                match slug.as_str() {
                    // Refused before, and a later one was taken: the refusal was lost on its way.
                    "conflict" | "n_went_back" => {
                        self.conflicts += 1;
                        let mark = Mark { session, n };
                        let room = &self.room;
                        history
                            .record
                            .note(room, self.id.into(), What::Refused { mark });
                        self.done(now, session, n);
                    }
                    "session_expired" => {
                        self.expired += 1;
                        self.life += 1;
                        self.next = 1;
                        self.waiting.clear();
                    }
                    // The one before it was lost.
                    "n_jumped" if current => return Ok(self.again(now, history)),
                    "n_jumped" => {}
                    other => return Err(format!("refusals are right: {n} was refused as {other}")),
                }
            }
            Told::State { asked, state } => {
                history.holds(&self.room, &state)?;
                let (seq, keys) = (state.seq, record::state(&state));
                let read = What::Reads {
                    asked,
                    seq,
                    state: keys,
                };
                history.record.note(&self.room, self.id.into(), read);
                self.reads += 1;
                let revision = |key: &Envelope| Some((key.key.clone()?, key.revision));
                self.revisions = state.keys.iter().filter_map(revision).collect();
            }
            Told::Unserved(Unserved::Elsewhere { leader }) if current => {
                self.to = match leader {
                    Some(Member(id)) => id as usize - 1,
                    None => dice.random_range(0..hosts),
                };
                self.pause.get_or_insert(now + PAUSE);
            }
            Told::Unserved(_) if current => {
                self.pause.get_or_insert(now + PAUSE);
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    fn done(&mut self, now: Time, session: SessionId, n: u64) {
        if session == self.session() {
            self.waiting.retain(|message| message.n != n);
            self.progress = now;
        }
    }
}
