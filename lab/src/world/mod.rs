//! An emulated world in one file: which address is in which region, what lies between regions
//! on each net, and the faults laid over it now.
//!
//! Everything here is pure but [`World::read`], [`World::write`] and [`Live`]: a simulation makes
//! a [`World`], one [`Lane`] for each direction, and a [`Player`] of a [`Schedule`]. The file is
//! JSON and may be replaced while nodes run; see [`Live`].

mod change;
mod lane;
mod live;
mod schedule;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use longspan_proto::ids::{Net, NodeId, Region, Zone};
use serde::{Deserialize, Serialize};

pub use change::{Change, ChangeError, Effect, MAX_FAULTS};
pub use lane::{Counts, Lane};
pub use live::{Followed, Live, POLL};
pub use schedule::{Action, MAX_STEPS, Player, Schedule, ScheduleError, Step};

use crate::{
    matrix::{Matrix, Split},
    wan::{Profile, ProfileError, profile_millis},
};

/// One way between two nodes of one region: a city's network.
pub const SAME_REGION: Duration = Duration::from_micros(250);

/// One way between two nodes of one zone: a data centre's network.
pub const SAME_ZONE: Duration = Duration::from_micros(50);

/// A whole emulated world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Every random draw derives from it.
    pub seed: u64,
    /// Who listens where.
    pub nodes: BTreeMap<NodeId, Placed>,
    /// One entry for each direction between two regions on each net.
    pub ways: Vec<Way>,
    /// What is laid over them now. The last one that fits a direction counts.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// Where a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Its region.
    pub region: Region,
    /// Its zone, where the region has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// Where it listens on the internet, UDP or TCP.
    pub addrs: Vec<SocketAddr>,
    /// Where it listens on other nets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub lines: BTreeMap<Net, Vec<SocketAddr>>,
}

/// One direction between two regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// From where.
    pub from: Region,
    /// To where.
    pub to: Region,
    /// Over which net.
    #[serde(default = "Net::internet")]
    pub net: Net,
    /// The delay without jitter.
    #[serde(rename = "one_way_ms", with = "profile_millis")]
    pub one_way: Duration,
    /// Jitter, loss and rate.
    pub profile: Profile,
}

/// A change of one direction, until it is taken away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A node, a zone (`region/zone`) or a region.
    pub from: String,
    /// A node, a zone or a region.
    pub to: String,
    /// Over which net; every one where none is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// What it does.
    pub effect: Effect,
}

/// Somebody in the world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Who {
    /// The node, where it is known.
    pub node: Option<NodeId>,
    /// Its region.
    pub region: Region,
    /// Its zone, where it is known.
    pub zone: Option<Zone>,
}

/// Why a world was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read or written.
    #[error("cannot use the world file {}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no world.
    #[error("the world file {} is not usable: {why}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// How to lay a named or custom profile over a whole matrix.
#[derive(Debug, Clone, PartialEq)]
pub enum Everywhere {
    /// The same in every direction.
    Same(Profile),
    /// [`Profile::china_inbound`] from abroad into China, [`Profile::internet`] elsewhere.
    ChinaInbound,
}

impl Everywhere {
    /// By the name of a profile.
    pub fn named(name: &str) -> Result<Everywhere, ProfileError> {
        if name == "china-inbound" {
            return Ok(Everywhere::ChinaInbound);
        }
        Profile::named(name).map(Everywhere::Same)
    }

    fn between(&self, from_country: &str, to_country: &str) -> Profile {
        match self {
            Everywhere::Same(profile) => profile.clone(),
            Everywhere::ChinaInbound if from_country != "CN" && to_country == "CN" => {
                Profile::china_inbound()
            }
            Everywhere::ChinaInbound => Profile::internet(),
        }
    }
}

impl World {
    /// A world of `nodes` with the matrix's delays between their regions, divided into the two
    /// directions as `split` says. Regions that the matrix does not hold are as near as if they
    /// were one.
    pub fn new(
        matrix: &Matrix,
        split: Split,
        everywhere: &Everywhere,
        nodes: BTreeMap<NodeId, Placed>,
        seed: u64,
    ) -> World {
        let regions: BTreeSet<&Region> = nodes.values().map(|placed| &placed.region).collect();
        let ways = ways(matrix, split, everywhere, regions);
        World {
            seed,
            nodes,
            ways,
            faults: Vec::new(),
        }
    }

    /// A world of regions, in which nobody is placed: for whoever names both ends of a direction
    /// without addresses, as a simulation does.
    pub fn of_regions(
        matrix: &Matrix,
        split: Split,
        everywhere: &Everywhere,
        regions: &[Region],
        seed: u64,
    ) -> World {
        World {
            seed,
            nodes: BTreeMap::new(),
            ways: ways(matrix, split, everywhere, regions.iter().collect()),
            faults: Vec::new(),
        }
    }

    /// Adds a net of its own between two regions, in both directions: a leased line.
    pub fn lease(
        &mut self,
        net: &Net,
        between: [&Region; 2],
        one_way: Duration,
        profile: &Profile,
    ) {
        let [a, b] = between;
        self.ways.extend([(a, b), (b, a)].map(|(from, to)| Way {
            from: from.clone(),
            to: to.clone(),
            net: net.clone(),
            one_way,
            profile: profile.clone(),
        }));
    }

    /// Reads and checks a world file.
    pub fn read(path: &Path) -> Result<World, Error> {
        let text = fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_owned(),
            source,
        })?;
        let parse = |why| Error::Parse {
            path: path.to_owned(),
            why,
        };
        let world: World = serde_json::from_str(&text).map_err(|error| parse(error.to_string()))?;
        world.check().map_err(parse)?;
        Ok(world)
    }

    /// `Err` names what cannot be.
    pub fn check(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for way in &self.ways {
            let Way { from, to, net, .. } = way;
            let refused = |why: &dyn std::fmt::Display| format!("{from} → {to} ({net}): {why}");
            way.profile.check().map_err(|error| refused(&error))?;
            if !seen.insert((from, to, net)) {
                return Err(refused(&"stands there twice"));
            }
        }
        for way in &self.ways {
            if !seen.contains(&(&way.to, &way.from, &way.net)) {
                return Err(format!(
                    "the way {} → {} ({}) is missing; the one back stands there",
                    way.to, way.from, way.net
                ));
            }
        }
        for fault in &self.faults {
            let Fault { from, to, .. } = fault;
            if let Some(name) = [from, to].into_iter().find(|name| !self.knows(name)) {
                let unknown = ChangeError::Unknown(name.clone());
                return Err(format!("fault {from} → {to}: {unknown}"));
            }
            let effect = fault.effect.check();
            effect.map_err(|error| format!("fault {from} → {to}: {error}"))?;
        }
        Ok(())
    }

    /// Writes the file so that a reader sees the old one or the new one, never a part.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let error = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let text = serde_json::to_vec_pretty(self).map_err(|why| error(why.into()))?;
        let beside = path.with_extension("new");
        fs::write(&beside, text).map_err(error)?;
        fs::rename(&beside, path).map_err(error)
    }

    /// Who listens at an address, and on which net it is.
    pub fn at(&self, addr: SocketAddr) -> Option<(Who, Net)> {
        self.nodes.iter().find_map(|(node, placed)| {
            let net = if placed.addrs.contains(&addr) {
                Net::internet()
            } else {
                let line = placed.lines.iter().find(|(_, addrs)| addrs.contains(&addr));
                line?.0.clone()
            };
            Some((placed.who(node), net))
        })
    }

    /// Delay without jitter, and profile, of the direction from one to the other over a net. Two
    /// of one region are near each other on every net; a line that does not join two regions
    /// carries nothing between them.
    pub fn between(&self, from: &Who, to: &Who, net: &Net) -> (Duration, Profile) {
        let way = self
            .ways
            .iter()
            .find(|way| way.from == from.region && way.to == to.region && way.net == *net);
        let near = from.region == to.region || *net == Net::internet();
        let (one_way, profile) = match way {
            Some(way) => (way.one_way, way.profile.clone()),
            None if near && from.shares_zone(to) => (SAME_ZONE, Profile::default()),
            None if near => (SAME_REGION, Profile::default()),
            None => (SAME_REGION, Profile::blackhole()),
        };
        let fault = self.faults.iter().rev().find(|fault| {
            let net_fits = fault.net.as_ref().is_none_or(|of| of == net);
            net_fits && from.is(&fault.from) && to.is(&fault.to)
        });
        match fault {
            Some(fault) => fault.effect.over(one_way, profile),
            None => (one_way, profile),
        }
    }

    /// Whether a node, a zone or a region has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.names().contains(name)
    }

    /// The names of all regions, zones and nodes.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for way in &self.ways {
            names.extend([way.from.to_string(), way.to.to_string()]);
        }
        for (node, placed) in &self.nodes {
            names.extend([node.to_string(), placed.region.to_string()]);
            names.extend(placed.who(node).zone_name());
        }
        names
    }
}

/// Every direction between two of `regions` on the internet.
fn ways(
    matrix: &Matrix,
    split: Split,
    everywhere: &Everywhere,
    regions: BTreeSet<&Region>,
) -> Vec<Way> {
    let pairs = regions
        .iter()
        .flat_map(|from| regions.iter().map(move |to| (*from, *to)))
        .filter(|(from, to)| from != to);
    let ways = pairs.filter_map(|(from, to)| {
        let country = |region: &Region| matrix.places()[region].country.as_str();
        Some(Way {
            one_way: matrix.one_way(from, to, split)?,
            profile: everywhere.between(country(from), country(to)),
            net: Net::internet(),
            from: from.clone(),
            to: to.clone(),
        })
    });
    ways.collect()
}

impl Placed {
    /// Somewhere in a region, on the internet only.
    pub fn new(region: Region, addrs: Vec<SocketAddr>) -> Placed {
        Placed {
            region,
            zone: None,
            addrs,
            lines: BTreeMap::new(),
        }
    }

    /// The node that is placed here.
    pub fn who(&self, node: &NodeId) -> Who {
        Who {
            node: Some(node.clone()),
            region: self.region.clone(),
            zone: self.zone.clone(),
        }
    }
}

impl Who {
    /// Somebody of whom no more is known than where.
    pub fn in_region(region: Region) -> Who {
        Who {
            node: None,
            region,
            zone: None,
        }
    }

    /// Whether `name` is this node, its zone or its region.
    pub fn is(&self, name: &str) -> bool {
        self.region.as_str() == name
            || self.node.as_deref() == Some(name)
            || self.zone_name().is_some_and(|zone| zone == name)
    }

    fn shares_zone(&self, other: &Who) -> bool {
        self.region == other.region && self.zone.is_some() && self.zone == other.zone
    }

    fn zone_name(&self) -> Option<String> {
        let zone = self.zone.as_ref()?;
        Some(format!("{}/{zone}", self.region))
    }
}

#[cfg(test)]
mod tests;
