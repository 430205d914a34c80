//! What may go wrong in any world. How often each does is the story's.

use std::time::Duration;

use longspan_proto::time::Time;
use longspan_relay::roomlog::group::Input;
use rand::RngExt;

use super::{Event, Story, TROUBLE, World, history::Broken};

impl<S: Story> World<S> {
    /// One more fault, and then the next.
    pub(super) fn fault(&mut self) -> Result<(), Broken> {
        if self.now >= Time::ZERO + TROUBLE {
            return Ok(());
        }
        let one = self.dice.random_range(0..self.hosts.len());
        let kind = self.dice.random_range(0..100);
        S::fault(self, one, kind)?;
        let after = Duration::from_millis(self.dice.random_range(S::FAULTS));
        self.at(after, Event::Fault);
        Ok(())
    }

    /// A process dies, more often than not with its machine, and comes back.
    pub fn strike_down(&mut self, host: usize) {
        let tail = self.dice.random_ratio(2, 3);
        self.restart(host, tail);
    }

    /// The process dies, with `tail` its machine does, and comes back.
    pub fn restart(&mut self, host: usize, tail: bool) {
        self.kill(host, tail);
        let after = self.spell(50, 3_000);
        self.start_after(after, host);
    }

    pub fn start_after(&mut self, after: Duration, host: usize) {
        self.at(after, Event::Start { host });
    }

    /// One is alone.
    pub fn isolate(&mut self, one: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != one) {
            self.net.cut(one, other);
            self.net.cut(other, one);
        }
    }

    /// One direction of one way is cut, or all that one says.
    pub fn silence(&mut self, one: usize) {
        let hosts = self.hosts.len();
        let other = self.dice.random_range(0..hosts);
        let all = self.dice.random_ratio(1, 2);
        for to in (0..hosts).filter(|to| all || *to == other) {
            self.net.cut(one, to);
        }
    }

    pub fn slow(&mut self, one: usize) {
        let other = self.dice.random_range(0..self.hosts.len());
        let by = self.spell(20, 600);
        self.net.slow(one, other, by);
    }

    /// The process hears nothing for a while.
    pub fn pause(&mut self, host: usize) {
        self.stop(host);
        let after = self.spell(100, 4_000);
        self.at(after, Event::Continue { host });
    }

    /// Whoever leads a group is to let another.
    pub fn resign(&mut self, of: u64) -> Result<(), Broken> {
        match self.leader(of) {
            Some(leader) => self.input(leader, Input::Resign),
            None => Ok(()),
        }
    }

    /// Its wall clock jumps.
    pub fn jump(&mut self, one: usize) {
        self.hosts[one].skew += self.dice.random_range(-30_000..30_000);
    }

    /// So many ms, from `least` to less than `most`.
    pub fn spell(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(self.dice.random_range(least..most))
    }
}
