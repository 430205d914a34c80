//! Over which of its attachments an edge is reached.

use std::collections::{BTreeMap, HashMap};

use longspan_proto::ids::{Net, NodeId};
use longspan_topology::{
    cost::attachment_us,
    routes::{Hop, Path, Routes},
};

/// Gives every edge with a standby explicit paths from `me`, in every policy class: over its best
/// attachment first.
pub(crate) fn best_first(routes: &mut Routes, me: &NodeId) {
    let Routes {
        attached,
        paths,
        classes,
        ..
    } = routes;
    let standing_by = |(edge, relays): &(&NodeId, &Vec<NodeId>)| relays.len() > 1 && *edge != me;
    let attached: HashMap<_, _> = attached.iter().filter(standing_by).collect();
    for known in std::iter::once(paths).chain(classes.values_mut()) {
        for (edge, relays) in &attached {
            let ways = over(known, me, edge, relays);
            if !ways.is_empty() {
                known.insert((*edge).clone(), ways);
            }
        }
    }
}

/// The paths of one class over an edge's relays, best first.
fn over(
    known: &BTreeMap<NodeId, Vec<Path>>,
    me: &NodeId,
    edge: &NodeId,
    relays: &[NodeId],
) -> Vec<Path> {
    let mut ways = Vec::new();
    for (rank, relay) in relays.iter().enumerate() {
        let leg_us = attachment_us(rank);
        let last = Hop {
            node: edge.clone(),
            net: Net::internet(),
        };
        if relay == me {
            ways.push(Path {
                hops: vec![last],
                cost_us: leg_us,
            });
            continue;
        }
        for path in known.get(relay).into_iter().flatten() {
            let mut hops = path.hops.clone();
            hops.push(last.clone());
            ways.push(Path {
                hops,
                cost_us: path.cost_us.saturating_add(leg_us),
            });
        }
    }
    ways.sort_by_key(|path| path.cost_us);
    ways
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
        ways_of(0, me)
    }

    /// Class 7 has paths over `other` only.
    fn ways_of(class: u8, me: &str) -> Vec<Vec<String>> {
        let mut routes = Routes::default();
        let over_other = path(&["other", "best"], 60_000);
        let to_best = vec![path(&["best"], 40_000), over_other.clone()];
        routes.paths.insert(id("best"), to_best);
        let within = [(id("best"), vec![over_other])].into();
        routes.classes.insert(7, within);
        let attached = vec![id("best"), id("standby")];
        routes.attached.insert(id("edge"), attached);
        best_first(&mut routes, &id(me));
        let ways = routes.ways_of(class, &id(me), &id("edge")).into_iter();
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
    #[test]
    fn every_policy_class_takes_the_best_attachment_first_over_its_own_paths() {
        assert_eq!(
            ways_of(7, "standby"),
            [vec!["other", "best", "edge"], vec!["edge"]]
        );
        assert!(ways_of(8, "standby").is_empty(), "no class, no paths");
    }
}
