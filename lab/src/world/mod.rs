//! An emulated world in one file: which address is in which region, what lies between regions,
//! and the faults laid over it now.
//!
//! The file is JSON and may be replaced while nodes run; see [`Live`].

mod live;

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use longspan_proto::ids::{NodeId, Region};
use serde::{Deserialize, Serialize};

pub use live::{Live, POLL};

use crate::{
    matrix::Matrix,
    wan::{Profile, ProfileError, profile_millis},
};

/// One way between two nodes of one region: a city's network.
pub const SAME_REGION: Duration = Duration::from_micros(250);

/// A whole emulated world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct World {
    /// Every random draw derives from it.
    pub seed: u64,
    /// Who listens where.
    pub nodes: BTreeMap<NodeId, Placed>,
    /// One entry for each direction between two regions.
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
    /// Where it listens, UDP or TCP.
    pub addrs: Vec<SocketAddr>,
}

/// One direction between two regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Way {
    /// From where.
    pub from: Region,
    /// To where.
    pub to: Region,
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
    /// A node or a region.
    pub from: String,
    /// A node or a region.
    pub to: String,
    /// Instead of the way's delay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_way_ms: Option<f64>,
    /// Instead of the way's profile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
}

/// Somebody in the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Who {
    /// The node, where it is known.
    pub node: Option<NodeId>,
    /// Its region.
    pub region: Region,
}

/// Why a world file was refused.
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
    /// A world of `nodes` with the matrix's delays between their regions. Regions that the matrix
    /// does not hold are as near as if they were one.
    pub fn new(
        matrix: &Matrix,
        everywhere: &Everywhere,
        nodes: BTreeMap<NodeId, Placed>,
        seed: u64,
    ) -> World {
        let mut regions: Vec<&Region> = nodes.values().map(|placed| &placed.region).collect();
        regions.sort();
        regions.dedup();
        let mut ways = Vec::new();
        for from in &regions {
            for to in &regions {
                let (Some(rtt), true) = (matrix.rtt(from, to), from != to) else {
                    continue;
                };
                let country = |region: &Region| matrix.places()[region].country.as_str();
                ways.push(Way {
                    from: (*from).clone(),
                    to: (*to).clone(),
                    one_way: rtt / 2,
                    profile: everywhere.between(country(from), country(to)),
                });
            }
        }
        World {
            seed,
            nodes,
            ways,
            faults: Vec::new(),
        }
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
        let profiles = world.ways.iter().map(|way| &way.profile);
        let faults = world
            .faults
            .iter()
            .filter_map(|fault| fault.profile.as_ref());
        for profile in profiles.chain(faults) {
            profile.check().map_err(|error| parse(error.to_string()))?;
        }
        for fault in &world.faults {
            if fault
                .one_way_ms
                .is_some_and(|ms| profile_millis::parse(ms).is_none())
            {
                return Err(parse(format!(
                    "fault {} → {}: one_way_ms must lie in 0 … 3,600,000",
                    fault.from, fault.to
                )));
            }
        }
        Ok(world)
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

    /// Who listens at an address.
    pub fn at(&self, addr: SocketAddr) -> Option<Who> {
        self.nodes.iter().find_map(|(node, placed)| {
            placed.addrs.contains(&addr).then(|| Who {
                node: Some(node.clone()),
                region: placed.region.clone(),
            })
        })
    }

    /// Delay without jitter, and profile, of the direction from one to the other.
    pub fn between(&self, from: &Who, to: &Who) -> (Duration, Profile) {
        let (mut one_way, mut profile) = self
            .ways
            .iter()
            .find(|way| way.from == from.region && way.to == to.region)
            .map_or((SAME_REGION, Profile::default()), |way| {
                (way.one_way, way.profile.clone())
            });
        let fault = self
            .faults
            .iter()
            .rev()
            .find(|fault| from.is(&fault.from) && to.is(&fault.to));
        if let Some(fault) = fault {
            if let Some(delay) = fault.one_way_ms.and_then(profile_millis::parse) {
                one_way = delay;
            }
            if let Some(changed) = &fault.profile {
                profile = changed.clone();
            }
        }
        (one_way, profile)
    }

    /// Lays `fault` over the world, in place of an earlier one between the same two.
    pub fn lay(&mut self, fault: Fault) {
        self.lift(&fault.from, &fault.to);
        self.faults.push(fault);
    }

    /// Takes away the fault from one to the other; whether there was one.
    pub fn lift(&mut self, from: &str, to: &str) -> bool {
        let before = self.faults.len();
        self.faults
            .retain(|fault| fault.from != from || fault.to != to);
        self.faults.len() < before
    }

    /// Whether a node or a region has this name.
    pub fn knows(&self, name: &str) -> bool {
        self.names().any(|known| known == name)
    }

    /// The names of all regions and nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes
            .iter()
            .flat_map(|(node, placed)| [placed.region.as_str(), node.as_str()])
    }
}

impl Who {
    /// Whether `name` is this node or its region.
    pub fn is(&self, name: &str) -> bool {
        self.region.as_str() == name || self.node.as_ref().is_some_and(|node| node.as_str() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(everywhere: &Everywhere) -> World {
        let nodes = [("cn-beijing", 1), ("sg", 2), ("sg-edge", 3)].map(|(name, port)| {
            let placed = Placed {
                region: Region::new(name.trim_end_matches("-edge")).expect("a name"),
                addrs: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            };
            (NodeId::new(&format!("{name}-1")).expect("a name"), placed)
        });
        World::new(&Matrix::bundled(), everywhere, nodes.into(), 1)
    }

    fn who(world: &World, port: u16) -> Who {
        world
            .at(SocketAddr::from(([127, 0, 0, 1], port)))
            .expect("somebody")
    }

    #[test]
    fn delays_come_from_the_matrix_and_faults_lie_over_them() {
        let mut world = world(&Everywhere::Same(Profile::clean()));
        let (beijing, sg, edge) = (who(&world, 1), who(&world, 2), who(&world, 3));
        let clean = (Duration::from_millis(119), Profile::clean());
        assert_eq!(world.between(&beijing, &sg), clean);
        assert_eq!(world.between(&sg, &edge), (SAME_REGION, Profile::default()));
        assert_eq!(world.at(SocketAddr::from(([127, 0, 0, 1], 9))), None);

        let mut fault = Fault {
            from: "cn-beijing".into(),
            to: "sg".into(),
            one_way_ms: Some(50.0),
            profile: None,
        };
        world.lay(fault.clone());
        let faster = (Duration::from_millis(50), Profile::clean());
        assert_eq!(world.between(&beijing, &sg), faster);
        assert_eq!(world.between(&sg, &beijing), clean);
        // Of one node only; the region's other node keeps the earlier fault.
        fault.to = "sg-1".into();
        fault.profile = Some(Profile::blackhole());
        world.lay(fault);
        assert_eq!(world.between(&beijing, &sg).1, Profile::blackhole());
        assert_eq!(world.between(&beijing, &edge), faster);
        assert!(world.lift("cn-beijing", "sg-1"));
        assert!(!world.lift("cn-beijing", "sg-1"));
        assert_eq!(world.between(&beijing, &sg), faster);
    }

    #[test]
    fn china_inbound_is_bad_in_one_direction_only() {
        let world = world(&Everywhere::named("china-inbound").expect("a profile"));
        let (beijing, sg) = (who(&world, 1), who(&world, 2));
        assert_eq!(world.between(&sg, &beijing).1, Profile::china_inbound());
        assert_eq!(world.between(&beijing, &sg).1, Profile::internet());
    }

    #[test]
    fn a_world_file_comes_back_as_it_was_and_a_bad_one_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("world.json");
        let mut world = world(&Everywhere::Same(Profile::internet()));
        world.write(&path).expect("written");
        assert_eq!(World::read(&path).expect("read"), world);
        world.ways[0].profile.jitter = crate::wan::Jitter::Uniform { share: 3.0 };
        world.write(&path).expect("written");
        let refused = World::read(&path).expect_err("refused").to_string();
        assert!(refused.contains("share is 3"), "{refused}");
        fs::write(&path, r#"{"seeds":1}"#).expect("written");
        let refused = World::read(&path).expect_err("refused").to_string();
        assert!(refused.contains("seeds"), "{refused}");
    }
}
