//! Which hosts a lab has and what lies between them, from the command line.

use std::{fs, path::PathBuf};

use longspan_lab::{
    matrix::{Matrix, Split},
    tun::{self, Spec},
    world::{Player, Schedule, World},
};
use longspan_proto::{
    ids::{NodeId, Region},
    time::Time,
};

use crate::{
    failure::{Failure, Outcome, hint},
    up,
};

/// The emulated world of a lab
#[derive(Debug, Clone, clap::Args)]
pub struct Which {
    /// Regions, with one host each, called as its region
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    regions: Vec<String>,
    /// Hosts instead: NAME=REGION or NAME=REGION/ZONE
    #[arg(
        long,
        value_name = "NAME=REGION,…",
        value_delimiter = ',',
        conflicts_with = "regions"
    )]
    hosts: Vec<String>,
    /// A whole world, as --print-world prints it
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["regions", "hosts", "matrix", "asymmetric"])]
    world: Option<PathBuf>,
    /// Round-trip times, in the format of lab/data/rtt_internet_ms.csv
    #[arg(long, value_name = "FILE.csv")]
    matrix: Option<PathBuf>,
    /// Divides round trips unevenly: one way takes between 0.3 and 0.7 of it, by seed
    #[arg(long)]
    asymmetric: bool,
    /// clean, internet, china-inbound, brownout, or a TOML file with a profile
    #[arg(long, value_name = "NAME|FILE", default_value = "clean")]
    profile: String,
    /// Losses, jitter and uneven round trips are drawn from it
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Changes over time, from the start of COMMAND
    #[arg(long, value_name = "FILE.toml")]
    schedule: Option<PathBuf>,
}

/// A world, its hosts in the order they were told, and its changes.
pub struct Told {
    /// Every host is a node of it.
    pub world: World,
    /// At least one.
    pub hosts: Vec<NodeId>,
    /// Empty if there is none.
    pub schedule: Schedule,
}

impl Which {
    /// All of it, checked.
    pub fn read(&self) -> Outcome<Told> {
        let (world, hosts) = match &self.world {
            Some(file) => {
                let world = World::read(file).map_err(Failure::usage)?;
                let hosts = world.nodes.keys().cloned().collect();
                (world, hosts)
            }
            None => self.build()?,
        };
        if hosts.is_empty() {
            return Err(Failure::usage(
                "a lab needs a host; name --regions, --hosts or a --world with nodes",
            ));
        }
        let schedule = self.read_schedule(&world)?;
        Ok(Told {
            world,
            hosts,
            schedule,
        })
    }

    fn build(&self) -> Outcome<(World, Vec<NodeId>)> {
        let matrix = up::matrix("--matrix", self.matrix.as_deref())?;
        let everywhere = up::everywhere(&self.profile)?;
        let specs = if self.hosts.is_empty() {
            let regions = self
                .regions
                .iter()
                .map(|region| (region.as_str(), region.as_str()));
            specs(regions, &matrix)?
        } else {
            let hosts = self.hosts.iter().map(|host| {
                host.split_once('=')
                    .ok_or_else(|| Failure::usage(format!("--hosts {host:?} is not NAME=REGION")))
            });
            specs(hosts.collect::<Outcome<Vec<_>>>()?.into_iter(), &matrix)?
        };
        let split = if self.asymmetric {
            Split::Drawn { seed: self.seed }
        } else {
            Split::Half
        };
        let hosts = specs.iter().map(|spec| spec.name.clone()).collect();
        let placed = tun::place(&specs).map_err(Failure::usage)?;
        Ok((
            World::new(&matrix, split, &everywhere, placed, self.seed),
            hosts,
        ))
    }

    fn read_schedule(&self, world: &World) -> Outcome<Schedule> {
        let Some(file) = &self.schedule else {
            return Ok(Schedule::default());
        };
        let failed = |why: &dyn std::fmt::Display| {
            Failure::usage(format!("--schedule {}: {why}", file.display()))
        };
        let text = fs::read_to_string(file).map_err(|error| failed(&error))?;
        let schedule = Schedule::parse(&text).map_err(|error| failed(&error))?;
        Player::new(&schedule, world, Time::ZERO).map_err(|error| failed(&error))?;
        Ok(schedule)
    }
}

fn specs<'a>(
    hosts: impl Iterator<Item = (&'a str, &'a str)>,
    matrix: &Matrix,
) -> Outcome<Vec<Spec>> {
    let specs = hosts.map(|(name, place)| {
        let (region, zone) = match place.trim().split_once('/') {
            Some((region, zone)) => (region, Some(zone)),
            None => (place.trim(), None),
        };
        let Some((region, _)) = matrix.places().get_key_value(region) else {
            let known = || matrix.places().keys().map(Region::as_str);
            let all: Vec<&str> = known().collect();
            return Err(Failure::usage(format!(
                "region {region:?} is not in the matrix{}; there are {}",
                hint(region, known()),
                all.join(", ")
            )));
        };
        Ok(Spec {
            name: name.trim().parse().map_err(Failure::usage)?,
            region: region.clone(),
            zone: zone.map(str::parse).transpose().map_err(Failure::usage)?,
            lines: Vec::new(),
        })
    });
    specs.collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Which,
    }

    fn read(arguments: &[&str]) -> Outcome<Told> {
        let line = ["lab"].iter().chain(arguments);
        Line::try_parse_from(line)
            .map_err(Failure::usage)?
            .options
            .read()
    }

    fn refused(arguments: &[&str]) -> String {
        let told = read(arguments).map(|_| ());
        told.expect_err("refused").to_string()
    }

    #[test]
    fn hosts_stand_in_the_order_they_were_told() {
        let told = read(&["--regions", "sg,cn-beijing"]).expect("a world");
        assert_eq!(
            told.hosts,
            ["sg", "cn-beijing"].map(|name| name.parse().expect("a name"))
        );
        assert_eq!(told.world.ways.len(), 2);
        let told = read(&["--hosts", "a=hk/east,b=hk/west"]).expect("a world");
        let zone = &told.world.nodes["b"].zone;
        assert_eq!(zone.as_deref(), Some("west"));
        // What is printed can be read.
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("world.json");
        told.world.write(&file).expect("written");
        let file = file.to_str().expect("a path");
        assert_eq!(read(&["--world", file]).expect("a world").world, told.world);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert!(refused(&[]).contains("--regions"));
        assert!(refused(&["--regions", "cn-shangai"]).contains("did you mean cn-shanghai"));
        assert!(refused(&["--hosts", "hk"]).contains("\"hk\" is not NAME=REGION"));
        assert!(refused(&["--hosts", "A=hk"]).contains("node id"));
        assert!(refused(&["--hosts", "a=hk,a=sg"]).contains("host a is named twice"));
        assert!(refused(&["--regions", "hk", "--profile", "cleen"]).contains("cleen"));
        assert!(refused(&["--regions", "hk", "--world", "x.json"]).contains("cannot be used with"));
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("rtt.csv");
        fs::write(&file, "region,hk,sg\nhk,0,33\nsg,,0\n").expect("written");
        let told = refused(&[
            "--regions",
            "hk",
            "--matrix",
            file.to_str().expect("a path"),
        ]);
        assert!(told.contains("the pair sg – hk is missing"), "{told}");
        fs::write(
            &file,
            "[[step]]\nat_ms = 1\nfrom = 'x'\nto = 'hk'\naction = 'cut'\n",
        )
        .expect("written");
        let told = refused(&[
            "--regions",
            "hk",
            "--schedule",
            file.to_str().expect("a path"),
        ]);
        assert!(told.contains("step 1") && told.contains(" x"), "{told}");
    }
}
