//! The best path and a backup between every node and every relay, for one policy class.
//!
//! A path leads from the node that wants a track towards the relay it comes from, and is weighed the
//! way the frames go: a step from `a` to `b` is the link from `b` to `a` (see [`graph`](crate::graph)).
//!
//! *Best*: quickest; where links have a price, the cheapest within the class's latency budget, and
//! the quickest if none is within it. *Backup*: the best that shares no relay and no link with it;
//! where there is none, the one that shares the fewest relays, then links. Draining nodes and full
//! links are avoided before all else, cordoned and forbidden ones always. Equals are ordered by
//! their length, then by their nodes, so there is exactly one answer, and a change of a few links
//! gives what computing everything gives.
//!
//! Costs are clock differences and need not be positive. After a clock stepped, a cycle may for a
//! moment seem to cost less than nothing; paths are simple all the same, because halves that meet
//! twice are never joined, not because cycles cost something.

mod jitter;
mod matrix;
mod search;
mod way;
mod what_if;

use crate::{
    graph::Graph,
    policy::Class,
    routes::{Hop, Path},
};
use matrix::{Matrix, least};
use search::{Asked, Rest};
pub use way::Way;
use way::{REACHED, TOLL};
pub use what_if::{Lifted, quickest};

/// Most relays between the two ends of a path.
pub const MAX_INTERMEDIATES: usize = 3;

/// What is known of the paths between two nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The best.
    pub best: Way,
    /// For when it fails.
    pub backup: Way,
    /// The quickest path's cost, by the clocks of this computation …
    quickest: i32,
    /// … and as nodes are told it: by round trips, in µs.
    told_us: i64,
    /// A path is new to the backup only if it costs less than this.
    bar: i32,
}

impl Pair {
    const NONE: Pair = Pair {
        best: Way::NONE,
        backup: Way::NONE,
        quickest: 0,
        told_us: 0,
        bar: REACHED,
    };

    /// A path of this pair as nodes are told its cost: the quickest one's by round trips, and by
    /// how much this one's raw delays exceed that one's. So it orders paths as the search did.
    pub fn told_us(&self, way: &Way) -> u64 {
        let beyond = i64::from(way.cost_us()) - i64::from(self.quickest);
        (self.told_us + beyond).max(0) as u64
    }
}

/// All paths of a class.
#[derive(Debug, Clone)]
pub struct Paths {
    class: Class,
    matrix: Matrix,
    /// Some link has a price.
    is_priced: bool,
    epoch: u64,
    /// At `from * relays + to`.
    pairs: Vec<Pair>,
}

impl Paths {
    /// Computes them all. The graph must be settled.
    pub fn new(graph: &Graph, class: &Class) -> Paths {
        let relays = graph.relays();
        let allowed = (0..relays).map(|relay| class.allows(graph.node(relay)));
        let nodes = graph.names().len();
        let mut paths = Paths {
            class: class.clone(),
            matrix: Matrix::new(graph, allowed.collect()),
            is_priced: false,
            epoch: graph.epoch(),
            pairs: vec![Pair::NONE; nodes * relays],
        };
        let links = (0..nodes).flat_map(|from| (0..relays).map(move |to| (from, to)));
        paths.is_priced = links.clone().any(|(from, to)| is_priced(graph, from, to));
        paths.solve(graph, links);
        paths
    }

    /// Takes in that these steps changed; the rest of the graph is as it was. Gives what
    /// [`Paths::new`] would, or, where jitters differ among more ways than are kept, a path that is
    /// better by less than a link's jitter.
    pub fn update(&mut self, graph: &Graph, changed: &[(usize, usize)]) {
        // A look at every pair for each changed link pays only while they are few; with prices any
        // path within the budget may be the new best.
        let many = 16.max(graph.relays() / 2);
        let priced = || changed.iter().any(|&(from, to)| is_priced(graph, from, to));
        if self.epoch != graph.epoch() || changed.len() > many || self.is_priced || priced() {
            *self = Paths::new(graph, &self.class);
            return;
        }
        let weigh = |matrix: &Matrix, (a, b)| (matrix.link(a, b).0, matrix.jitter(a, b));
        let before: Vec<(i32, i32)> = changed.iter().map(|at| weigh(&self.matrix, *at)).collect();
        self.matrix.update(graph, changed);
        let relays = self.matrix.relays;
        let mut is_due = self.crossing(changed);
        for (&(from, to), before) in changed.iter().zip(before) {
            let now = weigh(&self.matrix, (from, to));
            // Its bound less half its jitter is what it costs without any.
            let plain = |(bound, jitter)| bound - jitter::bound(jitter);
            if plain(now) < plain(before) || now.1 < before.1 {
                self.mark_where_it_may_win(from, to, &mut is_due);
            }
        }
        let due = is_due.iter().enumerate().filter(|(_, due)| **due);
        let due: Vec<_> = due
            .map(|(pair, _)| (pair / relays, pair % relays))
            .collect();
        self.solve(graph, due.into_iter());
    }

    /// The class.
    pub fn class(&self) -> &Class {
        &self.class
    }

    /// Whether prices count: some link has one.
    pub fn is_priced(&self) -> bool {
        self.is_priced
    }

    /// What is known between a node and a relay, by their numbers.
    pub fn pair(&self, from: usize, to: usize) -> &Pair {
        &self.pairs[from * self.matrix.relays + to]
    }

    /// A path over these relays as it is now, over the quickest link between each two; none if it
    /// cannot be used. May cross draining nodes and full links.
    pub fn over(&self, graph: &Graph, from: usize, to: usize, mids: &[u16]) -> Option<Way> {
        if mids.len() > MAX_INTERMEDIATES {
            return None;
        }
        let mut now = self.matrix.with_nets(Way::over(0, mids), from, to);
        let links = now
            .links(from, to)
            .map(|(a, b, _)| self.matrix.link(a, b).0);
        let tolls = now
            .mids()
            .iter()
            .map(|mid| self.matrix.toll(usize::from(*mid)));
        now.cost = links.chain(tolls).fold(0, i32::saturating_add);
        now.cost = now.cost.saturating_add(self.matrix.beyond(&now, from, to));
        now.is_some().then(|| priced(graph, now, from, to))
    }

    /// Whether a path crosses no full link and no draining node.
    pub fn is_open(&self, way: &Way) -> bool {
        way.tolls() == 0
    }

    /// Solves these pairs.
    fn solve(&mut self, graph: &Graph, pairs: impl Iterator<Item = (usize, usize)>) {
        let relays = self.matrix.relays;
        let mut sums = Vec::new();
        let mut hard: Vec<(usize, usize)> = Vec::new();
        for (from, to) in pairs.filter(|(from, to)| from != to) {
            let pair = self.quick(graph, from, to, &mut sums);
            let is_hard = pair.best.is_some()
                && (self.is_priced || !pair.backup.is_some() || pair.backup.tolls() > 0);
            if is_hard {
                hard.push((to, from));
            }
            self.pairs[from * relays + to] = pair;
        }
        hard.sort_unstable();
        for group in hard.chunk_by(|a, b| a.0 == b.0) {
            let rest = Rest::new(graph, &self.matrix, group[0].0, self.is_priced);
            for &(to, from) in group {
                let pair = self.pairs[from * relays + to];
                self.pairs[from * relays + to] = self.exact(graph, &rest, from, to, pair);
            }
        }
    }

    /// The quickest path and the quickest that is disjoint with it.
    fn quick(&self, graph: &Graph, from: usize, to: usize, sums: &mut Vec<i32>) -> Pair {
        let matrix = &self.matrix;
        let best = matrix.best(from, to, &[], true, sums);
        if !best.is_some() {
            return Pair::NONE;
        }
        let best = priced(graph, matrix.with_nets(best, from, to), from, to);
        let backup = matrix.best(from, to, best.mids(), best.len > 0, sums);
        let backup = priced(graph, matrix.with_nets(backup, from, to), from, to);
        let (mut plain, mut squares) = (0, 0);
        for (a, b, net) in best.links(from, to) {
            let weight = &graph.weights(a, b)[net];
            plain += weight.cost_us - weight.offset_us;
            squares += u64::from(weight.jitter_us).pow(2);
        }
        Pair {
            best,
            backup,
            quickest: best.cost_us(),
            told_us: plain + squares.isqrt() as i64,
            bar: backup.cost.min(REACHED),
        }
    }

    /// The same by the search, where the quick way does not tell.
    fn exact(
        &self,
        graph: &Graph,
        rest: &Rest<'_>,
        from: usize,
        to: usize,
        mut pair: Pair,
    ) -> Pair {
        let budget = self.is_priced.then(|| {
            let budget = self.class.mode.budget().as_micros() as i64 - pair.told_us;
            let limit = i64::from(TOLL);
            (budget + i64::from(pair.quickest)).clamp(-limit, limit) as i32
        });
        // The quickest of all that costs nothing, or is too late, cannot be bettered by price.
        let is_settled = |way: &Way| match budget {
            None => true,
            Some(budget) => way.price == 0 || way.cost_us() > budget,
        };
        let mut asked = Asked {
            apart_from: None,
            budget,
        };
        let quickest = pair.best;
        if !is_settled(&quickest) {
            pair.best = rest.best(from, asked, quickest);
        }
        let is_apart = pair.best.same_nodes(&quickest);
        let seed = if is_apart {
            pair.backup
        } else {
            let way = self.matrix.best(
                from,
                to,
                pair.best.mids(),
                pair.best.len > 0,
                &mut Vec::new(),
            );
            priced(graph, self.matrix.with_nets(way, from, to), from, to)
        };
        pair.backup = seed;
        if !seed.is_some() || seed.tolls() > 0 || !is_settled(&seed) {
            let best = pair.best;
            asked.apart_from = Some(&best);
            pair.backup = rest.best(from, asked, seed);
        }
        // Any path may share less than this one.
        pair.bar = REACHED;
        pair
    }

    /// Pairs whose paths take one of these links.
    fn crossing(&self, links: &[(usize, usize)]) -> Vec<bool> {
        let relays = self.matrix.relays;
        let mut is_changed = vec![false; self.pairs.len()];
        for (from, to) in links {
            is_changed[from * relays + to] = true;
        }
        let crosses = |(at, pair): (usize, &Pair)| {
            let (from, to) = (at / relays, at % relays);
            let ways = [&pair.best, &pair.backup];
            let ways = ways.into_iter().filter(|way| way.is_some());
            let mut links = ways.flat_map(|way| way.links(from, to));
            links.any(|(a, b, _)| is_changed[a * relays + b])
        };
        self.pairs.iter().enumerate().map(crosses).collect()
    }

    /// Marks the pairs for which a path over this link may be better than one they have.
    fn mark_where_it_may_win(&self, a: usize, b: usize, is_due: &mut [bool]) {
        let matrix = &self.matrix;
        let (relays, nodes) = (matrix.relays, matrix.nodes);
        let link = matrix.link(a, b).0;
        // To its beginning over at most one and two links, and on from its end.
        let (mut to_a, mut to_a_near) = (vec![REACHED; nodes], vec![REACHED; nodes]);
        if a < relays {
            for from in 0..nodes {
                let toll = |cost: i32| cost.saturating_add(matrix.toll(a)).min(REACHED);
                to_a[from] = toll(matrix.link(from, a).0);
                to_a_near[from] = toll(matrix.near(from)[a]);
            }
        }
        (to_a[a], to_a_near[a]) = (0, 0);
        let on = |cost: i32| cost.saturating_add(matrix.toll(b)).min(REACHED);
        let mut from_b: Vec<i32> = (0..relays).map(|to| on(matrix.link(b, to).0)).collect();
        let mut from_b_near: Vec<i32> = (0..relays).map(|to| on(matrix.near(b)[to])).collect();
        (from_b[b], from_b_near[b]) = (0, 0);
        for from in 0..nodes {
            let pairs = &self.pairs[from * relays..][..relays];
            let due = &mut is_due[from * relays..][..relays];
            for to in 0..relays {
                let over = (to_a_near[from] + from_b[to]).min(to_a[from] + from_b_near[to]);
                due[to] |= link + over <= pairs[to].bar;
            }
        }
        // Three links before it, or after it.
        if a < relays {
            for from in 0..nodes {
                let cost =
                    least(matrix.near(from), matrix.one_on(a)).saturating_add(matrix.toll(a));
                let at = from * relays + b;
                is_due[at] |= cost.saturating_add(link) <= self.pairs[at].bar;
            }
        }
        for to in 0..relays {
            let cost = least(matrix.one(b), matrix.near_on(to)).saturating_add(matrix.toll(b));
            let at = a * relays + to;
            is_due[at] |= cost.saturating_add(link) <= self.pairs[at].bar;
        }
    }
}

impl Way {
    /// How many relays, then links, two paths of the same pair share.
    pub fn shared(&self, other: &Way, from: usize, to: usize) -> (usize, usize) {
        let mids = self.mids().iter().filter(|mid| other.mids().contains(mid));
        let links = self.links(from, to).filter(|(a, b, _)| {
            let mut theirs = other.links(from, to);
            theirs.any(|(x, y, _)| (x, y) == (*a, *b))
        });
        (mids.count(), links.count())
    }

    /// What its links cost a GB, in millionths of the operator's currency.
    pub fn price_in(&self, graph: &Graph, from: usize, to: usize) -> u32 {
        priced(graph, *self, from, to).price
    }

    /// As nodes are told it.
    pub fn path(&self, graph: &Graph, from: usize, to: usize, cost_us: u64) -> Path {
        let hops = self.links(from, to).filter_map(|(a, b, net)| {
            let weight = graph.weights(a, b).get(net)?;
            Some(Hop {
                node: graph.names()[b].clone(),
                net: weight.net.clone(),
            })
        });
        Path {
            hops: hops.collect(),
            cost_us,
        }
    }
}

fn is_priced(graph: &Graph, from: usize, to: usize) -> bool {
    graph
        .weights(from, to)
        .iter()
        .any(|weight| weight.price > 0)
}

/// A path with its price.
fn priced(graph: &Graph, mut way: Way, from: usize, to: usize) -> Way {
    if way.is_some() {
        let prices = way
            .links(from, to)
            .map(|(a, b, net)| graph.weights(a, b)[net].price);
        way.price = prices.fold(0, u32::saturating_add);
    }
    way
}

#[cfg(test)]
mod tests;
