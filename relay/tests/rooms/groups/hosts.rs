//! Relays, each with one member: what their members put out is done here.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_lab::history::What;
use longspan_proto::{ids::RoomName, time::Time, wire::room::Answer};
use longspan_relay::roomlog::{
    Snapshot,
    group::{Config, Group, Input, Member, Output, Saved},
};
use rand::RngExt;

use super::{
    client::{Ask, Told},
    disk::Disk,
    history::Broken,
    record,
    world::{Event, World},
};

/// A relay with one member on it; a member that takes another's place has a host of its own.
pub struct Host {
    pub member: Member,
    pub group: Option<Group>,
    pub disk: Disk,
    /// Its disk is gone for good.
    pub lost: bool,
    pub life: u64,
    pub stopped: Option<VecDeque<Event>>,
    /// Its wall clock is ahead by so many ms.
    pub skew: i64,
    pub due: Time,
    pub syncing: bool,
    pub tokens: BTreeMap<u64, (usize, u64, Ask)>,
    pub token: u64,
    pub told: BTreeMap<RoomName, u64>,
}

impl World {
    pub fn add_host(&mut self, member: Member, saved: Saved) -> Result<(), Broken> {
        let host = self.hosts.len();
        self.hosts.push(Host {
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
        });
        self.start(host)
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
        if self.hosts[host].due != due {
            self.hosts[host].due = due;
            let after = due.saturating_since(self.now);
            self.at(after, Event::Timeout { host, life });
        }
        Ok(())
    }

    fn output(&mut self, host: usize, output: Output) -> Result<(), Broken> {
        let member = self.hosts[host].member;
        match output {
            Output::Send(packet) => {
                let to = packet.to.0 as usize - 1;
                self.played.snapshots += u64::from(packet.is_snapshot());
                let copies = 1 + usize::from(self.dice.random_ratio(1, 100));
                for _ in 0..copies {
                    if let Some(delay) = self.net.delay(&mut self.dice, host, to) {
                        let bytes = packet.encode();
                        self.at(delay, Event::Packet { to, bytes });
                    }
                }
            }
            Output::Persist(persist) => {
                self.hosts[host].disk.write(persist);
                self.sync(host);
            }
            Output::Done { token, result } => {
                let Some((client, attempt, ask)) = self.hosts[host].tokens.remove(&token) else {
                    return Err(format!("one answer each: {member:?} answers {token} again"));
                };
                if let (
                    Ok(Some(Answer::Acked { session, n, .. } | Answer::Refused { session, n, .. })),
                    Ask::Publish(message),
                ) = (&result, &ask)
                    && (*session, *n) != (message.session, message.n)
                {
                    return Err(format!(
                        "answers are to whom asked: {message:?} got {result:?}"
                    ));
                }
                let told = match (result, ask) {
                    (Ok(Some(Answer::Held { n, .. })), Ask::Held { acked, .. }) => {
                        Told::Held { n, acked }
                    }
                    (Ok(Some(answer)), _) => Told::Answer(answer),
                    (Ok(None), _) => Told::Nothing,
                    (Err(unserved), _) => Told::Unserved(unserved),
                };
                self.tell(client, attempt, told);
            }
            Output::Readable { token } => {
                let Some((client, attempt, Ask::Read { room, asked })) =
                    self.hosts[host].tokens.remove(&token)
                else {
                    return Err(format!("one answer each: {member:?} reads {token} again"));
                };
                let state = self.state(host, &room);
                let told = Told::State {
                    asked,
                    state: Box::new(state),
                };
                self.tell(client, attempt, told);
            }
            Output::Published(message) => {
                self.history.published(member, &message)?;
                let told = &mut self.hosts[host].told;
                let before = told.insert(message.room.clone(), message.seq);
                let me = record::HOST + host as u32;
                if before.is_none() {
                    // From here on it tells one after the other.
                    let seq = message.seq - 1;
                    let record = &mut self.history.record;
                    record.note(&message.room, me, What::Leaves);
                    record.note(&message.room, me, What::Resumes { seq });
                }
                self.history.record.gets(me, &message);
                if before.is_some_and(|before| before + 1 != message.seq) {
                    return Err(format!(
                        "no hole: {member:?} tells {} after {before:?}",
                        message.seq
                    ));
                }
                for follower in 0..self.followers.len() {
                    let reader = &mut self.followers[follower];
                    if reader.at == Some(host) && reader.room == message.room {
                        reader.coming.push_back(message.clone());
                        let place = reader.place;
                        let delay = Duration::from_micros(self.dice.random_range(100..5_000));
                        let line = self.lines.entry((false, follower)).or_default();
                        *line = (*line).max(self.now + delay);
                        let after = line.saturating_since(self.now);
                        self.at(after, Event::Follow { follower, place });
                    }
                }
            }
            Output::Replaced => {
                self.hosts[host].told.clear();
                self.leave(host);
            }
            Output::Role(role) => {
                if role.leader == Some(member) {
                    self.history.leads(role.generation.counter(), member)?;
                }
            }
            Output::Forgotten(_) => {}
            Output::Halted { why } => return Err(format!("members go on: {member:?}: {why}")),
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
        room.map_or(
            Snapshot {
                seq: 0,
                at: 0,
                keys: Vec::new(),
                history: Vec::new(),
            },
            |room| room.snapshot(),
        )
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

    fn leave(&mut self, host: usize) {
        for follower in self.followers.iter_mut().filter(|f| f.at == Some(host)) {
            follower.leave();
        }
    }

    /// Who leads in the newest term.
    pub fn leader(&self) -> Option<usize> {
        let leads = |host: &Host| host.group.as_ref().is_some_and(Group::leads);
        let term = |host: &Host| host.group.as_ref().map(|group| group.role().generation);
        (0..self.hosts.len())
            .filter(|host| leads(&self.hosts[*host]))
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
        self.leave(host);
        self.played.kills += 1;
        self.played.tails_lost += u64::from(lost > 0);
    }

    pub fn start(&mut self, host: usize) -> Result<(), Broken> {
        if self.hosts[host].group.is_some() || self.hosts[host].lost {
            return Ok(());
        }
        let config = Config {
            group: 1,
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

    /// A member's disk is lost for good, and another is to take its place. One at a time, as
    /// whoever decides that must see to.
    pub fn replace(&mut self) -> Result<(), Broken> {
        let settled = self.leader().is_some_and(|leader| {
            let group = self.hosts[leader].group.as_ref();
            group.is_some_and(|group| {
                let (mut voters, learners) = group.voters();
                voters.sort();
                learners.is_empty() && voters == self.wanted && !group.is_changing()
            })
        });
        if !settled || self.hosts.len() >= 8 {
            return Ok(());
        }
        let gone = self.dice.random_range(0..self.wanted.len());
        let old = self.wanted[gone].0 as usize - 1;
        if self.dice.random_ratio(2, 3) {
            self.kill(old, true);
            self.hosts[old].lost = true;
        }
        let new = Member(self.hosts.len() as u64 + 1);
        self.wanted[gone] = new;
        self.wanted.sort();
        self.played.replaced += 1;
        self.add_host(new, Saved::default())?;
        for host in 0..self.hosts.len() {
            let wanted = self.wanted.clone();
            self.input(host, Input::Members(wanted))?;
        }
        Ok(())
    }
}
