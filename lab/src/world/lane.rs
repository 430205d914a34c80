//! One direction of one link in a world, followed through the world's changes. Pure, like the
//! [`Direction`] in it: each driver keeps one lane for each (from, to, net) that it carries.

use longspan_proto::{ids::Net, time::Time};
use serde::Serialize;

use super::{Who, World};
use crate::wan::{Direction, Reason, Verdict};

/// The contract: call [`Lane::follow`] after the world has changed, and [`Lane::send`] once for
/// each packet in the order of sending. Its random draws derive from the world's seed and from
/// who it joins, so that they do not depend on other lanes or on the order of making them.
#[derive(Debug, Clone)]
pub struct Lane {
    from: Who,
    to: Who,
    net: Net,
    direction: Direction,
    counts: Counts,
}

/// What a direction has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets given to it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of these packets, those lost on the way.
    pub lost: u64,
    /// Of these packets, those the bottleneck's queue had no room for.
    pub queue_full: u64,
}

impl Lane {
    /// The direction from one to the other over `net`.
    pub fn new(world: &World, from: Who, to: Who, net: Net) -> Lane {
        let (one_way, profile) = world.between(&from, &to, &net);
        let seed = seed(world.seed, &from, &to, &net);
        Lane {
            direction: Direction::new(one_way, profile, seed),
            from,
            to,
            net,
            counts: Counts::default(),
        }
    }

    /// Takes over what the world says now, from the next packet on.
    pub fn follow(&mut self, world: &World) {
        let (one_way, profile) = world.between(&self.from, &self.to, &self.net);
        self.direction.change(one_way, profile);
    }

    /// Decides over one packet of `bytes` bytes sent at `now`.
    pub fn send(&mut self, now: Time, bytes: usize) -> Verdict {
        let verdict = self.direction.send(now, bytes);
        self.counts.packets += 1;
        self.counts.bytes += bytes as u64;
        match verdict {
            Verdict::Deliver(_) => {}
            Verdict::Drop(Reason::Lost) => self.counts.lost += 1,
            Verdict::Drop(Reason::QueueFull) => self.counts.queue_full += 1,
        }
        verdict
    }

    /// What it has carried so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }
}

/// FNV-1a over the names: every direction draws its own numbers, the same ones in every run.
fn seed(world: u64, from: &Who, to: &Who, net: &Net) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ world;
    let node = |who: &Who| who.node.as_ref().map_or(String::new(), ToString::to_string);
    let names = [
        from.region.to_string(),
        node(from),
        to.region.to_string(),
        node(to),
        net.to_string(),
    ];
    for byte in names.iter().flat_map(|name| name.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        matrix::{Matrix, Split},
        wan::Profile,
        world::{Change, Everywhere},
    };

    #[test]
    fn a_lane_follows_its_world_and_counts() {
        let who = |region: &str| Who::in_region(region.parse().expect("a region"));
        let (beijing, sg) = (who("cn-beijing"), who("sg"));
        let everywhere = Everywhere::Same(Profile::default());
        let regions = [beijing.region.clone(), sg.region.clone()];
        let mut world =
            World::of_regions(&Matrix::bundled(), Split::Half, &everywhere, &regions, 1);
        let mut lane = Lane::new(&world, beijing.clone(), sg.clone(), Net::internet());
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        assert_eq!(lane.send(at(0), 10), Verdict::Deliver(at(119)));
        world
            .apply(&Change::cut("cn-beijing", "sg").one_way())
            .expect("cut");
        lane.follow(&world);
        assert_eq!(lane.send(at(1), 20), Verdict::Drop(Reason::Lost));
        // The other way still works, and draws numbers of its own.
        let mut back = Lane::new(&world, sg.clone(), beijing.clone(), Net::internet());
        assert_eq!(back.send(at(1), 20), Verdict::Deliver(at(120)));
        world
            .apply(&Change::restore("cn-beijing", "sg").one_way())
            .expect("restored");
        lane.follow(&world);
        assert_eq!(lane.send(at(200), 30), Verdict::Deliver(at(319)));
        let counts = Counts {
            packets: 3,
            bytes: 60,
            lost: 1,
            queue_full: 0,
        };
        assert_eq!(lane.counts(), counts);
        assert_ne!(
            seed(1, &beijing, &sg, &Net::internet()),
            seed(1, &sg, &beijing, &Net::internet())
        );
        assert_eq!(
            Duration::from_millis(119),
            world.between(&beijing, &sg, &Net::internet()).0
        );
    }
}
