//! What the relays say: the tables they route by, and what they measured of their links.

use std::collections::BTreeMap;

use longspan_proto::ids::NodeId;
use longspan_topology::{
    cost::{self, Terms},
    graph::Metrics,
};
use serde_json::{Value, json};

use super::judge::{Pair, Way};
use crate::{
    bench::{failover::field::Field, report::round},
    failure::{Failure, Outcome},
};

/// A relay is asked so often before it counts as dead.
const ATTEMPTS: u32 = 5;

/// All relays at one moment, numbered as the field's sites.
#[derive(Debug, Default)]
pub struct Measured {
    /// By (subscriber, origin): the nodes from the one to the other.
    tables: BTreeMap<(usize, usize), Way>,
    /// By (sender, receiver).
    links: BTreeMap<(usize, usize), Terms>,
}

impl Measured {
    /// Asks every relay.
    pub async fn read(field: &Field) -> Outcome<Measured> {
        let relays: Vec<&NodeId> = field.sites.iter().map(|site| &site.area.relay.id).collect();
        let number = |node: &str| relays.iter().position(|relay| relay.as_str() == node);
        let mut measured = Measured::default();
        for (me, site) in field.sites.iter().enumerate() {
            let mut told = None;
            for _ in 0..ATTEMPTS {
                told = site.debug().await;
                if told.is_some() {
                    break;
                }
            }
            let Some(told) = told else {
                return Err(Failure::failed(format!("{} does not answer", relays[me])));
            };
            measured.take(me, &told["state"], &number);
        }
        Ok(measured)
    }

    /// `state` is what a relay tells of itself.
    fn take(&mut self, me: usize, state: &Value, number: &impl Fn(&str) -> Option<usize>) {
        let paths = state["table"]["paths"].as_object().into_iter().flatten();
        for (origin, paths) in paths {
            let Some(origin) = number(origin) else {
                continue;
            };
            let paths = paths.as_array().into_iter().flatten();
            let primary = paths.min_by_key(|path| path["cost_us"].as_u64());
            let nodes = primary.and_then(|path| path["nodes"].as_array());
            let hops = nodes.into_iter().flatten();
            let hops: Option<Way> = hops.map(|node| number(node.as_str()?)).collect();
            if let Some(hops) = hops.filter(|hops| !hops.is_empty()) {
                let way = std::iter::once(me).chain(hops).collect();
                self.tables.insert((me, origin), way);
            }
        }
        for peer in state["peers"].as_array().into_iter().flatten() {
            let from = peer["node"].as_str().and_then(number);
            if let (Some(from), Some(metrics)) = (from, metrics(peer)) {
                self.links.insert((from, me), cost::terms(&metrics));
            }
        }
    }

    /// The paths that frames take, by (origin, subscriber): against the table's order.
    pub fn ways(&self) -> BTreeMap<(usize, usize), Way> {
        let tables = self.tables.iter();
        tables
            .map(|((me, origin), way)| ((*origin, *me), way.iter().rev().copied().collect()))
            .collect()
    }

    /// The same paths by (subscriber, origin), as subscriptions and calls take them.
    pub fn ways_towards_origin(&self) -> BTreeMap<(usize, usize), Way> {
        self.tables.clone()
    }

    /// By how much the path in use costs more than the true optimum by what is measured now, term
    /// by term, in the direction that the frames take. The clocks' offsets cancel: both have the
    /// same ends. In sum below zero: it is measured to be the better one. Above, but below what a
    /// move must gain: it is kept.
    pub fn beyond(&self, pair: &Pair) -> Value {
        let Some(way) = &pair.way else {
            return Value::Null;
        };
        let (Some(used), Some(best)) = (self.sum(way), self.sum(&pair.optimum_way)) else {
            return Value::Null;
        };
        let ms = |us: i64| round(us as f64 / 1_000.0, 2);
        json!({
            "raw_delay": ms(used.raw_delay - best.raw_delay),
            "jitter": ms(used.jitter - best.jitter),
            "repair": ms(used.repair - best.repair),
            "hops": ms(used.hop - best.hop),
            "sum": ms(used.total() - best.total()),
        })
    }

    fn sum(&self, way: &[usize]) -> Option<Terms> {
        let links = way.windows(2);
        let links = links.map(|link| self.links.get(&(link[0], link[1])).copied());
        Some(Terms::along(links.collect::<Option<Vec<Terms>>>()?))
    }
}

fn metrics(peer: &Value) -> Option<Metrics> {
    Some(Metrics {
        raw_delay_us: peer["raw_delay_us"].as_i64()?,
        rtt_us: peer["rtt_us"].as_u64()?,
        jitter_p95_us: peer["jitter_p95_us"].as_u64()?,
        loss: peer["loss"].as_f64()?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn number(name: &str) -> Option<usize> {
        ["a", "b", "c"].iter().position(|known| *known == name)
    }

    fn peer(node: &str, raw_delay_us: i64) -> Value {
        json!({ "node": node, "raw_delay_us": raw_delay_us, "rtt_us": 20_000, "jitter_p95_us": 500, "loss": 0.0 })
    }

    #[test]
    fn frames_flow_against_the_tables_order() {
        let mut measured = Measured::default();
        let told = json!({ "table": { "paths": {
            "c": [{ "nodes": ["c"], "cost_us": 90 }, { "nodes": ["b", "c"], "cost_us": 40 }],
            "b": [{ "nodes": ["b"], "cost_us": 20 }, { "nodes": ["x", "b"], "cost_us": 10 }],
        }}});
        measured.take(0, &told, &number);
        // The best path to b crosses somebody unknown: it is no path of this field.
        assert_eq!(measured.ways(), [((2, 0), vec![2, 1, 0])].into());
        assert_eq!(
            measured.ways_towards_origin(),
            [((0, 2), vec![0, 1, 2])].into()
        );
    }

    #[test]
    fn offsets_cancel_between_two_paths_of_a_pair() {
        let mut measured = Measured::default();
        // b's clock is 1 s ahead of a's, c's 5 s.
        measured.take(1, &json!({ "peers": [peer("a", 1_010_000)] }), &number);
        let of_c = json!({ "peers": [peer("a", 5_050_000), peer("b", 4_010_000)] });
        measured.take(2, &of_c, &number);
        let pair = Pair {
            from: 0,
            to: 2,
            direct: Duration::ZERO,
            way: Some(vec![0, 2]),
            overlay: None,
            optimum_way: vec![0, 1, 2],
            optimum: Duration::ZERO,
        };
        let beyond = measured.beyond(&pair);
        assert_eq!(beyond["raw_delay"], 30.0);
        // Two of 0.5 ms in quadrature are 0.7 ms.
        assert_eq!(beyond["jitter"], -0.21);
        assert_eq!(beyond["hops"], -0.5);
        assert_eq!(beyond["sum"], 29.29);
    }
}
