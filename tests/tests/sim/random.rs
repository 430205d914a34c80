//! Random operations from a seed; then everything is repaired, and everyone must be fed again.

use std::time::Duration;

use longspan_proto::{ids::NodeId, wire::Role};
use longspan_relay::forward::{CacheConfig, Config, Limits};
use longspan_topology::link::Life;

use super::{Dice, graph::Graph, world::World};

/// Seeds that every run tries.
const SEEDS: u64 = 200;
/// Operations of one seed.
const OPS: u64 = 60;
/// Everyone is fed again so long after the last repair: the longest pause between two rounds of
/// a search (1 s), an unanswered subscription (750 ms) at each of a few hops, and a viewer's own
/// pause before it asks again.
const FED_WITHIN: Duration = Duration::from_secs(6);

#[derive(Debug)]
enum Op {
    Publish,
    Unpublish,
    View,
    Leave,
    Say,
    Cut,
    CutOneWay,
    Heal,
    Kill,
    Restart,
    Tables,
    FalseTables,
    Suspect,
    Cost,
    Wait,
}

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

fn world(seed: u64) -> World {
    let mut dice = Dice::new(seed);
    let (relays, edges) = (3 + dice.below(4) as usize, 2 + dice.below(4) as usize);
    let mut graph = Graph::new(relays, edges);
    for a in 0..relays {
        for b in a + 1..relays {
            // A ring at least, so that nobody is alone.
            if b == a + 1 || (a == 0 && b == relays - 1) || dice.percent(50) {
                let delay = 1_000 + dice.below(120_000);
                let back = delay * (80 + dice.below(40)) / 100;
                graph.link(a, b, [delay, back]);
            }
        }
    }
    for edge in relays..relays + edges {
        let first = dice.below(relays as u64) as usize;
        let second = (first + 1 + dice.below(relays as u64 - 1) as usize) % relays;
        for relay in [first, second] {
            let delay = 500 + dice.below(10_000);
            graph.link(relay, edge, [delay, delay]);
        }
    }
    let jitter_us = dice.pick(&[0, 0, 2_000, 20_000]).unwrap_or(0);
    let rate = dice.pick(&[50_000_000, 50_000_000, 300_000]).unwrap_or(0);
    let slots = 2 + dice.below(4);
    let mut world = World::new(graph, dice, config);
    world.jitter_us = jitter_us;
    world.rate = rate;
    for slot in 0..slots {
        let edge = relays + world.dice.below(edges as u64) as usize;
        world.slot(edge, slot == 3);
    }
    world.run(Duration::from_millis(400));
    world
}

fn operate(world: &mut World, op: &Op) {
    let edges: Vec<usize> = (world.graph.relays..world.nodes.len()).collect();
    let slots: Vec<usize> = (0..world.slots.len()).collect();
    let links = |up: bool, world: &World| -> Vec<usize> {
        let links = world.graph.links.iter().enumerate();
        links
            .filter(|(_, l)| l.up == up)
            .map(|(at, _)| at)
            .collect()
    };
    let nodes = |alive: bool, world: &World| -> Vec<usize> {
        (0..world.nodes.len())
            .filter(|n| world.alive(*n) == alive)
            .collect()
    };
    match op {
        Op::Publish => {
            let slot = world.dice.pick(&slots).unwrap_or(0);
            world.publish(slot);
        }
        Op::Unpublish => {
            let slot = world.dice.pick(&slots).unwrap_or(0);
            world.unpublish(slot);
        }
        Op::View => {
            let live: Vec<_> = slots
                .iter()
                .copied()
                .filter(|s| world.slots[*s].live)
                .collect();
            let node = world.dice.pick(&edges).unwrap_or(0);
            if let Some(slot) = world.dice.pick(&live)
                && world.alive(node)
            {
                let budget = world.dice.pick(&[0, 0, 300, 1_000]).unwrap_or(0);
                world.view(node, slot, budget);
            }
        }
        Op::Leave => {
            let viewers: Vec<_> = (0..world.viewers.len()).collect();
            if let Some(viewer) = world.dice.pick(&viewers) {
                world.leave(viewer);
            }
        }
        Op::Say => {
            for slot in slots {
                world.say_more(slot);
            }
        }
        Op::Cut | Op::CutOneWay => {
            let up = links(true, world);
            let only = matches!(op, Op::CutOneWay).then(|| world.dice.below(2) as usize);
            if let Some(link) = world.dice.pick(&up) {
                world.cut(link, only);
            }
        }
        Op::Heal => {
            let down = links(false, world);
            if let Some(link) = world.dice.pick(&down) {
                world.heal(link);
            }
        }
        Op::Kill => {
            let alive = nodes(true, world);
            if let Some(node) = world.dice.pick(&alive) {
                world.kill(node);
            }
        }
        Op::Restart => {
            let dead = nodes(false, world);
            if let Some(node) = world.dice.pick(&dead) {
                world.restart(node);
            }
        }
        Op::Tables => world.tables(&|_, _| 100),
        Op::FalseTables => {
            let salt = world.dice.below(u64::MAX);
            world.tables(&|node, link| {
                let seed = salt ^ (node as u64) << 32 ^ link as u64;
                20 + Dice::new(seed).below(300)
            });
        }
        Op::Suspect => {
            let up = links(true, world);
            let side = world.dice.below(2) as usize;
            let lives = [Life::Up, Life::Up, Life::Suspect, Life::Suspect, Life::Down];
            let life = world.dice.pick(&lives).unwrap_or(Life::Up);
            if let Some(link) = world.dice.pick(&up) {
                world.judge(link, side, life);
            }
        }
        Op::Cost => {
            let up = links(true, world);
            let side = world.dice.below(2) as usize;
            let extra_us = world.dice.pick(&[0, 4_000, 80_000]).unwrap_or(0);
            if let Some(link) = world.dice.pick(&up) {
                world.cost(link, side, extra_us);
            }
        }
        Op::Wait => world.run(Duration::from_secs(2)),
    }
}

fn op(dice: &mut Dice) -> Op {
    match dice.below(100) {
        0..8 => Op::Publish,
        8..10 => Op::Unpublish,
        10..34 => Op::View,
        34..40 => Op::Leave,
        40..43 => Op::Say,
        43..52 => Op::Cut,
        52..55 => Op::CutOneWay,
        55..69 => Op::Heal,
        69..72 => Op::Kill,
        72..77 => Op::Restart,
        77..82 => Op::Tables,
        82..88 => Op::FalseTables,
        88..93 => Op::Suspect,
        93..96 => Op::Cost,
        _ => Op::Wait,
    }
}

fn run(seed: u64) {
    let mut world = world(seed);
    for slot in 0..world.slots.len() {
        world.publish(slot);
    }
    for _ in 0..3 {
        operate(&mut world, &Op::View);
    }
    for _ in 0..OPS {
        let op = op(&mut world.dice);
        operate(&mut world, &op);
        let pause = world.dice.pick(&[1, 20, 150, 600]).unwrap_or(0);
        world.run(Duration::from_millis(pause));
    }
    repair(&mut world);
    fed(&mut world);
    if world.trace {
        let left = world.viewers.iter().filter(|v| !v.gone).count();
        let frames: u64 = world.viewers.iter().map(|v| v.seen.frames).sum();
        let returns: u64 = world.viewers.iter().map(|v| v.returns).sum();
        eprintln!(
            "{} viewers, {left} left, {frames} frames, {returns} returns",
            world.viewers.len()
        );
        for node in &world.nodes {
            eprintln!("{:?}", node.core.as_ref().map(|core| core.stats()));
        }
    }
    rest(&mut world);
}

fn repair(world: &mut World) {
    for node in 0..world.nodes.len() {
        world.restart(node);
    }
    for link in 0..world.graph.links.len() {
        if !world.graph.links[link].up {
            world.heal(link);
        }
        for side in 0..2 {
            world.suspect(link, side, false);
            world.cost(link, side, 0);
        }
    }
    for slot in 0..world.slots.len() {
        world.publish(slot);
    }
    world.tables(&|_, _| 100);
    world.run(FED_WITHIN);
}

/// Each viewer that is still there gets what is published now.
fn fed(world: &mut World) {
    let before: Vec<u64> = world.viewers.iter().map(|v| v.seen.frames).collect();
    let calm = |world: &World| -> Vec<_> {
        let stats = world
            .nodes
            .iter()
            .filter_map(|n| Some(n.core.as_ref()?.stats()));
        stats
            .map(|s| (s.upstream_lost, s.moves_done, s.moves_failed))
            .collect()
    };
    let settled = calm(world);
    operate(world, &Op::Say);
    world.run(Duration::from_secs(3));
    assert_eq!(calm(world), settled, "still looking for better, by node");
    for (viewer, before) in world.viewers.iter().zip(before) {
        if viewer.gone {
            continue;
        }
        let frames = viewer.seen.frames;
        let who = format!("{:?} at {}", viewer.seen, viewer.node);
        if world.slots[viewer.slot].catalog {
            assert!(
                frames > before && viewer.seen.dropped.is_empty(),
                "no catalog: {who}"
            );
        } else if world.rate > 1_000_000 {
            // 15 were published; the first or last may be on their way.
            assert!(
                frames - before >= 12,
                "starves ({}): {who}",
                frames - before
            );
        } else {
            assert!(frames > before, "starves: {who}");
        }
    }
}

/// When everyone has left, nothing is taken from anyone, and then nothing is held.
fn rest(world: &mut World) {
    for viewer in 0..world.viewers.len() {
        world.leave(viewer);
    }
    world.run(Duration::from_secs(20));
    for (at, node) in world.nodes.iter().enumerate() {
        let name = &world.graph.names[at];
        let Some(core) = &node.core else { continue };
        let stats = core.stats();
        let foreign = |t: &&longspan_relay::forward::TrackView| t.chain.len() != 1;
        let left: Vec<_> = core.tracks().into_iter().filter(|t| foreign(&t)).collect();
        assert!(left.is_empty(), "{name} still has {left:?}");
        assert_eq!((stats.subscriptions, stats.moves), (0, 0), "{name}");
    }
}

/// More of them when asked (`SIM_SEEDS`).
fn seeds() -> u64 {
    let asked = std::env::var("SIM_SEEDS").ok().and_then(|s| s.parse().ok());
    asked.unwrap_or(SEEDS)
}

/// Tells the seed when a run panics.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed: SIM_SEED={}", self.0);
        }
    }
}

#[test]
fn whatever_happens_the_laws_hold() {
    let halves = [0, 1].map(|half| {
        std::thread::spawn(move || {
            for seed in (0..seeds()).filter(|s| s % 2 == half) {
                let told = Seed(seed);
                run(seed);
                drop(told);
            }
        })
    });
    for half in halves {
        half.join().expect("no seed fails");
    }
}

#[test]
fn one_seed() {
    let seed = std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or(1_000);
    let told = Seed(seed);
    run(seed);
    drop(told);
}
