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
struct Found {
    mids: Vec<usize>,
    cost_us: i64,
    told_us: i64,
    price: u64,
    tolls: u32,
    nets: Vec<String>,
}

/// Every simple path, over every net.
fn all(world: &World, from: usize, to: usize) -> Vec<Found> {
    let allowed =
        |n: usize| world.nodes[n].1.role == Role::Edge || world.class.allows(&world.nodes[n].1);
    let mut found = Vec::new();
    let start = Found {
        mids: Vec::new(),
        cost_us: 0,
        told_us: 0,
        price: 0,
        tolls: 0,
        nets: Vec::new(),
    };
    let mut open = vec![start];
    while let Some(path) = open.pop() {
        let at = path.mids.last().copied().unwrap_or(from);
        for link in world
            .links
            .iter()
            .filter(|link| link.from == at && !link.cordoned)
        {
            let next = link.to;
            if next == from || path.mids.contains(&next) || !allowed(next) || !allowed(at) {
                continue;
            }
            let weight = world.weight(link);
            let mut longer = path.clone();
            longer.cost_us += world.cost_us(link);
            longer.told_us += weight.cost_us - weight.offset_us;
            longer.price += u64::from(link.price);
            longer.tolls += u32::from(link.full);
            longer.nets.push(link.net.clone());
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
fn best(world: &World, from: usize, to: usize) -> Option<(Found, Option<Found>)> {
    let all = all(world, from, to);
    let is_priced = world.links.iter().any(|link| link.price > 0);
    // Of two nets that cost the same the first by name, which tells by which round trips the
    // latency is estimated.
    let quickest = all.iter().min_by_key(|f| {
        (
            f.tolls,
            f.cost_us,
            f.mids.len(),
            f.mids.clone(),
            f.nets.clone(),
        )
    })?;
    let budget = world.class.mode.budget().as_micros() as i64;
    let worth = |f: &Found, primary: Option<&Found>| -> Worth {
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
        let link = links.find(|l| (l.from, l.to, l.net.as_str()) == (a, b, net));
        world.cost_us(link.unwrap())
    });
    links.sum()
}

/// Of a link: ms one way, price, full, cordoned; sometimes a second net.
type Drawn = Option<(i64, u32, bool, bool, Option<(i64, u32)>)>;

fn links_of(prices: Vec<u32>) -> impl Strategy<Value = Drawn> {
    let rare = || prop::bool::weighted(0.1);
    // Few values, so that equals are met as well.
    let ms = || prop_oneof![1i64..8, 1i64..200];
    let price = select(prices);
    let second = option::weighted(0.15, (ms(), price.clone()));
    option::weighted(0.6, (ms(), price, rare(), rare(), second))
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
            format!("n{at}"),
            Node {
                role,
                country,
                transit,
            },
        ));
    }
    let drawn_ms = drawn.clone();
    for (at, link) in drawn.into_iter().enumerate() {
        let (from, to) = (at / relays, at % relays);
        let (Some((ms, price, full, cordoned, second)), true) = (link, from != to) else {
            continue;
        };
        // Round trips are the sum of both ways where there is a way back.
        let back = if from < relays {
            drawn_ms[to * relays + from]
        } else {
            None
        };
        let link = Edge {
            from,
            to,
            net: "internet".into(),
            raw_us: ms * 1_000,
            rtt_us: (ms + back.map_or(ms, |b| b.0)) as u64 * 1_000,
            jitter_us: 0,
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
                if from == to || to >= graph.relays() {
                    continue;
                }
                world.links.retain(|link| (link.from, link.to) != (from, to));
                if let Some((ms, _, full, cordoned, _)) = drawn {
                    world.links.push(Edge {
                        from, to, net: "internet".into(), raw_us: ms * 1_000, rtt_us: ms as u64 * 2_000,
                        jitter_us: 0, loss: 0.0, price: 0, full, cordoned,
                    });
                }
                if graph.set(from, to, world.weights(from, to)) {
                    changed.push((from, to));
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

/// More relays than are compared at once.
#[test]
fn changes_in_a_large_mesh_are_as_a_fresh_start() {
    let relays = 20;
    let mut state = 7u64;
    let mut dice = move |limit: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) % limit
    };
    let drawn = |dice: &mut dyn FnMut(u64) -> u64| {
        let is_there = dice(8) > 0;
        is_there.then(|| (1 + dice(90) as i64, 0, dice(30) == 0, false, None))
    };
    let links: Vec<Drawn> = (0..relays * relays).map(|_| drawn(&mut dice)).collect();
    let kinds = (0..relays).map(|at| {
        let transit = if at == 3 {
            Transit::Draining
        } else {
            Transit::Open
        };
        (transit, None)
    });
    let mut world = world(
        relays,
        links,
        vec![0; relays],
        kinds.collect(),
        Class::default(),
    );
    let mut graph = world.graph();
    let mut paths = Paths::new(&graph, &world.class);
    for step in 0..40 {
        let (from, to) = (dice(relays as u64) as usize, dice(relays as u64) as usize);
        if from == to {
            continue;
        }
        world
            .links
            .retain(|link| (link.from, link.to) != (from, to));
        if let Some((ms, ..)) = drawn(&mut dice) {
            world.links.push(Edge {
                from,
                to,
                net: "internet".into(),
                raw_us: ms * 1_000,
                rtt_us: ms as u64 * 2_000,
                jitter_us: 0,
                loss: 0.0,
                price: 0,
                full: false,
                cordoned: false,
            });
        }
        graph.set(from, to, world.weights(from, to));
        graph.settle();
        paths.update(&graph, &[(from, to)]);
        let fresh = Paths::new(&graph, &world.class);
        for from in 0..relays {
            for to in (0..relays).filter(|to| *to != from) {
                let (now, fresh) = (paths.pair(from, to), fresh.pair(from, to));
                assert_eq!(now, fresh, "step {step}: {from} > {to}");
            }
        }
    }
}
