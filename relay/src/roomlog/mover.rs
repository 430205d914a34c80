//! What a member does about rooms that move: calls the other group, hands closed rooms over, and puts
//! into its own log how each move ends (docs/decisions/room-move.md). Pure.
//!
//! Contract: `handle(now, machine, leads, input)`, then drain `poll_output()`; [`Input::Look`] at
//! `poll_timeout()` and whenever the machine or the lead changed. It remembers nothing that matters:
//! what is to be done stands in the machine, so that the next leader goes on where this one was.

mod trip;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::{
    ids::{NodeId, RoomName},
    time::Time,
    wire::moving::{Arrived, Carry, LogId, Moved, PART},
};

use self::trip::{Goal, Line, Step, Trip};
use super::machine::{Command, MAX_ROOM, Machine, Whereabouts};

/// The other group's leader is to be on the line within this, before anything is closed.
const REACH: Duration = Duration::from_secs(5);
/// A room is closed for so long at most, while the other group has not all of it; then the move is
/// taken back. Half of what an edge lets its members wait (6 s), so that an election of the leader
/// that is to take it back fits in as well.
const CLOSED: Duration = Duration::from_secs(3);
/// A member of the other group that says nothing for so long is left for the next one.
const SILENCE: Duration = Duration::from_millis(1_500);
/// Between two attempts to reach somebody: the first pause, and the longest. Doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A proposal that changed nothing is made again after this: it was lost with a leader, or too much
/// waited.
const AGAIN: Duration = Duration::from_secs(1);
/// A member that does not lead tells the other group that a room is gone, if after so long nobody has:
/// its own group may have no leader any more.
const LEADERLESS: Duration = Duration::from_secs(3);
/// Parts under way; further ones wait for answers. 512 KB.
const WINDOW: usize = 32;
/// How often the clock is looked at while something moves.
const TICK: Duration = Duration::from_millis(50);
/// Reasons of moves that were taken back which are remembered; the oldest go.
const REASONS: usize = 64;

/// What happens.
#[derive(Debug)]
pub enum Input {
    /// Rooms of this group are to move, as a controller says: all of them.
    Wishes(Vec<(RoomName, Moved)>),
    /// Whoever was called leads the other group.
    Called {
        /// On this call.
        call: u64,
    },
    /// It answers the first word that it has not answered yet.
    Heard {
        /// On this call.
        call: u64,
        /// What it has.
        arrived: Arrived,
    },
    /// The call is over.
    Lost {
        /// Which.
        call: u64,
        /// The node that leads instead, if one was named.
        leader: Option<NodeId>,
        /// Why.
        why: String,
    },
    /// Time passed, or the machine changed, or the lead.
    Look,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Call a member of another group about a room.
    Call {
        /// The call's number from now on.
        call: u64,
        /// The room.
        room: RoomName,
        /// The group.
        group: u64,
        /// The member's node.
        node: NodeId,
    },
    /// Say this.
    Say {
        /// On this call.
        call: u64,
        /// What.
        carry: Carry,
    },
    /// Hang up. Nothing is heard of the call afterwards.
    End {
        /// Which.
        call: u64,
    },
    /// Put this into the group's own log.
    Propose(Command),
}

/// How far a move is, as far as the group's log is applied here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It has not begun.
    Waiting,
    /// The room is closed.
    Closed,
    /// The room is the other group's.
    Gone,
    /// It was taken back; why, if that is known here.
    Back(String),
    /// The room had gone there before.
    Elsewhere(Moved),
}

/// See the [module](self).
#[derive(Debug)]
pub struct Mover {
    log: LogId,
    wishes: BTreeMap<RoomName, Moved>,
    trips: BTreeMap<(RoomName, u64), Trip>,
    reasons: VecDeque<(RoomName, u64, String)>,
    calls: u64,
    looked: Time,
    outputs: VecDeque<Output>,
}

impl Mover {
    /// Of a member of this group.
    pub fn new(log: LogId) -> Mover {
        Mover {
            log,
            wishes: BTreeMap::new(),
            trips: BTreeMap::new(),
            reasons: VecDeque::new(),
            calls: 0,
            looked: Time::ZERO,
            outputs: VecDeque::new(),
        }
    }

    /// Something happened. `leads`: this member leads, and its machine has all that leaders before it
    /// committed.
    pub fn handle(&mut self, now: Time, machine: &Machine, leads: bool, input: Input) {
        match input {
            Input::Wishes(wishes) => self.wishes = wishes.into_iter().collect(),
            Input::Called { call } => {
                let of = |trip: &&mut Trip| trip.line.as_ref().is_some_and(|l| l.call == call);
                if let Some(trip) = self.trips.values_mut().find(of)
                    && let Some(line) = &mut trip.line
                {
                    (line.up, line.heard) = (true, now);
                    trip.pause = FIRST_PAUSE;
                }
            }
            Input::Heard { call, arrived } => {
                if let Some(line) = self.line(call) {
                    line.hears(now, arrived);
                }
            }
            Input::Lost { call, leader, why } => {
                let of = |trip: &&mut Trip| trip.line.as_ref().is_some_and(|l| l.call == call);
                if let Some(trip) = self.trips.values_mut().find(of) {
                    trip.lost(now, leader, why);
                }
            }
            Input::Look => {}
        }
        self.looked = now;
        self.choose(now, machine, leads);
        let keys: Vec<(RoomName, u64)> = self.trips.keys().cloned().collect();
        for key in keys {
            if let Some(mut trip) = self.trips.remove(&key) {
                self.drive(now, machine, leads, &key.0, &mut trip);
                self.trips.insert(key, trip);
            }
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to look again.
    pub fn poll_timeout(&self) -> Option<Time> {
        (!self.trips.is_empty()).then(|| self.looked + TICK)
    }

    /// How far each wish is.
    pub fn stages(&self, machine: &Machine) -> Vec<(RoomName, u64, Stage)> {
        let stage = |(room, to): (&RoomName, &Moved)| {
            let stage = match machine.whereabouts(room) {
                Whereabouts::Away(away) if away.word == to.word => Stage::Gone,
                Whereabouts::Away(away) => Stage::Elsewhere(away.clone()),
                Whereabouts::Leaving(_) => Stage::Closed,
                _ if machine.word(room) >= to.word => Stage::Back(self.reason(room, to.word)),
                _ => Stage::Waiting,
            };
            (room.clone(), to.word, stage)
        };
        self.wishes.iter().map(stage).collect()
    }

    fn reason(&self, room: &RoomName, word: u64) -> String {
        let mut known = self.reasons.iter().rev();
        let found = known.find(|(name, of, _)| name == room && *of == word);
        found.map_or_else(String::new, |(_, _, why)| why.clone())
    }

    fn line(&mut self, call: u64) -> Option<&mut Line> {
        let lines = self.trips.values_mut().filter_map(|t| t.line.as_mut());
        lines.into_iter().find(|line| line.call == call)
    }

    /// What there is to do, by the machine and the wishes.
    fn choose(&mut self, now: Time, machine: &Machine, leads: bool) {
        let mut goals: BTreeMap<(RoomName, u64), (Goal, &Moved)> = BTreeMap::new();
        for (room, to, gone) in machine.unsettled() {
            let goal = if gone { Goal::Open } else { Goal::Drop };
            if leads || gone {
                goals.insert((room.clone(), to.word), (goal, to));
            }
        }
        if leads {
            for (room, to) in machine.leaving() {
                goals.insert((room.clone(), to.word), (Goal::Carry, to));
            }
            for (room, to) in &self.wishes {
                // One that is still to come is moved on once it is here.
                let is_here = matches!(
                    machine.whereabouts(room),
                    Whereabouts::Here | Whereabouts::Unknown
                );
                if is_here && machine.word(room) < to.word {
                    goals.insert((room.clone(), to.word), (Goal::Begin, to));
                }
            }
        }
        let outputs = &mut self.outputs;
        self.trips.retain(|key, trip| {
            let kept = goals.contains_key(key);
            if !kept && let Some(line) = &trip.line {
                outputs.push_back(Output::End { call: line.call });
            }
            kept
        });
        for (key, (goal, to)) in goals {
            let trip = self
                .trips
                .entry(key)
                .or_insert_with(|| Trip::new(now, goal, to));
            trip.aim(now, goal);
        }
    }

    fn drive(
        &mut self,
        now: Time,
        machine: &Machine,
        leads: bool,
        room: &RoomName,
        trip: &mut Trip,
    ) {
        let waits = now.saturating_since(trip.since);
        if !leads && waits < LEADERLESS {
            return;
        }
        if trip.is_silent(now) {
            let why = "it does not answer".to_owned();
            if let Some(line) = &trip.line {
                self.outputs.push_back(Output::End { call: line.call });
            }
            trip.lost(now, None, why);
        }
        let (name, word) = (room.clone(), trip.to.word);
        match trip.goal {
            Goal::Begin if waits >= REACH => {
                let why = match trip.is_up() {
                    true => "as many rooms move from this group as may".to_owned(),
                    false => format!("group {} was not reached: {}", trip.to.group, trip.why),
                };
                self.take_back(now, room, trip, why);
            }
            Goal::Begin if trip.is_up() => {
                let (to, log) = (trip.to.clone(), self.log);
                let close = Command::Close {
                    room: name,
                    to,
                    log,
                };
                self.propose(now, trip, Step::On, close);
            }
            Goal::Carry if waits >= CLOSED => {
                let why = format!("it took longer than {CLOSED:?}: {}", trip.why);
                self.take_back(now, room, trip, why);
            }
            Goal::Carry => self.carry(now, machine, room, trip),
            Goal::Open if trip.has() == Some(&Arrived::Open) => {
                if leads {
                    let settled = Command::Settled { room: name, word };
                    self.propose(now, trip, Step::On, settled);
                }
                return;
            }
            Goal::Drop if trip.has().is_some() => {
                let settled = Command::Settled { room: name, word };
                self.propose(now, trip, Step::On, settled);
                return;
            }
            Goal::Open => self.ask(now, trip, Carry::Open { word }),
            Goal::Drop => self.ask(now, trip, Carry::Drop { word }),
            Goal::Begin => {}
        }
        self.reach(now, room, trip);
    }

    /// Says the parts that the other group has not.
    fn carry(&mut self, now: Time, machine: &Machine, room: &RoomName, trip: &mut Trip) {
        let word = trip.to.word;
        match trip.has() {
            Some(Arrived::Whole) => {
                let room = room.clone();
                return self.propose(now, trip, Step::On, Command::Gone { room, word });
            }
            Some(Arrived::Refused(why)) => {
                let why = format!("group {} does not take it: {why}", trip.to.group);
                return self.take_back(now, room, trip, why);
            }
            Some(Arrived::Open) => {
                let why = format!("group {} knows of a later move", trip.to.group);
                return self.take_back(now, room, trip, why);
            }
            _ => {}
        }
        if trip.parts.is_empty() {
            let Some(mut whole) = machine.export(room) else {
                return;
            };
            if whole.len() > MAX_ROOM {
                let why = format!(
                    "the room has {} bytes; the limit is {MAX_ROOM}",
                    whole.len()
                );
                return self.take_back(now, room, trip, why);
            }
            while !whole.is_empty() {
                trip.parts.push(whole.split_to(whole.len().min(PART)));
            }
        }
        let Some(line) = trip.line.as_mut().filter(|line| line.up && !line.stalled) else {
            return;
        };
        let count = trip.parts.len() as u64;
        while line.asked.len() < WINDOW && line.sent < count && now >= trip.after {
            let index = line.sent;
            let carry = Carry::Part {
                word,
                index,
                last: index + 1 == count,
                bytes: trip.parts[index as usize].clone(),
            };
            line.sent += 1;
            line.asks(now, Some(index));
            let call = line.call;
            self.outputs.push_back(Output::Say { call, carry });
        }
    }

    /// Says one word, and again after a while if its answer is another than hoped for.
    fn ask(&mut self, now: Time, trip: &mut Trip, carry: Carry) {
        let Some(line) = trip.line.as_mut().filter(|line| line.up) else {
            return;
        };
        if line.asked.contains(&None) || now < trip.after {
            return;
        }
        trip.after = now + LONGEST_PAUSE;
        line.asks(now, None);
        let call = line.call;
        self.outputs.push_back(Output::Say { call, carry });
    }

    /// Calls somebody, if nobody is on the line.
    fn reach(&mut self, now: Time, room: &RoomName, trip: &mut Trip) {
        if trip.line.is_some() || now < trip.after {
            return;
        }
        let Some(node) = trip.next() else {
            return;
        };
        self.calls += 1;
        trip.line = Some(Line {
            call: self.calls,
            up: false,
            heard: now,
            sent: 0,
            asked: VecDeque::new(),
            stalled: false,
            has: None,
        });
        self.outputs.push_back(Output::Call {
            call: self.calls,
            room: room.clone(),
            group: trip.to.group,
            node,
        });
    }

    fn take_back(&mut self, now: Time, room: &RoomName, trip: &mut Trip, why: String) {
        let (room, word) = (room.clone(), trip.to.word);
        if self.reason(&room, word).is_empty() {
            self.reasons.push_back((room.clone(), word, why));
            if self.reasons.len() > REASONS {
                self.reasons.pop_front();
            }
        }
        self.propose(now, trip, Step::Back, Command::Reopen { room, word });
    }

    /// Unless the same was proposed a moment ago. The log decides which of two comes first.
    fn propose(&mut self, now: Time, trip: &mut Trip, step: Step, command: Command) {
        let waits = |at: Time| now.saturating_since(at) < AGAIN;
        match trip.proposed {
            Some((was, at)) if was == step && waits(at) => return,
            // Whoever took it back does not go on.
            Some((Step::Back, _)) if step == Step::On => return,
            _ => {}
        }
        trip.proposed = Some((step, now));
        self.outputs.push_back(Output::Propose(command));
    }
}

/// What a word of another group's member asks of this one's log.
pub fn command(room: RoomName, carry: Carry) -> Command {
    match carry {
        Carry::Part {
            word,
            index,
            last,
            bytes,
        } => Command::Part {
            room,
            word,
            index,
            last,
            bytes,
        },
        Carry::Open { word } => Command::Open { room, word },
        Carry::Drop { word } => Command::Drop { room, word },
    }
}
