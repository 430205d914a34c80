//! What operators are shown of placement groups.

use std::collections::BTreeMap;

use longspan_proto::ids::{Generation, NodeId, Region};
use serde::Serialize;

use super::super::{State, record, record::GroupId};
use crate::placing::{MEMBERS, Report, Standing};

/// A placement group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// Its name, `era.counter`.
    pub group: String,
    /// Whose rooms are placed in it.
    pub region: Region,
    /// `whole`; `changing`: a member comes or goes; `reduced`: fewer than three members that vote
    /// are there; `stopped`: nobody leads.
    pub state: &'static str,
    /// The relay that leads.
    pub leader: Option<NodeId>,
    /// Under which generation it leads, `era.term`.
    pub generation: Option<String>,
    /// Raised when the group is made anew.
    pub era: u16,
    /// Rises with each change of its members.
    pub revision: u64,
    /// Who belongs to it, those who leave last.
    pub members: Vec<GroupMemberView>,
    /// The members that vote, as the leader says.
    pub voters: Vec<u64>,
    /// The members that are being told and have no vote yet, as the leader says.
    pub learners: Vec<u64>,
    /// Rooms placed in it.
    pub rooms: usize,
    /// What is under way, or why nothing is done about what is wrong.
    pub waits: Option<String>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupMemberView {
    /// Its number in the group.
    pub number: u64,
    /// The relay.
    pub node: NodeId,
    /// `leader`, `voter`, `learner`; `none`: not of the group, as far as is known.
    pub role: &'static str,
    /// `here`, `away`, `gone`, `draining`, `lost_disk`.
    pub standing: &'static str,
    /// Another takes its place.
    pub leaving: bool,
    /// How far the log is applied there, as it said last.
    pub applied: Option<u64>,
    /// Rooms whose logs it has, as it said last.
    pub rooms: Option<u32>,
    /// Why it can go no further.
    pub halted: Option<String>,
}

/// A part that a relay has in a group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeGroup {
    /// Which group.
    pub group: String,
    /// Which member it is there; none: it says so, and the record does not.
    pub number: Option<u64>,
    /// `leader`, `voter`, `learner`, `none`.
    pub role: &'static str,
    /// Another takes its place.
    pub leaving: bool,
    /// Why it can go no further.
    pub halted: Option<String>,
}

impl State {
    /// All groups, by name.
    pub fn view_groups(&self) -> Vec<GroupView> {
        let mut rooms: BTreeMap<GroupId, usize> = BTreeMap::new();
        for group in self.rooms.values().filter_map(|room| room.group) {
            *rooms.entry(group).or_default() += 1;
        }
        let ids = self.groups.known.keys();
        let view = |id: &GroupId| self.group_view(*id, rooms.get(id).copied().unwrap_or_default());
        ids.filter_map(view).collect()
    }

    /// One group.
    pub(in super::super) fn view_group(&self, id: GroupId) -> Option<GroupView> {
        let rooms = self.rooms.values().filter(|room| room.group == Some(id));
        self.group_view(id, rooms.count())
    }

    /// The relay that leads a group as its members say, and under which generation.
    pub(in super::super) fn group_leader(&self, id: GroupId) -> Option<(&NodeId, Generation)> {
        let group = &self.groups.known.get(&id)?.record;
        let number = self.group_report(id)?.leader;
        let leader = group.all().find(|member| member.number == number)?;
        let status = self.group_status(id, leader)?;
        Some((&leader.node, status.generation))
    }

    fn group_view(&self, id: GroupId, rooms: usize) -> Option<GroupView> {
        let known = self.groups.known.get(&id)?;
        let group = &known.record;
        let report = self.group_report(id);
        let leader = self.group_leader(id);
        let member = |leaving: bool| {
            let report = report.as_ref();
            move |member: &record::Member| {
                let status = self.group_status(id, member);
                GroupMemberView {
                    number: member.number,
                    node: member.node.clone(),
                    role: role(report, member.number),
                    standing: match self.standing(member, self.now.time) {
                        Standing::Here => "here",
                        Standing::Away => "away",
                        Standing::Draining => "draining",
                        Standing::Gone => "gone",
                        Standing::OtherDisk => "lost_disk",
                    },
                    leaving,
                    applied: status.map(|status| status.applied),
                    rooms: status.map(|status| status.rooms),
                    halted: status
                        .map(|status| status.halted.clone())
                        .filter(|why| !why.is_empty()),
                }
            }
        };
        let members = group.members.iter().map(member(false));
        let report = report.as_ref();
        Some(GroupView {
            group: id.to_string(),
            region: group.region.clone(),
            state: self.group_state(group, report),
            leader: leader.map(|(node, _)| node.clone()),
            generation: leader.map(|(_, generation)| generation.to_string()),
            era: group.era,
            revision: group.revision,
            members: members
                .chain(group.leaving.iter().map(member(true)))
                .collect(),
            voters: report.map_or_else(Vec::new, |r| r.voters.iter().copied().collect()),
            learners: report.map_or_else(Vec::new, |r| r.learners.iter().copied().collect()),
            rooms,
            waits: known.waits.clone(),
        })
    }

    fn group_state(&self, group: &record::Group, report: Option<&Report>) -> &'static str {
        let Some(report) = report else {
            return "stopped";
        };
        let votes = |m: &&record::Member| {
            report.voters.contains(&m.number) && self.standing(m, self.now.time).is_alive()
        };
        let is_settled = group.leaving.is_empty()
            && group
                .members
                .iter()
                .all(|m| report.voters.contains(&m.number));
        match group.all().filter(votes).count() {
            ..MEMBERS => "reduced",
            _ if is_settled => "whole",
            _ => "changing",
        }
    }

    /// How many groups there are, how many of them are reduced, and how many stopped.
    pub(in super::super) fn count_groups(&self) -> [usize; 3] {
        let known = self.groups.known.iter();
        let states = known.map(|(id, known)| {
            let report = self.group_report(*id);
            self.group_state(&known.record, report.as_ref())
        });
        states.fold([0; 3], |[all, reduced, stopped], state| {
            [
                all + 1,
                reduced + usize::from(state == "reduced"),
                stopped + usize::from(state == "stopped"),
            ]
        })
    }

    /// Whether a relay is named in any group.
    pub(in super::super) fn has_part(&self, node: &NodeId) -> bool {
        let mut all = self.groups.known.values().flat_map(|k| k.record.all());
        all.any(|member| member.node == *node)
    }

    /// The parts of every relay.
    pub(in super::super) fn view_parts(&self) -> BTreeMap<&NodeId, Vec<NodeGroup>> {
        let mut parts: BTreeMap<&NodeId, Vec<NodeGroup>> = BTreeMap::new();
        for (id, known) in &self.groups.known {
            let report = self.group_report(*id);
            let leaving = known.record.leaving.iter().map(|member| (member, true));
            let members = known.record.members.iter().map(|member| (member, false));
            for (member, leaving) in members.chain(leaving) {
                let status = self.group_status(*id, member);
                parts.entry(&member.node).or_default().push(NodeGroup {
                    group: id.to_string(),
                    number: Some(member.number),
                    role: role(report.as_ref(), member.number),
                    leaving,
                    halted: status
                        .map(|status| status.halted.clone())
                        .filter(|why| !why.is_empty()),
                });
            }
        }
        // What a relay says it has a part in although nobody knows of it.
        for node in self.nodes.values() {
            for id in &node.holds {
                let known = self.groups.known.get(id);
                let is_named =
                    known.is_some_and(|k| k.record.all().any(|m| m.node == node.info.id));
                if !is_named {
                    parts.entry(&node.info.id).or_default().push(NodeGroup {
                        group: id.to_string(),
                        number: None,
                        role: "none",
                        leaving: false,
                        halted: None,
                    });
                }
            }
        }
        parts
    }
}

fn role(report: Option<&Report>, number: u64) -> &'static str {
    match report {
        Some(report) if report.leader == number => "leader",
        Some(report) if report.voters.contains(&number) => "voter",
        Some(report) if report.learners.contains(&number) => "learner",
        _ => "none",
    }
}
