//! Configuration: one TOML file, then `LONGSPAN_…` environment, then `--set key=value`.
//!
//! [`keys`] is the one list of what there is: it refuses unknown keys, names the environment's
//! variables, and is what `longspan config schema` prints. The structures here are what a role
//! takes from it.

pub mod document;
pub mod jwt_keys;
pub mod keys;

use std::{net::SocketAddr, path::PathBuf};

use longspan_proto::ids::{NodeId, Region, Room, Stream, Zone};
use longspan_relay::quic::limits::LINK_CAPACITY;
use serde::Deserialize;

pub use document::Document;
pub use keys::Role;

/// What a relay is told.
#[derive(Debug, Clone, Deserialize)]
pub struct Relay {
    /// Who it is.
    pub node: Node,
    /// Where it meets other nodes.
    #[serde(default)]
    pub quic: Quic,
    /// How it proves who it is.
    pub tls: Tls,
    /// Whom it asks.
    pub controller: Controllers,
    /// See [`Admin`].
    #[serde(default)]
    pub admin: Admin,
    /// See [`Data`].
    #[serde(default)]
    pub data: Data,
    /// See [`Log`].
    #[serde(default)]
    pub log: Log,
    /// The emulated world, if it lives in one.
    pub lab: Option<Lab>,
}

/// What an edge is told.
#[derive(Debug, Clone, Deserialize)]
pub struct Edge {
    /// Its forwarding node.
    #[serde(flatten)]
    pub relay: Relay,
    /// Where browsers and players come.
    pub http: Public,
    /// Where encoders come.
    pub rtmp: Public,
    /// Who may enter.
    #[serde(default)]
    pub auth: Auth,
    /// Of rooms' messages.
    #[serde(default)]
    pub messages: Messages,
    /// A lesson that it publishes itself.
    pub sample: Option<Sample>,
}

/// What a controller is told.
#[derive(Debug, Clone, Deserialize)]
pub struct Controller {
    /// Who it is and where it listens.
    pub controller: ControllerNode,
    /// Where it keeps records.
    pub store: Store,
    /// Certificates for gRPC; without them it listens on loopback only.
    pub tls: Option<Tls>,
    /// See [`Links`].
    #[serde(default)]
    pub links: Links,
    /// See [`Admin`].
    pub admin: Admin,
    /// See [`Log`].
    #[serde(default)]
    pub log: Log,
}

/// `[node]`
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    /// Unique in the backbone; also the name in its certificate.
    pub id: NodeId,
    /// Where it runs.
    pub region: Region,
    /// The IDC; the region's name if none is told.
    pub zone: Option<Zone>,
    /// ISO 3166-1 alpha-2.
    #[serde(default)]
    pub country: String,
    /// For people.
    #[serde(default)]
    pub city: String,
    /// Degrees north.
    #[serde(default)]
    pub lat: f64,
    /// Degrees east.
    #[serde(default)]
    pub lon: f64,
}

/// `[quic]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Quic {
    /// UDP.
    pub listen: SocketAddr,
    /// Where others reach it, best first; empty: the bound address.
    pub advertise: Vec<SocketAddr>,
    /// What each link carries each way, in Mbit/s.
    pub link_capacity_mbps: f64,
}

/// `[tls]`: PEM files.
#[derive(Debug, Clone, Deserialize)]
pub struct Tls {
    /// Who signs nodes' certificates.
    pub ca: PathBuf,
    /// This node's chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// `[controller]` of a node.
#[derive(Debug, Clone, Deserialize)]
pub struct Controllers {
    /// gRPC addresses, tried in turn.
    pub urls: Vec<String>,
}

/// `[controller]` of a controller.
#[derive(Debug, Clone, Deserialize)]
pub struct ControllerNode {
    /// Unique among controllers.
    pub id: NodeId,
    /// For nodes.
    #[serde(default = "default_grpc")]
    pub grpc_listen: SocketAddr,
    /// What other machines write to reach `grpc_listen`.
    pub grpc_url: Option<String>,
    /// For operators.
    #[serde(default = "default_http")]
    pub http_listen: SocketAddr,
}

/// `[store]`
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Store {
    /// One file, one controller.
    Embedded {
        /// The database.
        path: PathBuf,
        /// Forget what an earlier run's leases hold.
        #[serde(default)]
        clear_leases: bool,
    },
    /// etcd, any number of controllers.
    Etcd {
        /// Its members.
        endpoints: Vec<String>,
        /// Forget what an earlier run's leases hold.
        #[serde(default)]
        clear_leases: bool,
    },
}

/// `[links]`: what they carry.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Links {
    /// In Mbit/s, unless a rule says otherwise.
    pub capacity_mbps: Option<f64>,
    /// Rules for nets, regions and links (`longspan_controller::routes::Capacities`).
    pub capacities: Vec<String>,
}

/// `[admin]`: the private listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Admin {
    /// Loopback by default.
    pub listen: SocketAddr,
    /// The file with the bearer token of the operator's API (controllers).
    pub token_file: Option<PathBuf>,
}

/// `[data]`
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Data {
    /// Where the node keeps what outlives a restart.
    pub dir: Option<PathBuf>,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Log {
    /// A `tracing` filter.
    pub level: String,
    /// For people or for machines.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

impl Default for Log {
    fn default() -> Log {
        Log {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// `[lab]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Lab {
    /// The world file.
    pub world: Option<PathBuf>,
    /// By how much the node's clock is ahead, in s.
    pub clock_ahead_s: f64,
}

/// `[http]` and `[rtmp]`
#[derive(Debug, Clone, Deserialize)]
pub struct Public {
    /// TCP.
    pub listen: SocketAddr,
    /// What users write to reach it; the bound address if it is not told.
    pub public_url: Option<String>,
}

/// `[auth]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Auth {
    /// Rooms may be entered without a token.
    pub open: bool,
    /// The file of [`jwt_keys`].
    pub jwt_keys: Option<PathBuf>,
}

/// `[messages]`
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// Rooms are told who of their members is here.
    pub presence: bool,
    /// How long members are given to go when the edge stops, in seconds.
    pub goaway_seconds: f64,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages {
            presence: true,
            goaway_seconds: 5.0,
        }
    }
}

/// `[sample]`
#[derive(Debug, Clone, Deserialize)]
pub struct Sample {
    /// Where it is published.
    pub room: Room,
    /// As what.
    pub stream: Stream,
    /// FLV; the built-in lesson if it is not told.
    pub file: Option<PathBuf>,
}

impl Default for Quic {
    fn default() -> Quic {
        Quic {
            listen: SocketAddr::from(([0, 0, 0, 0], 7443)),
            advertise: Vec::new(),
            link_capacity_mbps: LINK_CAPACITY as f64 / 1e6,
        }
    }
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            listen: SocketAddr::from(([127, 0, 0, 1], 9090)),
            token_file: None,
        }
    }
}

fn default_grpc() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7440))
}

fn default_http() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7480))
}
