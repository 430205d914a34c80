//! Paths over links as they are reported. Cases read as text: what is reported, what is routed.

mod classes;
mod operators;
mod scale;

use longspan_proto::{
    ids::{Net, NodeId, Region},
    wire::Role,
};
use longspan_topology::graph::{Link, Metrics};

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A router and its clock.
struct World {
    router: Router,
    at_ms: u64,
    nodes: Vec<Member>,
}

impl World {
    /// Relays, but for names that begin with `e-`.
    fn new(names: &str) -> World {
        let role = |name: &str| match name.starts_with("e-") {
            true => Role::Edge,
            false => Role::Relay,
        };
        World {
            router: Router::new(4, Duration::from_millis(250)),
            at_ms: 0,
            nodes: names
                .split(' ')
                .map(|name| Member {
                    best: None,
                    id: node(name),
                    role: role(name),
                    has_session: true,
                    country: None,
                    region: Region::new("somewhere").unwrap(),
                    lat: 0.0,
                    lon: 0.0,
                })
                .collect(),
        }
    }

    fn now(&self) -> Now {
        Now {
            time: Time::from_micros(self.at_ms * 1_000),
            unix_ms: self.at_ms,
        }
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.at_ms += ms;
        self
    }

    /// `b: a 40, c 20 down`: what ends at b; one-way ms.
    fn report(&mut self, text: &str) -> &mut Self {
        let (to, links) = text.split_once(": ").unwrap_or((text, ""));
        let links = links.split(", ").filter(|l| !l.is_empty()).map(|link| {
            let words: Vec<&str> = link.split(' ').collect();
            let us = (words[1].parse::<f64>().unwrap() * 1_000.0) as i64;
            Report {
                from: node(words[0]),
                link: Link {
                    net: Net::internet(),
                    up: words.get(2) != Some(&"down"),
                    metrics: Metrics {
                        raw_delay_us: us,
                        rtt_us: us as u64 * 2,
                        jitter_p95_us: 0,
                        loss: 0.0,
                    },
                },
                rate_bps: 0,
            }
        });
        let links: Vec<Report> = links.collect();
        let time = self.now().time;
        self.router
            .report(time, &node(to.trim_end_matches(':')), &links);
        self
    }

    /// Node overrides and link overrides, as in `edit`.
    fn ask(&mut self, edit: impl FnOnce(&mut Overrides)) -> Routed {
        let mut overrides = self.router.overrides().clone();
        edit(&mut overrides);
        let time = self.now().time;
        self.router.set_overrides(time, overrides);
        assert!(self.router.due().is_some());
        self.compute()
    }

    fn compute(&mut self) -> Routed {
        let now = self.now();
        self.router.recompute(now, &self.nodes)
    }

    fn is_due(&self) -> bool {
        self.router.due().is_some_and(|due| due <= self.now().time)
    }

    /// `b c | c`: primary and backup.
    fn paths(&self, from: &str, to: &str) -> String {
        self.paths_of(0, from, to)
    }

    /// The same in a policy class.
    fn paths_of(&self, class: u8, from: &str, to: &str) -> String {
        let table = self.router.table(&node(from));
        let paths = table.and_then(|t| t.of(class)?.get(&node(to)));
        let shown = paths.into_iter().flatten().map(|path| {
            let nodes: Vec<&str> = path.hops.iter().map(|h| h.node.as_str()).collect();
            nodes.join(" ")
        });
        shown.collect::<Vec<_>>().join(" | ")
    }

    /// a to d over b in 20 ms, over c in 30 ms, directly in 50 ms.
    fn square() -> World {
        let mut world = World::new("a b c d");
        world.report("a: b 10, c 15, d 50").report("b: a 10, d 10");
        world.report("c: a 15, d 15").report("d: a 50, b 10, c 15");
        world.compute();
        world
    }

    /// The corner that DESIGN's lesson crosses: direct is slow, over b is fast.
    fn triangle() -> World {
        let mut world = World::new("a b c");
        world.report("a: b 40, c 119").report("b: a 40, c 20");
        world.report("c: a 119, b 20");
        world.compute();
        world
    }
}

#[test]
fn the_fastest_way_is_first_and_the_backup_shares_nothing() {
    let world = World::triangle();
    assert_eq!(world.paths("a", "c"), "b c | c");
    assert_eq!(world.paths("a", "b"), "b | c b");
    let table = world.router.table(&node("a")).unwrap();
    assert_eq!(table.neighbours, [node("b"), node("c")], "a full mesh");
}

#[test]
fn small_gains_move_nothing_and_large_ones_only_after_the_hold() {
    let mut world = World::triangle();
    // Direct gets better by 2.9 ms than what is in use: left alone.
    world.wait(10_000).report("a: b 40, c 57.6");
    assert_eq!(world.compute().switches, []);
    assert_eq!(world.paths("a", "c"), "b c | c");
    // By far more: moved, and why is told.
    world.wait(10_000).report("a: b 40, c 40");
    let routed = world.compute();
    assert_eq!(routed.switches.len(), 1);
    assert!(routed.switches[0].reason.contains("20.5 ms faster"));
    assert_eq!(world.paths("a", "c"), "c | b c");
    // Back within the hold time: not yet; after it: yes.
    world.wait(4_999).report("a: b 40, c 119");
    assert_eq!(world.compute().switches, []);
    assert_eq!(world.paths("a", "c"), "c | b c");
    world.wait(1);
    assert_eq!(world.compute().switches.len(), 1);
    assert_eq!(world.paths("a", "c"), "b c | c");
}

#[test]
fn a_kept_path_is_told_first_although_it_costs_more() {
    let mut world = World::triangle();
    world.wait(10_000).report("a: b 40, c 58");
    world.compute();
    let table = world.router.table(&node("a")).unwrap();
    let costs: Vec<u64> = table.paths[&node("c")].iter().map(|p| p.cost_us).collect();
    assert!(costs.is_sorted(), "nodes order by cost: {costs:?}");
}

#[test]
fn an_edge_takes_its_best_relay_unless_its_standby_gains_much() {
    let mut world = World::new("near far origin e-1");
    world
        .report("near: e-1 0.25, far 20")
        .report("far: e-1 20, near 20, origin 30")
        .report("origin: far 30")
        .report("e-1: near 0.25, far 20");
    world.nodes[3].best = Some(node("near"));
    world.compute();
    // Straight to the standby is quicker by the hop at the best relay; all edges of a region
    // share that one.
    assert_eq!(world.paths("e-1", "origin"), "near far origin | far origin");
    // Another relay is the best one now.
    world.nodes[3].best = Some(node("far"));
    world.wait(10_000);
    let time = world.now().time;
    world.router.changed(time);
    world.compute();
    assert_eq!(world.paths("e-1", "origin"), "far origin | near far origin");
    // The way over the best one becomes bad.
    world.nodes[3].best = Some(node("near"));
    world.wait(10_000).report("near: e-1 0.25, far 90");
    world.compute();
    assert_eq!(world.paths("e-1", "origin"), "far origin | near far origin");
}

/// As nodes choose: over the standby of the edge that a stream enters at only where nothing else is
/// left, however near it is.
#[test]
fn a_way_ends_at_the_best_relay_of_its_origin() {
    let mut world = World::new("best standby e-1");
    world
        .report("best: standby 15")
        .report("standby: best 15, e-1 0.25")
        .report("e-1: standby 0.25");
    world.compute();
    let (edge, origin) = (node("e-1"), node("e-2"));
    let way = |attached: &[&str]| {
        let attached: Vec<NodeId> = attached.iter().map(|relay| node(relay)).collect();
        let way = world.router.way(0, &edge, &origin, &attached);
        way.map(|nodes| {
            nodes
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" ")
        })
    };
    assert_eq!(
        way(&["best", "standby"]).as_deref(),
        Some("standby best e-2")
    );
    assert_eq!(way(&["standby", "best"]).as_deref(), Some("standby e-2"));
    assert_eq!(way(&["gone", "standby"]).as_deref(), Some("standby e-2"));
    let attached = [node("best"), node("standby")];
    let why = world.router.explain(&edge, &origin, &attached);
    let costs: Vec<f64> = why.candidates.iter().map(|it| it.cost_ms.round()).collect();
    assert_eq!(costs.len(), 2);
    assert!(costs[0] < 30.0 && costs[1] >= 100.0, "{costs:?}");
}

/// Frames flow from the origin to whoever asked: theirs are the links that count.
#[test]
fn each_direction_takes_the_path_that_is_quick_for_its_frames() {
    let mut world = World::new("a b c d");
    // Frames go quickly from a over b to d, and from d over c to a.
    world.report("b: a 10, d 60").report("d: a 90, b 10, c 60");
    world.report("c: a 60, d 10").report("a: b 60, c 10, d 90");
    world.compute();
    assert_eq!(world.paths("d", "a"), "b a | a");
    assert_eq!(world.paths("a", "d"), "c d | d");
    let why = world.router.explain(&node("a"), &node("d"), &[]);
    let raw = |at: usize| {
        let legs = why.candidates[at].legs.iter();
        legs.map(|leg| (leg.node.as_str(), leg.raw_delay_ms))
            .collect::<Vec<_>>()
    };
    assert_eq!(raw(0), [("c", 10.0), ("d", 10.0)]);
    assert_eq!(raw(1), [("d", 90.0)]);
}

/// A subscription and the acknowledgements go the other way: a link that is dead either way carries
/// nothing either way.
#[test]
fn a_link_that_is_dead_one_way_is_taken_neither_way() {
    for dead in [
        "b: a 40 down, c 20",
        "b: c 20",
        "a: b 40 down, c 119",
        "a: c 119",
    ] {
        let mut world = World::triangle();
        assert_eq!(world.paths("a", "c"), "b c | c");
        world.report(dead).compute();
        assert_eq!(world.paths("a", "c"), "c", "{dead}");
        assert_eq!(world.paths("c", "a"), "a", "{dead}");
        assert_eq!(world.paths("a", "b"), "c b", "{dead}");
        assert_eq!(world.paths("b", "a"), "c a", "{dead}");
        // An end that has lost its controller says nothing of it any more; the other still does.
        let at = usize::from(!dead.starts_with("a"));
        world.nodes[1 - at].has_session = false;
        world.compute();
        assert_eq!(world.paths("a", "b"), "c b", "{dead}");
    }
}

#[test]
fn jitters_of_a_path_are_told_in_quadrature() {
    let mut world = World::new("a b c");
    let report = |from: &str, ms: u64, jitter_ms: u64| Report {
        from: node(from),
        link: Link {
            net: Net::internet(),
            up: true,
            metrics: Metrics {
                raw_delay_us: ms as i64 * 1_000,
                rtt_us: ms * 2_000,
                jitter_p95_us: jitter_ms * 1_000,
                loss: 0.0,
            },
        },
        rate_bps: 0,
    };
    for (to, links) in [
        ("a", [report("b", 10, 3), report("c", 25, 1)]),
        ("b", [report("a", 10, 3), report("c", 10, 4)]),
        ("c", [report("a", 25, 1), report("b", 10, 4)]),
    ] {
        world.router.report(Time::ZERO, &node(to), &links);
    }
    world.compute();
    // 20 ms and two hops and 5 ms; in sum it would be 28 ms.
    assert_eq!(world.paths("a", "c"), "b c | c");
    let why = world.router.explain(&node("a"), &node("c"), &[]);
    let told = why.candidates.iter().map(|c| (c.cost_ms, c.jitter_ms));
    assert_eq!(told.collect::<Vec<_>>(), [(26.0, 5.0), (26.5, 1.0)]);
}

#[test]
fn a_broken_way_is_left_at_once() {
    let mut world = World::triangle();
    world.report("c: a 119, b 20 down");
    let routed = world.compute();
    assert_eq!(world.paths("a", "c"), "c");
    let moved = routed
        .switches
        .iter()
        .find(|s| s.from == node("a"))
        .unwrap();
    assert_eq!(moved.reason, "a link of the old path is down");
    assert_eq!(moved.after, [node("c")]);
    // A link that is not named any more is down as well.
    world.report("c:");
    let routed = world.compute();
    assert_eq!(world.paths("a", "c"), "");
    assert!(routed.switches.iter().any(|s| s.after.is_empty()));
    assert!(routed.push.contains(&node("a")), "it is told");
}

#[test]
fn nothing_is_pushed_while_nothing_worth_telling_changes() {
    let mut world = World::triangle();
    assert!(!world.is_due());
    // Below 1 ms: not even computed.
    world.wait(1_000).report("b: a 40.9, c 20.9");
    assert!(!world.is_due());
    // Above: computed, and not told, since the ways and, nearly, their costs are the same.
    world.report("b: a 42, c 20");
    assert!(world.is_due());
    assert_eq!(world.compute().push, []);
    // A cost that moved by 3 ms is told: to those who get a's tracks over that link.
    world.wait(1_000).report("b: a 44, c 20");
    assert_eq!(world.compute().push, [node("b"), node("c")]);
}

#[test]
fn computing_waits_for_the_interval() {
    let mut world = World::triangle();
    world.wait(100).report("b: a 90, c 20");
    assert!(!world.is_due(), "computed 100 ms ago");
    assert!(world.wait(149).router.due().is_some());
    assert!(!world.is_due());
    assert!(world.wait(1).is_due());
}

#[test]
fn a_node_without_a_session_is_judged_by_those_who_hear_it() {
    let mut world = World::triangle();
    // b has lost its controller, nothing else: all stays.
    world.nodes[1].has_session = false;
    world.compute();
    assert_eq!(world.paths("a", "c"), "b c | c");
    // b is dead: a and c do not hear it. No way leads over it or to it.
    world.report("a: c 119").report("c: a 119");
    world.compute();
    assert_eq!(world.paths("a", "c"), "c");
    assert_eq!(world.paths("a", "b"), "");
    // All have lost the controller: all stays.
    let mut world = World::triangle();
    for node in &mut world.nodes {
        node.has_session = false;
    }
    world.compute();
    assert_eq!(world.paths("a", "c"), "b c | c");
}

#[test]
fn edges_lead_nowhere_and_moves_in_memory_are_bounded() {
    let mut world = World::new("a b e-1");
    world.report("a: e-1 1, b 50").report("b: e-1 1, a 50");
    world.report("e-1: a 1, b 1");
    world.compute();
    assert_eq!(world.paths("a", "b"), "b", "not over the edge");
    assert_eq!(world.paths("e-1", "a"), "a | b a");
    let edge = world.router.table(&node("e-1")).unwrap();
    assert!(edge.neighbours.is_empty());
    for n in 0..10 {
        world.wait(6_000);
        let direct = if n % 2 == 0 { 90 } else { 1 };
        world.report(&format!("e-1: a 1, b {direct}"));
        world.compute();
    }
    assert_eq!(world.router.switches().count(), 4);
}

#[test]
fn offsets_of_clocks_change_nothing() {
    let mut plain = World::new("a b c");
    plain.report("a: b 40, c 119").report("b: a 40, c 20");
    plain.report("c: a 119, b 20");
    plain.compute();
    let mut skewed = World::new("a b c");
    let offset = |name: &str| match name {
        "a" => 5_000_000_i64,
        "b" => -90_000_000,
        _ => 777,
    };
    for (to, links) in [
        ("a", [("b", 40), ("c", 119)]),
        ("b", [("a", 40), ("c", 20)]),
        ("c", [("a", 119), ("b", 20)]),
    ] {
        let reports = links.map(|(from, ms): (&str, i64)| Report {
            from: node(from),
            link: Link {
                net: Net::internet(),
                up: true,
                metrics: Metrics {
                    raw_delay_us: ms * 1_000 + offset(to) - offset(from),
                    rtt_us: ms as u64 * 2_000,
                    jitter_p95_us: 0,
                    loss: 0.0,
                },
            },
            rate_bps: 0,
        });
        skewed.router.report(Time::ZERO, &node(to), &reports);
    }
    skewed.compute();
    for from in ["a", "b", "c"] {
        assert_eq!(
            plain.router.table(&node(from)),
            skewed.router.table(&node(from))
        );
    }
    let shown: Vec<_> = skewed.router.links().iter().map(|l| l.delay_ms).collect();
    assert_eq!(shown[0], Some(40.0), "the offset is not shown as delay");
}
