//! What publishers say to relays, and hear.

use std::time::Duration;

use longspan_relay::roomlog::{group::Input, machine::Command};
use rand::RngExt;

use super::{
    client::{Ask, Told},
    history::Broken,
    world::{Event, WALL, World},
};

impl World {
    /// Says things to the client's host, in order.
    pub fn ask(&mut self, client: usize, asks: Vec<Ask>) {
        for ask in asks {
            let delay = Duration::from_micros(self.dice.random_range(200..20_000));
            let line = self.lines.entry((true, client)).or_default();
            *line = (*line).max(self.now + delay);
            let after = line.saturating_since(self.now);
            let (to, attempt) = (self.clients[client].to, self.clients[client].attempt);
            self.at(
                after,
                Event::Asked {
                    client,
                    attempt,
                    to,
                    ask,
                },
            );
        }
    }

    pub fn tell(&mut self, client: usize, attempt: u64, told: Told) {
        let delay = Duration::from_micros(self.dice.random_range(200..20_000));
        if !self.dice.random_ratio(1, 50) {
            self.at(
                delay,
                Event::Told {
                    client,
                    attempt,
                    told,
                },
            );
        }
    }

    pub fn asked(
        &mut self,
        client: usize,
        attempt: u64,
        to: usize,
        ask: Ask,
    ) -> Result<(), Broken> {
        let wall = self.wall(to);
        let host = &mut self.hosts[to];
        if host.group.is_none() {
            return Ok(());
        }
        host.token += 1;
        let token = host.token;
        host.tokens.insert(token, (client, attempt, ask.clone()));
        let command = match ask {
            Ask::Publish(message) => Command::Publish(message),
            Ask::Held { room, session, .. } => Command::Ask { room, session },
            Ask::Read { .. } => return self.input(to, Input::Read { token }),
        };
        self.input(
            to,
            Input::Propose {
                token,
                command,
                wall,
            },
        )
    }

    pub fn wall(&self, host: usize) -> u64 {
        (WALL + self.now.as_micros() / 1_000).saturating_add_signed(self.hosts[host].skew)
    }
}
