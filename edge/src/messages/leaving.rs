//! Where an edge that is about to stop sends its members, and how long it gives them. Pure.

use std::time::Duration;

use longspan_proto::{ids::NodeId, wire::Role};
use longspan_relay::node::{Directory, NodeInfo};

/// Edges named, the nearest first.
const ALTERNATIVES: usize = 4;

/// What a member more adds to the deadline: edges take a thousand joins a second.
const PER_MEMBER: Duration = Duration::from_millis(1);
/// The longest deadline, whatever the number of members: what runs an edge does not wait for ever.
const LONGEST: Duration = Duration::from_secs(30);

/// See the [module](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaving {
    /// How long members have.
    pub deadline: Duration,
    /// URLs of other edges, the nearest first; none if none is known.
    pub alternatives: Vec<String>,
}

impl Leaving {
    /// For an edge with so many members. Edges that drain too, or told no URL, are not named.
    pub fn new(directory: &Directory, me: &NodeId, members: usize, least: Duration) -> Leaving {
        let mine = directory.get(me);
        let mut edges: Vec<&NodeInfo> = directory
            .nodes
            .values()
            .filter(|node| node.role == Role::Edge && node.id != *me)
            .filter(|node| !node.draining && !node.http_url.is_empty())
            .collect();
        edges.sort_by(|a, b| {
            let far = |node: &NodeInfo| mine.map_or(0.0, |mine| mine.distance_km(node));
            let elsewhere = |node: &NodeInfo| mine.is_some_and(|mine| mine.region != node.region);
            elsewhere(a)
                .cmp(&elsewhere(b))
                .then(far(a).total_cmp(&far(b)))
                .then(a.id.cmp(&b.id))
        });
        let more = PER_MEMBER.saturating_mul(u32::try_from(members).unwrap_or(u32::MAX));
        // Who is given no time at all is given none.
        let deadline = match least.is_zero() {
            true => Duration::ZERO,
            false => (least + more).min(LONGEST.max(least)),
        };
        Leaving {
            deadline,
            alternatives: edges
                .into_iter()
                .take(ALTERNATIVES)
                .map(|edge| edge.http_url.clone())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use longspan_proto::ids::{BootId, Region, Zone};

    use super::*;

    fn node(name: &str, role: Role, region: &str, lon: f64) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(name).unwrap(),
            role,
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

    fn leaving(nodes: Vec<NodeInfo>, members: usize, least: u64) -> Leaving {
        let nodes = nodes.into_iter().map(|node| (node.id.clone(), node));
        let directory = Directory {
            nodes: nodes.collect(),
        };
        let me = NodeId::new("me").unwrap();
        Leaving::new(&directory, &me, members, Duration::from_secs(least))
    }

    #[test]
    fn the_nearest_edges_are_named_those_of_the_region_first() {
        let edge = |name, region, lon| node(name, Role::Edge, region, lon);
        let mut drains = edge("drains", "here", 0.0);
        drains.draining = true;
        let mut silent = edge("silent", "here", 0.0);
        silent.http_url.clear();
        let nodes = vec![
            edge("me", "here", 0.0),
            edge("far", "there", 90.0),
            edge("beside", "here", 3.0),
            edge("near", "there", 2.0),
            edge("farther", "there", 120.0),
            edge("farthest", "there", 170.0),
            node("relay", Role::Relay, "here", 0.0),
            drains,
            silent,
        ];
        assert_eq!(
            leaving(nodes, 0, 5).alternatives,
            [
                "http://beside",
                "http://near",
                "http://far",
                "http://farther"
            ]
        );
        let alone = leaving(vec![edge("me", "here", 0.0)], 0, 5);
        assert!(alone.alternatives.is_empty());
    }

    #[test]
    fn many_members_are_given_longer() {
        let deadline = |members, least| leaving(vec![], members, least).deadline.as_millis();
        assert_eq!(deadline(0, 5), 5_000);
        assert_eq!(deadline(2_000, 5), 7_000);
        assert_eq!(deadline(1_000_000, 5), 30_000);
        assert_eq!(deadline(1_000_000, 60), 60_000);
        assert_eq!(deadline(2_000, 0), 0);
    }
}
