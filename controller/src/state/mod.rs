//! The controller's mind: pure. It is told what nodes say, what the store does and what time it
//! is; it tells which calls to make on the store, and what to say to nodes.
//!
//! Contract, as in all cores: `handle(now, input)`, then drain [`poll_output`](State::poll_output)
//! until it is empty; call [`handle_timeout`](State::handle_timeout) at
//! [`poll_timeout`](State::poll_timeout).
//!
//! What it keeps to:
//!
//! * Every commit compares the election record, so that a controller that was deposed unknowingly
//!   writes nothing.
//! * A generation exists when its record is committed, never before; nobody is told of it earlier.
//! * What nodes said (nodes, edges in rooms) is held in memory and brought to the store when
//!   it can be reached: losing the store loses nothing of it. Streams that are held survive too, by
//!   being put again under the generation they have, if nobody was given a later one.
//! * A node ends with its lease in the store, not by a timer here: while the store is away, nobody
//!   ends.

mod claims;
mod edges;
mod event;
mod groups;
mod holders;
mod io;
pub mod key;
mod members;
mod mirror;
mod moves;
mod overrides;
mod policies;
pub mod record;
mod rooms;
mod settle;
mod sync;
#[cfg(test)]
mod tests;
mod traces;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use longspan_proto::{
    control,
    ids::{NodeId, RoomName, Stream},
    time::Time,
};
use longspan_topology::routes::Version;

use crate::{
    limits::Limits,
    routes::Router,
    store::{LeaseId, Revision},
};
pub use edges::{EdgeDrainPlan, Load};
pub use event::Event;
pub use groups::{GroupMemberView, GroupView, NodeGroup};
pub use io::{
    Ask, Call, CallId, Change, Changed, Claim, Close, Conn, Done, Granted, GroupStatus, HeldGroup,
    HeldStream, Input, Join, Now, Output, Refused, Said, Status, Ticket, TracedTrack, Unchanged,
};
pub use moves::{Begun, Move, MoveReport, MoveSaid, MoveView, Stage, Where};
pub use policies::{KeepRoom, Kept, PolicyReport, PolicyStands, PolicyView};
pub use traces::RoomTrace;
pub use view::{AskedLink, NodeView, RoomView};

/// How long changes of the directory are gathered before all nodes are told.
const DIRECTORY_EVERY: Duration = Duration::from_millis(100);
/// A room that nobody serves or publishes in loses its record after this.
const ROOM_IDLE: Duration = Duration::from_secs(3_600);
/// How often idle rooms are looked for.
const ROOM_SWEEP: Duration = Duration::from_secs(60);

/// The store's copy of a record, as last told.
#[derive(Debug, Clone)]
struct Mirrored {
    revision: Revision,
    lease: Option<LeaseId>,
    value: Arc<str>,
}

#[derive(Debug)]
struct Node {
    info: record::Node,
    lease: LeaseId,
    conn: Option<Conn>,
    heard: Time,
    /// The rooms it watches.
    rooms: BTreeSet<RoomName>,
    /// Those it asked for on its present connection: it was told of them there.
    asked: BTreeSet<RoomName>,
    /// The store has the lease, as far as is known.
    granted: bool,
    /// A call about its lease or records is under way.
    calling: Option<CallId>,
    /// A heartbeat came since the lease was last kept alive.
    keep: bool,
    /// Records that may differ from the store's.
    dirty: BTreeSet<key::Key>,
    table: members::TableState,
    /// What it has to do, as it said last.
    status: Option<Status>,
    /// The file of its room logs; 0: it keeps none; none: it has not joined here yet.
    disk: Option<u64>,
    /// What it said last of each placement group it has a part in.
    groups: BTreeMap<record::GroupId, GroupStatus>,
    /// The groups it has a part in, as it says.
    holds: BTreeSet<record::GroupId>,
    /// The groups it was told of, with the age of their records.
    groups_told: Vec<(record::GroupId, (u16, u64))>,
    /// The moves of rooms it was told of.
    moves_told: control::Moves,
    /// What it said last of rooms in the groups it leads; none: there is no such room yet.
    policies: BTreeMap<(record::GroupId, RoomName), Option<Kept>>,
    /// The policies of rooms it was told of.
    policies_told: control::Policies,
}

#[derive(Debug, Default)]
struct Room {
    created_ms: u64,
    /// The placement group that keeps its log.
    group: Option<record::GroupId>,
    /// The move that brought it there.
    moved: Option<record::Word>,
    moving: Option<record::Moving>,
    /// How far that is, as a member of the group said last.
    stage: Stage,
    last_move: Option<record::LastMove>,
    /// Its record is being written.
    placing: bool,
    /// The room's record is being deleted.
    forgetting: bool,
    streams: BTreeMap<Stream, Held>,
    edges: BTreeMap<NodeId, Serving>,
    /// Relays that watch it.
    relays: BTreeSet<NodeId>,
    /// Since when nobody is here.
    idle: Option<Time>,
}

#[derive(Debug, Clone)]
struct Held {
    record: record::Stream,
    /// The session that holds it.
    session: LeaseId,
}

#[derive(Debug, Clone, Copy, Default)]
struct Serving {
    since_ms: u64,
    viewers: u32,
    members: u32,
}

/// Everything a leading controller knows.
pub struct State {
    limits: Limits,
    outputs: VecDeque<Output>,
    /// The revision of our election record; 0 before the first.
    election: Revision,
    era: u16,
    /// Highest revision told by the store.
    revision: Revision,
    /// The store can be reached.
    store_up: bool,
    /// Until when this controller may push tables: another may lead after it.
    lead_until: Time,
    /// That time has passed; nothing is routed until the election is renewed.
    routing_paused: bool,
    mirror: BTreeMap<key::Key, Mirrored>,
    nodes: BTreeMap<NodeId, Node>,
    conns: BTreeMap<Conn, NodeId>,
    rooms: BTreeMap<RoomName, Room>,
    calls: HashMap<CallId, sync::Purpose>,
    next_call: CallId,
    claims: claims::Claims,
    directory_due: Option<Time>,
    directory: Arc<Vec<control::Node>>,
    sweep_due: Time,
    router: Router,
    /// Counts the tables of one election.
    table_n: u64,
    settling: settle::Settling,
    overrides: overrides::Overrides,
    traces: traces::Traces,
    groups: groups::Groups,
    moves: moves::Moves,
    policies: policies::Policies,
    /// When something was last told.
    now: Now,
}

impl State {
    /// Knows nothing yet.
    pub fn new(limits: Limits) -> State {
        let mut router = Router::new(limits.switches, limits.recompute_every);
        router.set_capacities(limits.capacities.clone());
        State {
            router,
            limits,
            outputs: VecDeque::new(),
            election: 0,
            era: 0,
            revision: 0,
            store_up: false,
            lead_until: Time::ZERO,
            routing_paused: true,
            mirror: BTreeMap::new(),
            nodes: BTreeMap::new(),
            conns: BTreeMap::new(),
            rooms: BTreeMap::new(),
            calls: HashMap::new(),
            next_call: 0,
            claims: claims::Claims::default(),
            directory_due: None,
            directory: Arc::default(),
            sweep_due: Time::ZERO,
            table_n: 0,
            settling: settle::Settling::default(),
            overrides: overrides::Overrides::default(),
            traces: traces::Traces::default(),
            groups: groups::Groups::default(),
            moves: moves::Moves::default(),
            policies: policies::Policies::default(),
            now: Now::default(),
        }
    }

    /// Takes an input.
    pub fn handle(&mut self, now: Now, input: Input) {
        self.now = now;
        match input {
            Input::Leading {
                election,
                era,
                snapshot,
            } => self.leading(now, election, era, snapshot),
            Input::Renewed(at) => {
                self.lead_until = at + self.limits.election_ttl;
                self.routing_paused = false;
            }
            Input::StoreLost => self.store_lost(),
            Input::Era(era) => self.era_raised(now, era),
            Input::Changed(batch) => self.changed(now, batch),
            Input::Called(id, result) => self.called(now, id, result),
            Input::Joined { conn, fresh, join } => {
                self.may_have_forgotten(join.highest, join.table);
                self.joined(now, conn, *join, fresh);
            }
            Input::Left(conn) => self.left(now, conn),
            Input::Said(conn, said) => self.said(now, conn, said),
            Input::Change(ticket, change) => self.change(now, ticket, change),
            Input::Trace(ticket, room) => self.trace(now, ticket, room),
            Input::Move(ticket, wish) => self.move_room(now, ticket, wish),
            Input::Keep(ticket, wish) => self.keep_room(now, ticket, wish),
            Input::Claim(ticket, claim) => self.claim(now, ticket, claim),
            Input::Release {
                session,
                room,
                stream,
                generation,
            } => self.release(now, session, &room, &stream, generation),
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`handle_timeout`](State::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.election == 0 {
            return None;
        }
        let settles = self.settling.until();
        let after = |due: Time| settles.map_or(due, |settled| due.max(settled));
        let router = self.router.due().filter(|_| !self.routing_paused);
        let (router, directory) = (router.map(after), self.directory_due.map(after));
        let (asked, traces) = (self.overrides.due(), self.traces.due());
        [
            directory,
            router,
            settles,
            asked,
            traces,
            self.groups.due().map(after),
            self.moves.due().map(after),
            self.policies.due().map(after),
            Some(self.sweep_due),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.expire_overrides(now);
        self.end_traces(now);
        if self.settling.until().is_some_and(|until| until <= now.time) {
            self.settled(now);
        }
        let settles = self.settling.until().is_some();
        if !settles && self.directory_due.is_some_and(|due| due <= now.time) {
            self.tell_directory();
        }
        if self.sweep_due <= now.time {
            self.sweep(now);
        }
        self.tend_groups(now);
        self.tend_moves(now);
        self.tend_policies(now);
        self.route(now);
    }

    /// The version of the newest tables.
    pub fn version(&self) -> Version {
        Version {
            era: u32::from(self.era),
            election: self.election,
            n: self.table_n,
        }
    }

    /// Paths and links.
    pub fn router(&self) -> &Router {
        &self.router
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// All that operators ask for now.
    pub fn wishes(&self) -> impl Iterator<Item = (&key::Target, &record::Override)> {
        self.overrides.iter()
    }
}

/// The known name nearest to `name`, if one is near enough to have been meant.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    // As the command line does it: Jaro–Winkler forgives swapped letters and wrong endings.
    const NEAR: f64 = 0.7;
    let likeness = |known: &'a str| (strsim::jaro_winkler(name, known), known);
    let near = known
        .map(likeness)
        .filter(|(likeness, _)| *likeness >= NEAR);
    near.max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known.to_owned())
}
