//! How much operators want kept of rooms' orders (docs/decisions/room-policy.md).
//!
//! A wish stands beside the room's record, and outlives it: so it holds for a room that is not open
//! yet, and no controller that knows nothing of it takes it away with the record. The members of the
//! group that keeps the room are told; its leader brings it into the group's log, within the group's
//! limits, and says what holds. Edges are told with the room.

mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::{Generation, NodeId, RoomName},
    time::Time,
};
use serde::Serialize;

pub use self::view::{PolicyStands, PolicyView};
use super::{
    Call, Done, Event, Now, Output, State, Ticket, Unchanged,
    key::Key,
    record::{self, GroupId, Keep},
    sync::Purpose,
};
use crate::store::{Compare, Error, Write};

/// What is to be told is gathered for so long: a group's members change for thousands of rooms at once.
const GATHER: Duration = Duration::from_millis(100);
/// Wishes to go back to what the group gives that are forgotten at once, where they hold; the rest waits
/// for the next sweep.
const FORGET: usize = 256;

/// An operator wants so much of a room's order kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeepRoom {
    /// The room.
    pub room: RoomName,
    /// What is wanted; a bound that is not named stays as it was wished before. None: back to what the
    /// group gives.
    pub keep: Option<Keep>,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asks.
    pub owner: String,
}

/// How much of a room's order is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Kept {
    /// At most so many messages.
    pub messages: u64,
    /// What they cost together at most.
    pub bytes: u64,
    /// How old the oldest is at most, by the log's time.
    pub age_ms: u64,
}

impl Kept {
    /// What comes of a wish where this is the most there is.
    fn bounds(self, wish: &Keep) -> Kept {
        let bounded = |wish: Option<u64>, most: u64| wish.map_or(most, |wish| wish.min(most));
        Kept {
            messages: bounded(wish.messages, self.messages),
            bytes: bounded(wish.bytes, self.bytes),
            age_ms: bounded(wish.age_ms, self.age_ms),
        }
    }

    /// Whether all of a wish can be had where this is the most there is.
    fn allows(self, wish: &Keep) -> bool {
        let within = |wish: Option<u64>, most: u64| wish.is_none_or(|wish| wish <= most);
        within(wish.messages, self.messages)
            && within(wish.bytes, self.bytes)
            && within(wish.age_ms, self.age_ms)
    }
}

/// What the leader of the group that keeps a room says of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyReport {
    /// The room.
    pub room: RoomName,
    /// The group.
    pub group: GroupId,
    /// What holds; none: nobody has said anything in the room yet.
    pub keeps: Option<Kept>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Policies {
    wished: BTreeMap<RoomName, record::Policy>,
    due: Option<Time>,
}

impl Policies {
    /// When somebody is to be told.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    pub fn of(&self, room: &RoomName) -> Option<&record::Policy> {
        self.wished.get(room)
    }

    fn look(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// A wish whose commit was made.
#[derive(Debug)]
pub(super) struct Made {
    /// Who waits for it; none: a wish that asks for nothing any more is forgotten.
    ticket: Option<Ticket>,
    room: RoomName,
    policy: Option<record::Policy>,
    writes: Vec<Write>,
    event: Option<Event>,
}

impl State {
    /// An operator wants so much of a room kept.
    pub(super) fn keep_room(&mut self, now: Now, ticket: Ticket, wish: KeepRoom) {
        match self.judge_keep(&wish) {
            Ok(keep) => self.commit_keep(now, ticket, wish, keep),
            Err(why) => self.outputs.push_back(Output::Kept(ticket, Err(why))),
        }
    }

    fn judge_keep(&self, wish: &KeepRoom) -> Result<Keep, Unchanged> {
        if !self.store_up {
            let why = "the store cannot be reached, so nothing can be changed now";
            return Err(Unchanged::Unavailable(why.into()));
        }
        let before = self.policies.of(&wish.room);
        let limit = self.limits.policies;
        if before.is_none() && self.policies.wished.len() >= limit {
            return Err(Unchanged::Refused(format!(
                "{limit} rooms have a policy, the limit; reset one that needs none any more"
            )));
        }
        let before = before.map(|before| before.keep).unwrap_or_default();
        Ok(wish.keep.map_or(Keep::default(), |keep| Keep {
            messages: keep.messages.or(before.messages),
            bytes: keep.bytes.or(before.bytes),
            age_ms: keep.age_ms.or(before.age_ms),
        }))
    }

    fn commit_keep(&mut self, now: Now, ticket: Ticket, wish: KeepRoom, keep: Keep) {
        let known = self.policies.of(&wish.room);
        let next = known.map_or(1, |known| self.word(known).0 + 1);
        let policy = record::Policy {
            word: Generation(self.told_revision().max(next)),
            keep,
            reason: wish.reason.clone(),
            owner: wish.owner.clone(),
            since_ms: now.unix_ms,
        };
        let (room, reason, owner) = (wish.room.clone(), wish.reason, wish.owner.clone());
        let event = match keep == Keep::default() {
            true => Event::RoomPolicyReset {
                room,
                reason,
                owner,
            },
            false => Event::RoomPolicySet {
                room,
                keep,
                reason,
                owner,
            },
        };
        let audit = record::audit(now.unix_ms, &format!("operator {}", wish.owner), &event);
        let write = Write::Put {
            key: Key::Policy(wish.room.clone()).to_string(),
            value: record::write(&policy),
            lease: None,
        };
        let made = Made {
            ticket: Some(ticket),
            room: wish.room,
            policy: Some(policy),
            writes: vec![write],
            event: Some(event),
        };
        self.commit_policy(made, Some(audit));
    }

    fn commit_policy(&mut self, made: Made, audit: Option<serde_json::Value>) {
        let key = Key::Policy(made.room.clone());
        let compare = match self.mirror.get(&key) {
            Some(stored) => Compare::Revision(key.to_string(), stored.revision),
            None => Compare::Absent(key.to_string()),
        };
        let call = match (self.fenced(vec![compare], made.writes.clone()), audit) {
            (Call::Commit(txn), Some(audit)) => Call::Audited(txn, audit),
            (call, _) => call,
        };
        self.call(Purpose::Policy(Box::new(made)), call);
    }

    pub(super) fn policy_made(&mut self, now: Now, made: Made, result: Result<Done, Error>) {
        let name = made.room;
        let answer = match result {
            Ok(Done::Committed(revision)) => {
                self.mirror_writes(&made.writes, revision);
                self.policy_stored(now, name.clone(), made.policy);
                if let Some(event) = made.event {
                    self.event(event);
                }
                self.tell_policies();
                self.view_policy(&name)
            }
            Err(Error::Conflict) => Err(Unchanged::Refused(format!(
                "the policy of {name} was changed by another at the same moment; look, and ask again"
            ))),
            Err(why) => Err(Unchanged::Unavailable(format!(
                "{why}; whether the policy of {name} was changed is not known"
            ))),
            Ok(_) => return,
        };
        if let Some(ticket) = made.ticket {
            self.outputs.push_back(Output::Kept(ticket, answer));
        }
    }

    /// Everything the store holds, when it is read anew.
    pub(super) fn read_policies(&mut self, now: Now) {
        let stored = self.mirror.iter().filter_map(|(key, stored)| match key {
            Key::Policy(room) => Some((room.clone(), record::read(&stored.value)?)),
            _ => None,
        });
        let mut stored: BTreeMap<RoomName, record::Policy> = stored.collect();
        let known: Vec<RoomName> = self.policies.wished.keys().cloned().collect();
        for name in known {
            let stands = stored.remove(&name);
            self.policy_stored(now, name, stands);
        }
        for (name, stands) in stored {
            self.policy_stored(now, name, Some(stands));
        }
        self.policies.look(now.time);
    }

    /// A wish stands in the store, or is gone, by whomever.
    pub(super) fn policy_stored(
        &mut self,
        now: Now,
        name: RoomName,
        stored: Option<record::Policy>,
    ) {
        let wished = &mut self.policies.wished;
        let before = match stored.clone() {
            Some(policy) => wished.insert(name.clone(), policy),
            None => wished.remove(&name),
        };
        if before != stored {
            self.policies.look(now.time);
            self.tell_room(&name);
        }
    }

    /// Which group keeps a room, who belongs to it, or the era may have changed: relays are told anew
    /// where that makes a difference.
    pub(super) fn look_at_policies(&mut self, now: Now) {
        if !self.policies.wished.is_empty() {
            self.policies.look(now.time + GATHER);
        }
    }

    /// Does what is due about policies.
    pub(super) fn tend_policies(&mut self, now: Now) {
        if self.policies.due.is_some_and(|due| due <= now.time) {
            self.policies.due = None;
            self.tell_policies();
        }
    }

    /// A wish's number as relays compare it: in a store that forgot something, and so has a higher
    /// era, what stands now counts more than what was told before.
    fn word(&self, policy: &record::Policy) -> Generation {
        policy.word.max(Generation::new(self.era, 0))
    }

    /// Tells every relay what is wished for rooms of groups that it has a part in, where it was told
    /// otherwise.
    fn tell_policies(&mut self) {
        if self.settling.until().is_some() {
            // Told when that is over.
            self.policies.look(self.now.time);
            return;
        }
        let mut lists: BTreeMap<NodeId, Vec<control::RoomPolicy>> = BTreeMap::new();
        for (name, policy) in &self.policies.wished {
            let Some(group) = self.rooms.get(name).and_then(|room| room.group) else {
                continue;
            };
            let told = control::RoomPolicy {
                tenant: name.tenant.to_string(),
                room: name.room.to_string(),
                word: self.word(policy).0,
                group: group.0,
                keep: Some(policy.keep.to_control()),
            };
            let record = self.group_record(group);
            let all = record.iter().flat_map(|group| group.all());
            let nodes: BTreeSet<&NodeId> = all.map(|member| &member.node).collect();
            for node in nodes {
                lists.entry(node.clone()).or_default().push(told.clone());
            }
        }
        let mut pushes = Vec::new();
        for node in self.nodes.values_mut().filter(|node| node.is_relay()) {
            let policies = lists.remove(&node.info.id).unwrap_or_default();
            let policies = control::Policies { policies };
            if let Some(conn) = node.conn.filter(|_| node.policies_told != policies) {
                node.policies_told = policies.clone();
                pushes.push((conn, policies));
            }
        }
        for (conn, policies) in pushes {
            let message = Some(to_node::Message::Policies(policies));
            self.outputs
                .push_back(Output::Push(conn, ToNode { message }));
        }
    }

    /// A relay says what holds in the groups it leads.
    pub(super) fn policies_told_by(&mut self, id: &NodeId, told: Vec<PolicyReport>) {
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.is_relay()) else {
            return;
        };
        node.policies = told
            .into_iter()
            .map(|report| ((report.group, report.room), report.keeps))
            .collect();
    }

    /// Forgets wishes for what rooms have without any, once that holds.
    pub(super) fn forget_policies(&mut self) {
        let wished = self.policies.wished.iter();
        let empty = wished.filter(|(_, policy)| policy.keep == Keep::default());
        let over = empty.filter(|(name, _)| {
            let group = self.rooms.get(*name).and_then(|room| room.group);
            let stands = self.view_policy(name).map(|view| view.state);
            group.is_none() || matches!(stands, Ok(PolicyStands::Holds | PolicyStands::NotOpen))
        });
        let names: Vec<RoomName> = over.map(|(name, _)| name.clone()).take(FORGET).collect();
        for name in names {
            let write = Write::Delete(Key::Policy(name.clone()).to_string());
            let made = Made {
                ticket: None,
                room: name,
                policy: None,
                writes: vec![write],
                event: None,
            };
            self.commit_policy(made, None);
        }
    }

    /// What edges are told of a room.
    pub(super) fn told_keep(&self, name: &RoomName) -> Option<control::Retention> {
        let policy = self.policies.of(name)?;
        Some(policy.keep.to_control())
    }
}
