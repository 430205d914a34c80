//! One connection's life, from the hellos to its end.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use longspan_proto::wire::{MAX_MESSAGE, Message, call::MessageReader, probe};
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::{Notify, mpsc};
use tokio_util::task::TaskTracker;

use super::{
    hello::Greeted,
    limits::close,
    packets::{self, Packets},
    read,
    refusal::Refusal,
    write,
};
use crate::{
    calls,
    engine::{CONTROL_QUEUE, PeerPort},
    forward::{Input, PeerKey},
    peers::{Peer, Refused},
    probe::Link,
    shared::Shared,
};

/// Takes the connection in and starts its tasks.
pub(super) fn begin(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    conn: Connection,
    greeted: Greeted,
    dialed: bool,
) -> Result<(), Refusal> {
    let mut secret = [0; 32];
    conn.export_keying_material(&mut secret, probe::EXPORT_LABEL, b"")
        .map_err(|e| Refusal::Protocol(format!("no key for probes: {e:?}")))?;
    let engine = &shared.engine;
    let peer = Arc::new(Peer {
        key: PeerKey(engine.number()),
        link: Arc::new(Link::new(
            probe::Key::new(&secret),
            shared.config.boot,
            greeted.boot,
            engine.clock().now(),
        )),
        node: greeted.node,
        role: greeted.role,
        boot: greeted.boot,
        region: greeted.region,
        conn,
        dialed,
        since: engine.clock().now(),
        leaving: AtomicBool::new(false),
        carried: AtomicU64::new(0),
        backup: AtomicBool::new(false),
        received_bps: AtomicU64::new(0),
        packets: Packets::default(),
    });
    shared
        .peers
        .admit(peer.clone())
        .map_err(|refused| match refused {
            Refused::Duplicate => Refusal::Duplicate,
            Refused::TooMany => Refusal::Limit(format!(
                "{} neighbours are connected, the limit",
                shared.config.limits.peers
            )),
            Refused::Closing => Refusal::Limit("this node is shutting down".into()),
        })?;
    tracing::info!(
        peer = %peer.node,
        address = %peer.conn.remote_address(),
        dialed,
        "connected"
    );
    let (control, said) = mpsc::channel(CONTROL_QUEUE);
    let (kick, kicked) = mpsc::channel(1);
    let ready = Arc::new(Notify::new());
    shared.endpoint.probes.add(&peer);
    engine.peer_up(
        peer.key,
        PeerPort {
            control,
            ready: ready.clone(),
            kick,
            reading: HashMap::new(),
        },
        Input::PeerUp {
            peer: peer.key,
            node: peer.node.clone(),
            role: peer.role,
        },
    );
    tasks.spawn(write::groups(shared.clone(), peer.clone(), ready));
    tasks.spawn(live(
        shared.clone(),
        tasks.clone(),
        peer,
        Streams {
            send: greeted.send,
            recv: greeted.recv,
            reader: greeted.reader,
            said,
            kicked,
        },
    ));
    Ok(())
}

struct Streams {
    send: SendStream,
    recv: RecvStream,
    reader: MessageReader,
    said: mpsc::Receiver<Message>,
    kicked: mpsc::Receiver<String>,
}

async fn live(shared: Arc<Shared>, tasks: TaskTracker, peer: Arc<Peer>, streams: Streams) {
    let Streams {
        send,
        recv,
        reader,
        said,
        mut kicked,
    } = streams;
    let work = async {
        tokio::join!(
            say(&shared, &peer, send, said),
            listen(&shared, &peer, recv, reader),
            read::groups(&shared, &tasks, &peer),
            packets::write(&peer),
            calls::accept(&shared, &tasks, &peer),
            crate::probe::drive(&shared, &peer),
        )
    };
    tokio::select! {
        _ = work => {}
        Some(reason) = kicked.recv() => misbehaves(&peer, &reason),
        _ = peer.conn.closed() => {}
    }
    let why = peer.conn.closed().await;
    tracing::info!(peer = %peer.node, "disconnected: {why}");
    shared.endpoint.probes.remove(&peer);
    shared.peers.remove(&peer);
    shared.engine.peer_down(peer.key);
}

/// Closes a connection whose peer broke the protocol.
pub(crate) fn misbehaves(peer: &Peer, reason: &str) {
    if peer.conn.close_reason().is_some() {
        return;
    }
    tracing::warn!(
        peer = %peer.node,
        address = %peer.conn.remote_address(),
        "broke the protocol: {reason}"
    );
    metrics::counter!("longspan_rejected_total", "reason" => "protocol").increment(1);
    peer.conn.close(close::PROTOCOL.into(), reason.as_bytes());
}

/// Writes the control stream. It goes before every group.
async fn say(
    shared: &Shared,
    peer: &Peer,
    mut send: SendStream,
    mut said: mpsc::Receiver<Message>,
) {
    let _ = send.set_priority(i32::MAX);
    let bytes = shared.link_bytes(&peer.node, "control");
    let mut out = BytesMut::new();
    while let Some(message) = said.recv().await {
        message.encode(&mut out);
        while out.len() < MAX_MESSAGE
            && let Ok(message) = said.try_recv()
        {
            message.encode(&mut out);
        }
        bytes.increment(out.len() as u64);
        // The connection is gone: its own task says so.
        if send.write_chunk(out.split().freeze()).await.is_err() {
            break;
        }
    }
    // Never finish it while the connection stands: its end is the connection's.
    peer.conn.closed().await;
}

async fn listen(shared: &Shared, peer: &Peer, mut recv: RecvStream, mut reader: MessageReader) {
    loop {
        loop {
            let message = match reader.poll() {
                Ok(None) => break,
                Ok(Some(message)) => Message::decode(message),
                Err(e) => Err(e),
            };
            match message {
                // Of a newer version, and may be skipped.
                Ok(None) => {}
                Ok(Some(Message::Hello(_))) => {
                    return misbehaves(peer, "a second hello");
                }
                Ok(Some(message)) => {
                    if matches!(message, Message::GoAway { .. }) {
                        peer.leaving.store(true, Ordering::Relaxed);
                        shared.peers.touch();
                    }
                    shared.engine.handle(Input::Control {
                        peer: peer.key,
                        message,
                    });
                }
                Err(e) => return misbehaves(peer, &format!("on the control stream: {e}")),
            }
        }
        match recv.read_chunk(MAX_MESSAGE, true).await {
            Ok(Some(chunk)) => reader.push(&chunk.bytes),
            Ok(None) => return misbehaves(peer, "it ended the control stream"),
            Err(quinn::ReadError::Reset(_)) => {
                return misbehaves(peer, "it reset the control stream");
            }
            Err(_) => return,
        }
    }
}

/// Says to all neighbours that this node will close.
pub(crate) fn say_goodbye(shared: &Shared) {
    let message = Message::GoAway {
        deadline_ms: shared.config.limits.shutdown.as_millis() as u32,
    };
    for peer in shared.peers.all() {
        shared.engine.say(peer.key, message.clone());
    }
}

/// Closes all connections in order.
pub(crate) fn close_all(shared: &Shared) {
    for peer in shared.peers.all() {
        peer.conn.close(close::DONE.into(), b"shutting down");
    }
}
