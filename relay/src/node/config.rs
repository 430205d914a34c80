//! What a node is told at its start, and what can go wrong there.

use std::{
    collections::BTreeMap, fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration,
};

use longspan_proto::{
    ids::{BootId, NodeId, Region, Zone},
    wire::Role,
};
use longspan_topology::routes::Routes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Directory;
use crate::{forward::CacheConfig, quic::transport::Transport, roomlog, tls};

/// Everything a node needs to know of itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, also in its certificate.
    pub node: NodeId,
    /// What it is.
    pub role: Role,
    /// Where it runs.
    pub region: Region,
    /// The IDC inside the region.
    pub zone: Zone,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// For people.
    pub city: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// Drawn at random at the start of the process.
    pub boot: BootId,
    /// Where QUIC (and the probes beside it) listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where others reach it, best first; empty: the bound address.
    pub advertise: Vec<SocketAddr>,
    /// What users reach, `http://…`; empty for a relay.
    pub http_url: String,
    /// What users reach, `rtmp://…`; empty for a relay.
    pub rtmp_url: String,
    /// Its private listener, `http://…`; may be empty.
    pub admin_url: String,
    /// Its certificate and the operator's CA.
    pub tls: tls::Identity,
    /// The controllers' gRPC, `http://host:port` or `https://…`, tried in turn. May be empty
    /// where [`Config::fixed`] is given.
    pub controllers: Vec<String>,
    /// For `https://` controllers.
    pub controller_tls: Option<tls::Identity>,
    /// Where the last good table and the stateless-reset key are kept; without it both are
    /// forgotten.
    pub data_dir: Option<PathBuf>,
    /// See [`Limits`].
    pub limits: Limits,
    /// What each connection to a neighbour may do.
    pub transport: Transport,
    /// How much of each track is kept.
    pub cache: CacheConfig,
    /// How long a room that nobody holds stays in the logs this node leads, past its last use. What else
    /// a log may keep is decided when its group is born, alike on all members.
    pub room_idle: Duration,
    /// A world that no controller tells: for tests and benches, and for a backbone run by hand.
    pub fixed: Option<Fixed>,
    /// By how much this node's clock, which counts from its start, is ahead of that: for tests of
    /// what differences between clocks do.
    pub clock_ahead: Duration,
    /// See [`Hooks`].
    pub hooks: Hooks,
}

impl Config {
    /// A node with defaults everywhere else: no user URLs, no controller, a drawn boot id.
    pub fn new(
        node: NodeId,
        role: Role,
        region: Region,
        listen: SocketAddr,
        tls: tls::Identity,
    ) -> Config {
        let zone = Zone::new(&region).expect("regions and zones obey one rule");
        Config {
            node,
            role,
            region,
            zone,
            country: String::new(),
            city: String::new(),
            lat: 0.0,
            lon: 0.0,
            boot: BootId(rand::random()),
            listen,
            advertise: Vec::new(),
            http_url: String::new(),
            rtmp_url: String::new(),
            admin_url: String::new(),
            tls,
            controllers: Vec::new(),
            controller_tls: None,
            data_dir: None,
            limits: Limits::default(),
            transport: Transport::default(),
            cache: CacheConfig::default(),
            room_idle: roomlog::Limits::default().room_idle,
            fixed: None,
            clock_ahead: Duration::ZERO,
            hooks: Hooks::default(),
        }
    }
}

/// A world told by configuration instead of a controller.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fixed {
    /// All nodes.
    pub directory: Directory,
    /// This node's table.
    pub routes: Routes,
}

/// The node's bounds. Those of the connections stand in [`crate::quic::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Neighbours connected at once; more are refused with `too_many_peers`.
    pub peers: usize,
    /// Calls of one neighbour under way at once, relayed ones included; more wait at the sender.
    pub calls_per_peer: u32,
    /// Relays an edge holds a session with: the best, then warm standbys, the first of them in
    /// another zone where there is one (DESIGN §6).
    pub attachments: usize,
    /// Calls that wait for a server inside this node, for each verb; more are answered `busy`.
    pub waiting_calls: usize,
    /// How long a track that was lost, or that nobody has yet, is looked for on behalf of this
    /// node's own subscriptions before they end.
    pub search: Duration,
    /// How long a shutdown may take before connections are cut.
    pub shutdown: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            peers: 4_096,
            calls_per_peer: 1_024,
            attachments: 2,
            waiting_calls: 256,
            search: Duration::from_secs(10),
            shutdown: Duration::from_secs(2),
        }
    }
}

/// A stream of bytes, such as TCP's.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Lays something over the node's UDP socket.
pub type WrapSocket =
    Arc<dyn Fn(Arc<dyn quinn::AsyncUdpSocket>) -> Arc<dyn quinn::AsyncUdpSocket> + Send + Sync>;

/// Lays something over a TCP connection to a controller.
pub type WrapStream = Arc<dyn Fn(tokio::net::TcpStream) -> Box<dyn Io> + Send + Sync>;

/// Where an emulated network is laid between the node and the real one; by default none is.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Over the UDP socket of QUIC and probes.
    pub socket: Option<WrapSocket>,
    /// Over TCP connections to controllers.
    pub connect: Option<WrapStream>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("socket", &self.socket.is_some())
            .field("connect", &self.connect.is_some())
            .finish()
    }
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken.
    #[error("cannot listen on {address}/udp: the port is in use")]
    InUse {
        /// Which.
        address: SocketAddr,
    },
    /// The socket could not be made for another reason.
    #[error("cannot listen on {address}/udp: {source}")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// See [`tls::Error`].
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// A controller's address makes no sense.
    #[error("controller {url:?} is not a URL like http://host:7440: {why}")]
    Controller {
        /// What was given.
        url: String,
        /// Why it is refused.
        why: String,
    },
    /// The file of the room logs cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    RoomLog {
        /// Which.
        path: PathBuf,
        /// Why.
        source: roomlog::disk::DiskError,
    },
    /// The data directory cannot be used.
    #[error("cannot use the data directory {}: {source}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A node as the directory tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeInfo {
    /// Its name.
    pub id: NodeId,
    /// What it is.
    pub role: Role,
    /// Which run of it.
    pub boot: BootId,
    /// Where it runs.
    pub region: Region,
    /// The IDC; the region's name if none was told.
    pub zone: Zone,
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// For people.
    pub city: String,
    /// Degrees north.
    pub lat: f64,
    /// Degrees east.
    pub lon: f64,
    /// Where its QUIC listens, best first.
    pub quic: Vec<SocketAddr>,
    /// What users reach; empty if nothing.
    pub http_url: String,
    /// What users reach; empty if nothing.
    pub rtmp_url: String,
    /// Its private listener.
    pub admin_url: String,
    /// The program's version.
    pub version: String,
    /// For an edge: the relays it is attached to, best first.
    pub attached: Vec<NodeId>,
    /// An operator takes it out of service.
    pub draining: bool,
    /// An operator wants nothing new at it.
    pub cordoned: bool,
    /// While it drains: how long whoever is at it may stay, from when this was told.
    pub drain_left: Duration,
}

/// All nodes by name.
pub type Nodes = BTreeMap<NodeId, NodeInfo>;
