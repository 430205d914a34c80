//! The socket, and QUIC's configuration on it.

use std::{
    fs, io,
    net::{SocketAddr, UdpSocket},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::hmac;
use quinn::{
    ClientConfig, EndpointConfig, Runtime, ServerConfig, TokioRuntime,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use socket2::{Domain, Protocol, Socket, Type};

use super::{limits, transport};
use crate::{
    engine::Clock,
    node::{BindError, Config},
    probe, tls,
};

/// QUIC and, beside it, the probes.
pub(crate) struct Endpoint {
    pub quic: quinn::Endpoint,
    pub client: ClientConfig,
    pub probes: Arc<probe::Socket>,
    pub address: SocketAddr,
}

/// Opens the socket and listens.
pub(crate) fn bind(config: &Config, clock: Clock) -> Result<Endpoint, BindError> {
    let tls = tls::configs(&config.tls, &config.node)?;
    let address = config.listen;
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { address },
        _ => BindError::Socket { address, source },
    };
    let socket = open(address).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    let mut socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
    if let Some(wrap) = &config.hooks.socket {
        socket = wrap(socket);
    }
    let probes = Arc::new(probe::Socket::new(socket, clock));

    let calls = config.limits.calls_per_peer;
    let transport = Arc::new(transport::config(&config.transport, calls));
    let unusable = |why: String| {
        BindError::Tls(tls::Error::Parse {
            what: "certificate and key",
            why,
        })
    };
    let server = QuicServerConfig::try_from(tls.server).map_err(|e| unusable(e.to_string()))?;
    let mut server = ServerConfig::with_crypto(Arc::new(server));
    server
        .transport_config(transport.clone())
        .max_incoming(limits::HANDSHAKES)
        // A node's address is part of its link's identity; who moves connects anew.
        .migration(false);
    let client = QuicClientConfig::try_from(tls.client).map_err(|e| unusable(e.to_string()))?;
    let mut client = ClientConfig::new(Arc::new(client));
    client.transport_config(transport);

    let mut endpoint = EndpointConfig::new(Arc::new(reset_key(config.data_dir.as_deref())?));
    // The fixed bit tells QUIC from probes.
    endpoint.grease_quic_bit(false);
    let quic = quinn::Endpoint::new_with_abstract_socket(
        endpoint,
        Some(server),
        probes.clone(),
        Arc::new(TokioRuntime),
    )
    .map_err(failed)?;
    Ok(Endpoint {
        quic,
        client,
        probes,
        address,
    })
}

fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // As far as the system allows (net.core.rmem_max): asking too much is not an error.
    for set in [Socket::set_recv_buffer_size, Socket::set_send_buffer_size] {
        if let Err(error) = set(&socket, limits::SOCKET_BUFFER) {
            tracing::debug!(%error, "the socket keeps the system's buffer size");
        }
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// The key that makes a restarted node's resets known to its peers. Kept over restarts where
/// there is a place to keep it.
fn reset_key(data_dir: Option<&Path>) -> Result<hmac::Key, BindError> {
    let fresh = || rand::random::<[u8; 64]>();
    let key = match data_dir {
        None => fresh(),
        Some(dir) => {
            let failed = |source| BindError::DataDir {
                path: dir.to_owned(),
                source,
            };
            fs::create_dir_all(dir).map_err(failed)?;
            let path = dir.join("stateless-reset.key");
            match fs::read(&path).map(<[u8; 64]>::try_from) {
                Ok(Ok(key)) => key,
                // Absent, or cut short by a crash: a new one costs peers one idle timeout.
                Ok(Err(_)) => store(&path, fresh()).map_err(failed)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    store(&path, fresh()).map_err(failed)?
                }
                Err(e) => return Err(failed(e)),
            }
        }
    };
    Ok(hmac::Key::new(hmac::HMAC_SHA256, &key))
}

fn store(path: &Path, key: [u8; 64]) -> io::Result<[u8; 64]> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(&key)?;
    Ok(key)
}
