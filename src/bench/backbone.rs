//! A small backbone for one run: relays in a row, each a process of its own; edges inside the
//! load generator; no controller.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use longspan_lab::{
    matrix::{Matrix, Split},
    world::{Everywhere, Live, Placed, World},
};
use longspan_proto::ids::{NodeId, Region};
use longspan_relay::node::{Handle, Node};
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    child::Process,
    identity::Authority,
    spec::{Controller, Known, Spec},
    usage::Usage,
};
use crate::failure::{Failure, Outcome};

/// The publisher's edge; attached to the first relay.
pub const ORIGIN: &str = "origin";
/// How long an edge may take until it is attached.
const ATTACH: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A row of relays. Dropping it ends them.
pub struct Backbone {
    /// First the processes go, then their folder.
    relays: Vec<Relay>,
    authority: Authority,
    folder: TempDir,
    emulated: Option<Emulated>,
    controller: Controller,
}

struct Relay {
    node: NodeId,
    region: Region,
    address: SocketAddr,
    process: Process,
}

/// An emulated world and where the edges listen in it.
struct Emulated {
    path: PathBuf,
    live: Live,
    edges: BTreeMap<String, SocketAddr>,
}

/// What is laid between the regions.
pub struct Emulate<'a> {
    pub everywhere: Everywhere,
    pub seed: u64,
    /// Edges by name and the number of their relay: the world must know where they are.
    pub edges: &'a [(&'a str, usize)],
    /// The round trip between any two regions; `None`: the matrix's.
    pub rtt: Option<Duration>,
    /// Who decides how much is under way, at every node.
    pub controller: Controller,
}

/// A running edge; dropping it ends it.
pub struct Edge {
    pub handle: Handle,
    _running: DropGuard,
}

impl Backbone {
    /// One relay in each region, each connected to the next.
    pub fn start(regions: &[Region], emulate: Option<Emulate>) -> Outcome<Backbone> {
        let authority = Authority::new()?;
        let folder = tempfile::tempdir().map_err(Failure::failed)?;
        let wanted = regions.len() + emulate.as_ref().map_or(0, |emulate| emulate.edges.len());
        let (addresses, for_edges) = {
            let mut free = free_addresses(wanted)?;
            let for_edges = free.split_off(regions.len());
            (free, for_edges)
        };
        let places: Vec<(NodeId, Region, SocketAddr)> = regions
            .iter()
            .zip(addresses)
            .enumerate()
            .map(|(i, (region, address))| (relay_name(i), region.clone(), address))
            .collect();
        let controller = emulate
            .as_ref()
            .map_or_else(Controller::default, |emulate| emulate.controller);
        let emulated = match emulate {
            Some(emulate) => Some(Emulated::new(
                folder.path().join("world.json"),
                emulate,
                &places,
                for_edges,
            )?),
            None => None,
        };
        let mut backbone = Backbone {
            relays: Vec::new(),
            authority,
            folder,
            emulated,
            controller,
        };
        // A lower name dials a higher one: whoever is dialed listens already.
        for (i, (node, region, address)) in places.iter().enumerate().rev() {
            let spec = backbone.relay_spec(&places, i)?;
            let path = backbone.folder.path().join(format!("{node}.json"));
            let text = serde_json::to_vec(&spec).map_err(Failure::failed)?;
            fs::write(&path, text).map_err(Failure::failed)?;
            let process = Process::start(node, &path)?;
            let (node, region, address) = (node.clone(), region.clone(), *address);
            backbone.relays.push(Relay {
                node,
                region,
                address,
                process,
            });
        }
        backbone.relays.reverse();
        for relay in &backbone.relays {
            relay.process.connected()?;
        }
        Ok(backbone)
    }

    fn relay_spec(&self, places: &[(NodeId, Region, SocketAddr)], me: usize) -> Outcome<Spec> {
        let name = |i: usize| places[i].0.clone();
        let mut nodes: Vec<Known> = places
            .iter()
            .map(|(node, region, address)| Known {
                node: node.clone(),
                relay: true,
                region: region.clone(),
                quic: vec![*address],
                attached: Vec::new(),
            })
            .collect();
        nodes.push(origin(&places[0].1));
        let others = (0..places.len()).filter(|to| *to != me);
        let way = |to: usize| -> Vec<NodeId> {
            if to < me {
                (to..me).rev().map(name).collect()
            } else {
                (me + 1..=to).map(name).collect()
            }
        };
        let (cert_pem, key_pem) = self.authority.issue(&places[me].0)?;
        Ok(Spec {
            node: name(me),
            relay: true,
            region: places[me].1.clone(),
            listen: places[me].2,
            ca_pem: self.authority.pem.clone(),
            cert_pem,
            key_pem,
            nodes,
            neighbours: others
                .clone()
                .filter(|to| to.abs_diff(me) == 1)
                .map(name)
                .collect(),
            ways: others.map(way).collect(),
            world: self.emulated.as_ref().map(|emulated| emulated.path.clone()),
            controller: self.controller,
            tells: self.emulated.is_some(),
        })
    }

    /// Starts an edge in this process and waits until it is attached to relay number `at`.
    pub async fn edge(&self, name: &str, at: usize) -> Outcome<Edge> {
        let relay = &self.relays[at];
        let (cert_pem, key_pem) = self.authority.issue(name)?;
        let known = Known {
            node: relay.node.clone(),
            relay: true,
            region: relay.region.clone(),
            quic: vec![relay.address],
            attached: Vec::new(),
        };
        let node = NodeId::new(name).map_err(Failure::failed)?;
        let mut nodes = vec![known];
        if name != ORIGIN {
            nodes.push(origin(&self.relays[0].region));
        }
        let listens = self
            .emulated
            .as_ref()
            .and_then(|emulated| emulated.edges.get(name).copied());
        let spec = Spec {
            node,
            relay: false,
            region: relay.region.clone(),
            listen: listens.unwrap_or(ANY),
            ca_pem: self.authority.pem.clone(),
            cert_pem,
            key_pem,
            nodes,
            neighbours: Vec::new(),
            ways: (0..=at)
                .map(|to| (to..=at).rev().map(relay_name).collect())
                .collect(),
            world: None,
            controller: self.controller,
            tells: false,
        };
        let mut config = spec.config();
        if let Some(emulated) = &self.emulated {
            spec.emulated(&mut config, &emulated.live);
        }
        let node = Node::bind(config).await.map_err(Failure::failed)?;
        let handle = node.handle();
        let shutdown = CancellationToken::new();
        tokio::spawn(node.run(shutdown.clone()));
        let edge = Edge {
            handle,
            _running: shutdown.drop_guard(),
        };
        let deadline = Instant::now() + ATTACH;
        while let Err(why) = edge.handle.ready() {
            if Instant::now() > deadline {
                return Err(Failure::failed(format!(
                    "{name} is not attached within {ATTACH:?}: {why}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(edge)
    }

    /// What relay number `at` has used so far.
    pub fn usage(&self, at: usize) -> Outcome<Usage> {
        self.relays[at].process.usage()
    }

    /// What relay number `at` has told of its links since it was asked last; only an emulated
    /// backbone's relays tell.
    pub fn told(&self, at: usize) -> Vec<Value> {
        self.relays[at].process.told()
    }

    /// CPU of all relays together in µs.
    pub fn cpu_us(&self) -> Outcome<u64> {
        self.relays
            .iter()
            .map(|relay| Ok(relay.process.usage()?.cpu_us))
            .sum()
    }
}

impl Emulated {
    fn new(
        path: PathBuf,
        emulate: Emulate,
        places: &[(NodeId, Region, SocketAddr)],
        for_edges: Vec<SocketAddr>,
    ) -> Outcome<Emulated> {
        let relays = places
            .iter()
            .map(|(node, region, address)| (node.clone(), region.clone(), *address));
        let edges = emulate
            .edges
            .iter()
            .zip(&for_edges)
            .map(|((name, at), address)| {
                (
                    NodeId::new(name).expect("our own names are valid"),
                    places[*at].1.clone(),
                    *address,
                )
            });
        let nodes = relays
            .chain(edges)
            .map(|(node, region, address)| (node, Placed::new(region, vec![address])));
        let mut world = World::new(
            &Matrix::bundled(),
            Split::Half,
            &emulate.everywhere,
            nodes.collect(),
            emulate.seed,
        );
        if let Some(rtt) = emulate.rtt {
            for way in &mut world.ways {
                way.one_way = rtt / 2;
            }
        }
        world.write(&path).map_err(Failure::failed)?;
        let live = Live::open(&path).map_err(Failure::failed)?;
        let edges = emulate
            .edges
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .zip(for_edges);
        Ok(Emulated {
            path,
            live,
            edges: edges.collect(),
        })
    }
}

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Addresses nobody listens at now. All are held until all are known, so that they differ; whoever
/// takes one before we do makes the run fail with the port's number.
fn free_addresses(n: usize) -> Outcome<Vec<SocketAddr>> {
    let sockets = (0..n)
        .map(|_| UdpSocket::bind(ANY))
        .collect::<Result<Vec<_>, _>>();
    let addresses = sockets.and_then(|sockets| sockets.iter().map(UdpSocket::local_addr).collect());
    addresses.map_err(|error| Failure::failed(format!("no free port on {}: {error}", ANY.ip())))
}

/// Numbers from 1, like the regions of a map for people.
fn relay_name(i: usize) -> NodeId {
    NodeId::new(&format!("relay-{}", i + 1)).expect("a name")
}

fn origin(region: &Region) -> Known {
    Known {
        node: NodeId::new(ORIGIN).expect("a name"),
        relay: false,
        region: region.clone(),
        quic: Vec::new(),
        attached: vec![relay_name(0)],
    }
}
