//! Hosts with a member each, publishers and followers, under one clock and one seed. What a world is about is its
//! [`Story`]; everything else is here, and the same in all of them.

pub mod asking;
pub mod client;
mod disk;
mod ending;
mod faults;
pub mod follower;
pub mod history;
pub mod hosts;
mod net;
mod outputs;
mod played;
mod record;
pub mod seeds;
mod story;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use longspan_proto::time::Time;
use longspan_relay::roomlog::{
    Limits,
    group::{Cut, Input, Member, Packet, Saved},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use client::{Ask, Client, Told};
use follower::Follower;
use history::{Broken, History};
use hosts::Host;
use net::Net;
pub use played::Played;
pub use story::Story;

/// Faults come for so long; then everything is repaired.
pub const TROUBLE: Duration = Duration::from_secs(20);
/// Once everything works again, all must be done within this.
const REPAIRED: Duration = Duration::from_secs(30);
/// Members of each group, to begin with.
pub const MEMBERS: usize = 3;

/// Where the hosts stand, and on what disks.
pub enum Place {
    /// In a region, a country, or around the world; disks from quick to bad.
    Anywhere,
    /// Data centres of one region, and usual disks.
    #[allow(dead_code, reason = "only a test asks")]
    Region,
}

pub enum Event<S: Story> {
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
    /// Of this story only.
    Own(S::Event),
}

pub struct World<S: Story> {
    pub now: Time,
    order: u64,
    queue: BTreeMap<(Time, u64), Event<S>>,
    pub dice: ChaCha8Rng,
    pub hosts: Vec<Host<S>>,
    /// Who shall belong to each group.
    pub wanted: Vec<Member>,
    pub net: Net,
    pub clients: Vec<Client>,
    /// When the last word of a client to its host, and of a host to a follower, arrives.
    words: BTreeMap<(bool, usize), Time>,
    followers: Vec<Follower>,
    history: History,
    cut: Cut,
    seed: u64,
    /// What a sync takes at most, µs.
    sync: u64,
    pub played: Played,
    pub story: S,
}

impl<S: Story> World<S> {
    /// Plays a seed to its end; which law was broken, if one was.
    pub fn play(seed: u64) -> Result<Played, Broken> {
        let mut world = World::<S>::new(seed, Place::Anywhere)?;
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

    pub fn new(seed: u64, place: Place) -> Result<World<S>, Broken> {
        let mut dice = ChaCha8Rng::seed_from_u64(seed ^ S::SALT);
        let voters: Vec<Member> = (1..=MEMBERS as u64).map(Member).collect();
        let history_messages = dice.random_range(5..200);
        let limits = Limits {
            history_messages,
            ..S::limits(&mut dice)
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
        let (net, sync) = match place {
            Place::Anywhere => {
                let net = Net::new(&mut dice);
                (net, [500, 8_000, 80_000][dice.random_range(0..3)])
            }
            Place::Region => (Net::region(), 8_000),
        };
        let mut world = World {
            now: Time::ZERO,
            order: 0,
            queue: BTreeMap::new(),
            dice,
            hosts: Vec::new(),
            wanted: voters.clone(),
            net,
            followers: followers.collect(),
            story: S::new(&clients),
            clients,
            words: BTreeMap::new(),
            history: History::default(),
            cut,
            seed,
            sync,
            played: Played::default(),
        };
        for of in 1..=S::GROUPS {
            for member in &voters {
                let saved = Saved::born(&voters, limits.clone());
                world.add_host(of, *member, saved)?;
            }
        }
        for client in 0..world.clients.len() {
            world.at(Duration::ZERO, Event::Wake { client });
        }
        S::begin(&mut world);
        Ok(world)
    }

    fn at(&mut self, after: Duration, event: Event<S>) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), event);
    }

    /// Of the story's own.
    pub fn at_own(&mut self, after: Duration, event: S::Event) {
        self.at(after, Event::Own(event));
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
            Event::Own(event) => self.story.hears(event),
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

    fn happen(&mut self, event: Event<S>) -> Result<(), Broken> {
        match event {
            Event::Packet { to, bytes } => {
                let packet = Packet::decode(bytes).map_err(|e| format!("packets are read: {e}"))?;
                self.input(to, Input::Packet(packet))
            }
            Event::Timeout { host, life } => self.timeout(host, life),
            Event::Synced { host, life, number } => self.synced(host, life, number),
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
            } => self.hear(client, attempt, told),
            Event::Wake { client } => self.wake(client),
            Event::Follow { follower, place } => self.take(follower, place),
            Event::Fault => self.fault(),
            Event::Start { host } => self.start(host),
            Event::Continue { host } => self.go_on(host),
            Event::Own(event) => S::happen(self, event),
        }
    }
}
