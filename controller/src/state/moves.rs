//! Rooms whose logs are to be kept by another placement group (docs/decisions/room-move.md).
//!
//! The record says where a room is to go; the group that keeps it is told, carries it out, and decides
//! whether it went. What its members say of that ends the move here. So a controller that dies in the
//! middle costs nothing, and edges go on without any: a group itself tells them where a room went.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::{Generation, NodeId, Region, RoomName},
    time::Time,
};
use serde::Serialize;

use super::{
    Call, Done, Event, Now, Output, State, Ticket, Unchanged,
    key::Key,
    record::{self, GroupId, LastMove, Moving, Word},
    sync::Purpose,
};
use crate::store::{Compare, Error, Write};

/// A wish that cannot be judged yet (groups are being made, nobody leads them yet) waits for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is judged again, and an end that the store did not take is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// Wishes that wait. One more is refused.
const WAITING: usize = 64;
/// Rooms that move at once. One more is refused. A group takes 64.
const MOVES: usize = 1_024;

/// An operator wants another group to keep a room's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The room.
    pub room: RoomName,
    /// Which group.
    pub to: Where,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asks.
    pub owner: String,
}

/// Which group is to keep a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Where {
    /// Another one, the one with the fewest rooms.
    Any,
    /// The same among those of a region.
    Region(Region),
    /// This one.
    Group(GroupId),
}

/// A move has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Begun {
    /// The room.
    pub room: String,
    /// Whose it is.
    pub tenant: String,
    /// The group that keeps it.
    pub from: String,
    /// The group that shall.
    pub to: String,
    /// Names the move, `era.counter`.
    pub word: String,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The group that keeps the room reaches for the other one.
    #[default]
    Waiting,
    /// The room is handed over; publishers are held.
    Closed,
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MoveView {
    /// As it stands in the store.
    #[serde(flatten)]
    pub asked: Moving,
    /// How far it is, as the group said last.
    pub stage: Stage,
}

/// What a member of the group that keeps, or kept, a room says of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveReport {
    /// The room.
    pub room: RoomName,
    /// Which move.
    pub word: Word,
    /// The group.
    pub from: GroupId,
    /// What.
    pub said: MoveSaid,
}

/// What of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MoveSaid {
    /// It is not over.
    Stage(Stage),
    /// The room is the other group's.
    Gone,
    /// The room stays; why, where the member knows.
    Back(String),
    /// The room is not there: it went to this group before.
    Elsewhere {
        /// Where it went.
        group: GroupId,
        /// By which move.
        word: Word,
    },
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Moves {
    under_way: BTreeSet<RoomName>,
    waiting: VecDeque<(Ticket, Move, Time)>,
    /// Moves that are over and whose records are not changed yet.
    over: BTreeMap<RoomName, Over>,
    due: Option<Time>,
}

/// How a move ended.
#[derive(Debug, Clone)]
struct Over {
    word: Word,
    /// The group that keeps the room now, and by which move if it went.
    keeps: GroupId,
    moved: Option<Word>,
    failed: Option<String>,
}

/// A change of a room's record that was committed.
#[derive(Debug)]
pub(super) struct Made {
    room: RoomName,
    record: record::Room,
    writes: Vec<Write>,
    event: Event,
    /// Who waits for it; none: the move is over.
    begun: Option<(Ticket, Begun)>,
}

/// Why there is no target.
enum NoTarget {
    /// There may be one soon.
    Yet(String),
    No(Unchanged),
}

impl From<Unchanged> for NoTarget {
    fn from(why: Unchanged) -> NoTarget {
        NoTarget::No(why)
    }
}

fn refused<T>(why: String) -> Result<T, NoTarget> {
    Err(NoTarget::No(Unchanged::Refused(why)))
}

impl Moves {
    /// When something is to be looked at again.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    fn look(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

impl State {
    /// An operator wants a room to be kept elsewhere.
    pub(super) fn move_room(&mut self, now: Now, ticket: Ticket, wish: Move) {
        self.judge_move(now, ticket, wish, now.time + PATIENCE);
    }

    fn judge_move(&mut self, now: Now, ticket: Ticket, wish: Move, until: Time) {
        let why = match self.target(now, &wish) {
            Ok((from, to)) => return self.begin_move(now, ticket, wish, from, to),
            Err(NoTarget::Yet(_)) if now.time < until && self.moves.waiting.len() < WAITING => {
                self.moves.waiting.push_back((ticket, wish, until));
                self.moves.look(now.time + AGAIN);
                return;
            }
            Err(NoTarget::Yet(why)) => Unchanged::Refused(why),
            Err(NoTarget::No(why)) => why,
        };
        self.outputs.push_back(Output::Moving(ticket, Err(why)));
    }

    /// The group that keeps the room, and the one that shall.
    fn target(&mut self, now: Now, wish: &Move) -> Result<(GroupId, GroupId), NoTarget> {
        if !self.store_up {
            let why = "the store cannot be reached, so nothing can be changed now";
            return Err(NoTarget::No(Unchanged::Unavailable(why.into())));
        }
        let name = &wish.room;
        let Some(room) = self.rooms.get(name) else {
            return Err(self.no_room(name).into());
        };
        if let Some(moving) = &room.moving {
            return refused(format!(
                "{name} is on its way to group {} already (move {})",
                moving.to, moving.word
            ));
        }
        if self.moves.under_way.len() >= MOVES {
            return refused(format!("{MOVES} rooms move already, the limit"));
        }
        let Some(from) = room.group else {
            let why = format!("{name} is in no placement group yet");
            return Err(NoTarget::Yet(why));
        };
        if self.settling.until().is_some() || room.placing {
            let why = "this controller has just begun to lead; ask again";
            return Err(NoTarget::Yet(why.into()));
        }
        let ids = self.group_ids();
        let to = match &wish.to {
            Where::Group(to) => {
                if !ids.contains(to) {
                    let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
                    return Err(NoTarget::No(Unchanged::NotFound {
                        what: format!("there is no placement group {to}"),
                        near: super::nearest(&to.to_string(), names.iter().map(|n| &**n)),
                    }));
                }
                if *to == from {
                    return refused(format!("{name} is in group {to} already"));
                }
                if self.group_report(*to).is_none() {
                    return refused(format!("group {to} has no leader now"));
                }
                *to
            }
            Where::Region(region) => {
                let here = |node: &super::Node| node.info.region == *region;
                if !self.nodes.values().any(here) {
                    let regions = self.nodes.values().map(|n| n.info.region.as_str());
                    return Err(NoTarget::No(Unchanged::NotFound {
                        what: format!("there is no node in region {region}"),
                        near: super::nearest(region, regions),
                    }));
                }
                self.want_groups(now, region);
                let of = ids.into_iter().filter(|id| {
                    let group = self.group_record(*id);
                    *id != from && group.is_some_and(|group| group.region == *region)
                });
                let of: Vec<GroupId> = of.collect();
                match self.least_loaded(of) {
                    Some(to) => to,
                    None => {
                        let why =
                            format!("region {region} has no other placement group with a leader");
                        return Err(NoTarget::Yet(why));
                    }
                }
            }
            Where::Any => {
                let others = ids.into_iter().filter(|id| *id != from);
                match self.least_loaded(others.collect()) {
                    Some(to) => to,
                    None => {
                        let why = "there is no other placement group with a leader; name a region \
                                   with relays, and one is made there";
                        return refused(why.into());
                    }
                }
            }
        };
        Ok((from, to))
    }

    /// Of those that are led, the one that keeps the fewest rooms.
    fn least_loaded(&self, groups: Vec<GroupId>) -> Option<GroupId> {
        let mut rooms: BTreeMap<GroupId, usize> = BTreeMap::new();
        for group in self.rooms.values().filter_map(|room| room.group) {
            *rooms.entry(group).or_default() += 1;
        }
        let led = groups
            .into_iter()
            .filter(|id| self.group_report(*id).is_some());
        led.min_by_key(|id| (rooms.get(id).copied().unwrap_or_default(), *id))
    }

    fn begin_move(&mut self, now: Now, ticket: Ticket, wish: Move, from: GroupId, to: GroupId) {
        let Some(room) = self.rooms.get(&wish.room) else {
            return;
        };
        // Above all earlier ones of the room: each changes its record.
        let known = [room.moved, room.last_move.as_ref().map(|last| last.word)];
        let known = known.into_iter().flatten().max();
        let next = known.map_or(0, |word| word.0 + 1);
        let word = Generation(self.told_revision().max(next));
        let record = record::Room {
            moving: Some(Moving {
                word,
                to,
                reason: wish.reason.clone(),
                owner: wish.owner.clone(),
                since_ms: now.unix_ms,
            }),
            ..room.record()
        };
        let begun = Begun {
            room: wish.room.room.to_string(),
            tenant: wish.room.tenant.to_string(),
            from: from.to_string(),
            to: to.to_string(),
            word: word.to_string(),
        };
        let event = Event::RoomMoveAsked {
            room: wish.room.clone(),
            from,
            to,
            word,
            reason: wish.reason,
            owner: wish.owner.clone(),
        };
        let actor = format!("operator {}", wish.owner);
        let audit = record::audit(now.unix_ms, &actor, &event);
        let begun = Some((ticket, begun));
        self.commit_move(wish.room, record, event, begun, Some(audit));
    }

    fn commit_move(
        &mut self,
        name: RoomName,
        record: record::Room,
        event: Event,
        begun: Option<(Ticket, Begun)>,
        audit: Option<serde_json::Value>,
    ) {
        let key = Key::Room(name.clone());
        let compare = match self.mirror.get(&key) {
            Some(stored) => Compare::Revision(key.to_string(), stored.revision),
            None => Compare::Absent(key.to_string()),
        };
        let writes = vec![Write::Put {
            key: key.to_string(),
            value: record::write(&record),
            lease: None,
        }];
        let call = match (self.fenced(vec![compare], writes.clone()), audit) {
            (Call::Commit(txn), Some(audit)) => Call::Audited(txn, audit),
            (call, _) => call,
        };
        if let Some(room) = self.rooms.get_mut(&name) {
            room.placing = true;
        }
        let made = Made {
            room: name,
            record,
            writes,
            event,
            begun,
        };
        self.call(Purpose::Move(Box::new(made)), call);
    }

    pub(super) fn move_made(&mut self, now: Now, made: Made, result: Result<Done, Error>) {
        let name = made.room;
        if let Some(room) = self.rooms.get_mut(&name) {
            room.placing = false;
        }
        let answer = match result {
            Ok(Done::Committed(revision)) => {
                self.mirror_writes(&made.writes, revision);
                if made.begun.is_none() {
                    self.moves.over.remove(&name);
                }
                self.room_stored(name.clone(), made.record);
                self.event(made.event);
                self.tell_room(&name);
                self.tell_moves();
                self.look_at_policies(now);
                Ok(())
            }
            Err(Error::Conflict) => Err(Unchanged::Refused(format!(
                "{name} was changed by another at the same moment; look, and ask again"
            ))),
            Err(why) => Err(Unchanged::Unavailable(format!(
                "{why}; whether {name} is moved is not known"
            ))),
            Ok(_) => return,
        };
        match made.begun {
            Some((ticket, begun)) => {
                let answer = answer.map(|()| begun);
                self.outputs.push_back(Output::Moving(ticket, answer));
            }
            // Tried again: the groups have decided.
            None => self.moves.look(now.time + AGAIN),
        }
    }

    /// A room's record stands in the store, by whomever.
    pub(super) fn room_stored(&mut self, name: RoomName, stored: record::Room) {
        let room = self.rooms.entry(name.clone()).or_default();
        room.created_ms = stored.created_ms;
        // A restored store may know less than was told.
        if stored.moved < room.moved {
            return;
        }
        if stored.group.is_some() {
            room.group = stored.group;
        }
        if room.moving != stored.moving {
            room.stage = Stage::default();
        }
        room.moved = stored.moved;
        room.moving = stored.moving;
        room.last_move = stored.last_move;
        match room.moving.is_some() {
            true => self.moves.under_way.insert(name),
            false => self.moves.under_way.remove(&name),
        };
    }

    /// The store is there, and all it holds was taken in.
    pub(super) fn moves_compared(&mut self, now: Now) {
        self.moves.look(now.time + AGAIN);
        self.tell_moves();
    }

    /// Does what is due about moves.
    pub(super) fn tend_moves(&mut self, now: Now) {
        if self.moves.due.is_none_or(|due| due > now.time) {
            return;
        }
        self.moves.due = None;
        for (ticket, wish, until) in std::mem::take(&mut self.moves.waiting) {
            self.judge_move(now, ticket, wish, until);
        }
        let over: Vec<RoomName> = self.moves.over.keys().cloned().collect();
        for name in over {
            self.end_move(now, &name);
        }
        self.tell_moves();
    }

    /// Tells every relay which rooms are to leave groups that it has a part in, where it was told
    /// otherwise.
    pub(super) fn tell_moves(&mut self) {
        if self.settling.until().is_some() {
            return;
        }
        let mut lists: BTreeMap<NodeId, Vec<control::RoomMove>> = BTreeMap::new();
        for name in &self.moves.under_way {
            let Some(room) = self.rooms.get(name) else {
                continue;
            };
            let (Some(from), Some(moving)) = (room.group, &room.moving) else {
                continue;
            };
            let told = control::RoomMove {
                tenant: name.tenant.to_string(),
                room: name.room.to_string(),
                word: moving.word.0,
                from: from.0,
                to: moving.to.0,
                nodes: self.told_members(moving.to),
            };
            for member in self.group_record(from).iter().flat_map(|group| group.all()) {
                let list = lists.entry(member.node.clone()).or_default();
                if !list.contains(&told) {
                    list.push(told.clone());
                }
            }
        }
        let mut pushes = Vec::new();
        for node in self.nodes.values_mut().filter(|node| node.is_relay()) {
            let moves = lists.remove(&node.info.id).unwrap_or_default();
            let moves = control::Moves { moves };
            if let Some(conn) = node.conn.filter(|_| node.moves_told != moves) {
                node.moves_told = moves.clone();
                pushes.push((conn, moves));
            }
        }
        for (conn, moves) in pushes {
            let message = Some(to_node::Message::Moves(moves));
            self.outputs
                .push_back(Output::Push(conn, ToNode { message }));
        }
    }

    /// A relay says how far moves are.
    pub(super) fn moves_told_by(&mut self, now: Now, id: &NodeId, told: Vec<MoveReport>) {
        for report in told {
            let Some(room) = self.rooms.get(&report.room) else {
                continue;
            };
            let of_it = room.moving.as_ref().filter(|m| m.word == report.word);
            let (Some(moving), Some(from)) = (of_it, room.group) else {
                continue;
            };
            let group = self.group_record(from);
            let is_member = group.is_some_and(|group| group.all().any(|m| m.node == *id));
            if !is_member || report.from != from {
                continue;
            }
            let leads = self.group_leader(from).is_some_and(|(node, _)| node == id);
            let over = |keeps, moved, failed| Over {
                word: report.word,
                keeps,
                moved,
                failed,
            };
            let over = match report.said {
                // Members that are behind know of less.
                MoveSaid::Stage(stage) => {
                    if leads && let Some(room) = self.rooms.get_mut(&report.room) {
                        room.stage = stage;
                    }
                    continue;
                }
                MoveSaid::Gone => over(moving.to, Some(report.word), None),
                MoveSaid::Back(why) if !why.is_empty() => over(from, room.moved, Some(why)),
                // The one who took it back is gone.
                MoveSaid::Back(_) if leads => {
                    let why = "it was taken back by a member that is gone".to_owned();
                    over(from, room.moved, Some(why))
                }
                MoveSaid::Back(_) => continue,
                MoveSaid::Elsewhere { group, word } if Some(word) > room.moved => {
                    let why = format!("the room had gone to group {group} before (move {word})");
                    over(group, Some(word), Some(why))
                }
                MoveSaid::Elsewhere { .. } => continue,
            };
            self.moves.over.insert(report.room.clone(), over);
            self.end_move(now, &report.room);
        }
    }

    /// Brings to the store how a move ended.
    fn end_move(&mut self, now: Now, name: &RoomName) {
        let Some(over) = self.moves.over.get(name).cloned() else {
            return;
        };
        let room = self.rooms.get(name);
        let of_it = room.filter(|r| r.moving.as_ref().is_some_and(|m| m.word == over.word));
        let Some((room, moving)) = of_it.and_then(|r| Some((r, r.moving.clone()?))) else {
            self.moves.over.remove(name);
            return;
        };
        if !self.store_up || room.placing {
            self.moves.look(now.time + AGAIN);
            return;
        }
        let (word, to) = (moving.word, moving.to);
        let from = room.group.unwrap_or(over.keeps);
        let record = record::Room {
            group: Some(over.keeps),
            moved: over.moved,
            moving: None,
            last_move: Some(LastMove {
                word,
                from,
                to,
                ended_ms: now.unix_ms,
                failed: over.failed.clone(),
            }),
            ..room.record()
        };
        let room = name.clone();
        let event = match over.failed {
            None => Event::RoomMoved {
                room,
                from,
                to,
                word,
            },
            Some(reason) => Event::RoomMoveFailed {
                room,
                from,
                to,
                word,
                reason,
            },
        };
        self.commit_move(name.clone(), record, event, None, None);
    }
}
