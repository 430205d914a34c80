//! Relays, each with one member of one group: what their members and movers put out is done here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::{
    ids::{NodeId, RoomName},
    time::Time,
    wire::{moving::LogId, room::Answer},
};
use longspan_relay::roomlog::{
    Snapshot,
    group::{Config, Group, Input, Member, Output, Saved},
    machine::{Command, Whereabouts},
    mover::{self, Mover},
};
use rand::RngExt;

use super::{
    client::{Ask, Told},
    disk::Disk,
    history::Broken,
    record,
    world::{Event, MEMBERS, World},
};

/// Whoever waits for a member's word.
pub enum Asker {
    Client(usize, u64, Box<Ask>),
    /// The other group, about a move of a room.
    Line(u64, u64),
    Nobody,
}

pub struct Host {
    pub of: u64,
    pub member: Member,
    pub group: Option<Group>,
    pub mover: Mover,
    pub disk: Disk,
    pub life: u64,
    pub stopped: Option<VecDeque<Event>>,
    /// Its wall clock is ahead by so many ms.
    pub skew: i64,
    pub due: Time,
    /// When its mover looks.
    pub look: Time,
    /// What its mover saw last.
    seen: (u64, bool),
    pub syncing: bool,
    pub tokens: BTreeMap<u64, Asker>,
    pub token: u64,
    pub told: BTreeMap<RoomName, u64>,
}

/// The name of a host's node.
pub fn node(host: usize) -> NodeId {
    NodeId::new(&format!("host-{host}")).expect("a name")
}

impl World {
    pub fn add_host(&mut self, host: usize, saved: Saved) -> Result<(), Broken> {
        let of = (host / MEMBERS) as u64 + 1;
        self.hosts.push(Host {
            of,
            member: Member((host % MEMBERS) as u64 + 1),
            group: None,
            mover: Mover::new(LogId { group: of, era: 1 }),
            disk: Disk::new(saved),
            life: 0,
            stopped: None,
            skew: 0,
            due: Time::ZERO,
            look: Time::ZERO,
            seen: (0, false),
            syncing: false,
            tokens: BTreeMap::new(),
            token: 0,
            told: BTreeMap::new(),
        });
        self.start(host)
    }

    /// The host of a fellow member.
    fn fellow(&self, host: usize, member: Member) -> usize {
        (self.hosts[host].of as usize - 1) * MEMBERS + member.0 as usize - 1
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

    pub fn drain(&mut self, host: usize) -> Result<(), Broken> {
        while let Some(output) = self.hosts[host].group.as_mut().and_then(Group::poll_output) {
            self.output(host, output)?;
        }
        let Some(group) = &self.hosts[host].group else {
            return Ok(());
        };
        let (due, life) = (group.poll_timeout(), self.hosts[host].life);
        let saw = (group.machine().moves_changed(), group.serves());
        if self.hosts[host].due != due {
            self.hosts[host].due = due;
            let after = due.saturating_since(self.now);
            self.at(after, Event::Timeout { host, life });
        }
        match self.hosts[host].seen == saw {
            true => Ok(()),
            false => self.mover(host, mover::Input::Look),
        }
    }

    /// Gives a host's mover an input and does what comes of it.
    pub fn mover(&mut self, host: usize, input: mover::Input) -> Result<(), Broken> {
        let now = self.now;
        let of = &mut self.hosts[host];
        let Some(group) = &of.group else {
            return Ok(());
        };
        of.seen = (group.machine().moves_changed(), group.serves());
        of.mover.handle(now, group.machine(), group.serves(), input);
        while let Some(output) = self.hosts[host].mover.poll_output() {
            match output {
                mover::Output::Call {
                    call,
                    room,
                    group,
                    node,
                } => self.call(host, call, room, group, &node),
                mover::Output::Say { call, carry } => self.say(host, call, carry),
                mover::Output::End { call } => self.hang_up(host, call),
                mover::Output::Propose(command) => {
                    self.strike(host, &command)?;
                    self.propose(host, Asker::Nobody, command)?;
                }
            }
        }
        let (life, due) = (self.hosts[host].life, self.hosts[host].mover.poll_timeout());
        if let Some(due) = due
            && self.hosts[host].look != due
        {
            self.hosts[host].look = due;
            self.at(due.saturating_since(now), Event::Look { host, life });
        }
        Ok(())
    }

    pub fn propose(&mut self, host: usize, asker: Asker, command: Command) -> Result<(), Broken> {
        let wall = self.wall(host);
        let of = &mut self.hosts[host];
        if of.group.is_none() {
            return Ok(());
        }
        of.token += 1;
        let token = of.token;
        of.tokens.insert(token, asker);
        let input = Input::Propose {
            token,
            command,
            wall,
        };
        self.input(host, input)
    }

    fn output(&mut self, host: usize, output: Output) -> Result<(), Broken> {
        let member = self.hosts[host].member;
        match output {
            Output::Send(packet) => {
                let to = self.fellow(host, packet.to);
                self.played.snapshots += u64::from(packet.is_snapshot());
                if let Some(delay) = self.net.delay(&mut self.dice, host, to) {
                    let bytes = packet.encode();
                    self.at(delay, Event::Packet { to, bytes });
                }
            }
            Output::Persist(persist) => {
                self.hosts[host].disk.write(persist);
                self.sync(host);
            }
            Output::Done { token, result } => match self.hosts[host].tokens.remove(&token) {
                None => return Err(format!("one answer each: {member:?} answers {token} again")),
                Some(Asker::Nobody) => {}
                Some(Asker::Line(line, word)) => self.answer(host, line, word, result),
                Some(Asker::Client(client, attempt, ask)) => {
                    let told = match (result, *ask) {
                        (Ok(Some(Answer::Held { n, .. })), Ask::Held { acked, .. }) => {
                            Told::Held { n, acked }
                        }
                        (Ok(Some(answer)), _) => Told::Answer(answer),
                        (Ok(None), _) => Told::Nothing,
                        (Err(unserved), _) => Told::Unserved(unserved),
                    };
                    self.tell(client, attempt, told);
                }
            },
            Output::Readable { token } => {
                let again = || format!("one answer each: {member:?} reads {token} again");
                let asker = self.hosts[host].tokens.remove(&token);
                let Some(Asker::Client(client, attempt, ask)) = asker else {
                    return Err(again());
                };
                let Ask::Read { room, asked } = *ask else {
                    return Err(again());
                };
                let group = self.hosts[host].group.as_ref();
                let machine = group.map(|group| group.machine());
                if machine.is_some_and(|m| matches!(m.whereabouts(&room), Whereabouts::Away(_))) {
                    return Ok(());
                }
                let state = Box::new(self.state(host, &room));
                self.tell(client, attempt, Told::State { asked, state });
            }
            Output::Published(message) => {
                self.history.published(host, &message)?;
                let told = &mut self.hosts[host].told;
                let before = told.insert(message.room.clone(), message.seq);
                let me = record::HOST + host as u32;
                if before.is_none() {
                    // From here on it tells one after the other.
                    let seq = message.seq - 1;
                    let record = &mut self.history.record;
                    record.note(&message.room, me, longspan_lab::history::What::Leaves);
                    let resumes = longspan_lab::history::What::Resumes { seq };
                    record.note(&message.room, me, resumes);
                }
                self.history.record.gets(me, &message);
                if before.is_some_and(|before| before + 1 != message.seq) {
                    return Err(format!(
                        "no hole: host {host} tells {} after {before:?}",
                        message.seq
                    ));
                }
                for follower in 0..self.followers.len() {
                    let reader = &mut self.followers[follower];
                    if reader.at == Some(host) && reader.room == message.room {
                        reader.coming.push_back(message.clone());
                        let place = reader.place;
                        let after = self.after((false, follower));
                        self.at(after, Event::Follow { follower, place });
                    }
                }
            }
            Output::Forgotten(room) => {
                self.hosts[host].told.remove(&room);
                self.leave(host, Some(&room));
            }
            Output::Replaced => {
                self.hosts[host].told.clear();
                self.leave(host, None);
            }
            Output::Role(_) => {}
            Output::Halted { why } => return Err(format!("members go on: host {host}: {why}")),
        }
        Ok(())
    }

    /// One sync at a time, of all that is written by then.
    pub fn sync(&mut self, host: usize) {
        let life = self.hosts[host].life;
        if let Some(number) = self.hosts[host].disk.written()
            && !self.hosts[host].syncing
        {
            self.hosts[host].syncing = true;
            let takes = Duration::from_micros(self.dice.random_range(100..=self.sync));
            self.at(takes, Event::Synced { host, life, number });
        }
    }

    pub fn state(&self, host: usize, room: &RoomName) -> Snapshot {
        let group = self.hosts[host].group.as_ref();
        let room = group.and_then(|group| group.machine().room(room));
        room.map_or_else(Snapshot::default, |room| room.snapshot())
    }

    /// A follower that reads nowhere goes somewhere; another moves on now and then.
    pub fn follow(&mut self, follower: usize) -> Result<(), Broken> {
        let host = self.dice.random_range(0..self.hosts.len());
        let moves = self.dice.random_ratio(1, 15);
        let reader = &mut self.followers[follower];
        if reader.at.is_some() && !moves {
            return Ok(());
        }
        if let Some(group) = &self.hosts[host].group
            && self.hosts[host].stopped.is_none()
        {
            reader.leave();
            let room = group.machine().room(&reader.room);
            reader.attach(host, room, &mut self.history)?;
        }
        Ok(())
    }

    fn leave(&mut self, host: usize, room: Option<&RoomName>) {
        for follower in self.followers.iter_mut().filter(|f| f.at == Some(host)) {
            if room.is_none_or(|room| follower.room == *room) {
                follower.leave();
            }
        }
    }

    /// Who leads a group in the newest term.
    pub fn leader(&self, of: u64) -> Option<usize> {
        let leads = |host: &Host| host.group.as_ref().is_some_and(Group::leads);
        let term = |host: &Host| host.group.as_ref().map(|group| group.role().generation);
        (0..self.hosts.len())
            .filter(|host| self.hosts[*host].of == of && leads(&self.hosts[*host]))
            .max_by_key(|host| term(&self.hosts[*host]))
    }

    /// The process dies; with `tail`, its machine does.
    pub fn kill(&mut self, host: usize, tail: bool) {
        if self.hosts[host].group.take().is_none() {
            return;
        }
        self.hosts[host].disk.crash(&mut self.dice, tail);
        let host_ = &mut self.hosts[host];
        host_.life += 1;
        host_.stopped = None;
        host_.tokens.clear();
        host_.told.clear();
        host_.mover = Mover::new(LogId {
            group: host_.of,
            era: 1,
        });
        self.leave(host, None);
        self.played.kills += 1;
    }

    pub fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].group.is_some() {
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
        self.hosts[host].look = Time::ZERO;
        self.hosts[host].seen = (u64::MAX, false);
        self.hosts[host].syncing = false;
        self.drain(host)?;
        let wanted = (1..=MEMBERS as u64).map(Member).collect();
        self.input(host, Input::Members(wanted))
    }

    /// The process hears nothing until it goes on.
    pub fn stop(&mut self, host: usize) {
        if self.hosts[host].group.is_some() {
            self.hosts[host].stopped.get_or_insert_default();
        }
    }

    pub fn go_on(&mut self, host: usize) -> Result<(), Broken> {
        for event in self.hosts[host].stopped.take().into_iter().flatten() {
            self.happen(event)?;
        }
        Ok(())
    }
}
