//! One edge: the node inside it, its listeners, and the order in which they start and stop.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use longspan_proto::ids::{Region, Stream};
use longspan_relay::node::{self, Node};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::{self, Access, Auth, Verb},
    clock::wall_seconds,
    config::{Config, Limits},
    door::Doors,
    gateway::Listener,
    http,
    live::Live,
    messages::{self, Messages},
    metrics::describe,
    publish::{Publication, Publications, Refused},
    rooms::Rooms,
    rtmp_server,
};

/// How often rooms that nobody is in are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// How long sessions may take to end, publishers to give their streams back, before the node
/// under them stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener's address is taken.
    #[error(
        "cannot listen for {what} on {address}/tcp: the port is in use; stop its owner or set another [{what}] listen"
    )]
    InUse {
        /// `http` or `rtmp`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
    },
    /// A listener cannot be made for another reason.
    #[error("cannot listen for {what} on {address}/tcp: {source}")]
    Listen {
        /// `http` or `rtmp`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The keys are not usable.
    #[error(transparent)]
    Auth(#[from] auth::ConfigError),
    /// The node inside cannot start.
    #[error(transparent)]
    Node(#[from] node::BindError),
}

/// What all parts of an edge share.
pub(crate) struct Shared {
    pub(crate) node: node::Handle,
    pub(crate) region: Region,
    pub(crate) http_url: String,
    pub(crate) rtmp_url: String,
    pub(crate) auth: Auth,
    pub(crate) limits: Limits,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) live: Arc<Live>,
    publications: Arc<Publications>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the edge stops.
    pub(crate) stop: CancellationToken,
}

impl Shared {
    /// Takes a stream for a publisher.
    pub(crate) async fn claim(
        &self,
        access: &Access,
        stream: Stream,
        protocol: &'static str,
    ) -> Result<Publication, Refused> {
        self.doors.enter_by_rtmp()?;
        let room = self.rooms.get(&access.room)?;
        let (node, identity) = (&self.node, &access.identity);
        let claimed =
            Publication::claim(node, &self.publications, room, stream, identity, protocol).await;
        claimed.inspect_err(|refused| tracing::info!(%refused, protocol, "publisher refused"))
    }
}

/// A running edge, for whoever is in the same process.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl Handle {
    /// The node inside the edge.
    pub fn node(&self) -> &node::Handle {
        &self.0.node
    }

    /// The edge's rooms.
    pub fn rooms(&self) -> &Arc<Rooms> {
        &self.0.rooms
    }

    /// Who may enter.
    pub fn auth(&self) -> &Auth {
        &self.0.auth
    }

    /// The streams that are watched here.
    pub fn live(&self) -> &Arc<Live> {
        &self.0.live
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }
}

/// An edge whose addresses are bound.
pub struct Edge {
    shared: Arc<Shared>,
    node: Node,
    http: Listener,
    rtmp: Listener,
    addresses: Addresses,
}

/// What an edge listens on, over TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// HTTP.
    pub http: SocketAddr,
    /// RTMP.
    pub rtmp: SocketAddr,
}

impl Edge {
    /// Binds the addresses; nothing is served yet.
    pub async fn bind(config: Config) -> Result<Edge, BindError> {
        describe();
        let Config {
            mut node,
            http,
            rtmp,
            auth,
            limits,
        } = config;
        let auth = Auth::new(&auth)?;
        let connections = (limits.http_connections, limits.rtmp_connections);
        let http = listen("http", http, connections.0, "too_many_http_connections").await?;
        let rtmp = listen("rtmp", rtmp, connections.1, "too_many_rtmp_connections").await?;
        let addresses = Addresses {
            http: http.1,
            rtmp: rtmp.1,
        };
        if node.http_url.is_empty() {
            node.http_url = format!("http://{}", addresses.http);
        }
        if node.rtmp_url.is_empty() {
            node.rtmp_url = format!("rtmp://{}", addresses.rtmp);
        }
        let (http_url, rtmp_url) = (node.http_url.clone(), node.rtmp_url.clone());
        let region = node.region.clone();
        let node = Node::bind(node).await?;
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let rooms = Arc::new(Rooms::new(node.handle(), limits.rooms, limits.linger));
        let doors = Arc::new(Doors::new(node.handle()));
        let live = Live::new(
            node.handle(),
            rooms.clone(),
            limits,
            doors.clone(),
            tasks.clone(),
            stop.clone(),
        );
        let shared = Shared {
            node: node.handle(),
            region,
            http_url,
            rtmp_url,
            auth,
            limits,
            rooms,
            live: Arc::new(live),
            publications: Arc::new(Publications::new(limits.publishers)),
            doors,
            tasks,
            stop,
        };
        Ok(Edge {
            shared: Arc::new(shared),
            node,
            http: http.0,
            rtmp: rtmp.0,
            addresses,
        })
    }

    /// For whoever is in the same process.
    pub fn handle(&self) -> Handle {
        Handle(self.shared.clone())
    }

    /// What it listens on.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown`: then sends members elsewhere, takes no more, ends its sessions, gives streams back, and
    /// stops the node last.
    pub async fn run(self, shutdown: CancellationToken) {
        let Edge {
            shared,
            node,
            http,
            rtmp,
            ..
        } = self;
        let node_stop = CancellationToken::new();
        let node = tokio::spawn(node.run(node_stop.clone()));
        let tasks = shared.tasks.clone();
        let messages = messages(&shared);
        let router = http::router(shared.clone(), messages::router(messages.clone()));
        tasks.spawn(http::serve(shared.clone(), http, router));
        tasks.spawn(rtmp_server::serve(shared.clone(), rtmp));
        tasks.spawn(sweep(shared.clone()));
        let (doors, heeding) = (shared.doors.clone(), messages.clone());
        tokio::select! {
            () = doors.keep() => {}
            () = heeding.heed() => {}
            () = shutdown.cancelled() => {}
        }
        doors.stop();
        messages.leave().await;
        shared.stop.cancel();
        tasks.close();
        if timeout(DRAIN, tasks.wait()).await.is_err() {
            tracing::warn!(left = tasks.len(), "some sessions did not end in time");
        }
        node_stop.cancel();
        if let Err(error) = node.await {
            tracing::error!(%error, "the node did not stop well");
        }
    }
}

/// The room's messages.
fn messages(shared: &Arc<Shared>) -> Arc<Messages> {
    let door = shared.clone();
    Arc::new(Messages::new(
        shared.node.clone(),
        shared.rooms.clone(),
        shared.limits.messages,
        Arc::new(move |token, room| door.auth.admit(token, room, Verb::Join, wall_seconds())),
        shared.doors.clone(),
        shared.tasks.clone(),
        shared.stop.clone(),
    ))
}

async fn listen(
    what: &'static str,
    address: SocketAddr,
    limit: usize,
    over: &'static str,
) -> Result<(Listener, SocketAddr), BindError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::InUse { what, address },
        _ => BindError::Listen {
            what,
            address,
            source,
        },
    };
    let listener = Listener::bind(address, limit, over).await.map_err(failed)?;
    let bound = listener.address().map_err(failed)?;
    Ok((listener, bound))
}

async fn sweep(shared: Arc<Shared>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shared
        .stop
        .run_until_cancelled(ticks.tick())
        .await
        .is_some()
    {
        shared.rooms.sweep(std::time::Instant::now());
    }
}
