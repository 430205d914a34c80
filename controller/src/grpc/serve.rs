//! The gRPC listener.

use std::time::Duration;

use longspan_proto::control::nodes_server::NodesServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming};

use super::Service;
use crate::config::Tls;

/// The longest message of a node, in bytes: thousands of link reports.
const MAX_MESSAGE: usize = 1 << 20;
/// A connection that says nothing is asked whether it lives …
const PING_EVERY: Duration = Duration::from_secs(5);
/// … and closed after this without an answer: in all within the lease's TTL.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// A certificate or key is not usable, or the listener broke.
pub type ServeError = tonic::transport::Error;

/// Checks the certificates.
pub fn builder(tls: Option<&Tls>) -> Result<Server, ServeError> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .tcp_nodelay(true);
    let Some(tls) = tls else {
        return Ok(server);
    };
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&tls.cert, &tls.key))
        .client_ca_root(Certificate::from_pem(&tls.ca));
    server.tls_config(config)
}

/// Serves until `shutdown`.
pub async fn serve(
    mut server: Server,
    listener: TcpListener,
    service: Service,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let nodes = NodesServer::new(service).max_decoding_message_size(MAX_MESSAGE);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server
        .add_service(nodes)
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
}
