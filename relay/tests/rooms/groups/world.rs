//! Hosts, publishers and followers under one clock and one seed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use longspan_proto::time::Time;
use longspan_relay::roomlog::{
    Limits,
    group::{Cut, Group, Input, Member, Packet, Saved},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    client::{Ask, Client, Told},
    follower::Follower,
    history::{Broken, History},
    hosts::Host,
    net::Net,
    record,
};

/// Faults come for so long; then everything is repaired.
const TROUBLE: Duration = Duration::from_secs(20);
/// Once everything works again, all must be done within this.
const REPAIRED: Duration = Duration::from_secs(30);
/// The wall clock at the beginning, ms.
pub const WALL: u64 = 1_790_000_000_000;

/// What was met on the way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Played {
    pub events: u64,
    pub published: u64,
    pub resent: u64,
    pub leaders: u64,
    pub kills: u64,
    pub tails_lost: u64,
    pub snapshots: u64,
    pub replaced: u64,
    pub resumed: u64,
    pub gaps: u64,
    pub reads: u64,
    pub conflicts: u64,
    pub expired: u64,
}

impl Played {
    #[allow(dead_code, reason = "the example prints each by itself")]
    pub fn add(&mut self, other: &Played) {
        self.events += other.events;
        self.published += other.published;
        self.resent += other.resent;
        self.leaders += other.leaders;
        self.kills += other.kills;
        self.tails_lost += other.tails_lost;
        self.snapshots += other.snapshots;
        self.replaced += other.replaced;
        self.resumed += other.resumed;
        self.gaps += other.gaps;
        self.reads += other.reads;
        self.conflicts += other.conflicts;
        self.expired += other.expired;
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
    Wake {
        client: usize,
    },
    Follow {
        follower: usize,
        place: u64,
    },
    Fault,
    Start {
        host: usize,
    },
    Continue {
        host: usize,
    },
}

pub struct World {
    pub now: Time,
    pub order: u64,
    pub queue: BTreeMap<(Time, u64), Event>,
    pub dice: ChaCha8Rng,
    pub hosts: Vec<Host>,
    pub net: Net,
    pub clients: Vec<Client>,
    /// When the last word of a client to its host, and of a host to a follower, arrives.
    pub lines: BTreeMap<(bool, usize), Time>,
    pub followers: Vec<Follower>,
    pub history: History,
    pub wanted: Vec<Member>,
    pub cut: Cut,
    pub seed: u64,
    pub sync: u64,
    pub played: Played,
}

impl World {
    /// Plays a seed to its end; which law was broken, if one was.
    pub fn play(seed: u64) -> Result<Played, Broken> {
        let mut world = World::new(seed, true)?;
        world.at(Duration::from_secs(1), Event::Fault);
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

    /// Inside one region, where all is well, the leader dies: how long nothing can be published.
    #[allow(dead_code, reason = "only the test asks")]
    pub fn without_leader(seed: u64) -> Result<Duration, Broken> {
        let mut world = World::new(seed, false)?;
        let dies = Time::ZERO + Duration::from_millis(world.dice.random_range(3_000..4_000));
        while world.now < dies {
            world.next()?;
        }
        let leader = world.leader().ok_or("somebody leads after 3 s")?;
        let died = world.now;
        world.kill(leader, true);
        let serves = |host: &Host| host.group.as_ref().is_some_and(Group::serves);
        while !world.hosts.iter().any(serves) {
            world.next()?;
        }
        Ok(world.now.saturating_since(died))
    }

    fn new(seed: u64, anywhere: bool) -> Result<World, Broken> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let voters: Vec<Member> = (1..=3).map(Member).collect();
        let limits = Limits {
            history_messages: dice.random_range(5..200),
            session_idle: Duration::from_secs([600, 3][usize::from(dice.random_ratio(1, 8))]),
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
        let mut world = World {
            now: Time::ZERO,
            order: 0,
            queue: BTreeMap::new(),
            net: match anywhere {
                true => Net::new(&mut dice),
                false => Net::region(),
            },
            sync: match anywhere {
                true => [500, 8_000, 80_000][dice.random_range(0..3)],
                false => 8_000,
            },
            dice,
            hosts: Vec::new(),
            followers: followers.collect(),
            clients,
            lines: BTreeMap::new(),
            history: History::default(),
            wanted: voters.clone(),
            cut,
            seed,
            played: Played::default(),
        };
        for member in &voters {
            let saved = Saved::born(&voters, limits.clone());
            world.add_host(*member, saved)?;
        }
        for client in 0..world.clients.len() {
            world.at(Duration::ZERO, Event::Wake { client });
        }
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
            Event::Timeout { host, .. } | Event::Synced { host, .. } => Some(*host),
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
            } => {
                let (now, hosts) = (self.now, self.hosts.len());
                let (dice, history) = (&mut self.dice, &mut self.history);
                let asks = self.clients[client].hear(now, dice, history, hosts, attempt, told)?;
                self.ask(client, asks);
                Ok(())
            }
            Event::Wake { client } => {
                let (now, hosts) = (self.now, self.hosts.len());
                let (dice, history) = (&mut self.dice, &mut self.history);
                let asks = self.clients[client].wake(now, dice, history, hosts);
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
            Event::Fault => {
                if self.now < Time::ZERO + TROUBLE {
                    self.fault()?;
                    let after = Duration::from_millis(self.dice.random_range(50..1_000));
                    self.at(after, Event::Fault);
                }
                Ok(())
            }
            Event::Start { host } => self.start(host),
            Event::Continue { host } => self.go_on(host),
        }
    }
}
