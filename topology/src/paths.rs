//! Fewest-delay paths with few hops, and a backup that shares as little as possible.
//!
//! Link costs are raw clock differences and may be negative, so this is Bellman–Ford over the
//! number of links, not Dijkstra. Clock offsets cancel around every cycle, so no cycle is negative.

use std::collections::{HashMap, HashSet};

use longspan_proto::{
    ids::{Net, NodeId},
    wire::Role,
};

use crate::{
    cost::{self, HOP_US},
    graph::Graph,
    routes::{Hop, Path},
};

/// Most relays between the two ends of a path.
pub const MAX_INTERMEDIATES: usize = 3;

/// The graph, indexed for path searches.
pub struct Index {
    nodes: Vec<NodeId>,
    numbers: HashMap<NodeId, usize>,
    relay: Vec<bool>,
    /// For each node the links that leave it: to, net, cost in µs.
    out: Vec<Vec<(usize, Net, i64)>>,
    /// Half the round trip of the same links, in µs.
    half_rtt: HashMap<(usize, usize, Net), u64>,
}

/// Links and nodes a search leaves out.
#[derive(Default)]
struct Without {
    nodes: HashSet<usize>,
    links: HashSet<(usize, usize)>,
}

impl Index {
    /// Indexes the usable links.
    pub fn new(graph: &Graph) -> Index {
        let nodes: Vec<NodeId> = graph.nodes().map(|(node, _)| node.clone()).collect();
        let numbers: HashMap<_, _> = nodes
            .iter()
            .cloned()
            .enumerate()
            .map(|(i, n)| (n, i))
            .collect();
        let relay = graph.nodes().map(|(_, role)| role == Role::Relay).collect();
        let mut out = vec![Vec::new(); nodes.len()];
        let mut half_rtt = HashMap::new();
        for (from, to, link) in graph.links() {
            let Some(cost) = cost::cost(link) else {
                continue;
            };
            let (from, to) = (numbers[from], numbers[to]);
            out[from].push((to, link.net.clone(), cost));
            half_rtt.insert((from, to, link.net.clone()), link.metrics.rtt_us / 2);
        }
        Index {
            nodes,
            numbers,
            relay,
            out,
            half_rtt,
        }
    }

    /// For each relay the best path to it from `from`, and a backup where there is one: disjoint
    /// in links and intermediate nodes, else without the primary's first link, else without its
    /// last.
    pub fn from(&self, from: &NodeId) -> Vec<(NodeId, Vec<Path>)> {
        let Some(&start) = self.numbers.get(from) else {
            return Vec::new();
        };
        let best = self.search(start, &Without::default());
        let targets = (0..self.nodes.len()).filter(|&n| n != start && self.relay[n]);
        targets
            .filter_map(|target| {
                let primary = best.walk(target)?;
                let mut paths = vec![self.path(start, &primary)];
                paths.extend(
                    self.backup(start, target, &primary)
                        .map(|walk| self.path(start, &walk)),
                );
                Some((self.nodes[target].clone(), paths))
            })
            .collect()
    }

    fn backup(&self, start: usize, target: usize, primary: &[Step]) -> Option<Vec<Step>> {
        let intermediates: HashSet<usize> = primary[..primary.len() - 1]
            .iter()
            .map(|step| step.to)
            .collect();
        let mut links = HashSet::new();
        let mut at = start;
        for step in primary {
            links.insert((at, step.to));
            at = step.to;
        }
        let first = HashSet::from([(start, primary[0].to)]);
        let last = HashSet::from([(primary.iter().rev().nth(1).map_or(start, |s| s.to), target)]);
        [
            Without {
                nodes: intermediates,
                links,
            },
            Without {
                nodes: HashSet::new(),
                links: first,
            },
            Without {
                nodes: HashSet::new(),
                links: last,
            },
        ]
        .iter()
        .find_map(|without| self.search(start, without).walk(target))
    }

    /// Cheapest walks with 1, 2, … links. A walk of the cheapest cost visits no node twice, since
    /// every cycle costs more than nothing.
    fn search(&self, start: usize, without: &Without) -> Search {
        let mut rounds: Vec<Vec<Option<Reached>>> = vec![vec![None; self.nodes.len()]];
        rounds[0][start] = Some(Reached { cost: 0, by: None });
        for round in 1..=MAX_INTERMEDIATES + 1 {
            let before = &rounds[round - 1];
            let mut now: Vec<Option<Reached>> = vec![None; self.nodes.len()];
            for (at, reached) in before.iter().enumerate() {
                let Some(reached) = reached else { continue };
                if at != start && (!self.relay[at] || without.nodes.contains(&at)) {
                    continue;
                }
                for (to, net, cost) in &self.out[at] {
                    let cost = reached.cost + cost;
                    let worse = now[*to].as_ref().is_some_and(|known| known.cost <= cost);
                    if *to == start || worse || without.links.contains(&(at, *to)) {
                        continue;
                    }
                    now[*to] = Some(Reached {
                        cost,
                        by: Some((at, net.clone())),
                    });
                }
            }
            rounds.push(now);
        }
        Search { rounds }
    }

    /// As told to nodes. The clock offset of the two ends is taken out of the cost as far as round
    /// trips tell it: half of them, plus what the terms add to the raw delays.
    fn path(&self, start: usize, walk: &[Step]) -> Path {
        let mut at = start;
        let mut cost_us = 0;
        let mut hops = Vec::with_capacity(walk.len());
        for step in walk {
            cost_us += self.half_rtt[&(at, step.to, step.net.clone())] + HOP_US as u64;
            hops.push(Hop {
                node: self.nodes[step.to].clone(),
                net: step.net.clone(),
            });
            at = step.to;
        }
        Path { hops, cost_us }
    }
}

#[derive(Clone)]
struct Reached {
    cost: i64,
    by: Option<(usize, Net)>,
}

struct Step {
    to: usize,
    net: Net,
}

struct Search {
    /// By number of links: the cheapest way to each node.
    rounds: Vec<Vec<Option<Reached>>>,
}

impl Search {
    /// The cheapest walk to `target`; with equal costs the one with fewer links.
    fn walk(&self, target: usize) -> Option<Vec<Step>> {
        let mut round = (1..self.rounds.len())
            .filter(|&round| self.rounds[round][target].is_some())
            .min_by_key(|&round| {
                self.rounds[round][target]
                    .as_ref()
                    .map(|reached| reached.cost)
            })?;
        let mut at = target;
        let mut walk = Vec::with_capacity(round);
        while let Some((from, net)) = self.rounds[round][at].as_ref().and_then(|r| r.by.clone()) {
            walk.push(Step { to: at, net });
            at = from;
            round -= 1;
        }
        walk.reverse();
        let mut seen = HashSet::new();
        walk.iter().all(|step| seen.insert(step.to)).then_some(walk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::graph::{Link, Metrics};

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
                    rtt_us: ms as u64 * 2000,
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

    /// Cheapest simple path with at most four links, by trying all.
    fn oracle(
        delays: &[Vec<Option<i64>>],
        at: usize,
        to: usize,
        seen: &mut Vec<usize>,
    ) -> Option<i64> {
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
}
