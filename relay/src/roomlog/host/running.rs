//! One group of this node: what is asked of it, and where its outputs go.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use longspan_proto::{
    control::GroupStatus,
    ids::{Generation, RoomName, SessionId},
    time::Time,
    wire::{
        envelope::{Class, Envelope},
        moving::LogId,
        room::Answer,
    },
};
use metrics::counter;
use tokio::sync::{oneshot, watch};

use super::{
    super::{
        Snapshot,
        group::{Group, Input, Member, Output, Packet, Persist, Role, Unserved},
        machine::{Command, Whereabouts},
        mover::Mover,
        policy::Policies,
        refusal::Refusal,
        room,
        tracks::Tracks,
    },
    Life,
    beats::Beats,
    moves::Lines,
    port::{Ask, Place, Port, Standing, lost},
    record::Record,
    wall_ms,
};
use crate::{node::Handle, peers::Peers};

/// Proposals that nobody waits for.
const NOBODY: u64 = 0;

/// Where outputs go.
pub(super) struct Places<'a> {
    pub peers: &'a Peers,
    pub now: Time,
}

enum Waiting {
    Do(oneshot::Sender<Result<Option<Answer>, Unserved>>),
    Read(RoomName, oneshot::Sender<Result<Snapshot, Unserved>>),
}

/// See the [module](self).
pub(super) struct Running {
    pub life: Life,
    record: Record,
    me: Member,
    /// Which member this node was before.
    ended: Option<Member>,
    /// None: halted.
    pub(super) group: Option<Group>,
    /// What it does about rooms that move, and its calls to other groups for that.
    pub(super) mover: Mover,
    pub(super) lines: Lines,
    /// What operators want kept of its rooms.
    pub(super) policies: Policies,
    pub(super) halted: String,
    token: u64,
    waiting: HashMap<u64, Waiting>,
    pub(super) standing: watch::Sender<Standing>,
    /// That changed since it was asked last.
    pub(super) turned: bool,
    /// What leaves a leader.
    pub(super) tracks: Tracks,
    /// Rooms that calls were opened to since this node leads.
    pub(super) rooms: HashMap<RoomName, watch::Sender<Place>>,
    /// Numbers of ephemeral messages that were answered and that the log does not know of yet: it
    /// would take them for lost. At most one range a session; they go into the log before the next
    /// word of their session, or at the next sweep.
    passed: BTreeMap<(RoomName, SessionId), (u64, u64)>,
    /// The newest message that was given its place.
    newest: Option<(SessionId, u64)>,
    /// When edges with members in its rooms were heard of last.
    beats: Beats,
}

impl Running {
    pub fn new(
        record: Record,
        me: Member,
        ended: Option<Member>,
        life: Life,
        group: Group,
        node: (Handle, Arc<Port>),
    ) -> Running {
        let role = group.role();
        let mut running = Running::halted(record, me, ended, life, String::new(), node);
        running.group = Some(group);
        running.stand(role);
        running
    }

    /// One that cannot go on.
    pub fn halted(
        record: Record,
        me: Member,
        ended: Option<Member>,
        life: Life,
        why: String,
        (handle, port): (Handle, Arc<Port>),
    ) -> Running {
        let log = LogId {
            group: record.id,
            era: record.era,
        };
        Running {
            mover: Mover::new(log),
            lines: Lines::new(handle.clone(), port, record.id, life),
            policies: Policies::default(),
            life,
            record,
            me,
            ended,
            group: None,
            halted: why,
            token: NOBODY,
            waiting: HashMap::new(),
            standing: watch::Sender::new(Standing {
                leads: false,
                generation: Default::default(),
                elsewhere: None,
            }),
            turned: true,
            tracks: Tracks::new(handle),
            rooms: HashMap::new(),
            passed: BTreeMap::new(),
            newest: None,
            beats: Beats::default(),
        }
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    pub fn me(&self) -> Member {
        self.me
    }

    pub fn ended(&self) -> Option<Member> {
        self.ended
    }

    /// A newer record of the same group.
    pub fn renew(&mut self, record: Record) {
        self.record = record;
        if let Some(role) = self.group.as_ref().map(Group::role) {
            self.stand(role);
        }
    }

    /// Whether another leads, or anew, since this was asked last.
    pub fn has_turned(&mut self) -> bool {
        std::mem::take(&mut self.turned)
    }

    pub fn poll_timeout(&self) -> Option<Time> {
        let group = self.group.as_ref().map(Group::poll_timeout);
        let mover = group.and_then(|_| self.mover.poll_timeout());
        group.into_iter().chain(mover).min()
    }

    pub fn handle_timeout(&mut self, now: Time) {
        if let Some(group) = &mut self.group {
            group.handle_timeout(now);
        }
    }

    pub fn handle(&mut self, now: Time, input: Input) {
        if let Some(group) = &mut self.group {
            group.handle(now, input);
        }
    }

    /// Does what was put out; what is to be written is given back.
    pub fn settle(&mut self, places: &Places<'_>) -> Vec<Persist> {
        let mut writes = Vec::new();
        loop {
            self.put_out(places, &mut writes);
            if !self.look_at_moves(places.now) {
                return writes;
            }
        }
    }

    fn put_out(&mut self, places: &Places<'_>, writes: &mut Vec<Persist>) {
        while let Some(output) = self.group.as_mut().and_then(Group::poll_output) {
            match output {
                Output::Send(packet) => self.send(places.peers, &packet),
                Output::Persist(persist) => writes.push(persist),
                Output::Done { token, result } => self.done(token, result),
                Output::Readable { token } => self.readable(token),
                Output::Published(message) => self.published(places.now, message),
                Output::Forgotten(room) => {
                    self.tracks.forget(&room);
                    self.rooms.remove(&room);
                }
                // A leader is never told a state.
                Output::Replaced => {}
                Output::Role(role) => self.stand(role),
                Output::Halted { why } => self.halt(why),
            }
        }
    }

    fn send(&self, peers: &Peers, packet: &Packet) {
        let peer = self.record.node(packet.to).and_then(|node| peers.get(node));
        match peer {
            Some(peer) => peer.packets.push(packet),
            None => lost("unreachable"),
        }
    }

    /// Somebody else leads, or leads anew. Whatever was begun under another generation is over.
    fn stand(&mut self, role: Role) {
        let leads = role.leader == Some(self.me);
        let elsewhere = role.leader.filter(|_| !leads);
        let standing = Standing {
            leads,
            generation: role.generation,
            elsewhere: elsewhere.and_then(|leader| self.record.node(leader).cloned()),
        };
        let before = self.standing.borrow().clone();
        if before == standing {
            return;
        }
        if (before.leads, before.generation) != (leads, role.generation) {
            self.tracks.clear();
            self.rooms.clear();
            self.passed.clear();
            self.beats = Beats::default();
        }
        if before.leads != leads {
            tracing::info!(
                group = self.record.id,
                generation = %role.generation,
                leads,
                "the lead of a placement group changed"
            );
        }
        self.standing.send_replace(standing);
        self.turned = true;
    }

    /// It can go no further.
    pub fn halt(&mut self, why: String) {
        if self.group.take().is_none() {
            return;
        }
        counter!("longspan_log_halted_total").increment(1);
        tracing::error!(
            group = self.record.id,
            member = self.me.0,
            why,
            "a member of a placement group halts"
        );
        self.halted = why;
        self.lines.clear();
        let generation = self.standing.borrow().generation;
        self.stand(Role {
            leader: None,
            generation,
        });
        self.waiting.clear();
    }

    /// Whether it leads, under the generation that the asker was told.
    fn leads_under(&self, generation: Generation) -> bool {
        let standing = self.standing.borrow();
        standing.leads && standing.generation == generation
    }

    pub fn ask(&mut self, now: Time, ask: Ask) {
        // Whoever asked may be gone: then nobody hears the answer.
        match ask {
            Ask::Enter { room, reply, .. } => drop(reply.send(self.enter(now, room))),
            Ask::Lead { reply, .. } => drop(reply.send(self.lead())),
            Ask::Arrived {
                room, word, reply, ..
            } => {
                let machine = self.group.as_ref().map(Group::machine);
                if let Some(machine) = machine {
                    let _ = reply.send(machine.arrived(&room, word));
                }
            }
            Ask::Line { life, input, .. } => {
                if life == self.life {
                    self.move_on(now, input);
                }
            }
            Ask::Do {
                generation,
                command,
                reply,
                ..
            } => {
                if !self.leads_under(generation) {
                    let _ = reply.send(Err(Unserved::Elsewhere { leader: None }));
                    return;
                }
                self.command(now, command, reply);
            }
            Ask::Beat {
                generation,
                room,
                session,
                reply,
                ..
            } => {
                let answer = match self.leads_under(generation) {
                    true => Ok(Some(self.beat(now, room, session))),
                    false => Err(Unserved::Elsewhere { leader: None }),
                };
                let _ = reply.send(answer);
            }
            Ask::Read {
                generation,
                room,
                reply,
                ..
            } => {
                if !self.leads_under(generation) {
                    let _ = reply.send(Err(Unserved::Elsewhere { leader: None }));
                    return;
                }
                let token = self.next_token();
                self.waiting.insert(token, Waiting::Read(room, reply));
                self.handle(now, Input::Read { token });
            }
        }
    }

    fn next_token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    fn command(
        &mut self,
        now: Time,
        command: Command,
        reply: oneshot::Sender<Result<Option<Answer>, Unserved>>,
    ) {
        let of = match &command {
            Command::Publish(message) if message.class == Class::Ephemeral => {
                let answer = match self.place(&message.room) {
                    Place::Here => Ok(Some(self.ephemeral(now, message.clone()))),
                    Place::Moving => Err(Unserved::Moving),
                };
                let _ = reply.send(answer);
                return;
            }
            Command::Publish(message) => Some((message.room.clone(), message.session)),
            Command::Ask { room, session } | Command::PassOver { room, session, .. } => {
                Some((room.clone(), *session))
            }
            Command::Roster { room, roster } => {
                self.beats.heard(now, room.clone(), roster.session);
                None
            }
            _ => None,
        };
        if let Some(of) = of
            && let Some((first, last)) = self.passed.remove(&of)
        {
            self.pass_over(now, of, first, last);
        }
        let token = self.next_token();
        self.waiting.insert(token, Waiting::Do(reply));
        self.propose(now, token, command);
    }

    /// An edge is alive: which roster of it is held?
    fn beat(&mut self, now: Time, room: RoomName, session: SessionId) -> Answer {
        let machine = self.group.as_ref().map(Group::machine);
        let known = machine.and_then(|machine| machine.room(&room));
        let version = known.map_or(0, |known| known.roster_held(session));
        self.beats.heard(now, room, session);
        Answer::Present { session, version }
    }

    /// Lets edges' sessions go of which nothing is heard any more, and has members counted where
    /// they are too many to be named; whether anything was asked of the group.
    pub fn watch_edges(&mut self, now: Time) -> bool {
        let Some(group) = self.group.as_ref().filter(|group| group.serves()) else {
            return false;
        };
        let due = self.beats.due(now, group.machine());
        let any = !due.is_empty();
        for command in due {
            self.propose(now, NOBODY, command);
        }
        any
    }

    /// Puts something into the log that nobody waits for.
    pub(super) fn put(&mut self, now: Time, command: Command) {
        self.propose(now, NOBODY, command);
    }

    /// What the log is to know of a room before it is closed: numbers of ephemeral messages.
    pub(super) fn put_passed(&mut self, now: Time, room: &RoomName) {
        let of = self.passed.keys().filter(|(name, _)| name == room);
        let of: Vec<(RoomName, SessionId)> = of.cloned().collect();
        for of in of {
            if let Some((first, last)) = self.passed.remove(&of) {
                self.pass_over(now, of, first, last);
            }
        }
    }

    fn propose(&mut self, now: Time, token: u64, command: Command) {
        let wall = wall_ms();
        self.handle(
            now,
            Input::Propose {
                token,
                command,
                wall,
            },
        );
    }

    fn pass_over(&mut self, now: Time, of: (RoomName, SessionId), first: u64, last: u64) {
        let (room, session) = of;
        let command = Command::PassOver {
            room,
            session,
            first,
            last,
        };
        self.propose(now, NOBODY, command);
    }

    /// A message that has no place in the log: it is published, and answered at once.
    fn ephemeral(&mut self, now: Time, mut message: Envelope) -> Answer {
        let (session, n) = (message.session, message.n);
        let acked = Answer::Acked { session, n, seq: 0 };
        if let Err(refusal) = room::check_shape(&message) {
            return refusal.answer(session, n);
        }
        let machine = self.group.as_ref().map(Group::machine);
        let known = machine.and_then(|machine| machine.room(&message.room));
        let held = known.map_or(0, |room| room.peek_held(session));
        let of = (message.room.clone(), session);
        let passed = self.passed.get(&of).copied();
        if n <= held || passed.is_some_and(|(_, last)| n <= last) {
            return match n {
                0 => Refusal::WentBack { n, held }.answer(session, n),
                // It was sent again.
                _ => acked,
            };
        }
        match passed {
            Some((first, last)) if last + 1 == n => {
                self.passed.insert(of, (first, n));
            }
            passed => {
                if let Some((first, last)) = passed {
                    self.pass_over(now, of.clone(), first, last);
                }
                self.passed.insert(of, (n, n));
            }
        }
        message.at = machine_at(self.group.as_ref()).max(wall_ms());
        message.seq = 0;
        message.revision = 0;
        counter!("longspan_log_messages_total", "class" => message.class.name()).increment(1);
        self.tracks.publish(&message.room, now, &message);
        acked
    }

    fn done(&mut self, token: u64, result: Result<Option<Answer>, Unserved>) {
        if let Ok(Some(Answer::Acked { session, n, .. })) = result
            && self.newest != Some((session, n))
        {
            counter!("longspan_log_duplicates_total").increment(1);
        }
        match self.waiting.remove(&token) {
            Some(Waiting::Do(reply)) => drop(reply.send(result)),
            Some(Waiting::Read(_, reply)) => {
                let _ = reply.send(Err(result.err().unwrap_or(Unserved::Unknown)));
            }
            None => {}
        }
    }

    fn readable(&mut self, token: u64) {
        let Some(Waiting::Read(room, reply)) = self.waiting.remove(&token) else {
            return;
        };
        let machine = self.group.as_ref().map(Group::machine);
        if machine.is_some_and(|m| matches!(m.whereabouts(&room), Whereabouts::Away(_))) {
            let _ = reply.send(Err(Unserved::Moving));
            return;
        }
        let room = machine.and_then(|machine| machine.room(&room));
        let state = room.map_or_else(Snapshot::default, |room| room.snapshot());
        let _ = reply.send(Ok(state));
    }

    fn published(&mut self, now: Time, message: Envelope) {
        self.newest = Some((message.session, message.n));
        if self.standing.borrow().leads {
            counter!("longspan_log_messages_total", "class" => message.class.name()).increment(1);
            self.tracks.publish(&message.room, now, &message);
        }
    }

    /// Whether the group's own log says that this member does not belong to it any more.
    pub fn is_removed(&self) -> bool {
        self.group.as_ref().is_some_and(|group| {
            let (voters, learners) = group.voters();
            !voters.is_empty()
                && !group.is_changing()
                && !voters.contains(&self.me)
                && !learners.contains(&self.me)
        })
    }

    /// Lets rooms go that nobody has used for so long, and tells the log of numbers it does not know.
    pub fn sweep(&mut self, now: Time, idle: Duration) {
        let Some(group) = self.group.as_ref().filter(|group| group.serves()) else {
            return;
        };
        let idle_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
        let since = wall_ms().saturating_sub(idle_ms);
        let rooms = &self.rooms;
        let held = |room| {
            rooms
                .get(room)
                .is_some_and(|place| place.receiver_count() > 0)
        };
        let unused: Vec<Command> = group
            .machine()
            .used()
            .filter(|(room, used)| *used < since && !held(room))
            .map(|(room, used)| Command::Forget {
                room: room.clone(),
                unused_since: used,
            })
            .collect();
        for command in unused {
            self.propose(now, NOBODY, command);
        }
        for (of, (first, last)) in std::mem::take(&mut self.passed) {
            self.pass_over(now, of, first, last);
        }
    }

    pub fn status(&self) -> GroupStatus {
        let mut status = GroupStatus {
            id: self.record.id,
            number: self.me.0,
            halted: self.halted.clone(),
            most: self.most(),
            ..GroupStatus::default()
        };
        if let Some(group) = &self.group {
            let role = group.role();
            // Whoever is on its way out belongs to it until the change is over.
            let (voters, (_, learners)) = (group.all_voters(), group.voters());
            status.leader = role.leader.map_or(0, |leader| leader.0);
            status.generation = role.generation.0;
            status.voters = voters.into_iter().map(|member| member.0).collect();
            status.learners = learners.into_iter().map(|member| member.0).collect();
            status.applied = group.applied();
            status.rooms = u32::try_from(group.machine().len()).unwrap_or(u32::MAX);
        }
        status
    }
}

fn machine_at(group: Option<&Group>) -> u64 {
    group.map_or(0, |group| group.machine().at())
}
