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
    node::NodeInfo,
    peers::{Peers, dials},
    shared::Shared,
};

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
    let config = &shared.config;
    let near = directory.relays_near(&config.region, config.lat, config.lon);
    let relays = apart(&near);
    let most = config.limits.attachments;
    attachments(&relays, most, &shared.peers, &shared.unreachable.borrow())
}

/// Relays in the order in which they are attached to: the best, then the best in another zone than
/// that one, then the others.
fn apart<'d>(near: &[&'d NodeInfo]) -> Vec<&'d NodeId> {
    let Some((best, others)) = near.split_first() else {
        return Vec::new();
    };
    let zone = |relay: &&&NodeInfo| relay.zone != best.zone || relay.region != best.region;
    let standby = others.iter().find(zone).copied();
    let rest = others
        .iter()
        .copied()
        .filter(|relay| standby.is_none_or(|standby| standby.id != relay.id));
    let order = [*best].into_iter().chain(standby).chain(rest);
    order.map(|relay| &relay.id).collect()
}

/// The first relays, best first, that are neither known to be out of reach nor about to close;
/// what stands in for the best one stays until that is up.
fn attachments(
    relays: &[&NodeId],
    most: usize,
    peers: &Peers,
    unreachable: &BTreeSet<NodeId>,
) -> BTreeSet<NodeId> {
    let mut wanted: BTreeSet<NodeId> = relays
        .iter()
        .filter(|relay| !unreachable.contains(**relay))
        .filter(|relay| !peers.get(relay).is_some_and(|peer| peer.is_leaving()))
        .take(most)
        .map(|relay| (*relay).clone())
        .collect();
    // The best ones are dialed always, also while farther ones stand in for them.
    wanted.extend(relays.iter().take(most).map(|r| (*r).clone()));
    let up = |node: &NodeId| peers.get(node).is_some_and(|peer| !peer.link.is_down());
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
            let standing = shared.peers.get(&node);
            if let Some(peer) = standing.filter(|peer| !peer.link.is_down()) {
                let began = Instant::now();
                shared.set_reachable(&node, true);
                last.clear();
                tokio::select! {
                    _ = peer.conn.closed() => {}
                    // It is kept, should it heal, but its timers back off: a fresh one beside it
                    // is there sooner.
                    () = peer.link.down() => {}
                }
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
            let most = match shared.peers.get(&node) {
                Some(_) => limits::REDIAL_BESIDE_MAX,
                None => limits::REDIAL_MAX,
            };
            pause = (pause * 2).min(most);
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
    // Beside a connection that is down: the handshake's own timers back off too.
    let patience = match shared.peers.get(node) {
        Some(_) => limits::DIAL_PATIENCE,
        None => limits::HANDSHAKE,
    };
    match tokio::time::timeout(patience, greet).await {
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
            let refusal = Refusal::Timeout(patience);
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

#[cfg(test)]
mod tests {
    use longspan_proto::ids::{Region, Zone};

    use super::*;
    use crate::node::tests::info;

    fn relay(name: &str, region: &str, zone: &str) -> NodeInfo {
        NodeInfo {
            region: Region::new(region).unwrap(),
            zone: Zone::new(zone).unwrap(),
            ..info(name)
        }
    }

    fn order(near: &[NodeInfo]) -> Vec<String> {
        let near: Vec<&NodeInfo> = near.iter().collect();
        apart(&near).into_iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_standby_is_the_nearest_in_another_zone() {
        let near = [
            relay("a", "hk", "hk-1"),
            relay("b", "hk", "hk-1"),
            relay("c", "hk", "hk-2"),
            relay("d", "sg", "sg-1"),
        ];
        assert_eq!(order(&near), ["a", "c", "b", "d"]);
    }

    #[test]
    fn where_all_are_in_one_zone_it_is_the_next_nearest() {
        let near = [relay("a", "hk", "hk-1"), relay("b", "hk", "hk-1")];
        assert_eq!(order(&near), ["a", "b"]);
        assert_eq!(order(&near[..1]), ["a"]);
        assert_eq!(order(&[]), Vec::<String>::new());
    }
}
