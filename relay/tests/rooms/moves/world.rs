//! Hosts of two groups, publishers and followers under one clock and one seed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    ids::RoomName,
    time::Time,
    wire::moving::{Carry, Moved},
};
use longspan_relay::roomlog::{
    Limits,
    group::{Cut, Input, Member, Packet, Saved, Unserved},
    machine::{Command, Whereabouts},
    mover,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    client::{Ask, Client, Told},
    controller::Controller,
    follower::Follower,
    history::{Broken, History},
    hosts::{Asker, Host},
    lines::{Lines, Word},
    net::Net,
    record,
};

/// Faults come for so long; then everything is repaired.
pub const TROUBLE: Duration = Duration::from_secs(20);
/// Once everything works again, all must be done within this.
const REPAIRED: Duration = Duration::from_secs(30);
/// The wall clock at the beginning, ms.
const WALL: u64 = 1_790_000_000_000;
/// Members of each group.
pub const MEMBERS: usize = 3;
/// Groups.
pub const GROUPS: usize = 2;

/// What was met on the way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Played {
    pub events: u64,
    pub published: u64,
    pub resent: u64,
    pub kills: u64,
    pub snapshots: u64,
    pub moved: u64,
    pub back: u64,
    /// Publishers that were sent after a room.
    pub sent_after: u64,
    /// Faults at the moment of a move's step.
    pub struck: BTreeMap<&'static str, u64>,
}

impl Played {
    #[allow(dead_code, reason = "the example prints each by itself")]
    pub fn add(&mut self, other: &Played) {
        self.events += other.events;
        self.published += other.published;
        self.resent += other.resent;
        self.kills += other.kills;
        self.snapshots += other.snapshots;
        self.moved += other.moved;
        self.back += other.back;
        self.sent_after += other.sent_after;
        for (step, struck) in &other.struck {
            *self.struck.entry(step).or_default() += struck;
        }
    }
}

pub enum Event {
    Packet {
        to: usize,
        bytes: Bytes,
    },
    Timeout {
        host: usize,
        life: u64,
    },
    Synced {
        host: usize,
        life: u64,
        number: u64,
    },
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
    Asked {
        client: usize,
        attempt: u64,
        to: usize,
        ask: Ask,
    },
    Told {
        client: usize,
        attempt: u64,
        told: Told,
    },
    /// A publisher hears that its room is elsewhere.
    Sent {
        client: usize,
        moved: Moved,
    },
    Wake {
        client: usize,
    },
    Follow {
        follower: usize,
        place: u64,
    },
    Rule,
    Fault,
    Kill {
        host: usize,
        life: u64,
    },
    Start {
        host: usize,
    },
    Continue {
        host: usize,
    },
}

pub struct World {
    pub now: Time,
    order: u64,
    queue: BTreeMap<(Time, u64), Event>,
    pub dice: ChaCha8Rng,
    pub hosts: Vec<Host>,
    pub net: Net,
    pub lines: Lines,
    pub controller: Controller,
    pub clients: Vec<Client>,
    /// Which group each client believes to keep its room, and by which move.
    pub placed: Vec<(u64, u64)>,
    /// When the last word of a client to its host, and of a host to a follower, arrives.
    words: BTreeMap<(bool, usize), Time>,
    pub followers: Vec<Follower>,
    pub history: History,
    pub cut: Cut,
    pub seed: u64,
    pub sync: u64,
    pub played: Played,
}

impl World {
    /// Plays a seed to its end; which law was broken, if one was.
    pub fn play(seed: u64) -> Result<Played, Broken> {
        let mut world = World::new(seed)?;
        let end = Time::ZERO + TROUBLE;
        while world.now < end {
            world.next()?;
        }
        world.repair()?;
        let limit = world.now + REPAIRED;
        while !world.is_settled() {
            if world.now > limit {
                return Err(world.unsettled());
            }
            for _ in 0..50 {
                world.next()?;
            }
        }
        world.finish()
    }

    fn new(seed: u64) -> Result<World, Broken> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed ^ 0x6d6f_7665);
        let voters: Vec<Member> = (1..=MEMBERS as u64).map(Member).collect();
        let limits = Limits {
            history_messages: dice.random_range(5..200),
            ..Limits::default()
        };
        let cut = Cut {
            entries: dice.random_range(5..300),
            bytes: 1 << 20,
            trail: dice.random_range(0..40),
        };
        let clients: Vec<Client> = (0..dice.random_range(2..6))
            .map(|id| Client::new(id, dice.random_range(60..160)))
            .collect();
        let followers = (record::FOLLOWER..).zip(&clients);
        let followers = followers.map(|(number, client)| Follower::new(number, &client.room));
        let rooms = clients.iter().map(|client| client.room.clone()).collect();
        let mut world = World {
            now: Time::ZERO,
            order: 0,
            queue: BTreeMap::new(),
            net: Net::new(&mut dice),
            sync: [500, 8_000, 80_000][dice.random_range(0..3)],
            dice,
            hosts: Vec::new(),
            lines: Lines::default(),
            controller: Controller::new(rooms),
            followers: followers.collect(),
            placed: vec![(1, 0); clients.len()],
            clients,
            words: BTreeMap::new(),
            history: History::default(),
            cut,
            seed,
            played: Played::default(),
        };
        for host in 0..GROUPS * MEMBERS {
            world.add_host(host, Saved::born(&voters, limits.clone()))?;
        }
        for client in 0..world.clients.len() {
            world.at(Duration::ZERO, Event::Wake { client });
        }
        world.at(Duration::from_millis(500), Event::Rule);
        world.at(Duration::from_secs(1), Event::Fault);
        Ok(world)
    }

    pub fn at(&mut self, after: Duration, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), event);
    }

    pub fn next(&mut self) -> Result<(), Broken> {
        let Some(((time, _), event)) = self.queue.pop_first() else {
            return Err("the world stands still".into());
        };
        self.now = time;
        self.history.record.now = time;
        self.played.events += 1;
        let host = match &event {
            Event::Packet { to, .. } | Event::Asked { to, .. } => Some(*to),
            Event::Timeout { host, .. }
            | Event::Synced { host, .. }
            | Event::Look { host, .. }
            | Event::Wishes { host, .. } => Some(*host),
            Event::Ring { line } | Event::Up { line, .. } => self.lines.callee(*line),
            Event::Down { line, .. } => self.lines.caller(*line),
            _ => None,
        };
        if let Some(host) = host
            && let Some(waiting) = &mut self.hosts[host].stopped
        {
            waiting.push_back(event);
            return Ok(());
        }
        self.happen(event)
    }

    pub fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Packet { to, bytes } => {
                let packet = Packet::decode(bytes).map_err(|e| format!("packets are read: {e}"))?;
                self.input(to, Input::Packet(packet))
            }
            Event::Timeout { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].due <= self.now {
                    let now = self.now;
                    if let Some(group) = &mut self.hosts[host].group {
                        group.handle_timeout(now);
                    }
                    self.hosts[host].due = Time::ZERO;
                    return self.drain(host);
                }
                Ok(())
            }
            Event::Synced { host, life, number } => {
                if self.hosts[host].life != life {
                    return Ok(());
                }
                self.hosts[host].syncing = false;
                self.hosts[host].disk.sync(number);
                self.sync(host);
                self.input(host, Input::Persisted(number))
            }
            Event::Look { host, life } => {
                if self.hosts[host].life == life && self.hosts[host].look <= self.now {
                    self.hosts[host].look = Time::ZERO;
                    return self.mover(host, mover::Input::Look);
                }
                Ok(())
            }
            Event::Wishes { host, wishes } => self.mover(host, mover::Input::Wishes(wishes)),
            Event::Ring { line } => self.ring(line),
            Event::Up { line, carry } => self.up(line, carry),
            Event::Down { line, word } => self.down(line, word),
            Event::Asked {
                client,
                attempt,
                to,
                ask,
            } => self.asked(client, attempt, to, ask),
            Event::Told {
                client,
                attempt,
                told,
            } => self.told(client, attempt, told),
            Event::Sent { client, moved } => {
                if moved.word > self.placed[client].1 {
                    self.placed[client] = (moved.group, moved.word);
                    self.played.sent_after += 1;
                }
                Ok(())
            }
            Event::Wake { client } => {
                let now = self.now;
                let (dice, history) = (&mut self.dice, &mut self.history);
                let asks = self.clients[client].wake(now, dice, history, MEMBERS);
                self.ask(client, asks);
                let after = Duration::from_millis(self.dice.random_range(10..120));
                self.at(after, Event::Wake { client });
                self.follow(client)
            }
            Event::Follow { follower, place } => {
                let follower = &mut self.followers[follower];
                if follower.place == place
                    && let Some(message) = follower.coming.pop_front()
                {
                    return follower.take(&message, &mut self.history);
                }
                Ok(())
            }
            Event::Rule => self.rule(),
            Event::Fault => {
                if self.now < Time::ZERO + TROUBLE {
                    self.fault()?;
                    let after = Duration::from_millis(self.dice.random_range(50..1_500));
                    self.at(after, Event::Fault);
                }
                Ok(())
            }
            Event::Kill { host, life } => {
                if self.hosts[host].life == life {
                    self.kill(host, true);
                }
                Ok(())
            }
            Event::Start { host } => self.start(host),
            Event::Continue { host } => self.go_on(host),
        }
    }

    /// Says things to a member of the group that the client believes in, in order.
    fn ask(&mut self, client: usize, asks: Vec<Ask>) {
        for ask in asks {
            let after = self.after((true, client));
            let attempt = self.clients[client].attempt;
            let group = self.placed[client].0 as usize;
            let to = (group - 1) * MEMBERS + self.clients[client].to;
            let event = Event::Asked {
                client,
                attempt,
                to,
                ask,
            };
            self.at(after, event);
        }
    }

    /// When the next word on an ordered way arrives.
    pub fn after(&mut self, way: (bool, usize)) -> Duration {
        let delay = Duration::from_micros(self.dice.random_range(200..20_000));
        let line = self.words.entry(way).or_default();
        *line = (*line).max(self.now + delay);
        line.saturating_since(self.now)
    }

    fn told(&mut self, client: usize, attempt: u64, told: Told) -> Result<(), Broken> {
        let (now, dice, history) = (self.now, &mut self.dice, &mut self.history);
        let asks = self.clients[client].hear(now, dice, history, MEMBERS, attempt, told)?;
        self.ask(client, asks);
        Ok(())
    }

    pub fn tell(&mut self, client: usize, attempt: u64, told: Told) {
        let delay = Duration::from_micros(self.dice.random_range(200..20_000));
        if !self.dice.random_ratio(1, 50) {
            let event = Event::Told {
                client,
                attempt,
                told,
            };
            self.at(delay, event);
        }
    }

    /// As an edge's call is taken: whoever knows where the room went says so.
    fn asked(&mut self, client: usize, attempt: u64, to: usize, ask: Ask) -> Result<(), Broken> {
        let wall = self.wall(to);
        let host = &mut self.hosts[to];
        let Some(group) = &host.group else {
            return Ok(());
        };
        let room = self.clients[client].room.clone();
        match group.machine().whereabouts(&room) {
            Whereabouts::Away(moved) => {
                let moved = moved.clone();
                let delay = Duration::from_micros(self.dice.random_range(200..20_000));
                self.at(delay, Event::Sent { client, moved });
                self.tell(client, attempt, Told::Unserved(Unserved::Moving));
                return Ok(());
            }
            Whereabouts::Coming | Whereabouts::Leaving(_) => {
                self.tell(client, attempt, Told::Unserved(Unserved::Moving));
                return Ok(());
            }
            Whereabouts::Here | Whereabouts::Unknown => {}
        }
        host.token += 1;
        let token = host.token;
        let asker = Asker::Client(client, attempt, Box::new(ask.clone()));
        host.tokens.insert(token, asker);
        let command = match ask {
            Ask::Publish(message) => Command::Publish(message),
            Ask::Held { room, session, .. } => Command::Ask { room, session },
            Ask::Read { .. } => return self.input(to, Input::Read { token }),
        };
        let input = Input::Propose {
            token,
            command,
            wall,
        };
        self.input(to, input)
    }

    pub fn wall(&self, host: usize) -> u64 {
        (WALL + self.now.as_micros() / 1_000).saturating_add_signed(self.hosts[host].skew)
    }
}
