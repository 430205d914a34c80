//! What goes wrong, from a seed; at any time, and at each step of a move.

use std::time::Duration;

use longspan_proto::time::Time;
use longspan_relay::roomlog::{group::Input, machine::Command};
use rand::RngExt;

use super::{
    history::Broken,
    world::{Event, MEMBERS, TROUBLE, World},
};

impl World {
    /// One more fault.
    pub(crate) fn fault(&mut self) -> Result<(), Broken> {
        let hosts = self.hosts.len();
        let one = self.dice.random_range(0..hosts);
        match self.dice.random_range(0..100) {
            0..15 => self.strike_down(one),
            15..28 => {
                let of = self.dice.random_range(1..=2);
                if let Some(leader) = self.leader(of) {
                    self.strike_down(leader);
                }
            }
            28..36 => self.isolate(one),
            36..44 => self.part(),
            44..52 => {
                // One direction of one way, or all that one says.
                let other = self.dice.random_range(0..hosts);
                let all = self.dice.random_ratio(1, 2);
                for to in (0..hosts).filter(|to| all || *to == other) {
                    self.net.cut(one, to);
                }
            }
            52..58 => {
                let other = self.dice.random_range(0..hosts);
                let by = Duration::from_millis(self.dice.random_range(20..600));
                self.net.slow(one, other, by);
            }
            58..66 => {
                self.stop(one);
                let after = self.spell(100, 4_000);
                self.at(after, Event::Continue { host: one });
            }
            66..74 => {
                let of = self.dice.random_range(1..=2);
                if let Some(leader) = self.leader(of) {
                    self.input(leader, Input::Resign)?;
                }
            }
            74..78 => self.hosts[one].skew += self.dice.random_range(-30_000..30_000),
            78..84 => self.controller.back = self.now + self.spell(500, 6_000),
            _ => self.net.heal(),
        }
        Ok(())
    }

    /// A step of a move is about to be put into a log: now and then something breaks right then.
    pub fn strike(&mut self, host: usize, command: &Command) -> Result<(), Broken> {
        let step = match command {
            Command::Close { .. } => "close",
            Command::Reopen { .. } => "reopen",
            Command::Gone { .. } => "gone",
            Command::Part { .. } => "part",
            Command::Open { .. } => "open",
            Command::Settled { .. } => "settled",
            _ => return Ok(()),
        };
        if self.now > Time::ZERO + TROUBLE || !self.dice.random_ratio(1, 10) {
            return Ok(());
        }
        *self.played.struck.entry(step).or_default() += 1;
        let life = self.hosts[host].life;
        match self.dice.random_range(0..5) {
            // A moment later: what was said meanwhile is out.
            0 | 1 => {
                let after = self.spell(0, 40);
                let down = self.spell(50, 3_000);
                self.at(after, Event::Kill { host, life });
                self.at(after + down, Event::Start { host });
            }
            2 => self.isolate(host),
            3 => self.part(),
            _ => {
                // Whoever leads the other group.
                let other = 3 - self.hosts[host].of;
                if let Some(leader) = self.leader(other) {
                    self.strike_down(leader);
                }
            }
        }
        Ok(())
    }

    fn strike_down(&mut self, host: usize) {
        let tail = self.dice.random_ratio(2, 3);
        self.kill(host, tail);
        let after = self.spell(50, 3_000);
        self.at(after, Event::Start { host });
    }

    /// One is alone.
    fn isolate(&mut self, one: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != one) {
            self.net.cut(one, other);
            self.net.cut(other, one);
        }
    }

    /// The groups do not hear each other.
    fn part(&mut self) {
        for a in 0..MEMBERS {
            for b in MEMBERS..2 * MEMBERS {
                self.net.cut(a, b);
                self.net.cut(b, a);
            }
        }
    }

    fn spell(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.dice.random_range(least..most))
    }
}
