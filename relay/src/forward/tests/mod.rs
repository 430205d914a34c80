//! One core among neighbours that are played by the test.

mod downstream;
mod feed;
mod hedge;
mod hostile;
mod life;
mod shed;
mod transmit;
mod turn;
mod upstream;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use longspan_proto::{
    ids::{Generation, NodeId, Room, RoomName, Stream, Tenant, Track, TrackId},
    time::Time,
    wire::{EndReason, Flags, Frame, GroupHeader, Message, Ok, Priority, Role, Start, Subscribe},
};
use longspan_topology::routes::{Hop, Path, Routes};

use super::{
    Config, Forwarder, Input, LocalEvent, LocalKey, Output, PeerKey, StreamKey, Transmit, Trouble,
};

pub(super) fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a slug")
}

pub(super) fn nodes(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|name| node(name)).collect()
}

pub(super) fn track(name: &str) -> TrackId {
    TrackId {
        room: RoomName {
            tenant: Tenant::default_tenant(),
            room: Room::new("room").expect("a name"),
        },
        stream: Stream::new("teacher").expect("a name"),
        track: Track::new(name).expect("a name"),
        generation: Generation::new(0, 1),
    }
}

pub(super) fn frame(priority: Priority, size: usize) -> Frame {
    Frame {
        timestamp: 0,
        flags: Flags::default(),
        priority,
        payload: vec![7; size].into(),
    }
}

/// The core under test, `me`, a relay unless said otherwise.
pub(super) struct Lone {
    pub core: Forwarder,
    pub now: Time,
}

impl Lone {
    pub fn new() -> Lone {
        Lone::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Lone {
        let mut config = Config::new(node("me"), Role::Relay);
        change(&mut config);
        Lone {
            core: Forwarder::new(config),
            now: Time::from_micros(1_000_000),
        }
    }

    pub fn input(&mut self, input: Input) {
        self.core.handle(self.now, input);
    }

    /// A neighbour; `edge…` are edges.
    pub fn peer(&mut self, key: u64, name: &str) -> PeerKey {
        let peer = PeerKey(key);
        let role = match name.starts_with("edge") {
            true => Role::Edge,
            false => Role::Relay,
        };
        self.input(Input::PeerUp {
            peer,
            node: node(name),
            role,
        });
        peer
    }

    pub fn hear(&mut self, peer: PeerKey, message: Message) {
        self.input(Input::Control { peer, message });
    }

    /// A peer subscribes; the last of `crossed` must be its name.
    pub fn asked(&mut self, peer: PeerKey, id: u64, path: &[&str], crossed: &[&str]) {
        self.asked_with(peer, id, path, crossed, Start::Latest, 0);
    }

    pub fn asked_with(
        &mut self,
        peer: PeerKey,
        id: u64,
        path: &[&str],
        crossed: &[&str],
        start: Start,
        budget_ms: u32,
    ) {
        let subscribe = Subscribe {
            id,
            track: track("video"),
            path: nodes(path),
            crossed: nodes(crossed),
            start,
            rate: 0,
            budget_ms,
            ticket: Bytes::new(),
        };
        self.hear(peer, Message::Subscribe(subscribe));
    }

    pub fn ok(&mut self, peer: PeerKey, id: u64, chain: &[&str]) {
        let chain = nodes(chain);
        let first = None;
        self.hear(peer, Message::Ok(Ok { id, chain, first }));
    }

    pub fn publish(&mut self, name: &str) {
        self.input(Input::Publish { track: track(name) });
    }

    pub fn publish_group(&mut self, name: &str, group: u64) {
        self.input(Input::PublishGroup {
            track: track(name),
            group,
            timestamp: 0,
            origin_time: 0,
        });
    }

    pub fn publish_frame(&mut self, name: &str, priority: Priority, size: usize) {
        self.input(Input::PublishFrame {
            track: track(name),
            frame: frame(priority, size),
        });
    }

    pub fn open(&mut self, peer: PeerKey, stream: u64, id: u64, group: u64, first_frame: u64) {
        let header = GroupHeader {
            subscription: id,
            group,
            first_frame,
            timestamp: 0,
            origin_time: 0,
            replay: false,
        };
        self.input(Input::GroupOpened {
            peer,
            stream: StreamKey(stream),
            header,
        });
    }

    pub fn frame(&mut self, peer: PeerKey, stream: u64) {
        self.input(Input::Frame {
            peer,
            stream: StreamKey(stream),
            frame: frame(Priority::VideoDelta, 10),
            age_us: 1_000,
        });
    }

    pub fn finish(&mut self, peer: PeerKey, stream: u64) {
        let stream = StreamKey(stream);
        self.input(Input::GroupFinished { peer, stream });
    }

    pub fn local(&mut self, key: u64, origin: &str) {
        self.input(Input::Subscribe {
            local: LocalKey(key),
            track: track("video"),
            origin: node(origin),
            start: Start::Latest,
            budget_ms: 0,
        });
    }

    /// A table: for each destination the ways there, best first.
    pub fn routes(&mut self, ways: &[&[&str]]) {
        self.routes_with(ways, &[]);
    }

    /// The same with full links, from sender to receiver.
    pub fn routes_with(&mut self, ways: &[&[&str]], full: &[(&str, &str)]) {
        let mut paths: BTreeMap<NodeId, Vec<Path>> = BTreeMap::new();
        for (cost, way) in ways.iter().enumerate() {
            let hops = way.iter().map(|name| Hop {
                node: node(name),
                net: longspan_proto::ids::Net::internet(),
            });
            let to = way.last().expect("a destination");
            paths.entry(node(to)).or_default().push(Path {
                hops: hops.collect(),
                cost_us: cost as u64,
            });
        }
        self.input(Input::Routes(Arc::new(Routes {
            paths,
            full: full.iter().map(|(a, b)| (node(a), node(b))).collect(),
            ..Routes::default()
        })));
    }

    /// Time passes, with everything that becomes due.
    pub fn after(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.core.poll_timeout()
            && at <= until
        {
            self.now = self.now.max(at);
            self.core.handle_timeout(self.now);
        }
        self.now = until;
    }

    pub fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.core.poll_output()).collect()
    }

    /// What was said to peers.
    pub fn said(&mut self) -> Vec<(u64, Message)> {
        let outputs = self.outputs().into_iter();
        outputs
            .filter_map(|output| match output {
                Output::Control { peer, message } => Some((peer.0, message)),
                _ => None,
            })
            .collect()
    }

    /// Whom it subscribed to, with its number and the way beyond.
    pub fn subscribed(&mut self) -> Vec<(u64, u64, Vec<String>, Start)> {
        let said = self.said().into_iter();
        said.filter_map(|(peer, message)| match message {
            Message::Subscribe(s) => {
                let path = s.path.iter().map(ToString::to_string).collect();
                Some((peer, s.id, path, s.start))
            }
            _ => None,
        })
        .collect()
    }

    /// Whom it told an end.
    pub fn ends(&mut self) -> Vec<(u64, u64, EndReason)> {
        let said = self.said().into_iter();
        said.filter_map(|(peer, message)| match message {
            Message::End(end) => Some((peer, end.id, end.reason)),
            _ => None,
        })
        .collect()
    }

    pub fn disconnects(&mut self) -> Vec<String> {
        let outputs = self.outputs().into_iter();
        outputs
            .filter_map(|output| match output {
                Output::Disconnect { reason, .. } => Some(reason),
                _ => None,
            })
            .collect()
    }

    pub fn events(&mut self) -> Vec<LocalEvent> {
        let outputs = self.outputs().into_iter();
        outputs
            .filter_map(|output| match output {
                Output::Local { event, .. } => Some(event),
                _ => None,
            })
            .collect()
    }

    /// Everything that may go to a peer now, in short: `open 3`, `frame 0`, `finish 0`, `reset 0`
    /// (the group, then streams).
    pub fn sent(&mut self, peer: PeerKey) -> Vec<String> {
        let now = self.now;
        std::iter::from_fn(|| self.core.poll_transmit(now, peer))
            .map(|transmit| match transmit {
                Transmit::Open { stream, header, .. } => format!(
                    "open {} as {} from {}{}",
                    header.group,
                    stream.0,
                    header.first_frame,
                    if header.replay { " replay" } else { "" }
                ),
                Transmit::Frame { stream, frame, .. } => format!(
                    "frame {}{}",
                    stream.0,
                    if frame.flags.replay { " replay" } else { "" }
                ),
                Transmit::Finish { stream } => format!("finish {}", stream.0),
                Transmit::Reset { stream } => format!("reset {}", stream.0),
            })
            .collect()
    }
}

/// A relay that has the track confirmed from `up` (its peer 1), wanted by a local consumer.
pub(super) fn fed() -> (Lone, PeerKey) {
    let mut lone = Lone::new();
    let up = lone.peer(1, "up");
    lone.local(1, "up");
    lone.ok(up, 0, &["up"]);
    lone.outputs();
    (lone, up)
}
