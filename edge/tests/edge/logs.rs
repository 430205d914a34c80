//! Relays that keep a room's log together, edges beside them, and members with WebSockets.

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use longspan_edge::{Config, Edge, Handle, Limits, auth};
use longspan_proto::{
    control::{GroupMember, Groups, MoveStatus, Moves, PlacementGroup, RoomMove, RoomState},
    ids::{BootId, Net, NodeId, Region, Zone},
    wire::Role,
};
use longspan_relay::{
    node::{self, BindError, Directory, Fixed, Node, NodeInfo},
    tls,
};
use longspan_topology::routes::{Hop, Path};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};
use tokio_util::sync::CancellationToken;

use super::backbone::{PATIENCE, POLL, eventually};

pub const GROUP: u64 = 9;
/// Another one, of the same relays.
pub const OTHER: u64 = 10;
const RELAYS: [&str; 3] = ["a", "b", "c"];

pub const JSON: &str = "longspan.v1+json";
pub const CBOR: &str = "longspan.v1+cbor";

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

/// A running edge, in a runtime of its own.
pub struct Beside {
    handle: Option<Handle>,
    id: NodeId,
    address: SocketAddr,
    http: SocketAddr,
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Beside {
    async fn start(config: Config) -> Beside {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let edge = runtime.spawn(Edge::bind(config)).await.unwrap().unwrap();
        let handle = edge.handle();
        let shutdown = CancellationToken::new();
        let mut beside = Beside {
            id: handle.node().id().clone(),
            address: handle.node().address(),
            handle: Some(handle),
            http: edge.addresses().http,
            shutdown: shutdown.clone(),
            runtime: None,
        };
        runtime.spawn(edge.run(shutdown));
        beside.runtime = Some(runtime);
        beside
    }

    fn node(&self) -> Option<&node::Handle> {
        self.handle.as_ref().map(Handle::node)
    }

    /// What other edges tell of it.
    pub fn url(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What it answers to a request, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let mut tcp = TcpStream::connect(self.http).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, tcp.read_to_string(&mut answer)).await;
        read.expect("an answer in time").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
        serde_json::from_str(body).expect("JSON")
    }

    /// As an operator stops it.
    pub fn stop(&self) {
        self.shutdown.cancel();
    }

    /// As if by `kill -9`.
    pub fn kill(&mut self) {
        self.handle = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.kill();
    }
}

pub struct Logs {
    pub relays: Vec<Relay>,
    pub edges: Vec<Beside>,
}

impl Logs {
    /// With one edge that everybody may enter. Nobody is told who is there.
    pub async fn new() -> Logs {
        let mut limits = Limits::default();
        limits.messages.presence = false;
        Logs::with(1, true, limits).await
    }

    /// With so many edges, open or with [`SECRET`](super::client::SECRET).
    pub async fn with(edges: usize, open: bool, limits: Limits) -> Logs {
        Logs::of(&[GROUP], edges, open, limits).await
    }

    /// The same, with these groups; the room begins in [`GROUP`].
    pub async fn of(groups: &[u64], edges: usize, open: bool, limits: Limits) -> Logs {
        let ca = Ca::new();
        let mut relays = Vec::new();
        for name in RELAYS {
            relays.push(Relay::new(&ca, name).await);
        }
        let mut logs = Logs {
            relays,
            edges: Vec::new(),
        };
        for at in 1..=edges {
            let mut node = ca.config(&format!("edge-{at}"), Role::Edge);
            node.limits.attachments = RELAYS.len();
            let any = ([127, 0, 0, 1], 0).into();
            let auth = auth::Config {
                open,
                jwt_keys: [("school".to_owned(), super::client::SECRET.to_owned())].into(),
            };
            let edge = Beside::start(Config {
                node,
                http: any,
                rtmp: any,
                auth,
                limits,
            });
            logs.edges.push(edge.await);
        }
        logs.tell_world();
        let members = (1..).zip(&logs.relays).map(|(number, relay)| GroupMember {
            number,
            node: relay.config.node.to_string(),
            disk: relay.handle.as_ref().unwrap().disk(),
        });
        let members: Vec<GroupMember> = members.collect();
        let group = |id: &u64| PlacementGroup {
            id: *id,
            era: 1,
            revision: 1,
            members: members.clone(),
            born: vec![1, 2, 3],
            leaving: Vec::new(),
        };
        let groups: Vec<PlacementGroup> = groups.iter().map(group).collect();
        for relay in &logs.relays {
            let groups = groups.clone();
            relay
                .handle
                .as_ref()
                .unwrap()
                .tell_groups(Groups { groups });
        }
        logs.leader().await;
        eventually("the edges are attached", || {
            let mut nodes = logs.edges.iter().filter_map(Beside::node);
            nodes.all(|node| node.attached().len() == RELAYS.len())
        })
        .await;
        logs
    }

    /// Everybody hears of everybody.
    pub fn tell_world(&self) {
        self.tell_world_with(|_| {});
    }

    /// An operator drains an edge, or does so no more.
    pub fn drain(&self, edge: usize, left: Option<Duration>) {
        self.tell_world_with(|directory| {
            let edge = directory.nodes.get_mut(&self.edges[edge].id);
            let edge = edge.expect("it stands there");
            edge.draining = left.is_some();
            edge.drain_left = left.unwrap_or_default();
        });
    }

    /// Waits until an edge takes newcomers.
    pub async fn let_in(&self, edge: usize) {
        let trying = async {
            while self.try_connect(edge, None, JSON).await.is_err() {
                tokio::time::sleep(POLL).await;
            }
        };
        let let_in = tokio::time::timeout(PATIENCE, trying).await;
        let_in.expect("newcomers are let in");
    }

    fn tell_world_with(&self, change: impl FnOnce(&mut Directory)) {
        let mut directory = Directory::default();
        for relay in &self.relays {
            let info = info(&relay.config.node, Role::Relay, relay.config.listen);
            directory.nodes.insert(info.id.clone(), info);
        }
        for beside in &self.edges {
            let mut edge = info(&beside.id, Role::Edge, beside.address);
            edge.attached = RELAYS.map(|name| NodeId::new(name).unwrap()).to_vec();
            edge.http_url = beside.url();
            directory.nodes.insert(edge.id.clone(), edge);
        }
        change(&mut directory);
        for relay in &self.relays {
            let mut fixed = Fixed {
                directory: directory.clone(),
                ..Fixed::default()
            };
            let others = self.relays.iter().map(|other| &other.config.node);
            let others = others.filter(|other| **other != relay.config.node);
            fixed.routes.neighbours = others.cloned().collect();
            // Groups call each other.
            for other in &fixed.routes.neighbours {
                let hop = Hop {
                    node: other.clone(),
                    net: Net::internet(),
                };
                let path = Path {
                    hops: vec![hop],
                    cost_us: 1_000,
                };
                fixed.routes.paths.insert(other.clone(), vec![path]);
            }
            if let Some(handle) = &relay.handle {
                handle.set_world(fixed);
            }
        }
        for node in self.edges.iter().filter_map(Beside::node) {
            node.set_world(Fixed {
                directory: directory.clone(),
                ..Fixed::default()
            });
        }
    }

    /// The place of the relay that says it leads, once one does.
    pub async fn leader(&self) -> usize {
        eventually("somebody leads", || self.relays.iter().any(Relay::leads)).await;
        self.relays.iter().position(Relay::leads).unwrap()
    }

    /// The room is to be moved, as a controller would say it.
    pub fn move_room(&self, word: u64, from: u64, to: u64) {
        let moves = vec![RoomMove {
            tenant: "default".into(),
            room: "math".into(),
            word,
            from,
            to,
            nodes: RELAYS.map(str::to_owned).to_vec(),
        }];
        for handle in self.relays.iter().filter_map(|relay| relay.handle.as_ref()) {
            let moves = moves.clone();
            handle.tell_moves(Moves { moves });
        }
    }

    /// What relays say of the moves they were told.
    pub fn moves(&self) -> Vec<MoveStatus> {
        let handles = self.relays.iter().filter_map(|relay| relay.handle.as_ref());
        handles.flat_map(node::Handle::moves).collect()
    }

    /// A member of the room that joined.
    pub async fn join(&self, session: u8) -> Member {
        self.join_at(0, session, None, JSON).await.0
    }

    /// A member that joined at that edge, with a token or without; and its welcome.
    pub async fn join_at(
        &self,
        edge: usize,
        session: u8,
        token: Option<&str>,
        protocol: &str,
    ) -> (Member, Value) {
        let hello = json!({ "t": "hello", "session": format!("{session:02x}").repeat(16) });
        let mut member = self.connect(edge, token, protocol).await;
        member.send(hello).await;
        let welcome = self.welcome(edge, &mut member).await;
        (member, welcome)
    }

    /// A connection that has said nothing yet.
    pub async fn connect(&self, edge: usize, token: Option<&str>, protocol: &str) -> Member {
        self.try_connect(edge, token, protocol).await.unwrap()
    }

    /// The same, or what the edge answers instead.
    pub async fn try_connect(
        &self,
        edge: usize,
        token: Option<&str>,
        protocol: &str,
    ) -> Result<Member, Value> {
        let query = token.map_or(String::new(), |token| format!("?token={token}"));
        self.try_connect_with(edge, &query, protocol).await
    }

    /// The same with any query.
    pub async fn try_connect_with(
        &self,
        edge: usize,
        query: &str,
        protocol: &str,
    ) -> Result<Member, Value> {
        let http = self.edges[edge].http;
        let url = format!("ws://{http}/rooms/math/messages{query}");
        let mut request = url.into_client_request().unwrap();
        request
            .headers_mut()
            .insert("sec-websocket-protocol", protocol.parse().unwrap());
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Member {
                socket,
                cbor: protocol == CBOR,
                events: VecDeque::new(),
            }),
            Err(Error::Http(answer)) => {
                Err(serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).unwrap())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for the welcome of whoever said hello.
    pub async fn welcome(&self, edge: usize, member: &mut Member) -> Value {
        let node = self.edges[edge].node().expect("it runs");
        let welcome = async {
            loop {
                // The edge watches the room once somebody is in it.
                node.tell_room(RoomState {
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
                    break word;
                }
            }
        };
        tokio::time::timeout(PATIENCE, welcome)
            .await
            .expect("a welcome")
    }
}

/// A member's connection.
#[derive(Debug)]
pub struct Member {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    cbor: bool,
    /// Events that were heard and not looked at.
    events: VecDeque<Value>,
}

impl Member {
    pub async fn send(&mut self, word: Value) {
        let message = match self.cbor {
            false => Message::text(word.to_string()),
            true => {
                let mut out = Vec::new();
                ciborium::into_writer(&word, &mut out).unwrap();
                Message::binary(out)
            }
        };
        self.send_raw(message).await;
    }

    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the edge listens");
    }

    pub async fn publish(&mut self, n: u64, class: &str) {
        self.send(json!({ "t": "pub", "n": n, "class": class, "topic": "chat", "body": n }))
            .await;
    }

    /// The next word. Cancel safe.
    pub async fn next(&mut self) -> Value {
        match self.next_or_close().await {
            Ok(word) => word,
            Err(close) => panic!("the edge closed: {close:?}"),
        }
    }

    /// The next word, or the code and reason with which the edge closed. Cancel safe.
    pub async fn next_or_close(&mut self) -> Result<Value, Option<(u16, String)>> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) if !self.cbor => {
                    return Ok(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Binary(bytes))) if self.cbor => {
                    return Ok(ciborium::from_reader(&bytes[..]).unwrap());
                }
                Some(Ok(Message::Close(frame))) => {
                    return Err(frame.map(|f| (f.code.into(), f.reason.to_string())));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("in the wrong frame: {other:?}"),
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Keeps events of the room for [`Member::event`]; gives back what is none.
    fn keep(&mut self, word: Value) -> Option<Value> {
        match word["t"].as_str() {
            Some("ev") => self.events.push_back(word),
            Some("evs") => {
                let events = word["evs"].as_array().unwrap();
                self.events.extend(events.iter().cloned());
            }
            _ => return Some(word),
        }
        None
    }

    /// The next word that is not an event of the room.
    pub async fn answer(&mut self) -> Value {
        let answer = async {
            loop {
                let word = self.next().await;
                if let Some(word) = self.keep(word) {
                    return word;
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("an answer")
    }

    /// The next event of the room that is as wanted; one by one also from batches.
    pub async fn event(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let event = async {
            loop {
                while let Some(event) = self.events.pop_front() {
                    if wanted(&event) {
                        return event;
                    }
                }
                let word = self.next().await;
                self.keep(word);
            }
        };
        tokio::time::timeout(PATIENCE, event)
            .await
            .expect("an event as wanted")
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
        cordoned: false,
        drain_left: Duration::ZERO,
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
