//! An edge and what it needs around it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::Stream;
use longspan_edge::{Addresses, Config, Edge, Handle, Limits, auth};
use longspan_proto::{
    control::{
        self, ClaimReply, ClaimRequest, Directory, FromNode, Node, ReleaseReply, ReleaseRequest,
        RoomState, StreamState, ToNode, Welcome, from_node,
        nodes_server::{Nodes, NodesServer},
        to_node,
    },
    ids::{Generation, NodeId, Region},
    wire::Role,
};
use longspan_relay::{node, tls};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Long enough for anything these tests wait for, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at whether something is so.
pub const POLL: Duration = Duration::from_millis(10);

/// Generations and rooms, and nothing else a controller does.
#[derive(Clone, Default)]
pub struct Controller(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    node: Option<Node>,
    sessions: Vec<mpsc::Sender<Result<ToNode, Status>>>,
    generation: u64,
    revision: u64,
    /// Streams by room and name, with their holders' identities.
    streams: HashMap<(String, String), (StreamState, String)>,
}

impl State {
    fn tell_room(&mut self, room: &str) {
        self.revision += 1;
        let streams = self.streams.iter();
        let state = RoomState {
            tenant: "default".to_owned(),
            room: room.to_owned(),
            revision: self.revision,
            streams: streams
                .filter(|((of, _), _)| of == room)
                .map(|(_, (stream, _))| stream.clone())
                .collect(),
            ..RoomState::default()
        };
        self.tell(to_node::Message::Room(state));
    }

    fn tell(&mut self, message: to_node::Message) {
        let message = ToNode {
            message: Some(message),
        };
        self.sessions
            .retain(|session| session.try_send(Ok(message.clone())).is_ok());
    }
}

impl Controller {
    /// A backup of the store is restored in which a stream had generation 1; generations already
    /// given are not given again.
    pub fn restore(&self, room: &str, stream: &str) {
        let mut state = self.0.lock().unwrap();
        let key = (room.to_owned(), stream.to_owned());
        let (stream, _) = state.streams.get_mut(&key).expect("a stream");
        stream.generation = Generation::new(0, 1).0;
        state.tell_room(room);
    }

    /// An operator drains the edge, or does so no more.
    pub fn drain(&self, left: Option<Duration>) {
        let mut state = self.0.lock().unwrap();
        let node = state.node.as_mut().expect("it joined");
        node.draining = left.is_some();
        node.drain_left_ms = left.unwrap_or_default().as_millis() as u32;
        let other = Node {
            id: "other-edge-1".into(),
            role: control::Role::Edge.into(),
            region: "there".into(),
            http_url: OTHER.0.into(),
            rtmp_url: OTHER.1.into(),
            ..Node::default()
        };
        let nodes = [node.clone(), other].into();
        state.tell(to_node::Message::Directory(Directory { nodes }));
    }
}

/// Where another edge is, once this one drains.
pub const OTHER: (&str, &str) = ("http://other", "rtmp://other");

type Told = Pin<Box<dyn Stream<Item = Result<ToNode, Status>> + Send>>;

#[tonic::async_trait]
impl Nodes for Controller {
    type SessionStream = Told;

    async fn session(
        &self,
        request: Request<Streaming<FromNode>>,
    ) -> Result<Response<Told>, Status> {
        let (session, told) = mpsc::channel(1_024);
        let mut heard = request.into_inner();
        let state = self.0.clone();
        tokio::spawn(async move {
            while let Ok(Some(FromNode {
                message: Some(message),
            })) = heard.message().await
            {
                let mut state = state.lock().unwrap();
                match message {
                    from_node::Message::Join(join) => {
                        state.node = join.node;
                        state.sessions.push(session.clone());
                        state.tell(to_node::Message::Welcome(Welcome {
                            session: 1,
                            ttl_ms: 15_000,
                            ..Welcome::default()
                        }));
                        let nodes = state.node.iter().cloned().collect();
                        state.tell(to_node::Message::Directory(Directory { nodes }));
                    }
                    from_node::Message::WatchRoom(watch) => state.tell_room(&watch.room),
                    _ => {}
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(told))))
    }

    async fn claim(&self, request: Request<ClaimRequest>) -> Result<Response<ClaimReply>, Status> {
        let asked = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let key = (asked.room.clone(), asked.stream.clone());
        if let Some((_, holder)) = state.streams.get(&key)
            && *holder != asked.identity
        {
            let message = format!("{} is published by another identity", asked.stream);
            return Err(Status::failed_precondition(message));
        }
        state.generation += 1;
        let generation = Generation::new(0, state.generation).0;
        let hls_base = 1_000 * state.generation;
        let stream = StreamState {
            stream: asked.stream,
            origin: asked.edge,
            generation,
            hls_base,
            claimed_ms: 0,
        };
        state.streams.insert(key, (stream, asked.identity));
        state.tell_room(&asked.room);
        Ok(Response::new(ClaimReply {
            generation,
            hls_base,
        }))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseReply>, Status> {
        let asked = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let key = (asked.room.clone(), asked.stream);
        let current = state.streams.get(&key);
        if current.is_some_and(|(stream, _)| stream.generation == asked.generation) {
            state.streams.remove(&key);
            state.tell_room(&asked.room);
        }
        Ok(Response::new(ReleaseReply {}))
    }
}

/// A running edge, stopped when dropped.
pub struct Backbone {
    pub edge: Handle,
    pub addresses: Addresses,
    pub controller: Controller,
    controller_stop: CancellationToken,
    shutdown: CancellationToken,
}

impl Backbone {
    /// An edge that everybody may enter.
    pub async fn open() -> Backbone {
        Backbone::with(true, Limits::default()).await
    }

    /// An edge that is open or knows [`SECRET`](super::client::SECRET).
    pub async fn with(open: bool, limits: Limits) -> Backbone {
        let controller = Controller::default();
        let controller_stop = CancellationToken::new();
        let mut node = node_config();
        node.controllers = vec![serve(controller.clone(), controller_stop.clone()).await];
        let any = ([127, 0, 0, 1], 0).into();
        let edge = Edge::bind(Config {
            node,
            http: any,
            rtmp: any,
            auth: auth::Config {
                open,
                jwt_keys: [("school".to_owned(), super::client::SECRET.to_owned())].into(),
            },
            limits,
        })
        .await
        .unwrap();
        let (handle, addresses) = (edge.handle(), edge.addresses());
        let shutdown = CancellationToken::new();
        tokio::spawn(edge.run(shutdown.clone()));
        let backbone = Backbone {
            edge: handle,
            addresses,
            controller,
            controller_stop,
            shutdown,
        };
        eventually("the controller's word", || backbone.knows_itself()).await;
        backbone
    }

    fn knows_itself(&self) -> bool {
        let directory = self.edge.node().directory();
        directory.borrow().get(self.edge.node().id()).is_some()
    }

    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    pub fn rtmp(&self, key: &str) -> String {
        format!("rtmp://{}/live/{key}", self.addresses.rtmp)
    }

    /// The controller goes away.
    pub fn stop_controller(&self) {
        self.controller_stop.cancel();
    }
}

impl Drop for Backbone {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.controller_stop.cancel();
    }
}

/// Waits until something is so.
pub async fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let waiting = async {
        while !is() {
            tokio::time::sleep(POLL).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "waited too long for {what}");
}

/// In a runtime of its own: when that stops, so do its connections.
async fn serve(controller: Controller, stop: CancellationToken) -> String {
    let (tell, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            tell.send(listener.local_addr().unwrap()).unwrap();
            let server = tonic::transport::Server::builder()
                .add_service(NodesServer::new(controller))
                .serve_with_incoming(TcpListenerStream::new(listener));
            stop.run_until_cancelled(server).await
        });
        runtime.shutdown_background();
    });
    format!("http://{}", told.await.unwrap())
}

pub fn node_config() -> node::Config {
    let id = NodeId::new("here-edge-1").unwrap();
    let region = Region::new("here").unwrap();
    let any = ([127, 0, 0, 1], 0).into();
    let tls = identity(&id);
    node::Config::new(id, Role::Edge, region, any, tls)
}

fn identity(node: &NodeId) -> tls::Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).unwrap().pem();
    let ca = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![node.to_string()]).unwrap();
    tls::Identity::Pem {
        ca: ca_pem,
        cert: params.signed_by(&key, &ca).unwrap().pem(),
        key: key.serialize_pem(),
    }
}
