//! A node's talk with the controllers. It stands for `relay/src/control`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use longspan_controller::{
    Report,
    state::{self, Granted, Said},
};
use longspan_lab::wan::{Direction, Profile, Verdict};
use longspan_proto::{
    control::{self, to_node},
    ids::{BootId, Generation, Net, NodeId, RoomName},
    time::Time,
    wire::Role,
};
use longspan_relay::{forward::Input, node::Directory, tables};
use longspan_topology::{
    graph::{Link, Metrics},
    link::Life,
    routes::Version,
};

use crate::{
    people::stream,
    plane::{self, FromWord, ToWord, Word},
    world::{Event, Tables, World},
};

/// The first pause after a controller was not reached; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// A controller answers a Join within this.
const WELCOME: Duration = Duration::from_secs(2);
/// Reports are sent so often.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A third of a lease's TTL.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// TCP's shortest retransmission timeout on Linux.
const TCP_AGAIN: Duration = Duration::from_millis(200);
/// How long the controllers may not name a stream before it is claimed anew (`edge/src/publish`).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3);
/// A claim that was not answered is asked again.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// As it stands.
#[derive(Default)]
pub struct Session {
    /// The controller it goes to.
    pub at: Option<usize>,
    /// Its connection's number.
    pub conn: u64,
    pub welcomed: bool,
    /// The node's lease.
    id: i64,
    turn: usize,
    /// Who leads, as a controller that does not said; asked next.
    hint: Option<usize>,
    hinted: bool,
    begun: bool,
    pause: Duration,
    attached: Option<Vec<NodeId>>,
    revisions: BTreeMap<RoomName, u64>,
    /// When the last word arrives there, and here.
    last: [Time; 2],
    ways: Option<[Direction; 2]>,
}

impl World {
    pub(crate) fn seek(&mut self, node: usize, boot: u64) {
        if self.nodes[node].boot != boot || !self.alive(node) {
            return;
        }
        if self.nodes[node].session.at.is_some() {
            return;
        }
        if !std::mem::replace(&mut self.nodes[node].session.begun, true) {
            self.after(REPORT_EVERY, Event::Report(node as u32, boot));
            self.after(HEARTBEAT_EVERY, Event::Heartbeat(node as u32, boot));
        }
        let count = self.plane.controllers.len();
        self.plane.next_conn += 1;
        let conn = self.plane.next_conn;
        let seeds = [self.dice.any(), self.dice.any()];
        let session = &mut self.nodes[node].session;
        // Nodes begin with different ones.
        session.hinted = session.hint.is_some();
        let controller = match session.hint.take() {
            Some(named) => named,
            None => {
                session.turn += 1;
                (session.turn + node) % count
            }
        };
        session.at = Some(controller);
        session.conn = conn;
        session.welcomed = false;
        session.attached = None;
        let one_way = self.plane.controllers[controller].one_way[node];
        let way = |seed| Direction::new(one_way, Profile::internet(), seed);
        session.ways = Some(seeds.map(way));
        // TCP and TLS.
        session.last = [self.now + one_way * 4; 2];
        let placed = &self.layout.nodes[node];
        let info = state::record::Node {
            id: placed.name.clone(),
            role: placed.role,
            boot: BootId(((node as u64) << 32) | boot),
            region: placed.region.clone(),
            zone: placed.zone.clone(),
            country: placed.country.clone(),
            city: String::new(),
            lat: placed.lat,
            lon: placed.lon,
            quic: vec![format!("10.{}.{}.1:7443", node / 256, node % 256)],
            http: String::new(),
            rtmp: String::new(),
            admin: String::new(),
            version: String::new(),
            attached: Vec::new(),
        };
        let fresh = self.plane.fresh_lease(&mut self.dice);
        let state = &self.nodes[node];
        let held = state.table.version != Version::default();
        let join = state::Join {
            node: info,
            session: state.session.id,
            highest: state.highest,
            table: state.taken,
            held: held.then(|| (*state.table).clone()),
            streams: state.streams.values().cloned().collect(),
            carries: self.stats(node).tracks > 0,
            // Its relays keep no logs on a disk.
            disk: 0,
            groups: Vec::new(),
        };
        let join = FromWord::Join(Box::new(join), fresh);
        self.say(node, join);
        self.after(WELCOME, Event::Plane(plane::Event::Unwelcomed(node, conn)));
    }

    pub(crate) fn unwelcomed(&mut self, node: usize, conn: u64) {
        let session = &self.nodes[node].session;
        if session.conn == conn && session.at.is_some() && !session.welcomed {
            self.session_broke(node);
        }
    }

    /// When a word said now arrives, in order after those before it.
    fn word_arrives(&mut self, node: usize, way: usize) -> Time {
        let now = self.now;
        let session = &mut self.nodes[node].session;
        let last = session.last[way];
        let Some(ways) = &mut session.ways else {
            return now;
        };
        let at = match ways[way].send(now, 500) {
            Verdict::Deliver(at) => at,
            Verdict::Drop(_) => now + ways[way].one_way() * 3 + TCP_AGAIN,
        };
        session.last[way] = at.max(last);
        session.last[way]
    }

    /// Says something to the controller.
    pub(crate) fn say(&mut self, node: usize, said: FromWord) {
        let session = &self.nodes[node].session;
        let (Some(controller), conn) = (session.at, session.conn) else {
            return;
        };
        let at = self.word_arrives(node, 0);
        let word = Word::FromNode {
            node,
            controller,
            conn,
            said,
        };
        self.schedule(at, Event::Word(Box::new(word)));
    }

    fn tell(&mut self, node: usize, said: Said) {
        if self.nodes[node].session.welcomed {
            self.say(node, FromWord::Said(said));
        }
    }

    /// A controller says something to a node.
    pub(crate) fn say_to_node(&mut self, node: usize, conn: u64, said: ToWord) {
        if self.nodes[node].session.conn != conn {
            return;
        }
        let at = self.word_arrives(node, 1);
        self.schedule(at, Event::Word(Box::new(Word::ToNode { node, conn, said })));
    }

    /// The session is over; another one is sought.
    pub(crate) fn session_broke(&mut self, node: usize) {
        if self.nodes[node].session.at.is_none() {
            return;
        }
        self.say(node, FromWord::Left);
        self.log(format_args!("{} has no controller", self.layout.name(node)));
        let session = &mut self.nodes[node].session;
        session.at = None;
        let stood = std::mem::take(&mut session.welcomed);
        let before = if stood { Duration::ZERO } else { session.pause };
        session.pause = (before * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
        let pause = session.pause;
        for slot in 0..self.slots.len() {
            if self.slots[slot].edge == node && std::mem::take(&mut self.slots[slot].claiming) {
                self.claim_later(slot);
            }
        }
        let boot = self.nodes[node].boot;
        if self.nodes[node].session.hint.is_some() {
            self.after(Duration::ZERO, Event::Seek(node as u32, boot));
            return;
        }
        let jittered = pause / 2 + pause * self.dice.below(1_000) as u32 / 2_000;
        self.after(jittered, Event::Seek(node as u32, boot));
    }

    pub(crate) fn word(&mut self, word: Word) {
        match word {
            Word::FromNode {
                node,
                controller,
                conn,
                said,
            } => self.controller_hears(controller, node, conn, said),
            Word::ToNode { node, conn, said } => {
                if self.nodes[node].session.conn != conn
                    || self.nodes[node].session.at.is_none()
                    || !self.alive(node)
                {
                    return;
                }
                if self.nodes[node].stopped {
                    let word = Word::ToNode { node, conn, said };
                    self.nodes[node].held.push(Event::Word(Box::new(word)));
                    return;
                }
                match said {
                    ToWord::Message(message) => self.node_hears(node, message),
                    ToWord::Claimed(slot, answer) => self.claimed(slot, answer),
                    ToWord::Broken(leader) => {
                        let session = &mut self.nodes[node].session;
                        // A hint is followed once.
                        session.hint = leader.filter(|_| !session.hinted);
                        self.session_broke(node);
                    }
                }
            }
        }
    }

    fn node_hears(&mut self, node: usize, message: to_node::Message) {
        match message {
            to_node::Message::Welcome(welcome) => {
                self.log(format_args!("{} is welcomed", self.layout.name(node)));
                let session = &mut self.nodes[node].session;
                session.id = welcome.session;
                session.welcomed = true;
                session.pause = Duration::ZERO;
                if self.layout.is_edge(node) {
                    let relays = self.attached(node);
                    self.tell_attached(node, relays);
                }
                let rooms: Vec<_> = self.nodes[node].rooms.clone().into_iter().collect();
                for (room, viewers) in rooms {
                    self.tell(
                        node,
                        Said::Watch {
                            room,
                            viewers,
                            members: 0,
                        },
                    );
                }
                self.tell_links(node);
                self.deposed_tells(node);
            }
            to_node::Message::Directory(told) => {
                self.nodes[node].directory = Arc::new(Directory::from_control(told));
                self.neighbours_changed(node);
            }
            to_node::Message::Table(told) => {
                let answer = self.table_told(node, &told);
                self.tell(node, answer);
            }
            to_node::Message::Room(told) => self.room_told(node, &told),
            // Only operators ask; and no room log is simulated here.
            to_node::Message::Trace(_)
            | to_node::Message::Groups(_)
            | to_node::Message::Moves(_)
            | to_node::Message::Policies(_) => {}
        }
    }

    /// Whoever led before and does not know that another does tells its table again; who hears the
    /// answer does not matter.
    fn deposed_tells(&mut self, node: usize) {
        if let Some(told) = self.nodes[node].whole.clone() {
            self.table_told(node, &told);
        }
    }

    fn table_told(&mut self, node: usize, told: &control::Table) -> Said {
        let state = &self.nodes[node];
        let me = self.layout.name(node);
        let version = told.version.map_or(Version::default(), |v| Version {
            era: v.era,
            election: v.election,
            n: v.n,
        });
        let role = self.layout.nodes[node].role;
        let (directory, table) = (&state.directory, &state.table);
        match tables::parse(told, (me, role), directory, table, state.taken) {
            Ok(routes) => {
                self.laws.table(me, state.taken, &routes, &self.layout);
                let state = &mut self.nodes[node];
                if told.base.is_none() {
                    state.whole = Some(told.clone());
                }
                state.taken = Some(routes.version);
                state.table = Arc::new(routes);
                self.drifts_begin(node);
                self.neighbours_changed(node);
                Said::Ack(version)
            }
            Err(why) => {
                self.log(format_args!("{me} refuses a table: {why}"));
                Said::Nack {
                    version,
                    reason: why.to_string(),
                    send_whole: why.wants_whole(),
                }
            }
        }
    }

    /// What links cost beyond the table is counted from a new table on.
    pub(crate) fn drifts_begin(&mut self, node: usize) {
        let local = self.nodes[node].clock.shows(self.now);
        let peers: Vec<_> = self.nodes[node].peers.values().copied().collect();
        for (id, side) in peers {
            if let Some(conn) = self.conn(id) {
                conn.halves[usize::from(side)].drift.told(local);
            }
        }
    }

    fn room_told(&mut self, node: usize, told: &control::RoomState) {
        let (Ok(tenant), Ok(room)) = (told.tenant.parse(), told.room.parse()) else {
            panic!("no names: {told:?}");
        };
        let room = RoomName { tenant, room };
        let state = &mut self.nodes[node];
        let revision = state.session.revisions.entry(room.clone()).or_default();
        if *revision > told.revision {
            return;
        }
        *revision = told.revision;
        let (me, streams) = (self.layout.name(node), &told.streams);
        self.log(format_args!("{me} is told of {}: {streams:?}", room.room));
        let state = &mut self.nodes[node];
        let streams = told.streams.iter().map(|s| {
            let origin = NodeId::new(&s.origin).expect("a name");
            (s.stream.clone(), origin, Generation(s.generation))
        });
        let streams: Vec<_> = streams.collect();
        for (.., generation) in &streams {
            state.highest = state.highest.max(*generation);
            let told = (room.clone(), *generation);
            state.known_since.entry(told).or_insert(self.now);
        }
        state.known.insert(room.clone(), streams);
        for slot in 0..self.slots.len() {
            let state = &self.slots[slot];
            if state.live && state.edge == node && state.room == room && !self.knows(node, slot) {
                let event = plane::Event::Forgotten(slot, state.generation);
                self.after(FORGOTTEN_AFTER, Event::Plane(event));
            }
        }
        for viewer in 0..self.viewers.len() {
            let Viewing { at, slot } = self.viewing(viewer);
            if at == node && self.slots[slot].room == room {
                self.come_back(viewer);
            }
        }
    }

    fn viewing(&self, viewer: usize) -> Viewing {
        let viewer = &self.viewers[viewer];
        Viewing {
            at: viewer.node,
            slot: viewer.slot,
        }
    }

    pub(crate) fn tell_attached(&mut self, node: usize, relays: Vec<NodeId>) {
        let session = &mut self.nodes[node].session;
        if session.welcomed && session.attached.as_ref() != Some(&relays) {
            session.attached = Some(relays.clone());
            self.tell(node, Said::Attached(relays));
        }
    }

    /// So many viewers more of a room at an edge.
    pub(crate) fn watch_more(&mut self, node: usize, slot: usize, more: i32) {
        if self.setup.tables == Tables::ByHand {
            return;
        }
        let room = self.slots[slot].room.clone();
        let viewers = self.nodes[node].rooms.entry(room.clone()).or_default();
        *viewers = viewers.saturating_add_signed(more);
        let viewers = *viewers;
        if viewers == 0 {
            self.nodes[node].rooms.remove(&room);
            self.nodes[node].known.remove(&room);
            self.nodes[node].session.revisions.remove(&room);
            self.tell(node, Said::Unwatch(room));
        } else {
            self.tell(
                node,
                Said::Watch {
                    room,
                    viewers,
                    members: 0,
                },
            );
        }
    }

    pub(crate) fn heartbeat(&mut self, node: usize, boot: u64) {
        if self.nodes[node].boot != boot || !self.alive(node) {
            return;
        }
        self.tell(node, Said::Heartbeat);
        self.after(HEARTBEAT_EVERY, Event::Heartbeat(node as u32, boot));
    }

    pub(crate) fn report(&mut self, node: usize, boot: u64) {
        if self.nodes[node].boot != boot || !self.alive(node) {
            return;
        }
        self.tell_links(node);
        self.after(REPORT_EVERY, Event::Report(node as u32, boot));
    }

    pub(crate) fn report_soon(&mut self, node: usize) {
        if self.setup.tables != Tables::ByHand {
            self.tell_links(node);
        }
    }

    /// All links that end here, as measured; neighbours that are not connected are down.
    fn tell_links(&mut self, node: usize) {
        if !self.nodes[node].session.welcomed {
            return;
        }
        let net = Net::internet();
        let mut reports: BTreeMap<NodeId, Report> = BTreeMap::new();
        let state = &self.nodes[node];
        if self.layout.nodes[node].role == Role::Relay {
            for neighbour in &state.table.neighbours {
                let metrics = Metrics {
                    raw_delay_us: 0,
                    rtt_us: 0,
                    jitter_p95_us: 0,
                    loss: 0.0,
                };
                let link = Link {
                    net: net.clone(),
                    up: false,
                    metrics,
                };
                let from = neighbour.clone();
                let report = Report {
                    from: from.clone(),
                    link,
                    rate_bps: 0,
                };
                reports.insert(from, report);
            }
        }
        for (id, side) in state.peers.values() {
            let Some(conn) = self.conns[*id as usize].as_deref() else {
                continue;
            };
            let side = usize::from(*side);
            let Some(prober) = &conn.halves[side].prober else {
                continue;
            };
            // Before the first round trip there is nothing to tell.
            let Some(metrics) = prober.metrics() else {
                continue;
            };
            let from = self.layout.name(conn.halves[1 - side].node).clone();
            let link = Link {
                net: net.clone(),
                up: prober.life() != Life::Down,
                metrics,
            };
            // No link is near its capacity here.
            let report = Report {
                from: from.clone(),
                link,
                rate_bps: 0,
            };
            reports.insert(from, report);
        }
        let reports = reports.into_values().collect();
        self.tell(node, Said::Links(reports));
    }

    // Streams.

    pub(crate) fn claim(&mut self, slot: usize) {
        let node = self.slots[slot].edge;
        if self.slots[slot].claiming || self.slots[slot].live || !self.slots[slot].wanted {
            return;
        }
        self.slots[slot].claiming = true;
        if !self.nodes[node].session.welcomed {
            self.slots[slot].claiming = false;
            self.claim_later(slot);
            return;
        }
        let claim = state::Claim {
            session: self.nodes[node].session.id,
            edge: self.layout.name(node).clone(),
            room: self.slots[slot].room.clone(),
            stream: stream(slot),
            identity: format!("teacher-{slot}"),
        };
        self.say(node, FromWord::Claim(slot, claim));
    }

    /// The controllers may not name a stream that is published here: it is claimed anew.
    pub(crate) fn forgotten(&mut self, slot: usize, generation: Generation) {
        let state = &self.slots[slot];
        let node = state.edge;
        let is_current = state.live && state.generation == generation;
        if !is_current || !self.runs(node) || self.knows(node, slot) {
            return;
        }
        self.log(format_args!("stream {slot} was forgotten"));
        let track = self.track(slot);
        self.slots[slot].live = false;
        self.input(node, Input::Unpublish { track });
        self.claim(slot);
    }

    fn claim_later(&mut self, slot: usize) {
        self.after(CLAIM_AGAIN, Event::Plane(plane::Event::Claim(slot)));
    }

    fn claimed(&mut self, slot: usize, answer: Result<Granted, String>) {
        if !std::mem::take(&mut self.slots[slot].claiming) {
            return;
        }
        match answer {
            Ok(granted) => {
                let state = &self.slots[slot];
                let held = state::HeldStream {
                    room: state.room.clone(),
                    stream: stream(slot),
                    generation: granted.generation,
                    hls_base: granted.hls_base,
                    identity: format!("teacher-{slot}"),
                };
                let node = state.edge;
                self.nodes[node].streams.insert(slot, held);
                self.go_live(slot, granted.generation);
                if !self.slots[slot].wanted {
                    self.unpublish(slot);
                }
            }
            Err(why) => {
                self.log(format_args!("no claim of {slot}: {why}"));
                self.claim_later(slot);
            }
        }
    }

    pub(crate) fn release(&mut self, slot: usize) {
        let node = self.slots[slot].edge;
        self.nodes[node].streams.remove(&slot);
        if !self.nodes[node].session.welcomed {
            return;
        }
        let state = &self.slots[slot];
        let release = FromWord::Release {
            session: self.nodes[node].session.id,
            room: state.room.clone(),
            stream: stream(slot),
            generation: state.generation,
        };
        self.say(node, release);
    }
}

struct Viewing {
    at: usize,
    slot: usize,
}
