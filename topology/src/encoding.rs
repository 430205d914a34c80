//! Route tables as they travel (control.proto, `Table`): whole, or as what changed since another.
//!
//! Names are written once and then numbered: with 256 relays that makes a table a quarter of its
//! size, and a change of some paths a few hundred bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use longspan_proto::{
    control,
    ids::{NameError, Net, NodeId},
};

use crate::{
    policy::MAX_CLASSES,
    routes::{Hop, Path, Routes, Version},
};

/// The policy class of whoever asks for none.
const DEFAULT_CLASS: u32 = 0;

/// For each destination the paths to it.
type Ways = BTreeMap<NodeId, Vec<Path>>;

/// Why a table could not be read; the text goes back to the controller (`TableNack`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It has no version.
    #[error("it carries no version")]
    NoVersion,
    /// It changes a table that is not held.
    #[error("it changes table {base:?}, and {held:?} is held; send it whole")]
    OtherBase {
        /// The table it changes.
        base: Version,
        /// The one that is held.
        held: Version,
    },
    /// A name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A number names nothing.
    #[error("{what} {number} is not named; {named} are")]
    Number {
        /// A node or a net.
        what: &'static str,
        /// The number.
        number: u32,
        /// How many names there are.
        named: usize,
    },
    /// A path has another number of nets than of nodes.
    #[error("a path to {destination} has {nodes} nodes and {nets} nets")]
    Uneven {
        /// Where it leads.
        destination: NodeId,
        /// Its nodes.
        nodes: usize,
        /// Its nets.
        nets: usize,
    },
    /// It has paths of a policy class that cannot be.
    #[error("it has paths of policy class {number}; the limit is {limit}")]
    Class {
        /// The class's number.
        number: u32,
        /// [`MAX_CLASSES`]; numbers are below.
        limit: usize,
    },
    /// One destination has two lists of paths.
    #[error("{0} is a destination twice")]
    Twice(NodeId),
}

/// The version as it travels.
pub fn version(version: Version) -> control::TableVersion {
    control::TableVersion {
        era: version.era,
        election: version.election,
        n: version.n,
    }
}

/// The version as it is compared.
pub fn read_version(told: control::TableVersion) -> Version {
    Version {
        era: told.era,
        election: told.election,
        n: told.n,
    }
}

/// A whole table. Where edges are attached does not travel with it: the directory tells that.
pub fn whole(routes: &Routes) -> control::Table {
    let mut names = Names::default();
    let neighbours = names.neighbours(&routes.neighbours);
    let default = names.class(DEFAULT_CLASS, None, &routes.paths);
    let others = routes.classes.iter();
    let others = others.filter_map(|(class, paths)| names.class((*class).into(), None, paths));
    let classes = default.into_iter().chain(others).collect();
    control::Table {
        version: Some(version(routes.version)),
        base: None,
        neighbours: Some(neighbours),
        classes,
        full: names.full(&routes.full),
        classes_gone: Vec::new(),
        nodes: names.nodes.list,
        nets: names.nets.list,
    }
}

/// What makes `routes` out of `base`.
pub fn change(base: &Routes, routes: &Routes) -> control::Table {
    let mut names = Names::default();
    let moved = base.neighbours != routes.neighbours;
    let neighbours = moved.then(|| names.neighbours(&routes.neighbours));
    let default = names.class(DEFAULT_CLASS, Some(&base.paths), &routes.paths);
    let others = routes.classes.iter();
    let others = others
        .filter_map(|(class, paths)| names.class((*class).into(), base.classes.get(class), paths));
    let classes = default.into_iter().chain(others).collect();
    let old = base.classes.keys();
    let gone = old.filter(|class| !routes.classes.contains_key(class));
    control::Table {
        version: Some(version(routes.version)),
        base: Some(version(base.version)),
        neighbours,
        classes,
        full: names.full(&routes.full),
        classes_gone: gone.map(|class| (*class).into()).collect(),
        nodes: names.nodes.list,
        nets: names.nets.list,
    }
}

/// The table that `told` makes, out of the one `held` if it is a change. Whether a node may use it
/// is for [`check`](crate::tables::check) to say.
pub fn read(told: &control::Table, held: &Routes) -> Result<Routes, Malformed> {
    let version = read_version(told.version.ok_or(Malformed::NoVersion)?);
    let base = told.base.map(read_version);
    if let Some(base) = base.filter(|base| *base != held.version) {
        let held = held.version;
        return Err(Malformed::OtherBase { base, held });
    }
    let names = Read {
        nodes: parsed(&told.nodes)?,
        nets: parsed(&told.nets)?,
    };
    let neighbours = match (&told.neighbours, base) {
        (Some(told), _) => names.nodes(&told.nodes)?,
        (None, Some(_)) => held.neighbours.clone(),
        (None, None) => Vec::new(),
    };
    let (mut paths, mut classes) = match base {
        Some(_) => (held.paths.clone(), held.classes.clone()),
        None => Default::default(),
    };
    classes.retain(|class, _| !told.classes_gone.contains(&(*class).into()));
    let mut seen = HashSet::new();
    for told in &told.classes {
        let class = class(told.class)?;
        let paths = match told.class {
            DEFAULT_CLASS => &mut paths,
            _ => classes.entry(class).or_default(),
        };
        names.class(told, &mut seen, paths)?;
    }
    let full = told.full.iter();
    let full = full.map(|link| Ok((names.node(link.from)?, names.node(link.to)?)));
    Ok(Routes {
        version,
        neighbours,
        paths,
        classes,
        full: full.collect::<Result<_, Malformed>>()?,
        ..Routes::default()
    })
}

fn class(number: u32) -> Result<u8, Malformed> {
    let limit = MAX_CLASSES;
    let class = u8::try_from(number).ok();
    let class = class.filter(|class| usize::from(*class) < limit);
    class.ok_or(Malformed::Class { number, limit })
}

/// The names of a table as it is read.
struct Read {
    nodes: Vec<NodeId>,
    nets: Vec<Net>,
}

impl Read {
    fn node(&self, number: u32) -> Result<NodeId, Malformed> {
        named("node", &self.nodes, number)
    }

    fn nodes(&self, numbers: &[u32]) -> Result<Vec<NodeId>, Malformed> {
        numbers.iter().map(|number| self.node(*number)).collect()
    }

    fn class(
        &self,
        told: &control::ClassRoutes,
        seen: &mut HashSet<(u32, u32)>,
        paths: &mut Ways,
    ) -> Result<(), Malformed> {
        for number in &told.gone {
            paths.remove(&self.node(*number)?);
        }
        for route in &told.routes {
            let to = self.node(route.destination)?;
            if !seen.insert((told.class, route.destination)) {
                return Err(Malformed::Twice(to));
            }
            let ways = route.paths.iter().map(|path| self.path(&to, path));
            let ways = ways.collect::<Result<_, _>>()?;
            paths.insert(to, ways);
        }
        Ok(())
    }

    fn path(&self, to: &NodeId, told: &control::Path) -> Result<Path, Malformed> {
        let nodes = self.nodes(&told.nodes)?;
        let nets = match &told.nets[..] {
            [] if nodes.is_empty() => Vec::new(),
            [] => vec![named("net", &self.nets, 0)?; nodes.len()],
            told => told
                .iter()
                .map(|net| named("net", &self.nets, *net))
                .collect::<Result<_, _>>()?,
        };
        if nets.len() != nodes.len() {
            return Err(Malformed::Uneven {
                destination: to.clone(),
                nodes: nodes.len(),
                nets: nets.len(),
            });
        }
        let hops = nodes.into_iter().zip(nets);
        Ok(Path {
            hops: hops.map(|(node, net)| Hop { node, net }).collect(),
            cost_us: told.cost_us,
        })
    }
}

fn parsed<T: std::str::FromStr<Err = NameError>>(names: &[String]) -> Result<Vec<T>, NameError> {
    names.iter().map(|name| name.parse()).collect()
}

fn named<T: Clone>(what: &'static str, names: &[T], number: u32) -> Result<T, Malformed> {
    let found = names.get(number as usize).cloned();
    found.ok_or(Malformed::Number {
        what,
        number,
        named: names.len(),
    })
}

/// Names in the order of their first use.
#[derive(Default)]
struct Numbers {
    list: Vec<String>,
    known: HashMap<String, u32>,
}

impl Numbers {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(known) = self.known.get(name) {
            return *known;
        }
        let number = self.list.len() as u32;
        self.list.push(name.to_owned());
        self.known.insert(name.to_owned(), number);
        number
    }
}

#[derive(Default)]
struct Names {
    nodes: Numbers,
    nets: Numbers,
}

impl Names {
    fn neighbours(&mut self, nodes: &[NodeId]) -> control::Neighbours {
        let numbers = nodes.iter().map(|node| self.nodes.number(node));
        control::Neighbours {
            nodes: numbers.collect(),
        }
    }

    fn full(&mut self, links: &BTreeSet<(NodeId, NodeId)>) -> Vec<control::FullLink> {
        let link = |(from, to): &(NodeId, NodeId)| control::FullLink {
            from: self.nodes.number(from),
            to: self.nodes.number(to),
        };
        links.iter().map(link).collect()
    }

    /// A class's paths, or what differs from those of `base`; none if nothing does, unless the
    /// class is new.
    fn class(
        &mut self,
        class: u32,
        base: Option<&Ways>,
        paths: &Ways,
    ) -> Option<control::ClassRoutes> {
        let before = |to: &NodeId| base.and_then(|base| base.get(to));
        let changed = paths.iter().filter(|(to, paths)| before(to) != Some(paths));
        let routes: Vec<_> = changed.map(|(to, paths)| self.route(to, paths)).collect();
        let old = base.into_iter().flat_map(BTreeMap::keys);
        let gone = old.filter(|to| !paths.contains_key(*to));
        let gone: Vec<u32> = gone.map(|to| self.nodes.number(to)).collect();
        let is_new = base.is_none() && class != DEFAULT_CLASS;
        let is_said = is_new || !routes.is_empty() || !gone.is_empty();
        is_said.then_some(control::ClassRoutes {
            class,
            routes,
            gone,
        })
    }

    fn route(&mut self, to: &NodeId, paths: &[Path]) -> control::Route {
        let destination = self.nodes.number(to);
        let paths = paths.iter().map(|path| self.path(path)).collect();
        control::Route { destination, paths }
    }

    fn path(&mut self, path: &Path) -> control::Path {
        let nodes = path.hops.iter().map(|hop| self.nodes.number(&hop.node));
        let nodes = nodes.collect();
        let mut nets: Vec<u32> = path
            .hops
            .iter()
            .map(|hop| self.nets.number(&hop.net))
            .collect();
        if nets.iter().all(|net| *net == 0) {
            nets.clear();
        }
        let cost_us = path.cost_us;
        control::Path {
            nodes,
            nets,
            cost_us,
        }
    }
}

#[cfg(test)]
mod tests;
