//! Why a way is taken: the candidates with their cost terms, what would be quicker but for a
//! constraint, and the moves there were.

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::{
    cost::{Terms, attachment_us},
    graph::Transit,
    paths::{Lifted, Way, quickest},
    policy::Class,
    routes::Path,
};
use serde::Serialize;

use super::{HOLD, Router, Switch, chosen, pins};

/// Moves that are told with an explanation.
const MOVES: usize = 16;

/// One step of a candidate: the link that brings frames from `node` to the one named before it. All
/// terms in ms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leg {
    /// The sending end: the next node on the way to the origin.
    pub node: NodeId,
    /// Over which net.
    pub net: Net,
    /// Half the round trip.
    pub delay_ms: f64,
    /// Receiver's clock minus sender's: one-way delay plus the clocks' offset. What paths are
    /// chosen by: over all candidates of a pair the offset is the same.
    pub raw_delay_ms: f64,
    /// 95th percentile of the jitter.
    pub jitter_ms: f64,
    /// What repairing lost packets adds on average.
    pub repair_ms: f64,
    /// Forwarding.
    pub hop_ms: f64,
    /// What an operator adds.
    pub operator_ms: f64,
    /// Price of a GB in the operator's currency.
    pub price: f64,
}

/// One way from the place asked about to the origin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The nodes crossed, the origin last.
    pub nodes: Vec<NodeId>,
    /// `primary`, `backup`, or `local`.
    pub rank: &'static str,
    /// Expected delivery latency as the node counts it, in ms: the path's, and what the last leg to
    /// the origin's edge counts over a standby.
    pub cost_ms: f64,
    /// Of that the jitter: those of its links in quadrature, in ms.
    pub jitter_ms: f64,
    /// Its links, but for the last one from a relay to the edge the stream enters at.
    pub legs: Vec<Leg>,
    /// Why it is not the one taken; none for the one that is.
    pub not_taken: Option<String>,
}

/// A quicker way that a constraint rules out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuledOut {
    /// The nodes crossed; a relay the origin is attached to last.
    pub nodes: Vec<NodeId>,
    /// Expected delivery latency, in ms.
    pub cost_ms: f64,
    /// What forbids it, each naming the node or link.
    pub because: Vec<String>,
}

/// The answer to `routes/explain`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explained {
    /// The place asked about.
    pub from: NodeId,
    /// Where the stream enters.
    pub origin: NodeId,
    /// The policy class, in words.
    pub class: String,
    /// Within this latency the cheapest path wins; without prices it does not matter.
    pub budget_ms: u64,
    /// The relays the origin is attached to.
    pub attached: Vec<NodeId>,
    /// Best first; empty: there is no way now.
    pub candidates: Vec<Candidate>,
    /// What would be quicker but for a constraint.
    pub ruled_out: Vec<RuledOut>,
    /// Of pins between the same ends: why they are not followed.
    pub passed_over_pins: Vec<String>,
    /// Recent moves between the same ends, the newest first.
    pub moves: Vec<Switch>,
    /// No other path is moved to for a gain below 3 % or 3 ms (the larger), nor within this many ms
    /// of the last move.
    pub hold_ms: u64,
}

pub(super) fn explain(
    router: &Router,
    class: u8,
    at: &NodeId,
    origin: &NodeId,
    attached: &[NodeId],
) -> Explained {
    let asked = router.classes.get(class).cloned().unwrap_or_default();
    let mut ruled_out: Vec<RuledOut> = Vec::new();
    let mut passed_over_pins = Vec::new();
    for relay in targets(origin, attached) {
        for found in ruled_out_between(router, class, &asked, at, relay) {
            if !ruled_out.contains(&found) {
                ruled_out.push(found);
            }
        }
        let ends = (at.clone(), relay.clone());
        let pin = router.world.overrides.pins.get(&ends);
        passed_over_pins
            .extend(pin.and_then(|nodes| pin_passed_over(router, class, at, relay, nodes)));
    }
    let ends = |s: &&Switch| {
        s.class == class && s.from == *at && (s.to == *origin || attached.contains(&s.to))
    };
    let moves = router.switches().rev().filter(ends).take(MOVES).cloned();
    Explained {
        from: at.clone(),
        origin: origin.clone(),
        class: asked.to_string(),
        budget_ms: asked.mode.budget().as_millis() as u64,
        attached: attached.to_vec(),
        candidates: candidates(router, class, at, origin, attached),
        ruled_out,
        passed_over_pins,
        moves: moves.collect(),
        hold_ms: HOLD.as_millis() as u64,
    }
}

/// The relays a way to the origin may end at.
fn targets<'a>(origin: &'a NodeId, attached: &'a [NodeId]) -> &'a [NodeId] {
    match attached {
        [] => std::slice::from_ref(origin),
        attached => attached,
    }
}

/// The ways there are by the tables, best first.
pub(super) fn candidates(
    router: &Router,
    class: u8,
    at: &NodeId,
    origin: &NodeId,
    attached: &[NodeId],
) -> Vec<Candidate> {
    let local = || Candidate {
        nodes: vec![origin.clone()],
        rank: "local",
        cost_ms: 0.0,
        jitter_ms: 0.0,
        legs: Vec::new(),
        not_taken: None,
    };
    let mut candidates: Vec<Candidate> = Vec::new();
    if at == origin {
        candidates.push(local());
    }
    for (rank, relay) in targets(origin, attached).iter().enumerate() {
        let leg_us = attachment_us(rank);
        if relay == at && at != origin {
            candidates.push(Candidate {
                cost_ms: ms(leg_us as i64),
                ..local()
            });
        }
        let paths = router
            .table(at)
            .and_then(|table| table.of(class)?.get(relay));
        for (place, path) in paths.into_iter().flatten().enumerate() {
            let mut nodes: Vec<NodeId> = path.hops.iter().map(|h| h.node.clone()).collect();
            if relay != origin {
                nodes.push(origin.clone());
            }
            let weighed = weighed(router, at, path);
            let whole = Terms::along(weighed.iter().map(|(_, terms)| *terms));
            candidates.push(Candidate {
                nodes,
                rank: if place == 0 { "primary" } else { "backup" },
                cost_ms: ms(path.cost_us.saturating_add(leg_us) as i64),
                jitter_ms: ms(whole.jitter),
                legs: weighed.into_iter().map(|(leg, _)| leg).collect(),
                not_taken: None,
            });
        }
    }
    candidates.sort_by(|a, b| a.cost_ms.total_cmp(&b.cost_ms));
    let best = candidates.first().map_or(0.0, |c| c.cost_ms);
    for candidate in candidates.iter_mut().skip(1) {
        let more = candidate.cost_ms - best;
        // A path behind one that is kept or pinned although it is slower is told no quicker than it.
        candidate.not_taken = Some(match more >= 0.05 {
            true => format!("{more:.1} ms more"),
            false => "another is kept, see what is ruled out".to_owned(),
        });
    }
    candidates
}

fn ms(us: i64) -> f64 {
    us as f64 / 1_000.0
}

/// A path's links, each with its terms in µs.
fn weighed(router: &Router, at: &NodeId, path: &Path) -> Vec<(Leg, Terms)> {
    let world = &router.world;
    let pulling = std::iter::once(at).chain(path.hops.iter().map(|hop| &hop.node));
    pulling
        .zip(&path.hops)
        .filter_map(|(receiver, hop)| {
            let (sender, net) = (&hop.node, &hop.net);
            let (metrics, terms) = world
                .links
                .weighed(sender, receiver, net, &world.overrides)?;
            let asked = world.overrides.link(sender, receiver, net);
            let leg = Leg {
                node: hop.node.clone(),
                net: hop.net.clone(),
                delay_ms: ms(metrics.rtt_us as i64 / 2),
                raw_delay_ms: ms(terms.raw_delay),
                jitter_ms: ms(terms.jitter),
                repair_ms: ms(terms.repair),
                hop_ms: ms(terms.hop),
                operator_ms: ms(terms.operator),
                price: f64::from(asked.price.unwrap_or(0)) / 1e6,
            };
            Some((leg, terms))
        })
        .collect()
}

/// Lifts each constraint alone, then all of them, and tells what would be quicker than what is
/// taken.
fn ruled_out_between(
    router: &Router,
    number: u8,
    class: &Class,
    at: &NodeId,
    to: &NodeId,
) -> Vec<RuledOut> {
    let graph = &router.world.graph;
    let chosen = router.chosen.get(usize::from(number));
    let (Some(from), Some(end), Some(chosen)) = (graph.number(at), graph.number(to), chosen) else {
        return Vec::new();
    };
    if end >= graph.relays() || from == end {
        return Vec::new();
    }
    let pair = chosen.paths.pair(from, end);
    let [taken, _] = chosen.pair(graph, from, end).ways;
    let none = Lifted::default();
    let all = Lifted {
        residency: true,
        cordons: true,
        draining: true,
        full: true,
    };
    let lifts = [
        // A price, a pin or hysteresis stands against the quickest of all that may be taken.
        none,
        Lifted {
            residency: true,
            ..none
        },
        Lifted {
            cordons: true,
            ..none
        },
        Lifted {
            draining: true,
            ..none
        },
        Lifted { full: true, ..none },
        all,
    ];
    let mut found: Vec<RuledOut> = Vec::new();
    for lifted in lifts {
        let Some(way) = quickest(graph, class, lifted, from, end) else {
            continue;
        };
        let is_quicker = taken.is_none_or(|(taken, _)| way.cost_us() < taken.cost_us());
        if !is_quicker {
            continue;
        }
        let mut because = obstacles(router, class, from, end, &way);
        if because.is_empty() {
            because.push(match taken {
                Some((taken, _)) if taken.price() < way.price_in(graph, from, end) => {
                    "it costs more, and the path taken is within the latency budget".to_owned()
                }
                Some((taken, _)) => format!(
                    "the gain of {:.1} ms is too small, or the last move too short ago, or another path is pinned",
                    f64::from(taken.cost_us() - way.cost_us()) / 1_000.0
                ),
                None => "it is not computed yet".to_owned(),
            });
        }
        let ruled_out = RuledOut {
            nodes: chosen::nodes(graph, &way, from, end),
            cost_ms: pair.told_us(&way) as f64 / 1_000.0,
            because,
        };
        if !found.contains(&ruled_out) {
            found.push(ruled_out);
        }
    }
    found
}

/// What on a path is forbidden or avoided.
fn obstacles(router: &Router, class: &Class, from: usize, to: usize, way: &Way) -> Vec<String> {
    let graph = &router.world.graph;
    let name = |node: usize| &graph.names()[node];
    let mut found = Vec::new();
    let ends = [from, to].into_iter().filter(|node| *node < graph.relays());
    let mids = way.mids().iter().map(|mid| usize::from(*mid));
    for node in ends
        .chain(mids.clone())
        .filter(|node| !class.allows(graph.node(*node)))
    {
        let country = graph.node(node).country;
        let place = country.map_or("an unknown country".into(), |country| {
            String::from_utf8_lossy(&country).into_owned()
        });
        found.push(format!(
            "{} is in {place}, and the room's residency is {class}",
            name(node)
        ));
    }
    for node in mids {
        match graph.node(node).transit {
            Transit::Open => {}
            Transit::Draining => found.push(format!("{} is draining", name(node))),
            Transit::Closed => found.push(format!("{} is cordoned", name(node))),
        }
    }
    for (a, b, net) in way.links(from, to) {
        let Some(weight) = graph.weights(a, b).get(net) else {
            continue;
        };
        // Frames come from the far end of the step.
        let link = || {
            format!(
                "the link from {} to {} over {}",
                name(b),
                name(a),
                weight.net
            )
        };
        if weight.cordoned {
            found.push(format!("{} is cordoned", link()));
        }
        if weight.full {
            found.push(format!("{} is above 80 % of its capacity", link()));
        }
    }
    found
}

fn pin_passed_over(
    router: &Router,
    class: u8,
    at: &NodeId,
    to: &NodeId,
    nodes: &[NodeId],
) -> Option<String> {
    let shown = |nodes: &[NodeId]| {
        let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
        names.join(" → ")
    };
    if let Err(why) = pins::check(&router.world, at, nodes) {
        return Some(format!(
            "the pin over {} is passed over: {why}",
            shown(nodes)
        ));
    }
    let chosen = router.chosen.get(usize::from(class))?;
    let resolved = pins::resolve(&router.world, &chosen.paths);
    let graph = &router.world.graph;
    let ends = (graph.number(at)?, graph.number(to)?);
    let forbidden = format!(
        "the pin over {} is passed over: the room's residency forbids it",
        shown(nodes)
    );
    (!resolved.contains_key(&ends)).then_some(forbidden)
}
