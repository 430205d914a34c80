//! One member of a placement group: a replicated log and the [`Machine`] it feeds. Pure.
//!
//! Raft is TiKV's crate `raft` (docs/decisions/room-log-raft.md); here are its clock, its disk,
//! its network and its membership, as inputs and outputs.
//!
//! Contract: `handle(now, input)`, then drain `poll_output()`; `handle_timeout(now)` at
//! `poll_timeout()`. The driver writes every [`Output::Persist`] in the order they come, syncs
//! it, and only then says [`Input::Persisted`]; it passes packets on, or loses them. What it must
//! never do is to give a member its number again after its disk was lost: the member would vote
//! twice.
//!
//! * `timing`: election times that follow the measured round trips.
//! * `store`: the log in memory, as Raft reads it; [`Persist`] and [`Saved`]: the same on disk.
//! * `packet`: what members say to each other.
//! * `members`: who belongs to the group, and how one takes another's place.
//! * `asked`: proposals and reads that wait.
//! * `ready`: what Raft wants said, written and applied.
//! * `guard`: what another member may say.

mod asked;
mod guard;
mod io;
mod members;
mod packet;
mod raft_codec;
mod ready;
mod saved;
mod store;
#[cfg(test)]
mod tests;
mod timing;

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use longspan_proto::{ids::Generation, time::Time, wire::Error};
use raft::{RawNode, StateRole, eraftpb};

use self::{asked::Asked, ready::Write, store::Store, timing::Timing};
pub use self::{
    io::{Config, Cut, Input, Member, Output, Role, Unserved},
    packet::{MAX_PACKET, Packet, SMALL},
    saved::{Persist, Saved},
    timing::{LONGEST_ELECTION, SHORTEST_ELECTION},
};
use super::machine::Machine;

/// Members of a group, learners included: three, and a few on their way in or out.
const MAX_MEMBERS: usize = 16;
/// Ticks of an election: whoever heard from its leader within it does not listen to another.
const ELECTION_TICKS: usize = 10;
/// A follower asks so many ticks later at the earliest: by then the others have waited an election,
/// too; before it they would not listen.
const GRACE_TICKS: usize = 2;
/// Followers of a lost leader ask one after the other, so many ticks apart: two round trips, of one
/// tick at most each, and what two members' ticks are out of step.
const TURN_TICKS: usize = 3;
/// An attempt that came to nothing is repeated after so many ticks to twice as many: time for six
/// round trips. Whoever was lost is lost for the others as well; they need not wait again.
const RETRY_TICKS: usize = 6;
/// Ticks between a leader's heartbeats: five may be lost before somebody asks for votes.
const HEARTBEAT_TICKS: usize = 2;
/// Entries that were proposed and are not committed, in bytes. When full, a proposal is answered
/// [`Unserved::Busy`].
const UNCOMMITTED: u64 = 8 << 20;
/// Entries in one packet, in bytes; one entry at least. With its head such a packet is small for the
/// transport ([`packet::SMALL`]), which sends small ones in order and before everything else.
const ENTRIES_PER_PACKET: u64 = 48 << 10;
/// Packets of entries under way to a member. When full, the next wait for an answer.
const UNDER_WAY: usize = 64;
/// Entries handed to the machine at once, in bytes.
const APPLIED_AT_ONCE: u64 = 4 << 20;

/// See the [module](self).
pub struct Group {
    config: Config,
    node: RawNode<Store>,
    machine: Machine,
    /// A leader's state that came and was read, and up to which entry it goes.
    incoming: Option<(u64, Machine)>,
    timing: Timing,
    next_tick: Time,
    /// Elections this member began in this life.
    campaigns: u64,
    asked: Asked,
    writes: VecDeque<Write>,
    written: u64,
    /// A snapshot that was taken over and is not on the disk yet.
    installing: bool,
    members: members::Members,
    heard: BTreeMap<Member, Heard>,
    role: Option<Role>,
    halted: bool,
    outputs: VecDeque<Output>,
}

/// The newest packet of another member.
#[derive(Clone, Copy)]
struct Heard {
    sent: u64,
    at: Time,
}

impl Group {
    /// The member as its disk remembers it.
    pub fn new(now: Time, config: Config, saved: Saved) -> Result<Group, Error> {
        let (store, machine) = Store::restore(saved)?;
        let applied = store.snapshot_index();
        let raft = raft::Config {
            id: config.me.0,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: ENTRIES_PER_PACKET,
            max_inflight_msgs: UNDER_WAY,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED,
            max_committed_size_per_ready: APPLIED_AT_ONCE,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&raft, store, &logger).map_err(|_| Error::Unknown {
            what: "member",
            value: config.me.0,
        })?;
        let timing = Timing::default();
        let mut group = Group {
            next_tick: now + timing.tick(),
            config,
            node,
            machine,
            incoming: None,
            timing,
            campaigns: 0,
            asked: Asked::default(),
            writes: VecDeque::new(),
            written: 0,
            installing: false,
            members: members::Members::default(),
            heard: BTreeMap::new(),
            role: None,
            halted: false,
            outputs: VecDeque::new(),
        };
        group.pump(now);
        Ok(group)
    }

    /// The state machine, as far as the log is applied.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Who leads, as far as is known here.
    pub fn role(&self) -> Role {
        let raft = &self.node.raft;
        Role {
            leader: (raft.leader_id != 0).then_some(Member(raft.leader_id)),
            generation: Generation::new(self.config.era, raft.term),
        }
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this member leads and has found a majority behind it: something of its own is
    /// committed.
    pub fn serves(&self) -> bool {
        self.leads() && self.node.raft.commit_to_current_term()
    }

    /// The voting members, and those who are learning, as far as is known here.
    pub fn voters(&self) -> (Vec<Member>, Vec<Member>) {
        let conf = self.node.store().conf();
        let of = |ids: &[u64]| ids.iter().copied().map(Member).collect();
        (of(&conf.voters), of(&conf.learners))
    }

    /// All whose votes count, by number: while a change of voters is under way those of before and
    /// those of after.
    pub fn all_voters(&self) -> Vec<Member> {
        let conf = self.node.store().conf();
        let ids = conf.voters.iter().chain(&conf.voters_outgoing);
        let all: std::collections::BTreeSet<Member> = ids.copied().map(Member).collect();
        all.into_iter().collect()
    }

    /// Whether a change of voters is under way: majorities of the old and of the new are needed.
    pub fn is_changing(&self) -> bool {
        !self.node.store().conf().voters_outgoing.is_empty()
    }

    /// How far the log is applied here.
    pub fn applied(&self) -> u64 {
        self.node.raft.raft_log.applied
    }

    /// How long an election takes now.
    pub fn election(&self) -> Duration {
        self.timing.election()
    }

    /// Entries of the log in memory.
    pub fn entries(&self) -> usize {
        self.node.store().len()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the clock is to be looked at.
    pub fn poll_timeout(&self) -> Time {
        self.next_tick
    }

    /// The clock says `now`. Whoever was stopped for long has one tick to make up for, not all:
    /// what waits to be heard is heard before anybody asks for votes.
    pub fn handle_timeout(&mut self, now: Time) {
        if now < self.next_tick || self.halted {
            return;
        }
        self.next_tick = now + self.timing.tick();
        let timeout = self.election_ticks();
        self.node.raft.set_randomized_election_timeout(timeout);
        self.node.tick();
        if !self.leads() && self.node.raft.election_elapsed == 0 {
            self.campaigns += 1;
            self.retry_soon();
        }
        self.tend_members();
        self.pump(now);
    }

    /// Something happened.
    pub fn handle(&mut self, now: Time, input: Input) {
        if self.halted {
            return;
        }
        match input {
            Input::Packet(packet) => self.hear(now, packet),
            Input::Persisted(number) => self.persisted(now, number),
            Input::Propose {
                token,
                command,
                wall,
            } => self.propose(token, command, wall),
            Input::Read { token } => self.read(token),
            Input::Resign => self.resign(),
            Input::Members(wanted) => {
                self.members.want(wanted);
                self.tend_members();
            }
        }
        self.pump(now);
        // Raft may have had no use for it.
        self.incoming = None;
    }

    /// How many ticks of silence make this member ask for votes. Followers of one leader take turns,
    /// so that the first has a majority before the next would ask; another is the first in each
    /// term. Who follows nobody draws, anew for each term and each attempt.
    fn election_ticks(&self) -> usize {
        const LEAST: usize = ELECTION_TICKS + GRACE_TICKS;
        let (me, leader) = (self.config.me, Member(self.node.raft.leader_id));
        let mut followers = self.all_voters();
        followers.retain(|voter| *voter != leader);
        let place = followers.iter().position(|voter| *voter == me);
        match place.filter(|_| self.node.raft.leader_id != 0) {
            Some(place) => {
                let turn = (place as u64 + self.node.raft.term) % followers.len() as u64;
                LEAST + TURN_TICKS * turn as usize
            }
            None => LEAST + self.draw() % (2 * ELECTION_TICKS - LEAST),
        }
    }

    /// An election is under way: the next attempt does not wait for all of them.
    pub(super) fn retry_soon(&mut self) {
        let wait = RETRY_TICKS + self.draw() % RETRY_TICKS;
        self.node.raft.election_elapsed = self.election_ticks().saturating_sub(wait);
    }

    fn draw(&self) -> usize {
        mix(self.config.seed ^ mix(self.node.raft.term) ^ self.campaigns) as usize
    }

    fn hear(&mut self, now: Time, packet: Packet) {
        let meant = (packet.group, packet.era, packet.to)
            == (self.config.group, self.config.era, self.config.me);
        if !meant || !self.plausible(&packet) {
            return;
        }
        if let Some((sent, held)) = packet.echo
            && self.heard.contains_key(&packet.from)
        {
            self.timing.heard(now, packet.from, sent, held);
        }
        // Whoever claims to be ever more members gets no more of this one's memory.
        if self.heard.len() < MAX_MEMBERS || self.heard.contains_key(&packet.from) {
            let heard = Heard {
                sent: packet.sent,
                at: now,
            };
            self.heard.insert(packet.from, heard);
        }
        // An error says that the sender is no member (any more), or an answer comes too late.
        let _ = self.node.step(packet.message);
    }

    fn send(&mut self, now: Time, messages: Vec<eraftpb::Message>) {
        for message in messages {
            let to = Member(message.to);
            let echo = self.heard.get(&to).map(|heard| {
                let held = now.saturating_since(heard.at);
                (heard.sent, held.as_micros() as u64)
            });
            self.outputs.push_back(Output::Send(Packet {
                group: self.config.group,
                era: self.config.era,
                from: self.config.me,
                to,
                sent: now.as_micros(),
                echo,
                message,
            }));
        }
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
/// generators", 2014): spreads a number over all bits.
fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
