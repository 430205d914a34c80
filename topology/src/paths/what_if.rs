//! What the quickest path would be without some of the constraints: for explaining what they rule
//! out. Bellman–Ford over the number of links, for one pair at a time; between paths that end in the
//! same relay it goes by their bounds, so what it finds may be a jitter off the quickest.

use super::{
    MAX_INTERMEDIATES,
    jitter::{self, Jitters},
    way::{NEVER, REACHED, TOLL, Way},
};
use crate::{
    graph::{Graph, Transit},
    policy::Class,
};

/// Constraints that are taken as not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lifted {
    /// Relays in every country may be touched.
    pub residency: bool,
    /// Cordoned nodes may be crossed, cordoned links taken.
    pub cordons: bool,
    /// Draining nodes may be crossed at no disadvantage.
    pub draining: bool,
    /// Full links may be taken at no disadvantage.
    pub full: bool,
}

/// The quickest path between two nodes. Prices do not count. One that seems to visit a node twice,
/// because a clock just stepped, is none.
pub fn quickest(
    graph: &Graph,
    class: &Class,
    lifted: Lifted,
    from: usize,
    to: usize,
) -> Option<Way> {
    let allowed =
        |node: usize| node >= graph.relays() || lifted.residency || class.allows(graph.node(node));
    let crossing = |node: usize| match graph.node(node).transit {
        Transit::Closed if !lifted.cordons => None,
        Transit::Draining if !lifted.draining => Some(TOLL),
        _ => Some(0),
    };
    let link = |a: usize, b: usize| {
        let weights = graph.weights(a, b).iter().enumerate();
        let usable = weights.filter(|(_, w)| lifted.cordons || !w.cordoned);
        usable
            .map(|(net, w)| {
                let toll = if w.full && !lifted.full { TOLL } else { 0 };
                let (cost, jitter) = graph.cost(a, b, w);
                (cost + jitter + toll, net as u8, jitter)
            })
            .min()
            .map(|(cost, net, jitter)| (cost - jitter + jitter::bound(jitter), net, jitter))
    };
    if !allowed(from) || !allowed(to) || from == to {
        return None;
    }
    let relays = graph.relays();
    let direct = link(from, to).map(|(bound, net, jitter)| {
        let mut way = Way::over(bound + Jitters::default().and(jitter).beyond(), &[]);
        way.nets[0] = net;
        way
    });
    let mut best = direct;
    // By relay: the best way there over so many links, ending in it.
    let none = (Way::NONE, Jitters::default());
    let mut reached = vec![none; relays];
    let mut start = vec![from];
    for crossed in 0..MAX_INTERMEDIATES {
        let mut next = vec![none; relays];
        for &at in &start {
            let (so_far, jitters) = if crossed == 0 {
                (Way::over(0, &[]), Jitters::default())
            } else {
                reached[at]
            };
            for node in (0..relays).filter(|node| *node != from && *node != to && allowed(*node)) {
                let seen = so_far.mids().contains(&(node as u16));
                let (Some((bound, net, jitter)), Some(toll), false) =
                    (link(at, node), crossing(node), seen)
                else {
                    continue;
                };
                let cost = so_far.cost + bound + toll;
                if cost < next[node].0.cost {
                    let mut way = Way { cost, ..so_far };
                    way.mids[crossed] = node as u16;
                    way.nets[crossed] = net;
                    way.len += 1;
                    next[node] = (way, jitters.and(jitter));
                }
            }
        }
        reached = next;
        start = (0..relays)
            .filter(|node| reached[*node].0.cost < NEVER)
            .collect();
        for &at in &start {
            if let Some((bound, net, jitter)) = link(at, to) {
                let (mut way, jitters) = reached[at];
                way.cost += bound + jitters.and(jitter).beyond();
                way.nets[crossed + 1] = net;
                if way.cost <= REACHED && best.is_none_or(|best| way.is_better(&best)) {
                    best = Some(way);
                }
            }
        }
    }
    best
}
