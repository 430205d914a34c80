//! The exact search for what a scan cannot find: a backup where none is disjoint, and the cheapest
//! path within a latency budget. Depth first, bounded by what the rest of a path costs at least.

use super::{
    MAX_INTERMEDIATES,
    jitter::{self, Jitters},
    matrix::{Matrix, least},
    way::{REACHED, TOLL, Way, tolls},
};
use crate::graph::Graph;

/// What paths are compared by, in this order; less is better. The last three make the order total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Draining nodes and full links it crosses.
    tolls: i32,
    /// Relays, then links, that it shares with the primary.
    shared: (u8, u8),
    /// It is above the latency budget; then the quickest wins.
    is_late: bool,
    price: u32,
    cost: i32,
    len: u8,
    mids: [u16; MAX_INTERMEDIATES],
}

/// What is asked of a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    /// It shall share little with this one, and is not the same.
    pub apart_from: Option<&'a Way>,
    /// Within this cost, in µs, the cheapest wins. None: prices do not count.
    pub budget: Option<i32>,
}

/// What is known of the rest of any path to one relay.
pub(super) struct Rest<'a> {
    graph: &'a Graph,
    matrix: &'a Matrix,
    to: usize,
    /// From each relay over at most three links, its toll included.
    far_on: Vec<i32>,
    /// The least price from each node over at most one, two and three links.
    prices: Option<[Vec<u32>; 3]>,
}

impl<'a> Rest<'a> {
    pub fn new(graph: &'a Graph, matrix: &'a Matrix, to: usize, is_priced: bool) -> Rest<'a> {
        let near_on = matrix.near_on(to);
        let far = (0..matrix.relays).map(|at| {
            let over = least(matrix.one(at), near_on).saturating_add(matrix.toll(at));
            near_on[at].min(over)
        });
        let mut rest = Rest {
            graph,
            matrix,
            to,
            far_on: far.collect(),
            prices: None,
        };
        rest.prices = is_priced.then(|| rest.least_prices());
        rest
    }

    fn least_prices(&self) -> [Vec<u32>; 3] {
        let relays = 0..self.matrix.relays;
        let link = |from: usize, to: usize| {
            let usable = self.graph.weights(from, to).iter().filter(|w| !w.cordoned);
            let usable = usable.filter(|_| self.matrix.link(from, to).0 <= REACHED);
            usable.map(|w| w.price).min().unwrap_or(u32::MAX)
        };
        let one: Vec<u32> = relays.clone().map(|at| link(at, self.to)).collect();
        let longer = |shorter: &[u32]| -> Vec<u32> {
            let over = |at: usize| {
                let nexts = relays.clone().filter(|next| shorter[*next] < shorter[at]);
                let prices = nexts.map(|next| link(at, next).saturating_add(shorter[next]));
                prices.fold(shorter[at], u32::min)
            };
            relays.clone().map(over).collect()
        };
        let two = longer(&one);
        let three = longer(&two);
        [one, two, three]
    }

    /// The best path from a node by what is asked; `seed` is one that is known.
    pub fn best(&self, from: usize, asked: Asked<'_>, seed: Way) -> Way {
        let mut search = Search {
            rest: self,
            from,
            asked,
            best: Way::NONE,
            rank: None,
        };
        if seed.is_some() {
            let shared = asked
                .apart_from
                .map_or((0, 0), |p| seed.shared(p, from, self.to));
            let shared = (shared.0 as u8, shared.1 as u8);
            search.rank = Some(search.rank(seed.cost, seed.price, shared, &seed));
            search.best = seed;
        }
        search.visit(
            from,
            Begun {
                way: Way::over(0, &[]),
                jitters: Jitters::default(),
                shared: (0, 0),
            },
        );
        search.best
    }
}

impl Asked<'_> {
    fn shares_node(&self, node: usize) -> bool {
        let mut mids = self.apart_from.into_iter().flat_map(Way::mids);
        mids.any(|mid| usize::from(*mid) == node)
    }

    fn shares_link(&self, from: usize, to: usize, a: usize, b: usize) -> bool {
        let links = self
            .apart_from
            .into_iter()
            .flat_map(|way| way.links(from, to));
        links.into_iter().any(|(x, y, _)| (x, y) == (a, b))
    }
}

/// The beginning of a path. What it costs is the sum of its links' bounds.
#[derive(Debug, Clone, Copy)]
struct Begun {
    way: Way,
    jitters: Jitters,
    /// Relays, then links, that it shares with the primary.
    shared: (u8, u8),
}

impl Begun {
    /// Over one link more.
    fn over(mut self, link: &Link) -> Begun {
        self.way.cost += link.bound;
        self.way.price = self.way.price.saturating_add(link.price);
        self.way.nets[usize::from(self.way.len)] = link.net;
        self.jitters = self.jitters.and(link.jitter);
        self
    }
}

/// One that can be taken.
struct Link {
    bound: i32,
    jitter: i32,
    price: u32,
    net: u8,
}

struct Search<'a> {
    rest: &'a Rest<'a>,
    from: usize,
    asked: Asked<'a>,
    best: Way,
    rank: Option<Rank>,
}

impl Search<'_> {
    fn rank(&self, cost: i32, price: u32, shared: (u8, u8), way: &Way) -> Rank {
        let tolls = tolls(cost);
        let is_late = self
            .asked
            .budget
            .is_some_and(|budget| cost - tolls * TOLL > budget);
        let counts = self.asked.budget.is_some() && !is_late;
        Rank {
            tolls,
            shared,
            is_late,
            price: if counts { price } else { 0 },
            cost,
            len: way.len,
            mids: way.mids,
        }
    }

    /// Whether a path that begins so, with `left` links at most still to go from `at`, may be the
    /// best.
    fn may_win(&self, at: usize, left: usize, begun: &Begun) -> Option<Rank> {
        let (rest, way) = (self.rest, &begun.way);
        let to_go = match left {
            1 => rest.matrix.one_on(rest.to)[at],
            2 => rest.matrix.near_on(rest.to)[at],
            _ => rest.far_on[at],
        };
        let cost = way.cost.saturating_add(to_go);
        if cost > REACHED {
            return None;
        }
        let price = rest
            .prices
            .as_ref()
            .map_or(0, |prices| prices[left - 1][at]);
        let mut bound = self.rank(cost, way.price.saturating_add(price), begun.shared, way);
        // Ties are for whole paths.
        (bound.len, bound.mids) = (0, [0; MAX_INTERMEDIATES]);
        self.rank.is_none_or(|best| bound <= best).then_some(bound)
    }

    fn visit(&mut self, at: usize, begun: Begun) {
        self.finish(at, begun);
        let way = begun.way;
        let crossed = usize::from(way.len);
        if crossed == MAX_INTERMEDIATES {
            return;
        }
        let left = MAX_INTERMEDIATES - crossed;
        let mut nexts = Vec::new();
        for next in 0..self.rest.matrix.relays {
            let is_new = next != self.from && next != self.rest.to;
            if !is_new || way.mids().contains(&(next as u16)) {
                continue;
            }
            let mut shared = begun.shared;
            shared.0 += u8::from(self.asked.shares_node(next));
            shared.1 += u8::from(self.asked.shares_link(self.from, self.rest.to, at, next));
            self.links(at, next, |link| {
                let mut longer = begun.over(&link);
                longer.shared = shared;
                longer.way.mids[crossed] = next as u16;
                longer.way.len += 1;
                if let Some(bound) = self.may_win(next, left, &longer) {
                    // The toll is within what is to go; once it is gone, it is within what is paid.
                    longer.way.cost += self.rest.matrix.toll(next);
                    nexts.push((bound, longer));
                }
            });
        }
        nexts.sort_unstable_by_key(|(bound, longer)| (*bound, longer.way.mids, longer.way.nets));
        for (bound, longer) in nexts {
            if self.rank.is_some_and(|best| bound > best) {
                break;
            }
            self.visit(usize::from(longer.way.mids[crossed]), longer);
        }
    }

    /// The path that goes to its end from here.
    fn finish(&mut self, at: usize, begun: Begun) {
        let to = self.rest.to;
        let mut shared = begun.shared;
        shared.1 += u8::from(self.asked.shares_link(self.from, to, at, to));
        if self
            .asked
            .apart_from
            .is_some_and(|primary| begun.way.mids() == primary.mids())
        {
            return;
        }
        let mut best = (self.rank, self.best);
        self.links(at, to, |link| {
            let Begun {
                mut way, jitters, ..
            } = begun.over(&link);
            if way.cost > REACHED {
                return;
            }
            way.cost += jitters.beyond();
            let rank = self.rank(way.cost, way.price, shared, &way);
            if best.0.is_none_or(|best| rank < best) {
                best = (Some(rank), way);
            }
        });
        (self.rank, self.best) = best;
    }

    /// The usable links between two nodes.
    fn links(&self, from: usize, to: usize, mut each: impl FnMut(Link)) {
        let (graph, matrix) = (self.rest.graph, self.rest.matrix);
        let (bound, net) = matrix.link(from, to);
        if bound > REACHED {
            return;
        }
        if self.asked.budget.is_none() {
            let jitter = matrix.jitter(from, to);
            return each(Link {
                bound,
                jitter,
                price: 0,
                net,
            });
        }
        for (net, weight) in graph.weights(from, to).iter().enumerate() {
            if !weight.cordoned {
                let (cost, jitter) = graph.cost(from, to, weight);
                let toll = if weight.full { TOLL } else { 0 };
                each(Link {
                    bound: cost + jitter::bound(jitter) + toll,
                    jitter,
                    price: weight.price,
                    net: net as u8,
                });
            }
        }
    }
}
