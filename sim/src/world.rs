//! The world: nodes, links, users, and the loop that lets things happen.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use longspan_lab::wan::{Direction, Profile};
use longspan_proto::{
    ids::{NodeId, TrackId},
    time::Time,
    wire::{Role, probe::Probe},
};
use longspan_relay::forward::{self, Config};
use longspan_topology::link::Cadence;

use crate::{
    Dice, Layout,
    clock::Clock,
    conn::Conn,
    law::Laws,
    node::Node,
    people::{Slot, Viewer},
    pipe::Carried,
    plane::{Plane, Word},
    queue::Queue,
};

/// Whether worlds tell on standard error what happens in them, from now on.
pub static TRACE: AtomicBool = AtomicBool::new(false);

/// More events than this at one instant are a core that asks to be woken for nothing.
const MOST_AT_ONCE: u64 = 50_000;

/// Packets that wait for a stopped process: 8 MB, as small ones are accounted for. Of more, probes
/// are lost; others are sent again until there is room, which is the same as waiting here.
const SOCKET: usize = 8_192;

/// Where tables come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tables {
    /// From [`World::tables`], and every link of the layout is a neighbourhood.
    ByHand,
    /// From so many controllers over one store.
    Controllers(usize),
}

/// How a world is set up.
#[derive(Clone)]
pub struct Setup {
    /// All chance comes from here.
    pub seed: u64,
    /// Where tables come from.
    pub tables: Tables,
    /// Each node's bounds.
    pub config: fn(NodeId, Role) -> Config,
    /// Bytes of a frame of video.
    pub frame_size: usize,
    /// Whether nodes' clocks differ and drift.
    pub clocks: bool,
    /// Tables are computed at most this often.
    pub recompute_every: Duration,
    /// How often links are probed.
    pub cadence: Cadence,
}

impl Setup {
    /// Defaults for a seed.
    pub fn new(seed: u64, tables: Tables) -> Setup {
        Setup {
            seed,
            tables,
            config: Config::new,
            frame_size: 1_000,
            clocks: true,
            recompute_every: longspan_controller::Limits::default().recompute_every,
            cadence: Cadence::default(),
        }
    }
}

/// Everything that can be due.
pub(crate) enum Event {
    /// An item has arrived, whole, at the other end of this side's pipe.
    Arrive(u32, u8, Box<Carried>),
    /// Lost packets of an item are sent again.
    Resend(u32, u8, Box<Carried>),
    /// A probe of this side arrives at the other.
    Probe(u32, u8, Box<Probe>),
    /// This side's prober has something to do.
    Beat(u32, u8),
    /// This side's pipe has room.
    Pull(u32, u8),
    /// This side asks whether its connection is idle.
    Idle(u32, u8),
    /// The other side's goodbye arrives at this one.
    Closed(u32, u8),
    /// A handshake's leg is sent, for the nth time.
    Leg(u32, u8, u8),
    /// It arrives.
    Hello(u32, u8),
    /// A handshake took too long (`true`: it is given up; `false`: it is only waited for).
    Late(u32, bool),
    Dial(u32),
    Wake(u32),
    Produce(u32, u64),
    Return(u32),
    /// A node of this boot looks for a controller.
    Seek(u32, u64),
    Report(u32, u64),
    Backups(u32, u64),
    Heartbeat(u32, u64),
    /// A node's word arrives at its controller, or the other way.
    Word(Box<Word>),
    Plane(crate::plane::Event),
}

/// A link as it is now.
pub(crate) struct LinkState {
    pub directions: [Direction; 2],
    pub cut: [bool; 2],
    pub cut_since: Time,
    pub brown: bool,
    /// Each end's connection.
    pub conns: [Option<u32>; 2],
    /// The connection that is being made.
    pub dialing: Option<u32>,
    pub redial: Duration,
    /// Whether a dial is scheduled.
    pub dial_due: bool,
    /// The dialer counts the other as out of reach.
    pub unreachable: bool,
    /// Bytes sent from each end: media, control, probes.
    pub bytes: [[u64; 3]; 2],
}

/// Everything there is, in one virtual time.
pub struct World {
    /// The world's time.
    pub now: Time,
    /// Who is where.
    pub layout: Layout,
    pub(crate) setup: Setup,
    pub(crate) dice: Dice,
    pub(crate) nodes: Vec<Node>,
    pub(crate) links: Vec<LinkState>,
    /// By ends (the lower first).
    pub(crate) by_ends: HashMap<(usize, usize), usize>,
    /// Each node's links.
    pub(crate) links_of: Vec<Vec<usize>>,
    pub(crate) conns: Vec<Option<Box<Conn>>>,
    /// Streams that edges publish.
    pub slots: Vec<Slot>,
    /// Who watches them.
    pub viewers: Vec<Viewer>,
    /// The frames of every group that was ever published.
    pub(crate) truth: HashMap<TrackId, BTreeMap<u64, u64>>,
    pub(crate) queue: Queue<Event>,
    pub(crate) next_local: u64,
    pub(crate) by_local: HashMap<forward::LocalKey, usize>,
    at_once: u64,
    pub(crate) table_n: u64,
    /// Full links, (sender, receiver), in tables made by hand.
    pub(crate) full: BTreeSet<(NodeId, NodeId)>,
    pub(crate) plane: Plane,
    pub(crate) laws: Laws,
    hash: u64,
    /// Verdicts `down` on links over which both ends could be heard.
    pub false_downs: u64,
}

impl World {
    /// Everybody boots.
    pub fn new(layout: Layout, setup: Setup) -> World {
        let mut dice = Dice::new(setup.seed);
        let nodes = layout.nodes.iter().map(|_| {
            let clock = match setup.clocks {
                true => Clock {
                    offset_us: dice.below(86_400_000_000),
                    ppm: dice.below(101) as i64 - 50,
                },
                false => Clock::default(),
            };
            Node::new(clock)
        });
        let nodes: Vec<Node> = nodes.collect();
        let links = layout.links.iter().map(|link| LinkState {
            directions: [0, 1]
                .map(|side| Direction::new(link.delay[side], link.profile.clone(), dice.any())),
            cut: [false; 2],
            cut_since: Time::ZERO,
            brown: false,
            conns: [None; 2],
            dialing: None,
            redial: Duration::ZERO,
            dial_due: false,
            unreachable: false,
            bytes: [[0; 3]; 2],
        });
        let links = links.collect();
        let mut links_of = vec![Vec::new(); nodes.len()];
        let mut by_ends = HashMap::new();
        for (at, link) in layout.links.iter().enumerate() {
            links_of[link.a].push(at);
            links_of[link.b].push(at);
            by_ends.insert((link.a.min(link.b), link.a.max(link.b)), at);
        }
        let plane = Plane::new(&setup, &layout, &mut dice);
        let laws = Laws::new(nodes.len());
        let mut world = World {
            now: Time::from_micros(1_000_000),
            layout,
            setup,
            dice,
            nodes,
            links,
            by_ends,
            links_of,
            conns: Vec::new(),
            slots: Vec::new(),
            viewers: Vec::new(),
            truth: HashMap::new(),
            queue: Queue::new(),
            next_local: 0,
            by_local: HashMap::new(),
            at_once: 0,
            table_n: 0,
            full: BTreeSet::new(),
            plane,
            laws,
            hash: 0xcbf2_9ce4_8422_2325,
            false_downs: 0,
        };
        for node in 0..world.nodes.len() {
            world.boot(node);
        }
        match world.setup.tables {
            Tables::ByHand => world.tables(&|_, _| 100),
            Tables::Controllers(_) => world.start_controllers(),
        }
        world
    }

    /// Whether a node's process is there, stopped or not.
    pub fn alive(&self, node: usize) -> bool {
        self.nodes[node].core.is_some()
    }

    /// A digest of everything that happened.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Events so far.
    pub fn events(&self) -> u64 {
        self.queue.scheduled()
    }

    pub(crate) fn log(&self, what: fmt::Arguments<'_>) {
        if TRACE.load(Ordering::Relaxed) {
            eprintln!("{:?} {what}", self.now);
        }
    }

    /// Mixes a number into the digest (FNV-1a over words).
    pub(crate) fn note(&mut self, what: u64) {
        self.hash = (self.hash ^ what).wrapping_mul(0x0000_0100_0000_01b3);
    }

    pub(crate) fn schedule(&mut self, at: Time, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.queue.push(self.now + wait, event);
    }

    /// Runs for so long, then checks the laws.
    pub fn run(&mut self, for_: Duration) {
        self.run_until(self.now + for_);
        self.check();
    }

    /// Runs until then; laws that can be seen at any moment are checked by whoever causes them.
    pub fn run_until(&mut self, until: Time) {
        while let Some((at, event)) = self.queue.pop(until) {
            self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
            assert!(self.at_once < MOST_AT_ONCE, "something spins");
            self.now = at;
            self.note(at.as_micros());
            self.happen(event);
        }
        self.now = until;
    }

    /// Whose doing an event is: a stopped node does it when it goes on. What arrives waits in its
    /// socket meanwhile.
    fn doer(&self, event: &Event) -> Option<usize> {
        let half = |id: u32, side: u8| {
            let conn = self.conns[id as usize].as_deref();
            conn.map(|conn| conn.halves[usize::from(side)].node)
        };
        match event {
            Event::Beat(id, side)
            | Event::Pull(id, side)
            | Event::Idle(id, side)
            | Event::Resend(id, side, _)
            | Event::Closed(id, side) => half(*id, *side),
            Event::Arrive(id, side, _) | Event::Probe(id, side, _) => half(*id, 1 - *side),
            Event::Late(id, _) => {
                let dialer = self.conns[*id as usize].as_deref().map(|c| c.dialer);
                half(*id, dialer? as u8)
            }
            Event::Dial(link) => Some(self.dialing_node(*link as usize)),
            Event::Wake(node)
            | Event::Seek(node, _)
            | Event::Report(node, _)
            | Event::Backups(node, _)
            | Event::Heartbeat(node, _) => Some(*node as usize),
            Event::Produce(slot, _) => Some(self.slots[*slot as usize].edge),
            Event::Return(viewer) => Some(self.viewers[*viewer as usize].node),
            _ => None,
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(node) = self.doer(&event)
            && self.nodes[node].stopped
        {
            let held = &mut self.nodes[node].held;
            match event {
                // The socket's buffer is full.
                Event::Probe(..) if held.len() >= SOCKET => {}
                event => held.push(event),
            }
            return;
        }
        match event {
            Event::Arrive(conn, side, carried) => self.arrive(conn, side.into(), *carried),
            Event::Resend(conn, side, carried) => self.resend(conn, side.into(), carried),
            Event::Probe(conn, side, probe) => self.probe_arrives(conn, side.into(), &probe),
            Event::Beat(conn, side) => self.beat(conn, side.into()),
            Event::Pull(conn, side) => self.pull_due(conn, side.into()),
            Event::Idle(conn, side) => self.idle(conn, side.into()),
            Event::Closed(conn, side) => self.close(conn, side.into(), false),
            Event::Leg(conn, leg, attempt) => self.leg(conn, leg, attempt),
            Event::Hello(conn, leg) => self.hello(conn, leg),
            Event::Late(conn, over) => self.late(conn, over),
            Event::Dial(link) => self.dial(link as usize),
            Event::Wake(node) => self.wake(node as usize),
            Event::Produce(slot, generation) => self.produce(slot as usize, generation),
            Event::Return(viewer) => self.come_back(viewer as usize),
            Event::Seek(node, boot) => self.seek(node as usize, boot),
            Event::Report(node, boot) => self.report(node as usize, boot),
            Event::Backups(node, boot) => self.look_for_backups(node as usize, boot),
            Event::Heartbeat(node, boot) => self.heartbeat(node as usize, boot),
            Event::Word(word) => self.word(*word),
            Event::Plane(event) => self.plane_event(event),
        }
    }

    // Links.

    /// Lays a profile over both directions of every link, from the next packet on.
    pub fn lay(&mut self, change: impl Fn(&mut Profile)) {
        for link in 0..self.links.len() {
            change(&mut self.layout.links[link].profile);
            self.apply(link);
        }
    }

    /// Lays a profile over one direction of one link, whatever faults it has.
    pub fn lay_over(&mut self, link: usize, side: usize, profile: Profile) {
        let delay = self.layout.links[link].delay[side];
        self.links[link].directions[side].change(delay, profile);
    }

    fn apply(&mut self, link: usize) {
        for side in 0..2 {
            let state = &self.links[link];
            let profile = match (state.cut[side], state.brown) {
                (true, _) => Profile::blackhole(),
                (_, true) => Profile::brownout(),
                _ => self.layout.links[link].profile.clone(),
            };
            self.lay_over(link, side, profile);
        }
    }

    /// Nothing gets through any more, in this direction or in both; each end finds out by itself.
    pub fn cut(&mut self, link: usize, only: Option<usize>) {
        let (a, b) = self.ends(link);
        self.log(format_args!("cut {a} {b} {only:?}"));
        self.links[link].cut_since = self.now;
        for side in 0..2 {
            self.links[link].cut[side] |= only.is_none_or(|only| only == side);
        }
        self.apply(link);
    }

    /// 80 ms more, 15 % loss, 20 Mbit/s.
    pub fn brown_out(&mut self, link: usize) {
        let (a, b) = self.ends(link);
        self.log(format_args!("brown out {a} {b}"));
        self.links[link].brown = true;
        self.apply(link);
    }

    /// The link is as it was.
    pub fn heal(&mut self, link: usize) {
        let (a, b) = self.ends(link);
        self.log(format_args!("heal {a} {b}"));
        self.links[link].cut = [false; 2];
        self.links[link].brown = false;
        self.apply(link);
    }

    /// Whether packets get through both ways.
    pub fn is_open(&self, link: usize) -> bool {
        self.links[link].cut == [false; 2]
    }

    /// The link between two nodes.
    pub fn link_of(&self, a: usize, b: usize) -> Option<usize> {
        self.by_ends.get(&(a.min(b), a.max(b))).copied()
    }

    pub(crate) fn ends(&self, link: usize) -> (NodeId, NodeId) {
        let link = &self.layout.links[link];
        (
            self.layout.name(link.a).clone(),
            self.layout.name(link.b).clone(),
        )
    }

    /// The round trip of a link without jitter.
    pub fn rtt(&self, link: usize) -> Duration {
        let [there, back] = &self.links[link].directions;
        there.one_way() + back.one_way()
    }

    /// Bytes sent over a link so far, both ways: media, control, probes; headers included.
    pub fn bytes(&self, link: usize) -> [u64; 3] {
        let [there, back] = self.links[link].bytes;
        [0, 1, 2].map(|class| there[class] + back[class])
    }
}
