//! Peers by hand, to do what no node of ours does.

use std::{net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use longspan_proto::{
    ids::{BootId, Region},
    wire::{Hello, Message, Role, call::MessageReader},
};
use longspan_relay::tls::Identity;
use quinn::{
    Connection, ConnectionError, Endpoint, RecvStream, SendStream, crypto::rustls::QuicClientConfig,
};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::world::{Ca, Running, eventually, id, soon};

/// A stranger that speaks QUIC by hand.
pub async fn dial(
    identity: &Identity,
    alpn: &[u8],
    to: SocketAddr,
    name: &str,
) -> Result<(Endpoint, Connection), ConnectionError> {
    let Identity::Pem { ca, cert, key } = identity else {
        panic!("in memory")
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let client = QuicClientConfig::try_from(tls).unwrap();
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let client = quinn::ClientConfig::new(Arc::new(client));
    let connecting = endpoint.connect_with(client, to, name).unwrap();
    let conn = soon("the handshake", connecting).await?;
    Ok((endpoint, conn))
}

pub fn hello(node: &str) -> Hello {
    Hello {
        version: 1,
        min_version: 1,
        features: 0,
        node: id(node),
        role: Role::Relay,
        boot: BootId(5),
        region: Region::new("r").unwrap(),
    }
}

/// The code and words of the close.
pub async fn closed(conn: &Connection) -> (u32, String) {
    match soon("the close", conn.closed()).await {
        ConnectionError::ApplicationClosed(close) => (
            close.error_code.into_inner() as u32,
            String::from_utf8_lossy(&close.reason).into_owned(),
        ),
        other => panic!("another end: {other}"),
    }
}

pub async fn greet(conn: &Connection, hello: Hello) -> (SendStream, RecvStream) {
    let (mut send, recv) = conn.open_bi().await.unwrap();
    let mut out = BytesMut::new();
    Message::Hello(hello).encode(&mut out);
    send.write_all(&out).await.unwrap();
    (send, recv)
}

/// A neighbour `k` by hand, hellos exchanged.
pub async fn neighbour(ca: &Ca, node: &Running) -> (Endpoint, Connection, SendStream, RecvStream) {
    let (endpoint, conn) = dial(&ca.identity("k"), b"longspan/1", node.handle.address(), "m")
        .await
        .unwrap();
    let (send, mut recv) = greet(&conn, hello("k")).await;
    let mut reader = MessageReader::new("hello", 1 << 16);
    let answer = loop {
        if let Some(message) = reader.poll().unwrap() {
            break Message::decode(message).unwrap();
        }
        let chunk = soon("a hello", recv.read_chunk(1 << 16, true)).await;
        reader.push(&chunk.unwrap().expect("a hello").bytes);
    };
    match answer {
        Some(Message::Hello(hello)) => assert_eq!(hello.node, id("m")),
        other => panic!("no hello: {other:?}"),
    }
    eventually("k is a peer", || node.peer("k").is_some()).await;
    (endpoint, conn, send, recv)
}
