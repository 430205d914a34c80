//! What goes wrong, from a seed; at any time, and at each step of a move.

use longspan_proto::time::Time;
use longspan_relay::roomlog::machine::Command;
use rand::RngExt;

use super::{Event, GROUPS, Moves, hosts};
use crate::world::{TROUBLE, World, history::Broken};

impl World<Moves> {
    pub fn break_one(&mut self, one: usize, kind: u32) -> Result<(), Broken> {
        match kind {
            0..15 => self.strike_down(one),
            15..28 => {
                let of = self.dice.random_range(1..=GROUPS);
                if let Some(leader) = self.leader(of) {
                    self.strike_down(leader);
                }
            }
            28..36 => self.isolate(one),
            36..44 => self.part(),
            44..52 => self.silence(one),
            52..58 => self.slow(one),
            58..66 => self.pause(one),
            66..74 => {
                let of = self.dice.random_range(1..=GROUPS);
                self.resign(of)?;
            }
            74..78 => self.jump(one),
            78..84 => self.story.controller.back = self.now + self.spell(500, 6_000),
            _ => self.net.heal(),
        }
        Ok(())
    }

    /// A step of a move is about to be put into a log: now and then something breaks right then.
    pub fn strike(&mut self, host: usize, command: &Command) -> Result<(), Broken> {
        let step = match command {
            Command::Close { .. } => "struck at close",
            Command::Reopen { .. } => "struck at reopen",
            Command::Gone { .. } => "struck at gone",
            Command::Part { .. } => "struck at part",
            Command::Open { .. } => "struck at open",
            Command::Settled { .. } => "struck at settled",
            _ => return Ok(()),
        };
        if self.now > Time::ZERO + TROUBLE || !self.dice.random_ratio(1, 10) {
            return Ok(());
        }
        self.played.count(step, 1);
        let life = self.hosts[host].life;
        match self.dice.random_range(0..5) {
            // A moment later: what was said meanwhile is out.
            0 | 1 => {
                let after = self.spell(0, 40);
                let down = self.spell(50, 3_000);
                self.at_own(after, Event::Kill { host, life });
                self.start_after(after + down, host);
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

    /// The groups do not hear each other.
    fn part(&mut self) {
        for a in hosts(1) {
            for b in hosts(2) {
                self.net.cut(a, b);
                self.net.cut(b, a);
            }
        }
    }
}
