//! Relays with one member each: they live, die and come back; their disks keep what was synced.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::{ids::RoomName, time::Time};
use longspan_relay::roomlog::{
    Snapshot,
    group::{Config, Group, Input, Member, Saved},
};
use rand::RngExt;

use super::{Event, MEMBERS, Story, World, asking::Asker, disk::Disk, history::Broken};

/// A relay with one member on it; a member that takes another's place has a host of its own.
pub struct Host<S: Story> {
    /// Its group.
    pub of: u64,
    pub member: Member,
    pub group: Option<Group>,
    pub(super) disk: Disk,
    /// Its disk is gone for good.
    pub lost: bool,
    pub life: u64,
    pub stopped: Option<VecDeque<Event<S>>>,
    /// Its wall clock is ahead by so many ms.
    pub skew: i64,
    due: Time,
    syncing: bool,
    pub(super) tokens: BTreeMap<u64, Asker<S>>,
    pub(super) token: u64,
    /// The newest message of each room that it told of.
    pub(super) told: BTreeMap<RoomName, u64>,
    pub process: S::Process,
}

impl<S: Story> World<S> {
    pub fn add_host(&mut self, of: u64, member: Member, saved: Saved) -> Result<(), Broken> {
        let host = self.hosts.len();
        self.hosts.push(Host {
            of,
            member,
            group: None,
            disk: Disk::new(saved),
            lost: false,
            life: 0,
            stopped: None,
            skew: 0,
            due: Time::ZERO,
            syncing: false,
            tokens: BTreeMap::new(),
            token: 0,
            told: BTreeMap::new(),
            process: S::process(of),
        });
        self.start(host)
    }

    /// The host of a group's member. Only a world of one group has more than it began with.
    pub fn host_of(&self, of: u64, member: Member) -> usize {
        (of as usize - 1) * MEMBERS + member.0 as usize - 1
    }

    /// Gives a host's member an input and does what comes of it.
    pub fn input(&mut self, host: usize, input: Input) -> Result<(), Broken> {
        let now = self.now;
        match &mut self.hosts[host].group {
            Some(group) => group.handle(now, input),
            None => return Ok(()),
        }
        self.drain(host)
    }

    fn drain(&mut self, host: usize) -> Result<(), Broken> {
        while let Some(output) = self.hosts[host].group.as_mut().and_then(Group::poll_output) {
            self.output(host, output)?;
        }
        let Some(group) = &self.hosts[host].group else {
            return Ok(());
        };
        let (due, life) = (group.poll_timeout(), self.hosts[host].life);
        if self.hosts[host].due != due {
            self.hosts[host].due = due;
            let after = due.saturating_since(self.now);
            self.at(after, Event::Timeout { host, life });
        }
        S::drained(self, host)
    }

    pub(super) fn timeout(&mut self, host: usize, life: u64) -> Result<(), Broken> {
        if self.hosts[host].life != life || self.hosts[host].due > self.now {
            return Ok(());
        }
        let now = self.now;
        if let Some(group) = &mut self.hosts[host].group {
            group.handle_timeout(now);
        }
        self.hosts[host].due = Time::ZERO;
        self.drain(host)
    }

    /// One sync at a time, of all that is written by then.
    pub(super) fn sync(&mut self, host: usize) {
        let life = self.hosts[host].life;
        if let Some(number) = self.hosts[host].disk.written()
            && !self.hosts[host].syncing
        {
            self.hosts[host].syncing = true;
            let takes = Duration::from_micros(self.dice.random_range(100..=self.sync));
            self.at(takes, Event::Synced { host, life, number });
        }
    }

    pub(super) fn synced(&mut self, host: usize, life: u64, number: u64) -> Result<(), Broken> {
        if self.hosts[host].life != life {
            return Ok(());
        }
        self.hosts[host].syncing = false;
        self.hosts[host].disk.sync(number);
        self.sync(host);
        self.input(host, Input::Persisted(number))
    }

    pub(super) fn state(&self, host: usize, room: &RoomName) -> Snapshot {
        let group = self.hosts[host].group.as_ref();
        let room = group.and_then(|group| group.machine().room(room));
        room.map_or_else(Snapshot::default, |room| room.snapshot())
    }

    /// Who leads a group in the newest term.
    pub fn leader(&self, of: u64) -> Option<usize> {
        let leads = |host: &Host<S>| host.group.as_ref().is_some_and(Group::leads);
        let term = |host: &Host<S>| host.group.as_ref().map(|group| group.role().generation);
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].of == of && leads(&self.hosts[*host]))
            .max_by_key(|host| term(&self.hosts[*host]))
    }

    /// The process dies; with `tail`, its machine does.
    pub fn kill(&mut self, host: usize, tail: bool) {
        if self.hosts[host].group.take().is_none() {
            return;
        }
        let lost = self.hosts[host].disk.crash(&mut self.dice, tail);
        let host_ = &mut self.hosts[host];
        host_.life += 1;
        host_.stopped = None;
        host_.tokens.clear();
        host_.told.clear();
        host_.process = S::process(host_.of);
        self.leave(host, None);
        self.played.count("kills", 1);
        self.played.count("tails lost", u64::from(lost > 0));
    }

    pub(super) fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].group.is_some() || self.hosts[host].lost {
            return Ok(());
        }
        let config = Config {
            group: self.hosts[host].of,
            era: 1,
            me: self.hosts[host].member,
            seed: self.seed ^ host as u64,
            cut: self.cut,
        };
        let saved = self.hosts[host].disk.saved();
        let group = Group::new(self.now, config, saved)
            .map_err(|error| format!("a restart reads its disk: host {host}: {error}"))?;
        self.hosts[host].group = Some(group);
        self.hosts[host].due = Time::ZERO;
        self.hosts[host].syncing = false;
        self.drain(host)?;
        let wanted = self.wanted.clone();
        self.input(host, Input::Members(wanted))
    }

    /// The process hears nothing until it goes on.
    pub(super) fn stop(&mut self, host: usize) {
        if self.hosts[host].group.is_some() {
            self.hosts[host].stopped.get_or_insert_default();
        }
    }

    pub(super) fn go_on(&mut self, host: usize) -> Result<(), Broken> {
        for event in self.hosts[host].stopped.take().into_iter().flatten() {
            self.happen(event)?;
        }
        Ok(())
    }
}
