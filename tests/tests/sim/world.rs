//! The cores, joined by modelled connections, under virtual time.
//!
//! A direction of a connection is a pipe of fixed capacity and delay. What is sent on it arrives
//! in order on each lane (the control stream is one, each group's stream another), but lanes may
//! overtake each other by a jitter: as in QUIC after a loss. A core is asked for more only while
//! little is unsent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet},
    time::Duration,
};

use longspan_proto::{
    ids::{Generation, NodeId, Room, RoomName, Stream, Tenant, Track, TrackId},
    time::Time,
    wire::{Flags, Frame, GroupHeader, Message, Priority, Role, Start},
};
use longspan_relay::forward::{
    Config, Forwarder, Input, LocalKey, Output, PeerKey, Stats, StreamKey, Transmit,
};
use longspan_topology::link::{self, Life};

use super::{
    Dice, check,
    consumer::{Consumer, payload},
    graph::Graph,
};

/// Bytes of a group's header, an end, a control message.
const SMALL: usize = 40;
/// How much may be unsent before a core is asked for more.
const UNSENT: Duration = Duration::from_millis(5);
/// A publisher's frames: five a second, a group each second.
pub const FRAME_EVERY: Duration = Duration::from_millis(200);
const FRAMES: u64 = 5;

/// More events than this at one instant are a core that asks to be woken for nothing.
const MOST_AT_ONCE: u64 = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Lane {
    Control,
    Group(StreamKey),
}

#[derive(Debug)]
enum Item {
    Control(Message),
    Open(GroupHeader),
    Frame(Frame, u64, Time),
    Finish,
    Reset,
}

#[derive(Debug)]
enum Event {
    Deliver(usize, usize, Lane, Box<Item>),
    Pull(usize, PeerKey),
    Wake(usize),
    Up(usize),
    Resets(usize, usize),
    Down(usize, usize),
    Produce(usize),
    Return(usize),
}

#[derive(Debug, Default)]
struct Direction {
    busy: Time,
    lanes: HashMap<Lane, Time>,
    pulling: bool,
    /// Streams the sender reset: what is in flight of them is lost.
    reset: HashSet<StreamKey>,
    /// Streams the receiver has open.
    open: BTreeSet<StreamKey>,
    /// Streams the sender has open, with their subscription.
    pub sent: HashMap<StreamKey, u64>,
    lost: bool,
}

#[derive(Debug)]
struct Connection {
    link: usize,
    /// Node and its number for it, a's side first.
    ends: [(usize, PeerKey); 2],
    known: [bool; 2],
    directions: [Direction; 2],
}

pub struct Node {
    pub core: Option<Forwarder>,
    boot: u64,
    next_peer: u64,
    conns: BTreeMap<PeerKey, usize>,
    wake: Option<Time>,
}

/// A stream that some edge publishes, in ever newer generations.
pub struct Slot {
    pub edge: usize,
    pub generation: u64,
    pub live: bool,
    pub catalog: bool,
    next: (u64, u64),
}

/// What a viewer wants, over ends and generations.
pub struct Viewer {
    pub node: usize,
    pub slot: usize,
    pub budget_ms: u32,
    pub key: Option<LocalKey>,
    pub seen: Consumer,
    pub gone: bool,
    pub returns: u64,
}

pub struct World {
    pub now: Time,
    pub graph: Graph,
    pub dice: Dice,
    pub nodes: Vec<Node>,
    pub slots: Vec<Slot>,
    pub viewers: Vec<Viewer>,
    /// The frames of every group that was ever published.
    pub truth: HashMap<TrackId, BTreeMap<u64, u64>>,
    pub config: fn(NodeId, Role) -> Config,
    /// Bits per second of every direction.
    pub rate: u64,
    pub jitter_us: u64,
    pub frame_size: usize,
    conns: Vec<Connection>,
    links: Vec<Option<usize>>,
    events: BinaryHeap<Reverse<(Time, u64)>>,
    due: HashMap<u64, Event>,
    next_event: u64,
    next_local: u64,
    /// Events since the clock last moved.
    at_once: u64,
    tables: u64,
    pub checked: check::Checked,
    pub trace: bool,
}

impl World {
    pub fn new(graph: Graph, dice: Dice, config: fn(NodeId, Role) -> Config) -> World {
        let nodes = (0..graph.names.len()).map(|_| Node {
            core: None,
            boot: 0,
            next_peer: 0,
            conns: BTreeMap::new(),
            wake: None,
        });
        let mut world = World {
            now: Time::from_micros(1_000_000),
            nodes: nodes.collect(),
            links: vec![None; graph.links.len()],
            graph,
            dice,
            slots: Vec::new(),
            viewers: Vec::new(),
            truth: HashMap::new(),
            config,
            rate: 50_000_000,
            jitter_us: 0,
            frame_size: 1_000,
            conns: Vec::new(),
            events: BinaryHeap::new(),
            due: HashMap::new(),
            next_event: 0,
            next_local: 0,
            at_once: 0,
            tables: 0,
            checked: check::Checked::default(),
            trace: std::env::var_os("SIM_TRACE").is_some(),
        };
        for node in 0..world.nodes.len() {
            world.boot(node);
        }
        world.tables(&|_, _| 100);
        world
    }

    pub fn alive(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    fn log(&self, what: std::fmt::Arguments<'_>) {
        if self.trace {
            eprintln!("{:?} {what}", self.now);
        }
    }

    fn schedule(&mut self, at: Time, event: Event) {
        let n = self.next_event;
        self.next_event += 1;
        self.events.push(Reverse((at, n)));
        self.due.insert(n, event);
    }

    /// Runs for so long.
    pub fn run(&mut self, for_: Duration) {
        let until = self.now + for_;
        while let Some(Reverse((at, n))) = self.events.peek().copied()
            && at <= until
        {
            self.events.pop();
            self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
            assert!(self.at_once < MOST_AT_ONCE, "something spins");
            self.now = at;
            if let Some(event) = self.due.remove(&n) {
                self.happen(event);
            }
        }
        self.now = until;
        check::cores(self);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(conn, side, lane, item) => self.deliver(conn, side, lane, *item),
            Event::Pull(node, peer) => {
                if let Some(conn) = self.nodes[node].conns.get(&peer).copied() {
                    let side = self.side(conn, node);
                    self.conns[conn].directions[side].pulling = false;
                    self.pull(node, peer);
                }
            }
            Event::Wake(node) => {
                self.nodes[node].wake = None;
                let now = self.now;
                if let Some(core) = &mut self.nodes[node].core {
                    core.handle_timeout(now);
                    self.drain(node);
                }
            }
            Event::Up(conn) => self.up(conn),
            Event::Resets(conn, side) => self.resets(conn, side),
            Event::Down(conn, side) => self.down(conn, side),
            Event::Produce(slot) => self.produce(slot),
            Event::Return(viewer) => self.come_back(viewer),
        }
    }

    // Nodes.

    fn boot(&mut self, node: usize) {
        let role = match self.graph.is_edge(node) {
            true => Role::Edge,
            false => Role::Relay,
        };
        let config = (self.config)(self.graph.names[node].clone(), role);
        self.nodes[node].core = Some(Forwarder::new(config));
        self.nodes[node].boot += 1;
        for link in 0..self.graph.links.len() {
            self.connect(link);
        }
    }

    /// The process dies; nobody is told but by silence.
    pub fn kill(&mut self, node: usize) {
        self.log(format_args!("kill {}", self.graph.names[node]));
        if self.nodes[node].core.take().is_none() {
            return;
        }
        self.nodes[node].conns.clear();
        for slot in 0..self.slots.len() {
            if self.slots[slot].edge == node {
                self.slots[slot].live = false;
            }
        }
        for viewer in &mut self.viewers {
            if viewer.node == node {
                viewer.key = None;
                viewer.gone = true;
            }
        }
        for link in 0..self.graph.links.len() {
            let ends = &self.graph.links[link];
            if ends.a == node || ends.b == node {
                self.disconnect(link);
            }
        }
    }

    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].core.is_none() {
            self.log(format_args!("restart {}", self.graph.names[node]));
            self.boot(node);
            self.table_of(node, &|_| 100);
        }
    }

    /// Tells every node its table. `weight(node, link)` in percent falsifies its view.
    pub fn tables(&mut self, weight: &dyn Fn(usize, usize) -> u64) {
        self.tables += 1;
        for node in 0..self.nodes.len() {
            self.table_of(node, &|link| weight(node, link));
        }
    }

    pub fn table_of(&mut self, node: usize, weight: &dyn Fn(usize) -> u64) {
        if !self.alive(node) {
            return;
        }
        let alive = |n: usize| self.alive(n);
        let routes = self.graph.routes(node, &alive, weight, self.tables);
        self.input(node, Input::Routes(routes));
    }

    // Links.

    fn connect(&mut self, link: usize) {
        let Link { a, b, up, .. } = self.graph.links[link];
        if !up || !self.alive(a) || !self.alive(b) || self.links[link].is_some() {
            return;
        }
        let mut end = |node: usize| {
            let node_state = &mut self.nodes[node];
            node_state.next_peer += 1;
            let key = PeerKey(node_state.next_peer);
            node_state.conns.insert(key, self.conns.len());
            (node, key)
        };
        let ends = [end(a), end(b)];
        let conn = self.conns.len();
        self.conns.push(Connection {
            link,
            ends,
            known: [false; 2],
            directions: Default::default(),
        });
        self.links[link] = Some(conn);
        let delays = self.graph.links[link].delay_us;
        let handshake = Duration::from_micros(delays[0] + delays[1]);
        self.schedule(self.now + handshake, Event::Up(conn));
    }

    fn up(&mut self, conn: usize) {
        let Connection { ends, link, .. } = self.conns[conn];
        if self.links[link] != Some(conn) {
            return;
        }
        for side in 0..2 {
            let (node, peer) = ends[side];
            let other = ends[1 - side].0;
            self.conns[conn].known[side] = true;
            let role = match self.graph.is_edge(other) {
                true => Role::Edge,
                false => Role::Relay,
            };
            let input = Input::PeerUp {
                peer,
                node: self.graph.names[other].clone(),
                role,
            };
            self.input(node, input);
        }
    }

    /// Nothing gets through any more, in this direction or in both; each end finds out by itself.
    pub fn cut(&mut self, link: usize, only: Option<usize>) {
        let Link { a, b, .. } = self.graph.links[link];
        let (a, b) = (&self.graph.names[a], &self.graph.names[b]);
        self.log(format_args!("cut {a} {b} {only:?}"));
        self.graph.links[link].up = false;
        match (only, self.links[link]) {
            (Some(direction), Some(conn)) => {
                self.conns[conn].directions[direction].lost = true;
                self.links[link] = None;
                self.find_out(conn);
            }
            _ => self.disconnect(link),
        }
    }

    fn disconnect(&mut self, link: usize) {
        if let Some(conn) = self.links[link].take() {
            for direction in &mut self.conns[conn].directions {
                direction.lost = true;
            }
            self.find_out(conn);
        }
    }

    fn find_out(&mut self, conn: usize) {
        for side in 0..2 {
            let silence = Duration::from_millis(150 + self.dice.below(400));
            let down = self.now + silence;
            // quinn's streams fail one by one before the driver says that the peer is gone.
            if self.dice.percent(50) {
                let before = Duration::from_millis(self.dice.below(20));
                self.schedule(down - before, Event::Resets(conn, side));
            }
            self.schedule(down, Event::Down(conn, side));
        }
    }

    pub fn heal(&mut self, link: usize) {
        let Link { a, b, .. } = self.graph.links[link];
        let (a, b) = (&self.graph.names[a], &self.graph.names[b]);
        self.log(format_args!("heal {a} {b}"));
        self.graph.links[link].up = true;
        self.connect(link);
    }

    fn resets(&mut self, conn: usize, side: usize) {
        let (node, peer) = self.conns[conn].ends[side];
        if !self.conns[conn].known[side] {
            return;
        }
        let open = std::mem::take(&mut self.conns[conn].directions[1 - side].open);
        for stream in open {
            self.input(node, Input::GroupReset { peer, stream });
        }
    }

    fn down(&mut self, conn: usize, side: usize) {
        let (node, peer) = self.conns[conn].ends[side];
        let known = std::mem::take(&mut self.conns[conn].known[side]);
        if self.nodes[node].conns.remove(&peer).is_some() && known {
            self.input(node, Input::PeerDown { peer });
        }
    }

    /// The prober's suspicion of a link, at one end.
    pub fn suspect(&mut self, at: usize, side: usize, suspect: bool) {
        self.judge(at, side, if suspect { Life::Suspect } else { Life::Up });
    }

    /// What the prober of a link says at one end.
    pub fn judge(&mut self, at: usize, side: usize, life: Life) {
        if let Some(conn) = self.links[at]
            && self.conns[conn].known[side]
        {
            let (node, peer) = self.conns[conn].ends[side];
            let why = link::Why {
                cause: link::Cause::Silence,
                silence: Duration::from_millis(90),
                unanswered: 0,
            };
            let event = match life {
                Life::Up => link::Event::Up,
                Life::Suspect => link::Event::Suspect(why),
                Life::Down => link::Event::Down(why),
            };
            self.input(node, Input::Link { peer, event });
        }
    }

    /// A link costs one end more than its table says.
    pub fn cost(&mut self, at: usize, side: usize, extra_us: u64) {
        if let Some(conn) = self.links[at]
            && self.conns[conn].known[side]
        {
            let (node, peer) = self.conns[conn].ends[side];
            self.input(node, Input::Cost { peer, extra_us });
        }
    }

    fn side(&self, conn: usize, node: usize) -> usize {
        usize::from(self.conns[conn].ends[0].0 != node)
    }

    fn send(&mut self, node: usize, peer: PeerKey, lane: Lane, size: usize, item: Item) {
        let Some(conn) = self.nodes[node].conns.get(&peer).copied() else {
            return;
        };
        let side = self.side(conn, node);
        let Connection {
            link, directions, ..
        } = &mut self.conns[conn];
        let delay = self.graph.links[*link].delay_us[side];
        let direction = &mut directions[side];
        let took = Duration::from_micros(size as u64 * 8 * 1_000_000 / self.rate);
        direction.busy = direction.busy.max(self.now) + took;
        let jitter = Duration::from_micros(delay + self.dice.below(self.jitter_us + 1));
        let last = direction.lanes.entry(lane).or_default();
        let at = (direction.busy + jitter).max(*last);
        *last = at;
        self.schedule(at, Event::Deliver(conn, side, lane, Box::new(item)));
    }

    fn deliver(&mut self, conn: usize, side: usize, lane: Lane, item: Item) {
        let (node, peer) = self.conns[conn].ends[1 - side];
        let direction = &mut self.conns[conn].directions[side];
        if direction.lost || !self.nodes[node].conns.contains_key(&peer) {
            return;
        }
        let input = match (lane, item) {
            (Lane::Control, Item::Control(message)) => Input::Control { peer, message },
            (Lane::Group(stream), Item::Reset) => {
                if !direction.open.remove(&stream) {
                    return;
                }
                Input::GroupReset { peer, stream }
            }
            (Lane::Group(stream), _) if direction.reset.contains(&stream) => {
                let _ = stream;
                return;
            }
            (Lane::Group(stream), Item::Open(header)) => {
                direction.open.insert(stream);
                Input::GroupOpened {
                    peer,
                    stream,
                    header,
                }
            }
            (Lane::Group(stream), Item::Frame(frame, age_us, sent)) => Input::Frame {
                peer,
                stream,
                frame,
                age_us: age_us + self.now.saturating_since(sent).as_micros() as u64,
            },
            (Lane::Group(stream), Item::Finish) => {
                direction.open.remove(&stream);
                Input::GroupFinished { peer, stream }
            }
            (lane, item) => panic!("{item:?} on {lane:?}"),
        };
        self.input(node, input);
    }

    /// Hands a core what happened and does what it asks.
    pub fn input(&mut self, node: usize, input: Input) {
        let now = self.now;
        self.checked.hears(node, &input);
        if let Some(core) = &mut self.nodes[node].core {
            core.handle(now, input);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node]
            .core
            .as_mut()
            .and_then(Forwarder::poll_output)
        {
            match output {
                Output::Control { peer, message } => {
                    self.log(format_args!(
                        "{} → {peer:?} {message:?}",
                        self.graph.names[node]
                    ));
                    check::said(self, node, peer, &message);
                    self.send(node, peer, Lane::Control, SMALL, Item::Control(message));
                }
                Output::Ready { peer } => self.pull(node, peer),
                Output::Stop { .. } | Output::Healed { .. } => {}
                Output::Disconnect { reason, .. } => {
                    panic!("{} finds fault: {reason}", self.graph.names[node])
                }
                Output::Local { local, event } => {
                    let viewer = self.viewers.iter_mut().position(|v| v.key == Some(local));
                    let Some(at) = viewer else { continue };
                    let viewer = &mut self.viewers[at];
                    let truth = &self.truth[&viewer.seen.track];
                    let len = |group| truth.get(&group).copied().unwrap_or(0);
                    viewer.seen.event(self.now, event, len);
                    if viewer.seen.ended.is_some() {
                        viewer.key = None;
                        if !viewer.gone {
                            let later = Duration::from_millis(300);
                            self.schedule(self.now + later, Event::Return(at));
                        }
                    }
                }
            }
        }
        let core = self.nodes[node].core.as_ref();
        if let Some(at) = core.and_then(Forwarder::poll_timeout) {
            let at = at.max(self.now);
            if self.nodes[node].wake.is_none_or(|wake| at < wake) {
                self.nodes[node].wake = Some(at);
                self.schedule(at, Event::Wake(node));
            }
        }
    }

    fn pull(&mut self, node: usize, peer: PeerKey) {
        let Some(conn) = self.nodes[node].conns.get(&peer).copied() else {
            return;
        };
        let side = self.side(conn, node);
        loop {
            let direction = &mut self.conns[conn].directions[side];
            if direction.busy > self.now + UNSENT {
                let at = direction.busy - UNSENT / 2;
                if !std::mem::replace(&mut direction.pulling, true) {
                    self.schedule(at, Event::Pull(node, peer));
                }
                return;
            }
            let now = self.now;
            let core = self.nodes[node].core.as_mut();
            let transmit = core.and_then(|core| core.poll_transmit(now, peer));
            let (stream, size, item) = match transmit {
                None => break,
                Some(Transmit::Open { stream, header, .. }) => {
                    direction.sent.insert(stream, header.subscription);
                    check::open_sends(&direction.sent, header.subscription);
                    (stream, SMALL, Item::Open(header))
                }
                Some(Transmit::Frame {
                    stream,
                    frame,
                    age_us,
                }) => {
                    let size = frame.payload.len() + SMALL;
                    (stream, size, Item::Frame(frame, age_us, now))
                }
                Some(Transmit::Finish { stream }) => {
                    direction.sent.remove(&stream);
                    (stream, SMALL, Item::Finish)
                }
                Some(Transmit::Reset { stream }) => {
                    direction.sent.remove(&stream);
                    direction.reset.insert(stream);
                    (stream, SMALL, Item::Reset)
                }
            };
            self.send(node, peer, Lane::Group(stream), size, item);
        }
        self.drain(node);
    }

    // Publishers and viewers.

    pub fn track(&self, slot: usize) -> TrackId {
        let kind = match self.slots[slot].catalog {
            true => "catalog",
            false => "video",
        };
        TrackId {
            room: RoomName {
                tenant: Tenant::default_tenant(),
                room: Room::new("sim").expect("a name"),
            },
            stream: Stream::new(&format!("s{slot}")).expect("a name"),
            track: Track::new(kind).expect("a name"),
            generation: Generation::new(0, self.slots[slot].generation),
        }
    }

    /// A slot at an edge: a catalog of one frame, or video.
    pub fn slot(&mut self, edge: usize, catalog: bool) -> usize {
        self.slots.push(Slot {
            edge,
            generation: 0,
            live: false,
            catalog,
            next: (0, 0),
        });
        self.slots.len() - 1
    }

    pub fn publish(&mut self, slot: usize) {
        let node = self.slots[slot].edge;
        if self.slots[slot].live || !self.alive(node) {
            return;
        }
        self.slots[slot].generation += 1;
        self.slots[slot].live = true;
        self.slots[slot].next = (0, 0);
        let track = self.track(slot);
        self.log(format_args!("publish {track}"));
        self.truth.insert(track.clone(), BTreeMap::new());
        self.input(node, Input::Publish { track });
        self.schedule(self.now, Event::Produce(slot));
        for viewer in 0..self.viewers.len() {
            if self.viewers[viewer].slot == slot && !self.viewers[viewer].gone {
                self.come_back(viewer);
            }
        }
    }

    pub fn unpublish(&mut self, slot: usize) {
        let node = self.slots[slot].edge;
        if std::mem::take(&mut self.slots[slot].live) {
            let track = self.track(slot);
            self.log(format_args!("unpublish {track}"));
            self.input(node, Input::Unpublish { track });
        }
    }

    /// One frame more in a catalog's only group, long after the first.
    pub fn say_more(&mut self, slot: usize) {
        let Slot { live, catalog, .. } = self.slots[slot];
        if !live || !catalog {
            return;
        }
        let track = self.track(slot);
        let len = self
            .truth
            .entry(track.clone())
            .or_default()
            .entry(0)
            .or_default();
        let index = std::mem::replace(len, *len + 1);
        let frame = Frame {
            timestamp: 0,
            flags: Flags::default(),
            priority: Priority::State,
            payload: payload(&track, 0, index, self.frame_size),
        };
        let node = self.slots[slot].edge;
        self.input(node, Input::PublishFrame { track, frame });
    }

    fn produce(&mut self, slot: usize) {
        let Slot {
            edge,
            live,
            catalog,
            next: (group, index),
            ..
        } = self.slots[slot];
        if !live || catalog && group > 0 {
            return;
        }
        let track = self.track(slot);
        if index == 0 {
            self.truth
                .entry(track.clone())
                .or_default()
                .insert(group, 0);
            let input = Input::PublishGroup {
                track: track.clone(),
                group,
                timestamp: group * 1_000_000,
                origin_time: self.now.as_micros(),
            };
            self.input(edge, input);
        }
        let priority = match (catalog, slot % 3, index) {
            (true, ..) => Priority::State,
            (_, 0, _) => Priority::Realtime,
            (_, _, 0) => Priority::VideoKey,
            _ => Priority::VideoDelta,
        };
        let frame = Frame {
            timestamp: self.now.as_micros(),
            flags: Flags {
                key: index == 0,
                ..Flags::default()
            },
            priority,
            payload: payload(&track, group, index, self.frame_size),
        };
        *self
            .truth
            .entry(track.clone())
            .or_default()
            .entry(group)
            .or_default() += 1;
        self.input(edge, Input::PublishFrame { track, frame });
        self.slots[slot].next = match index + 1 < FRAMES && !catalog {
            true => (group, index + 1),
            false => (group + 1, 0),
        };
        self.schedule(self.now + FRAME_EVERY, Event::Produce(slot));
    }

    /// A viewer at a node.
    pub fn view(&mut self, node: usize, slot: usize, budget_ms: u32) -> usize {
        let origin = self.slots[slot].edge;
        let name = |n: usize| self.graph.names[n].clone();
        let seen = Consumer::new(self.track(slot), name(node), name(origin));
        self.viewers.push(Viewer {
            node,
            slot,
            budget_ms,
            key: None,
            seen,
            gone: false,
            returns: 0,
        });
        let viewer = self.viewers.len() - 1;
        self.subscribe(viewer, Start::Latest);
        viewer
    }

    fn subscribe(&mut self, viewer: usize, start: Start) {
        self.next_local += 1;
        let local = LocalKey(self.next_local);
        let Viewer {
            node,
            slot,
            budget_ms,
            ..
        } = self.viewers[viewer];
        let track = self.track(slot);
        self.truth.entry(track.clone()).or_default();
        let name = |n: usize| self.graph.names[n].clone();
        let origin = name(self.slots[slot].edge);
        self.viewers[viewer].seen = Consumer::new(track.clone(), name(node), origin.clone());
        self.viewers[viewer].key = Some(local);
        let input = Input::Subscribe {
            local,
            track,
            origin,
            start,
            budget_ms,
        };
        self.input(node, input);
    }

    /// A viewer whose subscription ended, or whose stream has a new generation, asks again.
    fn come_back(&mut self, viewer: usize) {
        let Viewer {
            node,
            slot,
            gone,
            key,
            ..
        } = self.viewers[viewer];
        if gone || !self.alive(node) || !self.slots[slot].live {
            return;
        }
        if let Some(local) = key {
            if self.viewers[viewer].seen.track == self.track(slot) {
                return;
            }
            self.viewers[viewer].key = None;
            self.input(node, Input::Unsubscribe { local });
        }
        let start = match self.viewers[viewer].seen.track == self.track(slot) {
            true => self.viewers[viewer].seen.resume(),
            false => Start::Latest,
        };
        self.viewers[viewer].returns += 1;
        self.subscribe(viewer, start);
    }

    pub fn leave(&mut self, viewer: usize) {
        self.viewers[viewer].gone = true;
        if let Some(local) = self.viewers[viewer].key.take() {
            let node = self.viewers[viewer].node;
            self.input(node, Input::Unsubscribe { local });
        }
    }

    /// How many frames a viewer misses, from the first group it saw to the one before the last.
    pub fn missing(&self, viewer: usize) -> u64 {
        let seen = &self.viewers[viewer].seen;
        let truth = &self.truth[&seen.track];
        seen.missing(|group| truth.get(&group).copied().unwrap_or(0))
    }

    /// A node's counts.
    pub fn stats(&self, node: usize) -> Stats {
        let core = self.nodes[node].core.as_ref();
        core.map(Forwarder::stats).unwrap_or_default()
    }
}

use super::graph::Link;
