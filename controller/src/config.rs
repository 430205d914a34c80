//! What a controller is told at its start.

use std::{net::SocketAddr, path::PathBuf};

use longspan_proto::ids::NodeId;

use crate::limits::Limits;

/// Everything a controller needs to run. Plain data; the binary parses it from TOML.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its name, unique among controllers; stands in the election record.
    pub id: NodeId,
    /// Where nodes reach it (gRPC). Port 0: any free one, see
    /// [`Controller::grpc_addr`](crate::Controller::grpc_addr).
    pub grpc_listen: SocketAddr,
    /// What other machines write to reach that listener, `http://host:port`; told to nodes that ask
    /// a controller which does not lead. `None`: made from the listener's own address.
    pub grpc_url: Option<String>,
    /// Where operators and the dashboard reach it (HTTP). Port 0: any free one.
    pub http_listen: SocketAddr,
    /// Where records are kept.
    pub store: StoreConfig,
    /// TLS for gRPC. `None` is accepted on loopback addresses only: without certificates anybody
    /// who reaches the port could speak as any node.
    pub tls: Option<Tls>,
    /// The bearer token of the operator's HTTP API; refused where shorter than
    /// [`MIN_ADMIN_TOKEN`].
    pub admin_token: String,
    /// Removes what leases of an earlier run still hold, at start. For a backbone whose nodes
    /// are all started anew together (`longspan up`); never with other controllers running.
    pub clear_leases: bool,
    /// Named bounds.
    pub limits: Limits,
}

/// The shortest admin token that is accepted, in bytes: 16 characters of a hex token are 64 bits,
/// which cannot be guessed over a network.
pub const MIN_ADMIN_TOKEN: usize = 16;

/// Which store, and where.
#[derive(Debug, Clone)]
pub enum StoreConfig {
    /// In one file of this machine, for one controller.
    Embedded {
        /// The database file; made if it is not there. Its folder must exist.
        path: PathBuf,
    },
    /// In etcd, shared by any number of controllers.
    Etcd {
        /// `http://host:port` (or `https://…`) of the members, tried in turn.
        endpoints: Vec<String>,
    },
}

/// PEM texts for gRPC with certificates on both sides.
#[derive(Clone)]
pub struct Tls {
    /// Who signs nodes' certificates.
    pub ca: Vec<u8>,
    /// This controller's certificate chain.
    pub cert: Vec<u8>,
    /// Its private key.
    pub key: Vec<u8>,
}

/// Never shows the key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls { .. }")
    }
}
