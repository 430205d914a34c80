//! Telling relays of the groups they have a part in, and rooms of the members of theirs.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{
    control::{self, ToNode, to_node},
    ids::NodeId,
    time::Time,
};

use super::super::{Output, State, record, record::GroupId};
use super::GATHER;

/// Rooms whose watchers are told of other members at once; the rest waits for the next look at
/// groups. A relay that dies changes the members of thousands of rooms, and a node has room for 1,024
/// pushes that wait.
const ROOMS_TOLD: usize = 256;

impl State {
    /// Tells every relay whose list of groups is another than it was told, and routing whom it is to
    /// connect.
    pub(super) fn tell_groups(&mut self) {
        if std::mem::take(&mut self.groups.fellows_changed) {
            let fellows = self.fellows();
            self.router.set_fellows(self.now.time, fellows);
        }
        let mut named: BTreeMap<&NodeId, BTreeSet<GroupId>> = BTreeMap::new();
        for (id, known) in &self.groups.known {
            for member in known.record.all() {
                named.entry(&member.node).or_default().insert(*id);
            }
        }
        let relays = self
            .nodes
            .values()
            .filter(|n| n.is_relay() && n.conn.is_some());
        let lists: Vec<(NodeId, BTreeSet<GroupId>)> = relays
            .map(|node| {
                let mut list = named.get(&node.info.id).cloned().unwrap_or_default();
                list.extend(&node.holds);
                (node.info.id.clone(), list)
            })
            .collect();
        for (node, list) in lists {
            self.tell_groups_of(&node, list);
        }
    }

    /// Tells one relay, which has just come.
    pub(in super::super) fn tell_its_groups(&mut self, node: &NodeId) {
        let named = self.groups.known.iter().filter_map(|(id, known)| {
            let mut all = known.record.all();
            all.any(|member| member.node == *node).then_some(*id)
        });
        let mut list: BTreeSet<GroupId> = named.collect();
        if let Some(node) = self.nodes.get(node) {
            list.extend(&node.holds);
        }
        self.tell_groups_of(node, list);
    }

    fn tell_groups_of(&mut self, id: &NodeId, list: BTreeSet<GroupId>) {
        let known = &self.groups.known;
        let groups: Vec<(GroupId, &record::Group)> = list
            .into_iter()
            .filter_map(|id| Some((id, &known.get(&id)?.record)))
            .collect();
        let told: Vec<(GroupId, (u16, u64))> = groups
            .iter()
            .map(|(id, group)| (*id, group.age()))
            .collect();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let Some(conn) = node.conn.filter(|_| node.groups_told != told) else {
            return;
        };
        node.groups_told = told;
        if groups.is_empty() {
            return;
        }
        let groups = groups.into_iter().map(|(id, group)| wire(id, group));
        let groups = control::Groups {
            groups: groups.collect(),
        };
        // Groups name nodes: whoever is told of them must have been told of these.
        if self.directory_due.is_some() && self.settling.until().is_none() {
            self.tell_directory();
        }
        let message = Some(to_node::Message::Groups(groups));
        self.outputs
            .push_back(Output::Push(conn, ToNode { message }));
    }

    /// Pairs of relays in one group.
    fn fellows(&self) -> BTreeSet<(NodeId, NodeId)> {
        let mut pairs = BTreeSet::new();
        for known in self.groups.known.values() {
            for a in known.record.all() {
                let others = known.record.all().filter(|b| a.node < b.node);
                pairs.extend(others.map(|b| (a.node.clone(), b.node.clone())));
            }
        }
        pairs
    }

    /// Notes the rooms whose group has other members or another leader than was told, and tells some.
    pub(super) fn tell_members(&mut self, now: Time) {
        let mut changed: BTreeSet<GroupId> = BTreeSet::new();
        let ids: Vec<GroupId> = self.groups.known.keys().copied().collect();
        for id in ids {
            let members = self.group_members(id);
            if let Some(known) = self.groups.known.get_mut(&id)
                && known.told != members
            {
                known.told = members;
                changed.insert(id);
            }
        }
        if !changed.is_empty() {
            let rooms = self.rooms.iter();
            let theirs = rooms.filter(|(_, room)| room.group.is_some_and(|g| changed.contains(&g)));
            let names = theirs.map(|(name, _)| name.clone());
            self.groups.untold.extend(names);
        }
        for _ in 0..ROOMS_TOLD {
            let Some(name) = self.groups.untold.pop_first() else {
                return;
            };
            self.tell_room(&name);
        }
        self.groups.look(now + GATHER);
    }

    /// The nodes of a group's members: the leader's first, those who leave last while they vote.
    pub(super) fn group_members(&self, id: GroupId) -> Vec<NodeId> {
        let Some(known) = self.groups.known.get(&id) else {
            return Vec::new();
        };
        let report = self.group_report(id);
        let leads = |m: &&record::Member| report.as_ref().is_some_and(|r| r.leader == m.number);
        let votes = |m: &&record::Member| {
            let report = report.as_ref();
            report.is_none_or(|report| report.voters.contains(&m.number))
        };
        let all = known.record.all();
        let mut nodes: Vec<NodeId> = Vec::new();
        let leaving = known.record.leaving.iter().filter(votes);
        for member in all
            .filter(leads)
            .chain(&known.record.members)
            .chain(leaving)
        {
            if !nodes.contains(&member.node) {
                nodes.push(member.node.clone());
            }
        }
        nodes
    }

    /// As rooms are told of it.
    pub(in super::super) fn told_members(&self, id: GroupId) -> Vec<String> {
        let members = self.group_members(id).into_iter();
        members.map(|node| node.to_string()).collect()
    }
}

fn wire(id: GroupId, group: &record::Group) -> control::PlacementGroup {
    let member = |member: &record::Member| control::GroupMember {
        number: member.number,
        node: member.node.to_string(),
        disk: member.disk,
    };
    control::PlacementGroup {
        id: id.0,
        era: group.era.into(),
        revision: group.revision,
        members: group.members.iter().map(member).collect(),
        born: group.born.clone(),
        leaving: group.leaving.iter().map(member).collect(),
    }
}
