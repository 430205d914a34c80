//! What trying every path of at most four links finds, against what is computed.

use longspan_proto::wire::Role;
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::world::{Edge, World};
use super::*;
use crate::graph::{Node, Transit};

/// A path and what it is worth. Ordered as paths are: tolls, shared relays and links, lateness,
/// price, cost, length, nodes.
type Worth = (u32, (usize, usize), bool, u64, i64, usize, Vec<usize>);

#[derive(Debug, Clone)]
struct Found<'a> {
    mids: Vec<usize>,
    /// In the direction of frames, the one that ends at the path's beginning first.
    links: Vec<&'a Edge>,
    cost_us: i64,
    told_us: i64,
    price: u64,
    tolls: u32,
}

impl Found<'_> {
    fn nets(&self) -> Vec<&str> {
        self.links.iter().map(|link| link.net.as_str()).collect()
    }
}

/// Every simple path, over every net.
fn all(world: &World, from: usize, to: usize) -> Vec<Found<'_>> {
    let allowed =
        |n: usize| world.nodes[n].1.role == Role::Edge || world.class.allows(&world.nodes[n].1);
    let mut found = Vec::new();
    let start = Found {
        mids: Vec::new(),
        links: Vec::new(),
        cost_us: 0,
        told_us: 0,
        price: 0,
        tolls: 0,
    };
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        let at = path.mids.last().copied().unwrap_or(from);
        for link in world
            .links
            .iter()
            .filter(|link| link.to == at && !link.cordoned)
        {
            let next = link.from;
            if next == from || path.mids.contains(&next) || !allowed(next) || !allowed(at) {
                continue;
            }
            let mut longer = path.clone();
            longer.links.push(link);
            let by_round_trip = longer
                .links
                .iter()
                .map(|link| link.rtt_us as i64 / 2 - link.raw_us);
            longer.cost_us = world.cost_us(longer.links.iter().copied());
            longer.told_us = longer.cost_us + by_round_trip.sum::<i64>();
            longer.price += u64::from(link.price);
            longer.tolls += u32::from(link.full);
            if next == to {
                found.push(longer);
                continue;
            }
            let node = &world.nodes[next].1;
            if node.role == Role::Edge || node.transit == Transit::Closed || path.mids.len() == 3 {
                continue;
            }
            longer.tolls += u32::from(node.transit == Transit::Draining);
            longer.mids.push(next);
            open.push(longer);
        }
    }
    found
}

fn links(from: usize, to: usize, mids: &[usize]) -> Vec<(usize, usize)> {
    let nodes: Vec<usize> = [from]
        .into_iter()
        .chain(mids.iter().copied())
        .chain([to])
        .collect();
    nodes.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

/// The best, and the best apart from it.
fn best(world: &World, from: usize, to: usize) -> Option<(Found<'_>, Option<Found<'_>>)> {
    let all = all(world, from, to);
    let is_priced = world.links.iter().any(|link| link.price > 0);
    // Of two nets that cost the same the first by name, which tells by which round trips the
    // latency is estimated.
    let quickest = all
        .iter()
        .min_by_key(|f| (f.tolls, f.cost_us, f.mids.len(), f.mids.clone(), f.nets()))?;
    let budget = world.class.mode.budget().as_micros() as i64;
    let worth = |f: &Found<'_>, primary: Option<&Found<'_>>| -> Worth {
        let shared = primary.map_or((0, 0), |p| {
            let theirs = links(from, to, &p.mids);
            let mids = f.mids.iter().filter(|mid| p.mids.contains(mid)).count();
            (
                mids,
                links(from, to, &f.mids)
                    .iter()
                    .filter(|l| theirs.contains(l))
                    .count(),
            )
        });
        let is_late = is_priced && f.cost_us - quickest.cost_us + quickest.told_us > budget;
        let price = if is_priced && !is_late { f.price } else { 0 };
        (
            f.tolls,
            shared,
            is_late,
            price,
            f.cost_us,
            f.mids.len(),
            f.mids.clone(),
        )
    };
    let primary = all.iter().min_by_key(|f| worth(f, None))?;
    let others = all.iter().filter(|f| f.mids != primary.mids);
    let backup = others.min_by_key(|f| worth(f, Some(primary)));
    Some((primary.clone(), backup.cloned()))
}

fn check(world: &World) -> Result<(), TestCaseError> {
    let graph = world.graph();
    let paths = Paths::new(&graph, &world.class);
    for from in 0..world.nodes.len() {
        for to in (0..graph.relays()).filter(|to| *to != from) {
            let pair = paths.pair(from, to);
            let found = [pair.best, pair.backup].into_iter().filter(Way::is_some);
            let found: Vec<(Vec<usize>, i64, u32)> = found
                .map(|way| {
                    let mids = way.mids().iter().map(|mid| usize::from(*mid));
                    (
                        mids.collect(),
                        way_cost(world, &graph, &way, from, to),
                        way.tolls() as u32,
                    )
                })
                .collect();
            let wanted = best(world, from, to).into_iter();
            let wanted = wanted.flat_map(|(primary, backup)| [Some(primary), backup]);
            let wanted: Vec<_> = wanted
                .flatten()
                .map(|f| (f.mids, f.cost_us, f.tolls))
                .collect();
            prop_assert_eq!(
                found,
                wanted,
                "{} > {}",
                &world.nodes[from].0,
                &world.nodes[to].0
            );
        }
    }
    Ok(())
}

/// The sum of the links it says it takes, without clocks.
fn way_cost(world: &World, graph: &Graph, way: &Way, from: usize, to: usize) -> i64 {
    let links = way.links(from, to).map(|(a, b, net)| {
        let net = graph.weights(a, b)[net].net.as_str();
        let mut links = world.links.iter();
        let link = links.find(|l| (l.to, l.from, l.net.as_str()) == (a, b, net));
        link.unwrap()
    });
    world.cost_us(links)
}

/// Of a link: ms one way and of jitter, price, full, cordoned; sometimes a second net, of the same
/// jitter.
type Drawn = Option<((i64, u64), u32, bool, bool, Option<(i64, u32)>)>;

fn links_of(prices: Vec<u32>) -> impl Strategy<Value = Drawn> {
    let rare = || prop::bool::weighted(0.1);
    // Few values, so that equals are met as well.
    let ms = || prop_oneof![1i64..8, 1i64..200];
    let price = select(prices);
    let second = option::weighted(0.15, (ms(), price.clone()));
    let jitter = prop_oneof![Just(0u64), 0u64..4_000, 0u64..80_000];
    option::weighted(0.6, ((ms(), jitter), price, rare(), rare(), second))
}

fn worlds(prices: Vec<u32>) -> impl Strategy<Value = World> {
    (2usize..=6, 0usize..=1).prop_flat_map(move |(relays, edges)| {
        let nodes = relays + edges;
        let transit = prop_oneof![
            8 => Just(Transit::Open), 1 => Just(Transit::Draining), 1 => Just(Transit::Closed)
        ];
        let country = select(vec![None, Some(*b"CN"), Some(*b"CN"), Some(*b"SG")]);
        let residency = prop_oneof![
            3 => Just(vec![]), 1 => Just(vec![*b"CN"]), 1 => Just(vec![*b"CN", *b"SG"])
        ];
        let mode = select(vec![Mode::Interactive, Mode::Lecture, Mode::Broadcast]);
        (
            vec(links_of(prices.clone()), nodes * relays),
            vec(-10_000_000i64..10_000_000, nodes),
            vec((transit, country), nodes),
            (mode, residency),
        )
            .prop_map(move |(drawn, ahead_us, kinds, (mode, residency))| {
                world(
                    relays,
                    drawn,
                    ahead_us,
                    kinds,
                    Class {
                        mode,
                        residency: residency.into_iter().collect(),
                    },
                )
            })
    })
}

fn world(
    relays: usize,
    drawn: Vec<Drawn>,
    ahead_us: Vec<i64>,
    kinds: Vec<(Transit, Option<[u8; 2]>)>,
    class: Class,
) -> World {
    let mut world = World {
        ahead_us,
        class,
        ..World::default()
    };
    for (at, (transit, country)) in kinds.into_iter().enumerate() {
        let role = if at < relays { Role::Relay } else { Role::Edge };
        world.nodes.push((
            format!("n{at:02}"),
            Node {
                role,
                country,
                transit,
            },
        ));
    }
    let drawn_ms = drawn.clone();
    for (at, link) in drawn.into_iter().enumerate() {
        // From relays to any node.
        let (to, from) = (at / relays, at % relays);
        let (Some(((ms, jitter_us), price, full, cordoned, second)), true) = (link, from != to)
        else {
            continue;
        };
        // Round trips are the sum of both ways where there is a way back.
        let back = if to < relays {
            drawn_ms[from * relays + to]
        } else {
            None
        };
        let link = Edge {
            from,
            to,
            net: "internet".into(),
            raw_us: ms * 1_000,
            rtt_us: (ms + back.map_or(ms, |b| b.0.0)) as u64 * 1_000,
            jitter_us,
            loss: 0.0,
            price,
            full,
            cordoned,
        };
        if let Some((ms, price)) = second {
            let (net, raw_us) = ("lease".to_owned(), ms * 1_000);
            let rtt_us = ms as u64 * 2_000;
            world.links.push(Edge {
                net,
                raw_us,
                rtt_us,
                price,
                full: false,
                cordoned: false,
                ..link.clone()
            });
        }
        world.links.push(link);
    }
    world
}

use crate::policy::Mode;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn paths_are_what_trying_all_finds(world in worlds(vec![0])) {
        check(&world)?;
    }

    #[test]
    fn with_prices_as_well(world in worlds(vec![0, 0, 1, 1, 2, 5])) {
        check(&world)?;
    }

    /// Whatever clocks seem to do: simple, short, and over nothing that is forbidden.
    #[test]
    fn clocks_that_step_make_no_loop(world in worlds(vec![0, 0, 1]), steps in vec(-4_000i64..4_000, 64)) {
        let mut world = world;
        for (link, ms) in world.links.iter_mut().zip(steps) {
            link.raw_us += ms * 1_000;
        }
        let graph = world.graph();
        let paths = Paths::new(&graph, &world.class);
        for from in 0..world.nodes.len() {
            for to in (0..graph.relays()).filter(|to| *to != from) {
                let pair = paths.pair(from, to);
                for way in [pair.best, pair.backup].iter().filter(|way| way.is_some()) {
                    let mut nodes: Vec<usize> = way.links(from, to).map(|l| l.1).collect();
                    prop_assert!(nodes.len() <= 4);
                    nodes.push(from);
                    for node in &nodes {
                        let node = &world.nodes[*node].1;
                        prop_assert!(node.role == Role::Edge || world.class.allows(node));
                    }
                    nodes.sort_unstable();
                    nodes.dedup();
                    prop_assert_eq!(nodes.len(), usize::from(way.len) + 2, "{:?}", way);
                    for (a, b, net) in way.links(from, to) {
                        prop_assert!(!graph.weights(a, b)[net].cordoned);
                    }
                }
                if from < graph.relays() && pair.backup.is_some() {
                    prop_assert!(!pair.best.same_nodes(&pair.backup));
                }
            }
        }
    }

    /// Changes in place give what computing everything gives.
    #[test]
    fn a_run_of_changes_is_as_a_fresh_start(
        (mut world, changes) in worlds(vec![0]).prop_flat_map(|world| {
            let links = world.nodes.len() * world.nodes.len();
            (Just(world), vec(vec((0..links, links_of(vec![0])), 1..4), 1..12))
        }),
    ) {
        let mut graph = world.graph();
        let mut paths = Paths::new(&graph, &world.class);
        for step in changes {
            let mut changed = Vec::new();
            for (at, drawn) in step {
                let (from, to) = (at / world.nodes.len(), at % world.nodes.len());
                if from == to || from >= graph.relays() {
                    continue;
                }
                world.change(from, to, drawn);
                if graph.set_link(from, to, world.weights(from, to)) {
                    changed.push((to, from));
                }
            }
            graph.settle();
            paths.update(&graph, &changed);
            let fresh_graph = world.graph();
            let fresh = Paths::new(&fresh_graph, &world.class);
            for from in 0..world.nodes.len() {
                for to in (0..graph.relays()).filter(|to| *to != from) {
                    let told = |paths: &Paths, graph: &Graph| {
                        let pair = paths.pair(from, to);
                        let ways = [pair.best, pair.backup].into_iter().filter(Way::is_some);
                        let path = |way: Way| way.path(graph, from, to, pair.told_us(&way));
                        ways.map(path).collect::<Vec<_>>()
                    };
                    prop_assert_eq!(told(&paths, &graph), told(&fresh, &fresh_graph), "{} > {}", from, to);
                }
            }
        }
    }
}

impl World {
    /// Another link in the place of those from one node to another.
    fn change(&mut self, from: usize, to: usize, drawn: Drawn) {
        self.links.retain(|link| (link.from, link.to) != (from, to));
        if let Some(((ms, jitter_us), _, full, cordoned, _)) = drawn {
            self.links.push(Edge {
                from,
                to,
                net: "internet".into(),
                raw_us: ms * 1_000,
                rtt_us: ms as u64 * 2_000,
                jitter_us,
                loss: 0.0,
                price: 0,
                full,
                cordoned,
            });
        }
    }
}

/// A mesh drawn from a seed, of more relays than ways are kept between two of them.
struct Mesh {
    state: u64,
    relays: usize,
    most_jitter_us: u64,
}

impl Mesh {
    fn below(&mut self, limit: u64) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.state >> 33) % limit
    }

    fn link(&mut self) -> Drawn {
        let is_there = self.below(8) > 0;
        let ms = 1 + self.below(90) as i64;
        let jitter_us = self.below(self.most_jitter_us + 1);
        is_there.then(|| ((ms, jitter_us), 0, self.below(30) == 0, false, None))
    }

    fn world(&mut self) -> World {
        let relays = self.relays;
        let links = (0..relays * relays).map(|_| self.link()).collect();
        let transit = |at| match at {
            3 => Transit::Draining,
            _ => Transit::Open,
        };
        let kinds = (0..relays).map(|at| (transit(at), None)).collect();
        world(relays, links, vec![0; relays], kinds, Class::default())
    }
}

fn changes_in_a_mesh(mut mesh: Mesh, check: impl Fn(&Pair, &Pair, String)) {
    let mut world = mesh.world();
    let relays = mesh.relays;
    let mut graph = world.graph();
    let mut paths = Paths::new(&graph, &world.class);
    for step in 0..40 {
        let mut node = || mesh.below(relays as u64) as usize;
        let (from, to) = (node(), node());
        if from == to {
            continue;
        }
        world.change(from, to, mesh.link());
        graph.set_link(from, to, world.weights(from, to));
        graph.settle();
        paths.update(&graph, &[(to, from)]);
        let fresh = Paths::new(&graph, &world.class);
        for from in 0..relays {
            for to in (0..relays).filter(|to| *to != from) {
                let place = format!("step {step}: {from} > {to}");
                check(paths.pair(from, to), fresh.pair(from, to), place);
            }
        }
    }
}

/// More relays than are compared at once.
#[test]
fn changes_in_a_large_mesh_are_as_a_fresh_start() {
    let mesh = Mesh {
        state: 7,
        relays: 20,
        most_jitter_us: 0,
    };
    changes_in_a_mesh(mesh, |now, fresh, place| assert_eq!(now, fresh, "{place}"));
}

/// Of halves that differ in their jitter more may matter than are kept.
const OFF_US: u64 = 20_000;

#[test]
fn with_jitters_they_are_so_but_for_a_part_of_a_jitter() {
    let mesh = Mesh {
        state: 8,
        relays: 20,
        most_jitter_us: OFF_US,
    };
    changes_in_a_mesh(mesh, |now, fresh, place| {
        assert_eq!(now.best.is_some(), fresh.best.is_some(), "{place}");
        assert_eq!(now.best.tolls(), fresh.best.tolls(), "{place}");
        let off = now.best.cost_us().abs_diff(fresh.best.cost_us());
        assert!(off < OFF_US as u32, "{place}: {off} µs");
    });
}

/// In a mesh where some ways are passed over, the best path is off by less than a jitter, and in
/// nearly all pairs by nothing.
#[test]
fn in_a_large_mesh_nearly_all_paths_are_what_trying_all_finds() {
    let mut mesh = Mesh {
        state: 9,
        relays: 12,
        most_jitter_us: OFF_US,
    };
    let (mut pairs, mut off) = (0, 0);
    for _ in 0..4 {
        let world = mesh.world();
        let graph = world.graph();
        let paths = Paths::new(&graph, &world.class);
        for from in 0..mesh.relays {
            for to in (0..mesh.relays).filter(|to| *to != from) {
                let least = all(&world, from, to).into_iter();
                let least = least
                    .min_by_key(|found| (found.tolls, found.cost_us))
                    .unwrap();
                let best = paths.pair(from, to).best;
                assert_eq!(best.tolls() as u32, least.tolls);
                let beyond = way_cost(&world, &graph, &best, from, to) - least.cost_us;
                assert!(
                    (0..OFF_US as i64).contains(&beyond),
                    "{from} > {to}: {beyond} µs"
                );
                pairs += 1;
                off += usize::from(beyond > 0);
            }
        }
    }
    assert!(off * 100 < pairs, "{off} of {pairs}");
}
