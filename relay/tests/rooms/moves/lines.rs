//! Calls between members of the two groups: in order, and silent once something is lost.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{
    ids::{NodeId, RoomName},
    time::Time,
    wire::{
        moving::{Arrived, Carry},
        room::Answer,
    },
};
use longspan_relay::roomlog::{group::Unserved, mover};

use super::{Asker, Event, Moves, hosts, movers::node};
use crate::world::{World, history::Broken};

/// What a caller hears.
pub enum Word {
    Called,
    Heard(Arrived),
    Lost(Option<NodeId>),
}

#[derive(Debug, Default)]
pub struct Lines {
    all: BTreeMap<u64, Line>,
    count: u64,
}

#[derive(Debug)]
struct Line {
    from: (usize, u64),
    call: u64,
    to: usize,
    room: RoomName,
    /// The callee's life and term, since it took the call.
    taken: Option<(u64, u64)>,
    /// When the last word each way arrives.
    up: Time,
    down: Time,
}

impl Lines {
    pub fn callee(&self, line: u64) -> Option<usize> {
        self.all.get(&line).map(|line| line.to)
    }

    pub fn caller(&self, line: u64) -> Option<usize> {
        self.all.get(&line).map(|line| line.from.0)
    }

    fn find(&self, host: usize, life: u64, call: u64) -> Option<u64> {
        let mut all = self.all.iter();
        let found = all.find(|(_, line)| line.from == (host, life) && line.call == call);
        found.map(|(id, _)| *id)
    }
}

impl World<Moves> {
    pub fn call(&mut self, host: usize, call: u64, room: RoomName, group: u64, to: &NodeId) {
        let Some(to) = hosts(group).find(|host| node(*host) == *to) else {
            return;
        };
        self.story.lines.count += 1;
        let line = Line {
            from: (host, self.hosts[host].life),
            call,
            to,
            room,
            taken: None,
            up: self.now,
            down: self.now,
        };
        self.story.lines.all.insert(self.story.lines.count, line);
        self.upwards(self.story.lines.count, |line| Event::Ring { line });
    }

    pub fn say(&mut self, host: usize, call: u64, carry: Carry) {
        if let Some(line) = self.story.lines.find(host, self.hosts[host].life, call) {
            self.upwards(line, |line| Event::Up { line, carry });
        }
    }

    pub fn hang_up(&mut self, host: usize, call: u64) {
        if let Some(line) = self.story.lines.find(host, self.hosts[host].life, call) {
            self.story.lines.all.remove(&line);
        }
    }

    fn upwards(&mut self, id: u64, event: impl FnOnce(u64) -> Event) {
        let Some(line) = self.story.lines.all.get_mut(&id) else {
            return;
        };
        match self.net.delay(&mut self.dice, line.from.0, line.to) {
            // A connection says nothing of what it cannot bring.
            None => drop(self.story.lines.all.remove(&id)),
            Some(delay) => {
                line.up = line.up.max(self.now + delay);
                let after: Duration = line.up.saturating_since(self.now);
                self.at_own(after, event(id));
            }
        }
    }

    fn downwards(&mut self, id: u64, word: Word) {
        let Some(line) = self.story.lines.all.get_mut(&id) else {
            return;
        };
        match self.net.delay(&mut self.dice, line.to, line.from.0) {
            None => drop(self.story.lines.all.remove(&id)),
            Some(delay) => {
                line.down = line.down.max(self.now + delay);
                let after = line.down.saturating_since(self.now);
                self.at_own(after, Event::Down { line: id, word });
            }
        }
    }

    pub fn ring(&mut self, id: u64) {
        let Some(line) = self.story.lines.all.get_mut(&id) else {
            return;
        };
        let host = &self.hosts[line.to];
        let Some(group) = &host.group else {
            return self.downwards(id, Word::Lost(None));
        };
        let role = group.role();
        if group.serves() {
            line.taken = Some((host.life, role.generation.counter()));
            self.downwards(id, Word::Called);
        } else {
            let leader = role.leader.filter(|leader| *leader != host.member);
            let leader = leader.map(|leader| node(self.host_of(host.of, leader)));
            self.downwards(id, Word::Lost(leader));
        }
    }

    pub fn up(&mut self, id: u64, carry: Carry) -> Result<(), Broken> {
        let Some(line) = self.story.lines.all.get(&id) else {
            return Ok(());
        };
        let (to, word) = (line.to, carry.word());
        if !self.serves(to, line.taken) {
            self.downwards(id, Word::Lost(None));
            return Ok(());
        }
        let command = mover::command(line.room.clone(), carry);
        self.strike(to, &command)?;
        self.propose_own(to, Asker::Line(id, word), command)
    }

    fn serves(&self, host: usize, taken: Option<(u64, u64)>) -> bool {
        let host = &self.hosts[host];
        let group = host.group.as_ref().filter(|group| group.serves());
        let now = group.map(|group| (host.life, group.role().generation.counter()));
        now.is_some() && now == taken
    }

    /// What is answered once a word is in the callee's log.
    pub fn answer(
        &mut self,
        host: usize,
        id: u64,
        word: u64,
        result: Result<Option<Answer>, Unserved>,
    ) {
        let Some(line) = self.story.lines.all.get(&id) else {
            return;
        };
        let machine = self.hosts[host].group.as_ref().map(|g| g.machine());
        let answer = match (result, machine) {
            (Ok(Some(Answer::Refused { message, .. })), _) => {
                Word::Heard(Arrived::Refused(message))
            }
            (Ok(_), Some(machine)) => Word::Heard(machine.arrived(&line.room, word)),
            _ => Word::Lost(None),
        };
        self.downwards(id, answer);
    }

    pub fn down(&mut self, id: u64, word: Word) -> Result<(), Broken> {
        let Some(line) = self.story.lines.all.get(&id) else {
            return Ok(());
        };
        let ((host, life), call) = (line.from, line.call);
        if self.hosts[host].life != life {
            self.story.lines.all.remove(&id);
            return Ok(());
        }
        let input = match word {
            Word::Called => mover::Input::Called { call },
            Word::Heard(arrived) => mover::Input::Heard { call, arrived },
            Word::Lost(leader) => {
                self.story.lines.all.remove(&id);
                let why = "it leads no more".into();
                mover::Input::Lost { call, leader, why }
            }
        };
        self.mover(host, input)
    }
}
