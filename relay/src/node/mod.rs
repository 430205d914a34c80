//! A running forwarding node: a relay is one, an edge embeds one.
//!
//! ```no_run
//! # async fn example(config: longspan_relay::node::Config) -> Result<(), Box<dyn std::error::Error>> {
//! use longspan_relay::node::Node;
//! let shutdown = tokio_util::sync::CancellationToken::new();
//! let node = Node::bind(config).await?;
//! let handle = node.handle();
//! node.run(shutdown).await;
//! # drop(handle); Ok(()) }
//! ```

pub(crate) mod call;
mod config;
mod directory;
mod handle;
mod media;
mod metrics;
pub(crate) mod room;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use longspan_proto::{ids::NodeId, wire::Role};
use longspan_topology::routes::Routes;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use call::{Call, CallError, CallReceiver, CallSender, IncomingCall};
pub use config::{
    BindError, Config, Fixed, Hooks, Io, Limits, NodeInfo, Nodes, WrapSocket, WrapStream,
};
pub use directory::Directory;
pub use handle::Handle;
pub use longspan_proto::wire::call::{Open as CallOpen, Status as CallStatus, Verb};
pub use media::{Publisher, Subscription};
pub use room::{Claim, ClaimError, RoomView, RoomWatch};

use crate::{
    calls::Served,
    control,
    engine::{Clock, Engine},
    forward::{self, Forwarder},
    peers::Peers,
    probe, quic,
    roomlog::{self, disk::Disk, host::port::Port},
    shared::Shared,
};

/// A node that listens and does nothing yet.
pub struct Node {
    shared: Arc<Shared>,
}

impl Node {
    /// Opens the socket, reads the certificate and the last good table. From here on peers can
    /// connect; they are answered once [`Node::run`] runs.
    pub async fn bind(mut config: Config) -> Result<Node, BindError> {
        let core = Forwarder::new(forward::Config {
            cache: config.cache.clone(),
            retry_for: config.limits.search,
            ..forward::Config::new(config.node.clone(), config.role)
        });
        let engine = Engine::new(core, Clock::new(config.clock_ahead));
        let control = control::Link::new(&config)?;
        let endpoint = quic::bind(&config, engine.clock())?;
        if config.advertise.is_empty() && !endpoint.address.ip().is_unspecified() {
            config.advertise = vec![endpoint.address];
        }
        metrics::describe();
        let groups = open_logs(&config)?;
        let fixed = match config.fixed.clone() {
            Some(fixed) => fixed,
            None => last_good((&config.node, config.role), &control),
        };
        let shared = Arc::new(Shared {
            peers: Peers::new((config.node.clone(), config.role), config.limits.peers),
            served: Served::new(config.limits.waiting_calls),
            rooms: Arc::default(),
            control,
            directory: watch::Sender::new(Arc::new(fixed.directory)),
            routes: watch::Sender::new(Arc::new(fixed.routes)),
            ways: watch::Sender::default(),
            telling: Mutex::new(()),
            reports: watch::Sender::default(),
            unreachable: watch::Sender::new(BTreeSet::new()),
            groups,
            stop: CancellationToken::new(),
            endpoint,
            engine,
            config,
        });
        shared.tell_core();
        tracing::info!(
            node = %shared.config.node,
            address = %shared.endpoint.address,
            "listens"
        );
        Ok(Node { shared })
    }

    /// What an edge builds on; usable at once.
    pub fn handle(&self) -> Handle {
        Handle::new(self.shared.clone())
    }

    /// Runs until `shutdown` is cancelled, then says goodbye and closes every connection, within
    /// [`Limits::shutdown`].
    pub async fn run(self, shutdown: CancellationToken) {
        let shared = self.shared;
        let tasks = TaskTracker::new();
        let stop = shared.stop.clone();
        let work = TaskTracker::new();
        let run = |task| {
            let stop = stop.clone();
            work.spawn(async move {
                let task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>> = task;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = task => {}
                }
            });
        };
        let engine = shared.engine.clone();
        run(Box::pin(async move { engine.keep_time().await }));
        run(Box::pin(quic::accept(
            shared.clone(),
            tasks.clone(),
            stop.clone(),
        )));
        run(Box::pin(quic::keep_neighbours(
            shared.clone(),
            tasks.clone(),
            stop.clone(),
        )));
        run(Box::pin(probe::report(shared.clone())));
        run(Box::pin(probe::keep_needs(shared.clone())));
        run(Box::pin(control::run(shared.clone())));
        run(Box::pin(keep_core_told(shared.clone())));
        run(Box::pin(metrics::keep(shared.clone())));
        if shared.config.role == Role::Relay {
            let handle = Handle::new(shared.clone());
            let groups = shared.groups.clone();
            run(Box::pin(roomlog::service::run(
                handle,
                groups,
                stop.clone(),
            )));
        }

        if let Some(port) = shared.groups.clone() {
            // It ends by itself, with all that was to be written.
            work.spawn(roomlog::host::run(shared.clone(), port));
        }

        shutdown.cancelled().await;
        tracing::info!(node = %shared.config.node, "shuts down");
        if let Some(port) = &shared.groups {
            port.resign();
        }
        quic::say_goodbye(&shared);
        shared.peers.close();
        shared.engine.end_locals("this node is shutting down");
        // One moment for the goodbyes and what is in flight.
        tokio::time::sleep(GOODBYE.min(shared.config.limits.shutdown / 4)).await;
        stop.cancel();
        quic::close_all(&shared);
        let endpoint = &shared.endpoint.quic;
        endpoint.close(quic::limits::close::DONE.into(), b"shutting down");
        tasks.close();
        work.close();
        // What is left of a connection after its close only answers a peer that did not hear of
        // it. On one that is young or dead it lingers for seconds (RFC 9000 §10.2: three times
        // the probe timeout), and the peer knows from the goodbye.
        let lingering = tokio::time::timeout(LINGER, endpoint.wait_idle());
        let closed = async { tokio::join!(tasks.wait(), work.wait(), lingering) };
        if tokio::time::timeout(shared.config.limits.shutdown, closed)
            .await
            .is_err()
        {
            tracing::warn!("connections were cut: they did not close in time");
        }
    }
}

/// The file of a relay's placement groups, if there is a place to keep it.
fn open_logs(config: &Config) -> Result<Option<Arc<Port>>, BindError> {
    let Some(dir) = config
        .data_dir
        .as_ref()
        .filter(|_| config.role == Role::Relay)
    else {
        return Ok(None);
    };
    let path = dir.join("roomlog.redb");
    // 0 says that there is none.
    match Disk::open(&path, rand::random_range(1..=u64::MAX)) {
        Ok(disk) => Ok(Some(Arc::new(Port::new(disk)))),
        Err(source) => Err(BindError::RoomLog { path, source }),
    }
}

/// How long neighbours have to take in a goodbye before the connections close.
const GOODBYE: Duration = Duration::from_millis(100);

/// How long closed connections may answer what still arrives.
const LINGER: Duration = Duration::from_millis(500);

/// The world as it was when this node last ran.
fn last_good(me: (&NodeId, Role), control: &control::Link) -> Fixed {
    let (directory, table) = control.last_good().load();
    let directory = directory.map(Directory::from_control).unwrap_or_default();
    let routes = table
        .map(|table| control::parse(&table, me, &directory, &Routes::default(), None))
        .transpose()
        .unwrap_or_else(|why| {
            tracing::warn!(%why, "the kept table is not used");
            None
        });
    Fixed {
        directory,
        routes: routes.unwrap_or_default(),
    }
}

async fn keep_core_told(shared: Arc<Shared>) {
    let mut routes = shared.routes.subscribe();
    let mut directory = shared.directory.subscribe();
    let mut peers = shared.peers.changes();
    loop {
        shared.tell_core();
        let changed = tokio::select! {
            changed = routes.changed() => changed,
            changed = directory.changed() => changed,
            changed = peers.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use longspan_proto::ids::{BootId, Region, Zone};

    use super::*;

    /// A relay of this name, somewhere.
    pub(crate) fn info(name: &str) -> NodeInfo {
        NodeInfo {
            id: NodeId::new(name).unwrap(),
            role: Role::Relay,
            boot: BootId(1),
            region: Region::new("r").unwrap(),
            zone: Zone::new("r").unwrap(),
            country: String::new(),
            city: String::new(),
            lat: 0.0,
            lon: 0.0,
            quic: Vec::new(),
            http_url: String::new(),
            rtmp_url: String::new(),
            admin_url: String::new(),
            version: String::new(),
            attached: Vec::new(),
            draining: false,
            cordoned: false,
            drain_left: Duration::ZERO,
        }
    }
}
