//! The paths in use of one policy class, and when a better one is worth moving to.

use longspan_proto::{ids::NodeId, time::Time};
use longspan_topology::{
    graph::{Graph, Transit},
    hysteresis::{self, Judged, Verdict},
    paths::{Pair, Paths, Way},
    policy::Class,
};

use super::{HOLD, table};

/// What a pair is told: a primary and, if there is one, a backup, with their costs in µs.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Told {
    pub ways: [Option<(Way, u64)>; 2],
}

/// What is kept of a pair.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    way: Option<Way>,
    moved: Option<Time>,
}

/// A move of a pair's primary path.
pub(super) struct Move {
    pub from: usize,
    pub to: usize,
    pub before: Way,
    pub after: Option<Way>,
    pub verdict: Verdict,
}

/// A path that a node left which is not there any more.
pub(super) struct Lost {
    pub from: usize,
    pub to: usize,
    pub before: Way,
    /// The same pair's numbers now; none: its end is gone too.
    pub now: Option<(usize, usize)>,
}

/// One class's paths. Pairs are numbered `from * relays + to`, as in the graph.
#[derive(Clone)]
pub(super) struct Chosen {
    pub paths: Paths,
    held: Vec<Held>,
    now: Vec<Told>,
    /// As the nodes' tables have it.
    sent: Vec<Told>,
}

impl Chosen {
    pub fn new(graph: &Graph, class: &Class) -> Chosen {
        let pairs = graph.names().len() * graph.relays();
        Chosen {
            paths: Paths::new(graph, class),
            held: vec![Held::default(); pairs],
            now: vec![Told::default(); pairs],
            sent: vec![Told::default(); pairs],
        }
    }

    /// The same over other nodes: what is in use stays in use where all of it is still there. What
    /// is not is told, by the old numbers.
    pub fn moved_to(&self, old: &Graph, new: &Graph) -> (Chosen, Vec<Lost>) {
        let mut chosen = Chosen::new(new, self.paths.class());
        let places: Vec<Option<usize>> = old.names().iter().map(|name| new.number(name)).collect();
        let mut all_lost = Vec::new();
        for (at, held) in self.held.iter().enumerate() {
            let (from, to) = (at / old.relays(), at % old.relays());
            let Some(start) = places[from] else {
                continue;
            };
            let way = held.way.and_then(|way| way.renumbered(|node| places[node]));
            let end = places[to].filter(|to| *to < new.relays());
            if let Some(end) = end {
                let moved = held.moved;
                chosen.held[start * new.relays() + end] = Held { way, moved };
            }
            if let Some(before) = held.way.filter(|_| end.is_none() || way.is_none()) {
                let now = end.map(|end| (start, end));
                all_lost.push(Lost {
                    from,
                    to,
                    before,
                    now,
                });
            }
        }
        (chosen, all_lost)
    }

    /// The paths that another controller chose, of one node: in use, and chosen just now. Those over
    /// nodes that are not there are not.
    pub fn adopt(&mut self, now: Time, graph: &Graph, from: usize, paths: &table::Paths) {
        for (to, paths) in paths {
            let end = graph
                .number(to)
                .filter(|to| *to < graph.relays() && *to != from);
            let (Some(end), Some(path)) = (end, paths.first()) else {
                continue;
            };
            let crossed = path
                .hops
                .split_last()
                .map_or(&[][..], |(_, crossed)| crossed);
            let numbers = crossed.iter().map(|hop| graph.number(&hop.node));
            let Some(numbers) = numbers.collect::<Option<Vec<usize>>>() else {
                continue;
            };
            let held = &mut self.held[from * graph.relays() + end];
            if held.way.is_none() {
                held.way = Way::through(&numbers);
                held.moved = Some(now);
            }
        }
    }

    /// Takes in which links changed.
    pub fn update(&mut self, graph: &Graph, changed: &[(usize, usize)]) {
        self.paths.update(graph, changed);
    }

    /// Chooses every pair's paths. `pinned` are the paths that operators want.
    pub fn choose(
        &mut self,
        now: Time,
        graph: &Graph,
        pinned: impl Fn(usize, usize) -> Option<Way>,
        mut moves: impl FnMut(Move),
    ) {
        let relays = graph.relays();
        for at in 0..self.held.len() {
            let (from, to) = (at / relays, at % relays);
            if from == to {
                continue;
            }
            let pair = self.paths.pair(from, to);
            let held = &mut self.held[at];
            let (way, verdict) = match pinned(from, to) {
                Some(pin) if pin.is_some() => (Some(pin), Verdict::Pinned),
                _ => pick(&self.paths, graph, (from, to), pair, held, now),
            };
            if let Some(before) = held.way
                && way.is_none_or(|way| !way.same_nodes(&before))
            {
                held.moved = Some(now);
                let after = way;
                moves(Move {
                    from,
                    to,
                    before,
                    after,
                    verdict,
                });
            }
            held.way = way;
            self.now[at] = told(pair, way, from, to);
        }
    }

    /// Whether a node's table is to be made anew: other ways, or costs that are clearly others.
    pub fn is_due(&self, graph: &Graph, from: usize) -> bool {
        let row = from * graph.relays()..(from + 1) * graph.relays();
        let pairs = self.now[row.clone()].iter().zip(&self.sent[row]);
        pairs.into_iter().any(|(now, sent)| now.differs(sent))
    }

    /// What a node is to be told.
    pub fn row(&self, graph: &Graph, from: usize) -> &[Told] {
        &self.now[from * graph.relays()..(from + 1) * graph.relays()]
    }

    /// Its table has that from now on.
    pub fn sent(&mut self, graph: &Graph, from: usize) {
        let row = from * graph.relays()..(from + 1) * graph.relays();
        self.sent[row.clone()].copy_from_slice(&self.now[row]);
    }

    /// A pair as it is chosen now.
    pub fn pair(&self, graph: &Graph, from: usize, to: usize) -> &Told {
        &self.now[from * graph.relays() + to]
    }

    /// The links that paths in use take.
    pub fn used(&self, relays: usize) -> impl Iterator<Item = (usize, usize)> {
        let held = self.held.iter().enumerate();
        held.flat_map(move |(at, held)| {
            let (from, to) = (at / relays, at % relays);
            let links = held
                .way
                .into_iter()
                .flat_map(move |way| way.links(from, to));
            links.map(|(a, b, _)| (a, b))
        })
    }
}

/// The path to take, and why.
fn pick(
    paths: &Paths,
    graph: &Graph,
    (from, to): (usize, usize),
    pair: &Pair,
    held: &Held,
    now: Time,
) -> (Option<Way>, Verdict) {
    if !pair.best.is_some() {
        return (None, Verdict::Failed);
    }
    let best = pair.best;
    let Some(before) = held.way else {
        return (Some(best), Verdict::Failed);
    };
    if before.same_nodes(&best) {
        return (Some(best), Verdict::Held);
    }
    let present = paths.over(graph, from, to, before.mids());
    let is_draining = |mid: &u16| graph.node(usize::from(*mid)).transit == Transit::Draining;
    let leaves = |way: &Way| way.mids().iter().any(is_draining);
    if present.is_some_and(|present| leaves(&present) && !leaves(&best)) {
        return (Some(best), Verdict::Drained);
    }
    let judged = |way: Way| Judged {
        cost_us: pair.told_us(&way),
        price: if paths.is_priced() { way.price() } else { 0 },
    };
    let verdict =
        hysteresis::judge_priced(present.map(judged), judged(best), now, held.moved, HOLD);
    match present {
        Some(present) if !verdict.moves() => (Some(present), verdict),
        _ => (Some(best), verdict),
    }
}

/// The primary path, and of the two that are known the one that shares less with it.
fn told(pair: &Pair, primary: Option<Way>, from: usize, to: usize) -> Told {
    let Some(primary) = primary else {
        return Told::default();
    };
    let backup = match primary.same_nodes(&pair.best) {
        true => Some(pair.backup).filter(Way::is_some),
        false => {
            let others = [pair.best, pair.backup].into_iter();
            let others = others.filter(|way| way.is_some() && !way.same_nodes(&primary));
            others.min_by_key(|way| (way.shared(&primary, from, to), way.cost_us()))
        }
    };
    let cost = pair.told_us(&primary);
    // Nodes order by the cost told; a path kept by hysteresis or a pin may cost more than the one
    // behind it.
    let backup = backup.map(|way| (way, pair.told_us(&way).max(cost)));
    Told {
        ways: [Some((primary, cost)), backup],
    }
}

impl Told {
    fn differs(&self, other: &Told) -> bool {
        let same = |a: &Option<(Way, u64)>, b: &Option<(Way, u64)>| match (a, b) {
            (Some((a, cost_a)), Some((b, cost_b))) => {
                a.same_links(b) && !table::is_other_cost(*cost_a, *cost_b)
            }
            (None, None) => true,
            _ => false,
        };
        !self.ways.iter().zip(&other.ways).all(|(a, b)| same(a, b))
    }
}

/// Nodes of a way after its beginning.
pub(super) fn nodes(graph: &Graph, way: &Way, from: usize, to: usize) -> Vec<NodeId> {
    let links = way.links(from, to);
    links
        .map(|(_, node, _)| graph.names()[node].clone())
        .collect()
}
