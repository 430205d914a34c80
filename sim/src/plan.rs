//! Plans: a world and what is done to it, drawn from a seed.

use std::{fmt, time::Duration};

use longspan_lab::wan::{Jitter, Profile, Rate};
use longspan_proto::{ids::NodeId, wire::Role};
use longspan_relay::forward::{CacheConfig, Config, Limits};

use crate::{Dice, Layout, Op, Setup, Tables, What, World};

/// From the boot of all nodes until there are tables and connections: joining, a first round of
/// reports.
const SETTLE: Duration = Duration::from_secs(12);

/// How large a world is, and how long it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A few relays and edges at random distances, tables by hand and sometimes false, small caches:
    /// what forwarding does at its limits. A minute.
    Forwarding,
    /// All pure cores, over the matrix's regions.
    Backbone {
        /// Relays.
        relays: usize,
        /// Edges.
        edges: usize,
        /// Rooms, a publisher and three viewers each.
        rooms: usize,
        /// How long.
        seconds: u64,
        /// Faults in that time.
        faults: u64,
    },
}

impl Size {
    /// What every test run plays with 50 seeds.
    pub const SMALL: Size = Size::Backbone {
        relays: 24,
        edges: 15,
        rooms: 40,
        seconds: 180,
        faults: 20,
    };
    /// A mesh that is not full, as that of [`BIG`](Size::BIG) is not, soon played.
    pub const MESH: Size = Size::Backbone {
        relays: 80,
        edges: 30,
        rooms: 150,
        seconds: 300,
        faults: 30,
    };
    /// What is played by command.
    pub const BIG: Size = Size::Backbone {
        relays: 200,
        edges: 60,
        rooms: 1_000,
        seconds: 3_600,
        faults: 360,
    };
}

/// A world and what is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of the world, and of the operations.
    pub seed: u64,
    /// Of the world.
    pub size: Size,
    /// In order of time.
    pub ops: Vec<Op>,
}

impl Plan {
    /// Drawn from a seed.
    pub fn draw(seed: u64, size: Size) -> Plan {
        // The world draws from the seed too: these draws must not be the same.
        let mut dice = Dice::new(seed ^ 0x05ee_d0f0_0b5e_55ed);
        let mut ops = match size {
            Size::Forwarding => forwarding_ops(&mut dice),
            Size::Backbone {
                edges,
                rooms,
                seconds,
                faults,
                ..
            } => backbone_ops(edges, rooms, seconds, faults, &mut dice),
        };
        ops.sort_by_key(|op| op.at);
        Plan { seed, size, ops }
    }

    pub(crate) fn world(&self) -> World {
        match self.size {
            Size::Forwarding => forwarding_world(self.seed),
            Size::Backbone {
                relays,
                edges,
                rooms,
                ..
            } => backbone_world(self.seed, relays, edges, rooms),
        }
    }

    /// When the last operation is over.
    pub(crate) fn end(&self) -> Duration {
        let ends = self.ops.iter().map(|op| op.at + op.for_);
        ends.max().unwrap_or_default()
    }
}

/// The command that plays it again, and its operations.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ops: Vec<String> = self.ops.iter().map(ToString::to_string).collect();
        let test = match self.size {
            Size::Forwarding => "forwarding_keeps_the_laws_whatever_happens",
            Size::Backbone { .. } => "the_backbone_keeps_the_laws_whatever_happens",
        };
        write!(
            f,
            "SIM_SEED={} SIM_OPS='{}' cargo test -p longspan-tests sim::random::{test}",
            self.seed,
            ops.join("; ")
        )
    }
}

fn forwarding_ops(dice: &mut Dice) -> Vec<Op> {
    let mut ops = Vec::new();
    let mut at = Duration::ZERO;
    let mut push = |what, at, for_ms, dice: &mut Dice| {
        ops.push(Op {
            at,
            for_: Duration::from_millis(for_ms),
            what,
            a: dice.below(1 << 20),
            b: dice.below(1 << 20),
        });
    };
    for _ in 0..3 {
        push(What::View, at, 0, dice);
    }
    for _ in 0..60 {
        let short = dice.pick(&[20, 300, 900, 3_000, 8_000]).unwrap_or(0);
        let for_ms = short + dice.below(short);
        match dice.below(100) {
            0..6 => push(What::Publish, at, for_ms, dice),
            6..34 => {
                let stays = dice.percent(60);
                push(What::View, at, if stays { 0 } else { for_ms * 2 }, dice);
            }
            34..37 => push(What::Say, at, 0, dice),
            37..52 => push(What::Cut, at, for_ms, dice),
            52..58 => push(What::CutOneWay, at, for_ms, dice),
            58..66 => push(What::Kill, at, for_ms, dice),
            66..72 => push(What::Stop, at, for_ms, dice),
            72..84 => push(What::FalseTables, at, for_ms, dice),
            84..92 => push(What::Suspect, at, for_ms, dice),
            _ => at += Duration::from_secs(2),
        }
        at += Duration::from_millis(dice.pick(&[1, 20, 150, 600]).unwrap_or(0));
    }
    ops
}

fn backbone_ops(edges: usize, rooms: usize, seconds: u64, faults: u64, dice: &mut Dice) -> Vec<Op> {
    let mut ops = Vec::new();
    for room in 0..rooms {
        for _ in 0..3 {
            ops.push(Op {
                at: Duration::from_millis(dice.below(2_000)),
                for_: Duration::ZERO,
                what: What::View,
                a: dice.below(edges as u64),
                b: room as u64,
            });
        }
    }
    // Faults begin and end close to the same moments, so that there is quiet in between in which
    // everybody must be fed.
    let every = (seconds - 10) * 1_000 / faults;
    for n in 0..faults {
        let at = 6_000 + n * every + dice.below(300);
        let short = 50 + dice.below(1_500);
        let rounds = (1 + dice.below(2)).min(faults - n);
        let long = rounds * every + dice.below(300);
        let for_ = if dice.percent(30) { short } else { long };
        ops.push(Op::fault(
            Duration::from_millis(at),
            Duration::from_millis(for_),
            dice,
        ));
    }
    ops
}

fn forwarding_world(seed: u64) -> World {
    fn config(node: NodeId, role: Role) -> Config {
        Config {
            cache: CacheConfig {
                track_bytes: 24_000,
                node_bytes: 80_000,
                max_age: Duration::from_secs(4),
                groups: 8,
            },
            limits: Limits {
                tracks: 32,
                subscriptions_per_peer: 64,
                moves: 2,
                ..Limits::default()
            },
            linger: Duration::from_millis(500),
            hold: Duration::from_secs(1),
            ..Config::new(node, role)
        }
    }
    let mut dice = Dice::new(seed);
    let (relays, edges) = (3 + dice.below(4) as usize, 2 + dice.below(4) as usize);
    let mut layout = Layout::plain(relays, edges);
    let rate = dice.pick(&[50_000_000, 50_000_000, 300_000]).unwrap_or(0);
    let share = dice.pick(&[0.0, 0.0, 0.05, 0.5]).unwrap_or(0.0);
    let profile = Profile {
        jitter: Jitter::Uniform { share },
        rate: Some(Rate {
            bits_per_s: rate,
            queue: Duration::from_secs(2),
        }),
        ..Profile::default()
    };
    let us = Duration::from_micros;
    for a in 0..relays {
        for b in a + 1..relays {
            // A ring at least, so that nobody is alone.
            if b == a + 1 || (a == 0 && b == relays - 1) || dice.percent(50) {
                let delay = 1_000 + dice.below(120_000);
                let back = delay * (80 + dice.below(40)) / 100;
                layout.link(a, b, [us(delay), us(back)], profile.clone());
            }
        }
    }
    for edge in relays..relays + edges {
        let first = dice.below(relays as u64) as usize;
        let second = (first + 1 + dice.below(relays as u64 - 1) as usize) % relays;
        for relay in [first, second] {
            let delay = us(500 + dice.below(10_000));
            layout.link(relay, edge, [delay, delay], profile.clone());
        }
    }
    let setup = Setup {
        config,
        ..Setup::new(dice.any(), Tables::ByHand)
    };
    let slots = 2 + dice.below(4);
    let mut world = World::new(layout, setup);
    for slot in 0..slots {
        let edge = relays + dice.below(edges as u64) as usize;
        world.slot(edge, slot == 3);
    }
    world.run(Duration::from_secs(1));
    world
}

fn backbone_world(seed: u64, relays: usize, edges: usize, rooms: usize) -> World {
    let mut dice = Dice::new(seed);
    let layout = Layout::world(relays, edges, &Profile::internet(), &mut dice);
    let mut setup = Setup::new(dice.any(), Tables::Controllers(2));
    // A third of all time would be the computing of tables whose costs moved a little. Much rarer than
    // this is not possible: a table that was computed just before a link was known to be dead leads over
    // it until the next one.
    setup.recompute_every = Duration::from_secs(2);
    // The slowest that DESIGN §3 allows: probes are most of what happens.
    setup.cadence.carrying = Duration::from_millis(50);
    let mut world = World::new(layout, setup);
    for _ in 0..rooms {
        let edge = relays + dice.below(edges as u64) as usize;
        world.slot(edge, false);
    }
    world.run(SETTLE);
    world
}
