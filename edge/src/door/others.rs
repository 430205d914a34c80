//! Which edges whoever is here is sent to, and which a newcomer chooses from. Pure.

use longspan_proto::{ids::NodeId, wire::Role};
use longspan_relay::node::{Directory, NodeInfo};

/// Edges named to somebody who is to go, the nearest first.
pub const ALTERNATIVES: usize = 4;

/// URLs of other edges for whoever is at `me`: the nearest first, those of its region before all
/// others; cordoned ones only behind. Edges that drain too, or told no such URL, are not named.
pub fn urls(directory: &Directory, me: &NodeId, url: fn(&NodeInfo) -> &String) -> Vec<String> {
    let mine = directory.get(me);
    let mut edges: Vec<&NodeInfo> = all(directory)
        .filter(|edge| edge.id != *me && !edge.draining && !url(edge).is_empty())
        .collect();
    edges.sort_by(|a, b| {
        let far = |node: &NodeInfo| mine.map_or(0.0, |mine| mine.distance_km(node));
        let elsewhere = |node: &NodeInfo| mine.is_some_and(|mine| mine.region != node.region);
        a.cordoned
            .cmp(&b.cordoned)
            .then(elsewhere(a).cmp(&elsewhere(b)))
            .then(far(a).total_cmp(&far(b)))
            .then(a.id.cmp(&b.id))
    });
    let named = edges.into_iter().take(ALTERNATIVES);
    named.map(|edge| url(edge).clone()).collect()
}

/// The edges that a newcomer chooses from, by name. Those that are cordoned or drain are told only
/// where there is no better one: a refusal says more than an empty list.
pub fn listed(directory: &Directory) -> Vec<&NodeInfo> {
    let reachable = || all(directory).filter(|edge| !edge.http_url.is_empty());
    let rank = |edge: &NodeInfo| (edge.draining, edge.cordoned);
    let best = reachable().map(rank).min();
    reachable()
        .filter(|edge| Some(rank(edge)) == best)
        .collect()
}

fn all(directory: &Directory) -> impl Iterator<Item = &NodeInfo> {
    let nodes = directory.nodes.values();
    nodes.filter(|node| node.role == Role::Edge)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use longspan_proto::ids::{BootId, Region, Zone};

    use super::*;

    fn edge(name: &str, region: &str, lon: f64) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(name).unwrap(),
            role: Role::Edge,
            boot: BootId(0),
            region: Region::new(region).unwrap(),
            zone: Zone::new(region).unwrap(),
            country: String::new(),
            city: String::new(),
            lat: 0.0,
            lon,
            quic: Vec::new(),
            http_url: format!("http://{name}"),
            rtmp_url: String::new(),
            admin_url: String::new(),
            version: String::new(),
            attached: Vec::new(),
            draining: false,
            cordoned: false,
            drain_left: Duration::ZERO,
        }
    }

    fn directory(nodes: Vec<NodeInfo>) -> Directory {
        let nodes = nodes.into_iter().map(|node| (node.id.clone(), node));
        Directory {
            nodes: nodes.collect(),
        }
    }

    fn named(nodes: Vec<NodeInfo>) -> Vec<String> {
        let me = NodeId::new("me").unwrap();
        urls(&directory(nodes), &me, |edge| &edge.http_url)
    }

    #[test]
    fn the_nearest_edges_are_named_those_of_the_region_first_and_cordoned_ones_last() {
        let mut drains = edge("drains", "here", 0.0);
        drains.draining = true;
        let mut silent = edge("silent", "here", 0.0);
        silent.http_url.clear();
        let mut cordoned = edge("cordoned", "here", 0.0);
        cordoned.cordoned = true;
        let mut relay = edge("relay", "here", 0.0);
        relay.role = Role::Relay;
        let mut nodes = vec![
            edge("me", "here", 0.0),
            edge("far", "there", 90.0),
            edge("beside", "here", 3.0),
            edge("near", "there", 2.0),
            relay,
            drains,
            silent,
            cordoned,
        ];
        let urls = ["beside", "near", "far", "cordoned"].map(|name| format!("http://{name}"));
        assert_eq!(named(nodes.clone()), urls);
        nodes.push(edge("farthest", "there", 170.0));
        assert_eq!(named(nodes)[3], "http://farthest");
        assert!(named(vec![edge("me", "here", 0.0)]).is_empty());
    }

    #[test]
    fn newcomers_choose_from_open_edges_and_from_others_only_where_there_is_none() {
        let names = |nodes: &[NodeInfo]| -> String {
            let directory = directory(nodes.to_vec());
            let listed = listed(&directory).into_iter();
            listed
                .map(|edge| edge.id.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut nodes = ["a", "b", "c"].map(|name| edge(name, "here", 0.0));
        assert_eq!(names(&nodes), "a b c");
        nodes[0].draining = true;
        nodes[1].cordoned = true;
        assert_eq!(names(&nodes), "c");
        assert_eq!(names(&nodes[..2]), "b");
        assert_eq!(names(&nodes[..1]), "a");
        assert_eq!(names(&[]), "");
    }
}
