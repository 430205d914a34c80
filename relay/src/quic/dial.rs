//! Whom this node dials: the table's neighbours whose names are higher, or, for an edge, the
//! relays it attaches to.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use longspan_proto::{ids::NodeId, wire::Role};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{accept::refuse, hello, limits, peer, refusal::Refusal};
use crate::{
    peers::{Peers, dials},
    shared::Shared,
};

/// Relays an edge holds a session with. A warm standby in another zone is a later issue; the list
/// form stands already.
const ATTACHMENTS: usize = 1;

/// Keeps a task for each neighbour to be dialed, as tables and directories change.
pub(crate) async fn keep_neighbours(
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut directory = shared.directory.subscribe();
    let mut routes = shared.routes.subscribe();
    let mut peers = shared.peers.changes();
    let mut unreachable = shared.unreachable.subscribe();
    let mut dialing: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
    loop {
        let wanted = wanted(&shared);
        for node in &wanted {
            dialing.entry(node.clone()).or_insert_with(|| {
                let stop = stop.child_token();
                tasks.spawn(keep(
                    shared.clone(),
                    tasks.clone(),
                    node.clone(),
                    stop.clone(),
                ));
                stop
            });
        }
        dialing.retain(|node, stop| {
            let keep = wanted.contains(node);
            if !keep {
                stop.cancel();
            }
            keep
        });
        let changed = async {
            tokio::select! {
                _ = directory.changed() => {}
                _ = routes.changed() => {}
                _ = peers.changed() => {}
                _ = unreachable.changed() => {}
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed => {}
        }
    }
}

fn wanted(shared: &Shared) -> BTreeSet<NodeId> {
    let me = (&shared.config.node, shared.config.role);
    let directory = shared.directory.borrow();
    if me.1 == Role::Relay {
        return shared
            .routes
            .borrow()
            .neighbours
            .iter()
            .filter(|node| **node != *me.0 && dials(me, (node, Role::Relay)))
            .cloned()
            .collect();
    }
    let relays: Vec<&NodeId> = directory
        .relays_near(&shared.config.region, shared.config.lat, shared.config.lon)
        .into_iter()
        .map(|relay| &relay.id)
        .collect();
    attachments(&relays, &shared.peers, &shared.unreachable.borrow())
}

/// The first relays, best first, that are neither known to be out of reach nor about to close;
/// what stands in for the best one stays until that is up.
fn attachments(
    relays: &[&NodeId],
    peers: &Peers,
    unreachable: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let mut wanted: BTreeSet<NodeId> = relays
        .iter()
        .filter(|relay| !unreachable.contains(**relay))
        .filter(|relay| !peers.get(relay).is_some_and(|peer| peer.is_leaving()))
        .take(ATTACHMENTS)
        .map(|relay| (*relay).clone())
        .collect();
    // The best one is dialed always, also while a farther one stands in for it.
    wanted.extend(relays.iter().take(ATTACHMENTS).map(|r| (*r).clone()));
    let up = |node: &NodeId| peers.get(node).is_some();
    if !wanted.iter().any(up) {
        wanted.extend(relays.iter().filter(|r| up(r)).map(|r| (*r).clone()));
    }
    wanted
}

/// Dials one neighbour, again and again, until it is not wanted any more.
async fn keep(shared: Arc<Shared>, tasks: TaskTracker, node: NodeId, stop: CancellationToken) {
    let attempts = async {
        let mut pause = limits::REDIAL_FIRST;
        let mut last = String::new();
        for round in 0usize.. {
            // The other end may have dialed, or a connection may stand from before.
            if let Some(peer) = shared.peers.get(&node) {
                let began = Instant::now();
                shared.set_reachable(&node, true);
                last.clear();
                peer.conn.closed().await;
                // An edge does not wait for the next attempt, but looks for another meanwhile.
                shared.set_reachable(&node, false);
                if began.elapsed() >= limits::REDIAL_RESET {
                    pause = limits::REDIAL_FIRST;
                }
            } else if let Err(why) = attempt(&shared, &tasks, &node, round).await {
                shared.set_reachable(&node, false);
                // Once for each change of state, not for each attempt.
                if why != last {
                    tracing::warn!(peer = %node, "cannot connect: {why}");
                    last = why;
                }
            } else {
                continue;
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(limits::REDIAL_MAX);
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = attempts => {}
    }
    leave(&shared, &tasks, node);
}

/// Between half of `pause` and all of it.
pub(crate) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// One attempt; if it takes long, it goes on, but the neighbour counts as out of reach.
async fn attempt(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    node: &NodeId,
    round: usize,
) -> Result<(), String> {
    let mut dialing = pin!(dial(shared, tasks, node, round));
    tokio::select! {
        outcome = &mut dialing => outcome,
        () = tokio::time::sleep(limits::DIAL_PATIENCE) => {
            shared.set_reachable(node, false);
            dialing.await
        }
    }
}

/// One attempt, at the neighbour's addresses in turn.
async fn dial(
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    node: &NodeId,
    round: usize,
) -> Result<(), String> {
    let addresses = shared
        .directory
        .borrow()
        .get(node)
        .map(|info| info.quic.clone())
        .unwrap_or_default();
    let Some(&address) = addresses.get(round % addresses.len().max(1)) else {
        return Err("no address of it is known".into());
    };
    let endpoint = &shared.endpoint;
    let connecting = endpoint
        .quic
        .connect_with(endpoint.client.clone(), address, node)
        .map_err(|e| format!("{address}: {e}"))?;
    let greet = async {
        let conn = connecting.await?;
        let greeted = hello::dialer(&conn, &shared.config, node).await;
        Ok::<_, Refusal>((conn, greeted))
    };
    let failed = |refusal: Refusal| Err(format!("{address}: {refusal}"));
    match tokio::time::timeout(limits::HANDSHAKE, greet).await {
        Ok(Ok((conn, greeted))) => {
            let begun = greeted.and_then(|g| peer::begin(shared, tasks, conn.clone(), g, true));
            begun.or_else(|refusal| {
                refuse(&conn, &refusal);
                failed(refusal)
            })
        }
        Ok(Err(refusal)) => {
            refusal.tell(address);
            failed(refusal)
        }
        Err(_) => {
            let refusal = Refusal::Timeout(limits::HANDSHAKE);
            refusal.tell(address);
            failed(refusal)
        }
    }
}

/// The neighbour is not wanted any more: its tracks get time to move.
fn leave(shared: &Arc<Shared>, tasks: &TaskTracker, node: NodeId) {
    shared.set_reachable(&node, true);
    let Some(peer) = shared.peers.get(&node) else {
        return;
    };
    let shared = shared.clone();
    tasks.spawn(async move {
        tokio::select! {
            _ = peer.conn.closed() => return,
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(limits::UNWANTED) => {}
        }
        if !wanted(&shared).contains(&node) {
            peer.conn
                .close(limits::close::DONE.into(), b"not a neighbour any more");
        }
    });
}
