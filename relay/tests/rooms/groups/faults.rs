//! What goes wrong, from a seed.

use std::time::Duration;

use longspan_relay::roomlog::group::Input;
use rand::RngExt;

use super::{
    history::Broken,
    world::{Event, World},
};

impl World {
    /// One more fault.
    pub(crate) fn fault(&mut self) -> Result<(), Broken> {
        let hosts = self.hosts.len();
        let one = self.dice.random_range(0..hosts);
        match self.dice.random_range(0..100) {
            0..22 => {
                let tail = self.dice.random_ratio(2, 3);
                self.kill(one, tail);
                let after = self.spell(50, 3_000);
                self.at(after, Event::Start { host: one });
            }
            22..36 => {
                // The leader, at the worst time: while it writes.
                if let Some(leader) = self.leader() {
                    self.kill(leader, true);
                    let after = self.spell(50, 3_000);
                    self.at(after, Event::Start { host: leader });
                }
            }
            36..45 => {
                // One is alone.
                for other in (0..hosts).filter(|other| *other != one) {
                    self.net.cut(one, other);
                    self.net.cut(other, one);
                }
            }
            45..55 => {
                // One direction of one way, or all that one says.
                let other = self.dice.random_range(0..hosts);
                let all = self.dice.random_ratio(1, 2);
                for to in (0..hosts).filter(|to| all || *to == other) {
                    self.net.cut(one, to);
                }
            }
            55..64 => {
                let other = self.dice.random_range(0..hosts);
                let by = Duration::from_millis(self.dice.random_range(20..600));
                self.net.slow(one, other, by);
            }
            64..72 => {
                self.stop(one);
                let after = self.spell(100, 4_000);
                self.at(after, Event::Continue { host: one });
            }
            72..80 => {
                if let Some(leader) = self.leader() {
                    self.input(leader, Input::Resign)?;
                }
            }
            80..88 => self.replace()?,
            88..92 => self.hosts[one].skew += self.dice.random_range(-30_000..30_000),
            _ => self.net.heal(),
        }
        Ok(())
    }

    fn spell(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.dice.random_range(least..most))
    }
}
