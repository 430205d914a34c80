//! Nodes: booted, killed, stopped; what they know; and what their core says. It stands for
//! `relay/src/engine.rs` and `relay/src/shared.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use longspan_controller::state::HeldStream;
use longspan_proto::{
    control,
    ids::{Generation, NodeId, RoomName},
    time::Time,
    wire::{Message, Role},
};
use longspan_relay::{
    forward::{Forwarder, Input, Output, PeerKey, Stats},
    node::Directory,
    tables,
};
use longspan_topology::routes::{Routes, Version};

use crate::{
    clock::Clock,
    pipe::{Item, Lane, SMALL},
    session::Session,
    world::{Event, Tables, World},
};

/// Relays an edge holds a connection with: the best, and a warm standby in another zone.
const ATTACHMENTS: usize = 2;

/// Which links are needed as backups is looked for so often (`relay/src/probe/need.rs`).
const BACKUPS_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Node {
    pub core: Option<Forwarder>,
    /// Counts its processes, from 1.
    pub boot: u64,
    /// It does nothing, and hears nothing.
    pub stopped: bool,
    /// When it last went on.
    pub went_on: Time,
    /// What was due while it was stopped.
    pub held: Vec<Event>,
    pub clock: Clock,
    pub next_peer: u64,
    pub peers: BTreeMap<PeerKey, (u32, u8)>,
    wake: Option<Time>,
    /// The table as told, the directory; both kept on disk.
    pub table: Arc<Routes>,
    pub directory: Arc<Directory>,
    /// The table taken by this process.
    pub taken: Option<Version>,
    /// The last one that it was told whole.
    pub whole: Option<control::Table>,
    /// What the core was given.
    pub ways: Arc<Routes>,
    /// Whom it dials.
    pub wanted: BTreeSet<usize>,
    pub session: Session,
    /// Neighbours to which tracks would move.
    pub backups: BTreeSet<NodeId>,
    pub highest: Generation,
    /// The rooms it serves, with the viewers in each; an edge's.
    pub rooms: BTreeMap<RoomName, u32>,
    /// The streams this process was given, by slot.
    pub streams: BTreeMap<usize, HeldStream>,
    /// When it was first told of something.
    pub known_since: BTreeMap<(RoomName, Generation), Time>,
    /// What it was told of each: stream, origin, generation.
    pub known: BTreeMap<RoomName, Vec<(String, NodeId, Generation)>>,
}

impl Node {
    pub fn new(clock: Clock) -> Node {
        Node {
            core: None,
            boot: 0,
            stopped: false,
            went_on: Time::ZERO,
            held: Vec::new(),
            clock,
            next_peer: 0,
            peers: BTreeMap::new(),
            wake: None,
            table: Arc::default(),
            directory: Arc::default(),
            taken: None,
            whole: None,
            ways: Arc::default(),
            wanted: BTreeSet::new(),
            session: Session::default(),
            backups: BTreeSet::new(),
            highest: Generation(0),
            rooms: BTreeMap::new(),
            streams: BTreeMap::new(),
            known_since: BTreeMap::new(),
            known: BTreeMap::new(),
        }
    }
}

impl Node {
    /// The ways to a node that its core was given.
    pub fn ways(&self, me: &NodeId, to: &NodeId) -> Vec<Vec<NodeId>> {
        self.ways.ways(me, to)
    }
}

impl World {
    pub(crate) fn boot(&mut self, node: usize) {
        let placed = &self.layout.nodes[node];
        let config = (self.setup.config)(placed.name.clone(), placed.role);
        let state = &mut self.nodes[node];
        state.core = Some(Forwarder::new(config));
        state.boot += 1;
        state.taken = None;
        state.whole = None;
        state.ways = Arc::default();
        state.session = Session::default();
        state.wake = None;
        state.known.clear();
        state.known_since.clear();
        state.streams.clear();
        let boot = state.boot;
        self.after(BACKUPS_EVERY, Event::Backups(node as u32, boot));
        match self.setup.tables {
            Tables::ByHand => {
                for at in 0..self.links_of[node].len() {
                    self.dial_soon(self.links_of[node][at], Duration::ZERO);
                }
            }
            Tables::Controllers(_) => {
                let jitter = Duration::from_micros(self.dice.below(200_000));
                self.after(jitter, Event::Seek(node as u32, boot));
                self.tell_core(node);
                self.neighbours_changed(node);
            }
        }
    }

    /// The process dies; nobody is told but by silence.
    pub fn kill(&mut self, node: usize) {
        self.log(format_args!("kill {}", self.layout.name(node)));
        if self.nodes[node].core.take().is_none() {
            return;
        }
        self.note(node as u64);
        let state = &mut self.nodes[node];
        state.stopped = false;
        state.held.clear();
        let peers = std::mem::take(&mut state.peers);
        for at in 0..self.links_of[node].len() {
            let link = self.links_of[node][at];
            let side = usize::from(self.layout.links[link].b == node);
            self.links[link].conns[side] = None;
            if self.dialing_node(link) == node {
                // A dial that waited for a stopped process is gone with it.
                self.links[link].dial_due = false;
            }
            if let Some(id) = self.links[link].dialing
                && self.conns[id as usize]
                    .as_deref()
                    .is_some_and(|c| c.dialer == side)
            {
                self.links[link].dialing = None;
            }
        }
        for (id, side) in peers.into_values() {
            self.close(id, side.into(), false);
        }
        self.session_broke(node);
        for slot in &mut self.slots {
            if slot.edge == node {
                slot.live = false;
                slot.claiming = false;
            }
        }
        for viewer in &mut self.viewers {
            if viewer.node == node {
                viewer.key = None;
            }
        }
        self.laws.forget(node);
    }

    /// A killed process is started again, with what it kept on its disk.
    pub fn restart(&mut self, node: usize) {
        if self.nodes[node].core.is_some() {
            return;
        }
        self.log(format_args!("restart {}", self.layout.name(node)));
        self.boot(node);
        if self.setup.tables == Tables::ByHand {
            self.table_of(node, &|_| 100);
        }
        self.users_return(node);
    }

    pub(crate) fn look_for_backups(&mut self, node: usize, boot: u64) {
        let state = &mut self.nodes[node];
        if state.boot == boot
            && let Some(core) = &state.core
        {
            state.backups = core.backups();
            self.after(BACKUPS_EVERY, Event::Backups(node as u32, boot));
        }
    }

    /// SIGSTOP.
    pub fn stop(&mut self, node: usize) {
        self.log(format_args!("stop {}", self.layout.name(node)));
        self.nodes[node].stopped = self.nodes[node].core.is_some();
    }

    /// SIGCONT: what was due meanwhile is due now.
    pub fn go_on(&mut self, node: usize) {
        if !std::mem::take(&mut self.nodes[node].stopped) {
            return;
        }
        self.nodes[node].went_on = self.now;
        self.log(format_args!("continue {}", self.layout.name(node)));
        for event in std::mem::take(&mut self.nodes[node].held) {
            self.after(Duration::ZERO, event);
        }
    }

    /// Tells all neighbours that the process will close.
    pub fn say_goodbye(&mut self, node: usize, within: Duration) {
        self.log(format_args!("{} says goodbye", self.layout.name(node)));
        let peers: Vec<PeerKey> = self.nodes[node].peers.keys().copied().collect();
        for peer in peers {
            let message = Message::GoAway {
                deadline_ms: within.as_millis() as u32,
            };
            self.send(node, peer, Lane::Control, SMALL, Item::Control(message));
        }
    }

    pub(crate) fn wake(&mut self, node: usize) {
        let now = self.now;
        let state = &mut self.nodes[node];
        if state.wake.is_none_or(|at| at > now) {
            // An earlier boot's, or one that was set for later since.
            return;
        }
        state.wake = None;
        let local = state.clock.shows(now);
        if let Some(core) = &mut state.core {
            core.handle_timeout(local);
            self.drain(node);
        }
    }

    /// Hands a core what happened and does what it asks.
    pub(crate) fn input(&mut self, node: usize, input: Input) {
        self.laws.hears(node, &input);
        let local = self.nodes[node].clock.shows(self.now);
        if let Some(core) = &mut self.nodes[node].core {
            core.handle(local, input);
            self.drain(node);
        }
    }

    pub(crate) fn drain(&mut self, node: usize) {
        self.laws.touched(node);
        while let Some(output) = self.nodes[node]
            .core
            .as_mut()
            .and_then(Forwarder::poll_output)
        {
            match output {
                Output::Control { peer, message } => {
                    self.log(format_args!(
                        "{} → {peer:?} {message:?}",
                        self.layout.name(node)
                    ));
                    self.said(node, peer, &message);
                    self.send(node, peer, Lane::Control, SMALL, Item::Control(message));
                }
                Output::Ready { peer } => {
                    if let Some((id, side)) = self.nodes[node].peers.get(&peer).copied() {
                        self.pull(id, side.into());
                    }
                }
                Output::Stop { .. } | Output::Healed { .. } => {}
                Output::Disconnect { reason, .. } => {
                    panic!("{} finds fault: {reason}", self.layout.name(node))
                }
                Output::Local { local, event } => self.viewer_hears(local, event),
            }
        }
        let state = &mut self.nodes[node];
        let due = state.core.as_ref().and_then(Forwarder::poll_timeout);
        if let Some(due) = due {
            let at = state.clock.when(due).max(self.now);
            if state.wake.is_none_or(|wake| at < wake) {
                state.wake = Some(at);
                self.schedule(at, Event::Wake(node as u32));
            }
        }
    }

    /// A node's counts.
    pub fn stats(&self, node: usize) -> Stats {
        let core = self.nodes[node].core.as_ref();
        core.map(Forwarder::stats).unwrap_or_default()
    }

    // Tables and neighbours, where controllers tell them.

    /// Gives the core what follows from table, directory and connections as they are now.
    pub(crate) fn tell_core(&mut self, node: usize) {
        if self.setup.tables == Tables::ByHand || !self.alive(node) {
            return;
        }
        let role = self.layout.nodes[node].role;
        let mut connected = Vec::new();
        for (id, side) in self.nodes[node].peers.values() {
            let Some(conn) = self.conns[*id as usize].as_deref() else {
                continue;
            };
            let side = usize::from(*side);
            let other = conn.halves[1 - side].node;
            if !self.layout.is_edge(other) {
                let prober = conn.halves[side].prober.as_ref();
                let rtt = prober.and_then(|p| p.baseline()).map_or(0, |b| b.rtt_us);
                connected.push((self.layout.name(other).clone(), rtt));
            }
        }
        connected.sort();
        connected.dedup_by(|a, b| a.0 == b.0);
        let state = &mut self.nodes[node];
        let me = (self.layout.name(node), role);
        let routes = tables::derive(&state.table, &state.directory, me, &connected);
        if *state.ways != routes {
            let routes = Arc::new(routes);
            state.ways = routes.clone();
            self.input(node, Input::Routes(routes));
        }
    }

    /// Connections, table or directory changed: whom to dial, what the core may use, what the
    /// controller is told.
    pub(crate) fn neighbours_changed(&mut self, node: usize) {
        if self.setup.tables == Tables::ByHand || !self.alive(node) {
            return;
        }
        let wanted = match self.layout.nodes[node].role {
            Role::Relay => {
                let state = &self.nodes[node];
                let neighbours = state.table.neighbours.iter();
                neighbours.filter_map(|n| self.layout.find(n)).collect()
            }
            Role::Edge => self.attachments(node),
        };
        self.nodes[node].wanted = wanted;
        self.dial_wanted(node);
        self.tell_core(node);
        if self.layout.is_edge(node) {
            let relays = self.attached(node);
            self.tell_attached(node, relays);
        }
    }

    /// The relays that an edge could ever reach, best first.
    fn near(&self, edge: usize) -> Vec<usize> {
        let place = &self.layout.nodes[edge];
        let directory = &self.nodes[edge].directory;
        let near = directory.relays_near(&place.region, place.lat, place.lon);
        let near = near.into_iter().filter_map(|r| self.layout.find(&r.id));
        near.filter(|relay| self.link_of(edge, *relay).is_some())
            .collect()
    }

    /// `relay/src/quic/dial.rs`'s `apart` and `attachments`.
    fn attachments(&self, edge: usize) -> BTreeSet<usize> {
        let near = self.near(edge);
        let Some(best) = near.first().copied() else {
            return BTreeSet::new();
        };
        // The best, then the best in another zone than that one, then the others.
        let zone = |n: usize| &self.layout.nodes[n].zone;
        let standby = near.iter().copied().find(|n| zone(*n) != zone(best));
        let rest = near[1..].iter().copied().filter(|n| Some(*n) != standby);
        let order: Vec<usize> = [best].into_iter().chain(standby).chain(rest).collect();
        let in_reach = |relay: usize| {
            let link = self.link_of(edge, relay);
            link.is_some_and(|link| !self.links[link].unreachable)
        };
        let mut wanted: BTreeSet<usize> = order
            .iter()
            .copied()
            .filter(|relay| in_reach(*relay))
            .take(ATTACHMENTS)
            .collect();
        wanted.extend(order.iter().take(ATTACHMENTS));
        let up = |relay: usize| {
            self.link_of(edge, relay).is_some_and(|link| {
                self.is_up(link, usize::from(self.layout.links[link].b == edge))
            })
        };
        if !wanted.iter().any(|relay| up(*relay)) {
            wanted.extend(order.into_iter().filter(|relay| up(*relay)));
        }
        wanted
    }

    /// The relays an edge is connected to, best first.
    pub(crate) fn attached(&self, edge: usize) -> Vec<NodeId> {
        let near = self.near(edge);
        let up = near.into_iter().filter(|relay| {
            let link = self.link_of(edge, *relay);
            link.is_some_and(|link| {
                let side = usize::from(self.layout.links[link].b == edge);
                self.links[link].conns[side].is_some()
            })
        });
        up.map(|relay| self.layout.name(relay).clone()).collect()
    }
}
