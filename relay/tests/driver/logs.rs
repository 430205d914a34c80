//! A world of relays that keep room logs together, each in a runtime of its own so that it can be
//! killed and stopped, and a client of theirs.

use std::{sync::mpsc, time::Duration};

use bytes::{Bytes, BytesMut};
use longspan_proto::{
    control::{GroupMember, GroupStatus, Groups, PlacementGroup},
    ids::{Generation, NodeId, SessionId, Stream, Track, TrackId},
    wire::{
        Start,
        envelope::{Class, Envelope},
        room::{Answer, Lead, Part, Request},
    },
};
use longspan_relay::{
    forward::LocalEvent,
    node::{
        BindError, Call, CallError, CallOpen, CallStatus, Config, Directory, Fixed, Handle, Node,
        Verb,
    },
    roomlog::{Snapshot, position},
};
use longspan_topology::routes::{Hop, Path, Routes, Version};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::world::{Ca, PATIENCE, config, eventually, id, info, room, soon};

pub const GROUP: u64 = 9;

pub struct Relay {
    /// It holds the node's socket.
    handle: Option<Handle>,
    config: Config,
    runtime: Option<Runtime>,
    /// Continues what was stopped.
    go_on: Option<mpsc::Sender<()>>,
    _dir: TempDir,
}

impl Relay {
    pub async fn start(mut config: Config) -> Relay {
        let dir = tempfile::tempdir().unwrap();
        config.data_dir = Some(dir.path().to_owned());
        let (handle, runtime) = run(config.clone()).await;
        config.listen = handle.address();
        Relay {
            handle: Some(handle),
            config,
            runtime: Some(runtime),
            go_on: None,
            _dir: dir,
        }
    }

    /// As if by `kill -9`.
    pub fn kill(&mut self) {
        self.go_on();
        self.handle = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub async fn restart(&mut self) {
        assert!(self.runtime.is_none());
        let (handle, runtime) = run(self.config.clone()).await;
        self.handle = Some(handle);
        self.runtime = Some(runtime);
    }

    /// Its disk is lost.
    pub fn lose_disk(&self) {
        assert!(self.runtime.is_none());
        let file = self.config.data_dir.as_ref().unwrap().join("roomlog.redb");
        std::fs::remove_file(file).unwrap();
    }

    /// As if by `SIGSTOP`: its one thread does nothing more.
    pub fn stop(&mut self) {
        let (go_on, wait) = mpsc::channel();
        self.go_on = Some(go_on);
        let runtime = self.runtime.as_ref().unwrap();
        runtime.spawn(async move {
            let _ = wait.recv();
        });
    }

    pub fn go_on(&mut self) {
        self.go_on = None;
    }

    pub fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("it runs")
    }

    pub fn name(&self) -> &NodeId {
        &self.config.node
    }

    pub fn status(&self) -> Option<GroupStatus> {
        self.handle()
            .groups()
            .into_iter()
            .find(|status| status.id == GROUP)
    }

    pub fn member(&self, number: u64) -> GroupMember {
        GroupMember {
            number,
            node: self.handle().id().to_string(),
            disk: self.handle().disk(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn run(config: Config) -> (Handle, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let bind = async {
        loop {
            match Node::bind(config.clone()).await {
                // Of a predecessor that is not quite gone.
                Err(BindError::InUse { .. } | BindError::RoomLog { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                bound => break bound.unwrap(),
            }
        }
    };
    let node = async {
        tokio::time::timeout(PATIENCE, bind)
            .await
            .expect("it can start")
    };
    let (give, given) = tokio::sync::oneshot::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| runtime.block_on(async { drop(give.send(node.await)) }));
    });
    let node = given.await.unwrap();
    let handle = node.handle();
    runtime.spawn(node.run(tokio_util::sync::CancellationToken::new()));
    (handle, runtime)
}

/// Relays that are all neighbours of each other, and an edge attached to all of them.
pub struct Logs {
    pub ca: Ca,
    pub relays: Vec<Relay>,
    pub edge: Relay,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

impl Logs {
    /// So many relays; the first three are born members 1, 2 and 3 of the group.
    pub async fn new(relays: usize) -> Logs {
        let ca = Ca::new();
        let mut world = Vec::new();
        for name in &NAMES[..relays] {
            world.push(Relay::start(config(name, ca.identity(name))).await);
        }
        let mut edge = config("edge-1", ca.identity("edge-1"));
        edge.limits.attachments = relays;
        let edge = Relay::start(edge).await;
        let logs = Logs {
            ca,
            relays: world,
            edge,
        };
        logs.tell_world();
        logs.tell(&logs.born());
        logs
    }

    pub fn born(&self) -> PlacementGroup {
        PlacementGroup {
            id: GROUP,
            era: 1,
            revision: 1,
            members: (0..3)
                .map(|at| self.relays[at].member(at as u64 + 1))
                .collect(),
            born: vec![1, 2, 3],
            leaving: Vec::new(),
        }
    }

    /// Everybody hears of everybody, as from a controller.
    pub fn tell_world(&self) {
        self.tell_world_with(None);
    }

    /// The same; one of them is taken out of service.
    pub fn tell_world_with(&self, draining: Option<usize>) {
        let names: Vec<&str> = NAMES[..self.relays.len()].to_vec();
        let mut directory = Directory::default();
        for (at, relay) in self.relays.iter().enumerate() {
            let mut info = info(relay.name().as_str(), relay.config.listen);
            info.draining = draining == Some(at);
            directory.nodes.insert(info.id.clone(), info);
        }
        let mut edge = info("edge-1", self.edge.config.listen);
        edge.attached = names.iter().map(|name| id(name)).collect();
        directory.nodes.insert(edge.id.clone(), edge);
        for node in self.relays.iter().chain([&self.edge]) {
            let others = names.iter().filter(|name| **name != node.name().as_str());
            let mut routes = Routes {
                version: Version {
                    era: 0,
                    election: 1,
                    n: 1,
                },
                ..Routes::default()
            };
            for name in others {
                let hop = Hop {
                    node: id(name),
                    net: longspan_proto::ids::Net::internet(),
                };
                routes.neighbours.push(id(name));
                let path = Path {
                    hops: vec![hop],
                    cost_us: 1_000,
                };
                routes.paths.insert(id(name), vec![path]);
            }
            let Some(handle) = &node.handle else {
                continue;
            };
            handle.set_world(Fixed {
                directory: directory.clone(),
                routes,
            });
        }
    }

    pub fn tell(&self, record: &PlacementGroup) {
        for relay in &self.relays {
            let groups = vec![record.clone()];
            if let Some(handle) = &relay.handle {
                handle.tell_groups(Groups { groups });
            }
        }
    }

    /// The place of the relay that says it leads, once one does.
    pub async fn leader(&self) -> usize {
        let leads = |relay: &Relay| {
            relay.runtime.is_some()
                && relay.go_on.is_none()
                && relay
                    .status()
                    .is_some_and(|s| s.leader == s.number && s.halted.is_empty())
        };
        eventually("somebody leads", || self.relays.iter().any(leads)).await;
        self.relays.iter().position(leads).unwrap()
    }

    pub fn client(&self, session: u8) -> Client {
        Client {
            handle: self.edge.handle().clone(),
            nodes: self
                .relays
                .iter()
                .map(|relay| relay.name().clone())
                .collect(),
            session: SessionId([session; 16]),
            n: 0,
            acked: Vec::new(),
            call: None,
        }
    }
}

/// Publishes and reads, wherever the leader is.
pub struct Client {
    pub handle: Handle,
    nodes: Vec<NodeId>,
    session: SessionId,
    n: u64,
    /// n and seq.
    pub acked: Vec<(u64, u64)>,
    call: Option<Leading>,
}

pub struct Leading {
    pub node: NodeId,
    pub generation: Generation,
    pub call: Call,
}

pub fn open(verb: Verb) -> CallOpen {
    CallOpen {
        verb,
        path: Vec::new(),
        crossed: Vec::new(),
        room: room(),
        generation: Generation::default(),
        ticket: Bytes::new(),
        group: GROUP,
    }
}

impl Client {
    pub fn message(&self, n: u64, body: &str) -> Envelope {
        Envelope {
            room: room(),
            session: self.session,
            n,
            class: Class::Log,
            topic: "chat".into(),
            key: None,
            expected: None,
            revision: 0,
            from: "m".into(),
            recipient: None,
            at: 0,
            seq: 0,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    /// A call to the leader, whoever it is.
    pub async fn reach(&self, verb: Verb) -> Leading {
        let look = async {
            let mut next = 0;
            loop {
                let node = self.nodes[next % self.nodes.len()].clone();
                next += 1;
                let calling = self.handle.call(&node, open(verb));
                let called = tokio::time::timeout(Duration::from_millis(500), calling).await;
                match called {
                    Ok(Ok(mut call)) => {
                        let first = tokio::time::timeout(Duration::from_millis(500), call.recv());
                        if let Ok(Ok(Some(first))) = first.await
                            && let Some(Lead::Under { generation, .. }) =
                                Lead::decode(first).unwrap()
                        {
                            return Leading {
                                node,
                                generation,
                                call,
                            };
                        }
                    }
                    Ok(Err(CallError::Refused {
                        status: CallStatus::Elsewhere,
                        message,
                        ..
                    })) if !message.is_empty() => {
                        next = self
                            .nodes
                            .iter()
                            .position(|n| n.as_str() == message)
                            .unwrap();
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        soon("a leader that takes the call", look).await
    }

    /// Publishes the next message and waits for its ack, sending it again as often as needed.
    pub async fn publish(&mut self, body: &str) -> u64 {
        self.n += 1;
        let message = self.message(self.n, body);
        let seq = soon("an ack", self.send(message)).await;
        self.acked.push((self.n, seq));
        seq
    }

    /// Sets a key of the state to so many bytes, on behalf of a member.
    pub async fn put(&mut self, from: &str, key: &str, bytes: usize) -> u64 {
        self.n += 1;
        let message = Envelope {
            class: Class::State,
            from: from.into(),
            key: Some(key.into()),
            body: vec![b'x'; bytes].into(),
            ..self.message(self.n, "")
        };
        let seq = soon("an ack", self.send(message)).await;
        self.acked.push((self.n, seq));
        seq
    }

    /// Says something that has no place in the order.
    pub async fn whisper(&mut self) {
        self.n += 1;
        let message = Envelope {
            class: Class::Ephemeral,
            ..self.message(self.n, "psst")
        };
        assert_eq!(soon("an ack", self.send(message)).await, 0);
    }

    async fn send(&mut self, message: Envelope) -> u64 {
        let mut out = BytesMut::new();
        Request::Publish(message).encode(&mut out);
        let request = out.freeze();
        loop {
            let leading = match &mut self.call {
                Some(leading) => leading,
                none => {
                    let leading = Client {
                        handle: self.handle.clone(),
                        nodes: self.nodes.clone(),
                        session: self.session,
                        n: 0,
                        acked: Vec::new(),
                        call: None,
                    };
                    none.insert(leading.reach(Verb::Publish).await)
                }
            };
            let asked = async {
                leading.call.send(request.clone()).await.ok()?;
                let answer = leading.call.recv().await.ok()??;
                match Lead::decode(answer.clone()).unwrap() {
                    Some(_) => None,
                    None => Some(Answer::decode(answer).unwrap()),
                }
            };
            // A leader that hears nobody else does not answer: another one is asked.
            let answer = tokio::time::timeout(Duration::from_secs(1), asked).await;
            match answer {
                Ok(Some(Answer::Acked { seq, .. })) => return seq,
                Ok(Some(other)) => panic!("not acked: {other:?}"),
                _ => self.call = None,
            }
        }
    }

    /// The room's state as the leader tells it.
    pub async fn state(&self) -> (NodeId, Generation, Snapshot) {
        let read = async {
            loop {
                let mut leading = self.reach(Verb::State).await;
                if let Some(state) = read_state(&mut leading.call).await {
                    return (leading.node, leading.generation, state);
                }
            }
        };
        soon("the state", read).await
    }

    /// Everything that was acked is there, once, in the order of numbers; what is retained.
    pub async fn check(&self) -> Snapshot {
        let (_, _, state) = self.state().await;
        let mine: Vec<(u64, u64)> = state
            .history
            .iter()
            .filter(|message| message.session == self.session)
            .map(|message| (message.n, message.seq))
            .collect();
        assert_eq!(mine, self.acked);
        state
    }

    /// What the leader's track tells from `seq` on, `count` messages of it.
    pub async fn follow(&self, seq: u64, count: usize) -> Vec<Envelope> {
        let leading = self.reach(Verb::State).await;
        let track = TrackId {
            room: room(),
            stream: Stream::room(),
            track: Track::log(),
            generation: leading.generation,
        };
        let start = Start::At(position(seq));
        let mut log = self
            .handle
            .subscribe(track, leading.node, start, Duration::ZERO);
        let mut got = Vec::new();
        while got.len() < count {
            match soon("a frame of the log", log.next()).await {
                Some(LocalEvent::Frame { frame, .. }) => {
                    got.push(Envelope::decode(frame.payload).unwrap());
                }
                Some(LocalEvent::End { reason, message }) => panic!("{reason:?} {message}"),
                Some(_) => {}
                None => panic!("the log ended"),
            }
        }
        got
    }
}

async fn read_state(call: &mut Call) -> Option<Snapshot> {
    let mut state = Snapshot::default();
    loop {
        let part = call.recv().await.ok()??;
        if Lead::decode(part.clone()).unwrap().is_some() {
            return None;
        }
        match Part::decode(part).unwrap() {
            Part::Begin { seq, at } => (state.seq, state.at) = (seq, at),
            Part::Keys(keys) => state.keys.extend(keys),
            Part::History(history) => state.history.extend(history),
            Part::End => return Some(state),
        }
    }
}
