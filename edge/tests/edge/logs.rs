//! Relays that keep a room's log together, an edge beside them, and members with WebSockets.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use longspan_edge::{Config, Edge, Handle, Limits, auth};
use longspan_proto::{
    control::{GroupMember, Groups, PlacementGroup, RoomState},
    ids::{BootId, NodeId, Region, Zone},
    wire::Role,
};
use longspan_relay::{
    node::{self, BindError, Directory, Fixed, Node, NodeInfo},
    tls,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use super::backbone::{PATIENCE, POLL, eventually};

const GROUP: u64 = 9;
const RELAYS: [&str; 3] = ["a", "b", "c"];

pub struct Relay {
    config: node::Config,
    /// It holds the node's socket.
    handle: Option<node::Handle>,
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl Relay {
    async fn new(ca: &Ca, name: &str) -> Relay {
        let dir = tempfile::tempdir().unwrap();
        let mut config = ca.config(name, Role::Relay);
        config.data_dir = Some(dir.path().to_owned());
        let mut relay = Relay {
            config,
            handle: None,
            runtime: None,
            _dir: dir,
        };
        relay.start().await;
        relay
    }

    pub async fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let config = self.config.clone();
        let bind = runtime.spawn(async move {
            loop {
                match Node::bind(config.clone()).await {
                    // Of a predecessor that is not quite gone.
                    Err(BindError::InUse { .. } | BindError::RoomLog { .. }) => {
                        tokio::time::sleep(POLL).await;
                    }
                    bound => break bound.unwrap(),
                }
            }
        });
        let node = tokio::time::timeout(PATIENCE, bind)
            .await
            .expect("it can start")
            .unwrap();
        self.config.listen = node.handle().address();
        self.handle = Some(node.handle());
        runtime.spawn(node.run(CancellationToken::new()));
        self.runtime = Some(runtime);
    }

    /// As if by `kill -9`.
    pub fn kill(&mut self) {
        self.handle = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    fn leads(&self) -> bool {
        let groups = self.handle.as_ref().map(node::Handle::groups);
        groups
            .iter()
            .flatten()
            .any(|group| group.leader == group.number)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Logs {
    pub relays: Vec<Relay>,
    edge: Handle,
    http: SocketAddr,
    edge_address: SocketAddr,
    shutdown: CancellationToken,
}

impl Logs {
    pub async fn new() -> Logs {
        let ca = Ca::new();
        let mut relays = Vec::new();
        for name in RELAYS {
            relays.push(Relay::new(&ca, name).await);
        }
        let mut node = ca.config("edge-1", Role::Edge);
        node.limits.attachments = RELAYS.len();
        let any = ([127, 0, 0, 1], 0).into();
        let auth = auth::Config {
            open: true,
            jwt_keys: Default::default(),
        };
        let edge = Edge::bind(Config {
            node,
            http: any,
            rtmp: any,
            auth,
            limits: Limits::default(),
        });
        let edge = edge.await.unwrap();
        let shutdown = CancellationToken::new();
        let logs = Logs {
            relays,
            edge: edge.handle(),
            http: edge.addresses().http,
            edge_address: edge.handle().node().address(),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(edge.run(shutdown));
        logs.tell_world();
        let members = (1..).zip(&logs.relays).map(|(number, relay)| GroupMember {
            number,
            node: relay.config.node.to_string(),
            disk: relay.handle.as_ref().unwrap().disk(),
        });
        let groups = vec![PlacementGroup {
            id: GROUP,
            era: 1,
            revision: 1,
            members: members.collect(),
            born: vec![1, 2, 3],
            leaving: Vec::new(),
        }];
        for relay in &logs.relays {
            let groups = groups.clone();
            relay
                .handle
                .as_ref()
                .unwrap()
                .tell_groups(Groups { groups });
        }
        logs.leader().await;
        eventually("the edge is attached", || {
            logs.edge.node().attached().len() == RELAYS.len()
        })
        .await;
        logs
    }

    /// Everybody hears of everybody.
    pub fn tell_world(&self) {
        let mut directory = Directory::default();
        for relay in &self.relays {
            let info = info(&relay.config.node, Role::Relay, relay.config.listen);
            directory.nodes.insert(info.id.clone(), info);
        }
        let mut edge = info(self.edge.node().id(), Role::Edge, self.edge_address);
        edge.attached = RELAYS.map(|name| NodeId::new(name).unwrap()).to_vec();
        directory.nodes.insert(edge.id.clone(), edge);
        for relay in &self.relays {
            let mut fixed = Fixed {
                directory: directory.clone(),
                ..Fixed::default()
            };
            let others = self.relays.iter().map(|other| &other.config.node);
            let others = others.filter(|other| **other != relay.config.node);
            fixed.routes.neighbours = others.cloned().collect();
            if let Some(handle) = &relay.handle {
                handle.set_world(fixed);
            }
        }
        self.edge.node().set_world(Fixed {
            directory,
            ..Fixed::default()
        });
    }

    /// The place of the relay that says it leads, once one does.
    pub async fn leader(&self) -> usize {
        eventually("somebody leads", || self.relays.iter().any(Relay::leads)).await;
        self.relays.iter().position(Relay::leads).unwrap()
    }

    /// A member of the room that joined.
    pub async fn join(&self, session: u8) -> Member {
        let url = format!("ws://{}/rooms/math/messages", self.http);
        let mut request = url.into_client_request().unwrap();
        let protocol = "longspan.v1+json".parse().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol);
        let (socket, _) = connect_async(request).await.unwrap();
        let mut member = Member { socket };
        let session = format!("{session:02x}").repeat(16);
        member
            .send(json!({ "t": "hello", "session": session }))
            .await;
        let welcome = async {
            loop {
                // The edge watches the room once somebody is in it.
                self.edge.node().tell_room(RoomState {
                    tenant: "default".into(),
                    room: "math".into(),
                    revision: 1,
                    group: GROUP,
                    members: RELAYS.map(str::to_owned).to_vec(),
                    ..RoomState::default()
                });
                if let Ok(word) = tokio::time::timeout(POLL, member.next()).await
                    && word["t"] == "welcome"
                {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, welcome)
            .await
            .expect("a welcome");
        member
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A member's connection.
pub struct Member {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Member {
    pub async fn send(&mut self, word: Value) {
        self.socket
            .send(Message::text(word.to_string()))
            .await
            .expect("the edge listens");
    }

    pub async fn publish(&mut self, n: u64, class: &str) {
        self.send(json!({ "t": "pub", "n": n, "class": class, "topic": "chat", "body": n }))
            .await;
    }

    /// The next word. Cancel safe.
    pub async fn next(&mut self) -> Value {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => panic!("the edge closed: {frame:?}"),
                Some(Ok(_)) => {}
                other => panic!("the connection broke: {other:?}"),
            }
        }
    }
}

/// What a member heard.
#[derive(Debug, Default)]
pub struct Told {
    /// n and seq.
    pub acked: Vec<(u64, u64)>,
    /// Places, publishers and numbers of ordered messages.
    pub seen: Vec<(u64, String, u64)>,
}

impl Told {
    /// Takes a word in; all but acks and messages are failures here.
    pub fn take(&mut self, word: &Value) {
        match word["t"].as_str() {
            Some("ack") => {
                let n = word["n"].as_u64().unwrap();
                self.acked.push((n, word["seq"].as_u64().unwrap_or(0)));
            }
            Some("ev") => self.event(word),
            Some("evs") => word["evs"]
                .as_array()
                .unwrap()
                .iter()
                .for_each(|ev| self.event(ev)),
            _ => panic!("neither ack nor message: {word}"),
        }
    }

    fn event(&mut self, event: &Value) {
        let Some(seq) = event["seq"].as_u64() else {
            return;
        };
        let from = event["from"].as_str().unwrap_or_default().to_owned();
        self.seen.push((seq, from, event["body"].as_u64().unwrap()));
    }
}

fn info(id: &NodeId, role: Role, address: SocketAddr) -> NodeInfo {
    NodeInfo {
        id: id.clone(),
        role,
        boot: BootId(0),
        region: Region::new("here").unwrap(),
        zone: Zone::new("here").unwrap(),
        country: String::new(),
        city: String::new(),
        lat: 0.0,
        lon: 0.0,
        quic: vec![address],
        http_url: String::new(),
        rtmp_url: String::new(),
        admin_url: String::new(),
        version: String::new(),
        attached: Vec::new(),
        draining: false,
    }
}

/// An operator's certificate authority.
struct Ca {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pem: String,
}

impl Ca {
    fn new() -> Ca {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Ca {
            issuer: rcgen::Issuer::new(params, key),
            pem,
        }
    }

    fn config(&self, name: &str, role: Role) -> node::Config {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let tls = tls::Identity::Pem {
            ca: self.pem.clone(),
            cert: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        };
        let region = Region::new("here").unwrap();
        let any = ([127, 0, 0, 1], 0).into();
        node::Config::new(NodeId::new(name).unwrap(), role, region, any, tls)
    }
}
