//! What one node of a bench's backbone is told, as a file: the hidden verb `bench node` runs it.

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use longspan_lab::{
    shim::{Counts, Shim},
    world::Live,
};
use longspan_proto::{
    ids::{BootId, Net, NodeId, Region, Zone},
    wire::Role,
};
use longspan_relay::{
    node::{Config, Directory, Fixed, Handle, Node, NodeInfo},
    quic::transport,
    tls,
};
use longspan_topology::routes::{Hop, Path as Way, Routes};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Outcome};

/// Everything a node needs; no controller tells it more.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    pub node: NodeId,
    pub relay: bool,
    pub region: Region,
    pub listen: SocketAddr,
    pub ca_pem: String,
    pub cert_pem: String,
    pub key_pem: String,
    /// Whom it knows of.
    pub nodes: Vec<Known>,
    pub neighbours: Vec<NodeId>,
    /// The way to each relay that is not this one, the relay last.
    pub ways: Vec<Vec<NodeId>>,
    /// The file of the emulated world it stands in, if any.
    pub world: Option<PathBuf>,
    /// Who decides how much is under way on its connections.
    pub controller: Controller,
    /// It tells of its links on standard output, every [`TELL`].
    pub tells: bool,
}

/// A congestion controller by name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// The product's own
    #[default]
    Ours,
    /// quinn's Cubic
    Cubic,
    /// quinn's NewReno
    #[value(name = "newreno")]
    NewReno,
    /// quinn's BBR, experimental there
    Bbr,
}

/// Another node.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    pub node: NodeId,
    pub relay: bool,
    pub region: Region,
    /// Empty: nobody needs to reach it.
    pub quic: Vec<SocketAddr>,
    /// For an edge.
    pub attached: Vec<NodeId>,
}

impl Spec {
    /// As the node's own configuration.
    pub fn config(&self) -> Config {
        let role = if self.relay { Role::Relay } else { Role::Edge };
        let identity = tls::Identity::Pem {
            ca: self.ca_pem.clone(),
            cert: self.cert_pem.clone(),
            key: self.key_pem.clone(),
        };
        let region = self.region.clone();
        let mut config = Config::new(self.node.clone(), role, region, self.listen, identity);
        let infos = self.nodes.iter().map(Known::info);
        config.fixed = Some(Fixed {
            directory: Directory {
                nodes: infos.map(|info| (info.id.clone(), info)).collect(),
            },
            routes: self.routes(),
        });
        config.transport.controller = match self.controller {
            Controller::Ours => transport::Controller::Ours,
            Controller::Cubic => transport::Controller::Cubic,
            Controller::NewReno => transport::Controller::NewReno,
            Controller::Bbr => transport::Controller::Bbr,
        };
        config
    }

    /// Lays the emulated world under it; nodes of one process share `live`.
    pub fn emulated(&self, config: &mut Config, live: &Live) -> Arc<Counts> {
        let shim = Shim::new(live.clone(), self.node.clone(), self.region.clone());
        let counts = shim.counts();
        config.hooks.socket = Some(Arc::new(move |inner| shim.socket(inner)));
        counts
    }

    fn routes(&self) -> Routes {
        let mut routes = Routes {
            neighbours: self.neighbours.clone(),
            ..Routes::default()
        };
        for way in &self.ways {
            let Some(last) = way.last() else { continue };
            let hops = way.iter().map(|node| Hop {
                node: node.clone(),
                net: Net::internet(),
            });
            // There is one way to each, so its cost decides nothing.
            let path = Way {
                hops: hops.collect(),
                cost_us: way.len() as u64,
            };
            routes.paths.insert(last.clone(), vec![path]);
        }
        for known in self.nodes.iter().filter(|known| !known.relay) {
            routes
                .attached
                .insert(known.node.clone(), known.attached.clone());
        }
        routes
    }
}

impl Known {
    fn info(&self) -> NodeInfo {
        NodeInfo {
            id: self.node.clone(),
            role: if self.relay { Role::Relay } else { Role::Edge },
            boot: BootId(0),
            region: self.region.clone(),
            zone: Zone::new(&self.region).expect("regions and zones obey one rule"),
            country: String::new(),
            city: String::new(),
            lat: 0.0,
            lon: 0.0,
            quic: self.quic.clone(),
            http_url: String::new(),
            rtmp_url: String::new(),
            admin_url: String::new(),
            version: String::new(),
            attached: self.attached.clone(),
            draining: false,
            cordoned: false,
            drain_left: Duration::ZERO,
        }
    }
}

/// What a child says on standard output once it listens.
pub const LISTENS: &str = "listens";
/// And once all its neighbours are connected.
pub const CONNECTED: &str = "connected";
/// How often a node tells of its links.
const TELL: Duration = Duration::from_millis(100);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Runs the node that a spec file tells until standard input ends: a child cannot outlive whoever
/// started it.
pub fn run(path: &Path) -> Outcome {
    let cannot = |why: String| Failure::failed(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| cannot(error.to_string()))?;
    let spec: Spec = serde_json::from_str(&text).map_err(|error| cannot(error.to_string()))?;
    let live = spec
        .world
        .as_deref()
        .map(Live::open)
        .transpose()
        .map_err(Failure::failed)?;
    let shutdown = CancellationToken::new();
    let ended = shutdown.clone();
    thread::spawn(move || {
        // Nothing is ever written to it: the end is all there is to read.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        ended.cancel();
    });
    let runtime = tokio::runtime::Runtime::new().map_err(Failure::failed)?;
    runtime.block_on(async {
        let mut config = spec.config();
        let counts = live.map(|live| spec.emulated(&mut config, &live));
        let node = Node::bind(config).await.map_err(Failure::failed)?;
        say(LISTENS)?;
        let handle = node.handle();
        if spec.tells {
            tokio::spawn(tell(handle.clone(), counts));
        }
        tokio::spawn(async move {
            let peers = |handle: &Handle| handle.debug()["peers"].as_array().map_or(0, Vec::len);
            while peers(&handle) < spec.neighbours.len() {
                tokio::time::sleep(LOOK).await;
            }
            say(CONNECTED)
        });
        node.run(shutdown).await;
        Ok(())
    })
}

/// One line of JSON each time, until nobody listens.
async fn tell(handle: Handle, counts: Option<Arc<Counts>>) {
    let mut tick = tokio::time::interval(TELL);
    loop {
        tick.tick().await;
        let debug = handle.debug();
        let peers = debug["peers"].as_array().into_iter().flatten();
        let links: serde_json::Map<String, Value> = peers
            .filter_map(|peer| Some((peer["node"].as_str()?.to_owned(), peer["quic"].clone())))
            .collect();
        let count = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let emulated = counts.as_ref().map(|counts| {
            json!({
                "lost": count(&counts.lost),
                "queue_full": count(&counts.queue_full),
                "overflowed": count(&counts.overflowed),
            })
        });
        if say(&json!({ "links": links, "emulated": emulated }).to_string()).is_err() {
            return;
        }
    }
}

fn say(word: &str) -> Outcome {
    let mut out = io::stdout();
    writeln!(out, "{word}")
        .and_then(|()| out.flush())
        .map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_becomes_a_table() {
        let spec: Spec = serde_json::from_value(serde_json::json!({
            "node": "relay-2", "relay": true, "region": "two", "listen": "127.0.0.1:0",
            "ca_pem": "", "cert_pem": "", "key_pem": "",
            "nodes": [
                { "node": "relay-1", "relay": true, "region": "one", "quic": ["127.0.0.1:1"], "attached": [] },
                { "node": "origin", "relay": false, "region": "one", "quic": [], "attached": ["relay-1"] },
            ],
            "neighbours": ["relay-1"],
            "ways": [["relay-1"]],
            "world": null, "controller": "ours", "tells": false,
        }))
        .unwrap();
        let fixed = spec.config().fixed.unwrap();
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| NodeId::new(name).unwrap())
                .collect::<Vec<_>>()
        };
        let ways = fixed
            .routes
            .ways(&spec.node, &NodeId::new("origin").unwrap());
        assert_eq!(ways, [names(&["relay-1", "origin"])]);
        assert_eq!(fixed.routes.neighbours, names(&["relay-1"]));
        assert_eq!(fixed.directory.nodes.len(), 2);
    }
}
