//! What nodes measured of the links that end at them.

use std::collections::{BTreeMap, HashMap};

use longspan_proto::{
    ids::{Net, NodeId},
    time::Time,
    wire::Role,
};
use longspan_topology::{
    cost::{self, HOP_US, Terms},
    graph::{Graph, Link, Metrics},
    hysteresis::Verdict,
    routes::{Hop, Path},
};
use serde::Serialize;

/// A link's cost has changed when it moved by this much since the last computation. A third of the
/// least gain a path moves for (3 ms), so that no worthwhile move is missed for long over three links.
const SMALL_US: u64 = 1_000;

/// One direction of a link, as the receiving end measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The sending end.
    pub from: NodeId,
    /// Over which net, whether packets arrive, and how.
    pub link: Link,
}

/// A link as operators see it. Delays in ms.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LinkView {
    /// The sending end.
    pub from: NodeId,
    /// The receiving end.
    pub to: NodeId,
    /// Over which net.
    pub net: Net,
    /// Packets arrive.
    pub up: bool,
    /// Smoothed round trip; none before the first measurement.
    pub rtt_ms: Option<f64>,
    /// Half of both directions' raw delays together, in which the clocks' offset cancels; where
    /// only one is measured, half the round trip. How a trip splits into its two ways cannot be
    /// known without synchronised clocks.
    pub delay_ms: Option<f64>,
    /// 95th percentile above the floor.
    pub jitter_ms: Option<f64>,
    /// 0 … 1.
    pub loss: Option<f64>,
}

type Name = (NodeId, NodeId, Net);

#[derive(Debug, Clone)]
struct Entry {
    up: bool,
    /// As measured while it was up last; none if it never was.
    metrics: Option<Metrics>,
    /// What the last computation saw.
    computed: Option<(bool, i64)>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    entries: BTreeMap<Name, Entry>,
    /// Usable links at the last computation.
    usable: HashMap<Name, Metrics>,
}

impl Links {
    /// Whether anything changed that a path may depend on.
    pub fn report(&mut self, to: &NodeId, reports: &[Report]) -> bool {
        let mut changed = false;
        let names: Vec<Name> = reports
            .iter()
            .map(|r| (r.from.clone(), to.clone(), r.link.net.clone()))
            .collect();
        for (name, report) in names.iter().zip(reports) {
            let entry = self.entries.entry(name.clone()).or_insert(Entry {
                up: false,
                metrics: None,
                computed: None,
            });
            entry.up = report.link.up;
            if report.link.up {
                entry.metrics = Some(report.link.metrics);
            }
            changed |= entry.differs();
        }
        for (name, entry) in &mut self.entries {
            if name.1 == *to && entry.up && !names.contains(name) {
                entry.up = false;
                changed |= entry.differs();
            }
        }
        changed
    }

    pub fn forget(&mut self, node: &NodeId) {
        self.entries
            .retain(|(from, to, _), _| from != node && to != node);
    }

    /// The usable links between these nodes.
    pub fn graph(&mut self, nodes: &[(NodeId, Role, bool)]) -> Graph {
        let mut graph = Graph::default();
        let mut reports: HashMap<&NodeId, bool> = HashMap::new();
        for (id, role, has_session) in nodes {
            graph.add_node(id.clone(), *role);
            reports.insert(id, *has_session);
        }
        let mut usable = HashMap::new();
        for (name, entry) in &self.entries {
            let Some(metrics) = entry.metrics else {
                continue;
            };
            let (from, to, net) = name;
            // A node without a session reports nothing. What goes the other way tells whether it
            // lives; if that is not known either, the link stays as it was: losing controllers
            // must not lose links.
            let up = if reports.get(to).copied().unwrap_or(false) {
                entry.up
            } else {
                let back = self.entries.get(&(to.clone(), from.clone(), net.clone()));
                let heard = reports.get(from).copied().unwrap_or(false);
                back.filter(|_| heard).map_or(entry.up, |back| back.up)
            };
            let link = Link {
                net: net.clone(),
                up,
                metrics,
            };
            if up {
                usable.insert(name.clone(), metrics);
            }
            graph.set_link(from.clone(), to.clone(), link);
        }
        self.usable = usable;
        graph
    }

    /// A computation has seen everything.
    pub fn computed(&mut self) {
        for entry in self.entries.values_mut() {
            entry.computed = Some((entry.up, entry.cost()));
        }
    }

    /// The paths to take out of those `found` (best first) and the one in use `before`, and why
    /// the primary moved, if it did.
    pub fn choose(
        &self,
        now: Time,
        from: &NodeId,
        before: Option<&Path>,
        found: Vec<Path>,
        moved: Option<Time>,
    ) -> (Vec<Path>, Option<Verdict>) {
        let (Some(before), Some(best)) = (before, found.first()) else {
            return (ordered(found), None);
        };
        if before.hops == best.hops {
            return (ordered(found), None);
        }
        // Both are compared by raw costs, from whose difference the clocks' offset is gone, on
        // top of the candidate's absolute cost.
        let present = self.raw_cost(from, &before.hops).map(|raw| {
            let candidate = self.raw_cost(from, &best.hops).unwrap_or(raw);
            best.cost_us.saturating_add_signed(raw - candidate)
        });
        let verdict = super::judge(present, best.cost_us, now, moved);
        if verdict.moves() {
            return (ordered(found), Some(verdict));
        }
        let kept = Path {
            hops: before.hops.clone(),
            cost_us: self.shown_cost(from, &before.hops),
        };
        let others = found.into_iter().filter(|path| path.hops != kept.hops);
        let paths = std::iter::once(kept.clone()).chain(others.take(1));
        (ordered(paths.collect()), None)
    }

    /// Sum of the links' costs, offsets included; none if a link cannot be used.
    fn raw_cost(&self, from: &NodeId, hops: &[Hop]) -> Option<i64> {
        self.terms(from, hops)
            .map(|terms| terms.map(|t| t.total()))
            .sum()
    }

    /// As `paths` tells it: half the round trips and the hops.
    fn shown_cost(&self, from: &NodeId, hops: &[Hop]) -> u64 {
        let metrics = self.along(from, hops);
        metrics
            .map(|m| m.map_or(0, |m| m.rtt_us / 2) + HOP_US as u64)
            .sum()
    }

    /// The cost terms of each link of a path; none for one that cannot be used.
    pub fn terms<'a>(
        &'a self,
        from: &'a NodeId,
        hops: &'a [Hop],
    ) -> impl Iterator<Item = Option<Terms>> + 'a {
        self.along(from, hops).map(|m| m.map(|m| cost::terms(&m)))
    }

    /// What is known of each link of a path.
    pub fn along<'a>(
        &'a self,
        from: &'a NodeId,
        hops: &'a [Hop],
    ) -> impl Iterator<Item = Option<Metrics>> + 'a {
        let starts = std::iter::once(from).chain(hops.iter().map(|hop| &hop.node));
        starts.zip(hops).map(|(at, hop)| {
            let name = (at.clone(), hop.node.clone(), hop.net.clone());
            self.usable.get(&name).copied()
        })
    }

    /// Whether some net leads from one to the other.
    pub fn any_up(&self, from: &NodeId, to: &NodeId) -> bool {
        let usable = |(name, entry): (&Name, &Entry)| {
            name.0 == *from && name.1 == *to && entry.up && entry.metrics.is_some()
        };
        self.entries.iter().any(usable)
    }

    pub fn view(&self) -> Vec<LinkView> {
        let ms = |us: f64| us / 1_000.0;
        let view = |((from, to, net), entry): (&Name, &Entry)| {
            let back = self.entries.get(&(to.clone(), from.clone(), net.clone()));
            let back = back.and_then(|back| back.metrics);
            let delay = entry.metrics.map(|m| {
                let rtt = m.rtt_us as f64;
                back.map_or(rtt / 2.0, |back| {
                    let sum = (m.raw_delay_us + back.raw_delay_us) as f64;
                    if sum > 0.0 { sum / 2.0 } else { rtt / 2.0 }
                })
            });
            LinkView {
                from: from.clone(),
                to: to.clone(),
                net: net.clone(),
                up: entry.up,
                rtt_ms: entry.metrics.map(|m| ms(m.rtt_us as f64)),
                delay_ms: delay.map(ms),
                jitter_ms: entry.metrics.map(|m| ms(m.jitter_p95_us as f64)),
                loss: entry.metrics.map(|m| m.loss),
            }
        };
        self.entries.iter().map(view).collect()
    }
}

impl Entry {
    fn cost(&self) -> i64 {
        self.metrics.map_or(0, |m| cost::terms(&m).total())
    }

    fn differs(&self) -> bool {
        self.computed.is_none_or(|(up, cost)| {
            up != self.up || (self.up && cost.abs_diff(self.cost()) >= SMALL_US)
        })
    }
}

/// Best first also by the cost told, since nodes order by it: a path kept by hysteresis may cost
/// more than the one behind it.
fn ordered(mut paths: Vec<Path>) -> Vec<Path> {
    let mut least = 0;
    for path in &mut paths {
        path.cost_us = path.cost_us.max(least);
        least = path.cost_us;
    }
    paths
}
