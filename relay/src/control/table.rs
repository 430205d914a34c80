//! Tables: from the controller's words to what the core uses.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{
    control,
    ids::{NameError, Net, NodeId},
    wire::Role,
};
use longspan_topology::routes::{Hop, Path, Routes, Version};

use crate::node::Directory;

/// Why a table was refused; the words go into the NACK.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("it carries no version")]
    NoVersion,
    #[error("version {told:?} is older than {held:?}")]
    Older { told: Version, held: Version },
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{node} is not in the directory")]
    Unknown { node: NodeId },
    #[error("the path to {to} has no hops")]
    Empty { to: NodeId },
    #[error("the path to {to} ends at {at}")]
    Astray { to: NodeId, at: NodeId },
    #[error("the path to {to} crosses {node} twice")]
    Loop { to: NodeId, node: NodeId },
}

pub(crate) fn version(told: Option<control::TableVersion>) -> Option<Version> {
    told.map(|v| Version {
        era: v.era,
        election: v.election,
        n: v.n,
    })
}

pub(crate) fn told(version: Version) -> control::TableVersion {
    control::TableVersion {
        era: version.era,
        election: version.election,
        n: version.n,
    }
}

/// Checks a table against what is known and held.
pub(crate) fn parse(
    told: &control::Table,
    me: &NodeId,
    directory: &Directory,
    held: Option<Version>,
) -> Result<Routes, Invalid> {
    let version = version(told.version).ok_or(Invalid::NoVersion)?;
    if let Some(held) = held.filter(|held| version < *held) {
        return Err(Invalid::Older {
            told: version,
            held,
        });
    }
    let known = |name: &str| {
        let node = NodeId::new(name)?;
        match node == *me || directory.get(&node).is_some() {
            true => Ok(node),
            false => Err(Invalid::Unknown { node }),
        }
    };
    let neighbours = told
        .neighbours
        .iter()
        .map(|name| known(name))
        .filter(|node| node.as_ref().ok() != Some(me))
        .collect::<Result<_, _>>()?;
    let mut paths = BTreeMap::new();
    for route in &told.routes {
        let to = known(&route.destination)?;
        let mut ways = Vec::new();
        for path in &route.paths {
            let mut crossed = BTreeSet::from([me.clone()]);
            let mut hops = Vec::new();
            for hop in &path.hops {
                let node = known(&hop.node)?;
                if !crossed.insert(node.clone()) {
                    return Err(Invalid::Loop { to, node });
                }
                let net = Net::new(&hop.net)?;
                hops.push(Hop { node, net });
            }
            match hops.last() {
                None => return Err(Invalid::Empty { to }),
                Some(last) if last.node != to => {
                    let at = last.node.clone();
                    return Err(Invalid::Astray { to, at });
                }
                Some(_) => ways.push(Path {
                    hops,
                    cost_us: path.cost_us,
                }),
            }
        }
        paths.insert(to, ways);
    }
    Ok(Routes {
        version,
        neighbours,
        paths,
        ..Routes::default()
    })
}

/// What a way that no table told costs: it is tried after every other.
const LAST_RESORT_US: u64 = 1_000_000;

/// What the core gets: the table, with where edges are attached as the directory tells it. An
/// edge whose attachment is newer than its table gets ways over it: to the relay itself, and, as a
/// last resort, to every other relay behind it.
pub(crate) fn derive(
    told: &Routes,
    directory: &Directory,
    role: Role,
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
    if role == Role::Relay {
        return routes;
    }
    for (relay, rtt_us) in connected {
        let others = directory
            .nodes
            .values()
            .filter(|node| node.role == Role::Relay && node.id != *relay)
            .map(|node| vec![relay, &node.id]);
        for way in others.chain([vec![relay]]) {
            let to = way[way.len() - 1].clone();
            let paths = routes.paths.entry(to).or_default();
            if paths.iter().any(|path| path.hops[0].node == *relay) {
                continue;
            }
            let cost_us = rtt_us / 2 + LAST_RESORT_US * (way.len() as u64 - 1);
            let hops = way.into_iter().map(|node| Hop {
                node: node.clone(),
                net: Net::internet(),
            });
            paths.push(Path {
                hops: hops.collect(),
                cost_us,
            });
        }
    }
    routes
}

#[cfg(test)]
mod tests {
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

    fn table(n: u64, to: &str, hops: &[&str]) -> control::Table {
        control::Table {
            version: Some(control::TableVersion {
                era: 0,
                election: 1,
                n,
            }),
            neighbours: vec!["b".into()],
            routes: vec![control::Route {
                destination: to.into(),
                paths: vec![control::Path {
                    hops: hops
                        .iter()
                        .map(|node| control::Hop {
                            node: (*node).into(),
                            net: "internet".into(),
                        })
                        .collect(),
                    cost_us: 5,
                }],
            }],
        }
    }

    fn refused(table: &control::Table, held: Option<Version>) -> String {
        parse(table, &id("a"), &directory(), held)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn a_good_table_becomes_routes() {
        let routes = parse(&table(2, "c", &["b", "c"]), &id("a"), &directory(), None).unwrap();
        assert_eq!(routes.neighbours, [id("b")]);
        assert_eq!(routes.ways(&id("a"), &id("c")), [vec![id("b"), id("c")]]);
    }

    #[test]
    fn a_fresh_attachment_needs_no_new_table() {
        let told = parse(&table(2, "c", &["b", "c"]), &id("a"), &directory(), None).unwrap();
        let routes = derive(&told, &directory(), Role::Edge, &[(id("c"), 8_000)]);
        assert_eq!(
            routes.ways(&id("a"), &id("c")),
            [vec![id("b"), id("c")], vec![id("c")]]
        );
        assert_eq!(routes.ways(&id("a"), &id("b")), [vec![id("c"), id("b")]]);
        let relay = derive(&told, &directory(), Role::Relay, &[(id("c"), 8_000)]);
        assert_eq!(relay.paths, told.paths, "relays follow the table");
    }

    #[test]
    fn bad_tables_are_refused_with_the_reason() {
        assert_eq!(
            refused(&table(1, "c", &["x", "c"]), None),
            "x is not in the directory"
        );
        assert_eq!(
            refused(&table(1, "c", &["b", "a", "c"]), None),
            "the path to c crosses a twice"
        );
        assert_eq!(
            refused(&table(1, "c", &["b"]), None),
            "the path to c ends at b"
        );
        assert_eq!(
            refused(&table(1, "c", &[]), None),
            "the path to c has no hops"
        );
        let held = Version {
            era: 0,
            election: 1,
            n: 2,
        };
        assert!(refused(&table(1, "c", &["c"]), Some(held)).contains("is older than"));
        assert!(parse(&table(2, "c", &["c"]), &id("a"), &directory(), Some(held)).is_ok());
    }
}
