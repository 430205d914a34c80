//! Single faults on a track's way, measured: what `longspan bench failover --sim` prints.
//!
//! A backbone of one relay and one edge a region lives through fault after fault, each repaired
//! before the next. A track of 50 frames a second crosses it from one edge to another; the fault
//! happens between two relays on its way, or to a relay in the middle of it.

use std::time::Duration;

use longspan_lab::wan::{Direction, Profile, Verdict};
use longspan_proto::{
    ids::{BootId, NodeId},
    time::Time,
    wire::probe::{LEN, Probe},
};
use longspan_topology::link::{self, Cadence, Input, Need, Prober};

use crate::{Dice, Layout, Setup, Tables, World, queue::Queue};

/// Nodes join, tables come, links are measured.
const SETTLE: Duration = Duration::from_secs(12);
/// How long a track runs before its fault: links know by then that they carry it, moves are over.
const BEFORE: Duration = Duration::from_secs(4);
/// For so long after that, bytes are counted.
const STEADY: Duration = Duration::from_secs(2);
/// How often it is looked whether the way has moved.
const LOOK: Duration = Duration::from_millis(20);
/// How long after the fault it is watched.
const AFTER: Duration = Duration::from_secs(8);
/// How long after that a frame counts as lost.
const LATE: Duration = Duration::from_secs(2);
/// How long the repair takes to be felt: a redial, fresh measures, a table.
const MEND: Duration = Duration::from_secs(12);
/// A frame of sound.
const FRAME_EVERY: Duration = Duration::from_millis(20);
/// A group a second.
const FRAMES: u64 = 50;
/// Pairs of edges that are tried until one has a way on which the fault can happen.
const PAIRS: usize = 60;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A link loses everything in both directions.
    Blackhole,
    /// A link loses everything in the direction of the track.
    OneWay,
    /// A relay is killed, and started again afterwards.
    Kill,
    /// A relay is stopped, and continued afterwards.
    Stop,
    /// A link takes 80 ms more, loses 15 % and carries 20 Mbit/s.
    Brownout,
}

/// What one fault did.
#[derive(Debug, Clone)]
pub struct Found {
    /// What failed, for people.
    pub place: String,
    /// The longest time without a frame, of those that began before the track had left its place and
    /// came again.
    pub gap: Duration,
    /// When it began, in ms after the fault: before it where the last frame before was lost.
    pub gap_began_ms: i64,
    /// The longest one after that: packets lost on the way it has now, further moves.
    pub later_gap: Duration,
    /// From whoever lost its upstream over the first new way to the nearest node that had the track.
    pub backup_rtt: Duration,
    /// From the fault until the track left its place; `None`: it did not.
    pub moved: Option<Duration>,
    /// Frames between the first and the last seen that did not come.
    pub frames_lost: u64,
    /// How often the way changed after the fault.
    pub moves: u64,
    /// The way before the fault, and the first one after it, for people.
    pub way: String,
    /// What nodes on the way did, and when after the fault.
    pub story: Vec<String>,
    /// In two seconds before the fault: media bytes over all links, and over those of the way.
    pub bytes: [u64; 2],
}

/// Faults in one world.
pub struct Series {
    world: World,
    dice: Dice,
    fault: Fault,
}

impl Series {
    /// A backbone over so many regions, drawn by seed; `profile` lies over every link.
    pub fn new(seed: u64, regions: usize, profile: &Profile, fault: Fault) -> Series {
        let mut dice = Dice::new(seed);
        let layout = Layout::drawn(regions, profile, &mut dice);
        let setup = Setup::new(dice.any(), Tables::Controllers(1));
        let mut world = World::new(layout, setup);
        world.run(SETTLE);
        Series { world, dice, fault }
    }

    /// From now on there are neither controllers nor a store.
    pub fn without_control(&mut self) {
        self.world.kill_controller(0);
        self.world.lose_store();
    }

    /// One fault; `None`: no way on which it could happen was found.
    pub fn trial(&mut self) -> Option<Found> {
        let place = self.begin()?;
        let (viewer, at) = (place.viewer, self.world.now);
        let moves = self.world.viewers[viewer].moves;
        self.world.viewers[viewer].seen.longest_gap = Duration::ZERO;
        let what = self.strike(&place);
        let Watched { moved, healed } = self.watch(&place, at, AFTER);
        let world = &mut self.world;
        let (gap, began) = healed.unwrap_or_else(|| longest(world, viewer, at));
        let later_gap = match healed {
            Some(_) => longest(world, viewer, at).0,
            None => Duration::ZERO,
        };
        // What is sent again of a group may come after the next ones.
        let newest = world.viewers[viewer].seen.newest();
        world.run(LATE);
        let (moved, after) = moved.unzip();
        let way = |nodes: &[usize]| {
            let names: Vec<&str> = nodes
                .iter()
                .map(|n| world.layout.name(*n).as_str())
                .collect();
            names.join(" ")
        };
        let way = format!(
            "{}; then {}",
            way(&place.path),
            way(after.as_deref().unwrap_or_default())
        );
        let found = Found {
            place: what,
            gap,
            gap_began_ms: (began.as_micros() as i64 - at.as_micros() as i64) / 1_000,
            later_gap,
            backup_rtt: after.map_or(Duration::ZERO, |after| way_back(world, &place, &after)),
            moved,
            frames_lost: world.missing_before(viewer, newest),
            moves: world.viewers[viewer].moves - moves,
            way,
            story: story(world, viewer, at),
            bytes: place.bytes,
        };
        self.repair(&place);
        self.end(viewer);
        self.world.run(MEND);
        Some(found)
    }

    /// How often the way moves while the fault stands for so long.
    pub fn moves_within(&mut self, time: Duration) -> Option<u64> {
        let place = self.begin()?;
        self.strike(&place);
        let moves = self.world.viewers[place.viewer].moves;
        self.world.run_until(self.world.now + time);
        let moves = self.world.viewers[place.viewer].moves - moves;
        self.repair(&place);
        self.end(place.viewer);
        Some(moves)
    }

    fn strike(&mut self, place: &Place) -> String {
        let world = &mut self.world;
        let (upper, lower) = (place.path[place.upper], place.path[place.lower]);
        let victim = place.path[place.lower - 1];
        let name = |n: usize| world.layout.name(n).clone();
        let between = format!("{} → {}", name(upper), name(lower));
        let victims = name(victim);
        match (self.fault, world.link_of(upper, lower)) {
            (Fault::Kill, _) => {
                world.kill(victim);
                format!("{victims} killed")
            }
            (Fault::Stop, _) => {
                world.stop(victim);
                format!("{victims} stopped")
            }
            (Fault::Blackhole, Some(link)) => {
                world.cut(link, None);
                format!("{between} cut")
            }
            (Fault::OneWay, Some(link)) => {
                let side = usize::from(world.layout.links[link].a != upper);
                world.cut(link, Some(side));
                format!("{between} cut one way")
            }
            (Fault::Brownout, Some(link)) => {
                world.brown_out(link);
                format!("{between} browned out")
            }
            (_, None) => unreachable!("a way crosses links"),
        }
    }

    fn repair(&mut self, place: &Place) {
        let world = &mut self.world;
        let (upper, lower) = (place.path[place.upper], place.path[place.lower]);
        let victim = place.path[place.lower - 1];
        match (self.fault, world.link_of(upper, lower)) {
            (Fault::Kill, _) => world.restart(victim),
            (Fault::Stop, _) => world.go_on(victim),
            (_, Some(link)) => world.heal(link),
            (_, None) => {}
        }
    }

    fn end(&mut self, viewer: usize) {
        let slot = self.world.viewers[viewer].slot;
        self.world.leave(viewer);
        self.world.unpublish(slot);
    }

    /// Runs on after the fault.
    fn watch(&mut self, place: &Place, at: Time, time: Duration) -> Watched {
        let name = |n: &usize| self.world.layout.name(*n).clone();
        let bad = &place.path[place.upper..=place.lower];
        let bad: Vec<NodeId> = bad.iter().map(name).collect();
        let (mut moved, mut healed) = (None, None);
        while self.world.now < at + time {
            self.world.run_until(self.world.now + LOOK);
            let now = &self.world.viewers[place.viewer].seen.path;
            if moved.is_none() && !now.windows(bad.len()).any(|way| way == bad) {
                let took = self.world.now.saturating_since(at);
                moved = Some((took, self.way(place.viewer)));
            }
            let seen = &self.world.viewers[place.viewer].seen;
            if let Some((took, _)) = moved
                && healed.is_none()
                && seen.last_frame.is_some_and(|last| last > at + took)
            {
                healed = Some((seen.longest_gap, seen.longest_from));
                self.world.viewers[place.viewer].seen.longest_gap = Duration::ZERO;
            }
        }
        Watched { moved, healed }
    }

    /// A track between two edges on whose way the fault can happen, which has run for a while.
    fn begin(&mut self) -> Option<Place> {
        let relays = self.world.layout.relays;
        let edges = self.world.layout.nodes.len() - relays;
        for _ in 0..PAIRS {
            let origin = relays + self.dice.below(edges as u64) as usize;
            let at = relays + self.dice.below(edges as u64) as usize;
            if origin == at {
                continue;
            }
            let slot = self.world.sound(origin, FRAME_EVERY, FRAMES);
            self.world.publish(slot);
            let viewer = self.world.view(at, slot, 0);
            self.world.run_until(self.world.now + BEFORE);
            let path = self.way(viewer);
            if let Some((upper, lower)) = self.choose(&path) {
                let before = self.media(&path);
                self.world.run_until(self.world.now + STEADY);
                let flows = self.world.viewers[viewer].seen.frames > 100;
                if flows && self.way(viewer) == path {
                    let after = self.media(&path);
                    let bytes = [0, 1].map(|n| after[n] - before[n]);
                    return Some(Place {
                        viewer,
                        path,
                        upper,
                        lower,
                        bytes,
                    });
                }
            }
            self.end(viewer);
            self.world
                .run_until(self.world.now + Duration::from_secs(1));
        }
        None
    }

    /// Media bytes so far: over all links, and over those of a way.
    fn media(&self, path: &[usize]) -> [u64; 2] {
        let world = &self.world;
        let all = (0..world.layout.links.len()).map(|link| world.bytes(link)[0]);
        let ends = path.windows(2);
        let own = ends.filter_map(|ends| world.link_of(ends[0], ends[1]));
        [all.sum(), own.map(|link| world.bytes(link)[0]).sum()]
    }

    fn way(&self, viewer: usize) -> Vec<usize> {
        let path = &self.world.viewers[viewer].seen.path;
        path.iter().map(|n| self.world.layout.index(n)).collect()
    }

    /// On a way of edge, relays, edge: one of its links between relays, or a relay in the middle.
    fn choose(&mut self, path: &[usize]) -> Option<(usize, usize)> {
        let last = path.len().checked_sub(2)?;
        match self.fault {
            Fault::Blackhole | Fault::OneWay | Fault::Brownout => {
                let links = last.checked_sub(1).filter(|n| *n > 0)?;
                let upper = 1 + self.dice.below(links as u64) as usize;
                Some((upper, upper + 1))
            }
            Fault::Kill | Fault::Stop => {
                let middle = last.checked_sub(2).filter(|n| *n > 0)?;
                let at = 2 + self.dice.below(middle as u64) as usize;
                Some((at - 1, at + 1))
            }
        }
    }
}

struct Place {
    viewer: usize,
    path: Vec<usize>,
    upper: usize,
    lower: usize,
    bytes: [u64; 2],
}

struct Watched {
    /// When the track had left its place, after the fault, and its way then.
    moved: Option<(Duration, Vec<usize>)>,
    /// The longest gap until it came again, and when it began.
    healed: Option<(Duration, Time)>,
}

/// The longest gap that a viewer has seen or sees now, and when it began.
fn longest(world: &World, viewer: usize, fault: Time) -> (Duration, Time) {
    let seen = &world.viewers[viewer].seen;
    let last = seen.last_frame.unwrap_or(fault);
    let silent = (world.now.saturating_since(last), last);
    silent.max((seen.longest_gap, seen.longest_from))
}

/// What nodes tell of their failovers of a viewer's track since the fault.
fn story(world: &World, viewer: usize, fault: Time) -> Vec<String> {
    let track = &world.viewers[viewer].seen.track;
    let mut told = Vec::new();
    for (at, node) in world.nodes.iter().enumerate() {
        let ms = |local: Time| {
            let at = node.clock.when(local);
            at.as_micros() as i64 / 1_000 - fault.as_micros() as i64 / 1_000
        };
        let failovers = node.core.iter().flat_map(|core| core.failovers());
        for failover in failovers.filter(|f| f.track == *track && ms(f.taken_at) >= 0) {
            let way = |way: &Vec<NodeId>| {
                let nodes: Vec<&str> = way.iter().map(NodeId::as_str).collect();
                nodes.join(" ")
            };
            let asked: Vec<String> = failover.asked.iter().map(way).collect();
            told.push(format!(
                "{}: {:?} at {} ms, asked for {}, {} at {}, confirmed {:?}, taken {}, refused {:?}",
                world.layout.name(at),
                failover.trouble,
                ms(failover.since),
                asked.join(" or "),
                failover.to,
                ms(failover.asked_at),
                failover.confirmed_at.map(ms),
                ms(failover.taken_at),
                failover.refused,
            ));
        }
    }
    told
}

/// The round trip, without jitter, of the new way's part from the nearest node that had the track
/// above the fault to the first node below it.
fn way_back(world: &World, place: &Place, after: &[usize]) -> Duration {
    let (above, below) = (&place.path[..=place.upper], &place.path[place.lower..]);
    let Some(to) = after.iter().position(|node| below.contains(node)) else {
        return Duration::ZERO;
    };
    let from = after[..to].iter().rposition(|node| above.contains(node));
    let way = &after[from.unwrap_or(0)..=to];
    let links = way
        .windows(2)
        .filter_map(|ends| world.link_of(ends[0], ends[1]));
    links.map(|link| world.rtt(link)).sum()
}

/// What two probers said of one link.
#[derive(Debug, Clone, Copy, Default)]
pub struct Verdicts {
    /// Ends times hours.
    pub end_hours: f64,
    /// Suspicions.
    pub suspected: u64,
    /// Verdicts, all of them false.
    pub down: u64,
}

/// Two probers watch one link on which nothing but probes flows and which never fails, for so long.
pub fn verdicts(
    seed: u64,
    one_way: Duration,
    profiles: [Profile; 2],
    need: Need,
    hours: f64,
) -> Verdicts {
    let mut dice = Dice::new(seed);
    let mut ways = profiles.map(|profile| Direction::new(one_way, profile, dice.any()));
    let boots = [BootId(1), BootId(2)];
    let begin = Time::from_micros(1_000_000);
    let mut ends = [0, 1].map(|side| {
        let mut prober = Prober::new(begin, boots[side], boots[1 - side], Cadence::default());
        let _ = prober.handle(begin, Input::Need(need));
        prober
    });
    let mut queue: Queue<(usize, Option<Probe>)> = Queue::new();
    let mut due = [begin; 2];
    for side in 0..2 {
        queue.push(begin, (side, None));
    }
    let mut found = Verdicts {
        end_hours: 2.0 * hours,
        ..Verdicts::default()
    };
    let end = begin + Duration::from_secs_f64(hours * 3_600.0);
    while let Some((now, (side, probe))) = queue.pop(end) {
        match probe {
            Some(probe) => drop(ends[side].handle(now, Input::Probe(probe))),
            None if due[side] > now => continue,
            None => due[side] = end,
        }
        ends[side].handle_timeout(now);
        while let Some(probe) = ends[side].poll_probe(now) {
            if let Verdict::Deliver(at) = ways[side].send(now, LEN + 28) {
                queue.push(at, (1 - side, Some(probe)));
            }
        }
        while let Some(event) = ends[side].poll_event() {
            match event {
                link::Event::Suspect(_) => found.suspected += 1,
                link::Event::Down(_) => found.down += 1,
                link::Event::Up => {}
            }
        }
        let at = ends[side].poll_timeout().map_or(end, |at| at.max(now));
        if at < due[side] || due[side] <= now {
            due[side] = at;
            queue.push(at, (side, None));
        }
    }
    found
}
