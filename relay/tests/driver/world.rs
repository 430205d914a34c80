//! A backbone for one test: an operator's CA and running nodes.

use std::{collections::BTreeMap, net::SocketAddr, sync::OnceLock, time::Duration};

use longspan_proto::{
    ids::{
        BootId, Generation, Net, NodeId, Region, Room, RoomName, Stream, Tenant, Track, TrackId,
        Zone,
    },
    wire::{Flags, Frame, Priority, Role},
};
use longspan_relay::{
    forward::LocalEvent,
    node::{BindError, Config, Directory, Fixed, Handle, Node, NodeInfo, Subscription},
    tls::Identity,
};
use longspan_topology::routes::{Hop, Path, Routes, Version};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Nothing here takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn id(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// An operator's certificate authority.
pub struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Ca {
    pub fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Ca {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for `name`.
    pub fn identity(&self, name: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Identity::Pem {
            ca: self.pem.clone(),
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }
}

pub struct Running {
    pub handle: Handle,
    pub config: Config,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(config: Config) -> Running {
        // A predecessor's port is free once the last of its tasks is gone.
        let bind = async {
            loop {
                match Node::bind(config.clone()).await {
                    Err(BindError::InUse { .. }) => tokio::task::yield_now().await,
                    bound => break bound.unwrap(),
                }
            }
        };
        let node = soon("the port", bind).await;
        let handle = node.handle();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(node.run(shutdown.clone()));
        Running {
            handle,
            config,
            shutdown,
            task,
        }
    }

    /// Closes in order.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .expect("a node closes in time")
            .unwrap();
    }

    /// What a peer looks like from here; `None` while it is not connected.
    pub fn peer(&self, name: &str) -> Option<serde_json::Value> {
        let debug = self.handle.debug();
        let peers = debug["peers"].as_array().unwrap();
        peers.iter().find(|peer| peer["node"] == name).cloned()
    }
}

pub struct World {
    pub ca: Ca,
    pub nodes: BTreeMap<&'static str, Running>,
}

impl World {
    /// Relays in a row, each connected to the next; nothing else is known of the world. A name
    /// that begins with `edge` is an edge, and belongs at an end.
    pub async fn chain(names: &[&'static str]) -> World {
        World::chain_with(names, |config| config).await
    }

    pub async fn chain_with(names: &[&'static str], adjust: impl Fn(Config) -> Config) -> World {
        let ca = Ca::new();
        let mut nodes = BTreeMap::new();
        for (at, name) in names.iter().enumerate() {
            let mut config = config(name, ca.identity(name));
            config.region = region(names, at);
            // A chain has one way.
            config.limits.attachments = 1;
            let config = adjust(config);
            nodes.insert(*name, Running::start(config).await);
        }
        let world = World { ca, nodes };
        world.tell(names);
        for pair in names.windows(2) {
            world.connected(pair[0], pair[1]).await;
        }
        world
    }

    /// Tells everybody the world of a chain.
    pub fn tell(&self, names: &[&'static str]) {
        let directory = self.directory(names);
        for (at, name) in names.iter().enumerate() {
            self.nodes[name].handle.set_world(Fixed {
                directory: directory.clone(),
                routes: chain_routes(names, at),
            });
        }
    }

    fn directory(&self, names: &[&'static str]) -> Directory {
        let mut directory = Directory::default();
        for (at, name) in names.iter().enumerate() {
            let mut info = info(name, self.nodes[name].handle.address());
            info.region = region(names, at);
            if info.role == Role::Edge {
                info.attached = vec![id(beside(names, at))];
            }
            directory.nodes.insert(info.id.clone(), info);
        }
        directory
    }

    pub fn handle(&self, name: &str) -> &Handle {
        &self.nodes[name].handle
    }

    /// Waits until both ends know of their connection.
    pub async fn connected(&self, a: &str, b: &str) {
        let both = || self.nodes[a].peer(b).is_some() && self.nodes[b].peer(a).is_some();
        eventually(&format!("{a} and {b} are connected"), both).await;
    }
}

/// The relay an edge of a chain is attached to.
fn beside(names: &[&'static str], edge: usize) -> &'static str {
    if edge == 0 { names[1] } else { names[edge - 1] }
}

/// Each relay has a region of its own; an edge is in its relay's.
fn region(names: &[&'static str], at: usize) -> Region {
    let relay = match role(names[at]) {
        Role::Relay => names[at],
        Role::Edge => beside(names, at),
    };
    Region::new(&format!("region-{relay}")).unwrap()
}

pub fn config(name: &str, identity: Identity) -> Config {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let region = Region::new("r").unwrap();
    Config::new(id(name), role(name), region, listen, identity)
}

fn role(name: &str) -> Role {
    match name.starts_with("edge") {
        true => Role::Edge,
        false => Role::Relay,
    }
}

pub fn info(name: &str, address: SocketAddr) -> NodeInfo {
    NodeInfo {
        id: id(name),
        role: role(name),
        boot: BootId(0),
        region: Region::new("r").unwrap(),
        zone: Zone::new("r").unwrap(),
        country: String::new(),
        city: String::new(),
        lat: 0.0,
        lon: 0.0,
        quic: vec![address],
        http_url: String::new(),
        rtmp_url: String::new(),
        admin_url: String::new(),
        version: String::new(),
        attached: Vec::new(),
        draining: false,
        cordoned: false,
        drain_left: Duration::ZERO,
    }
}

/// The table of the node at one place of a chain; edges are reached over where they are attached.
fn chain_routes(names: &[&'static str], me: usize) -> Routes {
    let mut routes = Routes {
        version: Version {
            era: 0,
            election: 1,
            n: 1,
        },
        ..Routes::default()
    };
    for (to, name) in names.iter().enumerate() {
        if to == me || role(name) == Role::Edge {
            continue;
        }
        let between: Vec<usize> = match to > me {
            true => (me + 1..=to).collect(),
            false => (to..me).rev().collect(),
        };
        if between.len() == 1 {
            routes.neighbours.push(id(name));
        }
        let cost_us = between.len() as u64 * 1_000;
        let hops = between
            .into_iter()
            .map(|at| Hop {
                node: id(names[at]),
                net: Net::internet(),
            })
            .collect();
        routes.paths.insert(id(name), vec![Path { hops, cost_us }]);
    }
    routes
}

/// Looks until it is so.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while !holds() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, look)
        .await
        .unwrap_or_else(|_| panic!("never happened: {what}"));
}

/// Waits for something that comes by itself.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("never came: {what}"))
}

pub fn room() -> RoomName {
    RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new("math").unwrap(),
    }
}

pub fn track(name: &str) -> TrackId {
    TrackId {
        room: room(),
        stream: Stream::new("teacher").unwrap(),
        track: Track::new(name).unwrap(),
        generation: Generation::new(0, 1),
    }
}

/// A frame whose bytes depend on its place.
pub fn frame(group: u64, index: u64, len: usize) -> Frame {
    let seed = group.wrapping_mul(31).wrapping_add(index) as usize;
    let payload: Vec<u8> = (0..len).map(|at| (at * 7 + seed) as u8).collect();
    Frame {
        timestamp: group * 1_000_000 + index * 20_000,
        flags: Flags {
            key: index == 0,
            ..Flags::default()
        },
        priority: match index {
            0 => Priority::VideoKey,
            _ => Priority::VideoDelta,
        },
        payload: payload.into(),
    }
}

/// The next event that is about frames.
pub async fn next(subscription: &mut Subscription) -> LocalEvent {
    loop {
        match soon("an event", subscription.next()).await {
            Some(LocalEvent::Path(_)) => {}
            Some(event) => return event,
            None => panic!("the subscription ended"),
        }
    }
}

/// All tests count into one place.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        PrometheusBuilder::new()
            .install_recorder()
            .expect("no other recorder")
    })
}

/// The value of a series, summed over all whose line begins with `series`.
pub fn counted(series: &str) -> f64 {
    let text = metrics().render();
    let values = text
        .lines()
        .filter(|line| line.starts_with(series))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}
