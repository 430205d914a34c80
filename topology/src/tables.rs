//! A node's table: checked before it is used, whoever made it.

use std::collections::HashSet;

use longspan_proto::{ids::NodeId, wire::Role};

use crate::{
    paths::MAX_INTERMEDIATES,
    policy::MAX_CLASSES,
    routes::{Path, Routes, Version},
};

/// Why a table is not taken; the text goes back to the controller (`TableNack`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is older than the one in use.
    #[error("table {got:?} is older than {held:?}, which is in use")]
    Older {
        /// The version offered.
        got: Version,
        /// The version in use.
        held: Version,
    },
    /// It names a node that the directory does not hold.
    #[error("{place} names {node}, which is not in the directory")]
    UnknownNode {
        /// Where in the table.
        place: String,
        /// The node.
        node: NodeId,
    },
    /// A path crosses a node twice, or its owner.
    #[error("the path to {destination} crosses {node} twice")]
    Loop {
        /// The path's destination.
        destination: NodeId,
        /// Who is crossed twice.
        node: NodeId,
    },
    /// A path crosses or ends at an edge; edges carry nothing for others.
    #[error("the path to {destination} crosses the edge {node}")]
    OverEdge {
        /// The path's destination.
        destination: NodeId,
        /// The edge.
        node: NodeId,
    },
    /// A path has no hop, or does not end at its destination.
    #[error("a path to {destination} does not end there")]
    WrongEnd {
        /// The path's destination.
        destination: NodeId,
    },
    /// A path has more hops than any may have.
    #[error("the path to {destination} has {hops} hops; the limit is {limit}")]
    TooLong {
        /// The path's destination.
        destination: NodeId,
        /// Its number of hops.
        hops: usize,
        /// [`MAX_INTERMEDIATES`] and the destination.
        limit: usize,
    },
    /// It has paths of a policy class that cannot be.
    #[error("it has paths of policy class {class}; the limit is {limit}")]
    Class {
        /// The class's number.
        class: u8,
        /// [`MAX_CLASSES`]; numbers are below.
        limit: usize,
    },
}

/// Whether `me` may use `routes`. `held` is the version in use (the same one again is fine);
/// `role` looks a node up in the directory.
pub fn check(
    me: &NodeId,
    held: Option<Version>,
    routes: &Routes,
    role: impl Fn(&NodeId) -> Option<Role>,
) -> Result<(), Refusal> {
    if let Some(held) = held.filter(|held| routes.version < *held) {
        let got = routes.version;
        return Err(Refusal::Older { got, held });
    }
    let known = |place: &dyn Fn() -> String, node: &NodeId| {
        role(node).ok_or_else(|| Refusal::UnknownNode {
            place: place(),
            node: node.clone(),
        })
    };
    for node in &routes.neighbours {
        known(&|| "the list of neighbours".into(), node)?;
    }
    if let Some((class, limit)) = routes
        .classes
        .keys()
        .map(|class| (*class, MAX_CLASSES))
        .find(|(class, limit)| usize::from(*class) >= *limit)
    {
        return Err(Refusal::Class { class, limit });
    }
    let classes = std::iter::once(&routes.paths).chain(routes.classes.values());
    for (destination, paths) in classes.flatten() {
        for path in paths {
            check_path(me, destination, path, &known)?;
        }
    }
    Ok(())
}

fn check_path(
    me: &NodeId,
    to: &NodeId,
    path: &Path,
    known: &impl Fn(&dyn Fn() -> String, &NodeId) -> Result<Role, Refusal>,
) -> Result<(), Refusal> {
    let destination = || to.clone();
    let (hops, limit) = (path.hops.len(), MAX_INTERMEDIATES + 1);
    if path.hops.last().map(|hop| &hop.node) != Some(to) {
        let destination = destination();
        return Err(Refusal::WrongEnd { destination });
    }
    if hops > limit {
        let destination = destination();
        return Err(Refusal::TooLong {
            destination,
            hops,
            limit,
        });
    }
    let mut crossed = HashSet::from([me]);
    for hop in &path.hops {
        let node = &hop.node;
        if !crossed.insert(node) {
            return Err(Refusal::Loop {
                destination: destination(),
                node: node.clone(),
            });
        }
        if known(&|| format!("the path to {to}"), node)? != Role::Relay {
            return Err(Refusal::OverEdge {
                destination: destination(),
                node: node.clone(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use longspan_proto::ids::Net;

    use super::*;
    use crate::routes::{Hop, Path};

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn role(node: &NodeId) -> Option<Role> {
        match node.as_str() {
            "a" | "b" | "c" | "d" | "f" | "g" => Some(Role::Relay),
            "e-1" => Some(Role::Edge),
            _ => None,
        }
    }

    /// `b c | d c`: the paths of a's table, all to the node named first in `to`.
    fn table(to: &str, paths: &str) -> Routes {
        let path = |text: &str| Path {
            hops: text
                .split_whitespace()
                .map(|n| Hop {
                    node: node(n),
                    net: Net::internet(),
                })
                .collect(),
            cost_us: 1,
        };
        Routes {
            paths: [(node(to), paths.split('|').map(path).collect())].into(),
            ..Default::default()
        }
    }

    fn refused(routes: &Routes) -> String {
        check(&node("a"), None, routes, role)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn bad_tables_are_refused_with_the_reason() {
        assert_eq!(
            check(&node("a"), None, &table("c", "b c | d c"), role),
            Ok(())
        );
        for (to, paths, reason) in [
            ("c", "b b c", "the path to c crosses b twice"),
            ("c", "b a c", "the path to c crosses a twice"),
            (
                "c",
                "x c",
                "the path to c names x, which is not in the directory",
            ),
            ("c", "e-1 c", "the path to c crosses the edge e-1"),
            ("c", "c | b", "a path to c does not end there"),
            ("c", "", "a path to c does not end there"),
            ("c", "b d f g c", "the path to c has 5 hops; the limit is 4"),
        ] {
            assert_eq!(refused(&table(to, paths)), reason);
        }
        let stranger = Routes {
            neighbours: vec![node("x")],
            ..Default::default()
        };
        assert_eq!(
            refused(&stranger),
            "the list of neighbours names x, which is not in the directory"
        );
    }

    #[test]
    fn only_an_older_version_is_refused() {
        let version = |era, election, n| Version { era, election, n };
        let held = Some(version(1, 50, 7));
        for (got, taken) in [
            (version(1, 50, 6), false),
            (version(1, 49, 900), false),
            (version(0, 90, 900), false),
            (version(1, 50, 7), true),
            (version(1, 51, 0), true),
            (version(2, 0, 0), true),
        ] {
            let routes = Routes {
                version: got,
                ..Default::default()
            };
            let answer = check(&node("a"), held, &routes, role);
            assert_eq!(answer.is_ok(), taken, "{got:?}: {answer:?}");
        }
    }

    #[test]
    fn paths_of_every_class_are_checked() {
        let with = |class, to, paths| Routes {
            classes: [(class, table(to, paths).paths)].into(),
            ..Default::default()
        };
        let answer = check(&node("a"), None, &with(63, "c", "b c"), role);
        assert_eq!(answer, Ok(()));
        assert_eq!(
            refused(&with(5, "c", "b b c")),
            "the path to c crosses b twice"
        );
        assert_eq!(
            refused(&with(64, "c", "b c")),
            "it has paths of policy class 64; the limit is 64"
        );
    }
}
