//! The backbone as a graph, and the route tables that follow from it.

use std::{collections::BTreeMap, sync::Arc};

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::routes::{Hop, Path, Routes, Version};

/// A possible connection of two nodes.
#[derive(Debug, Clone)]
pub struct Link {
    pub a: usize,
    pub b: usize,
    /// One way, in µs, by direction (from a, from b).
    pub delay_us: [u64; 2],
    pub up: bool,
}

/// Relays first, then edges.
#[derive(Debug, Clone)]
pub struct Graph {
    pub names: Vec<NodeId>,
    pub relays: usize,
    pub links: Vec<Link>,
}

/// DESIGN §4: at most three relays between two.
const MOST_BETWEEN: usize = 3;

impl Graph {
    pub fn new(relays: usize, edges: usize) -> Graph {
        let name = |kind: &str, n: usize| NodeId::new(&format!("{kind}-{n}")).expect("a slug");
        let names = (0..relays).map(|n| name("relay", n));
        Graph {
            names: names.chain((0..edges).map(|n| name("edge", n))).collect(),
            relays,
            links: Vec::new(),
        }
    }

    pub fn link(&mut self, a: usize, b: usize, delay_us: [u64; 2]) -> usize {
        self.links.push(Link {
            a,
            b,
            delay_us,
            up: true,
        });
        self.links.len() - 1
    }

    pub fn is_edge(&self, node: usize) -> bool {
        node >= self.relays
    }

    pub fn index(&self, name: &NodeId) -> usize {
        let at = self.names.iter().position(|n| n == name);
        at.expect("a node of the graph")
    }

    fn delay(&self, from: usize, to: usize, weight: &dyn Fn(usize) -> u64) -> Option<u64> {
        let ends = |l: &Link| (l.a, l.b) == (from, to) || (l.b, l.a) == (from, to);
        let (at, link) = self
            .links
            .iter()
            .enumerate()
            .find(|(_, l)| l.up && ends(l))?;
        let direction = usize::from(link.a != from);
        Some(link.delay_us[direction] * weight(at) / 100)
    }

    /// The best paths of `from` to every relay, at most two, over links that are up and nodes
    /// that are alive. `weight` (in percent, by link) makes a node's view differ from the truth.
    pub fn routes(
        &self,
        from: usize,
        alive: &dyn Fn(usize) -> bool,
        weight: &dyn Fn(usize) -> u64,
        n: u64,
    ) -> Arc<Routes> {
        let mut found: BTreeMap<usize, Vec<(u64, Vec<usize>)>> = BTreeMap::new();
        let mut stack = vec![(0u64, Vec::<usize>::new())];
        while let Some((cost, path)) = stack.pop() {
            let last = path.last().copied().unwrap_or(from);
            for next in (0..self.relays).filter(|n| alive(*n)) {
                if next == from || path.contains(&next) {
                    continue;
                }
                let Some(delay) = self.delay(last, next, weight) else {
                    continue;
                };
                let mut way = path.clone();
                way.push(next);
                let cost = cost + delay + 500;
                found.entry(next).or_default().push((cost, way.clone()));
                let between = way.len() - usize::from(self.is_edge(from));
                if between <= MOST_BETWEEN {
                    stack.push((cost, way));
                }
            }
        }
        let mut paths = BTreeMap::new();
        for (to, mut ways) in found {
            ways.sort();
            let best = ways[0].clone();
            // The backup begins elsewhere, if it can.
            let other = ways.iter().find(|(_, way)| way[0] != best.1[0]).cloned();
            let ways = std::iter::once(best).chain(other);
            let paths_to = ways.map(|(cost_us, way)| Path {
                hops: way.into_iter().map(|node| self.hop(node)).collect(),
                cost_us,
            });
            paths.insert(self.names[to].clone(), paths_to.collect());
        }
        let attached = (self.relays..self.names.len()).map(|edge| {
            let relays = self.attached(edge).into_iter().filter(|r| alive(*r));
            let relays = relays.map(|relay| self.names[relay].clone());
            (self.names[edge].clone(), relays.collect())
        });
        Arc::new(Routes {
            version: Version {
                era: 0,
                election: 0,
                n,
            },
            neighbours: Vec::new(),
            paths,
            attached: attached.collect(),
            ..Routes::default()
        })
    }

    fn hop(&self, node: usize) -> Hop {
        Hop {
            node: self.names[node].clone(),
            net: Net::internet(),
        }
    }

    /// The relays an edge is linked to.
    fn attached(&self, edge: usize) -> Vec<usize> {
        let up = self.links.iter().filter(|l| l.up);
        up.filter_map(|l| match (l.a == edge, l.b == edge) {
            (true, _) => Some(l.b),
            (_, true) => Some(l.a),
            _ => None,
        })
        .collect()
    }
}
