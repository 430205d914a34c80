//! The neighbours this node is connected to now.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use longspan_proto::{
    ids::{BootId, NodeId, Region},
    time::Time,
    wire::{Role, Stamp},
};
use longspan_topology::link::Need;
use tokio::sync::watch;

use crate::{
    forward::PeerKey,
    probe::Link,
    quic::{limits, packets::Packets},
};

/// One connection, hellos exchanged.
pub(crate) struct Peer {
    pub key: PeerKey,
    pub node: NodeId,
    pub role: Role,
    pub boot: BootId,
    pub region: Region,
    pub conn: quinn::Connection,
    /// By this node.
    pub dialed: bool,
    pub link: Arc<Link>,
    pub since: Time,
    /// It said that it will close.
    pub leaving: AtomicBool,
    /// When a frame, or a word of a call, last crossed the connection, in µs of this node's clock.
    pub carried: AtomicU64,
    /// Tracks would move to it if their neighbour failed.
    pub backup: AtomicBool,
    /// What came over it lately, in bit/s.
    pub received_bps: AtomicU64,
    /// What members of placement groups here have for members there, and the other way.
    pub packets: Packets,
}

/// A link that a frame or a word of a call crossed within this time carries: a group a second, and one
/// late.
const CARRYING_FOR: Duration = Duration::from_secs(2);

impl Peer {
    pub fn carries(&self, now: Time) {
        let before = self.carried.swap(now.as_micros(), Ordering::Relaxed);
        if before == 0 || now.saturating_since(Time::from_micros(before)) >= CARRYING_FOR {
            // It is probed as such from now on.
            self.link.wake();
        }
    }

    /// What its link is needed for.
    pub fn need(&self, now: Time) -> Need {
        let carried = self.carried.load(Ordering::Relaxed);
        let since = now.saturating_since(Time::from_micros(carried));
        if carried != 0 && since < CARRYING_FOR {
            Need::Carrying
        } else if self.backup.load(Ordering::Relaxed) {
            Need::Backup
        } else {
            Need::Idle
        }
    }

    /// How old a frame with this stamp is now, in µs: what it was at the sender's, what this
    /// crossing took beyond the link's quickest, and half the round trip for that one.
    pub fn age(&self, now: Time, stamp: Stamp) -> u64 {
        match self.link.baseline() {
            Some(base) => {
                let beyond = stamp.raw_difference(now, base.raw_us) - base.raw_us;
                beyond.max(0) as u64 + base.rtt_us / 2
            }
            // Before the first probe came back.
            None => self.conn.rtt().as_micros() as u64 / 2,
        }
    }

    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }
}

/// Why a new connection was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The pair has a better one.
    Duplicate,
    /// [`super::node::Limits::peers`] is reached.
    TooMany,
    /// The node is shutting down.
    Closing,
}

/// Which end dials: an edge always; of two relays the lower name.
pub(crate) fn dials(me: (&NodeId, Role), peer: (&NodeId, Role)) -> bool {
    match (me.1, peer.1) {
        (Role::Edge, _) => true,
        (Role::Relay, Role::Edge) => false,
        (Role::Relay, Role::Relay) => me.0 < peer.0,
    }
}

#[derive(Default)]
struct State {
    peers: HashMap<NodeId, Arc<Peer>>,
    closing: bool,
}

/// See the [module](self).
pub(crate) struct Peers {
    me: (NodeId, Role),
    limit: usize,
    state: Mutex<State>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

impl Peers {
    pub fn new(me: (NodeId, Role), limit: usize) -> Peers {
        Peers {
            me,
            limit,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, node: &NodeId) -> Option<Arc<Peer>> {
        self.lock().peers.get(node).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.lock().peers.values().cloned().collect()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a new connection unless the pair has a better one. One of a fresh boot replaces the
    /// one of an earlier boot; otherwise the one dialed by the end that ought to dial wins, and
    /// of two such the newer (its dialer would not have dialed had the older one lived).
    pub fn admit(&self, peer: Arc<Peer>) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closing {
            return Err(Refused::Closing);
        }
        if let Some(old) = state.peers.get(&peer.node) {
            let rightful = |p: &Peer| p.dialed == dials((&self.me.0, self.me.1), (&p.node, p.role));
            let lives = old.conn.close_reason().is_none() && old.boot == peer.boot;
            if lives && rightful(old) && !rightful(&peer) {
                return Err(Refused::Duplicate);
            }
            old.conn.close(
                limits::close::DUPLICATE.into(),
                b"a newer connection took over",
            );
        } else if state.peers.len() >= self.limit {
            return Err(Refused::TooMany);
        }
        state.peers.insert(peer.node.clone(), peer);
        drop(state);
        self.changed.send_modify(|n| *n += 1);
        Ok(())
    }

    /// Forgets a connection, if it is still the pair's.
    pub fn remove(&self, peer: &Peer) {
        let mut state = self.lock();
        if state
            .peers
            .get(&peer.node)
            .is_some_and(|held| held.key == peer.key)
        {
            state.peers.remove(&peer.node);
            drop(state);
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Something about a peer changed that others may care for.
    pub fn touch(&self) {
        self.changed.send_modify(|n| *n += 1);
    }

    /// Takes no more.
    pub fn close(&self) {
        self.lock().closing = true;
        self.changed.send_modify(|n| *n += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_dial_and_of_two_relays_the_lower_name() {
        let (a, b) = (NodeId::new("a").unwrap(), NodeId::new("b").unwrap());
        assert!(dials((&a, Role::Relay), (&b, Role::Relay)));
        assert!(!dials((&b, Role::Relay), (&a, Role::Relay)));
        assert!(dials((&b, Role::Edge), (&a, Role::Relay)));
        assert!(!dials((&a, Role::Relay), (&b, Role::Edge)));
    }
}
