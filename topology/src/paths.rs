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
    cost,
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
    /// Cost and clock offset of the same links, in µs.
    measured: HashMap<(usize, usize, Net), Measured>,
}

#[derive(Clone, Copy)]
struct Measured {
    cost: i64,
    offset: i64,
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
        let mut measured = HashMap::new();
        for (from, to, link) in graph.links() {
            let Some(cost) = cost::cost(link) else {
                continue;
            };
            let (from, to) = (numbers[from], numbers[to]);
            out[from].push((to, link.net.clone(), cost));
            let offset = cost::offset(&link.metrics);
            measured.insert((from, to, link.net.clone()), Measured { cost, offset });
        }
        Index {
            nodes,
            numbers,
            relay,
            out,
            measured,
        }
    }

    /// For each relay the best path to it from `from`, and a backup where there is one: disjoint
    /// in links and intermediate nodes, else without the primary's first link, else without its
    /// last. Links of two nets between the same nodes count as one here: subscriptions are routed
    /// by nodes.
    pub fn from(&self, from: &NodeId) -> Vec<(NodeId, Vec<Path>)> {
        let Some(&start) = self.numbers.get(from) else {
            return Vec::new();
        };
        let best = self.search(start, &Without::default());
        let targets = (0..self.nodes.len()).filter(|&n| n != start && self.relay[n]);
        targets
            .filter_map(|target| {
                let primary = best.walk(target)?;
                // The offset of the two ends' clocks is the same on every path between them, so one
                // estimate serves both paths: their costs differ by what the search compared.
                let offset = self.sum(start, &primary).offset;
                let mut paths = vec![self.path(start, &primary, offset)];
                paths.extend(
                    self.backup(start, target, &primary)
                        .map(|walk| self.path(start, &walk, offset)),
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

    /// As told to nodes: the cost that was compared, without the clock offset of the two ends. Of
    /// the best path that is half of each round trip and what the other terms add.
    fn path(&self, start: usize, walk: &[Step], offset: i64) -> Path {
        let hops = walk.iter().map(|step| Hop {
            node: self.nodes[step.to].clone(),
            net: step.net.clone(),
        });
        Path {
            hops: hops.collect(),
            cost_us: (self.sum(start, walk).cost - offset).max(0) as u64,
        }
    }

    fn sum(&self, start: usize, walk: &[Step]) -> Measured {
        let mut at = start;
        let mut sum = Measured { cost: 0, offset: 0 };
        for step in walk {
            let link = self.measured[&(at, step.to, step.net.clone())];
            sum.cost += link.cost;
            sum.offset += link.offset;
            at = step.to;
        }
        sum
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
    /// The cheapest walk to `target`; with equal costs the one with fewer links. While a clock has
    /// just stepped, a cycle can seem to cost less than nothing; a walk that visits a node twice is
    /// passed over for the next.
    fn walk(&self, target: usize) -> Option<Vec<Step>> {
        let mut by_cost: Vec<(i64, usize)> = (1..self.rounds.len())
            .filter_map(|round| Some((self.rounds[round][target].as_ref()?.cost, round)))
            .collect();
        by_cost.sort_unstable();
        by_cost.into_iter().find_map(|(_, round)| {
            let walk = self.trace(target, round);
            let mut seen = HashSet::new();
            walk.iter().all(|step| seen.insert(step.to)).then_some(walk)
        })
    }

    fn trace(&self, target: usize, mut round: usize) -> Vec<Step> {
        let mut at = target;
        let mut walk = Vec::with_capacity(round);
        while let Some((from, net)) = self.rounds[round][at].as_ref().and_then(|r| r.by.clone()) {
            walk.push(Step { to: at, net });
            at = from;
            round -= 1;
        }
        walk.reverse();
        walk
    }
}

#[cfg(test)]
mod tests;
