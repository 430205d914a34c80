//! Whoever wishes rooms to be elsewhere, and keeps a record of where they are.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{ids::RoomName, time::Time, wire::moving::Moved};
use longspan_relay::roomlog::mover::Stage;
use rand::RngExt;

use super::{Event, GROUPS, Moves, hosts, movers::node};
use crate::world::{MEMBERS, TROUBLE, World, history::Broken};

/// A room's record.
#[derive(Debug, Clone)]
pub struct Record {
    pub group: u64,
    /// The newest move that went through.
    pub word: u64,
    pub moving: Option<Moved>,
}

#[derive(Debug)]
pub struct Controller {
    pub rooms: BTreeMap<RoomName, Record>,
    words: u64,
    /// It is away until then.
    pub back: Time,
}

impl Controller {
    pub fn new(rooms: impl Iterator<Item = RoomName>) -> Controller {
        let record = Record {
            group: 1,
            word: 0,
            moving: None,
        };
        Controller {
            rooms: rooms.map(|r| (r, record.clone())).collect(),
            words: 0,
            back: Time::ZERO,
        }
    }
}

impl World<Moves> {
    /// The controller looks at its rooms.
    pub fn rule(&mut self) -> Result<(), Broken> {
        let after = Duration::from_millis(self.dice.random_range(100..400));
        self.at_own(after, Event::Rule);
        if self.now < self.story.controller.back {
            return Ok(());
        }
        let names: Vec<RoomName> = self.story.controller.rooms.keys().cloned().collect();
        for name in &names {
            self.look_at(name)?;
        }
        for host in 0..self.hosts.len() {
            let of = self.hosts[host].of;
            let rooms = self.story.controller.rooms.iter();
            let wishes = rooms.filter(|(_, record)| record.group == of);
            let wishes = wishes.filter_map(|(room, r)| Some((room.clone(), r.moving.clone()?)));
            let wishes = wishes.collect();
            let delay = Duration::from_micros(self.dice.random_range(200..50_000));
            if !self.dice.random_ratio(1, 10) {
                self.at_own(delay, Event::Wishes { host, wishes });
            }
        }
        // Edges hear of it too, sooner or later.
        for client in 0..self.clients.len() {
            let record = &self.story.controller.rooms[&self.clients[client].room];
            if record.word > self.story.placed[client].1 && self.dice.random_ratio(1, 8) {
                self.story.placed[client] = (record.group, record.word);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, name: &RoomName) -> Result<(), Broken> {
        let Some(record) = self.story.controller.rooms.get_mut(name) else {
            return Ok(());
        };
        let Some(moving) = record.moving.clone() else {
            if self.now < Time::ZERO + TROUBLE && self.dice.random_ratio(1, 3) {
                let group = record.group % GROUPS + 1;
                self.story.controller.words += 1;
                record.moving = Some(Moved {
                    word: self.story.controller.words,
                    group,
                    nodes: hosts(group).map(node).collect(),
                });
            }
            return Ok(());
        };
        let member = self.dice.random_range(0..MEMBERS);
        let host = &self.hosts[hosts(record.group).start + member];
        let Some(group) = host.group.as_ref().filter(|_| host.stopped.is_none()) else {
            return Ok(());
        };
        let stages = host.process.mover.stages(group.machine());
        let stage = stages
            .into_iter()
            .find(|(room, word, _)| room == name && *word == moving.word);
        match stage {
            Some((_, _, Stage::Gone)) => {
                (record.group, record.word) = (moving.group, moving.word);
                record.moving = None;
                self.played.count("moved", 1);
            }
            Some((_, _, Stage::Back(_))) => {
                record.moving = None;
                self.played.count("taken back", 1);
            }
            // A member that is behind knows of an earlier move only.
            Some((_, _, Stage::Elsewhere(there))) if there.word > record.word => {
                return Err(format!(
                    "one place: {name} is at {there:?}, not at {record:?}"
                ));
            }
            _ => {}
        }
        Ok(())
    }
}
