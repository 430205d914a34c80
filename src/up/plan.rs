//! Who there will be and where each listens, before anything is started.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use longspan_lab::matrix::{Matrix, Place};
use longspan_proto::ids::{NodeId, Region};

use super::ports::{Ports, Use};
use crate::{
    config::Role,
    failure::{Failure, Outcome, hint},
};

/// The regions of `up` without `--regions`: a lesson from the first reaches Singapore fastest over
/// Shanghai and Hong Kong.
pub const REGIONS: [&str; 6] = [
    "cn-beijing",
    "cn-shanghai",
    "hk",
    "sg",
    "de-frankfurt",
    "us-virginia",
];

/// Where nodes meet each other: always this machine only.
pub const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A whole backbone.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The one controller. It stands in the first region.
    pub controller: Controller,
    /// In the order they were asked for.
    pub regions: Vec<Area>,
    /// The listener for `longspan lab`.
    pub control: SocketAddr,
}

/// The controller's place.
#[derive(Debug, Clone)]
pub struct Controller {
    /// Its name.
    pub id: NodeId,
    /// For nodes.
    pub grpc: SocketAddr,
    /// For operators and browsers.
    pub http: SocketAddr,
    /// Private.
    pub admin: SocketAddr,
}

/// One region: a relay and an edge.
#[derive(Debug, Clone)]
pub struct Area {
    /// Which.
    pub region: Region,
    /// Where it is.
    pub place: Place,
    /// Its relay.
    pub relay: Relay,
    /// Its edge.
    pub edge: Edge,
}

/// A relay's place.
#[derive(Debug, Clone)]
pub struct Relay {
    /// Its name.
    pub id: NodeId,
    /// UDP.
    pub quic: SocketAddr,
    /// Private.
    pub admin: SocketAddr,
}

/// An edge's place.
#[derive(Debug, Clone)]
pub struct Edge {
    /// Its name.
    pub id: NodeId,
    /// UDP.
    pub quic: SocketAddr,
    /// For browsers and players.
    pub http: SocketAddr,
    /// For encoders.
    pub rtmp: SocketAddr,
    /// Private.
    pub admin: SocketAddr,
}

impl Plan {
    /// Gives every node its ports; `users` is the address on which users are served.
    pub fn new(
        regions: &[Region],
        matrix: &Matrix,
        users: IpAddr,
        ports: &mut Ports,
    ) -> Outcome<Plan> {
        let id = |name: String| NodeId::new(&name).map_err(Failure::usage);
        let controller = Controller {
            id: id("controller-1".to_owned())?,
            grpc: ports.take(Use::Grpc, 0, LOOPBACK)?,
            http: ports.take(Use::Dashboard, 0, users)?,
            admin: ports.take(Use::ControllerAdmin, 0, LOOPBACK)?,
        };
        let control = ports.take(Use::Control, 0, LOOPBACK)?;
        let areas = regions.iter().enumerate().map(|(index, region)| {
            Ok(Area {
                region: region.clone(),
                place: matrix.places()[region].clone(),
                relay: Relay {
                    id: id(format!("{region}-relay-1"))?,
                    quic: ports.take(Use::RelayQuic, index, LOOPBACK)?,
                    admin: ports.take(Use::RelayAdmin, index, LOOPBACK)?,
                },
                edge: Edge {
                    id: id(format!("{region}-edge-1"))?,
                    quic: ports.take(Use::EdgeQuic, index, LOOPBACK)?,
                    http: ports.take(Use::EdgeHttp, index, users)?,
                    rtmp: ports.take(Use::EdgeRtmp, index, users)?,
                    admin: ports.take(Use::EdgeAdmin, index, LOOPBACK)?,
                },
            })
        });
        let regions = areas.collect::<Outcome<Vec<_>>>()?;
        Ok(Plan {
            controller,
            regions,
            control,
        })
    }

    /// Every node in the order of starting.
    pub fn nodes(&self) -> Vec<(NodeId, Role, Region, SocketAddr)> {
        let home = self.regions[0].region.clone();
        let controller = &self.controller;
        let mut nodes = vec![(
            controller.id.clone(),
            Role::Controller,
            home,
            controller.admin,
        )];
        nodes.extend(self.regions.iter().map(|area| {
            let relay = &area.relay;
            (
                relay.id.clone(),
                Role::Relay,
                area.region.clone(),
                relay.admin,
            )
        }));
        nodes.extend(self.regions.iter().map(|area| {
            let edge = &area.edge;
            (edge.id.clone(), Role::Edge, area.region.clone(), edge.admin)
        }));
        nodes
    }
}

/// Checks the names given as `--regions`.
pub fn regions(asked: &[String], matrix: &Matrix) -> Outcome<Vec<Region>> {
    let known = || matrix.places().keys().map(Region::as_str);
    let mut regions: Vec<Region> = Vec::new();
    for name in asked.iter().map(|name| name.trim()) {
        let Some((region, _)) = matrix.places().get_key_value(name) else {
            let all: Vec<&str> = known().collect();
            return Err(Failure::usage(format!(
                "region {name:?} is not in the matrix{}; there are {}",
                hint(name, known()),
                all.join(", ")
            )));
        };
        if regions.contains(region) {
            return Err(Failure::usage(format!("region {region} is named twice")));
        }
        regions.push(region.clone());
    }
    if regions.is_empty() {
        return Err(Failure::usage("--regions names no region"));
    }
    Ok(regions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_checked() {
        let matrix = Matrix::bundled();
        let asked = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            regions(&names, &matrix)
        };
        assert_eq!(asked(&REGIONS).expect("known").len(), 6);
        let told = asked(&["hk", "cn-shangai"])
            .expect_err("refused")
            .to_string();
        assert!(told.contains("did you mean cn-shanghai?"), "{told}");
        assert!(
            asked(&["hk", "hk"])
                .expect_err("refused")
                .to_string()
                .contains("twice")
        );
        assert!(asked(&[]).is_err());
    }

    #[test]
    fn every_listener_has_a_port_of_its_own() {
        let matrix = Matrix::bundled();
        let all: Vec<Region> = matrix.places().keys().cloned().collect();
        let mut ports = Ports::auto().expect("free ports");
        let plan = Plan::new(&all, &matrix, LOOPBACK, &mut ports).expect("a plan");
        let mut used = vec![plan.control, plan.controller.grpc, plan.controller.http];
        for area in &plan.regions {
            used.extend([area.relay.quic, area.relay.admin, area.edge.quic]);
            used.extend([area.edge.http, area.edge.rtmp, area.edge.admin]);
        }
        let count = used.len();
        used.sort();
        used.dedup();
        assert_eq!(used.len(), count);
        assert_eq!(plan.nodes().len(), 31);
        // Another backbone beside it gets others.
        let mut others = Ports::auto().expect("free ports");
        let other = Plan::new(&all, &matrix, LOOPBACK, &mut others).expect("a plan");
        assert!(!used.contains(&other.control));
    }
}
