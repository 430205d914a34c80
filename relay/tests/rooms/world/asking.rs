//! What clients say to hosts, and hear.

use std::{ops::Range, time::Duration};

use longspan_relay::roomlog::{group::Input, machine::Command};
use rand::RngExt;

use super::{
    Event, Story, World,
    client::{Ask, Told},
    history::Broken,
};

/// From a client to a host or back, µs.
pub const TALKING: Range<u64> = 200..20_000;
/// The wall clock at the beginning, ms.
const WALL: u64 = 1_790_000_000_000;

/// Whoever waits for a member's word.
pub enum Asker<S: Story> {
    /// A client, in this attempt.
    Client(usize, u64, Box<Ask>),
    Own(S::Asker),
}

impl<S: Story> World<S> {
    /// A client looks after itself, and after its follower.
    pub(super) fn wake(&mut self, client: usize) -> Result<(), Broken> {
        let (now, hosts) = (self.now, S::asks(self, client).len());
        let (dice, history) = (&mut self.dice, &mut self.history);
        let asks = self.clients[client].wake(now, dice, history, hosts);
        self.ask(client, asks);
        let after = self.spell(10, 120);
        self.at(after, Event::Wake { client });
        self.follow(client)
    }

    pub(super) fn hear(&mut self, client: usize, attempt: u64, told: Told) -> Result<(), Broken> {
        let (now, hosts) = (self.now, S::asks(self, client).len());
        let (dice, history) = (&mut self.dice, &mut self.history);
        let asks = self.clients[client].hear(now, dice, history, hosts, attempt, told)?;
        self.ask(client, asks);
        Ok(())
    }

    /// Says things to the client's host, in order.
    fn ask(&mut self, client: usize, asks: Vec<Ask>) {
        for ask in asks {
            let after = self.after((true, client), TALKING);
            let attempt = self.clients[client].attempt;
            let to = S::asks(self, client).start + self.clients[client].to;
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
    pub(super) fn after(&mut self, way: (bool, usize), takes: Range<u64>) -> Duration {
        let delay = Duration::from_micros(self.dice.random_range(takes));
        let last = self.words.entry(way).or_default();
        *last = (*last).max(self.now + delay);
        last.saturating_since(self.now)
    }

    pub fn tell(&mut self, client: usize, attempt: u64, told: Told) {
        let delay = Duration::from_micros(self.dice.random_range(TALKING));
        if !self.dice.random_ratio(1, 50) {
            let event = Event::Told {
                client,
                attempt,
                told,
            };
            self.at(delay, event);
        }
    }

    pub(super) fn asked(
        &mut self,
        client: usize,
        attempt: u64,
        to: usize,
        ask: Ask,
    ) -> Result<(), Broken> {
        if self.hosts[to].group.is_none() || S::turns_away(self, client, attempt, to) {
            return Ok(());
        }
        let asker = Asker::Client(client, attempt, Box::new(ask.clone()));
        let command = match ask {
            Ask::Publish(message) => Command::Publish(message),
            Ask::Held { room, session, .. } => Command::Ask { room, session },
            Ask::Read { .. } => {
                let token = self.token(to, asker);
                return self.input(to, Input::Read { token });
            }
        };
        self.propose(to, asker, command)
    }

    fn propose(&mut self, host: usize, asker: Asker<S>, command: Command) -> Result<(), Broken> {
        let wall = self.now.as_micros() / 1_000 + WALL;
        let wall = wall.saturating_add_signed(self.hosts[host].skew);
        let token = self.token(host, asker);
        let input = Input::Propose {
            token,
            command,
            wall,
        };
        self.input(host, input)
    }

    /// Puts a command of the story's own to a host's member, if it has one.
    pub fn propose_own(
        &mut self,
        host: usize,
        asker: S::Asker,
        command: Command,
    ) -> Result<(), Broken> {
        match self.hosts[host].group {
            Some(_) => self.propose(host, Asker::Own(asker), command),
            None => Ok(()),
        }
    }

    fn token(&mut self, host: usize, asker: Asker<S>) -> u64 {
        let host = &mut self.hosts[host];
        host.token += 1;
        host.tokens.insert(host.token, asker);
        host.token
    }
}
