//! Whoever wishes rooms to be elsewhere, and keeps a record of where they are.

use std::{collections::BTreeMap, time::Duration};

use longspan_proto::{ids::RoomName, time::Time, wire::moving::Moved};
use longspan_relay::roomlog::mover::Stage;
use rand::RngExt;

use super::{
    history::Broken,
    hosts::node,
    world::{Event, GROUPS, MEMBERS, TROUBLE, World},
};

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
    pub fn new(rooms: Vec<RoomName>) -> Controller {
        let record = Record {
            group: 1,
            word: 0,
            moving: None,
        };
        Controller {
            rooms: rooms.into_iter().map(|r| (r, record.clone())).collect(),
            words: 0,
            back: Time::ZERO,
        }
    }
}

impl World {
    /// The controller looks at its rooms.
    pub fn rule(&mut self) -> Result<(), Broken> {
        let after = Duration::from_millis(self.dice.random_range(100..400));
        self.at(after, Event::Rule);
        if self.now < self.controller.back {
            return Ok(());
        }
        let names: Vec<RoomName> = self.controller.rooms.keys().cloned().collect();
        for name in &names {
            self.look_at(name)?;
        }
        for host in 0..self.hosts.len() {
            let of = self.hosts[host].of;
            let rooms = self.controller.rooms.iter();
            let wishes = rooms.filter(|(_, record)| record.group == of);
            let wishes = wishes.filter_map(|(room, r)| Some((room.clone(), r.moving.clone()?)));
            let wishes = wishes.collect();
            let delay = Duration::from_micros(self.dice.random_range(200..50_000));
            if !self.dice.random_ratio(1, 10) {
                self.at(delay, Event::Wishes { host, wishes });
            }
        }
        // Edges hear of it too, sooner or later.
        for client in 0..self.clients.len() {
            let record = &self.controller.rooms[&self.clients[client].room];
            if record.word > self.placed[client].1 && self.dice.random_ratio(1, 8) {
                self.placed[client] = (record.group, record.word);
            }
        }
        Ok(())
    }

    fn look_at(&mut self, name: &RoomName) -> Result<(), Broken> {
        let Some(record) = self.controller.rooms.get_mut(name) else {
            return Ok(());
        };
        let Some(moving) = record.moving.clone() else {
            if self.now < Time::ZERO + TROUBLE && self.dice.random_ratio(1, 3) {
                let group = record.group % GROUPS as u64 + 1;
                self.controller.words += 1;
                let first = (group as usize - 1) * MEMBERS;
                record.moving = Some(Moved {
                    word: self.controller.words,
                    group,
                    nodes: (first..first + MEMBERS).map(node).collect(),
                });
            }
            return Ok(());
        };
        let member = self.dice.random_range(0..MEMBERS);
        let host = (record.group as usize - 1) * MEMBERS + member;
        let host = &self.hosts[host];
        let Some(group) = host.group.as_ref().filter(|_| host.stopped.is_none()) else {
            return Ok(());
        };
        let stages = host.mover.stages(group.machine());
        let stage = stages
            .into_iter()
            .find(|(room, word, _)| room == name && *word == moving.word);
        match stage {
            Some((_, _, Stage::Gone)) => {
                (record.group, record.word) = (moving.group, moving.word);
                record.moving = None;
                self.played.moved += 1;
            }
            Some((_, _, Stage::Back(_))) => {
                record.moving = None;
                self.played.back += 1;
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
