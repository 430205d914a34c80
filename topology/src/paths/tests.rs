use proptest::prelude::*;

use super::*;
use crate::{
    cost::HOP_US,
    graph::{Link, Metrics},
};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// A line a link: `a -> b 20` (ms one way), `a <> b 20` both ways; names with `e-` are edges.
fn graph(text: &str, offset_ms: impl Fn(&str) -> i64) -> Graph {
    let mut graph = Graph::default();
    let role = |n: &str| {
        if n.starts_with("e-") {
            Role::Edge
        } else {
            Role::Relay
        }
    };
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let [from, arrow, to, ms] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let ms: i64 = ms.parse().unwrap();
        for (from, to) in
            [(from, to), (to, from)]
                .into_iter()
                .take(if arrow == "<>" { 2 } else { 1 })
        {
            graph.add_node(node(from), role(from));
            graph.add_node(node(to), role(to));
            let raw_delay_us = (ms + offset_ms(to) - offset_ms(from)) * 1000;
            let metrics = Metrics {
                raw_delay_us,
                rtt_us: ms.unsigned_abs() * 2000,
                jitter_p95_us: 0,
                loss: 0.0,
            };
            graph.set_link(
                node(from),
                node(to),
                Link {
                    net: Net::internet(),
                    up: true,
                    metrics,
                },
            );
        }
    }
    graph
}

/// `from -> to: nodes | nodes of the backup`.
fn told(graph: &Graph, from: &str, to: &str) -> String {
    let paths = Index::new(graph)
        .from(&node(from))
        .into_iter()
        .find(|(n, _)| n.as_str() == to);
    let show = |path: &Path| {
        path.hops
            .iter()
            .map(|h| h.node.to_string())
            .collect::<Vec<_>>()
            .join(" ")
    };
    paths
        .map(|(_, paths)| paths.iter().map(show).collect::<Vec<_>>().join(" | "))
        .unwrap_or_default()
}

const SQUARE: &str = "
        a <> b 10
        b <> d 10
        a <> c 15
        c <> d 15
        a <> d 50
        e-1 <> a 1
        e-2 <> d 1
        e-2 <> a 1";

#[test]
fn the_quickest_way_wins_and_the_backup_shares_nothing() {
    let graph = graph(SQUARE, |_| 0);
    assert_eq!(told(&graph, "a", "d"), "b d | c d");
    assert_eq!(
        told(&graph, "e-1", "d"),
        "a b d | a c d",
        "one way out of the edge, two beyond it"
    );
    assert_eq!(told(&graph, "b", "c"), "a c | d c");
}

#[test]
fn edges_carry_nothing_for_others() {
    let graph = graph(SQUARE, |_| 0);
    // e-2 would join d and a in 2 ms.
    assert_eq!(told(&graph, "d", "a"), "b a | c a");
    assert_eq!(told(&graph, "e-2", "a"), "a | d b a");
}

#[test]
fn clock_offsets_change_nothing() {
    let plain = graph(SQUARE, |_| 0);
    let odd = graph(SQUARE, |n| match n {
        "b" => 5_000,
        "c" => -70_000,
        "d" => 900,
        _ => 0,
    });
    for from in ["a", "b", "c", "d", "e-1"] {
        for to in ["a", "b", "c", "d"] {
            assert_eq!(
                told(&plain, from, to),
                told(&odd, from, to),
                "{from} → {to}"
            );
        }
    }
}

#[test]
fn a_link_that_is_down_is_not_used() {
    let mut graph = graph(SQUARE, |_| 0);
    let metrics = Metrics {
        raw_delay_us: 0,
        rtt_us: 0,
        jitter_p95_us: 0,
        loss: 0.0,
    };
    graph.set_link(
        node("b"),
        node("d"),
        Link {
            net: Net::internet(),
            up: false,
            metrics,
        },
    );
    assert_eq!(told(&graph, "a", "d"), "c d | d");
    assert_eq!(
        told(&graph, "d", "a"),
        "b a | c a",
        "the other direction is up"
    );
}

#[test]
fn at_most_three_relays_between() {
    let line = "a <> b 1\nb <> c 1\nc <> d 1\nd <> e 1\ne <> f 1";
    assert_eq!(told(&graph(line, |_| 0), "a", "e"), "b c d e");
    assert_eq!(told(&graph(line, |_| 0), "a", "f"), "");
}

/// What the search compared is what nodes are told, so that they order paths as it did.
#[test]
fn a_lossy_short_way_stays_behind_the_clean_longer_one() {
    let mut graph = graph("a <> b 30\nb <> d 30\na <> d 50", |n| match n {
        "b" => 7_000,
        "d" => -900,
        _ => 0,
    });
    let lossy = Metrics {
        raw_delay_us: (50 - 900) * 1000,
        rtt_us: 100_000,
        jitter_p95_us: 2_000,
        loss: 0.2,
    };
    let link = Link {
        net: Net::internet(),
        up: true,
        metrics: lossy,
    };
    graph.set_link(node("a"), node("d"), link);
    assert_eq!(told(&graph, "a", "d"), "b d | d");
    let routes = crate::routes::Routes {
        paths: Index::new(&graph).from(&node("a")).into_iter().collect(),
        ..Default::default()
    };
    let paths = &routes.paths["d"];
    assert_eq!(paths[0].cost_us, 61_000, "two hops of 30.5 ms");
    assert_eq!(paths[1].cost_us, 50_000 + 2_000 + 25_000 + 500);
    assert_eq!(
        routes.ways(&node("a"), &node("d"))[0],
        [node("b"), node("d")]
    );
}

#[test]
fn a_slow_direction_costs_that_direction_only() {
    // 10 ms one way, 90 ms back; over b 40 ms each way.
    let graph = graph("a -> d 10\nd -> a 90\na <> b 20\nb <> d 20", |_| 0);
    assert_eq!(told(&graph, "a", "d"), "d | b d");
    assert_eq!(told(&graph, "d", "a"), "b a | a");
}

#[test]
fn a_clock_that_just_stepped_makes_no_loop() {
    // b's clock seems to have jumped by 100 ms on what it receives, not yet on what it sends.
    let graph = graph(
        "a -> b -90\nb -> a 10\nb -> c 10\nc -> b -90\na <> c 30\nc <> d 10",
        |_| 0,
    );
    for (from, to) in [("a", "c"), ("a", "d"), ("c", "a"), ("d", "b")] {
        let told = told(&graph, from, to);
        assert!(!told.is_empty(), "{from} → {to}");
        for path in told.split(" | ") {
            let mut nodes: Vec<&str> = path.split(' ').chain([from]).collect();
            nodes.sort();
            nodes.dedup();
            assert_eq!(nodes.len(), path.split(' ').count() + 1, "{path}");
        }
    }
}

#[test]
fn nonsense_in_a_report_does_not_overflow() {
    let mut graph = Graph::default();
    for (from, to, raw_delay_us) in [("a", "b", i64::MIN), ("b", "c", i64::MAX), ("c", "a", 0)] {
        graph.add_node(node(from), Role::Relay);
        graph.add_node(node(to), Role::Relay);
        let metrics = Metrics {
            raw_delay_us,
            rtt_us: u64::MAX,
            jitter_p95_us: u64::MAX,
            loss: f64::NAN,
        };
        let link = Link {
            net: Net::internet(),
            up: true,
            metrics,
        };
        graph.set_link(node(from), node(to), link);
    }
    assert_eq!(told(&graph, "a", "c"), "b c");
}

/// Cheapest simple path with at most four links, by trying all.
fn oracle(delays: &[Vec<Option<i64>>], at: usize, to: usize, seen: &mut Vec<usize>) -> Option<i64> {
    if at == to {
        return Some(0);
    }
    if seen.len() > MAX_INTERMEDIATES + 1 {
        return None;
    }
    let mut best = None;
    for next in 0..delays.len() {
        let Some(delay) = delays[at][next] else {
            continue;
        };
        if seen.contains(&next) {
            continue;
        }
        seen.push(next);
        if let Some(rest) = oracle(delays, next, to, seen) {
            let cost = delay * 1000 + HOP_US + rest;
            best = Some(best.map_or(cost, |b: i64| b.min(cost)));
        }
        seen.pop();
    }
    best
}

proptest! {
    #[test]
    fn paths_are_as_cheap_as_the_cheapest(
        delays in proptest::collection::vec(proptest::collection::vec(proptest::option::of(1i64..200), 6), 6),
        offsets in proptest::collection::vec(-10_000i64..10_000, 6),
    ) {
        let mut graph = Graph::default();
        for i in 0..6 { graph.add_node(node(&format!("n{i}")), Role::Relay); }
        for (i, row) in delays.iter().enumerate() {
            for (j, delay) in row.iter().enumerate() {
                let Some(delay) = delay else { continue };
                let raw_delay_us = (delay + offsets[j] - offsets[i]) * 1000;
                let metrics = Metrics { raw_delay_us, rtt_us: *delay as u64 * 2000, jitter_p95_us: 0, loss: 0.0 };
                graph.set_link(node(&format!("n{i}")), node(&format!("n{j}")), Link { net: Net::internet(), up: true, metrics });
            }
        }
        let index = Index::new(&graph);
        for i in 0..6 {
            let paths = index.from(&node(&format!("n{i}")));
            for j in (0..6).filter(|j| *j != i) {
                let expected = oracle(&delays, i, j, &mut vec![i]);
                let found = paths.iter().find(|(n, _)| n.as_str() == format!("n{j}")).map(|(_, p)| p[0].cost_us as i64);
                prop_assert_eq!(found, expected, "n{} → n{}", i, j);
            }
        }
    }
}
