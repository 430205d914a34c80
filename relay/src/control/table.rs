//! Tables: from the controller's words to what the core uses.

use longspan_proto::{
    control,
    ids::{Net, NodeId},
    wire::Role,
};
use longspan_topology::{
    encoding::{self, Malformed},
    routes::{Hop, Path, Routes, Version},
    tables::{self, Refusal},
};

use crate::{
    attach,
    node::{Directory, NodeInfo},
};

/// Why a table was refused; the words go into the NACK.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It may not be used.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Invalid {
    /// The same table whole would be another matter.
    pub fn wants_whole(&self) -> bool {
        matches!(self, Invalid::Malformed(Malformed::OtherBase { .. }))
    }
}

/// Reads a table, which may be a change of the one `in_use`, and checks it. `held` is the version
/// no table may be below: that of the last one a controller told this process.
pub fn parse(
    told: &control::Table,
    me: (&NodeId, Role),
    directory: &Directory,
    in_use: &Routes,
    held: Option<Version>,
) -> Result<Routes, Invalid> {
    let mut routes = encoding::read(told, in_use)?;
    routes.neighbours.retain(|node| node != me.0);
    let role = |node: &NodeId| match node == me.0 {
        true => Some(me.1),
        false => directory.get(node).map(|known| known.role),
    };
    tables::check(me.0, held, &routes, role)?;
    Ok(routes)
}

/// What a way that no table told costs: it is tried after every other.
const LAST_RESORT_US: u64 = 1_000_000;

/// What the core gets: the table, with where edges are attached as the directory tells it. An edge
/// with a standby is reached over its best attachment first. Ways that no table tells come last: an
/// attachment may be newer than the table; a table may have been made while half of the mesh could
/// not be reached, and no newer one comes while the controllers or their store are away.
pub fn derive(
    told: &Routes,
    directory: &Directory,
    (me, role): (&NodeId, Role),
    connected: &[(NodeId, u64)],
) -> Routes {
    let mut routes = told.clone();
    for node in directory.nodes.values() {
        if node.role == Role::Edge {
            routes
                .attached
                .insert(node.id.clone(), node.attached.clone());
        }
    }
    for (relay, rtt_us) in connected {
        last_resorts(&mut routes, directory, (me, role), relay, rtt_us / 2);
    }
    attach::best_first(&mut routes, me);
    routes
}

/// What may be had over one neighbour that no path of the table begins with. An edge knows no better
/// than to ask a relay for all others. In a large mesh a relay has a link to some relay of each region
/// (`topology::neighbours`), which has links to those beside it.
fn last_resorts(
    routes: &mut Routes,
    directory: &Directory,
    (me, role): (&NodeId, Role),
    relay: &NodeId,
    delay_us: u64,
) {
    let region = directory.get(relay).map(|known| &known.region);
    let knows = |node: &NodeInfo| role == Role::Edge || Some(&node.region) == region;
    let nodes = directory.nodes.values();
    let relays = nodes.filter(|node| node.role == Role::Relay && node.id != *me);
    for to in relays.filter(|node| node.id == *relay || knows(node)) {
        let paths = routes.paths.entry(to.id.clone()).or_default();
        if paths.iter().any(|path| path.hops[0].node == *relay) {
            continue;
        }
        let direct = to.id == *relay;
        let mut way = vec![relay];
        way.extend((!direct).then_some(&to.id));
        let hops = way.into_iter().map(|node| Hop {
            node: node.clone(),
            net: Net::internet(),
        });
        // An edge is attached to it: no table knows better.
        let is_told = direct && role == Role::Edge;
        let extra_us = if is_told { 0 } else { LAST_RESORT_US };
        paths.push(Path {
            hops: hops.collect(),
            cost_us: delay_us + extra_us,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longspan_proto::ids::Region;

    use super::*;
    use crate::node::tests::info;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn directory() -> Directory {
        let nodes = ["a", "b", "c"].map(|name| (id(name), info(name)));
        Directory {
            nodes: nodes.into(),
        }
    }

    fn routes(n: u64, to: &str, hops: &[&str]) -> Routes {
        let hops = hops.iter().map(|node| Hop {
            node: id(node),
            net: Net::internet(),
        });
        let path = Path {
            hops: hops.collect(),
            cost_us: 5,
        };
        Routes {
            version: Version {
                era: 0,
                election: 1,
                n,
            },
            neighbours: vec![id("b")],
            paths: BTreeMap::from([(id(to), vec![path])]),
            ..Routes::default()
        }
    }

    fn taken(told: &control::Table, in_use: &Routes) -> Result<Routes, Invalid> {
        let held = Some(in_use.version);
        parse(told, (&id("a"), Role::Relay), &directory(), in_use, held)
    }

    #[test]
    fn a_good_table_becomes_routes_and_a_change_of_it_others() {
        let first = encoding::whole(&routes(2, "c", &["b", "c"]));
        let first = taken(&first, &Routes::default()).unwrap();
        assert_eq!(first.neighbours, [id("b")]);
        assert_eq!(first.ways(&id("a"), &id("c")), [vec![id("b"), id("c")]]);
        let second = routes(3, "c", &["c"]);
        let change = encoding::change(&first, &second);
        assert_eq!(taken(&change, &first), Ok(second.clone()));
        let late = encoding::change(&second, &routes(4, "c", &["b", "c"]));
        let refused = taken(&late, &first).unwrap_err();
        assert!(refused.wants_whole(), "{refused}");
    }

    #[test]
    fn a_bad_table_is_refused_with_the_reason() {
        let held = routes(2, "c", &["b", "c"]);
        let refused = |told: &Routes| {
            let whole = taken(&encoding::whole(told), &held).unwrap_err();
            let change = taken(&encoding::change(&held, told), &held).unwrap_err();
            assert_eq!(whole, change);
            assert!(!whole.wants_whole());
            whole.to_string()
        };
        assert_eq!(
            refused(&routes(3, "c", &["x", "c"])),
            "the path to c names x, which is not in the directory"
        );
        assert_eq!(
            refused(&routes(3, "c", &["b", "a", "c"])),
            "the path to c crosses a twice"
        );
        assert!(refused(&routes(1, "c", &["c"])).contains("is in use"));
    }

    #[test]
    fn a_fresh_attachment_needs_no_new_table() {
        let told = routes(2, "c", &["b", "c"]);
        let derived = derive(
            &told,
            &directory(),
            (&id("edge"), Role::Edge),
            &[(id("c"), 8_000)],
        );
        assert_eq!(
            derived.ways(&id("a"), &id("c")),
            [vec![id("b"), id("c")], vec![id("c")]]
        );
        assert_eq!(derived.ways(&id("a"), &id("b")), [vec![id("c"), id("b")]]);
    }

    #[test]
    fn a_relay_asks_a_neighbour_in_the_region_of_who_it_has_no_path_to() {
        let mut directory = directory();
        let mut put = |name: &str, region: &str, attached: &[&str]| {
            let node = NodeInfo {
                region: Region::new(region).unwrap(),
                role: if attached.is_empty() {
                    Role::Relay
                } else {
                    Role::Edge
                },
                attached: attached.iter().map(|relay| id(relay)).collect(),
                ..info(name)
            };
            directory.nodes.insert(id(name), node);
        };
        put("far-1", "far", &[]);
        put("far-2", "far", &[]);
        put("far-edge", "far", &["far-2"]);
        let told = routes(2, "c", &["b", "c"]);
        let connected = [(id("b"), 2_000), (id("c"), 8_000), (id("far-1"), 90_000)];
        let derived = derive(&told, &directory, (&id("a"), Role::Relay), &connected);
        let ways = |to| {
            let ways = derived.ways(&id("a"), &id(to)).into_iter();
            let ways = ways.map(|way| way.iter().map(ToString::to_string).collect());
            ways.collect::<Vec<Vec<String>>>()
        };
        let none: [[&str; 1]; 0] = [];
        assert_eq!(ways("far-edge"), [["far-1", "far-2", "far-edge"]]);
        assert_eq!(ways("far-1"), [["far-1"]]);
        // The table's own path first, then what it does not tell, nearest first.
        assert_eq!(ways("c")[0], ["b", "c"]);
        assert_eq!(ways("c")[1], ["c"]);
        assert_eq!(ways("a"), none, "none to itself");
    }
}
