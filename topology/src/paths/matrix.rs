//! Costs between all nodes over one and over two links, laid out for scanning.
//!
//! A path of at most four links is two of at most two links that meet in a node. With the best ways
//! over two links at hand, the best of a pair is found by one scan over where they meet; and since
//! several are kept, so is the best that avoids another path's nodes.
//!
//! What is laid out are *bounds* (see `jitter`): no path costs less than the sum of its links', nor
//! less than the sum of its halves' closer ones. A scan passes over what cannot be the best, and what
//! is left is compared by what it costs as a whole.

use super::{
    jitter::{self, Jitters},
    way::{NEVER, NO_NODE, REACHED, TOLL, Way},
};
use crate::graph::{Graph, Transit};

/// Ways over two links kept for each pair, by their bounds. To join two halves that avoid a path's
/// three relays, the far end of the other half and each other, the best two of six are enough where
/// jitters are alike. Where they differ, one that was not kept may be better by less than half of its
/// jitter.
const KEPT: usize = 6;
/// Sums compared at once: rows are padded to a multiple of it, and the compiler makes vectors of it.
const LANES: usize = 16;

/// The best relays between two nodes, cheapest first.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Between {
    cost: [i32; KEPT],
    node: [u16; KEPT],
}

impl Between {
    const NONE: Between = Between {
        cost: [NEVER; KEPT],
        node: [NO_NODE; KEPT],
    };

    fn insert(&mut self, cost: i32, node: u16) {
        let mut place = KEPT - 1;
        while place > 0 && self.cost[place - 1] > cost {
            self.cost[place] = self.cost[place - 1];
            self.node[place] = self.node[place - 1];
            place -= 1;
        }
        self.cost[place] = cost;
        self.node[place] = node;
    }
}

/// One half of a path: its bound and the node it crosses, if any.
#[derive(Clone, Copy)]
struct Half {
    cost: i32,
    node: u16,
}

/// Halves between two nodes, the least bound first.
struct Halves {
    all: [Half; KEPT + 1],
    count: usize,
}

impl Halves {
    fn push(&mut self, half: Half) {
        self.all[self.count] = half;
        self.count += 1;
    }

    fn iter(&self) -> impl Iterator<Item = &Half> {
        self.all[..self.count].iter()
    }
}

/// Costs of steps by (from, to). Rows are nodes, columns relays.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Matrix {
    pub relays: usize,
    pub nodes: usize,
    stride: usize,
    /// The bound of the cheapest link, which it is, and its jitter.
    one: Vec<i32>,
    net: Vec<u8>,
    jitter: Vec<i32>,
    /// At (to, from), from a relay that is crossed: its toll is added.
    one_on: Vec<i32>,
    two: Vec<Between>,
    /// Over at most two links.
    near: Vec<i32>,
    /// As `one_on`.
    near_on: Vec<i32>,
    /// Over at most two links that are kept, by the closer bound.
    half: Vec<i32>,
    /// As `one_on`.
    half_on: Vec<i32>,
    /// What crossing a relay costs beside its links.
    toll: Vec<i32>,
    /// Relays that paths of the class may touch.
    allowed: Vec<bool>,
}

impl Matrix {
    pub fn new(graph: &Graph, allowed: Vec<bool>) -> Matrix {
        let (relays, nodes) = (graph.relays(), graph.names().len());
        let stride = relays.next_multiple_of(LANES);
        let toll = (0..relays).map(|relay| match graph.node(relay).transit {
            Transit::Open => 0,
            Transit::Draining => TOLL,
            Transit::Closed => NEVER,
        });
        let mut matrix = Matrix {
            relays,
            nodes,
            stride,
            one: vec![NEVER; nodes * stride],
            net: vec![0; nodes * stride],
            jitter: vec![0; nodes * stride],
            one_on: vec![NEVER; relays * stride],
            two: vec![Between::NONE; nodes * stride],
            near: vec![NEVER; nodes * stride],
            near_on: vec![NEVER; relays * stride],
            half: vec![NEVER; nodes * stride],
            half_on: vec![NEVER; relays * stride],
            toll: toll.collect(),
            allowed,
        };
        for from in 0..nodes {
            for to in 0..relays {
                matrix.set_link(graph, from, to);
            }
        }
        for from in 0..nodes {
            for to in 0..relays {
                matrix.set_two(from, to);
            }
        }
        matrix
    }

    /// Takes in that these links changed.
    pub fn update(&mut self, graph: &Graph, changed: &[(usize, usize)]) {
        for &(from, to) in changed {
            self.set_link(graph, from, to);
        }
        let (mut rows, mut columns): (Vec<_>, Vec<_>) = changed.iter().copied().unzip();
        for list in [&mut rows, &mut columns] {
            list.sort_unstable();
            list.dedup();
        }
        for &from in &rows {
            (0..self.relays).for_each(|to| self.set_two(from, to));
        }
        for &to in &columns {
            (0..self.nodes).for_each(|from| self.set_two(from, to));
        }
    }

    fn set_link(&mut self, graph: &Graph, from: usize, to: usize) {
        let is_allowed = self.allowed[to] && self.allowed.get(from).is_none_or(|allowed| *allowed);
        let weights = graph.weights(from, to).iter().enumerate();
        let usable = weights.filter(|(_, w)| is_allowed && !w.cordoned);
        // Of two nets between the same nodes the one that is cheaper by itself.
        let best = usable
            .map(|(net, w)| {
                let (cost, jitter) = graph.cost(from, to, w);
                (cost + jitter + if w.full { TOLL } else { 0 }, net, jitter)
            })
            .min();
        let (cost, net, jitter) = best.unwrap_or((NEVER, 0, 0));
        let cost = cost - jitter + jitter::bound(jitter);
        let at = from * self.stride + to;
        (self.one[at], self.net[at], self.jitter[at]) = (cost, net as u8, jitter);
        if from < self.relays {
            self.one_on[to * self.stride + from] = NEVER.min(cost + self.toll[from]);
        }
    }

    fn set_two(&mut self, from: usize, to: usize) {
        let at = from * self.stride + to;
        let mut between = Between::NONE;
        if from != to {
            let row = &self.one[from * self.stride..][..self.stride];
            scan(row, self.one_on(to), REACHED, |node, cost| {
                between.insert(cost, node as u16);
                // Of two that cost the same, the lower number stays before.
                (between.cost[KEPT - 1] - 1).min(REACHED)
            });
        }
        self.two[at] = between;
        let near = self.one[at].min(between.cost[0]);
        self.near[at] = near;
        let direct = Jitters::default().and(self.jitter[at]);
        let mut half = self.one[at] + direct.beyond_as_half();
        for (cost, node) in between.cost.into_iter().zip(between.node) {
            if node == NO_NODE || cost >= half {
                break;
            }
            let node = usize::from(node);
            let jitters = Jitters::default().and(self.jitter(from, node));
            let jitters = jitters.and(self.jitter(node, to));
            half = half.min(cost + jitters.beyond_as_half());
        }
        let half = half.min(NEVER);
        self.half[at] = half;
        if from < self.relays {
            let on = to * self.stride + from;
            self.near_on[on] = NEVER.min(near + self.toll[from]);
            self.half_on[on] = NEVER.min(half + self.toll[from]);
        }
    }

    /// The cheapest link's bound, and which link it is.
    pub fn link(&self, from: usize, to: usize) -> (i32, u8) {
        let at = from * self.stride + to;
        (self.one[at], self.net[at])
    }

    /// That link's jitter, in µs.
    pub fn jitter(&self, from: usize, to: usize) -> i32 {
        self.jitter[from * self.stride + to]
    }

    /// By how much a path over the cheapest links costs more than the sum of their bounds.
    pub fn beyond(&self, way: &Way, from: usize, to: usize) -> i32 {
        let links = way.links(from, to);
        links
            .fold(Jitters::default(), |sum, (a, b, _)| {
                sum.and(self.jitter(a, b))
            })
            .beyond()
    }

    /// Bounds of reaching every relay over at most two links.
    pub fn near(&self, from: usize) -> &[i32] {
        &self.near[from * self.stride..][..self.stride]
    }

    /// Bounds from every relay to `to` over one link, its toll included.
    pub fn one_on(&self, to: usize) -> &[i32] {
        &self.one_on[to * self.stride..][..self.stride]
    }

    /// Bounds from every relay to `to` over at most two links, its toll included.
    pub fn near_on(&self, to: usize) -> &[i32] {
        &self.near_on[to * self.stride..][..self.stride]
    }

    /// Bounds of the links from a node to every relay.
    pub fn one(&self, from: usize) -> &[i32] {
        &self.one[from * self.stride..][..self.stride]
    }

    pub fn toll(&self, relay: usize) -> i32 {
        self.toll[relay]
    }

    /// The best path that crosses none of `avoid`, without its nets; the direct one only if it `may`.
    pub fn best(
        &self,
        from: usize,
        to: usize,
        avoid: &[u16],
        may_be_direct: bool,
        sums: &mut Vec<i32>,
    ) -> Way {
        let mut best = Way::NONE;
        if may_be_direct && self.link(from, to).0 <= REACHED {
            best = Way::over(self.link(from, to).0, &[]);
            best.cost += self.beyond(&best, from, to);
        }
        // What a path that crosses each relay costs at least.
        sums.clear();
        let heads = &self.half[from * self.stride..][..self.stride];
        let tails = &self.half_on[to * self.stride..][..self.stride];
        sums.extend(heads.iter().zip(tails).map(|(head, tail)| head + tail));
        for node in avoid {
            sums[usize::from(*node)] = i32::MAX;
        }
        let least = sums.iter().copied().min().unwrap_or(i32::MAX);
        if least > best.cost.min(REACHED) {
            return best;
        }
        // The most promising first: what it gives spares looking at nearly all others.
        let first = sums
            .iter()
            .position(|sum| *sum == least)
            .unwrap_or_default();
        self.join(from, first, to, avoid, &mut best);
        for (chunk, sums) in sums.chunks_exact(LANES).enumerate() {
            if sums.iter().fold(i32::MAX, |least, sum| least.min(*sum)) > best.cost.min(REACHED) {
                continue;
            }
            for (lane, sum) in sums.iter().enumerate() {
                let middle = chunk * LANES + lane;
                if *sum <= best.cost.min(REACHED) && middle != first {
                    self.join(from, middle, to, avoid, &mut best);
                }
            }
        }
        best
    }

    /// Takes the best path that crosses `middle`, with at most one relay on either side of it, if it
    /// is better than the best so far.
    fn join(&self, from: usize, middle: usize, to: usize, avoid: &[u16], best: &mut Way) {
        let toll = self.toll[middle];
        let heads = self.halves(from, middle, to, avoid);
        let tails = self.halves(middle, to, from, avoid);
        let Some(shortest) = tails.iter().next() else {
            return;
        };
        for head in heads.iter() {
            if head.cost + shortest.cost + toll > best.cost.min(REACHED) {
                return;
            }
            for tail in tails.iter() {
                let cost = head.cost + tail.cost + toll;
                if cost > best.cost.min(REACHED) {
                    break;
                }
                if head.node == tail.node && head.node != NO_NODE {
                    continue;
                }
                let jitters = self.over_half(Jitters::default(), from, head.node, middle);
                let jitters = self.over_half(jitters, middle, tail.node, to);
                let cost = cost + jitters.beyond();
                if cost <= best.cost {
                    let way = Way::over(cost, &[head.node, middle as u16, tail.node]);
                    if way.is_better(best) {
                        *best = way;
                    }
                }
            }
        }
    }

    /// With the jitters of a half that crosses `node`, if any.
    fn over_half(&self, sum: Jitters, from: usize, node: u16, to: usize) -> Jitters {
        if node == NO_NODE {
            return sum.and(self.jitter(from, to));
        }
        let node = usize::from(node);
        sum.and(self.jitter(from, node)).and(self.jitter(node, to))
    }

    /// The ways over one or two links that cross none of `avoid` and not `other`, as far as kept.
    fn halves(&self, from: usize, to: usize, other: usize, avoid: &[u16]) -> Halves {
        let at = from * self.stride + to;
        let mut found = Halves {
            all: [Half {
                cost: NEVER,
                node: NO_NODE,
            }; KEPT + 1],
            count: 0,
        };
        let direct = |cost| Half {
            cost,
            node: NO_NODE,
        };
        let mut rest = Some(self.one[at]).filter(|cost| *cost <= REACHED);
        let two = &self.two[at];
        for (cost, node) in two.cost.into_iter().zip(two.node) {
            if let Some(cost) = rest.take_if(|direct| *direct <= cost) {
                found.push(direct(cost));
            }
            if node == NO_NODE {
                break;
            }
            if usize::from(node) != other && !avoid.contains(&node) {
                found.push(Half { cost, node });
            }
        }
        if let Some(cost) = rest {
            found.push(direct(cost));
        }
        found
    }

    /// Of each link of a path: which of the two nodes' links is the cheapest.
    pub fn with_nets(&self, mut way: Way, from: usize, to: usize) -> Way {
        let mut nets = way.nets;
        for (place, (from, to, _)) in way.links(from, to).enumerate() {
            nets[place] = self.link(from, to).1;
        }
        way.nets = nets;
        way
    }
}

/// Calls `found` with each place whose sum is at most the limit, which `found` lowers.
pub(super) fn scan(a: &[i32], b: &[i32], mut limit: i32, mut found: impl FnMut(usize, i32) -> i32) {
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    for (chunk, (a, b)) in a.iter().zip(b).enumerate() {
        let mut least = i32::MAX;
        for lane in 0..LANES {
            least = least.min(a[lane] + b[lane]);
        }
        if least > limit {
            continue;
        }
        for lane in 0..LANES {
            let sum = a[lane] + b[lane];
            if sum <= limit {
                limit = found(chunk * LANES + lane, sum);
            }
        }
    }
}

/// The least sum of two rows.
pub(super) fn least(a: &[i32], b: &[i32]) -> i32 {
    let (a, b) = (a.as_chunks::<LANES>().0, b.as_chunks::<LANES>().0);
    let mut least = [i32::MAX; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            least[lane] = least[lane].min(a[lane] + b[lane]);
        }
    }
    least.into_iter().min().unwrap_or(i32::MAX)
}
