//! What the tasks of one node share.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use longspan_proto::{
    control::LinkReport,
    ids::{Net, NodeId},
    wire::Role,
};
use longspan_topology::routes::Routes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    calls::Served,
    control::{Link as ControlLink, derive},
    engine::Engine,
    forward::Input,
    node::{Config, Directory, room::Rooms},
    peers::Peers,
    quic::Endpoint,
    roomlog::host::port::Port,
};

/// See the [module](self).
pub(crate) struct Shared {
    /// As it was given, the advertised addresses filled in.
    pub config: Config,
    pub endpoint: Endpoint,
    pub engine: Arc<Engine>,
    pub peers: Peers,
    pub served: Served,
    pub rooms: Arc<Rooms>,
    pub control: ControlLink,
    pub directory: watch::Sender<Arc<Directory>>,
    /// The table as told.
    pub routes: watch::Sender<Arc<Routes>>,
    /// What the core was given: derived from table, directory and connections.
    pub ways: watch::Sender<Arc<Routes>>,
    /// Held from deriving to telling, so that nothing older is told last.
    pub telling: Mutex<()>,
    pub reports: watch::Sender<Arc<Vec<LinkReport>>>,
    /// Neighbours whose last attempt to be dialed failed.
    pub unreachable: watch::Sender<BTreeSet<NodeId>>,
    /// The placement groups this node has a part in; None: it keeps none.
    pub groups: Option<Arc<Port>>,
    /// Cancelled when the node begins to close.
    pub stop: CancellationToken,
}

impl Shared {
    /// Gives the core what follows from table, directory and connections as they are now.
    pub fn tell_core(&self) {
        let _order = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let connected: Vec<_> = self
            .peers
            .all()
            .into_iter()
            .filter(|peer| peer.role == Role::Relay)
            .map(|peer| {
                let rtt = peer.link.baseline().map_or(0, |base| base.rtt_us);
                (peer.node.clone(), rtt)
            })
            .collect();
        let told = self.routes.borrow().clone();
        let directory = self.directory.borrow().clone();
        let me = (&self.config.node, self.config.role);
        let routes = Arc::new(derive(&told, &directory, me, &connected));
        if **self.ways.borrow() != *routes {
            self.engine.handle(Input::Routes(routes.clone()));
            self.ways.send_replace(routes);
        }
    }

    /// Takes note of how dialing a neighbour went.
    pub fn set_reachable(&self, node: &NodeId, reachable: bool) {
        self.unreachable.send_if_modified(|set| match reachable {
            true => set.remove(node),
            false => set.insert(node.clone()),
        });
    }

    /// The relays this node is connected to, best first; those that will close come last.
    pub fn attached(&self) -> Vec<NodeId> {
        let mut relays: Vec<_> = self.peers.all();
        relays.retain(|peer| peer.role == Role::Relay);
        let directory = self.directory.borrow().clone();
        let near = directory.relays_near(&self.config.region, self.config.lat, self.config.lon);
        let rank = |node: &NodeId| near.iter().position(|relay| relay.id == *node);
        relays.sort_by_key(|peer| {
            let rank = rank(&peer.node).unwrap_or(usize::MAX);
            (peer.is_leaving(), rank, peer.node.clone())
        });
        relays.into_iter().map(|peer| peer.node.clone()).collect()
    }

    /// Bytes this node sends to a neighbour.
    pub fn link_bytes(&self, to: &NodeId, class: &'static str) -> metrics::Counter {
        metrics::counter!(
            "longspan_link_bytes_total",
            "from" => self.config.node.to_string(),
            "to" => to.to_string(),
            "net" => Net::internet().to_string(),
            "class" => class,
        )
    }
}
