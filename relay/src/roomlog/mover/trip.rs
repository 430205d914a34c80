//! What is under way about one move: whom it calls, and what was said and heard.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    ids::NodeId,
    time::Time,
    wire::moving::{Arrived, Moved},
};

use super::{FIRST_PAUSE, LONGEST_PAUSE, SILENCE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// Reach the other group, then close the room.
    Begin,
    /// Hand the closed room over.
    Carry,
    /// Say that it is gone here.
    Open,
    /// Say that it stays here.
    Drop,
}

/// What is under way about one move.
#[derive(Debug)]
pub(super) struct Trip {
    pub to: Moved,
    pub goal: Goal,
    pub since: Time,
    /// The room, once it is closed.
    pub parts: Vec<Bytes>,
    pub line: Option<Line>,
    /// Which node is called next, unless one was named.
    pub turn: usize,
    pub named: Option<NodeId>,
    /// Whoever was called last was named by the one before.
    pub was_named: bool,
    pub pause: Duration,
    /// Not before this.
    pub after: Time,
    /// What was proposed last for this goal.
    pub proposed: Option<(Step, Time)>,
    /// What went wrong last.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    On,
    Back,
}

#[derive(Debug)]
pub(super) struct Line {
    pub call: u64,
    /// Its leader has answered.
    pub up: bool,
    pub heard: Time,
    /// How many parts were said.
    pub sent: u64,
    /// What was said and is not answered: parts by index.
    pub asked: VecDeque<Option<u64>>,
    /// A part was not taken: the others wait until all are answered.
    pub stalled: bool,
    pub has: Option<Arrived>,
}

impl Trip {
    pub fn new(now: Time, goal: Goal, to: &Moved) -> Trip {
        Trip {
            to: to.clone(),
            goal,
            since: now,
            parts: Vec::new(),
            line: None,
            turn: 0,
            named: None,
            was_named: false,
            pause: FIRST_PAUSE,
            after: now,
            proposed: None,
            why: "nobody was called yet".into(),
        }
    }

    /// What is to be reached now; the call stands.
    pub fn aim(&mut self, now: Time, goal: Goal) {
        if self.goal == goal {
            return;
        }
        (self.goal, self.since, self.after) = (goal, now, now);
        self.proposed = None;
        self.parts.clear();
        if let Some(line) = &mut self.line {
            line.has = None;
        }
    }

    pub fn is_up(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.up)
    }

    pub fn is_silent(&self, now: Time) -> bool {
        let waits = |line: &Line| !line.up || !line.asked.is_empty();
        let line = self.line.as_ref().filter(|line| waits(line));
        line.is_some_and(|line| now.saturating_since(line.heard) >= SILENCE)
    }

    /// What the other group has, once it has answered everything.
    pub fn has(&self) -> Option<&Arrived> {
        let line = self.line.as_ref()?;
        line.has.as_ref().filter(|_| line.asked.is_empty())
    }

    pub fn lost(&mut self, now: Time, leader: Option<NodeId>, why: String) {
        self.line = None;
        self.why = why;
        let at_once = leader.is_some() && !self.was_named;
        self.named = leader;
        self.after = now;
        // Two that name each other are not run between without pause.
        if !at_once {
            self.after = now + self.pause;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub fn next(&mut self) -> Option<NodeId> {
        self.was_named = self.named.is_some();
        if let Some(named) = self.named.take() {
            return Some(named);
        }
        let nodes = &self.to.nodes;
        let node = nodes.get(self.turn % nodes.len().max(1))?;
        self.turn += 1;
        Some(node.clone())
    }
}

impl Line {
    pub fn asks(&mut self, now: Time, part: Option<u64>) {
        if self.asked.is_empty() {
            self.heard = now;
        }
        self.asked.push_back(part);
    }

    pub fn hears(&mut self, now: Time, arrived: Arrived) {
        self.heard = now;
        let asked = self.asked.pop_front();
        if let (Some(Some(index)), Arrived::Parts(parts)) = (asked, &arrived) {
            self.stalled |= *parts <= index;
            self.sent = self.sent.max(*parts);
            if self.stalled && self.asked.is_empty() {
                self.stalled = false;
                self.sent = *parts;
            }
        }
        // What follows a refusal says nothing.
        if !matches!(self.has, Some(Arrived::Refused(_))) {
            self.has = Some(arrived);
        }
    }
}
