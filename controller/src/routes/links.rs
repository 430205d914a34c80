//! What nodes measured of the links that end at them, and what that weighs in a path.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::{
    cost::{self, Terms},
    graph::{Link, Metrics, Weight},
};
use serde::Serialize;

use super::Overrides;

/// A link's cost has changed when it moved by this much since the last computation. A third of the
/// least gain a path moves for (3 ms), so that no worthwhile move is missed for long over three links.
const SMALL_US: u64 = 1_000;
/// A link that carries more than this share of its capacity is full (DESIGN §4) …
const FULL_SHARE: f64 = 0.8;
/// … until it carries less than this, so that it does not open and close with every report.
const FREE_SHARE: f64 = 0.7;

/// One direction of a link, as the receiving end measured it.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The sending end.
    pub from: NodeId,
    /// Over which net, whether packets arrive, and how.
    pub link: Link,
    /// What arrives, in bit/s.
    pub rate_bps: u64,
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
    /// What arrives over it, in Mbit/s.
    pub rate_mbps: f64,
    /// What it carries, as configured, in Mbit/s.
    pub capacity_mbps: f64,
    /// It carries so much that it takes nothing new.
    pub full: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    up: bool,
    /// As measured while it was up last; none if it never was.
    metrics: Option<Metrics>,
    rate_bps: u64,
    full: bool,
    /// What the last computation saw.
    computed: Option<(bool, i64)>,
    /// Of what it saw, if the link could be used.
    weighed: Option<Metrics>,
}

/// Everything reported. By the receiving end, as reports come; then by the sending end and net.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    entries: BTreeMap<NodeId, BTreeMap<NodeId, BTreeMap<Net, Entry>>>,
    /// (from, to) whose weights may be others than at the last computation.
    changed: BTreeSet<(NodeId, NodeId)>,
}

impl Links {
    /// Takes a report; whether anything changed that a path may depend on. `capacity_bps` is that of
    /// the link from a node over a net.
    pub fn report(
        &mut self,
        to: &NodeId,
        reports: &[Report],
        capacity_bps: impl Fn(&NodeId, &Net) -> u64,
    ) -> bool {
        let before = self.changed.len();
        let entries = self.entries.entry(to.clone()).or_default();
        let mut named = BTreeSet::new();
        let mut differing = Vec::new();
        for report in reports {
            let nets = entries.entry(report.from.clone()).or_default();
            let entry = nets.entry(report.link.net.clone()).or_insert(Entry {
                up: false,
                metrics: None,
                rate_bps: 0,
                full: false,
                computed: None,
                weighed: None,
            });
            let full = entry.full;
            entry.take(report, || capacity_bps(&report.from, &report.link.net));
            if entry.differs() || entry.full != full {
                differing.push(report.from.clone());
            }
            named.insert((&report.from, &report.link.net));
        }
        for (from, nets) in entries.iter_mut() {
            for (net, entry) in nets.iter_mut().filter(|(_, entry)| entry.up) {
                if !named.contains(&(from, net)) {
                    entry.up = false;
                    if entry.differs() {
                        differing.push(from.clone());
                    }
                }
            }
        }
        for from in differing {
            self.touch(&from, to);
        }
        self.changed.len() > before
    }

    /// What goes one way tells of a node that reports nothing of the other.
    fn touch(&mut self, a: &NodeId, b: &NodeId) {
        self.changed.insert((a.clone(), b.clone()));
        self.changed.insert((b.clone(), a.clone()));
    }

    /// All links of a node are to be weighed anew.
    pub fn touch_all_of(&mut self, node: &NodeId) {
        let into = self.entries.get(node).into_iter().flat_map(BTreeMap::keys);
        let out = self
            .entries
            .iter()
            .filter(|(_, from)| from.contains_key(node));
        let others: BTreeSet<NodeId> = into.chain(out.map(|(to, _)| to)).cloned().collect();
        for other in others {
            self.touch(node, &other);
        }
    }

    /// All links are to be weighed anew.
    pub fn touch_all(&mut self) {
        for (to, from) in &self.entries {
            let pairs = from.keys().map(|from| (from.clone(), to.clone()));
            self.changed.extend(pairs);
        }
    }

    pub fn forget(&mut self, node: &NodeId) {
        self.entries.remove(node);
        for from in self.entries.values_mut() {
            from.remove(node);
        }
        self.changed.retain(|(from, to)| from != node && to != node);
    }

    /// What is to be weighed anew, from now on known.
    pub fn take_changed(&mut self) -> BTreeSet<(NodeId, NodeId)> {
        std::mem::take(&mut self.changed)
    }

    /// The links from one node to another that can be used, as a computation sees them from now on.
    ///
    /// Frames take one direction, but their requests and acknowledgements take the other: a link can
    /// be used while both arrive. Each is known by its receiving end; an end without a session reports
    /// nothing, and what goes the other way tells whether it lives. If neither reports, all stays as it
    /// was: losing controllers must not lose links.
    pub fn weigh(
        &mut self,
        from: &NodeId,
        to: &NodeId,
        reports: impl Fn(&NodeId) -> bool,
        overrides: &Overrides,
    ) -> Vec<Weight> {
        let nets = self.entries.get(to).and_then(|entries| entries.get(from));
        let nets: Vec<Net> = nets.into_iter().flat_map(BTreeMap::keys).cloned().collect();
        let mut weights = Vec::new();
        for net in nets {
            let up = self.is_usable(from, to, &net, &reports);
            let Some(entry) = self.entry_mut(from, to, &net) else {
                continue;
            };
            entry.computed = Some((entry.up, entry.cost()));
            entry.weighed = entry.metrics.filter(|_| up);
            let Some(metrics) = entry.weighed else {
                continue;
            };
            let asked = overrides.link(from, to, &net);
            weights.push(Weight {
                price: asked.price.unwrap_or(0),
                full: entry.full,
                cordoned: asked.cordoned,
                ..Weight::as_asked(net, &metrics, asked.cost)
            });
        }
        weights
    }

    /// Whether packets arrive both ways, as far as it is known; see [`weigh`](Links::weigh).
    fn is_usable(
        &self,
        from: &NodeId,
        to: &NodeId,
        net: &Net,
        reports: impl Fn(&NodeId) -> bool,
    ) -> bool {
        // Whoever reports names all links that end at it; one that is not named is down.
        let up = |from, to| {
            let ends_at = self
                .entries
                .get(to)?
                .get(from)
                .and_then(|nets| nets.get(net));
            Some(ends_at.is_some_and(|entry| entry.up))
        };
        let (there, back) = (up(from, to), up(to, from));
        let told = [
            there.filter(|_| reports(to)),
            back.filter(|_| reports(from)),
        ];
        let as_it_was = [there, back];
        let known = if told == [None, None] {
            as_it_was
        } else {
            told
        };
        known.into_iter().flatten().all(|up| up)
    }

    fn entry(&self, from: &NodeId, to: &NodeId, net: &Net) -> Option<&Entry> {
        self.entries.get(to)?.get(from)?.get(net)
    }

    fn entry_mut(&mut self, from: &NodeId, to: &NodeId, net: &Net) -> Option<&mut Entry> {
        self.entries.get_mut(to)?.get_mut(from)?.get_mut(net)
    }

    /// The nets over which one node reaches another and hears of it, as reported last.
    pub fn up(&self, from: &NodeId, to: &NodeId) -> impl Iterator<Item = &Net> {
        let nets = self.entries.get(to).and_then(|entries| entries.get(from));
        let nets = nets.into_iter().flatten();
        nets.filter_map(|(net, entry)| {
            let is_usable = entry.metrics.is_some() && self.is_usable(from, to, net, |_| true);
            is_usable.then_some(net)
        })
    }

    /// The shortest round trip over any net that is up, as the receiving end measured it.
    pub fn rtt_us(&self, from: &NodeId, to: &NodeId) -> Option<u64> {
        let nets = self.entries.get(to)?.get(from)?.values();
        let up = nets.filter(|entry| entry.up);
        up.filter_map(|entry| Some(entry.metrics?.rtt_us)).min()
    }

    /// What the last computation saw of a link, and its cost terms.
    pub fn weighed(
        &self,
        from: &NodeId,
        to: &NodeId,
        net: &Net,
        overrides: &Overrides,
    ) -> Option<(Metrics, Terms)> {
        let metrics = self.entry(from, to, net)?.weighed?;
        let asked = overrides.link(from, to, net);
        Some((metrics, cost::terms_as(&metrics, asked.cost)))
    }

    /// All links, in order.
    pub fn view(&self, capacity_bps: impl Fn(&NodeId, &NodeId, &Net) -> u64) -> Vec<LinkView> {
        let ms = |us: f64| us / 1_000.0;
        let mut views = Vec::new();
        for (to, entries) in &self.entries {
            let nets = entries
                .iter()
                .flat_map(|(from, nets)| nets.iter().map(move |n| (from, n)));
            for (from, (net, entry)) in nets {
                let back = self.entry(to, from, net).and_then(|back| back.metrics);
                let delay = entry.metrics.map(|m| {
                    let rtt = m.rtt_us as f64;
                    back.map_or(rtt / 2.0, |back| {
                        let sum = (m.raw_delay_us + back.raw_delay_us) as f64;
                        if sum > 0.0 { sum / 2.0 } else { rtt / 2.0 }
                    })
                });
                views.push(LinkView {
                    from: from.clone(),
                    to: to.clone(),
                    net: net.clone(),
                    up: entry.up,
                    rtt_ms: entry.metrics.map(|m| ms(m.rtt_us as f64)),
                    delay_ms: delay.map(ms),
                    jitter_ms: entry.metrics.map(|m| ms(m.jitter_p95_us as f64)),
                    loss: entry.metrics.map(|m| m.loss),
                    rate_mbps: entry.rate_bps as f64 / 1e6,
                    capacity_mbps: capacity_bps(from, to, net) as f64 / 1e6,
                    full: entry.full,
                });
            }
        }
        views.sort_by(|a, b| (&a.from, &a.to, &a.net).cmp(&(&b.from, &b.to, &b.net)));
        views
    }
}

impl Entry {
    fn take(&mut self, report: &Report, capacity_bps: impl Fn() -> u64) {
        self.up = report.link.up;
        if report.link.up {
            self.metrics = Some(report.link.metrics);
        }
        self.rate_bps = report.rate_bps;
        if self.rate_bps > 0 || self.full {
            let bound = if self.full { FREE_SHARE } else { FULL_SHARE };
            self.full = self.rate_bps as f64 > capacity_bps() as f64 * bound;
        }
    }

    fn cost(&self) -> i64 {
        self.metrics.map_or(0, |m| cost::terms(&m).total())
    }

    fn differs(&self) -> bool {
        self.computed.is_none_or(|(up, cost)| {
            up != self.up || (self.up && cost.abs_diff(self.cost()) >= SMALL_US)
        })
    }
}
