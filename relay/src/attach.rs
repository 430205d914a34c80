//! Over which of its attachments an edge is reached.

use std::collections::HashMap;

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::routes::{Hop, Path, Routes};

/// What an edge's standby attachment is taken to cost beyond its best one, in µs: no table tells the
/// leg to an edge. It is more than a detour over the best one costs, so that an edge sends a track
/// once, and over its standby only where nothing else is left.
const STANDBY_US: u64 = 100_000;

/// Gives every edge with a standby explicit paths from `me`: over its best attachment first.
pub(crate) fn best_first(routes: &mut Routes, me: &NodeId) {
    let attached: HashMap<_, _> = routes
        .attached
        .iter()
        .filter(|(edge, relays)| relays.len() > 1 && *edge != me)
        .map(|(edge, relays)| (edge.clone(), relays.clone()))
        .collect();
    for (edge, relays) in attached {
        let mut paths = Vec::new();
        for (rank, relay) in relays.iter().enumerate() {
            let leg_us = STANDBY_US * rank as u64;
            let last = Hop {
                node: edge.clone(),
                net: Net::internet(),
            };
            if relay == me {
                let hops = vec![last];
                let cost_us = leg_us;
                paths.push(Path { hops, cost_us });
                continue;
            }
            for path in routes.paths.get(relay).into_iter().flatten() {
                let mut hops = path.hops.clone();
                hops.push(last.clone());
                let cost_us = path.cost_us.saturating_add(leg_us);
                paths.push(Path { hops, cost_us });
            }
        }
        paths.sort_by_key(|path| path.cost_us);
        if !paths.is_empty() {
            routes.paths.insert(edge, paths);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn path(nodes: &[&str], cost_us: u64) -> Path {
        let hops = nodes.iter().map(|node| Hop {
            node: id(node),
            net: Net::internet(),
        });
        Path {
            hops: hops.collect(),
            cost_us,
        }
    }

    fn ways(me: &str) -> Vec<Vec<String>> {
        let mut routes = Routes::default();
        let to_best = vec![path(&["best"], 40_000), path(&["other", "best"], 60_000)];
        routes.paths.insert(id("best"), to_best);
        let attached = vec![id("best"), id("standby")];
        routes.attached.insert(id("edge"), attached);
        best_first(&mut routes, &id(me));
        let ways = routes.ways(&id(me), &id("edge")).into_iter();
        ways.map(|way| way.iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn a_standby_is_used_where_nothing_else_is_left() {
        assert_eq!(
            ways("standby"),
            [
                vec!["best", "edge"],
                vec!["other", "best", "edge"],
                vec!["edge"]
            ]
        );
        assert_eq!(ways("best")[0], ["edge"]);
    }
}
