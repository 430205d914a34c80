//! Calls of this node's own.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use longspan_proto::{
    ids::NodeId,
    wire::call::{Open, Reply, Status},
};
use longspan_topology::link::Life;
use quinn::{RecvStream, SendStream};

use super::OPENING;
use crate::{
    node::{
        Call, CallError,
        call::{Crossed, Ends},
    },
    peers::Peer,
    shared::Shared,
};

/// The reply comes within a few round trips, whatever the path.
const REPLY: Duration = Duration::from_secs(10);

/// Opens a call over the first way whose first node is connected and that leads there.
pub(crate) async fn open(
    shared: &Shared,
    to: &NodeId,
    open: Open,
    ways: Vec<Vec<NodeId>>,
) -> Result<Call, CallError> {
    let mut last = CallError::Unreachable {
        node: to.clone(),
        why: "no way is known".into(),
    };
    for way in by_health(shared, ways) {
        let Some((first, path)) = way.split_first() else {
            continue;
        };
        let peer = match usable(shared, first) {
            Ok(peer) => peer,
            Err(why) => {
                let node = to.clone();
                last = CallError::Unreachable { node, why };
                continue;
            }
        };
        let open = Open {
            path: path.to_vec(),
            crossed: vec![shared.config.node.clone()],
            ..open.clone()
        };
        let attempt = async {
            let (send, recv) = begin(&peer, &open).await?;
            let crossed = Crossed::new(&peer, shared.engine.clock());
            greeted(to, Ends::quic(send, recv, crossed)).await
        };
        match attempt.await {
            Err(
                error @ (CallError::Unreachable { .. }
                | CallError::Broken(_)
                | CallError::Timeout { .. }
                | CallError::Refused {
                    status: Status::Unreachable,
                    ..
                }),
            ) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// The connection to a neighbour, if its link is not down; why not.
pub(super) fn usable(shared: &Shared, node: &NodeId) -> Result<Arc<Peer>, String> {
    match shared.peers.get(node) {
        None => Err(format!("{} is not connected to {node}", shared.config.node)),
        Some(peer) if peer.link.is_down() => Err(format!("the link to {node} is down")),
        Some(peer) => Ok(peer),
    }
}

/// Ways over suspected links come last.
fn by_health(shared: &Shared, mut ways: Vec<Vec<NodeId>>) -> Vec<Vec<NodeId>> {
    let suspected = |way: &Vec<NodeId>| {
        let peer = way.first().and_then(|first| shared.peers.get(first));
        peer.is_some_and(|peer| peer.link.measured().life != Life::Up)
    };
    ways.sort_by_cached_key(suspected);
    ways
}

/// A stream to a neighbour with the opening on it.
pub(super) async fn begin(peer: &Peer, open: &Open) -> Result<(SendStream, RecvStream), CallError> {
    let broken = |e: &dyn std::fmt::Display| CallError::Broken(e.to_string());
    let opening = tokio::time::timeout(OPENING, peer.conn.open_bi());
    let opened = tokio::select! {
        opened = opening => opened,
        () = peer.link.down() => {
            return Err(CallError::Broken(format!("the link to {} is down", peer.node)));
        }
    };
    let (mut send, recv) = opened
        .map_err(|_| CallError::Broken(format!("{} takes no more calls at present", peer.node)))?
        .map_err(|e| broken(&e))?;
    let mut out = BytesMut::new();
    open.encode(&mut out);
    send.write_chunk(out.freeze())
        .await
        .map_err(|e| broken(&e))?;
    Ok((send, recv))
}

/// Waits for the callee's reply.
pub(super) async fn greeted(to: &NodeId, ends: Ends) -> Result<Call, CallError> {
    let mut call = Call::new(ends);
    let reply = tokio::time::timeout(REPLY, call.recv())
        .await
        .map_err(|_| CallError::Timeout {
            node: to.clone(),
            after: REPLY,
        })??
        .ok_or_else(|| CallError::Broken("it ended before the reply".into()))?;
    match Reply::decode(reply).map_err(|e| CallError::Broken(e.to_string()))? {
        Reply::Accepted => Ok(call),
        Reply::Refused { status, message } => Err(CallError::Refused {
            node: to.clone(),
            status,
            message,
        }),
    }
}
