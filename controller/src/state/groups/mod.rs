//! Placement groups: the relays that keep the logs of rooms together (DESIGN §5).
//!
//! Their records are the store's; a record counts, and is told, once it is committed. What relays'
//! disks remember restores a store that has lost some. Everything else is looked at anew when
//! something changed (`tend`): who leads, who is gone, whose place another takes.
//!
//! * here: the records, and how they come into the store and out of it.
//! * `tend`: what is to be changed. `rooms`: which group a room is placed in. `tell`: what relays and
//!   rooms are told. `view`: what operators are shown.

mod rooms;
mod tell;
mod tend;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use longspan_proto::{
    ids::{NodeId, Region, RoomName},
    time::Time,
    wire::Role,
};
use longspan_topology::ring::Ring;

use super::{
    Done, Event, GroupStatus, HeldGroup, Node, Now, State,
    key::Key,
    record::{self, GroupId},
    sync::Purpose,
};
use crate::store::{Compare, Error, Write};
pub(super) use rooms::Placed;
pub use view::{GroupMemberView, GroupView, NodeGroup};

/// How long what happens is gathered before groups are looked at: when a relay dies, dozens of them
/// change together.
const GATHER: Duration = Duration::from_millis(100);
/// Records that relays brought along and that are put in one commit; the rest waits for the next.
const RESTORED: usize = 64;
/// A record that the store did not take is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// All that is known of groups.
#[derive(Default)]
pub(super) struct Groups {
    known: BTreeMap<GroupId, Known>,
    /// Regions whose rooms wait for groups.
    wanted: BTreeSet<Region>,
    /// A commit that makes groups is under way.
    making: bool,
    /// A commit of records that relays brought along is under way.
    restoring: bool,
    /// Since when relays that are named in groups are not there.
    away: BTreeMap<NodeId, Time>,
    due: Option<Time>,
    rings: HashMap<Region, Ring>,
    /// Rooms whose watchers are to be told of other members; as many as there are rooms at most.
    untold: BTreeSet<RoomName>,
    /// Records changed since relays were last told whom they have as fellows.
    fellows_changed: bool,
}

struct Known {
    record: record::Group,
    /// The store has it so.
    stored: bool,
    /// A commit is under way.
    calling: bool,
    /// Why nothing is done about what is wrong with it.
    waits: Option<String>,
    /// The nodes of its members as rooms were told of them, the leader's first.
    told: Vec<NodeId>,
}

/// What a commit carries to the store.
#[derive(Debug)]
pub(super) struct Made {
    groups: Vec<(GroupId, record::Group)>,
    writes: Vec<Write>,
    event: Option<Event>,
    /// They are made by it.
    are_new: bool,
}

impl Groups {
    /// When groups are to be looked at.
    pub fn due(&self) -> Option<Time> {
        self.due
    }

    /// They are looked at soon.
    pub fn look(&mut self, at: Time) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn insert(&mut self, id: GroupId, record: record::Group, stored: bool) {
        let known = self.known.entry(id);
        let known = known.or_insert_with(|| {
            self.rings.clear();
            Known {
                record: record.clone(),
                stored,
                calling: false,
                waits: None,
                told: Vec::new(),
            }
        });
        (known.record, known.stored) = (record, stored);
        self.fellows_changed = true;
    }

    fn is_older(&self, id: GroupId, age: (u16, u64)) -> bool {
        self.known
            .get(&id)
            .is_none_or(|known| known.record.age() < age)
    }
}

impl State {
    /// All groups.
    pub(super) fn group_ids(&self) -> Vec<GroupId> {
        self.groups.known.keys().copied().collect()
    }

    /// A group's record, as it is known.
    pub(super) fn group_record(&self, id: GroupId) -> Option<&record::Group> {
        self.groups.known.get(&id).map(|known| &known.record)
    }

    /// Rooms of this region are to come: groups are made, if some are missing.
    pub(super) fn want_groups(&mut self, now: Now, region: &Region) {
        if self.groups_missing(region) > 0 {
            self.groups.wanted.insert(region.clone());
            self.look_at_groups(now);
        }
    }

    pub(super) fn look_at_groups(&mut self, now: Now) {
        self.groups.look(now.time + GATHER);
    }

    /// A record stands in the store, by whomever.
    pub(super) fn group_stored(&mut self, now: Now, id: GroupId, stored: record::Group) {
        if self.groups.is_older(id, stored.age()) {
            self.groups.insert(id, stored, true);
        } else if let Some(known) = self.groups.known.get_mut(&id) {
            // An older one, out of a backup: ours takes its place.
            known.stored = known.record == stored;
        }
        self.look_at_groups(now);
    }

    /// The store is there, and all it holds was taken in.
    pub(super) fn groups_compared(&mut self, now: Now) {
        (self.groups.making, self.groups.restoring) = (false, false);
        for (id, known) in &mut self.groups.known {
            let stored = self.mirror.get(&Key::Group(*id));
            let stored = stored.and_then(|stored| record::read::<record::Group>(&stored.value));
            known.stored = stored.as_ref() == Some(&known.record);
            known.calling = false;
        }
        self.look_at_groups(now);
    }

    /// A record was deleted by hand: groups are not, so it is put again.
    pub(super) fn group_deleted(&mut self, now: Now, id: GroupId) {
        if let Some(known) = self.groups.known.get_mut(&id) {
            known.stored = false;
            self.look_at_groups(now);
        }
    }

    /// Which disk a node that joins has; none where another has it already: a file that was copied
    /// would be one voter in two places.
    pub(super) fn own_disk(&mut self, node: &record::Node, disk: u64) -> u64 {
        if disk == 0 || node.role != Role::Relay {
            return 0;
        }
        let named = |of: bool| {
            let mut members = self.groups.known.values().flat_map(|k| k.record.all());
            members.find(move |m| m.disk == disk && (m.node == node.id) == of)
        };
        let by_record = named(false).map(|member| member.node.clone());
        let is_own = named(true).is_some();
        let mut others = self.nodes.values();
        let has_it = |n: &&Node| n.info.id != node.id && n.disk == Some(disk);
        let by_session = others.find(has_it).map(|n| n.info.id.clone());
        let of = by_record.or(by_session.filter(|_| !is_own));
        let Some(of) = of else {
            return disk;
        };
        self.event(Event::DiskRefused {
            node: node.id.clone(),
            disk: format!("{disk:016x}"),
            of,
        });
        0
    }

    /// Takes over what a relay's disk remembers and the store does not, or not so well.
    pub(super) fn adopt_groups(&mut self, now: Now, id: &NodeId, held: Vec<HeldGroup>) {
        let disk = self.nodes.get(id).and_then(|node| node.disk);
        let Some(disk) = disk.filter(|disk| *disk != 0) else {
            return;
        };
        let holds = held.iter().map(|held| held.id).collect();
        let (mut refused, mut first) = (0, None);
        let mut restored = Vec::new();
        for held in held {
            let group = held.id;
            match self.adopt_group(id, disk, held) {
                Ok(false) => {}
                Ok(true) => restored.push(group),
                Err(why) => {
                    refused += 1;
                    first.get_or_insert(why);
                }
            }
        }
        if let Some(first) = restored.first() {
            self.event(Event::GroupsRestored {
                node: id.clone(),
                groups: restored.len(),
                first: *first,
            });
        }
        if let Some(reason) = first {
            self.event(Event::GroupsRefused {
                node: id.clone(),
                groups: refused,
                reason,
            });
        }
        if let Some(node) = self.nodes.get_mut(id) {
            node.holds = holds;
        }
        self.look_at_groups(now);
    }

    /// Whether it was taken over; or why it is not believed.
    fn adopt_group(&mut self, node: &NodeId, disk: u64, held: HeldGroup) -> Result<bool, String> {
        let id = held.id;
        let mut named = held.members.iter().chain(&held.leaving);
        if !named.any(|m| m.node == *node && m.disk == disk) {
            return Err(format!("group {id} does not name {node} with its disk"));
        }
        let stored = self.mirror.get(&Key::Group(id));
        if stored.is_some_and(|s| record::read::<record::Group>(&s.value).is_none()) {
            return Err(format!(
                "the record of group {id} is newer than this program"
            ));
        }
        if !self.groups.is_older(id, (held.era, held.revision)) {
            return Ok(false);
        }
        let known = self.groups.known.get(&id).map(|known| &known.record);
        let limit = self.limits.groups;
        if known.is_none() && self.groups.known.len() >= limit {
            return Err(format!(
                "group {id}: the limit of {limit} groups is reached"
            ));
        }
        let region = known.map(|known| known.region.clone());
        let region = region.or_else(|| self.region_of(&held.members, node));
        let region = region.ok_or_else(|| format!("the region of group {id} is not known"))?;
        // Three numbers are given when a group is made, and at most one with each further revision.
        let numbers = held.members.iter().chain(&held.leaving).map(|m| m.number);
        let highest = numbers.chain(held.born.iter().copied()).max().unwrap_or(0);
        let next = highest.max(held.revision + 2) + 1;
        let record = record::Group {
            region,
            era: held.era,
            revision: held.revision,
            next: known.map_or(next, |known| known.next.max(next)),
            members: held.members,
            born: held.born,
            leaving: held.leaving,
        };
        self.groups.insert(id, record, false);
        Ok(true)
    }

    /// A relay says how it stands with its groups.
    pub(super) fn groups_told_by(&mut self, now: Now, id: &NodeId, told: Vec<GroupStatus>) {
        let Some(node) = self.nodes.get_mut(id).filter(|node| node.is_relay()) else {
            return;
        };
        let told: BTreeMap<GroupId, GroupStatus> =
            told.into_iter().map(|status| (status.id, status)).collect();
        // How far a log is applied changes all the time, and changes nothing here.
        let without_counts = |status: &GroupStatus| GroupStatus {
            applied: 0,
            rooms: 0,
            ..status.clone()
        };
        let is_same = told.len() == node.groups.len()
            && told.iter().all(|(id, status)| {
                let before = node.groups.get(id).map(without_counts);
                before == Some(without_counts(status))
            });
        node.holds = told.keys().copied().collect();
        node.groups = told;
        if !is_same {
            self.look_at_groups(now);
        }
    }

    /// The region that most of a group's relays are in, as far as they are known; records on disks
    /// do not say whose rooms it is for.
    fn region_of(&self, members: &[record::Member], node: &NodeId) -> Option<Region> {
        let mut count: BTreeMap<&Region, usize> = BTreeMap::new();
        let known = members.iter().filter_map(|m| self.nodes.get(&m.node));
        for node in known.chain(self.nodes.get(node)) {
            *count.entry(&node.info.region).or_default() += 1;
        }
        let most = count.into_iter().max_by_key(|(_, count)| *count);
        most.map(|(region, _)| region.clone())
    }

    /// The compare and the write that keep `groups/last` at or above `id`. None: what stands there
    /// cannot be read, so that nothing may be given out.
    fn last_group(&self, id: GroupId) -> Option<(Compare, Option<Write>)> {
        let key = Key::LastGroup.to_string();
        let (compare, last) = match self.mirror.get(&Key::LastGroup) {
            None => (Compare::Absent(key.clone()), None),
            Some(stored) => {
                let last: record::LastGroup = record::read(&stored.value)?;
                let compare = Compare::Revision(key.clone(), stored.revision);
                (compare, Some(last.id))
            }
        };
        let write = (last < Some(id)).then(|| Write::Put {
            key,
            value: record::write(&record::LastGroup { id }),
            lease: None,
        });
        Some((compare, write))
    }

    /// Brings records to the store in one commit, each over the one it was made from. Without an
    /// event: those that relays brought along.
    fn commit_groups(&mut self, groups: Vec<(GroupId, record::Group)>, event: Option<Event>) {
        let named = groups.iter().map(|(id, _)| *id).max();
        let known = self.groups.known.keys().next_back().copied();
        // Those that are still to be brought are counted in at once.
        let top = if event.is_none() {
            named.max(known)
        } else {
            named
        };
        let Some((last, write)) = top.and_then(|top| self.last_group(top)) else {
            return;
        };
        let mut compares = Vec::new();
        let mut writes = Vec::new();
        if let Some(write) = write {
            compares.push(last);
            writes.push(write);
        }
        for (id, record) in &groups {
            let key = Key::Group(*id);
            compares.push(match self.mirror.get(&key) {
                Some(stored) => Compare::Revision(key.to_string(), stored.revision),
                None => Compare::Absent(key.to_string()),
            });
            writes.push(Write::Put {
                key: key.to_string(),
                value: record::write(record),
                lease: None,
            });
            if let Some(known) = self.groups.known.get_mut(id) {
                known.calling = true;
            }
        }
        let are_new = matches!(event, Some(Event::GroupsMade { .. }));
        self.groups.making |= are_new;
        self.groups.restoring |= event.is_none();
        let call = self.fenced(compares, writes.clone());
        let made = Made {
            groups,
            writes,
            event,
            are_new,
        };
        self.call(Purpose::Groups(Box::new(made)), call);
    }

    /// Names for new groups: above all that were given out, as far as is known.
    fn new_ids(&self, count: usize) -> Vec<GroupId> {
        let last = self.mirror.get(&Key::LastGroup);
        let last = last.and_then(|stored| record::read::<record::LastGroup>(&stored.value));
        let known = self.groups.known.keys().next_back().copied();
        let mut last = last.map(|last| last.id).max(known);
        let next = || {
            let issued = last.map(|generation| record::Issued {
                generation,
                hls_base: 0,
            });
            last = Some(self.next_issued(issued, 0).generation);
            last
        };
        std::iter::from_fn(next).take(count).collect()
    }

    /// What became of a commit of records.
    pub(super) fn groups_made(&mut self, now: Now, made: Made, result: Result<Done, Error>) {
        // The watch may have told of them already.
        let are_new = made.are_new;
        if are_new {
            self.groups.making = false;
        }
        // Rooms wait for groups that are new, or that the store has now.
        let are_awaited = are_new || made.event.is_none();
        if made.event.is_none() {
            self.groups.restoring = false;
        }
        for (id, _) in &made.groups {
            if let Some(known) = self.groups.known.get_mut(id) {
                known.calling = false;
            }
        }
        let Ok(Done::Committed(revision)) = result else {
            // Deposed, or changed by another, of which the watch tells; lost: all is compared anew.
            let regions = made.groups.into_iter().map(|(_, group)| group.region);
            self.groups.wanted.extend(regions.filter(|_| are_new));
            self.groups.look(now.time + RETRY);
            return;
        };
        self.mirror_writes(&made.writes, revision);
        for (id, record) in made.groups {
            // A relay may have brought along a newer one meanwhile.
            let known = self.groups.known.get(&id);
            if known.is_none_or(|known| known.record.age() <= record.age()) {
                self.groups.insert(id, record, true);
            }
        }
        if let Some(event) = made.event {
            self.event(event);
        }
        if are_awaited {
            self.place_rooms(now);
        }
        self.look_at_groups(now);
    }
}
