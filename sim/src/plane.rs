//! Controllers: the real [`State`]. It stands for `controller/src/driver` (the election's loop, one
//! term of leading).

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use longspan_controller::{
    Limits,
    state::{
        self, Call, CallId, Done, Granted, Input, Join, Now, Output, Said, State, Ticket,
        key::{Key, ROOT},
        record,
    },
    store::{Compare, Error, LeaseId, Revision, Snapshot, Txn, Write, embedded::engine::Engine},
};
use longspan_proto::{
    control::to_node,
    ids::{Generation, NodeId, RoomName, Stream},
    time::Time,
};

use crate::{
    Dice, Layout,
    world::{self, Setup, Tables, World},
};

/// How often a controller that does not lead looks whether anybody does. It stands for its watch.
const CAMPAIGN_EVERY: Duration = Duration::from_millis(300);
/// A node breaks with a controller that does not answer its pings (`relay/src/control/connect.rs`:
/// one every 2 s, answered within 3 s).
const DEAF_AFTER: Duration = Duration::from_secs(5);
/// The wall clock when the world begins: 2026-01-01.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// What nodes and controllers say to each other.
pub(crate) enum Word {
    FromNode {
        node: usize,
        controller: usize,
        conn: u64,
        said: FromWord,
    },
    ToNode {
        node: usize,
        conn: u64,
        said: ToWord,
    },
}

pub(crate) enum FromWord {
    /// With a random id for a new session.
    Join(Box<Join>, LeaseId),
    Said(Said),
    Claim(usize, state::Claim),
    Release {
        session: LeaseId,
        room: RoomName,
        stream: Stream,
        generation: Generation,
    },
    /// The connection broke.
    Left,
}

pub(crate) enum ToWord {
    Message(to_node::Message),
    Claimed(usize, Result<Granted, String>),
    /// The controller ended it, or is not the one that leads; and who is, if it knows.
    Broken(Option<usize>),
}

/// What is due in the control plane. The second number is the controller's boot.
pub(crate) enum Event {
    Campaign(usize, u64),
    Renew(usize, u64),
    Recover(usize, u64),
    Wake(usize, u64),
    /// A call arrives at the store; the term it was made in.
    Call(usize, u64, CallId, Call),
    /// Its answer arrives.
    Called(usize, u64, CallId, Result<Done, Error>),
    Feed(usize, u64),
    Deaf(usize, u64),
    Expire,
    Claim(usize),
    /// A stream of this generation may have been forgotten.
    Forgotten(usize, Generation),
    Unwelcomed(usize, u64),
}

pub(crate) struct Controller {
    pub id: NodeId,
    /// To each node.
    pub one_way: Vec<Duration>,
    pub up: bool,
    pub stopped: bool,
    held: Vec<world::Event>,
    pub boot: u64,
    state: Option<State>,
    /// Counts what it led, resumed leads included.
    term: u64,
    recovering: bool,
    lease: LeaseId,
    election: Revision,
    wake: Option<Time>,
    pub watch_from: Option<Revision>,
    pub feed_due: bool,
    conns: BTreeMap<u64, usize>,
    tickets: HashMap<Ticket, (u64, usize)>,
}

/// See the [module](self).
pub(crate) struct Plane {
    pub engine: Engine,
    pub store_up: bool,
    pub leases: BTreeMap<LeaseId, Duration>,
    era: u16,
    pub controllers: Vec<Controller>,
    pub next_conn: u64,
    next_ticket: u64,
    pub limits: Limits,
    pub expire_due: bool,
    /// The last generation given out of each stream.
    given: BTreeMap<(RoomName, Stream), Generation>,
    /// Primary paths that moved.
    pub switches: u64,
    /// When somebody began to lead last, or the store came back, or a stopped one went on.
    pub led_since: Time,
}

impl Plane {
    pub fn new(setup: &Setup, layout: &Layout, dice: &mut Dice) -> Plane {
        let count = match setup.tables {
            Tables::ByHand => 0,
            Tables::Controllers(count) => count,
        };
        let controllers = (0..count).map(|n| {
            // At the place of some relay; they sit apart.
            let place = (n * 5 + dice.below(3) as usize) % layout.relays;
            let one_way = |node: usize| {
                let ends = |l: &&crate::Link| {
                    (l.a == place && l.b == node) || (l.b == place && l.a == node)
                };
                let link = layout.links.iter().find(ends);
                let far = Duration::from_millis(80);
                link.map_or(
                    if node == place {
                        Duration::from_micros(100)
                    } else {
                        far
                    },
                    |l| (l.delay[0] + l.delay[1]) / 2,
                )
            };
            Controller {
                id: NodeId::new(&format!("controller-{n}")).expect("a slug"),
                one_way: (0..layout.nodes.len()).map(one_way).collect(),
                up: false,
                stopped: false,
                held: Vec::new(),
                boot: 0,
                state: None,
                term: 0,
                recovering: false,
                lease: 0,
                election: 0,
                wake: None,
                watch_from: None,
                feed_due: false,
                conns: BTreeMap::new(),
                tickets: HashMap::new(),
            }
        });
        Plane {
            engine: Engine::new(Time::ZERO, 0, 0, [], [], []),
            store_up: true,
            leases: BTreeMap::new(),
            era: 1,
            controllers: controllers.collect(),
            next_conn: 0,
            next_ticket: 0,
            limits: Limits {
                recompute_every: setup.recompute_every,
                ..Limits::default()
            },
            expire_due: false,
            given: BTreeMap::new(),
            switches: 0,
            led_since: Time::ZERO,
        }
    }

    pub fn fresh_lease(&self, dice: &mut Dice) -> LeaseId {
        1 + dice.below((1 << 53) - 1) as LeaseId
    }

    /// Who leads, as the store tells.
    pub fn leader(&self) -> Option<(record::Election, Revision, Option<LeaseId>)> {
        let key = Key::Election.to_string();
        let snapshot = self.engine.read(&key, None).ok()?;
        let entry = snapshot.entries.into_iter().find(|e| *e.key == *key)?;
        Some((record::read(&entry.value)?, entry.revision, entry.lease))
    }

    fn whole(&self) -> Snapshot {
        let read = |below: &str| {
            let prefix = format!("{ROOT}{below}");
            self.engine
                .read(&prefix, None)
                .expect("the newest revision")
        };
        let mut snapshot = read("nodes/");
        snapshot.entries.extend(read("tenants/").entries);
        snapshot.entries.extend(read("overrides/").entries);
        snapshot
    }
}

impl World {
    fn plane_now(&self) -> Now {
        Now {
            time: self.now,
            unix_ms: EPOCH_MS + self.now.as_micros() / 1_000,
        }
    }

    pub(crate) fn start_controllers(&mut self) {
        for c in 0..self.plane.controllers.len() {
            self.start_controller(c);
        }
    }

    /// A controller's process begins.
    pub fn start_controller(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        if std::mem::replace(&mut controller.up, true) {
            return;
        }
        controller.boot += 1;
        // What was due of the process before is not.
        controller.wake = None;
        controller.feed_due = false;
        let event = Event::Campaign(c, controller.boot);
        self.log(format_args!("controller {c} starts"));
        self.after(Duration::ZERO, world::Event::Plane(event));
    }

    /// It dies: its nodes see their connections reset.
    pub fn kill_controller(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        if !std::mem::take(&mut controller.up) {
            return;
        }
        controller.stopped = false;
        controller.held.clear();
        self.log(format_args!("controller {c} dies"));
        self.step_down(c);
    }

    /// SIGSTOP for a controller.
    pub fn stop_controller(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        controller.stopped = controller.up;
        let event = Event::Deaf(c, controller.boot);
        self.log(format_args!("controller {c} is stopped"));
        self.after(DEAF_AFTER, world::Event::Plane(event));
    }

    /// SIGCONT for a controller.
    pub fn continue_controller(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        if !std::mem::take(&mut controller.stopped) {
            return;
        }
        let held = std::mem::take(&mut controller.held);
        self.plane.led_since = self.now;
        self.log(format_args!("controller {c} goes on"));
        for event in held {
            self.after(Duration::ZERO, event);
        }
    }

    /// Whether some controller leads now, and can.
    pub fn is_led(&self) -> bool {
        let leads = |c: &Controller| c.state.is_some() && c.up && !c.stopped && !c.recovering;
        self.plane.store_up && self.plane.controllers.iter().any(leads)
    }

    /// Whether it has for so long, without a break.
    pub(crate) fn has_been_led(&self, for_: Duration) -> bool {
        let since = self.plane.led_since;
        self.is_led() && self.now.saturating_since(since) >= for_
    }

    /// Primary paths that controllers moved so far.
    pub fn switches(&self) -> u64 {
        self.plane.switches
    }

    fn step_down(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        controller.state = None;
        controller.term += 1;
        controller.watch_from = None;
        controller.recovering = false;
        controller.tickets.clear();
        let conns = std::mem::take(&mut controller.conns);
        for (conn, node) in conns {
            self.say_to_node(node, conn, ToWord::Broken(None));
        }
    }

    pub(crate) fn plane_event(&mut self, event: Event) {
        let whose = match &event {
            Event::Campaign(c, boot)
            | Event::Renew(c, boot)
            | Event::Recover(c, boot)
            | Event::Wake(c, boot)
            | Event::Feed(c, boot) => Some((*c, Some(*boot))),
            Event::Called(c, ..) => Some((*c, None)),
            _ => None,
        };
        if let Some((c, boot)) = whose {
            let controller = &mut self.plane.controllers[c];
            if !controller.up || boot.is_some_and(|boot| boot != controller.boot) {
                return;
            }
            if controller.stopped {
                controller.held.push(world::Event::Plane(event));
                return;
            }
        }
        match event {
            Event::Campaign(c, boot) => self.campaign(c, boot),
            Event::Renew(c, boot) => self.renew(c, boot),
            Event::Recover(c, boot) => self.recover(c, boot),
            Event::Wake(c, _) => {
                let now = self.now;
                let controller = &mut self.plane.controllers[c];
                if controller.wake.is_none_or(|at| at > now) {
                    return;
                }
                controller.wake = None;
                let now = self.plane_now();
                if let Some(state) = &mut self.plane.controllers[c].state {
                    state.handle_timeout(now);
                    self.pump(c);
                }
            }
            Event::Call(c, term, id, call) => self.store_does(c, term, id, call),
            Event::Called(c, term, id, result) => {
                if self.plane.controllers[c].term == term {
                    let lost = matches!(result, Err(Error::Unavailable(_)));
                    if lost {
                        self.lost(c);
                    }
                    self.control(c, Input::Called(id, result));
                }
            }
            Event::Feed(c, _) => self.feed(c),
            Event::Deaf(c, boot) => {
                let controller = &self.plane.controllers[c];
                if controller.boot == boot && controller.stopped {
                    let nodes: Vec<_> = controller.conns.iter().map(|(c, n)| (*c, *n)).collect();
                    for (conn, node) in nodes {
                        if self.nodes[node].session.conn == conn {
                            self.session_broke(node);
                        }
                    }
                }
            }
            Event::Expire => {
                self.plane.expire_due = false;
                if self.plane.store_up {
                    self.plane.engine.expire(self.now);
                    self.store_changed();
                }
                self.expire_later();
            }
            Event::Claim(slot) => self.claim(slot),
            Event::Forgotten(slot, generation) => self.forgotten(slot, generation),
            Event::Unwelcomed(node, conn) => self.unwelcomed(node, conn),
        }
    }

    fn campaign(&mut self, c: usize, boot: u64) {
        if self.plane.controllers[c].state.is_some() {
            return;
        }
        let again = world::Event::Plane(Event::Campaign(c, boot));
        if !self.plane.store_up {
            self.after(CAMPAIGN_EVERY, again);
            return;
        }
        match self.plane.leader() {
            Some((leader, _, lease)) => {
                // An earlier run of its own.
                if leader.id == self.plane.controllers[c].id
                    && let Some(lease) = lease
                {
                    let _ = self.plane.engine.revoke(lease);
                    self.store_changed();
                }
                let jitter = Duration::from_micros(self.dice.below(20_000));
                self.after(CAMPAIGN_EVERY + jitter, again);
            }
            None => self.stand(c),
        }
    }

    /// Nobody leads: this one does.
    fn stand(&mut self, c: usize) {
        let lease = self.plane.fresh_lease(&mut self.dice);
        let ttl = self.plane.limits.election_ttl;
        let now = self.now;
        let record = record::Election {
            id: self.plane.controllers[c].id.clone(),
            url: String::new(),
            http: None,
        };
        let key = Key::Election.to_string();
        let txn = Txn {
            compares: vec![Compare::Absent(key.clone())],
            writes: vec![Write::Put {
                key,
                value: record::write(&record),
                lease: Some(lease),
            }],
        };
        self.plane
            .engine
            .grant(now, lease, ttl)
            .expect("a fresh lease");
        self.plane.leases.insert(lease, ttl);
        let revision = self.plane.engine.commit(&txn).expect("nobody led");
        let controller = &mut self.plane.controllers[c];
        controller.lease = lease;
        controller.election = revision;
        self.expire_later();
        self.store_changed();
        self.begin(c);
    }

    /// It leads, at first or again: all is read anew.
    fn begin(&mut self, c: usize) {
        let limits = self.plane.limits.clone();
        let snapshot = self.plane.whole();
        let era = self.plane.era;
        self.plane.led_since = self.now;
        let controller = &mut self.plane.controllers[c];
        controller.term += 1;
        controller.recovering = false;
        controller.watch_from = Some(snapshot.revision + 1);
        let election = controller.election;
        let boot = controller.boot;
        controller.state.get_or_insert_with(|| State::new(limits));
        self.log(format_args!("controller {c} leads since {election}"));
        let now = self.now;
        self.control(c, Input::Renewed(now));
        self.control(
            c,
            Input::Leading {
                election,
                era,
                snapshot,
            },
        );
        let every = self.plane.limits.election_ttl / 3;
        self.after(every, world::Event::Plane(Event::Renew(c, boot)));
    }

    fn renew(&mut self, c: usize, boot: u64) {
        let controller = &self.plane.controllers[c];
        if controller.state.is_none() || controller.recovering {
            return;
        }
        let lease = controller.lease;
        let now = self.now;
        if !self.plane.store_up {
            self.lost(c);
            return;
        }
        match self.plane.engine.keep_alive(now, lease) {
            Ok(()) => {
                self.control(c, Input::Renewed(now));
                let every = self.plane.limits.election_ttl / 3;
                self.after(every, world::Event::Plane(Event::Renew(c, boot)));
            }
            Err(_) => self.lost(c),
        }
    }

    /// The store cannot be reached, or says that the election's lease is over.
    pub(crate) fn lost(&mut self, c: usize) {
        let controller = &mut self.plane.controllers[c];
        if controller.recovering || controller.state.is_none() {
            return;
        }
        controller.recovering = true;
        controller.watch_from = None;
        let event = Event::Recover(c, controller.boot);
        self.control(c, Input::StoreLost);
        self.after(CAMPAIGN_EVERY, world::Event::Plane(event));
    }

    fn recover(&mut self, c: usize, boot: u64) {
        let controller = &self.plane.controllers[c];
        if !controller.recovering {
            return;
        }
        if !self.plane.store_up {
            let event = Event::Recover(c, boot);
            self.after(CAMPAIGN_EVERY, world::Event::Plane(event));
            return;
        }
        let (lease, election) = (controller.lease, controller.election);
        let held = self.plane.engine.keep_alive(self.now, lease).is_ok();
        match self.plane.leader() {
            Some((_, revision, _)) if held && revision == election => self.begin(c),
            None => self.stand(c),
            Some(_) => {
                self.log(format_args!("controller {c} leads no more"));
                self.step_down(c);
                let event = Event::Campaign(c, boot);
                self.after(CAMPAIGN_EVERY, world::Event::Plane(event));
            }
        }
    }

    /// Tells a leading controller what happened, and carries out what it wants.
    pub(crate) fn control(&mut self, c: usize, input: Input) {
        let now = self.plane_now();
        if let Some(state) = &mut self.plane.controllers[c].state {
            state.handle(now, input);
            self.pump(c);
        }
    }

    fn pump(&mut self, c: usize) {
        loop {
            let controller = &mut self.plane.controllers[c];
            let Some(state) = &mut controller.state else {
                return;
            };
            let Some(output) = state.poll_output() else {
                break;
            };
            let term = controller.term;
            match output {
                Output::Call(id, call) => {
                    let wait = self.store_wait();
                    let event = Event::Call(c, term, id, call);
                    self.after(wait, world::Event::Plane(event));
                }
                Output::RaiseEra(era) => {
                    self.plane.era = self.plane.era.max(era);
                    let era = self.plane.era;
                    self.control(c, Input::Era(era));
                }
                Output::Push(conn, message) => {
                    if let (Some(node), Some(message)) =
                        (controller.conns.get(&conn).copied(), message.message)
                    {
                        self.say_to_node(node, conn, ToWord::Message(message));
                    }
                }
                Output::Close(conn, why) => {
                    if let Some(node) = controller.conns.remove(&conn) {
                        self.log(format_args!("controller {c} closes {conn}: {why}"));
                        self.say_to_node(node, conn, ToWord::Broken(None));
                    }
                }
                Output::Claimed(ticket, answer) => {
                    if let Some((conn, slot)) = controller.tickets.remove(&ticket) {
                        self.answered(c, conn, slot, answer);
                    }
                }
                // Operators ask for nothing here.
                Output::Changed(..)
                | Output::Traced(..)
                | Output::Moving(..)
                | Output::Kept(..) => {}
                Output::Event(event) => {
                    self.plane.switches +=
                        u64::from(matches!(event, state::Event::RouteSwitched(_)));
                    self.log(format_args!("controller {c}: {event:?}"));
                }
            }
        }
        let now = self.now;
        let controller = &mut self.plane.controllers[c];
        let boot = controller.boot;
        if let Some(due) = controller.state.as_ref().and_then(State::poll_timeout) {
            let at = due.max(now);
            if controller.wake.is_none_or(|wake| at < wake) {
                controller.wake = Some(at);
                self.schedule(at, world::Event::Plane(Event::Wake(c, boot)));
            }
        }
    }

    fn answered(
        &mut self,
        c: usize,
        conn: u64,
        slot: usize,
        answer: Result<Granted, state::Refused>,
    ) {
        if let Ok(granted) = &answer {
            let name = (self.slots[slot].room.clone(), crate::people::stream(slot));
            let before = self.plane.given.insert(name, granted.generation);
            self.laws.generation(slot, before, granted.generation);
        }
        let Some(node) = self.plane.controllers[c].conns.get(&conn).copied() else {
            return;
        };
        let answer = answer.map_err(|why| why.to_string());
        self.say_to_node(node, conn, ToWord::Claimed(slot, answer));
    }

    pub(crate) fn controller_hears(&mut self, c: usize, node: usize, conn: u64, said: FromWord) {
        let controller = &mut self.plane.controllers[c];
        if controller.stopped {
            let controller_ = c;
            let word = Word::FromNode {
                node,
                controller: controller_,
                conn,
                said,
            };
            controller.held.push(world::Event::Word(Box::new(word)));
            return;
        }
        if controller.state.is_none() || !controller.up {
            // Refused by whoever does not lead, or by a closed port.
            let runs = controller.up;
            let leads = |other: &Controller| other.up && other.state.is_some();
            let leader = self.plane.controllers.iter().position(leads);
            if !matches!(said, FromWord::Left) {
                let leader = leader.filter(|_| runs);
                self.say_to_node(node, conn, ToWord::Broken(leader));
            }
            return;
        }
        match said {
            FromWord::Join(join, fresh) => {
                controller.conns.insert(conn, node);
                self.control(c, Input::Joined { conn, join, fresh });
            }
            FromWord::Said(said) => self.control(c, Input::Said(conn, said)),
            FromWord::Claim(slot, claim) => {
                self.plane.next_ticket += 1;
                let ticket = self.plane.next_ticket;
                self.plane.controllers[c]
                    .tickets
                    .insert(ticket, (conn, slot));
                self.control(c, Input::Claim(ticket, claim));
            }
            FromWord::Release {
                session,
                room,
                stream,
                generation,
            } => {
                let input = Input::Release {
                    session,
                    room,
                    stream,
                    generation,
                };
                self.control(c, input);
            }
            FromWord::Left => {
                if controller.conns.remove(&conn).is_some() {
                    self.control(c, Input::Left(conn));
                }
            }
        }
    }
}
