//! Which hosts there are, and the addresses they have.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use longspan_proto::ids::{Net, NodeId, Region, Zone};

use super::{Error, MAX_HOSTS};
use crate::world::Placed;

/// Nets of one lab, the internet among them; each is a /24 of its own.
pub const MAX_NETS: usize = 200;

/// A host that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name.
    pub name: NodeId,
    /// Where it is.
    pub region: Region,
    /// In which data centre there.
    pub zone: Option<Zone>,
    /// On which leased lines it is, beside the internet.
    pub lines: Vec<Net>,
}

/// Gives each host its addresses: on the internet 10.77.0.N for the N-th host, on the M-th line
/// (by name) 10.77.M.N. The port is 0: it does not matter.
pub fn place(hosts: &[Spec]) -> Result<BTreeMap<NodeId, Placed>, Error> {
    let mut lines: Vec<&Net> = hosts.iter().flat_map(|host| &host.lines).collect();
    lines.sort();
    lines.dedup();
    if hosts.len() > MAX_HOSTS {
        let count = hosts.len();
        return Err(Error::World(format!(
            "{count} hosts; the limit is {MAX_HOSTS}"
        )));
    }
    if lines.len() + 1 > MAX_NETS {
        let count = lines.len() + 1;
        return Err(Error::World(format!(
            "{count} nets; the limit is {MAX_NETS}"
        )));
    }
    let mut placed = BTreeMap::new();
    for (index, host) in hosts.iter().enumerate() {
        let address = |net: usize| SocketAddr::from(([10, 77, net as u8, index as u8 + 1], 0));
        let on = host.lines.iter().map(|line| {
            let net = 1 + lines
                .iter()
                .position(|known| *known == line)
                .unwrap_or_default();
            (line.clone(), vec![address(net)])
        });
        let place = Placed {
            zone: host.zone.clone(),
            lines: on.collect(),
            ..Placed::new(host.region.clone(), vec![address(0)])
        };
        if placed.insert(host.name.clone(), place).is_some() {
            return Err(Error::World(format!("host {} is named twice", host.name)));
        }
    }
    Ok(placed)
}

/// A node's IPv4 addresses with their nets; the first one is on the internet.
pub(super) fn addresses(name: &NodeId, placed: &Placed) -> Result<Vec<(Ipv4Addr, Net)>, Error> {
    let internet = Net::internet();
    let nets = [(&internet, &placed.addrs)]
        .into_iter()
        .chain(&placed.lines);
    let mut addresses = Vec::new();
    for (net, addrs) in nets {
        let [SocketAddr::V4(address)] = addrs[..] else {
            return Err(Error::World(format!(
                "host {name} has {} addresses on {net}; it must have one, of IPv4",
                addrs.len()
            )));
        };
        addresses.push((*address.ip(), net.clone()));
    }
    if addresses
        .iter()
        .any(|(ip, _)| IpAddr::V4(*ip).is_loopback() || ip.is_unspecified())
    {
        return Err(Error::World(format!(
            "host {name} has an address that is no host's"
        )));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, lines: &[&str]) -> Spec {
        Spec {
            name: name.parse().expect("a name"),
            region: "hk".parse().expect("a region"),
            zone: None,
            lines: lines
                .iter()
                .map(|net| net.parse().expect("a net"))
                .collect(),
        }
    }

    #[test]
    fn hosts_get_addresses_of_their_own_on_every_net() {
        let placed = place(&[spec("b", &["line-2"]), spec("a", &["line-1", "line-2"])]);
        let placed = placed.expect("placed");
        let of = |name: &str| {
            let node: NodeId = name.parse().expect("a name");
            let found = addresses(&node, &placed[&node]).expect("addresses");
            let found = found.iter().map(|(ip, net)| format!("{net} {ip}"));
            found.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(of("b"), "internet 10.77.0.1, line-2 10.77.2.1");
        assert_eq!(
            of("a"),
            "internet 10.77.0.2, line-1 10.77.1.2, line-2 10.77.2.2"
        );
    }

    #[test]
    fn hosts_that_cannot_be_are_refused() {
        let told = place(&[spec("a", &[]), spec("a", &[])]).expect_err("refused");
        assert_eq!(told.to_string(), "host a is named twice");
        let many: Vec<Spec> = (0..=MAX_HOSTS)
            .map(|n| spec(&format!("h{n}"), &[]))
            .collect();
        let told = place(&many).expect_err("refused").to_string();
        assert_eq!(told, "251 hosts; the limit is 250");
        let name: NodeId = "a".parse().expect("a name");
        let placed = |addrs: &[&str]| {
            let addrs = addrs.iter().map(|addr| addr.parse().expect("an address"));
            Placed::new("hk".parse().expect("a region"), addrs.collect())
        };
        for addrs in [
            &["127.0.0.1:1"][..],
            &["[::1]:1"],
            &[],
            &["10.0.0.1:1", "10.0.0.1:2"],
        ] {
            assert!(addresses(&name, &placed(addrs)).is_err(), "{addrs:?}");
        }
    }
}
