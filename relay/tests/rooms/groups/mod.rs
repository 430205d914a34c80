//! One placement group of three: its members resign, lose their disks and are replaced.

#[cfg(test)]
mod tests;

use std::{convert::Infallible, ops::Range, time::Duration};

use longspan_proto::{ids::RoomName, wire::room::Answer};
use longspan_relay::roomlog::{
    Limits,
    group::{Input, Member, Saved, Unserved},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::world::{Story, World, client::Client, history::Broken};

/// The group.
const GROUP: u64 = 1;
/// Members that there are at most, with those whose place was taken.
const MOST: usize = 8;

#[derive(Debug)]
pub struct Groups;

impl Story for Groups {
    type Event = Infallible;
    type Process = ();
    type Asker = Infallible;

    const NAME: &'static str = "roomlog";
    const SALT: u64 = 0;
    const GROUPS: u64 = 1;
    const REPEATS: bool = true;
    const FAULTS: Range<u64> = 50..1_000;
    const FOLLOWING: Range<u64> = 100..5_000;

    fn new(_clients: &[Client]) -> Groups {
        Groups
    }

    fn limits(dice: &mut ChaCha8Rng) -> Limits {
        Limits {
            session_idle: Duration::from_secs([600, 3][usize::from(dice.random_ratio(1, 8))]),
            ..Limits::default()
        }
    }

    fn process(_of: u64) {}

    fn asks(world: &World<Groups>, _client: usize) -> Range<usize> {
        0..world.hosts.len()
    }

    fn answered(
        _world: &mut World<Groups>,
        _host: usize,
        asker: Infallible,
        _result: Result<Option<Answer>, Unserved>,
    ) {
        match asker {}
    }

    fn hears(&self, event: &Infallible) -> Option<usize> {
        match *event {}
    }

    fn happen(_world: &mut World<Groups>, event: Infallible) -> Result<(), Broken> {
        match event {}
    }

    fn fault(world: &mut World<Groups>, one: usize, kind: u32) -> Result<(), Broken> {
        match kind {
            0..22 => world.strike_down(one),
            22..36 => {
                // The leader, at the worst time: while it writes.
                if let Some(leader) = world.leader(GROUP) {
                    world.restart(leader, true);
                }
            }
            36..45 => world.isolate(one),
            45..55 => world.silence(one),
            55..64 => world.slow(one),
            64..72 => world.pause(one),
            72..80 => world.resign(GROUP)?,
            80..88 => world.replace()?,
            88..92 => world.jump(one),
            _ => world.net.heal(),
        }
        Ok(())
    }

    fn keeper(world: &World<Groups>, _room: &RoomName) -> Result<usize, Broken> {
        Ok(world.host_of(GROUP, world.wanted[0]))
    }
}

impl World<Groups> {
    /// A member's disk is lost for good, and another is to take its place. One at a time, as
    /// whoever decides that must see to.
    fn replace(&mut self) -> Result<(), Broken> {
        let settled = self.leader(GROUP).is_some_and(|leader| {
            let group = self.hosts[leader].group.as_ref();
            group.is_some_and(|group| self.is_whole(group))
        });
        if !settled || self.hosts.len() >= MOST {
            return Ok(());
        }
        let gone = self.dice.random_range(0..self.wanted.len());
        let old = self.host_of(GROUP, self.wanted[gone]);
        if self.dice.random_ratio(2, 3) {
            self.kill(old, true);
            self.hosts[old].lost = true;
        }
        let new = Member(self.hosts.len() as u64 + 1);
        self.wanted[gone] = new;
        self.wanted.sort();
        self.played.count("replaced", 1);
        self.add_host(GROUP, new, Saved::default())?;
        for host in 0..self.hosts.len() {
            let wanted = self.wanted.clone();
            self.input(host, Input::Members(wanted))?;
        }
        Ok(())
    }
}
