//! Everybody there is, as the controller last told it.

use std::time::Duration;

use longspan_proto::{
    control,
    ids::{BootId, NodeId, Region, Zone},
    wire::Role,
};

use super::config::{Config, NodeInfo, Nodes};

/// All nodes; kept when the controller is gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Directory {
    /// Relays and edges by name.
    pub nodes: Nodes,
}

impl Directory {
    /// The node of this name.
    pub fn get(&self, node: &NodeId) -> Option<&NodeInfo> {
        self.nodes.get(node)
    }

    /// The relays nearest to a place, best first: those of its region, then by distance over the
    /// globe; ties by name, so that everybody agrees. Draining ones come behind all others.
    pub fn relays_near(&self, region: &Region, lat: f64, lon: f64) -> Vec<&NodeInfo> {
        let mut relays: Vec<&NodeInfo> = self
            .nodes
            .values()
            .filter(|node| node.role == Role::Relay && !node.quic.is_empty())
            .collect();
        relays.sort_by(|a, b| {
            let far = |n: &NodeInfo| distance_km(lat, lon, n.lat, n.lon);
            a.draining
                .cmp(&b.draining)
                .then((a.region != *region).cmp(&(b.region != *region)))
                .then(far(a).total_cmp(&far(b)))
                .then(a.id.cmp(&b.id))
        });
        relays
    }

    /// From the controller's words. Nodes that cannot be understood are left out, each with a
    /// line in the log: one bad record must not hide the others.
    pub fn from_control(told: control::Directory) -> Directory {
        let mut nodes = Nodes::new();
        for node in told.nodes {
            let id = node.id.clone();
            match NodeInfo::from_control(node) {
                Ok(Some(node)) => drop(nodes.insert(node.id.clone(), node)),
                Ok(None) => {}
                Err(why) => tracing::warn!(node = id, why, "the directory names an odd node"),
            }
        }
        Directory { nodes }
    }
}

impl NodeInfo {
    /// How far another one is, over the globe.
    pub fn distance_km(&self, other: &NodeInfo) -> f64 {
        distance_km(self.lat, self.lon, other.lat, other.lon)
    }

    /// This node's own entry.
    pub(crate) fn of(config: &Config) -> NodeInfo {
        NodeInfo {
            id: config.node.clone(),
            role: config.role,
            boot: config.boot,
            region: config.region.clone(),
            zone: config.zone.clone(),
            country: config.country.clone(),
            city: config.city.clone(),
            lat: config.lat,
            lon: config.lon,
            quic: config.advertise.clone(),
            http_url: config.http_url.clone(),
            rtmp_url: config.rtmp_url.clone(),
            admin_url: config.admin_url.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            attached: Vec::new(),
            draining: false,
            cordoned: false,
            drain_left: Duration::ZERO,
        }
    }

    pub(crate) fn to_control(&self) -> control::Node {
        control::Node {
            id: self.id.to_string(),
            role: match self.role {
                Role::Relay => control::Role::Relay,
                Role::Edge => control::Role::Edge,
            }
            .into(),
            boot_id: self.boot.0,
            region: self.region.to_string(),
            zone: self.zone.to_string(),
            country: self.country.clone(),
            city: self.city.clone(),
            latitude: self.lat,
            longitude: self.lon,
            quic_addresses: self.quic.iter().map(ToString::to_string).collect(),
            http_url: self.http_url.clone(),
            rtmp_url: self.rtmp_url.clone(),
            admin_url: self.admin_url.clone(),
            version: self.version.clone(),
            attached: self.attached.iter().map(ToString::to_string).collect(),
            draining: self.draining,
            cordoned: self.cordoned,
            drain_left_ms: u32::try_from(self.drain_left.as_millis()).unwrap_or(u32::MAX),
        }
    }

    /// `None` for a node of a kind that takes no part in forwarding.
    fn from_control(node: control::Node) -> Result<Option<NodeInfo>, String> {
        let role = match node.role() {
            control::Role::Relay => Role::Relay,
            control::Role::Edge => Role::Edge,
            control::Role::Controller | control::Role::Unspecified => return Ok(None),
        };
        let text = |e: longspan_proto::ids::NameError| e.to_string();
        let region = Region::new(&node.region).map_err(text)?;
        let zone = if node.zone.is_empty() {
            &node.region
        } else {
            &node.zone
        };
        Ok(Some(NodeInfo {
            id: NodeId::new(&node.id).map_err(text)?,
            role,
            boot: BootId(node.boot_id),
            zone: Zone::new(zone).map_err(text)?,
            region,
            country: node.country,
            city: node.city,
            lat: node.latitude,
            lon: node.longitude,
            quic: node
                .quic_addresses
                .iter()
                .map(|a| a.parse().map_err(|e| format!("address {a:?}: {e}")))
                .collect::<Result<_, _>>()?,
            http_url: node.http_url,
            rtmp_url: node.rtmp_url,
            admin_url: node.admin_url,
            version: node.version,
            attached: node
                .attached
                .iter()
                .map(|n| NodeId::new(n).map_err(text))
                .collect::<Result<_, _>>()?,
            draining: node.draining,
            cordoned: node.cordoned,
            drain_left: Duration::from_millis(node.drain_left_ms.into()),
        }))
    }
}

/// The Earth's mean radius (IUGG).
const EARTH_KM: f64 = 6371.0;

/// Great-circle distance by the haversine formula.
fn distance_km(lat1: f64, lon1: f64, lat2: f64, lon2: f64) -> f64 {
    let (phi1, phi2) = (lat1.to_radians(), lat2.to_radians());
    let half = |d: f64| (d / 2.0).sin().powi(2);
    let a = half(phi2 - phi1) + phi1.cos() * phi2.cos() * half((lon2 - lon1).to_radians());
    2.0 * EARTH_KM * a.sqrt().min(1.0).asin()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_relay_is_attached_to_only_where_there_is_no_other() {
        let near = crate::node::tests::info("near");
        let far = NodeInfo {
            region: Region::new("elsewhere").unwrap(),
            ..crate::node::tests::info("far")
        };
        let order = |draining: bool| {
            let address = vec!["127.0.0.1:1".parse().unwrap()];
            let near = NodeInfo {
                draining,
                quic: address.clone(),
                ..near.clone()
            };
            let far = NodeInfo {
                quic: address,
                ..far.clone()
            };
            let nodes = [near, far].map(|node| (node.id.clone(), node));
            let directory = Directory {
                nodes: nodes.into(),
            };
            let near = directory.relays_near(&Region::new("r").unwrap(), 0.0, 0.0);
            let names: Vec<String> = near.iter().map(|node| node.id.to_string()).collect();
            names.join(" ")
        };
        assert_eq!(order(false), "near far");
        assert_eq!(order(true), "far near");
    }

    #[test]
    fn beijing_is_a_thousand_kilometres_from_shanghai() {
        let km = distance_km(39.90, 116.41, 31.23, 121.47);
        assert!((1_060.0..1_075.0).contains(&km), "{km}");
    }
}
