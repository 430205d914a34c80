//! The state against a model of the store (the embedded store's pure engine), in a clock that is
//! moved by hand.

mod cases;
mod edges;
mod fencing;
mod groups;
mod moves;
mod overrides;
mod policies;
mod takeover;
mod traces;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::{
    control::{self, to_node},
    ids::{BootId, Generation, Net, NodeId, Room, RoomName, Stream, Tenant},
    time::Time,
    wire::Role,
};

use longspan_topology::{
    encoding,
    graph::{Link, Metrics},
    routes::Routes,
};

use super::{key::Target, *};
use crate::{
    routes::Report,
    store::{self, Error, Txn, Write, embedded::Engine},
};

pub fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

pub fn room(name: &str) -> RoomName {
    RoomName {
        tenant: Tenant::default_tenant(),
        room: Room::new(name).unwrap(),
    }
}

pub fn stream(name: &str) -> Stream {
    Stream::new(name).unwrap()
}

/// `hk-relay-1` is a relay in `hk`, `hk-edge-1` an edge there.
pub fn info(id: &str, boot: u64) -> record::Node {
    let region = id.split('-').next().unwrap();
    let (lat, lon) = match region {
        "bj" => (40.0, 116.0),
        "hk" => (22.0, 114.0),
        "sg" => (1.0, 104.0),
        _ => (50.0, 8.0),
    };
    record::Node {
        id: node(id),
        role: if id.contains("relay") {
            Role::Relay
        } else {
            Role::Edge
        },
        boot: BootId(boot),
        region: region.parse().unwrap(),
        zone: "a".parse().unwrap(),
        country: String::new(),
        city: String::new(),
        lat,
        lon,
        quic: Vec::new(),
        http: String::new(),
        rtmp: String::new(),
        admin: String::new(),
        version: String::new(),
        attached: Vec::new(),
    }
}

/// A link that lives; one-way ms.
pub fn report(from: &str, ms: u64) -> Report {
    Report {
        from: node(from),
        link: Link {
            net: Net::internet(),
            up: true,
            metrics: Metrics {
                raw_delay_us: (ms * 1_000) as i64,
                rtt_us: ms * 2_000,
                jitter_p95_us: 0,
                loss: 0.0,
            },
        },
        rate_bps: 0,
    }
}

/// What a node says that knows nothing.
pub fn join(id: &str, boot: u64, session: LeaseId) -> Join {
    Join {
        node: info(id, boot),
        session,
        highest: Generation(0),
        table: None,
        held: None,
        streams: Vec::new(),
        carries: false,
        disk: 0,
        groups: Vec::new(),
    }
}

/// One controller and what became of its outputs.
pub struct Controller {
    pub state: State,
    election: LeaseId,
    calls: VecDeque<(CallId, Call)>,
    /// Results on their way.
    results: VecDeque<(CallId, Result<Done, Error>)>,
    /// What of the store's history it was told.
    told: Revision,
    pub claimed: BTreeMap<Ticket, Result<Granted, Refused>>,
    pub changed: BTreeMap<Ticket, Result<Changed, Unchanged>>,
    pub traced: BTreeMap<Ticket, Option<RoomTrace>>,
    pub moving: BTreeMap<Ticket, Result<Begun, Unchanged>>,
    pub kept: BTreeMap<Ticket, Result<PolicyView, Unchanged>>,
    pub audit: Vec<serde_json::Value>,
    pub pushed: BTreeMap<Conn, Vec<to_node::Message>>,
    pub closed: BTreeMap<Conn, Close>,
    pub events: Vec<Event>,
}

/// The store, the clock and controllers.
pub struct World {
    pub engine: Engine,
    pub at: Duration,
    pub controllers: Vec<Controller>,
    next: u64,
    /// The store answers nobody.
    pub cut: bool,
}

impl World {
    /// A new store, and one controller that leads.
    pub fn new() -> World {
        let mut world = World {
            engine: Engine::new(Time::ZERO, 0, 0, [], [], []),
            at: Duration::from_secs(1),
            controllers: Vec::new(),
            next: 0,
            cut: false,
        };
        world.elect();
        world
    }

    pub fn now(&self) -> Now {
        Now {
            time: Time::ZERO + self.at,
            unix_ms: 1_000_000_000 + self.at.as_millis() as u64,
        }
    }

    /// A new controller takes the election from whoever has it, who may not know.
    pub fn elect(&mut self) -> usize {
        self.next += 1;
        let lease = 1_000_000 + self.next as LeaseId;
        self.controllers.push(Controller {
            state: State::new(Limits::default()),
            election: lease,
            calls: VecDeque::new(),
            results: VecDeque::new(),
            told: 0,
            claimed: BTreeMap::new(),
            changed: BTreeMap::new(),
            traced: BTreeMap::new(),
            moving: BTreeMap::new(),
            kept: BTreeMap::new(),
            audit: Vec::new(),
            pushed: BTreeMap::new(),
            closed: BTreeMap::new(),
            events: Vec::new(),
        });
        let index = self.controllers.len() - 1;
        self.lead(index, true);
        index
    }

    /// The controller reads all, with its own election (won anew if `stand`).
    pub fn lead(&mut self, index: usize, stand: bool) {
        let now = self.now();
        let key = key::Key::Election.to_string();
        let lease = self.controllers[index].election;
        if stand {
            let granted = self
                .engine
                .grant(now.time, lease, Duration::from_secs(1_000_000));
            assert!(matches!(granted, Ok(()) | Err(Error::LeaseExists(_))));
            let put = Write::Put {
                key: key.clone(),
                value: "{}".into(),
                lease: Some(lease),
            };
            let txn = Txn {
                compares: vec![],
                writes: vec![put],
            };
            self.engine.commit(&txn).unwrap();
        }
        let record = self.engine.read(&key, None).unwrap().entries.remove(0);
        let election = if stand {
            record.revision
        } else {
            self.controllers[index].state.election
        };
        let snapshot = self.engine.read(key::ROOT, None).unwrap();
        let controller = &mut self.controllers[index];
        controller.told = snapshot.revision;
        controller.calls.clear();
        controller.results.clear();
        controller.state.handle(now, Input::Renewed(now.time));
        let leading = Input::Leading {
            election,
            era: 0,
            snapshot,
        };
        controller.input(now, leading);
    }

    pub fn input(&mut self, index: usize, input: Input) {
        let now = self.now();
        self.controllers[index].input(now, input);
    }

    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A node joins the first controller.
    pub fn join(&mut self, id: &str, boot: u64, session: LeaseId) -> Conn {
        self.join_at(0, id, boot, session)
    }

    pub fn join_at(&mut self, index: usize, id: &str, boot: u64, session: LeaseId) -> Conn {
        self.join_with(index, join(id, boot, session))
    }

    pub fn join_with(&mut self, index: usize, join: Join) -> Conn {
        let conn = self.number();
        let joined = Input::Joined {
            conn,
            fresh: conn as LeaseId,
            join: Box::new(join),
        };
        self.input(index, joined);
        conn
    }

    pub fn said(&mut self, conn: Conn, said: Said) {
        self.input(0, Input::Said(conn, said));
    }

    pub fn watch(&mut self, conn: Conn, name: &str) {
        let (viewers, members) = (0, 0);
        let room = room(name);
        let watch = Said::Watch {
            room,
            viewers,
            members,
        };
        self.said(conn, watch);
    }

    /// Asks for a stream at the first controller.
    pub fn ask(&mut self, id: &str, name: (&str, &str), identity: &str) -> Ticket {
        self.ask_at(0, id, name, identity)
    }

    pub fn ask_at(&mut self, index: usize, id: &str, name: (&str, &str), identity: &str) -> Ticket {
        let ticket = self.number();
        let known = self.controllers[index].state.nodes.get(&node(id));
        let claim = Claim {
            session: known.map_or(0, |n| n.lease),
            edge: node(id),
            room: room(name.0),
            stream: stream(name.1),
            identity: identity.into(),
        };
        self.input(index, Input::Claim(ticket, claim));
        ticket
    }

    /// A claim, settled.
    pub fn claim(
        &mut self,
        id: &str,
        name: (&str, &str),
        identity: &str,
    ) -> Result<Granted, Refused> {
        let ticket = self.ask(id, name, identity);
        self.settle();
        let told = self.controllers[0].claimed.remove(&ticket);
        told.expect("the claim is answered")
    }

    /// Makes the oldest call on the store; its result is on its way then.
    pub fn step(&mut self, index: usize) -> bool {
        let Some((id, call)) = self.controllers[index].calls.pop_front() else {
            return false;
        };
        let audit = match &call {
            Call::Audited(_, record) => Some(record.clone()),
            _ => None,
        };
        let result = self.make(call);
        if result.is_ok() {
            self.controllers[index].audit.extend(audit);
        }
        self.controllers[index].results.push_back((id, result));
        true
    }

    /// The oldest call is lost, or its answer is (`happens`).
    pub fn lose(&mut self, index: usize, happens: bool) -> bool {
        let Some((id, call)) = self.controllers[index].calls.pop_front() else {
            return false;
        };
        if happens {
            let _ = self.make(call);
        }
        let lost = Err(Error::Unavailable("cut".into()));
        self.controllers[index].results.push_back((id, lost));
        true
    }

    fn make(&mut self, call: Call) -> Result<Done, Error> {
        let now = self.now().time;
        if self.cut {
            return Err(Error::Unavailable("cut".into()));
        }
        match call {
            Call::Read(key) => {
                let found = self.engine.read(&key, None)?.entries;
                Ok(Done::Entry(found.into_iter().find(|e| *e.key == *key)))
            }
            Call::Commit(txn) | Call::Audited(txn, _) => {
                self.engine.commit(&txn).map(Done::Committed)
            }
            Call::Grant(id, ttl) => self.engine.grant(now, id, ttl).map(|()| Done::Lease),
            Call::KeepAlive(id) => self.engine.keep_alive(now, id).map(|()| Done::Lease),
            Call::Revoke(id) => self.engine.revoke(id).map(|()| Done::Lease),
        }
    }

    /// Delivers the oldest result.
    pub fn answer(&mut self, index: usize) -> bool {
        let Some((id, result)) = self.controllers[index].results.pop_front() else {
            return false;
        };
        self.input(index, Input::Called(id, result));
        true
    }

    /// Tells what happened in the store.
    pub fn tell(&mut self, index: usize) -> bool {
        if self.cut {
            return false;
        }
        let from = self.controllers[index].told + 1;
        let Some(batch) = self
            .engine
            .since(key::ROOT, from)
            .ok()
            .and_then(|batches| batches.into_iter().next())
        else {
            return false;
        };
        self.controllers[index].told = batch.revision;
        self.input(index, Input::Changed(batch));
        true
    }

    /// Everything that can happen without time passing.
    pub fn settle(&mut self) {
        for index in 0..self.controllers.len() {
            while self.step(index) || self.answer(index) || self.tell(index) {}
        }
    }

    /// Time passes; leases end.
    pub fn wait(&mut self, time: Duration) {
        self.at += time;
        let now = self.now();
        if !self.cut {
            self.engine.expire(now.time);
        }
        for controller in &mut self.controllers {
            while controller
                .state
                .poll_timeout()
                .is_some_and(|t| t <= now.time)
            {
                controller.state.handle_timeout(now);
                controller.drain();
            }
        }
        self.settle();
    }

    /// Time passes for nodes that live: they send heartbeats.
    pub fn live(&mut self, conns: &[Conn], seconds: u64) {
        for _ in 0..seconds {
            for conn in conns {
                self.said(*conn, Said::Heartbeat);
            }
            self.settle();
            let now = self.now().time;
            for controller in &mut self.controllers {
                controller.state.handle(
                    Now {
                        time: now,
                        unix_ms: 0,
                    },
                    Input::Renewed(now),
                );
            }
            self.wait(Duration::from_secs(1));
        }
    }

    /// The keys in the store, without our root and without what is ours alone.
    pub fn keys(&self) -> Vec<String> {
        let snapshot = self.engine.read(key::ROOT, None).unwrap();
        let keys = snapshot.entries.iter();
        keys.map(|e| e.key.strip_prefix(key::ROOT).unwrap().to_owned())
            .filter(|key| !key.starts_with("election"))
            .collect()
    }

    pub fn state(&self) -> &State {
        &self.controllers[0].state
    }

    /// The table a node has that took all it was pushed on a connection.
    pub fn table(&self, conn: Conn) -> Option<Routes> {
        self.table_at(0, conn)
    }

    pub fn table_at(&self, index: usize, conn: Conn) -> Option<Routes> {
        let pushed = self.controllers[index].pushed.get(&conn)?;
        let tables = pushed.iter().filter_map(|m| match m {
            to_node::Message::Table(table) => Some(table),
            _ => None,
        });
        tables.fold(None, |held, told| {
            let held = held.unwrap_or_default();
            Some(encoding::read(told, &held).expect("a table of what was pushed before"))
        })
    }

    /// The newest state of a room a connection was pushed.
    pub fn told_room(&self, conn: Conn, name: &str) -> Option<&control::RoomState> {
        let pushed = self.controllers[0].pushed.get(&conn)?;
        pushed.iter().rev().find_map(|m| match m {
            to_node::Message::Room(state) if state.room == name => Some(state),
            _ => None,
        })
    }
}

impl Controller {
    fn input(&mut self, now: Now, input: Input) {
        self.state.handle(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.state.poll_output() {
            match output {
                Output::Call(id, call) => self.calls.push_back((id, call)),
                Output::RaiseEra(_) => {}
                Output::Push(conn, message) => {
                    let message = message.message.expect("a message");
                    self.pushed.entry(conn).or_default().push(message);
                }
                Output::Close(conn, why) => {
                    self.closed.insert(conn, why);
                }
                Output::Claimed(ticket, answer) => {
                    let before = self.claimed.insert(ticket, answer);
                    assert!(before.is_none(), "one answer a claim");
                }
                Output::Changed(ticket, answer) => {
                    self.changed.insert(ticket, answer);
                }
                Output::Traced(ticket, answer) => {
                    self.traced.insert(ticket, answer.map(|trace| *trace));
                }
                Output::Moving(ticket, answer) => {
                    let before = self.moving.insert(ticket, answer);
                    assert!(before.is_none(), "one answer a wish");
                }
                Output::Kept(ticket, answer) => {
                    let before = self.kept.insert(ticket, answer);
                    assert!(before.is_none(), "one answer a wish");
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }
}

/// All generations ever committed for a stream, by who: from the store's history.
pub fn issued(engine: &Engine) -> BTreeMap<String, Vec<(Generation, String)>> {
    let mut issued: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for batch in engine.since(key::ROOT, engine.oldest()).unwrap() {
        for event in batch.events {
            let store::Event::Put(entry) = event else {
                continue;
            };
            if let Some(key::Key::Generation(..)) = key::Key::parse(&entry.key) {
                let record: record::Issued = record::read(&entry.value).unwrap();
                let list = issued.entry(entry.key.to_string()).or_default();
                list.push((record.generation, entry.value.to_string()));
            }
        }
    }
    issued
}
