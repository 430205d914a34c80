//! Looking after groups: each is brought a step further, if it needs one.

use std::collections::{BTreeMap, BTreeSet};

use longspan_proto::{
    ids::{NodeId, Region},
    time::Time,
};
use longspan_topology::graph::Country;

use super::super::{Event, GroupStatus, Node, Now, State, record, record::GroupId};
use crate::{
    placing::{self, Backbone, Facts, Loads, Report, Site, Standing, Step, Wanted},
    routes::Member as Place,
};

/// Rooms have no residency of their own yet: their logs may be kept in every country.
const ANYWHERE: &BTreeSet<Country> = &BTreeSet::new();

impl State {
    /// Does what is due about groups.
    pub(in super::super) fn tend_groups(&mut self, now: Now) {
        let is_due = self.groups.due.is_some_and(|due| due <= now.time);
        if !is_due || self.settling.until().is_some() {
            return;
        }
        self.groups.due = None;
        self.note_who_is_away(now.time);
        if self.store_up {
            self.step_groups(now.time);
            self.make_groups();
        }
        self.tell_members(now.time);
        self.tell_groups();
        self.look_at_policies(now);
        self.tell_moves();
    }

    /// Since when who is away; and when the patience with the next of them ends.
    fn note_who_is_away(&mut self, now: Time) {
        let all = self.groups.known.values().flat_map(|k| k.record.all());
        let away: BTreeSet<NodeId> = all
            .map(|member| &member.node)
            .filter(|node| !self.nodes.contains_key(*node))
            .cloned()
            .collect();
        self.groups.away.retain(|node, _| away.contains(node));
        for node in away {
            let since = *self.groups.away.entry(node).or_insert(now);
            let ends = since + self.limits.member_grace;
            if ends > now {
                self.groups.look(ends);
            }
        }
    }

    fn step_groups(&mut self, now: Time) {
        let mut loads = self.group_loads();
        let mut changes: Vec<(GroupId, record::Group, Event)> = Vec::new();
        let mut restored: Vec<(GroupId, record::Group)> = Vec::new();
        let mut waits: Vec<(GroupId, Option<String>)> = Vec::new();
        {
            let backbone = self.backbone();
            for (id, known) in &self.groups.known {
                if known.calling {
                    continue;
                }
                if !known.stored {
                    if !self.groups.restoring && restored.len() < super::RESTORED {
                        restored.push((*id, known.record.clone()));
                    }
                    continue;
                }
                let report = self.group_report(*id);
                let facts = Facts {
                    group: &known.record,
                    standing: &|member| self.standing(member, now),
                    report: report.as_ref(),
                    backbone: &backbone,
                    loads: &loads,
                };
                let wanted = Wanted {
                    region: &known.record.region,
                    residency: ANYWHERE,
                };
                match placing::next(&facts, wanted) {
                    Step::Rest => waits.push((*id, None)),
                    Step::Wait(why) => waits.push((*id, Some(why))),
                    Step::Change(record, reason) => {
                        let new = record
                            .members
                            .last()
                            .filter(|m| m.number >= known.record.next);
                        if let Some(new) = new {
                            *loads.entry(new.node.clone()).or_default() += 1;
                        }
                        let event = Event::GroupChanged {
                            group: *id,
                            revision: record.revision,
                            reason,
                        };
                        changes.push((*id, *record, event));
                    }
                }
            }
        }
        for (id, why) in waits {
            if let Some(known) = self.groups.known.get_mut(&id) {
                known.waits = why;
            }
        }
        for (id, record, event) in changes {
            self.commit_groups(vec![(id, record)], Some(event));
        }
        if !restored.is_empty() {
            self.commit_groups(restored, None);
        }
    }

    /// Makes the groups that rooms wait for, region by region.
    fn make_groups(&mut self) {
        if self.groups.making {
            return;
        }
        let Some(region) = self.groups.wanted.pop_first() else {
            return;
        };
        let count = self.groups_missing(&region);
        if count > 0 {
            let mut loads = self.group_loads();
            let wanted = Wanted {
                region: &region,
                residency: ANYWHERE,
            };
            let made = placing::make(&self.backbone(), wanted, count, &mut loads);
            let ids = self.new_ids(made.len());
            let event = Event::GroupsMade {
                region: region.clone(),
                groups: ids.iter().map(ToString::to_string).collect(),
            };
            let records = made.into_iter().map(|chosen| new_group(&region, chosen));
            let groups: Vec<_> = ids.into_iter().zip(records).collect();
            if !groups.is_empty() {
                self.commit_groups(groups, Some(event));
            }
        }
        if !self.groups.wanted.is_empty() {
            self.groups.look(self.now.time + super::GATHER);
        }
    }

    /// How many groups a region still needs: as many as it has relays that may keep logs.
    pub(super) fn groups_missing(&self, region: &Region) -> usize {
        let here = |n: &&Node| n.info.region == *region && self.free_disk(n).is_some();
        let relays = self.nodes.values().filter(here).count();
        let known = &self.groups.known;
        let made = known.values().filter(|k| k.record.region == *region);
        let wanted = relays.min(placing::MAX_GROUPS).saturating_sub(made.count());
        wanted.min(self.limits.groups.saturating_sub(known.len()))
    }

    /// The disk of a relay that may be given a part in a group.
    pub(in super::super) fn free_disk(&self, node: &Node) -> Option<u64> {
        let is_free =
            node.is_relay() && node.conn.is_some() && self.overrides.node(&node.info.id).is_none();
        node.disk.filter(|disk| *disk != 0 && is_free)
    }

    /// How many parts in groups each relay has, without those that leave.
    fn group_loads(&self) -> Loads {
        let mut loads: Loads = BTreeMap::new();
        for member in self.groups.known.values().flat_map(|k| &k.record.members) {
            *loads.entry(member.node.clone()).or_default() += 1;
        }
        loads
    }

    fn backbone(&self) -> Backbone<'_> {
        let relays = self.nodes.values().filter(|n| n.is_relay());
        let sites = relays.map(|node| Site {
            id: node.info.id.clone(),
            region: node.info.region.clone(),
            zone: node.info.zone.clone(),
            country: Place::new(&node.info, true).country,
            lat: node.info.lat,
            lon: node.info.lon,
            free: self.free_disk(node),
        });
        Backbone::new(sites, |a, b| self.router.rtt_us(a, b))
    }

    pub(super) fn standing(&self, member: &record::Member, now: Time) -> Standing {
        let Some(node) = self.nodes.get(&member.node) else {
            let since = self.groups.away.get(&member.node);
            let patient = since.is_none_or(|since| now < *since + self.limits.member_grace);
            return if patient {
                Standing::Away
            } else {
                Standing::Gone
            };
        };
        match node.disk {
            Some(disk) if disk != member.disk => Standing::OtherDisk,
            _ if self.overrides.is_draining(&member.node) => Standing::Draining,
            _ => Standing::Here,
        }
    }

    /// What a member that is connected says of its group.
    pub(super) fn group_status(
        &self,
        id: GroupId,
        member: &record::Member,
    ) -> Option<&GroupStatus> {
        let node = self.nodes.get(&member.node)?;
        let is_it = node.conn.is_some() && node.disk == Some(member.disk);
        let status = node.groups.get(&id).filter(|_| is_it)?;
        (status.number == member.number).then_some(status)
    }

    /// What the leader of a group says; none where nobody says that he leads, or where somebody
    /// knows of a later one.
    pub(in super::super) fn group_report(&self, id: GroupId) -> Option<Report> {
        let known = self.groups.known.get(&id)?;
        let all = known.record.all();
        let statuses: Vec<&GroupStatus> = all
            .filter_map(|member| self.group_status(id, member))
            .collect();
        let newest = statuses.iter().map(|status| status.generation).max()?;
        let leads =
            |status: &&&GroupStatus| status.leader == status.number && status.generation == newest;
        let leader = statuses
            .iter()
            .find(leads)
            .filter(|l| l.halted.is_empty())?;
        Some(Report {
            leader: leader.number,
            voters: leader.voters.iter().copied().collect(),
            learners: leader.learners.iter().copied().collect(),
        })
    }
}

fn new_group(region: &Region, chosen: Vec<(NodeId, u64)>) -> record::Group {
    let members: Vec<record::Member> = (1..)
        .zip(chosen)
        .map(|(number, (node, disk))| record::Member { number, node, disk })
        .collect();
    record::Group {
        region: region.clone(),
        era: 1,
        revision: 1,
        born: members.iter().map(|member| member.number).collect(),
        next: members.len() as u64 + 1,
        members,
        leaving: Vec::new(),
    }
}
