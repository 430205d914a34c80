//! Rooms that move to and fro between two placement groups, while publishers publish and followers follow.
//!
//! The laws are those of one group: one order, nothing acked is lost, repeated or forgotten, whatever group keeps the
//! room. And: every move ends, a room ends up in one group, and nothing of it is left in the other.

mod controller;
mod faults;
mod lines;
mod movers;
#[cfg(test)]
mod tests;

use std::{ops::Range, time::Duration};

use longspan_proto::{
    ids::RoomName,
    time::Time,
    wire::{
        moving::{Carry, Moved},
        room::Answer,
    },
};
use longspan_relay::roomlog::{group::Unserved, machine::Whereabouts, mover};
use rand::RngExt;

use crate::world::{
    MEMBERS, Story, World,
    asking::TALKING,
    client::{Client, Told},
    history::Broken,
};
use controller::Controller;
use lines::{Lines, Word};
use movers::Process;

/// Two groups.
const GROUPS: u64 = 2;

#[derive(Debug)]
pub struct Moves {
    lines: Lines,
    controller: Controller,
    /// Which group each client believes to keep its room, and by which move.
    placed: Vec<(u64, u64)>,
}

pub enum Event {
    /// A mover's clock.
    Look {
        host: usize,
        life: u64,
    },
    Wishes {
        host: usize,
        wishes: Vec<(RoomName, Moved)>,
    },
    Ring {
        line: u64,
    },
    Up {
        line: u64,
        carry: Carry,
    },
    Down {
        line: u64,
        word: Word,
    },
    /// A publisher hears that its room is elsewhere.
    Sent {
        client: usize,
        moved: Moved,
    },
    /// The controller looks at its rooms.
    Rule,
    Kill {
        host: usize,
        life: u64,
    },
}

/// Who waits for a member's word besides clients.
pub enum Asker {
    /// The other group, about this word of a move.
    Line(u64, u64),
    /// The member's own mover, which sees what comes of it.
    Mover,
}

impl Story for Moves {
    type Event = Event;
    type Process = Process;
    type Asker = Asker;

    const NAME: &'static str = "moves";
    const SALT: u64 = 0x6d6f_7665;
    const GROUPS: u64 = GROUPS;
    const REPEATS: bool = false;
    const FAULTS: Range<u64> = 50..1_500;
    const FOLLOWING: Range<u64> = TALKING;

    fn new(clients: &[Client]) -> Moves {
        Moves {
            lines: Lines::default(),
            controller: Controller::new(clients.iter().map(|client| client.room.clone())),
            placed: vec![(1, 0); clients.len()],
        }
    }

    fn process(of: u64) -> Process {
        Process::new(of)
    }

    fn begin(world: &mut World<Moves>) {
        world.at_own(Duration::from_millis(500), Event::Rule);
    }

    /// The group that the client believes in.
    fn asks(world: &World<Moves>, client: usize) -> Range<usize> {
        hosts(world.story.placed[client].0)
    }

    /// As an edge's call is taken: whoever knows where the room went says so.
    fn turns_away(world: &mut World<Moves>, client: usize, attempt: u64, to: usize) -> bool {
        let room = &world.clients[client].room;
        let group = world.hosts[to].group.as_ref();
        match group.map(|group| group.machine().whereabouts(room)) {
            Some(Whereabouts::Away(moved)) => {
                let moved = moved.clone();
                let delay = Duration::from_micros(world.dice.random_range(TALKING));
                world.at_own(delay, Event::Sent { client, moved });
            }
            Some(Whereabouts::Coming | Whereabouts::Leaving(_)) => {}
            Some(Whereabouts::Here | Whereabouts::Unknown) | None => return false,
        }
        world.tell(client, attempt, Told::Unserved(Unserved::Moving));
        true
    }

    fn answered(
        world: &mut World<Moves>,
        host: usize,
        asker: Asker,
        result: Result<Option<Answer>, Unserved>,
    ) {
        match asker {
            Asker::Line(line, word) => world.answer(host, line, word, result),
            Asker::Mover => {}
        }
    }

    fn drained(world: &mut World<Moves>, host: usize) -> Result<(), Broken> {
        world.look(host)
    }

    fn hears(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Look { host, .. } | Event::Wishes { host, .. } => Some(*host),
            Event::Ring { line } | Event::Up { line, .. } => self.lines.callee(*line),
            Event::Down { line, .. } => self.lines.caller(*line),
            Event::Sent { .. } | Event::Rule | Event::Kill { .. } => None,
        }
    }

    fn happen(world: &mut World<Moves>, event: Event) -> Result<(), Broken> {
        match event {
            Event::Look { host, life } => return world.clock(host, life),
            Event::Wishes { host, wishes } => {
                return world.mover(host, mover::Input::Wishes(wishes));
            }
            Event::Ring { line } => world.ring(line),
            Event::Up { line, carry } => return world.up(line, carry),
            Event::Down { line, word } => return world.down(line, word),
            Event::Sent { client, moved } => {
                if moved.word > world.story.placed[client].1 {
                    world.story.placed[client] = (moved.group, moved.word);
                    world.played.count("sent after", 1);
                }
            }
            Event::Rule => return world.rule(),
            Event::Kill { host, life } => {
                if world.hosts[host].life == life {
                    world.kill(host, true);
                }
            }
        }
        Ok(())
    }

    fn fault(world: &mut World<Moves>, one: usize, kind: u32) -> Result<(), Broken> {
        world.break_one(one, kind)
    }

    fn repair(&mut self) {
        self.controller.back = Time::ZERO;
    }

    fn rests(&self) -> bool {
        let mut rooms = self.controller.rooms.values();
        rooms.all(|record| record.moving.is_none())
    }

    /// A room is in one group, by the logs and by the record, and nothing of it in the other.
    fn keeper(world: &World<Moves>, room: &RoomName) -> Result<usize, Broken> {
        let keeps = |of: u64| {
            let group = world.hosts[hosts(of).start].group.as_ref();
            group.map(|group| group.machine().whereabouts(room))
        };
        let here = (1..=GROUPS).filter(|of| keeps(*of) == Some(Whereabouts::Here));
        let here: Vec<u64> = here.collect();
        let record = &world.story.controller.rooms[room];
        if here != [record.group] {
            return Err(format!(
                "one place: {room} is in {here:?}, by the record {record:?}"
            ));
        }
        if (1..=GROUPS).any(|of| keeps(of) == Some(Whereabouts::Coming)) {
            return Err(format!("nothing is left behind: a copy of {room}"));
        }
        Ok(hosts(record.group).start)
    }
}

/// The hosts of a group.
fn hosts(of: u64) -> Range<usize> {
    let first = (of as usize - 1) * MEMBERS;
    first..first + MEMBERS
}
