//! The first words on the dialer's first bidirectional stream (WIRE.md, "Connections").

use bytes::BytesMut;
use longspan_proto::{
    ids::{BootId, NodeId, Region},
    wire::{Hello, MAX_MESSAGE, Message, Role, call::MessageReader},
};
use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;

use super::{limits, refusal::Refusal};
use crate::{node::Config, tls};

/// The control stream after the hellos; `reader` may already hold what followed.
pub(crate) struct Greeted {
    pub send: SendStream,
    pub recv: RecvStream,
    pub reader: MessageReader,
    pub node: NodeId,
    pub role: Role,
    pub boot: BootId,
    pub region: Region,
}

fn ours(config: &Config) -> Message {
    Message::Hello(Hello {
        version: limits::VERSION,
        min_version: limits::MIN_VERSION,
        features: 0,
        node: config.node.clone(),
        role: config.role,
        boot: config.boot,
        region: config.region.clone(),
    })
}

async fn say(send: &mut SendStream, config: &Config) -> Result<(), Refusal> {
    let mut out = BytesMut::new();
    ours(config).encode(&mut out);
    send.write_chunk(out.freeze())
        .await
        .map_err(|e| Refusal::Lost(format!("the hello was not sent: {e}")))
}

/// Greets a node that was dialed.
pub(crate) async fn dialer(
    conn: &Connection,
    config: &Config,
    expected: &NodeId,
) -> Result<Greeted, Refusal> {
    let (mut send, recv) = conn.open_bi().await?;
    say(&mut send, config).await?;
    let greeted = listen(conn, config, send, recv).await?;
    if greeted.node != *expected {
        return Err(Refusal::Identity(format!(
            "{} answers where {expected} was dialed",
            greeted.node
        )));
    }
    Ok(greeted)
}

/// Answers a node that dialed.
pub(crate) async fn acceptor(conn: &Connection, config: &Config) -> Result<Greeted, Refusal> {
    let (send, recv) = conn.accept_bi().await?;
    let mut greeted = listen(conn, config, send, recv).await?;
    say(&mut greeted.send, config).await?;
    Ok(greeted)
}

async fn listen(
    conn: &Connection,
    config: &Config,
    send: SendStream,
    mut recv: RecvStream,
) -> Result<Greeted, Refusal> {
    let mut reader = MessageReader::new("control message", MAX_MESSAGE);
    let first = loop {
        match reader.poll() {
            Ok(Some(message)) => break message,
            Ok(None) => {}
            Err(e) => return Err(Refusal::Protocol(format!("its first words: {e}"))),
        }
        match recv.read_chunk(MAX_MESSAGE, true).await {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            Ok(None) => return Err(Refusal::Protocol("it said no hello".into())),
            Err(quinn::ReadError::ConnectionLost(e)) => return Err(e.into()),
            Err(e) => return Err(Refusal::Lost(e.to_string())),
        }
    };
    let hello = match Message::decode(first) {
        Ok(Some(Message::Hello(hello))) => hello,
        Ok(_) => return Err(Refusal::Protocol("its first words are no hello".into())),
        Err(e) => return Err(Refusal::Protocol(format!("its hello: {e}"))),
    };
    check(conn, config, &hello)?;
    Ok(Greeted {
        send,
        recv,
        reader,
        node: hello.node,
        role: hello.role,
        boot: hello.boot,
        region: hello.region,
    })
}

fn check(conn: &Connection, config: &Config, hello: &Hello) -> Result<(), Refusal> {
    if hello.min_version > limits::VERSION || hello.version < limits::MIN_VERSION {
        return Err(Refusal::Version {
            theirs: hello.version,
            theirs_min: hello.min_version,
            ours: limits::VERSION,
            ours_min: limits::MIN_VERSION,
        });
    }
    let identity = conn
        .peer_identity()
        .and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok())
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| Refusal::Certificate("no certificate".into()))?;
    tls::verify_name(&identity[0], &hello.node).map_err(|why| Refusal::Name {
        node: hello.node.clone(),
        why,
    })?;
    if hello.node == config.node {
        return Err(Refusal::Identity(format!(
            "it says it is {} too: this node itself, or two nodes with one name",
            hello.node
        )));
    }
    if hello.role == Role::Edge && config.role == Role::Edge {
        return Err(Refusal::Identity(
            "edges do not connect to each other".into(),
        ));
    }
    Ok(())
}
